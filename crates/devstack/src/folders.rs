//! Where a stack keeps its state, and where its servers keep their data.

use crate::StackError;
use std::collections::HashSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// A stack's two folders: the one it is named by, which holds its state and configurations, and the
/// one with the servers' data. They are the same, unless we are root: root's home is closed to the
/// user that Postgres has to run as.
#[derive(Clone, Debug)]
pub struct Folders {
    pub stack: PathBuf,
    pub data: PathBuf,
}

const ROOT_DATA: &str = "/var/lib/cellar";

impl Folders {
    /// Makes both folders.
    pub fn make(stack: &Path) -> Result<Self, StackError> {
        std::fs::create_dir_all(stack).map_err(StackError::folder(stack))?;
        let folders = Self::of(stack)?;
        std::fs::create_dir_all(&folders.data).map_err(StackError::folder(&folders.data))?;
        Ok(folders)
    }

    /// The folders of a stack, made or not.
    pub fn of(stack: &Path) -> Result<Self, StackError> {
        let stack = std::path::absolute(stack).map_err(StackError::folder(stack))?;
        let data = if is_root() { Path::new(ROOT_DATA).join(fold(&stack)) } else { stack.join("data") };
        Ok(Self { stack, data })
    }

    /// Deletes both.
    pub fn delete(&self) -> Result<(), StackError> {
        for folder in [&self.data, &self.stack] {
            match std::fs::remove_dir_all(folder) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(StackError::folder(folder)(error)),
            }
        }
        Ok(())
    }
}

/// A folder for the data of one test's server, gone on drop; where the postgres user can reach it.
pub(crate) fn test_folder() -> Result<tempfile::TempDir, StackError> {
    let base = if is_root() { Path::new(ROOT_DATA).join("tests") } else { std::env::temp_dir() };
    std::fs::create_dir_all(&base).map_err(StackError::folder(&base))?;
    let folder = tempfile::Builder::new().prefix("cellar-").tempdir_in(&base).map_err(StackError::folder(&base))?;
    // Others must pass through, or the postgres user cannot reach its own folder below.
    set_mode(folder.path(), 0o755)?;
    Ok(folder)
}

/// What several stacks share: the template of a fresh database cluster.
pub(crate) fn shared_folder() -> PathBuf {
    if is_root() {
        return PathBuf::from(ROOT_DATA);
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("cellar")
}

pub(crate) fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), StackError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(StackError::folder(path))
}

/// A short name for a path (FNV-1a): the same for the same path on any build.
fn fold(path: &Path) -> String {
    let hash = path.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Below the range the kernel takes ports for outgoing connections from, so that none of those can
/// take a port between its choice here and its use.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A loopback port nobody listens on, and that this process has not handed out before.
pub(crate) fn free_port() -> Result<u16, StackError> {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let given = given.get_or_insert_default();
    for _ in 0..10_000 {
        let port = rand::random_range(PORTS);
        if !given.contains(&port) && port_is_free(port) {
            given.insert(port);
            return Ok(port);
        }
    }
    Err(StackError::Step { step: "finding a free port", cause: format!("none of {PORTS:?} is free") })
}

pub(crate) fn port_is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

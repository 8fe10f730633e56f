//! Where a stack keeps its state, and where its servers keep their data.

use crate::StackError;
use crate::observe::OBSERVED;
use crate::process::Identity;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

/// A stack's two folders: the one it is named by, which holds its state and configurations, and the
/// one with the servers' data. They are the same, unless we are root: root's home is closed to the
/// user that Postgres has to run as.
#[derive(Clone, Debug)]
pub struct Folders {
    pub stack: PathBuf,
    pub data: PathBuf,
}

const ROOT_DATA: &str = "/var/lib/cellar";

/// What a stack keeps in the folder it is named by. Deleting takes these and nothing else: somebody
/// may have named a folder that holds other things. The state goes last: while it is there, there is a stack
/// to delete.
const OURS: [&str; 10] = [
    "state.new",
    "config",
    "secrets",
    SNAPSHOTS,
    OBSERVED,
    "data",
    "lost.json",
    "lost-charges.jsonl",
    LOCK,
    "state.json",
];
const SNAPSHOTS: &str = "snapshots";
const LOCK: &str = "lock";
/// A start or an end of a whole stack takes seconds; who waits longer is told.
const LOCK_MAX: Duration = Duration::from_secs(60);
const LOCK_POLL: Duration = Duration::from_millis(50);
/// How often, and how far apart, the lock is asked for before somebody else is said to be at work.
const FORK_LOOKS: u32 = 20;
const FORK_PAUSE: Duration = Duration::from_millis(10);

impl Folders {
    /// Makes both folders.
    pub fn make(stack: &Path) -> Result<Self, StackError> {
        std::fs::create_dir_all(stack).map_err(StackError::folder(stack))?;
        let folders = Self::of(stack)?;
        folders.heal()?;
        std::fs::create_dir_all(&folders.data).map_err(StackError::folder(&folders.data))?;
        // The postgres user has to pass through.
        set_mode(&folders.data, 0o755)?;
        Ok(folders)
    }

    /// The folders of a stack, made or not.
    pub fn of(stack: &Path) -> Result<Self, StackError> {
        let stack = std::path::absolute(stack).map_err(StackError::folder(stack))?;
        let elsewhere = is_root() && !stack.starts_with(ROOT_DATA);
        let data = if elsewhere { Path::new(ROOT_DATA).join(fold(&stack)) } else { stack.join("data") };
        Ok(Self { stack, data })
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.stack.join(SNAPSHOTS)
    }

    /// Puts other data in the place of what is there, whole or not at all: `make` fills the folder it is
    /// given, which then takes the place.
    pub(crate) fn replace_data(&self, make: impl FnOnce(&Path) -> Result<(), StackError>) -> Result<(), StackError> {
        let (new, old) = (beside(&self.data, "new"), beside(&self.data, "old"));
        remove(&new)?;
        make(&new)?;
        remove(&old)?;
        std::fs::rename(&self.data, &old).map_err(StackError::folder(&self.data))?;
        std::fs::rename(&new, &self.data).map_err(StackError::folder(&self.data))?;
        remove(&old)
    }

    /// Puts these secrets in the place of those there are, file by file.
    pub(crate) fn replace_secrets(&self, from: &Path) -> Result<(), StackError> {
        let folder = self.stack.join("secrets");
        for entry in std::fs::read_dir(from).map_err(StackError::folder(from))? {
            let path = entry.map_err(StackError::folder(from))?.path();
            let content = std::fs::read(&path).map_err(StackError::folder(&path))?;
            let place = folder.join(path.file_name().unwrap_or_default());
            let new = beside(&place, "new");
            write_private(&new, &content)?;
            std::fs::rename(&new, &place).map_err(StackError::folder(&place))?;
        }
        Ok(())
    }

    /// Undoes a `replace_data` that was killed before the new data had its place.
    pub(crate) fn heal(&self) -> Result<(), StackError> {
        let old = beside(&self.data, "old");
        if !self.data.exists() && old.exists() {
            std::fs::rename(&old, &self.data).map_err(StackError::folder(&self.data))?;
        }
        Ok(())
    }

    /// Whether a command is at work on the stack.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.lock(), Err(StackError::Busy { .. }))
    }

    /// Held while a command changes the stack; the kernel lets go of it when the command is gone.
    ///
    /// It is asked for more than once: a child that another thread has just forked holds a copy of every
    /// open file until it becomes its program, and that is nobody at work.
    pub(crate) fn lock(&self) -> Result<File, StackError> {
        let path = self.stack.join(LOCK);
        let file = File::options().create(true).append(true).open(&path).map_err(StackError::folder(&path))?;
        for _ in 0..FORK_LOOKS {
            if file.try_lock().is_ok() {
                return Ok(file);
            }
            std::thread::sleep(FORK_PAUSE);
        }
        Err(StackError::Busy { folder: self.stack.clone() })
    }

    /// The same, waiting for a while.
    pub(crate) async fn lock_in_turn(&self) -> Result<File, StackError> {
        let until = Instant::now() + LOCK_MAX;
        loop {
            match self.lock() {
                Err(StackError::Busy { .. }) if Instant::now() < until => tokio::time::sleep(LOCK_POLL).await,
                locked => return locked,
            }
        }
    }

    /// Deletes what a stack is made of, but for the lock, which the caller holds.
    pub(crate) fn clear(&self) -> Result<(), StackError> {
        let ours = OURS.iter().filter(|name| **name != LOCK).map(|name| self.stack.join(name));
        let data = [self.data.clone(), beside(&self.data, "new"), beside(&self.data, "old")];
        for path in data.into_iter().chain(ours) {
            remove(&path)?;
        }
        Ok(())
    }

    /// Deletes all of it, and the folder if nothing else is in there.
    pub(crate) fn delete(&self) -> Result<(), StackError> {
        self.clear()?;
        remove(&self.stack.join(LOCK))?;
        // Not empty: then it is not ours to remove.
        let _ = std::fs::remove_dir(&self.stack);
        Ok(())
    }
}

/// `data` beside itself: `data.old`.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{ending}"));
    path.with_file_name(name)
}

pub(crate) fn remove(path: &Path) -> Result<(), StackError> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StackError::folder(path)(error)),
        _ => Ok(()),
    }
}

/// A folder for the data of one test's server, or of a stack that ends with this process: gone on drop, where
/// the postgres user can reach it. It is named by this process, so that what a killed one left is known and swept.
pub fn temporary_folder() -> Result<tempfile::TempDir, StackError> {
    static SWEPT: Once = Once::new();
    let base = if is_root() { Path::new(ROOT_DATA).join("tests") } else { std::env::temp_dir().join("cellar-tests") };
    std::fs::create_dir_all(&base).map_err(StackError::folder(&base))?;
    SWEPT.call_once(|| sweep(&base));
    let me = Identity::of_this_process().unwrap_or(Identity { pid: 0, started: 0 });
    let folder = tempfile::Builder::new()
        .prefix(&format!("{}-{}-", me.pid, me.started))
        .tempdir_in(&base)
        .map_err(StackError::folder(&base))?;
    // Others must pass through, or the postgres user cannot reach its own folder below.
    set_mode(folder.path(), 0o755)?;
    Ok(folder)
}

/// Deletes the folders of tests whose process is gone. What cannot be deleted is somebody else's.
fn sweep(base: &Path) {
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut parts = name.split('-');
        let owner = parts.next().and_then(|pid| pid.parse().ok()).zip(parts.next().and_then(|at| at.parse().ok()));
        if owner.is_some_and(|(pid, started)| !Identity { pid, started }.is_alive()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// What several stacks share: the template of a fresh database cluster.
pub(crate) fn shared_folder() -> PathBuf {
    if is_root() {
        return PathBuf::from(ROOT_DATA);
    }
    user_cache().unwrap_or_else(std::env::temp_dir).join("cellar")
}

/// What is fetched once for this user: `CELLAR_CACHE`, else the usual place. Unlike `shared_folder` it
/// holds nothing that another user has to read.
pub(crate) fn cache_folder() -> PathBuf {
    let named = std::env::var_os("CELLAR_CACHE").map(PathBuf::from);
    named.unwrap_or_else(|| user_cache().unwrap_or_else(std::env::temp_dir).join("cellar"))
}

fn user_cache() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
}

pub(crate) fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), StackError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(StackError::folder(path))
}

/// Writes a file that only its owner may read, from its first byte.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), StackError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content)).map_err(StackError::folder(path))
}

/// A short name for a path (FNV-1a): the same for the same path on any build.
fn fold(path: &Path) -> String {
    let hash = path
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

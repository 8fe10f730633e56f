//! The configuration files of a stack's programs.

use crate::StackError;
use crate::folders::write_private;
use crate::state::ProcessEntry;
use crate::world::{Clock, Fsync, World};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What `cell.toml` calls the file of keys whose policies decide.
const POLICY_KEYS: &str = "policy_keys_file";

/// What `cell.toml` says.
pub(crate) struct CellFiles<'a> {
    pub(crate) folder: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) name: &'a str,
    pub(crate) region: &'a str,
    pub(crate) port: u16,
    pub(crate) admin_port: u16,
    pub(crate) world: &'a World,
    pub(crate) postgres_url: String,
    pub(crate) directory_url: String,
    pub(crate) redis_quota_url: String,
    pub(crate) redis_cache_url: String,
    pub(crate) pepper_file: &'a Path,
    pub(crate) mac_key_file: &'a Path,
    pub(crate) policy_keys_file: &'a Path,
    pub(crate) shards: u16,
}

/// What `router.toml` says.
pub(crate) struct RouterFiles<'a> {
    pub(crate) folder: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) name: &'a str,
    pub(crate) region: &'a str,
    pub(crate) port: u16,
    pub(crate) admin_port: u16,
    pub(crate) world: &'a World,
    pub(crate) directory_url: String,
    pub(crate) pepper_file: &'a Path,
    pub(crate) mac_key_file: &'a Path,
}

impl CellFiles<'_> {
    pub(crate) fn write(&self) -> Result<PathBuf, StackError> {
        let mut toml = common(self.name, self.region, self.port, self.admin_port, self.world, &self.data_dir);
        let unsafe_ack = self.world.fsync == Fsync::Everysec;
        // Writing into a string cannot fail.
        let _ = writeln!(
            toml,
            "incarnation = 1\npublic = {}\nallow_unsafe_ack = {unsafe_ack}\nallow_plaintext = {}\nshards = {}",
            self.world.single, self.world.door.allow_plaintext, self.shards
        );
        if self.world.instances > 1 {
            let _ = writeln!(toml, "instance_endpoint = \"http://127.0.0.1:{}\"", self.port);
        }
        let _ = writeln!(toml, "{POLICY_KEYS} = {}", quoted(self.policy_keys_file));
        let secrets = [
            ("postgres_url", &self.postgres_url),
            ("directory_url", &self.directory_url),
            ("redis_quota_url", &self.redis_quota_url),
            ("redis_cache_url", &self.redis_cache_url),
        ];
        finish(toml, "cell.toml", &self.folder, &secrets, self.pepper_file, self.mac_key_file)
    }
}

impl RouterFiles<'_> {
    pub(crate) fn write(&self) -> Result<PathBuf, StackError> {
        let toml = common(self.name, self.region, self.port, self.admin_port, self.world, &self.data_dir);
        let secrets = [("directory_url", &self.directory_url)];
        finish(toml, "router.toml", &self.folder, &secrets, self.pepper_file, self.mac_key_file)
    }
}

fn common(name: &str, region: &str, port: u16, admin_port: u16, world: &World, data_dir: &Path) -> String {
    let clock = match world.clock {
        Clock::Wall => "wall",
        Clock::Virtual => "virtual",
    };
    let address = world.door.address();
    format!(
        "name = \"{name}\"\nregion = \"{region}\"\nlisten = \"{address}:{port}\"\n\
         admin_listen = \"{address}:{admin_port}\"\nclock = \"{clock}\"\nworker_threads = 1\ndata_dir = {}\n",
        quoted(data_dir)
    )
}

fn finish(
    mut toml: String,
    file: &str,
    folder: &Path,
    secrets: &[(&str, &String)],
    pepper_file: &Path,
    mac_key_file: &Path,
) -> Result<PathBuf, StackError> {
    std::fs::create_dir_all(folder).map_err(StackError::folder(folder))?;
    for (name, secret) in secrets {
        let path = folder.join(name);
        write_secret(&path, secret)?;
        let _ = writeln!(toml, "{name}_file = {}", quoted(&path));
    }
    let _ = writeln!(toml, "pepper_file = {}\nmac_key_file = {}", quoted(pepper_file), quoted(mac_key_file));
    let path = folder.join(file);
    std::fs::write(&path, toml).map_err(StackError::folder(&path))?;
    Ok(path)
}

/// Sees that a cell's configuration names the keys whose policies decide: one of an earlier build did not.
pub(crate) fn name_policy_keys(cell: &ProcessEntry, keys: &Path) -> Result<(), StackError> {
    let file = config_of(cell)?;
    let text = std::fs::read_to_string(&file).map_err(StackError::folder(&file))?;
    let mut members = text.lines().filter_map(|line| line.split_once('='));
    if members.any(|(name, _)| name.trim() == POLICY_KEYS) {
        return Ok(());
    }
    replace(&file, &format!("{text}{POLICY_KEYS} = {}\n", quoted(keys)))
}

/// The file that a program reads when it starts.
pub(crate) fn config_of(process: &ProcessEntry) -> Result<PathBuf, StackError> {
    let mut words = process.launch.arguments.iter();
    let file = words.find(|word| *word == "--config").and_then(|_| words.next()).map(PathBuf::from);
    let cause = format!("{} has no --config", process.name);
    file.ok_or(StackError::Step { step: "finding a configuration", cause })
}

/// Whole or not at all.
pub(crate) fn replace(file: &Path, text: &str) -> Result<(), StackError> {
    let new = file.with_extension("new");
    std::fs::write(&new, text).map_err(StackError::folder(&new))?;
    std::fs::rename(&new, file).map_err(StackError::folder(file))
}

/// A path as a TOML string: JSON's escapes are TOML's.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.display().to_string()).to_string()
}

pub(crate) fn write_secret(path: &Path, secret: &str) -> Result<(), StackError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(StackError::folder(folder))?;
    }
    write_private(path, secret.as_bytes())
}

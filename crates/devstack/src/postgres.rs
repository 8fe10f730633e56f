//! Postgres: clusters of our own, never the packaged one.

use crate::folders::{is_root, remove, set_mode, shared_folder, temporary_folder};
use crate::process::{Gently, Identity, Launch, Tether, on_path};
use crate::ready::Ready;
use crate::{StackError, containers, ports};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The superuser of our clusters, who needs no password: they listen on loopback only.
pub(crate) const USER: &str = "cellar";

/// What a server of ours holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Database {
    Cell,
    Directory,
}

impl Database {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Database::Cell => "cell",
            Database::Directory => "directory",
        }
    }
}

/// After a kill the old server's children may hold on for a moment.
const START_TRIES: u32 = 50;
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// A Postgres of one test's own: own port, own cluster, gone on drop.
pub struct Postgres {
    port: u16,
    launch: Launch,
    life: Identity,
    database: Database,
    _folder: tempfile::TempDir,
}

impl Postgres {
    /// With an empty database.
    pub async fn start() -> Result<Self, StackError> {
        Self::start_cell().await
    }

    /// With an empty database for a cell.
    pub async fn start_cell() -> Result<Self, StackError> {
        Self::launch(Database::Cell).await
    }

    /// With an empty database for a directory.
    pub async fn start_directory() -> Result<Self, StackError> {
        Self::launch(Database::Directory).await
    }

    async fn launch(database: Database) -> Result<Self, StackError> {
        let (folder, port) = (temporary_folder()?, ports::free()?);
        let cluster = folder.path().join("postgres");
        let programs = Programs::for_tests()?;
        let launch = programs.server(&cluster, port)?;
        tokio::task::spawn_blocking(move || programs.prepare(&cluster, &[database]))
            .await
            .map_err(|error| StackError::Step { step: "making a database cluster", cause: error.to_string() })??;
        if !ports::release(std::net::Ipv4Addr::LOCALHOST, port).await {
            return Err(StackError::PortTaken { name: "postgres".into(), port });
        }
        let life = start(&launch, "postgres", (port, database), Tether::ToUs).await?;
        Ok(Self { port, launch, life, database, _folder: folder })
    }

    pub fn url(&self) -> String {
        url(self.port, self.database)
    }

    pub async fn kill9(&self) {
        self.life.kill9().await;
    }

    pub fn is_running(&self) -> bool {
        self.life.is_alive()
    }

    /// Starts again on the same port and folder.
    pub async fn restart(&mut self) -> Result<(), StackError> {
        self.kill9().await;
        self.life = start(&self.launch, "postgres", (self.port, self.database), Tether::ToUs).await?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.life.kill9_now();
    }
}

pub(crate) fn url(port: u16, database: Database) -> String {
    format!("postgres://{USER}@127.0.0.1:{port}/{}", database.name())
}

/// Starts a server and waits for it; tries again while the children of a killed one linger.
pub(crate) async fn start(
    launch: &Launch,
    name: &str,
    at: (u16, Database),
    tether: Tether,
) -> Result<Identity, StackError> {
    let mut tries = 0;
    loop {
        let life = launch.start(name, tether)?;
        match Ready::PostgresOn(at.0, at.1).wait(name, life, launch).await {
            Ok(()) => return Ok(life),
            Err(StackError::Died { .. }) if tries < START_TRIES => tokio::time::sleep(TRY_AGAIN).await,
            Err(error) => {
                life.kill9().await;
                return Err(error);
            }
        }
        tries += 1;
    }
}

/// Where `initdb` and `postgres` are.
#[derive(Clone)]
pub(crate) enum Programs {
    /// A folder of this machine.
    Installed(PathBuf),
    Contained(&'static containers::Image),
}

impl Programs {
    pub(crate) fn installed() -> Result<Self, StackError> {
        installed_folder().map(Self::Installed)
    }

    /// As the servers of tests are to run.
    fn for_tests() -> Result<Self, StackError> {
        containers::postgres()?.map_or_else(Self::installed, |image| Ok(Self::Contained(image)))
    }

    /// What a cluster that one of them made is good for.
    fn version(&self) -> String {
        match self {
            Self::Installed(folder) => {
                folder.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into()
            }
            Self::Contained(image) => image.mark(),
        }
    }

    /// One of them, which does one thing in `folder`.
    fn tool(&self, name: &str, arguments: Vec<String>, folder: &Path) -> Result<Launch, StackError> {
        let launch = self.named(name, arguments, folder);
        match self {
            Self::Installed(_) => Ok(launch),
            Self::Contained(image) => image.contain(&launch, folder),
        }
    }

    /// They refuse to run as root.
    fn named(&self, name: &str, arguments: Vec<String>, folder: &Path) -> Launch {
        let program = match self {
            Self::Installed(programs) => programs.join(name),
            Self::Contained(_) => name.into(),
        };
        let user = is_root().then(|| "postgres".to_owned());
        Launch { program, arguments, user, log: folder.join("log"), stop: Gently::Int }
    }

    /// How a server over the cluster in `folder` is started. `prepare` makes that cluster.
    fn server(&self, folder: &Path, port: u16) -> Result<Launch, StackError> {
        let cluster = folder.join("cluster").display().to_string();
        let mut arguments = vec!["-D".to_owned(), cluster, "-p".to_owned(), port.to_string()];
        for setting in SETTINGS {
            arguments.extend(["-c".to_owned(), setting.to_owned()]);
        }
        let launch = self.named("postgres", arguments, folder);
        match self {
            Self::Installed(_) => Ok(launch),
            Self::Contained(image) => image.contain_server(&launch, folder),
        }
    }

    /// Makes the cluster in `folder` if it is not there: a copy of the template, renamed when whole.
    fn prepare(&self, folder: &Path, databases: &[Database]) -> Result<(), StackError> {
        let cluster = folder.join("cluster");
        if cluster.join("PG_VERSION").exists() {
            return Ok(());
        }
        std::fs::create_dir_all(folder).map_err(StackError::folder(folder))?;
        set_mode(folder, 0o755)?;
        let beside = folder.join("cluster.new");
        // Of one that was cut short, into which `cp` would put another.
        remove(&beside)?;
        copy_folder(&self.template(databases)?, &beside)?;
        std::fs::rename(&beside, &cluster).map_err(StackError::folder(cluster))
    }

    /// A fresh cluster to copy: `initdb` takes seconds, a copy a fraction of one. Made beside and renamed,
    /// so that processes that start together do not meet a half of it.
    fn template(&self, databases: &[Database]) -> Result<PathBuf, StackError> {
        // One thread makes it, the others of this process find it.
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = shared_folder();
        std::fs::create_dir_all(&shared).map_err(StackError::folder(&shared))?;
        let names: Vec<&str> = databases.iter().map(|database| database.name()).collect();
        let template = shared.join(format!("postgres-{}-{}", self.version(), names.join("-")));
        if template.join("PG_VERSION").exists() {
            return Ok(template);
        }
        let beside = shared.join(format!("new-{}-{}", std::process::id(), rand::random::<u32>()));
        std::fs::create_dir_all(&beside).map_err(StackError::folder(&beside))?;
        self.make_template(&beside, &names)?;
        match std::fs::rename(&beside, &template) {
            Ok(()) => Ok(template),
            // Another process was quicker.
            Err(_) if template.join("PG_VERSION").exists() => {
                let _ = std::fs::remove_dir_all(&beside);
                Ok(template)
            }
            Err(error) => Err(StackError::folder(template)(error)),
        }
    }

    /// Databases are three hundred files each, and files are what a copy costs: a template holds those it
    /// is for, and of the three that `initdb` makes only the one that others are made from.
    fn make_template(&self, cluster: &Path, databases: &[&str]) -> Result<(), StackError> {
        let path = cluster.display().to_string();
        if is_root() {
            plain("chown", vec!["postgres:".into(), path.clone()]).run("giving a folder to the postgres user", "")?;
        }
        let words = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-U", USER, "-D"].map(str::to_owned);
        self.tool("initdb", words.into_iter().chain([path.clone()]).collect(), cluster)?.run("initdb", "")?;
        let mut statements = String::new();
        for database in databases {
            statements += &format!("create database {database};\n");
        }
        statements += "update pg_database set datistemplate = false where datname = 'template0';\n";
        statements += "drop database template0;\n";
        // A server of one user, without a port: nothing to wait for. It cannot drop what it works in.
        let single = |database: &str, statements: &str| {
            let words = ["--single", "-D", &path, database].map(str::to_owned);
            self.tool("postgres", words.into(), cluster)?.run("making databases", statements)
        };
        single("postgres", &statements)?;
        single(databases[0], "drop database postgres;\n")
    }
}

const SETTINGS: [&str; 8] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=100",
    "shared_buffers=64MB",
    "max_wal_size=256MB",
    "tcp_user_timeout=5000",
    // After a crash one call flushes the file system, instead of one for each of a thousand files.
    "recovery_init_sync_method=syncfs",
    // Our statements are short: compiling one costs more than it saves.
    "jit=off",
];

/// The newest of Debian's versioned folders, else the path.
fn installed_folder() -> Result<PathBuf, StackError> {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let versioned = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = versioned.filter(|path| path.join("bin/initdb").exists()).max_by_key(|path| version(path));
    if let Some(newest) = newest {
        return Ok(newest.join("bin"));
    }
    let found = on_path("initdb").and_then(|program| program.parent().map(Path::to_owned));
    found.ok_or(StackError::NotInstalled { program: "postgres" })
}

/// One of this machine's programs.
pub(crate) fn program(name: &str) -> Result<PathBuf, StackError> {
    Ok(installed_folder()?.join(name))
}

/// A server of this machine's programs, for stacks.
pub(crate) fn launch(folder: &Path, port: u16) -> Result<Launch, StackError> {
    Programs::installed()?.server(folder, port)
}

/// And the cluster it is over.
pub(crate) fn prepare(folder: &Path, databases: &[Database]) -> Result<(), StackError> {
    Programs::installed()?.prepare(folder, databases)
}

/// A copy with owners, modes and times, which shares its blocks with the original where the file system can.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<(), StackError> {
    let words = ["-a", "--reflink=auto"].map(str::to_owned).into_iter();
    let paths = [from, to].map(|path| path.display().to_string());
    plain("cp", words.chain(paths).collect()).run("copying a folder", "")
}

pub(crate) fn plain(name: &str, arguments: Vec<String>) -> Launch {
    Launch { program: name.into(), arguments, user: None, log: PathBuf::new(), stop: Gently::Term }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_killed_postgres_comes_back_on_its_port() {
        let mut postgres = Postgres::start_cell().await.unwrap();
        let url = postgres.url();
        postgres.restart().await.unwrap();
        assert_eq!(postgres.url(), url);
        assert!(postgres.is_running());
    }
}

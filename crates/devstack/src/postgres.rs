//! Postgres: clusters of our own, never the packaged one.

use crate::folders::{free_port, is_root, set_mode, shared_folder, test_folder};
use crate::process::{Gently, Identity, Launch};
use crate::ready::Ready;
use crate::StackError;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The superuser of our clusters, who needs no password: they listen on loopback only.
const USER: &str = "cellar";
/// Databases of every cluster; each server uses the ones it needs.
const DATABASES: [&str; 2] = ["cell", "directory"];
/// After a kill the old server's children may hold on for a moment.
const START_TRIES: u32 = 20;

/// A Postgres of one test's own: own port, own cluster, gone on drop.
pub struct Postgres {
    port: u16,
    launch: Launch,
    life: Identity,
    database: &'static str,
    _folder: tempfile::TempDir,
}

impl Postgres {
    /// With an empty database for a cell.
    pub async fn start_cell() -> Result<Self, StackError> {
        Self::start("cell").await
    }

    /// With an empty database for a directory.
    pub async fn start_directory() -> Result<Self, StackError> {
        Self::start("directory").await
    }

    async fn start(database: &'static str) -> Result<Self, StackError> {
        let (folder, port) = (test_folder()?, free_port()?);
        let launch = launch(&folder.path().join("postgres"), port)?;
        let life = start(&launch, "postgres", port).await?;
        Ok(Self { port, launch, life, database, _folder: folder })
    }

    pub fn url(&self) -> String {
        url(self.port, self.database)
    }

    pub async fn kill9(&self) {
        self.life.kill9().await;
    }

    /// Starts again on the same port and folder.
    pub async fn restart(&mut self) -> Result<(), StackError> {
        self.kill9().await;
        self.life = start(&self.launch, "postgres", self.port).await?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.life.kill9_now();
    }
}

pub(crate) const STOP: Gently = Gently::Int;

pub(crate) fn url(port: u16, database: &str) -> String {
    format!("postgres://{USER}@127.0.0.1:{port}/{database}")
}

/// Starts a server and waits for it; tries again while the children of a killed one linger.
pub(crate) async fn start(launch: &Launch, name: &str, port: u16) -> Result<Identity, StackError> {
    for _ in 1..START_TRIES {
        let life = launch.start(name)?;
        match Ready::PostgresOn(port).wait(name, life, launch).await {
            Ok(()) => return Ok(life),
            Err(StackError::Died { .. }) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => return Err(error),
        }
    }
    let life = launch.start(name)?;
    Ready::PostgresOn(port).wait(name, life, launch).await?;
    Ok(life)
}

/// A cluster at `folder`, made from the template if it is not there, on `port`.
pub(crate) fn launch(folder: &Path, port: u16) -> Result<Launch, StackError> {
    let programs = programs()?;
    let cluster = folder.join("cluster");
    std::fs::create_dir_all(folder).map_err(StackError::folder(folder))?;
    set_mode(folder, 0o755)?;
    if !cluster.join("PG_VERSION").exists() {
        let template = template(&programs)?;
        run("copying a database cluster", Command::new("cp").arg("-a").arg(&template).arg(&cluster))?;
    }
    let mut settings = vec![
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=100",
        "shared_buffers=64MB",
        "jit=off",
        "max_wal_size=256MB",
    ];
    settings.push("tcp_user_timeout=5000");
    let mut command = vec![programs.join("postgres").display().to_string(), "-D".into(), cluster.display().to_string()];
    command.extend(["-p".into(), port.to_string()]);
    for setting in settings {
        command.extend(["-c".into(), setting.to_owned()]);
    }
    let mut command = as_postgres(command).into_iter();
    let program = command.next().map(PathBuf::from).unwrap_or_default();
    Ok(Launch { program, arguments: command.collect(), log: folder.join("log") })
}

pub(crate) async fn is_ready(port: u16) -> bool {
    let Ok(programs) = programs() else { return false };
    let status = tokio::process::Command::new(programs.join("pg_isready"))
        .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string(), "-d", "cell", "-U", USER])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.await.is_ok_and(|status| status.success())
}

/// A fresh cluster to copy: `initdb` takes seconds, a copy a fraction of one. Made beside and renamed,
/// so that tests that start together do not meet a half of it.
fn template(programs: &Path) -> Result<PathBuf, StackError> {
    let shared = shared_folder();
    std::fs::create_dir_all(&shared).map_err(StackError::folder(&shared))?;
    let version = programs.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let template = shared.join(format!("template-postgres-{}", version.unwrap_or_default()));
    if template.join("PG_VERSION").exists() {
        return Ok(template);
    }
    let beside = shared.join(format!("template-{}-{}", std::process::id(), rand::random::<u32>()));
    std::fs::create_dir_all(&beside).map_err(StackError::folder(&beside))?;
    if is_root() {
        run("giving a folder to the postgres user", Command::new("chown").arg("postgres:").arg(&beside))?;
    }
    let cluster = beside.display().to_string();
    let program = |name: &str| programs.join(name).display().to_string();
    let mut initdb = vec![program("initdb"), "-D".into(), cluster.clone(), "-U".into(), USER.into()];
    initdb.extend(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"].map(str::to_owned));
    run("initdb", &mut command(as_postgres(initdb)))?;
    for database in DATABASES {
        // A server of one user, without a port: nothing to wait for.
        let single = vec![program("postgres"), "--single".into(), "-D".into(), cluster.clone(), "postgres".into()];
        feed("creating a database", &mut command(as_postgres(single)), &format!("create database {database};\n"))?;
    }
    match std::fs::rename(&beside, &template) {
        Ok(()) => Ok(template),
        // Another one was quicker.
        Err(_) if template.join("PG_VERSION").exists() => {
            let _ = std::fs::remove_dir_all(&beside);
            Ok(template)
        }
        Err(error) => Err(StackError::folder(template)(error)),
    }
}

/// Postgres refuses to run as root.
fn as_postgres(command: Vec<String>) -> Vec<String> {
    if !is_root() {
        return command;
    }
    let prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"].map(str::to_owned);
    prefix.into_iter().chain(command).collect()
}

fn command(words: Vec<String>) -> Command {
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).current_dir("/");
    command
}

fn run(step: &'static str, command: &mut Command) -> Result<(), StackError> {
    feed(step, command, "")
}

fn feed(step: &'static str, command: &mut Command, input: &str) -> Result<(), StackError> {
    use std::io::Write;
    let failed = |cause: String| StackError::Step { step, cause };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(|e| failed(e.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(())
}

/// Where `initdb` and `postgres` are: the newest of Debian's versioned folders, else the path.
fn programs() -> Result<PathBuf, StackError> {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let versioned = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = versioned.filter(|path| path.join("bin/initdb").exists()).max_by_key(|path| version(path));
    if let Some(newest) = newest {
        return Ok(newest.join("bin"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find(|folder| folder.join("initdb").exists());
    found.ok_or(StackError::NotInstalled { program: "postgres" })
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
        assert!(is_ready(postgres.port).await);
    }
}

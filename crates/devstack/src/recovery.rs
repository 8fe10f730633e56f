//! A cell whose data is gone, laid down again from copies of its stores.
//!
//! Everything is made beside the cell's data and renamed into its place when it is whole, so that a command
//! that is killed leaves a cell without data, and never one with half of it.

use crate::StackError;
use crate::config::{config_of, replace};
use crate::folders::{Folders, is_root, remove, set_mode, write_private};
use crate::laid_down::{end_left_behind, holds_data, put_in_place};
use crate::postgres::{self, Database, copy_folder, plain};
use crate::process::{Identity, Launch, Tether};
use crate::ready::Ready;
use crate::stack::{Keys, Stack, fresh};
use crate::state::{ProcessEntry, Role, StackState};
use crate::world::World;
use crate::{ports, redis};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// For the log to be replayed: as long as an operator would wait for his data.
const RECOVERY_MAX: Duration = Duration::from_secs(86_400);
const POLL: Duration = Duration::from_millis(50);
/// Beside the cells' data.
pub(crate) const BESIDE: &str = "restoring";
/// What a Redis calls the folder of its append-only files.
pub const APPEND_ONLY: &str = "appendonlydir";

/// Copies of a cell's stores.
#[derive(Clone, Debug)]
pub struct CellCopies {
    /// Of its Postgres, and of the log that was written meanwhile: gzipped tar files.
    pub base: PathBuf,
    pub base_wal: PathBuf,
    /// The segments of the log that came after it, gzipped: each file has its name, and `.gz`.
    pub wal: Vec<PathBuf>,
    /// The append-only files of its quota Redis. None: it begins empty.
    pub redis: Option<PathBuf>,
}

/// Where a replay ends. One that runs out of log before is an error.
#[derive(Clone, Debug)]
pub enum Until {
    /// At a point of the log that was given this name.
    Named(String),
    /// Behind the last commit that is not later: RFC 3339.
    Time(String),
}

/// A cell that is being laid down.
pub struct Recovery {
    stack: Stack,
    cell: String,
    folder: PathBuf,
    /// The stores that run on what was laid down, until it is whole.
    running: Vec<(Identity, Launch)>,
    _lock: File,
}

impl Stack {
    /// Plans a stack of one cell in a folder that holds none, with the keys and the secrets of another.
    /// Until its recovery is finished, a start in this folder begins anew.
    pub async fn plan_restored(folder: &Path, world: &World, keys: Keys, secrets: &Path) -> Result<Self, StackError> {
        let folders = Folders::make(folder)?;
        let _lock = folders.lock()?;
        if let Some(held) = StackState::read(&folders.stack)? {
            if held.is_filled() || held.running() > 0 {
                let cause = "it holds a stack: name a folder that does not, with --stack DIR".to_owned();
                return Err(StackError::Step { step: "restoring into this folder", cause });
            }
            end_left_behind(&folders).await;
            folders.clear()?;
            Folders::make(&folders.stack)?;
        }
        let mut state = fresh(world, &folders, &mut |_| ())?;
        folders.replace_secrets(secrets)?;
        state.service_key = Some(keys.service_key);
        state.operator_key = Some(keys.operator_key);
        state.write(&folders.stack)?;
        Self::open(folder)
    }

    /// Begins to lay down `cell`, whose data has to be gone, and whose processes have to have ended.
    pub async fn recover(mut self, cell: &str) -> Result<Recovery, StackError> {
        let lock = self.turn().await?;
        let refuse = |cause: String| StackError::Step { step: "restoring the cell", cause };
        let of_cell = |process: &&ProcessEntry| process.cell.as_deref() == Some(cell);
        let mut found = false;
        for process in self.state.processes.iter().filter(of_cell).filter(|process| process.role != Role::RedisCache) {
            found = true;
            if process.is_running() {
                return Err(refuse(format!("{} runs: a cell that is there is not restored over", process.name)));
            }
            if holds_data(process)? {
                let folder = folder_of(process)?;
                return Err(refuse(format!(
                    "{} still holds its data: move it away, if it is of no use",
                    folder.display()
                )));
            }
        }
        if !found {
            return Err(StackError::NoProcess { name: cell.to_owned(), known: self.cells().join(", ") });
        }
        end_left_behind(&self.folders).await;
        let folder = self.folders.data.join(BESIDE);
        remove(&folder)?;
        std::fs::create_dir_all(&folder).map_err(StackError::folder(&folder))?;
        set_mode(&folder, 0o755)?;
        Ok(Recovery { stack: self, cell: cell.to_owned(), folder, running: Vec::new(), _lock: lock })
    }

    fn cells(&self) -> Vec<String> {
        let cells: std::collections::BTreeSet<_> = self.state.processes.iter().filter_map(|p| p.cell.clone()).collect();
        cells.into_iter().collect()
    }
}

impl Recovery {
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Of this recovery alone, and gone with it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Replays the log over the base, and starts both stores on the cell's own ports.
    pub async fn lay_down(&mut self, copies: &CellCopies, until: &Until) -> Result<(), StackError> {
        let (postgres, redis) = (self.process(Role::Postgres)?, self.process(Role::RedisQuota)?);
        let (at, launch) = self.beside(&postgres)?;
        self.replay(copies, until, &at, &launch, (postgres.ports[0], postgres.role.database())).await?;
        let (at, launch) = self.beside(&redis)?;
        if let Some(files) = &copies.redis {
            std::fs::create_dir_all(&at).map_err(StackError::folder(&at))?;
            copy_folder(files, &at.join(APPEND_ONLY))?;
        }
        let port = redis.ports[0];
        self.start(&redis.name, port, launch, Ready::RedisOn(port)).await
    }

    /// The same of Postgres alone, on a port of its own: to compare with. Returns its URL.
    pub async fn lay_down_beside(&mut self, copies: &CellCopies, until: &Until) -> Result<String, StackError> {
        let (port, at) = (ports::free()?, self.folder.join("whole"));
        self.replay(copies, until, &at, &postgres::launch(&at, port)?, (port, Database::Cell)).await?;
        Ok(postgres::url(port, Database::Cell))
    }

    /// Runs the cell's program with its configuration, to do one thing.
    pub async fn run_cell(&self, step: &'static str, arguments: Vec<String>) -> Result<(), StackError> {
        run_cell(&self.stack, &self.cell, step, arguments).await
    }

    /// Ends the stores and gives what was laid down its place, in a cell of the incarnation that is said.
    /// Then the cell starts; whatever else there is of the stack is left as it is. If this is cut short,
    /// `Stack::restored_note` has `note`, until `Stack::forget_restored`.
    pub async fn finish(mut self, incarnation: u64, note: &[u8]) -> Result<Stack, StackError> {
        self.end().await;
        let processes: Vec<ProcessEntry> =
            self.stack.state.processes.iter().filter(|p| p.cell.as_deref() == Some(&self.cell)).cloned().collect();
        for process in processes.iter().filter(|process| process.role == Role::Cell) {
            raise_incarnation(process, incarnation)?;
        }
        let moved = |role: Role| -> Result<(PathBuf, PathBuf), StackError> {
            let process = self.process(role)?;
            Ok((self.beside(&process)?.0, folder_of(&process)?))
        };
        put_in_place([moved(Role::RedisQuota)?, moved(Role::Postgres)?], note)?;
        self.stack.start_laid_down(&self.cell).await
    }

    /// Ends what runs of it and removes what was laid down.
    pub async fn give_up(mut self) {
        self.end().await;
        // What stays is removed by the next attempt.
        let _ = remove(&self.folder);
    }

    async fn end(&mut self) {
        for (life, launch) in self.running.drain(..).rev() {
            life.stop(launch.stop).await;
        }
    }

    fn process(&self, role: Role) -> Result<ProcessEntry, StackError> {
        let mut processes = self.stack.state.processes.iter();
        let found = processes.find(|process| process.role == role && process.cell.as_deref() == Some(&self.cell));
        found.cloned().ok_or_else(|| StackError::NoProcess {
            name: format!("{} of {}", role.label(), self.cell),
            known: self.stack.cells().join(", "),
        })
    }

    /// Where a process's data is made, and how it is started there.
    fn beside(&self, process: &ProcessEntry) -> Result<(PathBuf, Launch), StackError> {
        let (place, at) = (folder_of(process)?, self.folder.join(&process.name));
        let (from, to) = (place.display().to_string(), at.display().to_string());
        let arguments = process.launch.arguments.iter().map(|argument| argument.replace(&from, &to)).collect();
        Ok((at.clone(), Launch { arguments, log: at.join("log"), ..process.launch.clone() }))
    }

    async fn replay(
        &mut self,
        copies: &CellCopies,
        until: &Until,
        at: &Path,
        launch: &Launch,
        (port, database): (u16, Database),
    ) -> Result<(), StackError> {
        let cluster = at.join("cluster");
        let made = (copies.clone(), at.to_owned(), until.clone());
        let making = tokio::task::spawn_blocking(move || unpack(&made.0, &made.1, &made.2));
        making.await.map_err(|error| StackError::Step { step: "unpacking the base", cause: error.to_string() })??;
        if !ports::release(std::net::Ipv4Addr::LOCALHOST, port).await {
            return Err(StackError::PortTaken { name: "postgres".into(), port });
        }
        let life = launch.start("postgres", Tether::ToUs)?;
        self.running.push((life, launch.clone()));
        let ends = Instant::now() + RECOVERY_MAX;
        while cluster.join("recovery.signal").exists() {
            if !life.is_alive() {
                return Err(StackError::Died { name: "postgres".into(), tail: launch.log_tail() });
            }
            if Instant::now() > ends {
                let (seconds, tail) = (RECOVERY_MAX.as_secs(), launch.log_tail());
                return Err(StackError::NotReady { name: "the replay of the log".into(), seconds, tail });
            }
            tokio::time::sleep(POLL).await;
        }
        Ready::PostgresOn(port, database).wait("postgres", life, launch).await?;
        // It has its own log from here.
        write_private(&cluster.join(AUTO_CONF), &std::fs::read(at.join(HELD_CONF)).unwrap_or_default())?;
        give_to_postgres(&cluster.join(AUTO_CONF))?;
        remove(&at.join(HELD_CONF))?;
        remove(&at.join("wal"))
    }

    async fn start(&mut self, name: &str, port: u16, launch: Launch, ready: Ready) -> Result<(), StackError> {
        if !ports::release(std::net::Ipv4Addr::LOCALHOST, port).await {
            return Err(StackError::PortTaken { name: name.to_owned(), port });
        }
        let life = launch.start(name, Tether::ToUs)?;
        self.running.push((life, launch.clone()));
        ready.wait(name, life, &launch).await
    }
}

/// Runs the program of a cell with its configuration, to do one thing.
pub async fn run_cell(stack: &Stack, cell: &str, step: &'static str, arguments: Vec<String>) -> Result<(), StackError> {
    let mut processes = stack.state().processes.iter();
    let process = processes.find(|process| process.role == Role::Cell && process.cell.as_deref() == Some(cell));
    let known = || stack.cells().join(", ");
    let process = process.ok_or_else(|| StackError::NoProcess { name: cell.to_owned(), known: known() })?;
    let arguments = arguments.into_iter().chain(process.launch.arguments.iter().cloned()).collect();
    let launch = Launch { arguments, ..process.launch.clone() };
    let running = tokio::task::spawn_blocking(move || launch.run(step, ""));
    running.await.map_err(|error| StackError::Step { step, cause: error.to_string() })?
}

/// What `alter system` writes, and where it is held meanwhile.
const AUTO_CONF: &str = "postgresql.auto.conf";
const HELD_CONF: &str = "auto.conf";

/// The base with its log, and what the server needs to replay the rest of it.
fn unpack(copies: &CellCopies, at: &Path, until: &Until) -> Result<(), StackError> {
    let (cluster, wal) = (at.join("cluster"), at.join("wal"));
    for (archive, folder) in [(&copies.base, cluster.clone()), (&copies.base_wal, cluster.join("pg_wal"))] {
        std::fs::create_dir_all(&folder).map_err(StackError::folder(&folder))?;
        let paths = [archive.as_path(), &folder].map(|path| path.display().to_string());
        let words = ["-xzf".to_owned(), paths[0].clone(), "-C".into(), paths[1].clone()];
        plain("tar", words.into()).run("unpacking the base", "")?;
    }
    // The postgres user may not be let into the folder of the copies.
    std::fs::create_dir_all(&wal).map_err(StackError::folder(&wal))?;
    for segment in &copies.wal {
        let place = wal.join(segment.file_name().unwrap_or_default());
        std::fs::copy(segment, &place).map_err(StackError::folder(&place))?;
    }
    let held = std::fs::read_to_string(cluster.join(AUTO_CONF)).unwrap_or_default();
    write_private(&at.join(HELD_CONF), held.as_bytes())?;
    let mut conf = held;
    // A segment that is not there is the usual end of a log, and here an error: the target is not reached.
    let segment = format!("\"{}/%f.gz\"", wal.display());
    let restore = quoted(&format!("test -f {segment} && gzip -dc {segment} > \"%p\""));
    let target = match until {
        Until::Named(name) => format!("recovery_target_name = {}", quoted(name)),
        Until::Time(time) => format!("recovery_target_time = {}", quoted(time)),
    };
    conf += &format!("\nrestore_command = {restore}\n{target}\nrecovery_target_action = 'promote'\n");
    write_private(&cluster.join(AUTO_CONF), conf.as_bytes())?;
    write_private(&cluster.join("recovery.signal"), b"")?;
    set_mode(at, 0o755)?;
    set_mode(&cluster, 0o700)?;
    give_to_postgres(&cluster)?;
    give_to_postgres(&wal)
}

/// As a value in Postgres's configuration.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn give_to_postgres(path: &Path) -> Result<(), StackError> {
    if !is_root() {
        return Ok(());
    }
    let words = vec!["-R".to_owned(), "postgres:".into(), path.display().to_string()];
    plain("chown", words).run("giving a folder to the postgres user", "")
}

/// The folder of a process's data, where its log is too.
pub(crate) fn folder_of(process: &ProcessEntry) -> Result<PathBuf, StackError> {
    let folder = process.launch.log.parent().map(Path::to_owned);
    folder.ok_or_else(|| StackError::Step { step: "finding a folder", cause: format!("{} has none", process.name) })
}

/// In the file that the process reads when it starts.
fn raise_incarnation(process: &ProcessEntry, incarnation: u64) -> Result<(), StackError> {
    let file = config_of(process)?;
    let text = std::fs::read_to_string(&file).map_err(StackError::folder(&file))?;
    let line = |line: &str| match line.split_once('=') {
        Some((name, _)) if name.trim() == "incarnation" => format!("incarnation = {incarnation}\n"),
        _ => format!("{line}\n"),
    };
    replace(&file, &text.lines().map(line).collect::<String>())
}

/// Copies the cluster of a server of ours that serves on, with the log that is written meanwhile, into two
/// gzipped tar files: `base.tar.gz` and `pg_wal.tar.gz`.
pub async fn base_backup(port: u16, into: &Path) -> Result<(), StackError> {
    let words = ["-h", "127.0.0.1", "-U", postgres::USER, "-w", "-F", "t", "-Z", "1", "-X", "stream", "-c", "fast"];
    let more = ["-p".to_owned(), port.to_string(), "-D".into(), into.display().to_string()];
    let words = words.map(str::to_owned).into_iter().chain(["--no-manifest".to_owned()]).chain(more).collect();
    let program = postgres::program("pg_basebackup")?;
    let launch = Launch { program, ..plain("pg_basebackup", words) };
    let step = "copying the cell's Postgres";
    let running = tokio::task::spawn_blocking(move || launch.run(step, ""));
    running.await.map_err(|error| StackError::Step { step, cause: error.to_string() })?
}

/// The version of the Postgres that stacks on this machine run on, as `server_version_num` has it: of a
/// major version alone.
pub fn postgres_major() -> Result<u32, StackError> {
    version_of(&postgres::program("postgres")?, |text| text.split_whitespace().nth(2)?.split('.').next())
}

/// Major and minor version of the Redis that stacks on this machine run on.
pub fn redis_version() -> Result<(u32, u32), StackError> {
    let program = redis::redis_server()?;
    let part = |n: usize| {
        version_of(&program, |text| text.split_whitespace().find_map(|word| word.strip_prefix("v="))?.split('.').nth(n))
    };
    Ok((part(0)?, part(1)?))
}

fn version_of(program: &Path, part: impl Fn(&str) -> Option<&str>) -> Result<u32, StackError> {
    let failed = |cause: String| StackError::Step { step: "asking a program for its version", cause };
    let output = std::process::Command::new(program).arg("--version").output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    part(&text).and_then(|version| version.parse().ok()).ok_or_else(|| failed(text.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_says_its_version() {
        assert!(postgres_major().unwrap() >= 14);
        assert!(redis_version().unwrap() >= (7, 0));
    }

    #[test]
    fn a_path_with_a_quote_stays_one_value() {
        assert_eq!(quoted("cp \"/it's/%f\" \"%p\""), "'cp \"/it''s/%f\" \"%p\"'");
    }
}

//! Processes, named by pid and start time: a pid alone may have become somebody else's.

use crate::StackError;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to end after being asked to.
const STOP_MAX: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(10);

/// One life of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub pid: i32,
    /// Clock ticks since the machine started, from `/proc/<pid>/stat`.
    pub started: u64,
}

/// How a process is started, again and again on the same ports and folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub log: PathBuf,
}

impl Identity {
    pub fn of(pid: i32) -> Option<Self> {
        let stat = stat(pid)?;
        (stat.state != 'Z').then_some(Self { pid, started: stat.started })
    }

    pub fn of_this_process() -> Option<Self> {
        Self::of(i32::try_from(std::process::id()).ok()?)
    }

    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    fn signal(self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) {
            // It may have ended since it was looked at: then there is nothing left to do.
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills it at once, as a crash would, and waits until it is gone.
    pub async fn kill9(self) {
        self.signal(Signal::KILL);
        self.gone(STOP_MAX).await;
    }

    /// Asks it to end, and kills it when it does not.
    pub(crate) async fn stop(self, gently: Gently) {
        self.signal(match gently {
            Gently::Term => Signal::TERM,
            Gently::Int => Signal::INT,
        });
        if !self.gone(STOP_MAX).await {
            self.kill9().await;
        }
    }

    /// The same without a runtime, for drops.
    pub(crate) fn kill9_now(self) {
        self.signal(Signal::KILL);
        let until = Instant::now() + STOP_MAX;
        while !self.is_gone() && Instant::now() < until {
            std::thread::sleep(POLL);
        }
    }

    /// Whether its threads have all ended too: while one lingers, so do its sockets.
    fn is_gone(self) -> bool {
        match stat(self.pid) {
            Some(stat) if stat.started == self.started => stat.state == 'Z' && stat.threads <= 1,
            _ => true,
        }
    }

    async fn gone(self, within: Duration) -> bool {
        let until = Instant::now() + within;
        while !self.is_gone() {
            if Instant::now() > until {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }
}

/// Which signal means "end in order": Postgres takes SIGTERM as "when all clients have gone".
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gently {
    Term,
    Int,
}

/// What `/proc/<pid>/stat` says.
struct Stat {
    state: char,
    threads: u64,
    started: u64,
}

/// The name that stands before the fields may hold spaces and parentheses.
fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    // State is field 3 of the line, threads 20, the start 22.
    let state = fields.next()?.chars().next()?;
    let threads = fields.nth(16)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    Some(Stat { state, threads, started })
}

impl Launch {
    /// Starts it in a process group of its own (a Ctrl-C at the terminal is for us to pass on, in
    /// order), with both outputs appended to its log.
    pub(crate) fn start(&self, name: &str) -> Result<Identity, StackError> {
        let failed = |cause| StackError::Start { name: name.to_owned(), cause };
        let log = open_log(&self.log).map_err(failed)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
        // Reaped here, so that a dead child is gone for whoever looks at its pid.
        std::thread::spawn(move || {
            let mut child = child;
            let _ = child.wait();
        });
        Identity::of(pid).ok_or_else(|| StackError::Died { name: name.to_owned(), tail: self.log_tail() })
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        tail(&self.log, 2_000).unwrap_or_default()
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

fn tail(path: &Path, bytes: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_life_of_a_pid_is_not_the_same_process() {
        let me = Identity::of_this_process().unwrap();
        assert!(me.is_alive());
        assert!(!Identity { started: me.started + 1, ..me }.is_alive());
    }

    #[tokio::test]
    async fn a_killed_process_is_seen_as_gone() {
        let folder = tempfile::tempdir().unwrap();
        let launch = Launch {
            program: "/bin/sleep".into(),
            arguments: vec!["1000".into()],
            log: folder.path().join("log"),
        };
        let life = launch.start("sleep").unwrap();
        assert!(life.is_alive());
        life.kill9().await;
        assert!(!life.is_alive());
    }
}

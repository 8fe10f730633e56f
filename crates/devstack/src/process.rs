//! Processes, named by pid and start time: a pid alone may have become somebody else's.

use crate::{StackError, containers};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to end after being asked to.
const STOP_MAX: Duration = Duration::from_secs(15);
/// Three kinds of processes, one after another.
const STACK_STOP_MAX: Duration = Duration::from_secs(60);
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
    /// Somebody else than us, for programs that refuse to be root.
    pub user: Option<String>,
    pub log: PathBuf,
    pub stop: Gently,
}

/// Which signal means "end in order": Postgres takes SIGTERM as "when all clients have gone".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gently {
    Term,
    Int,
}

impl Gently {
    fn signal(self) -> Signal {
        match self {
            Gently::Term => Signal::TERM,
            Gently::Int => Signal::INT,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Gently::Term => "TERM",
            Gently::Int => "INT",
        }
    }
}

/// Whether a process outlives the one that starts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tether {
    /// It goes on, until somebody ends it.
    Free,
    /// The kernel asks it to end when we are gone, however that came about.
    ToUs,
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
    pub async fn stop(self, gently: Gently) {
        self.signal(gently.signal());
        if !self.gone(STOP_MAX).await {
            self.kill9().await;
        }
    }

    /// Asks it to end, without killing it: a keeper has to end a whole stack first.
    pub(crate) async fn asked_to_end(self) {
        self.signal(Signal::TERM);
        self.gone(STACK_STOP_MAX).await;
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

/// The processes that work in a folder or below it, without the children that some of them have there.
pub(crate) fn working_in(folder: &Path) -> Vec<Identity> {
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        std::fs::read_link(entry.path().join("cwd")).is_ok_and(|at| at.starts_with(folder)).then_some(pid)
    });
    let pids: Vec<i32> = pids.collect();
    let first = |pid: &i32| stat(*pid).is_some_and(|stat| !pids.contains(&stat.parent));
    pids.iter().copied().filter(first).filter_map(Identity::of).collect()
}

/// What `/proc/<pid>/stat` says.
struct Stat {
    state: char,
    parent: i32,
    threads: u64,
    started: u64,
}

/// The name that stands before the fields may hold spaces and parentheses.
fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    // State is field 3 of the line, the parent 4, threads 20, the start 22.
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let threads = fields.nth(15)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    Some(Stat { state, parent, threads, started })
}

impl Launch {
    /// Starts it in a process group of its own (a Ctrl-C at the terminal is for us to pass on, in
    /// order), with both outputs appended to its log.
    pub fn start(&self, name: &str, tether: Tether) -> Result<Identity, StackError> {
        let failed = |cause| StackError::Start { name: name.to_owned(), cause };
        if !self.program.exists() {
            return Err(StackError::Gone { name: name.to_owned(), program: self.program.clone() });
        }
        let cid_file = containers::cid_file(self);
        if let Some(file) = &cid_file {
            // Of its last life; the engine refuses to write over it.
            let _ = std::fs::remove_file(file);
        }
        let log = open_log(&self.log).map_err(StackError::folder(&self.log))?;
        let mut command = self.command(tether);
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log).process_group(0);
        // Our own folder may be closed to another user, and a server should not keep it busy.
        command.current_dir("/");
        let (started, hears) = std::sync::mpsc::sync_channel(1);
        // One thread starts and reaps: the tether holds to the starting thread, not to the process,
        // and a child that nobody waits for would keep its pid when dead.
        std::thread::spawn(move || match command.spawn() {
            Ok(mut child) => {
                // Nobody listens any more only if we are on our way out.
                let _ = started.send(Ok(child.id()));
                let _ = child.wait();
            }
            Err(cause) => {
                let _ = started.send(Err(cause));
            }
        });
        let pid = hears.recv().map_err(|_| failed(std::io::ErrorKind::Other.into()))?.map_err(failed)?;
        let life = i32::try_from(pid).ok().and_then(Identity::of);
        let life = life.ok_or_else(|| StackError::Died { name: name.to_owned(), tail: self.log_tail() })?;
        match cid_file {
            Some(file) => containers::main_process(self, &file, name, life),
            None => Ok(life),
        }
    }

    /// The command line. User and tether are set by `setpriv`, which then becomes the program and so
    /// keeps the pid.
    fn command(&self, tether: Tether) -> Command {
        let mut privileges = Vec::new();
        if let Some(user) = &self.user {
            privileges.extend([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".into()]);
        }
        // Without setpriv there is no tether: then the next start cleans up what was left.
        if tether == Tether::ToUs && on_path("setpriv").is_some() {
            privileges.push(format!("--pdeathsig={}", self.stop.name()));
        }
        let mut command;
        if privileges.is_empty() {
            command = Command::new(&self.program);
        } else {
            command = Command::new("setpriv");
            command.args(privileges).arg("--").arg(&self.program);
        }
        command.args(&self.arguments);
        command
    }

    /// Runs it to its end with `input`, for programs that do one thing; what it printed is the error.
    pub(crate) fn run(&self, step: &'static str, input: &str) -> Result<(), StackError> {
        let failed = |cause: String| StackError::Step { step, cause };
        let mut command = self.command(Tether::ToUs);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // Who does not read what it is told says why on its own.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        Err(failed(String::from_utf8_lossy(&said).trim().to_owned()))
    }

    /// A process that was started by this and is written down nowhere: one with the same command line, or one
    /// that works in the folder that its log is in (Redis shows another command line than it was given).
    pub(crate) fn left_behind(&self) -> Option<Identity> {
        let words = [self.program.as_os_str().as_encoded_bytes()].into_iter();
        let words = words.chain(self.arguments.iter().map(String::as_bytes));
        let command_line: Vec<u8> = words.flat_map(|word| [word, b"\0"]).flatten().copied().collect();
        let folder = self.log.parent()?;
        let pids = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let is_it = std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == command_line)
                || std::fs::read_link(entry.path().join("cwd")).is_ok_and(|at| at == folder);
            is_it.then_some(pid)
        });
        pids.filter_map(Identity::of).next()
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        tail(&self.log, 2_000).unwrap_or_default()
    }
}

/// A program of the search path.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|program| program.is_file())
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
    use tokio::io::{AsyncBufReadExt, BufReader};

    #[test]
    fn another_life_of_a_pid_is_not_the_same_process() {
        let me = Identity::of_this_process().unwrap();
        assert!(me.is_alive());
        assert!(!Identity { started: me.started + 1, ..me }.is_alive());
    }

    fn sleeper(folder: &Path) -> Launch {
        Launch {
            program: "/bin/sleep".into(),
            arguments: vec!["1000".into()],
            user: None,
            log: folder.join("log"),
            stop: Gently::Term,
        }
    }

    #[tokio::test]
    async fn one_that_nobody_wrote_down_is_found_by_its_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let launch = Launch { arguments: vec!["1000.25".into()], ..sleeper(folder.path()) };
        assert_eq!(launch.left_behind(), None);
        let life = launch.start("sleep", Tether::Free).unwrap();
        // The kernel lets a starter go on a moment before the new program's command line can be read.
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while launch.left_behind() != Some(life) {
            assert!(tokio::time::Instant::now() < until, "it is not found");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        life.kill9().await;
        assert_eq!(launch.left_behind(), None);
    }

    #[tokio::test]
    async fn a_killed_process_is_seen_as_gone() {
        let folder = tempfile::tempdir().unwrap();
        let life = sleeper(folder.path()).start("sleep", Tether::ToUs).unwrap();
        assert!(life.is_alive());
        life.kill9().await;
        assert!(!life.is_alive());
    }

    /// Method: this very test, run as a program of its own, is the one that starts a sleeper and is
    /// killed.
    #[tokio::test]
    async fn a_tethered_process_ends_with_a_killed_starter() {
        const STARTER: &str = "CELLAR_TEST_STARTER";
        let folder = tempfile::tempdir().unwrap();
        if std::env::var_os(STARTER).is_some() {
            let life = sleeper(folder.path()).start("sleep", Tether::ToUs).unwrap();
            // Tethered once setpriv has become the program.
            while std::fs::read_to_string(format!("/proc/{}/comm", life.pid)).unwrap() != "sleep\n" {
                tokio::time::sleep(POLL).await;
            }
            println!("tethered {} {}", life.pid, life.started);
            return std::future::pending().await;
        }
        let test = std::env::current_exe().unwrap();
        let mut starter = tokio::process::Command::new(test)
            .args(["process::tests::a_tethered_process_ends_with_a_killed_starter", "--exact", "--nocapture"])
            .env(STARTER, "yes")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(starter.stdout.take().unwrap()).lines();
        let sleeper = loop {
            let line = lines.next_line().await.unwrap().expect("the starter says whom it has started");
            if let Some((_, numbers)) = line.split_once("tethered ") {
                let (pid, started) = numbers.split_once(' ').unwrap();
                break Identity { pid: pid.parse().unwrap(), started: started.parse().unwrap() };
            }
        };
        assert!(sleeper.is_alive());
        starter.kill().await.unwrap();
        assert!(sleeper.gone(STOP_MAX).await);
    }
}

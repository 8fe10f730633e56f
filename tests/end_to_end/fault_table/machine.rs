//! What is done to a stack's processes and their files.

use cellar_devstack::{Cellctl, ProcessEntry, Stack};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of a Redis that holds its append-only files.
const APPENDONLY: &str = "appendonlydir";

/// One process of a stack, by its name or, where there is one of it, its role.
pub(super) fn process(cellctl: &Cellctl, name: &str) -> ProcessEntry {
    let stack = Stack::open(cellctl.stack()).unwrap();
    let processes = stack.state().processes.iter();
    let mut named = processes.filter(|process| process.name == name || process.role.label() == name);
    named.next().unwrap_or_else(|| panic!("no process {name}")).clone()
}

/// The name of the process that listens at `url`.
pub(super) fn listening_at(cellctl: &Cellctl, url: &str) -> String {
    let stack = Stack::open(cellctl.stack()).unwrap();
    stack.state().processes.iter().find(|process| process.url == url).unwrap().name.clone()
}

pub(super) async fn kill9(cellctl: &Cellctl, name: &str) {
    Stack::open(cellctl.stack()).unwrap().kill9(name).await.unwrap();
}

pub(super) fn restart(cellctl: &Cellctl, name: &str) {
    tokio::task::block_in_place(|| cellctl.ok(&["restart", name]).unwrap());
}

/// A command to a Redis, and the first line of its answer.
pub(super) fn redis(cellctl: &Cellctl, command: &str) -> String {
    let port = process(cellctl, "redis-quota").ports[0];
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// A process, with its children, that stands still until this is dropped.
pub(crate) struct Paused(Vec<i32>);

impl Paused {
    pub(crate) fn new(cellctl: &Cellctl, name: &str) -> Self {
        let pid = process(cellctl, name).life.unwrap().pid;
        signal("STOP", pid);
        let mut paused = Self(vec![pid]);
        // It stands still, so it makes no more of them.
        for child in std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap().split_whitespace() {
            let child = child.parse().unwrap();
            signal("STOP", child);
            paused.0.push(child);
        }
        paused
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        for pid in self.0.iter().rev() {
            signal("CONT", *pid);
        }
    }
}

fn signal(signal: &str, pid: i32) {
    // A child may have ended since.
    let _ = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().unwrap();
}

/// The files of the quota Redis.
pub(super) struct RedisFiles {
    folder: PathBuf,
    copy: PathBuf,
}

impl RedisFiles {
    pub(super) fn of(cellctl: &Cellctl) -> Self {
        let log = process(cellctl, "redis-quota").launch.log;
        let folder = log.parent().unwrap().join(APPENDONLY);
        Self { folder, copy: cellctl.folder().join("older") }
    }

    pub(super) fn delete(&self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }

    pub(super) fn copy(&self) {
        copy(&self.folder, &self.copy);
    }

    pub(super) fn put_back(&self) {
        self.delete();
        copy(&self.copy, &self.folder);
    }

    /// Cuts `bytes` from the end of the file that is appended to.
    pub(super) fn tear(&self, bytes: u64) {
        let files = std::fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path());
        let incremental = files.filter(|path| path.to_string_lossy().ends_with(".incr.aof"));
        let last = incremental.max_by_key(|path| path.metadata().unwrap().modified().unwrap()).unwrap();
        let file = std::fs::File::options().write(true).open(last).unwrap();
        let length = file.metadata().unwrap().len();
        assert!(length > bytes, "only {length} bytes to tear from");
        file.set_len(length - bytes).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

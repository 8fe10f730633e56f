//! What is done to a stack's processes and their files.

use cellar_devstack::{Cellctl, ProcessEntry, Stack};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The folder of a Redis that holds its append-only files.
const APPENDONLY: &str = "appendonlydir";

/// One process of a stack, by its name or, where there is one of it, its role.
pub(crate) fn process(cellctl: &Cellctl, name: &str) -> ProcessEntry {
    let stack = Stack::open(cellctl.stack()).unwrap();
    let processes = stack.state().processes.iter();
    let mut named = processes.filter(|process| process.name == name || process.role.label() == name);
    named.next().unwrap_or_else(|| panic!("no process {name}")).clone()
}

/// The name of the process that listens at `url`.
pub(crate) fn listening_at(cellctl: &Cellctl, url: &str) -> String {
    let stack = Stack::open(cellctl.stack()).unwrap();
    stack.state().processes.iter().find(|process| process.url == url).unwrap().name.clone()
}

pub(crate) async fn kill9(cellctl: &Cellctl, name: &str) {
    Stack::open(cellctl.stack()).unwrap().kill9(name).await.unwrap();
}

pub(crate) fn restart(cellctl: &Cellctl, name: &str) {
    tokio::task::block_in_place(|| cellctl.ok(&["restart", name]).unwrap());
}

/// What a Redis answers to `command`; nothing if it cannot be asked.
pub(crate) fn redis_says(cellctl: &Cellctl, name: &str, command: &str) -> String {
    let port = process(cellctl, name).ports[0];
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    // A server that dies meanwhile has said what it has said.
    let _ = stream.read_to_string(&mut text);
    text
}

/// A command to the quota Redis, and the first line of its answer.
pub(crate) fn redis(cellctl: &Cellctl, command: &str) -> String {
    redis_says(cellctl, "redis-quota", command).lines().next().unwrap_or_default().to_owned()
}

/// Empties the quota Redis under its writer's feet.
pub(crate) fn flush(cellctl: &Cellctl) {
    assert_eq!(redis(cellctl, "FLUSHALL"), "+OK");
}

/// A counter or gauge of a process, as its metrics have it; none if it is not there.
pub(crate) fn counted(process: &ProcessEntry, name: &str) -> Option<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", process.ports[1])).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map(|value| value.trim().parse().unwrap())
}

/// A process, with its children, that stands still until this is dropped.
pub(crate) struct Paused(Vec<i32>);

impl Paused {
    pub(crate) fn new(cellctl: &Cellctl, name: &str) -> Self {
        let pid = process(cellctl, name).life.unwrap().pid;
        send("STOP", pid);
        let mut paused = Self(vec![pid]);
        // It stands still, so it makes no more of them.
        for child in std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap().split_whitespace() {
            let child = child.parse().unwrap();
            send("STOP", child);
            paused.0.push(child);
        }
        paused
    }
}

/// Every process of a role stands still until this is dropped.
pub(crate) fn paused(cellctl: &Cellctl, role: &str) -> Vec<Paused> {
    let stack = Stack::open(cellctl.stack()).unwrap();
    let of_role = stack.state().processes.iter().filter(|process| process.role.label() == role);
    of_role.map(|process| Paused::new(cellctl, &process.name)).collect()
}

impl Drop for Paused {
    fn drop(&mut self) {
        for pid in self.0.iter().rev() {
            send("CONT", *pid);
        }
    }
}

/// Sends a signal to a process of the stack.
pub(crate) fn signal(cellctl: &Cellctl, name: &str, signal: &str) {
    send(signal, process(cellctl, name).life.unwrap().pid);
}

fn send(signal: &str, pid: i32) {
    // A child may have ended since.
    let _ = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().unwrap();
}

/// The files of the quota Redis.
pub(crate) struct RedisFiles {
    folder: PathBuf,
    copy: PathBuf,
}

impl RedisFiles {
    pub(crate) fn of(cellctl: &Cellctl) -> Self {
        let log = process(cellctl, "redis-quota").launch.log;
        let folder = log.parent().unwrap().join(APPENDONLY);
        Self { folder, copy: cellctl.folder().join("older") }
    }

    pub(crate) fn delete(&self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }

    pub(crate) fn copy(&self) {
        copy(&self.folder, &self.copy);
    }

    pub(crate) fn put_back(&self) {
        self.delete();
        copy(&self.copy, &self.folder);
    }

    /// Cuts `bytes` from the end of the file that is appended to.
    pub(crate) fn tear(&self, bytes: u64) {
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

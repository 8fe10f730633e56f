//! The command line as tests drive it: a stack of their own, gone on drop.

use crate::StackError;
use crate::folders::temporary_folder;
use crate::process::{Gently, Identity, Launch, Tether};
use crate::state::StackState;
use crate::world::built;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A world of many cells, on a machine that also compiles.
const UP_MAX: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(20);

/// Runs the built `cellctl` on one stack folder.
pub struct Cellctl {
    program: PathBuf,
    stack: PathBuf,
    /// The `cellctl up` that keeps the stack: it ends with us, and the stack with it.
    keeper: Option<Identity>,
    /// Where the test may put files for the commands to read.
    folder: tempfile::TempDir,
    /// What the stack's processes find in their environment besides ours.
    environment: Vec<String>,
}

impl Cellctl {
    /// On a folder without a stack yet.
    pub fn new() -> Result<Self, StackError> {
        let folder = temporary_folder()?;
        Ok(Self {
            program: built("cellctl")?,
            stack: folder.path().join("stack"),
            keeper: None,
            folder,
            environment: Vec::new(),
        })
    }

    /// With a stack: `arguments` are those of `cellctl`, `["up", "--regions", "2"]`.
    pub fn up(arguments: &[&str]) -> Result<Self, StackError> {
        let mut cellctl = Self::new()?;
        cellctl.keep(arguments)?;
        Ok(cellctl)
    }

    /// Sets a variable for all processes of the stack that is kept next.
    pub fn environment(&mut self, name: &str, value: &str) {
        self.environment.push(format!("{name}={value}"));
    }

    /// Starts a stack that has been taken down, or was never up, and waits until it serves.
    pub fn keep(&mut self, arguments: &[&str]) -> Result<(), StackError> {
        let program = self.program.display().to_string();
        let words = [&program].into_iter().map(String::as_str).chain(arguments.iter().copied());
        let stack = ["--stack".to_owned(), self.stack.display().to_string()];
        let launch = Launch {
            program: "/usr/bin/env".into(),
            arguments: self.environment.iter().cloned().chain(words.map(str::to_owned)).chain(stack).collect(),
            user: None,
            log: self.folder.path().join("up.log"),
            stop: Gently::Term,
        };
        let keeper = launch.start("cellctl", Tether::ToUs)?;
        self.keeper = Some(keeper);
        let until = Instant::now() + UP_MAX;
        // Complete is what it says when all have answered.
        while !self.state()?.is_some_and(|state| state.keeper == Some(keeper) && state.serves) {
            if !keeper.is_alive() {
                return Err(StackError::Died { name: "cellctl up".into(), tail: launch.log_tail() });
            }
            if Instant::now() > until {
                let (seconds, tail) = (UP_MAX.as_secs(), launch.log_tail());
                return Err(StackError::NotReady { name: "cellctl up".into(), seconds, tail });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn state(&self) -> Result<Option<StackState>, StackError> {
        StackState::read(&self.stack)
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn stack(&self) -> &Path {
        &self.stack
    }

    /// Runs a command to its end, whatever that is.
    pub fn run(&self, arguments: &[&str]) -> Result<Output, StackError> {
        Command::new(&self.program)
            .args(arguments)
            .arg("--stack")
            .arg(&self.stack)
            .stdin(Stdio::null())
            .output()
            .map_err(|cause| StackError::Start { name: "cellctl".into(), cause })
    }

    /// Runs a command that has to succeed, and returns what it printed.
    pub fn ok(&self, arguments: &[&str]) -> Result<String, StackError> {
        let output = self.run(arguments)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let cause = format!(
            "cellctl {}: {}{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Err(StackError::Step { step: "a command of the test", cause })
    }

    /// `status --json`.
    pub fn status(&self) -> Result<serde_json::Value, StackError> {
        let text = self.ok(&["status", "--json"])?;
        serde_json::from_str(&text)
            .map_err(|error| StackError::Step { step: "reading the status", cause: error.to_string() })
    }
}

impl Drop for Cellctl {
    /// Ends all of it at once: nobody wants this data again.
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper {
            keeper.kill9_now();
        }
        // A test that never came to a stack has nothing to end.
        let Ok(Some(state)) = self.state() else { return };
        let lives = || state.processes.iter().filter_map(|process| process.life);
        for life in lives() {
            life.kill9_now();
        }
    }
}

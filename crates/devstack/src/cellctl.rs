//! The command line as tests drive it: a stack of their own, gone on drop.

use crate::StackError;
use crate::folders::{Folders, test_folder};
use crate::plan::built;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Runs the built `cellctl` on one stack folder.
pub struct Cellctl {
    program: PathBuf,
    stack: PathBuf,
    /// Where the test may put files for the commands to read.
    folder: tempfile::TempDir,
}

impl Cellctl {
    /// On a folder without a stack yet.
    pub fn new() -> Result<Self, StackError> {
        let folder = test_folder()?;
        Ok(Self { program: built("cellctl")?, stack: folder.path().join("stack"), folder })
    }

    /// With a stack: `arguments` are those of `cellctl`, `["up", "--regions", "2"]`.
    pub fn up(arguments: &[&str]) -> Result<Self, StackError> {
        let cellctl = Self::new()?;
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--detach"]).collect();
        cellctl.ok(&arguments)?;
        Ok(cellctl)
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
    fn drop(&mut self) {
        let down = Command::new(&self.program)
            .args(["down", "--delete", "--stack"])
            .arg(&self.stack)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        // A test that never came to a stack has nothing to end.
        let _ = down;
        if let Ok(folders) = Folders::of(&self.stack) {
            let _ = folders.delete();
        }
    }
}

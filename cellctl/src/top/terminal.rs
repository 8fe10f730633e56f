//! The terminal while it is drawn on: keys come one by one, nothing is echoed, and in the end it is as it was.

use anyhow::{Context, ensure};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use tokio::sync::mpsc;

/// Where the terminal does not say how large it is.
const SIZE: (usize, usize) = (80, 24);
/// What is not cleared away again is in nobody's way.
const ALTERNATE: (&str, &str) = ("\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l");
/// Keys that nobody has taken yet.
const KEYS_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// q, or Ctrl-C.
    End,
    Other,
}

pub(super) struct Terminal {
    /// As `stty -g` says how it was.
    before: String,
    keys: mpsc::Receiver<Key>,
}

impl Terminal {
    pub(super) fn take() -> anyhow::Result<Self> {
        let before = stty(&["-g"]).context("the terminal cannot be set up")?;
        // Signals stay off: Ctrl-C is a key like q, so that everything is put back in one place.
        stty(&["-icanon", "-echo", "-isig", "min", "1", "time", "0"])?;
        let (sender, keys) = mpsc::channel(KEYS_MAX);
        // It reads until the process ends; what it waits for holds nothing up.
        std::thread::spawn(move || {
            let mut byte = [0];
            while std::io::stdin().read(&mut byte).is_ok_and(|read| read == 1) {
                let key = if matches!(byte[0], b'q' | b'Q' | 3) { Key::End } else { Key::Other };
                if sender.blocking_send(key).is_err() {
                    return;
                }
            }
            let _ = sender.blocking_send(Key::End);
        });
        print!("{}", ALTERNATE.0);
        Ok(Self { before: before.trim().to_owned(), keys })
    }

    pub(super) async fn key(&mut self) -> Key {
        self.keys.recv().await.unwrap_or(Key::End)
    }

    /// Columns and lines.
    pub(super) fn size(&self) -> (usize, usize) {
        let said = stty(&["size"]).unwrap_or_default();
        let mut numbers = said.split_whitespace().map(|number| number.parse().unwrap_or(0));
        match (numbers.next(), numbers.next()) {
            (Some(lines), Some(columns)) if lines > 0 && columns > 0 => (columns, lines),
            _ => SIZE,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        print!("{}", ALTERNATE.1);
        let _ = std::io::stdout().flush();
        let _ = stty(&[&self.before]);
    }
}

/// Everywhere where there is a terminal; of this process's own.
fn stty(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("stty").args(arguments).stdin(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "stty: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

//! What became of an import: counts, and a line for each user who was left out.

use super::lines::BadLine;
use anyhow::Context;
use cellar_model::wire::Brought;
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) created: u64,
    pub(super) unchanged: u64,
    pub(super) conflicts: u64,
    pub(super) invalid: u64,
    /// Of whom it is not known.
    pub(super) unknown: u64,
}

impl Counts {
    pub(super) fn all(&self) -> u64 {
        self.created + self.unchanged + self.conflicts + self.invalid + self.unknown
    }

    pub(super) fn left_out(&self) -> u64 {
        self.conflicts + self.invalid + self.unknown
    }
}

/// Written as it comes about: who is killed has it as far as it goes.
pub(super) struct Report {
    pub(super) counts: Counts,
    pub(super) path: PathBuf,
    file: BufWriter<File>,
}

#[derive(Serialize)]
struct Line<'l> {
    line: u64,
    outcome: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pointer: &'l str,
    detail: &'l str,
}

impl Report {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { counts: Counts::default(), path: path.to_owned(), file: BufWriter::new(file) })
    }

    pub(super) fn bad(&mut self, bad: &BadLine) -> anyhow::Result<()> {
        self.counts.invalid += 1;
        self.write(&Line { line: bad.number, outcome: "invalid", pointer: "", detail: &bad.message })
    }

    pub(super) fn brought(&mut self, line: u64, brought: &Brought) -> anyhow::Result<()> {
        let counts = &mut self.counts;
        let (outcome, pointer, detail) = match brought {
            Brought::Created { .. } => {
                counts.created += 1;
                return Ok(());
            }
            Brought::Unchanged { .. } => {
                counts.unchanged += 1;
                return Ok(());
            }
            Brought::Conflict { problem } => {
                counts.conflicts += 1;
                ("conflict", "", problem.as_str())
            }
            Brought::Invalid { pointer, message } => {
                counts.invalid += 1;
                ("invalid", pointer.as_str(), message.as_str())
            }
            Brought::Again { detail } => {
                counts.unknown += 1;
                ("unknown", "", detail.as_str())
            }
            Brought::Elsewhere { .. } => {
                counts.unknown += 1;
                ("unknown", "", "at another cell")
            }
        };
        self.write(&Line { line, outcome, pointer, detail })
    }

    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        self.file.flush().with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn write(&mut self, line: &Line<'_>) -> anyhow::Result<()> {
        let written = serde_json::to_writer(&mut self.file, line).map_err(anyhow::Error::from);
        let written = written.and_then(|()| self.file.write_all(b"\n").map_err(Into::into));
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

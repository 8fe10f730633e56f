//! What a restore remembers once the data has its place: killed after that, the same command goes on.

use super::restore::Plan;
use anyhow::{Context, ensure};
use cellar_devstack::Stack;
use cellar_model::Micros;
use cellar_model::wire::TakenOver;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Note {
    /// Which backup: the name that its end has in the log.
    end: String,
    to: Option<Micros>,
    redis: bool,
    pub(super) incarnation: u64,
    pub(super) taken: TakenOver,
    /// The list of charges that came later than `to`.
    pub(super) charges: Option<PathBuf>,
}

impl Note {
    pub(super) fn new(plan: &Plan, taken: TakenOver, incarnation: u64, charges: Option<PathBuf>) -> Self {
        Self { end: plan.manifest.end.clone(), to: plan.to, redis: plan.redis, incarnation, taken, charges }
    }

    /// Of a restore of the same that was cut short.
    pub(super) fn find(stack: &Stack, plan: &Plan) -> anyhow::Result<Option<Self>> {
        let Some(text) = stack.restored_note(&plan.manifest.cell)? else { return Ok(None) };
        let folder = stack.folder().display();
        let note: Self =
            serde_json::from_slice(&text).context("what was noted of an earlier restore cannot be read")?;
        ensure!(
            (&note.end, note.to, note.redis) == (&plan.manifest.end, plan.to, plan.redis),
            "cell {} in {folder} has just been restored otherwise, by a command that was cut short: give that one again",
            plan.manifest.cell
        );
        Ok(Some(note))
    }

    pub(super) fn text(&self) -> anyhow::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }
}

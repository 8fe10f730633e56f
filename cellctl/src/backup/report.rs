//! What a restored cell has, what it has not, and whether its books agree.

use crate::stack::Target;
use crate::{books, directory};
use anyhow::Context;
use cellar_model::Micros;
use cellar_model::wire::{Restored, TakenOver};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::Instant;

/// For routers to find a cell again that was away.
const FOUND_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Of a list that is printed; the file has it whole.
const SHOWN: usize = 20;
/// The books could not be read: nobody can say whether they agree.
const NOT_COMPARED: u8 = 2;

/// `lost.json`.
#[derive(Serialize)]
pub(super) struct Lost {
    pub(super) cell: String,
    pub(super) incarnation: u64,
    /// Absent: to the end of the backup.
    pub(super) to: Option<String>,
    /// What was acknowledged by then is there. Absent: without the copy of Redis, nobody can say when the
    /// last charges were made that are there.
    pub(super) whole_until: Option<String>,
    pub(super) shards: Vec<ShardEnd>,
    /// Charges of which the backup knows that they came later: how many, and the file that lists them.
    pub(super) later_charges: u64,
    pub(super) later_charges_file: Option<PathBuf>,
    /// Signed up later: the directory has them at home here, or the rest of the backup did.
    pub(super) unknown_users: Vec<String>,
    pub(super) no_longer_here: Vec<String>,
    pub(super) in_doubt: Vec<String>,
    /// How many charges were asked about with `--check`, and those that are not there.
    pub(super) checked: Option<usize>,
    pub(super) gone: Vec<String>,
}

/// The last charge of a shard that is there; later ones, if there were any, are lost.
#[derive(Serialize)]
pub(super) struct ShardEnd {
    shard: u16,
    /// Under which it goes on.
    fence: u64,
    last_fence: Option<i64>,
    last_seq: Option<i64>,
    /// Policy time.
    last_at: Option<String>,
}

impl ShardEnd {
    pub(super) fn all(taken: &TakenOver, restored: &Restored) -> Vec<Self> {
        let end = |raised: &cellar_model::wire::RaisedShard| {
            let last = restored.ends.iter().find(|end| end.shard == raised.shard);
            ShardEnd {
                shard: raised.shard,
                fence: raised.fence.0,
                last_fence: last.map(|last| last.fence),
                last_seq: last.map(|last| last.seq),
                last_at: last.map(|last| Micros(last.at_us.max(0) as u64).to_rfc3339()),
            }
        };
        taken.shards.iter().map(end).collect()
    }
}

impl Lost {
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    pub(super) fn say(&self, file: &Path) {
        match &self.whole_until {
            Some(until) => println!("what was acknowledged by {until} is there; what is lost came after it"),
            None => println!("the quota Redis was not restored: what was not in the ledger is lost"),
        }
        for end in &self.shards {
            match (end.last_fence, end.last_seq, &end.last_at) {
                (Some(fence), Some(seq), Some(at)) => println!(
                    "  shard {}: the last charge is of fence {fence}, seq {seq} ({at}); it goes on under fence {}",
                    end.shard, end.fence
                ),
                _ => println!("  shard {}: no charges; it goes on under fence {}", end.shard, end.fence),
            }
        }
        if let Some(charges) = &self.later_charges_file {
            println!("{} charges came later and are not there: {}", self.later_charges, charges.display());
        }
        for (users, what) in [
            (&self.unknown_users, "signed up later and are not there"),
            (&self.no_longer_here, "were erased or went to another cell later, and are not served here"),
            (
                &self.in_doubt,
                "are unknown to the directory, or in the middle of a move, and are served as the copy says",
            ),
        ] {
            if !users.is_empty() {
                println!("{} users {what}: {}", users.len(), shown(users));
            }
        }
        if let Some(checked) = self.checked {
            println!("of {checked} charges that were asked about, {} are gone", self.gone.len());
            if !self.gone.is_empty() {
                println!("  {}", shown(&self.gone));
            }
        }
        println!("all of this is in {}", file.display());
    }
}

fn shown(names: &[String]) -> String {
    let mut text = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += ", …";
    }
    text
}

/// The audits, as a restore asks for them.
#[derive(Serialize)]
pub(super) struct Audited {
    users: usize,
    mismatches: Vec<String>,
    /// Besides the users who are known to be lost.
    disagreements: Vec<String>,
    /// These.
    #[serde(skip)]
    named: usize,
}

/// Compares all books and the directory, once every cell can be asked.
pub(super) async fn audit(folder: &Path, lost: &Lost) -> anyhow::Result<Audited> {
    let target = Target::find(folder)?;
    let until = Instant::now() + FOUND_MAX;
    let live = loop {
        match books::read_live(&target).await {
            Ok(live) => break live,
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    };
    let known: BTreeSet<&str> = lost.unknown_users.iter().chain(&lost.in_doubt).map(String::as_str).collect();
    let disagreements = directory::disagreements(&target).await?;
    let mismatch = |(cell, user, what): &(cellar_model::CellName, cellar_model::UserId, String)| {
        format!("{cell} {}: {what}", user.as_str())
    };
    Ok(Audited {
        users: live.users,
        mismatches: live.mismatches.iter().map(mismatch).collect(),
        disagreements: disagreements
            .iter()
            .filter(|(user, _)| !known.contains(user.as_str()))
            .map(|(user, what)| format!("{} {what}", user.as_str()))
            .collect(),
        named: known.len(),
    })
}

impl Audited {
    pub(super) fn say(&self) {
        match self.mismatches.len() {
            0 => println!("the books of {} users agree: ledger = Redis = Postgres", self.users),
            n => println!("{n} of {} users have books that do not agree: {}", self.users, shown(&self.mismatches)),
        }
        match self.disagreements.len() {
            0 if self.named == 0 => println!("directory and cells agree"),
            0 => println!("directory and cells agree, but for the {} users named above", self.named),
            n => println!("directory and cells disagree in {n} more places: {}", shown(&self.disagreements)),
        }
    }

    fn agrees(&self) -> bool {
        self.mismatches.is_empty() && self.disagreements.is_empty()
    }
}

/// 0: all agrees; 1: something does not; 2: it could not be compared.
pub(super) fn code(audited: &anyhow::Result<Audited>) -> ExitCode {
    match audited {
        Ok(audited) if audited.agrees() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(_) => ExitCode::from(NOT_COMPARED),
    }
}

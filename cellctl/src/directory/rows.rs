//! Every row of the directory and of the cells, as operators are shown them.

use crate::books;
use crate::stack::{Progress, Target};
use cellar_model::wire::{CellAccount, DirectoryClaim, DirectoryHome};
use cellar_model::{CellName, Rings, UserId};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Rows between two lines of progress.
const SAY_EVERY: usize = 100_000;

/// Everything that is compared.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) homes: HashMap<UserId, DirectoryHome>,
    /// By e-mail: the pepper's id, a colon, the hash.
    pub(super) claims: HashMap<String, DirectoryClaim>,
    pub(super) accounts: Vec<(CellName, CellAccount)>,
    /// The ids of the peppers that each cell has, in the order of its file.
    pub(super) peppers: BTreeMap<CellName, Vec<String>>,
    /// None for a cell without routers, which sends nobody on.
    pub(super) rings: Option<Rings>,
    /// Cells that have not looked at all their users since those rings are in force.
    pub(super) behind: HashSet<CellName>,
}

impl Rows {
    /// Cells first: what was committed there after it was read is CREATING or newer in the directory.
    pub(super) async fn read(target: &Target, progress: &Progress) -> anyhow::Result<Self> {
        let mut rows = Self::default();
        let cells = books::cells(target).await?;
        if cells.iter().any(|(_, by_router)| *by_router) {
            rows.rings = Some(Rings::new(&target.admin.topology().await?)?);
        }
        for (cell, by_router) in cells {
            progress.say(&format!("reading the users of cell {cell}"));
            let mut after = None;
            loop {
                let page = target.admin.accounts(by_router.then_some(&cell), after.as_ref()).await?;
                rows.peppers.insert(cell.clone(), page.peppers);
                if page.rings.as_deref() != rows.rings.as_ref().map(Rings::digest) {
                    rows.behind.insert(cell.clone());
                }
                rows.accounts.extend(page.accounts.into_iter().map(|account| (cell.clone(), account)));
                say_now_and_then(progress, rows.accounts.len(), "users");
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        progress.say("reading the directory's homes");
        let mut after = None;
        loop {
            let page = target.admin.homes(after.as_deref()).await?;
            rows.homes.extend(page.homes.into_iter().map(|home| (home.user_id.clone(), home)));
            say_now_and_then(progress, rows.homes.len(), "homes");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        progress.say("reading the directory's claims");
        let mut after = None;
        loop {
            let page = target.admin.claims(after.as_deref()).await?;
            rows.claims.extend(page.claims.into_iter().map(|claim| (claim.email.clone(), claim)));
            say_now_and_then(progress, rows.claims.len(), "claims");
            after = page.next;
            if after.is_none() {
                return Ok(rows);
            }
        }
    }

    /// The cell's user of each id: whoever it serves, or would if a move did not hold them.
    pub(super) fn here(&self) -> HashMap<&UserId, (&CellName, &CellAccount)> {
        let here = self.accounts.iter().filter(|(_, account)| is_here(account));
        here.map(|(cell, account)| (&account.user_id, (cell, account))).collect()
    }
}

pub(super) fn is_here(account: &CellAccount) -> bool {
    matches!(account.ownership.as_str(), "OWNED" | "FROZEN")
}

/// The id of the pepper that an e-mail is hashed under.
pub(super) fn pepper_of(email: &str) -> &str {
    email.split(':').next().unwrap_or_default()
}

fn say_now_and_then(progress: &Progress, rows: usize, what: &str) {
    // Pages have up to 1,000 rows.
    if rows % SAY_EVERY < 1_000 && rows >= SAY_EVERY {
        progress.say(&format!("{rows} {what} read"));
    }
}

//! The books of every cell, read whole once the ledgers have caught up.

use crate::stack::Target;
use anyhow::bail;
use cellar_model::wire::AuditedUser;
use cellar_model::{CellName, UserId};
use smol_str::SmolStr;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// How long the ledgers may take to catch up with what was acknowledged.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// Every user of every cell. Sums are comparable: nothing was undrained when they were read.
pub(crate) async fn read(target: &Target) -> anyhow::Result<Vec<(CellName, AuditedUser)>> {
    let mut users = Vec::new();
    for (cell, by_router) in cells(target).await? {
        let until = Instant::now() + CATCH_UP_MAX;
        let audited = loop {
            match read_cell(target, by_router.then_some(&cell)).await? {
                Some(audited) => break audited,
                None if Instant::now() > until => {
                    bail!("the ledger of cell {cell} has not caught up within {} s", CATCH_UP_MAX.as_secs())
                }
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        users.extend(audited.into_iter().map(|user| (cell.clone(), user)));
    }
    Ok(users)
}

/// All users of a cell, or `None` while some of its entries are not in the ledger yet.
async fn read_cell(target: &Target, cell: Option<&CellName>) -> anyhow::Result<Option<Vec<AuditedUser>>> {
    let (mut users, mut after) = (Vec::new(), None);
    loop {
        let page = target.admin.audit(cell, after.as_ref()).await?;
        if page.undrained > 0 {
            return Ok(None);
        }
        users.extend(page.users);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(Some(users)),
        }
    }
}

/// Every cell, and whether its books are read by way of a router.
pub(crate) async fn cells(target: &Target) -> anyhow::Result<Vec<(CellName, bool)>> {
    if let Some(state) = target.local.as_ref().filter(|state| state.world.single) {
        let cell = state.processes.iter().find_map(|process| process.cell.as_deref());
        return Ok(vec![(CellName::new(cell.unwrap_or_default())?, false)]);
    }
    let topology = target.admin.topology().await?;
    Ok(topology.cells().map(|(_, cell)| (cell.name.clone(), true)).collect())
}

/// How often users whose latest commit is on its way to the ledger are looked at again.
const LOOKS_MAX: u32 = 50;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The books as they are, without waiting for anybody to be quiet.
#[derive(Default)]
pub(crate) struct Live {
    pub(crate) users: usize,
    /// Users who charged again at every look: their ledger and copy agree, their Redis record was ahead.
    pub(crate) ahead: usize,
    pub(crate) mismatches: Vec<(CellName, UserId, String)>,
    pub(crate) stores: BTreeSet<SmolStr>,
    /// Shards of which Redis told nothing: of their users ledger, copy and memory were compared.
    pub(crate) unread: BTreeSet<(CellName, u16)>,
}

/// Compares every user of every cell. Each page is of one moment, and who is ahead of it in Redis is
/// looked at again.
pub(crate) async fn read_live(target: &Target) -> anyhow::Result<Live> {
    let mut live = Live::default();
    for (cell, by_router) in cells(target).await? {
        let asked = by_router.then_some(&cell);
        let mut after = None;
        loop {
            let mut page = target.admin.audit(asked, after.as_ref()).await?;
            let mut looks = 0;
            while page.users.iter().any(|user| user.behind) && looks < LOOKS_MAX {
                looks += 1;
                tokio::time::sleep(LOOK_EVERY).await;
                let again = target.admin.audit(asked, after.as_ref()).await?;
                // Who has been compared stays so: only the others are looked at again.
                for user in page.users.iter_mut().filter(|user| user.behind) {
                    if let Some(now) = again.users.iter().find(|now| now.user_id == user.user_id) {
                        *user = now.clone();
                    }
                }
            }
            for user in &page.users {
                live.users += 1;
                live.ahead += usize::from(user.behind);
                live.mismatches.extend(user.mismatch().map(|what| (cell.clone(), user.user_id.clone(), what)));
            }
            live.stores.extend(page.stores);
            live.unread.extend(page.unread.iter().map(|shard| (cell.clone(), *shard)));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }
    Ok(live)
}

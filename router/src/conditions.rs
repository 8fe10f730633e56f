//! Which conditions a router is in: looked at once a second.

use crate::cells::Cell;
use crate::follow::Follower;
use crate::route::Routing;
use cellar_server::{Condition, Conditions, LOOK_EVERY, Seen, disk_full};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Cells that one sentence names.
const NAMED_MAX: usize = 4;

/// What looks.
pub(crate) struct RouterWatch {
    pub(crate) conditions: Conditions,
    pub(crate) routing: Arc<Routing>,
    pub(crate) follower: Arc<Follower>,
    pub(crate) data_dir: PathBuf,
}

impl RouterWatch {
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            self.look();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn look(&self) {
        let tell = |condition, seen| self.conditions.tell(condition, seen);
        let away = self.follower.silence().map(|silence| {
            format!(
                "the directory has not been read for {} s: sign-ups, log-ins by an e-mail that this router has not seen and changes of one are refused",
                silence.as_secs()
            )
        });
        tell(Condition::DirectoryAway, away.and_then(Seen::degraded));
        let map = self.routing.map();
        let none = |what: &str| format!("no {what}: neither the directory nor the disk had one");
        tell(Condition::NoTopology, map.is_none().then(|| Seen::failing(none("topology"))).flatten());
        tell(Condition::NoCatalog, (!self.follower.has_catalog()).then(|| Seen::failing(none("catalog"))).flatten());
        tell(Condition::CellAway, map.and_then(|map| cells_away(map.cells())));
        tell(Condition::DiskFull, disk_full(&self.data_dir));
    }
}

/// Users are refused if it is all of a cell; one of several processes is gone round.
fn cells_away<'c>(cells: impl Iterator<Item = &'c Arc<Cell>>) -> Option<Seen> {
    let (mut said, mut failing) = (Vec::new(), false);
    let mut away: Vec<_> = cells.filter_map(|cell| Some((cell.name(), cell.processes(), cell.away()?))).collect();
    away.sort_by(|one, other| one.0.cmp(other.0));
    for (cell, processes, away) in &away {
        let whole = away.processes == *processes;
        failing |= whole;
        let of = if *processes > 1 { format!(" ({} of {processes} processes)", away.processes) } else { String::new() };
        said.push(format!("cell {cell}{of} {}", away.why));
    }
    let more = said.len().saturating_sub(NAMED_MAX);
    said.truncate(NAMED_MAX);
    let rest = if more > 0 { format!("; and {more} cells more") } else { String::new() };
    (!said.is_empty()).then(|| Seen { what: said.join("; ") + &rest, failing })
}

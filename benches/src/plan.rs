//! The runs, each with what it is held against.

use crate::kind::Kind;
use crate::people::Tier;

pub(crate) struct Planned {
    pub(crate) name: &'static str,
    /// Arguments of `cellctl`.
    pub(crate) up: &'static [&'static str],
    pub(crate) tier: Tier,
    pub(crate) redis: Redis,
    pub(crate) kind: Kind,
    /// None: as many as the run was asked for.
    pub(crate) connections: Option<usize>,
    /// Checks (or reads) a second on two cores, client included; None where nothing is promised.
    pub(crate) must: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redis {
    Runs,
    /// Before the run: Postgres takes the commits.
    Stopped,
    /// The cache is: Postgres answers every read.
    CacheStopped,
}

const CELL: &[&str] = &["cell", "up"];
const CELL_EVERYSEC: &[&str] = &["cell", "up", "--fsync", "everysec"];
const WORLD: &[&str] = &["up", "--regions", "1", "--cells", "1"];
const WORLD_EVERYSEC: &[&str] = &["up", "--regions", "1", "--cells", "1", "--fsync", "everysec"];

/// Large batches: more of them in flight wait longer and are not answered faster.
const FEW: Option<usize> = Some(8);

/// A check a request, or a profile read, while Redis runs.
const fn single(name: &'static str, up: &'static [&'static str], kind: Kind, must: Option<f64>) -> Planned {
    Planned { name, up, tier: Tier::AckRedis, redis: Redis::Runs, kind, connections: None, must }
}

const fn batches(name: &'static str, up: &'static [&'static str], kind: Kind, must: f64) -> Planned {
    Planned { connections: FEW, ..single(name, up, kind, Some(must)) }
}

/// Only rows that are named "through the router" start one.
pub(crate) const RUNS: [Planned; 23] = [
    single("consume at a cell, everysec", CELL_EVERYSEC, Kind::Consume, Some(40_000.0)),
    single("consume at a cell, always", CELL, Kind::Consume, Some(30_000.0)),
    single("consume through the router, everysec", WORLD_EVERYSEC, Kind::Consume, Some(30_000.0)),
    single("consume through the router, always", WORLD, Kind::Consume, Some(25_000.0)),
    single("profile read at a cell, cached", CELL, Kind::Profile, Some(25_000.0)),
    Planned { redis: Redis::CacheStopped, ..single("profile read at a cell, cache away", CELL, Kind::Profile, None) },
    single("profile read through the router, cached", WORLD, Kind::Profile, None),
    single("profile read by a session at a cell", CELL, Kind::SessionProfile, None),
    single("preferences write at a cell", CELL, Kind::Preferences, None),
    Planned { connections: FEW, ..single("log-in by password at a cell", CELL, Kind::LogIn, None) },
    Planned { connections: FEW, ..single("log-in by password through the router", WORLD, Kind::LogIn, None) },
    single("admit at a cell, everysec", CELL_EVERYSEC, Kind::Admit, None),
    single("admit through the router, everysec", WORLD_EVERYSEC, Kind::Admit, None),
    single("keyed consume at a cell, everysec", CELL_EVERYSEC, Kind::Keyed, None),
    single("keyed consume at a cell, always", CELL, Kind::Keyed, None),
    Planned { tier: Tier::AckPostgres, ..single("ack = postgres at a cell, always", CELL, Kind::Consume, None) },
    Planned { redis: Redis::Stopped, ..single("mode postgres at a cell", CELL, Kind::Consume, Some(5_000.0)) },
    single("batches of 10 through the router, everysec", WORLD_EVERYSEC, Kind::Batch(10), Some(60_000.0)),
    single("batches of 10 through the router, always", WORLD, Kind::Batch(10), Some(60_000.0)),
    batches("batches of 100 at a cell, everysec", CELL_EVERYSEC, Kind::Batch(100), 100_000.0),
    batches("batches of 100 at a cell, always", CELL, Kind::Batch(100), 100_000.0),
    batches("one hot user in batches of 100, everysec", CELL_EVERYSEC, Kind::Hot(100), 150_000.0),
    batches("one hot user in batches of 100, always", CELL, Kind::Hot(100), 150_000.0),
];

/// The name of the measurement in `outage`, for `--only`, and its stack.
pub(crate) const OUTAGE: (&str, &[&str]) = ("Redis killed at a cell", CELL);

/// The stack of the measurement in `scan`.
pub(crate) const SCAN_UP: &[&str] = CELL;

/// What the router adds is measured between a public cell and a cell of the same build behind a router.
pub(crate) const ADDED_UP: [&[&str]; 2] = [CELL_EVERYSEC, WORLD_EVERYSEC];

/// The stacks of the measurement in `telemetry`.
pub(crate) const TELEMETRY_UP: &[&str] = WORLD_EVERYSEC;

/// The stack of the measurement in `swap`.
pub(crate) const SWAP_UP: &[&str] = CELL_EVERYSEC;

/// The stack of the measurement in `exceptions`: two cells, so that users can live off the ring.
pub(crate) const EXCEPTIONS_UP: &[&str] = &["up", "--regions", "1", "--cells", "2"];

/// The stack of the measurement in `memory`.
pub(crate) const MEMORY_UP: &[&str] = CELL;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_single_cell_can_show_needs_no_router() {
        for run in RUNS {
            assert_eq!(run.up[0] == "up", run.name.contains("through the router"), "{}", run.name);
        }
    }
}

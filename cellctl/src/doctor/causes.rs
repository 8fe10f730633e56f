//! From what was seen to why: one cause may be seen as many conditions, at many processes.

use super::look::{Seen, SeenStore, Store};
use crate::fleet::MemberRole;
use std::collections::BTreeSet;

/// Why something is not as it should be.
#[derive(Clone, Debug, Default)]
pub(super) struct Cause {
    /// A condition's name, `router-away`, or `store-away`.
    pub(super) kind: String,
    pub(super) title: String,
    pub(super) failing: bool,
    pub(super) since_ms: Option<u64>,
    pub(super) for_s: Option<f64>,
    pub(super) regions: BTreeSet<String>,
    pub(super) cells: BTreeSet<String>,
    /// The process that is to be started again, of a local stack.
    pub(super) process: Option<String>,
    pub(super) runbook: String,
    pub(super) symptoms: Vec<Symptom>,
    pub(super) hit: String,
    pub(super) next: Vec<String>,
}

/// A condition of a process, or that it does not answer.
#[derive(Clone, Debug)]
pub(super) struct Symptom {
    pub(super) process: String,
    pub(super) region: String,
    pub(super) cell: Option<String>,
    pub(super) condition: String,
    pub(super) what: String,
    pub(super) failing: bool,
    pub(super) since_ms: Option<u64>,
    pub(super) for_s: Option<f64>,
    pub(super) runbook: String,
}

/// That a process does not answer is no condition: nobody is in it who could say so.
pub(super) const SILENT: &str = "silent";
const NOT_READY: &str = "not-ready";

/// The causes of everything that was seen. Each symptom belongs to one of them.
pub(super) fn deduce(seen: &Seen) -> Vec<Cause> {
    let mut open = Open { symptoms: symptoms(seen), causes: Vec::new() };
    open.stores(seen);
    open.silent_processes(seen);
    open.of_cells("disk-full", &["redis-away", "postgres-away", "shard-closed"]);
    open.of_cells("redis-away", &["shard-closed"]);
    open.of_cells("postgres-away", &["shard-closed"]);
    open.directory();
    for own in ["overloaded", "clock-disputed", "policy-faulting", "cache-away", "catalog-unfit", "shard-closed"] {
        open.of_cells(own, &[]);
    }
    open.rest();
    open.causes
}

fn symptoms(seen: &Seen) -> Vec<Symptom> {
    let mut all = Vec::new();
    for one in &seen.members {
        let symptom = |condition: &str, what: String, failing: bool| Symptom {
            process: one.member.name.clone(),
            region: one.member.region.clone(),
            cell: one.member.cell.clone(),
            condition: condition.to_owned(),
            what,
            failing,
            since_ms: None,
            for_s: None,
            runbook: String::new(),
        };
        match &one.said {
            Err(why) => all.push(symptom(SILENT, why.clone(), true)),
            Ok(said) => {
                all.extend(said.conditions.iter().map(|held| Symptom {
                    since_ms: Some(held.since_ms),
                    for_s: Some(held.for_s),
                    runbook: held.runbook.clone(),
                    ..symptom(&held.name, held.what.clone(), held.failing)
                }));
                if !said.ready {
                    all.push(symptom(NOT_READY, said.reasons.join("; "), true));
                }
            }
        }
    }
    all
}

/// What is not explained yet, and what has been found.
struct Open {
    symptoms: Vec<Symptom>,
    causes: Vec<Cause>,
}

impl Open {
    /// Takes the symptoms that `cause` explains, and with them since when it is.
    fn push(&mut self, mut cause: Cause, explains: impl Fn(&Symptom) -> bool) {
        let (taken, left): (Vec<_>, Vec<_>) = self.symptoms.drain(..).partition(|symptom| explains(symptom));
        self.symptoms = left;
        cause.failing |= taken.iter().any(|symptom| symptom.failing);
        if let Some(first) = taken.iter().filter(|symptom| symptom.since_ms.is_some()).min_by_key(|one| one.since_ms) {
            (cause.since_ms, cause.for_s) = (first.since_ms, first.for_s);
        }
        for symptom in &taken {
            cause.regions.insert(symptom.region.clone());
            if let Some(cell) = &symptom.cell {
                cause.cells.insert(cell.clone());
            }
        }
        cause.symptoms.extend(taken);
        self.causes.push(cause);
    }

    /// Stores that do not answer on their own port: nothing explains more.
    fn stores(&mut self, seen: &Seen) {
        for store in seen.stores.iter().filter(|store| !store.answers) {
            let (kind, conditions) = explained(store.store, seen.directory_in_cell);
            let kind = if store.no_room { "disk-full" } else { kind };
            let state = match (store.running, store.no_room) {
                (_, true) => "has ended because its disk is full",
                (true, _) => "runs and does not answer",
                (false, _) => "is not running",
            };
            let of = store.cell.as_ref().map(|cell| format!(" of cell {cell}")).unwrap_or_default();
            let cause = Cause {
                kind: kind.to_owned(),
                title: format!("{}{of} {state}", named(store)),
                regions: store.region.iter().cloned().collect(),
                cells: store.cell.iter().cloned().collect(),
                process: Some(store.name.clone()),
                runbook: if kind == "store-away" { "redis-away" } else { kind }.to_owned(),
                ..Cause::default()
            };
            let everywhere = store.store == Store::Directory;
            let cell = store.cell.clone();
            self.push(cause, |symptom| {
                let here = everywhere || (symptom.cell.is_some() && symptom.cell == cell);
                let told_of = symptom.condition == "cell-away" && names(&symptom.what, cell.as_deref());
                (here && conditions.contains(&symptom.condition.as_str())) || (told_of && !everywhere)
            });
        }
    }

    /// Routers and cells that nobody hears.
    fn silent_processes(&mut self, seen: &Seen) {
        for one in seen.members.iter().filter(|one| one.said.is_err()) {
            let (member, router) = (&one.member, one.member.role == MemberRole::Router);
            let beside = seen.members.iter().filter(|other| match router {
                true => other.member.role == MemberRole::Router && other.member.region == member.region,
                false => other.member.cell == member.cell,
            });
            let others = beside.filter(|other| other.said.is_ok()).count();
            let (kind, of) = match &member.cell {
                Some(cell) => ("cell-away", format!("a process of cell {cell}")),
                None => ("router-away", format!("the router of region {}", member.region)),
            };
            let rest = if others > 0 { format!("; {others} beside it do") } else { String::new() };
            let cause = Cause {
                kind: kind.to_owned(),
                title: format!("{of} ({}) does not answer{rest}", member.name),
                process: Some(member.name.clone()),
                runbook: kind.to_owned(),
                ..Cause::default()
            };
            let (name, cell) = (member.name.clone(), member.cell.clone());
            self.push(cause, |symptom| {
                let told_of = symptom.condition == "cell-away" && names(&symptom.what, cell.as_deref());
                (symptom.condition == SILENT && symptom.process == name) || (told_of && !router)
            });
            // With another beside it, its users are served.
            if let Some(cause) = self.causes.last_mut().filter(|_| others > 0) {
                let worse = |symptom: &Symptom| symptom.failing && symptom.condition != SILENT;
                cause.failing = cause.symptoms.iter().any(worse);
            }
        }
    }

    /// A condition that is a cause by itself, a cell at a time, with those of the cell that follow from it.
    fn of_cells(&mut self, condition: &str, follow: &[&str]) {
        loop {
            let first = self.symptoms.iter().find(|one| one.condition == condition && one.cell.is_some());
            let Some(first) = first.cloned() else { return };
            let cell = first.cell.clone();
            let cause = Cause {
                kind: condition.to_owned(),
                title: title(condition, cell.as_deref().unwrap_or_default()),
                runbook: first.runbook.clone(),
                ..Cause::default()
            };
            self.push(cause, |symptom| {
                let told_of = symptom.condition == "cell-away" && names(&symptom.what, cell.as_deref());
                let same = symptom.cell == cell;
                let follows = symptom.condition == NOT_READY || follow.contains(&symptom.condition.as_str());
                (same && (symptom.condition == condition || follows)) || told_of
            });
        }
    }

    /// Seen by all who speak to it, it is the directory; by some, what is between.
    fn directory(&mut self) {
        let away = |symptom: &Symptom| symptom.condition == "directory-away";
        let told: Vec<&str> = self.symptoms.iter().filter(|one| away(one)).map(|one| one.process.as_str()).collect();
        let whom = match &told[..] {
            [] => return,
            [one] => (*one).to_owned(),
            all => format!("any of {} processes", all.len()),
        };
        let cause = Cause {
            kind: "directory-away".into(),
            title: format!("the directory does not answer {whom}"),
            runbook: "directory-away".into(),
            ..Cause::default()
        };
        let follows = ["directory-away", "no-topology", "no-catalog"];
        self.push(cause, |symptom| follows.contains(&symptom.condition.as_str()));
    }

    /// What nothing else explains stands for itself.
    fn rest(&mut self) {
        while let Some(first) = self.symptoms.first().cloned() {
            let who = match &first.cell {
                Some(cell) => format!("cell {cell}"),
                None => format!("the router of region {}", first.region),
            };
            let cause = Cause {
                kind: first.condition.clone(),
                title: format!("{who}: {}", first.condition),
                runbook: if first.runbook.is_empty() { "shard-closed".into() } else { first.runbook.clone() },
                ..Cause::default()
            };
            let (process, condition) = (first.process.clone(), first.condition.clone());
            let cause = match condition.as_str() {
                "cell-away" => Cause {
                    title: format!("{who} does not reach cells that say nothing of it"),
                    cells: cells_in(&first.what),
                    ..cause
                },
                _ => cause,
            };
            self.push(cause, |symptom| symptom.process == process && symptom.condition == condition);
        }
    }
}

/// What a store that is away is seen as.
fn explained(store: Store, directory_in_cell: bool) -> (&'static str, &'static [&'static str]) {
    match store {
        Store::QuotaRedis => ("redis-away", &["redis-away", "shard-closed", "disk-full", NOT_READY]),
        Store::QuotaSpare => ("store-away", &[]),
        Store::CacheRedis => ("cache-away", &["cache-away"]),
        Store::Postgres if directory_in_cell => {
            ("postgres-away", &["postgres-away", "directory-away", "shard-closed", NOT_READY])
        }
        Store::Postgres => ("postgres-away", &["postgres-away", "shard-closed", NOT_READY]),
        Store::Directory => ("directory-away", &["directory-away", "no-topology", "no-catalog"]),
    }
}

fn named(store: &SeenStore) -> String {
    match store.store {
        Store::QuotaRedis => "the quota Redis".to_owned(),
        Store::QuotaSpare => format!("{} beside the quota Redis", store.name),
        Store::CacheRedis => "the cache Redis".to_owned(),
        Store::Postgres => "Postgres".to_owned(),
        Store::Directory => "the directory".to_owned(),
    }
}

fn title(condition: &str, cell: &str) -> String {
    match condition {
        "redis-away" => format!("cell {cell} cannot use its quota Redis"),
        "postgres-away" => format!("cell {cell} does not reach its Postgres"),
        "cache-away" => format!("cell {cell} does not reach its cache Redis"),
        "shard-closed" => format!("shards of cell {cell} are closed"),
        "disk-full" => format!("a disk of cell {cell} is full"),
        "overloaded" => format!("cell {cell} is asked more than it can decide"),
        "clock-disputed" => format!("the clock of cell {cell}'s machine is wrong"),
        "policy-faulting" => format!("a policy faults in cell {cell}"),
        "catalog-unfit" => format!("cell {cell} cannot use the catalog as it is"),
        other => format!("cell {cell}: {other}"),
    }
}

/// Whether a router's sentence is about this cell: `cell eu-1` is not `cell eu-10`.
fn names(what: &str, cell: Option<&str>) -> bool {
    let Some(cell) = cell else { return false };
    what.split("; ").any(|part| {
        let rest = part.strip_prefix("cell ").and_then(|rest| rest.strip_prefix(cell));
        rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-'))
    })
}

/// The cells that a router's sentence is about.
fn cells_in(what: &str) -> BTreeSet<String> {
    let parts = what.split("; ").filter_map(|part| part.strip_prefix("cell "));
    parts.filter_map(|rest| rest.split_whitespace().next()).map(str::to_owned).collect()
}

#[cfg(test)]
#[path = "causes/tests.rs"]
mod tests;

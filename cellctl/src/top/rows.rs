//! The numbers of a frame, from two looks.

use super::Look;
use crate::fleet::{Fleet, Member, MemberRole, Said};
use crate::metrics_text::{Classes, Scrape};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Frame {
    pub(super) over_s: f64,
    pub(super) doors: Vec<Door>,
    pub(super) cells: Vec<Cell>,
    pub(super) conditions: Vec<InForce>,
    /// Processes that did not answer in time.
    pub(super) silent: Vec<String>,
}

/// A router, or a cell that callers ask themselves.
#[derive(Serialize)]
pub(super) struct Door {
    pub(super) region: String,
    pub(super) name: String,
    pub(super) requests_per_s: f64,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) denied_per_s: f64,
    /// Answers that are none.
    pub(super) failed_per_s: f64,
    pub(super) directory_age_s: Option<f64>,
}

/// A process of a cell.
#[derive(Serialize)]
pub(super) struct Cell {
    pub(super) region: String,
    pub(super) cell: String,
    pub(super) name: String,
    pub(super) checks_per_s: f64,
    pub(super) commit_p50_ms: Option<f64>,
    pub(super) commit_p99_ms: Option<f64>,
    pub(super) refused_per_s: f64,
    /// The oldest entry that Postgres does not hold, where the process says so.
    pub(super) lag_s: Option<f64>,
    pub(super) shards: Vec<Shard>,
}

#[derive(Serialize)]
pub(super) struct Shard {
    pub(super) shard: String,
    /// `redis`, `postgres` or `closed`.
    pub(super) mode: &'static str,
    pub(super) fence: u64,
    pub(super) undrained: u64,
}

#[derive(Serialize)]
pub(super) struct InForce {
    pub(super) process: String,
    pub(super) condition: String,
    pub(super) for_s: f64,
    pub(super) what: String,
    pub(super) failing: bool,
}

impl Frame {
    pub(super) fn of(fleet: &Fleet, before: &Look, now: &Look) -> Self {
        let over_s = now.at.saturating_duration_since(before.at).as_secs_f64().max(f64::EPSILON);
        let mut frame =
            Frame { over_s, doors: Vec::new(), cells: Vec::new(), conditions: Vec::new(), silent: Vec::new() };
        for ((member, before), now) in fleet.members.iter().zip(&before.said).zip(&now.said) {
            let Some((metrics, said)) = now else {
                frame.silent.push(member.name.clone());
                continue;
            };
            frame.conditions.extend(conditions(member, said));
            // Without an earlier look there is no rate yet.
            let (before, over_s) = before.as_ref().map_or((metrics, f64::INFINITY), |(before, _)| (before, over_s));
            let rates = Rates { before, now: metrics, over_s };
            if member.door {
                frame.doors.push(rates.door(member));
            }
            if member.role == MemberRole::Cell {
                frame.cells.push(rates.cell(member, said));
            }
        }
        frame.conditions.sort_by(|one, other| other.failing.cmp(&one.failing).then(other.for_s.total_cmp(&one.for_s)));
        frame
    }
}

fn conditions<'f>(member: &'f Member, said: &'f Said) -> impl Iterator<Item = InForce> + 'f {
    said.conditions.iter().map(|held| InForce {
        process: member.name.clone(),
        condition: held.name.clone(),
        for_s: held.for_s,
        what: held.what.clone(),
        failing: held.failing,
    })
}

/// A process at two moments.
struct Rates<'r> {
    before: &'r Scrape,
    now: &'r Scrape,
    over_s: f64,
}

impl Rates<'_> {
    /// Of a counter. One that has gone back began anew.
    fn rate(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let (before, now) = (self.before.sum(name, labels), self.now.sum(name, labels));
        (if now < before { now } else { now - before }) / self.over_s
    }

    fn classes(&self, name: &str) -> Classes {
        self.now.histogram(name, "", &[]).since(&self.before.histogram(name, "", &[]))
    }

    fn failed(&self) -> f64 {
        let statuses = self.now.by("cellar_requests_total", "status").into_keys().filter(|code| code.starts_with('5'));
        statuses.map(|status| self.rate("cellar_requests_total", &[("status", &status)])).sum()
    }

    fn door(&self, member: &Member) -> Door {
        let seconds = self.classes("cellar_request_seconds");
        let ms = |part| seconds.quantile(part).map(|seconds| 1_000.0 * seconds);
        Door {
            region: member.region.clone(),
            name: member.name.clone(),
            requests_per_s: self.rate("cellar_requests_total", &[]),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            denied_per_s: self.rate("cellar_verdicts_total", &[("verdict", "denied")]),
            failed_per_s: self.failed(),
            directory_age_s: self.now.max("cellar_directory_age_seconds"),
        }
    }

    fn cell(&self, member: &Member, said: &Said) -> Cell {
        let seconds = self.classes("cellar_quota_commit_seconds");
        let ms = |part| seconds.quantile(part).map(|seconds| 1_000.0 * seconds);
        Cell {
            region: said.process.region.clone(),
            cell: said.process.name.clone(),
            name: member.name.clone(),
            checks_per_s: self.rate("cellar_quota_batch_checks_sum", &[]),
            commit_p50_ms: ms(0.5),
            commit_p99_ms: ms(0.99),
            refused_per_s: self.rate("cellar_quota_shed_total", &[]) + self.failed(),
            lag_s: self.now.max("cellar_quota_undrained_age_seconds"),
            shards: self.shards(),
        }
    }

    fn shards(&self) -> Vec<Shard> {
        let of = |name: &str| self.now.by(name, "shard");
        let (open, fence) = (of("cellar_quota_shard_open"), of("cellar_quota_fence"));
        let (on_postgres, undrained) = (of("cellar_quota_on_postgres"), of("cellar_quota_undrained_entries"));
        let value =
            |of: &std::collections::BTreeMap<String, f64>, shard: &String| of.get(shard).copied().unwrap_or(0.0);
        let mut shards: Vec<Shard> = open
            .iter()
            .map(|(shard, open)| Shard {
                shard: shard.clone(),
                mode: match (*open > 0.0, value(&on_postgres, shard) > 0.0) {
                    (false, _) => "closed",
                    (true, true) => "postgres",
                    (true, false) => "redis",
                },
                fence: value(&fence, shard) as u64,
                undrained: value(&undrained, shard) as u64,
            })
            .collect();
        shards.sort_by_key(|shard| shard.shard.parse::<u32>().unwrap_or(u32::MAX));
        shards
    }
}

//! What came of a play: verdicts by tier, speed by cell, and whether the books agree.

use super::people::Person;
use super::play::tier_of;
use crate::table::{grouped, write_table};
use cellar_model::wire::AuditedUser;
use cellar_model::{CellName, UserId};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

/// Mismatches printed; all of them are in the JSON.
const MISMATCHES_SHOWN: usize = 10;

/// One request, answered.
pub(super) struct Played {
    pub(super) person: usize,
    pub(super) tokens: u64,
    pub(super) verdict: Verdicts,
    pub(super) took: Duration,
}

pub(super) enum Verdicts {
    Allowed,
    /// By these slots.
    Denied(Vec<String>),
    /// More than the tier can ever admit.
    TooLarge,
}

#[derive(Serialize)]
pub(super) struct Report {
    tiers: BTreeMap<String, TierLine>,
    total: TierLine,
    speed: Speed,
    pub(super) books: Books,
}

#[derive(Default, Serialize)]
struct TierLine {
    users: u64,
    requests: u64,
    allowed: u64,
    /// By slot; a request that two slots deny counts for both.
    denied: BTreeMap<String, u64>,
    too_large: u64,
    tokens_asked: u64,
    tokens_charged: u64,
    tokens_refused: u64,
}

#[derive(Serialize)]
struct Speed {
    seconds: f64,
    requests_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    cells: BTreeMap<String, CellSpeed>,
}

#[derive(Serialize)]
struct CellSpeed {
    requests: u64,
    p50_ms: f64,
    p99_ms: f64,
}

#[derive(Serialize)]
pub(super) struct Books {
    users: usize,
    requests: u64,
    tokens: u64,
    pub(super) mismatches: Vec<String>,
}

impl TierLine {
    fn count(&mut self, played: &Played) {
        self.requests += 1;
        self.tokens_asked += played.tokens;
        match &played.verdict {
            Verdicts::Allowed => {
                self.allowed += 1;
                self.tokens_charged += played.tokens;
                return;
            }
            Verdicts::Denied(slots) => {
                for slot in slots {
                    *self.denied.entry(slot.clone()).or_default() += 1;
                }
            }
            Verdicts::TooLarge => self.too_large += 1,
        }
        self.tokens_refused += played.tokens;
    }
}

impl Report {
    pub(super) fn new(
        people: &[Person],
        users: &[UserId],
        homes: &[String],
        played: Vec<Played>,
        elapsed: Duration,
        audited: Vec<(CellName, AuditedUser)>,
    ) -> Self {
        let (mut tiers, mut total) = (BTreeMap::<String, TierLine>::new(), TierLine::default());
        for number in 0..people.len() {
            tiers.entry(tier_of(people, number).to_string()).or_default().users += 1;
            total.users += 1;
        }
        for one in &played {
            tiers.entry(tier_of(people, one.person).to_string()).or_default().count(one);
            total.count(one);
        }
        let speed = Speed::new(homes, &played, elapsed);
        let books = Books::new(people, users, &played, audited);
        Self { tiers, total, speed, books }
    }
}

impl Speed {
    fn new(homes: &[String], played: &[Played], elapsed: Duration) -> Self {
        let (mut all, mut cells) = (latencies(), BTreeMap::new());
        for one in played {
            let us = u64::try_from(one.took.as_micros()).unwrap_or(u64::MAX);
            all.saturating_record(us);
            cells.entry(homes[one.person].clone()).or_insert_with(latencies).saturating_record(us);
        }
        let cells = cells.into_iter().map(|(cell, took)| {
            (cell, CellSpeed { requests: took.len(), p50_ms: ms(&took, 0.5), p99_ms: ms(&took, 0.99) })
        });
        let seconds = elapsed.as_secs_f64();
        Self {
            seconds,
            requests_per_second: played.len() as f64 / seconds.max(1e-9),
            p50_ms: ms(&all, 0.5),
            p99_ms: ms(&all, 0.99),
            cells: cells.collect(),
        }
    }
}

/// Microseconds, to three digits, up to ten minutes.
fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("bounds that the histogram's own rules allow")
}

fn ms(took: &Histogram<u64>, quantile: f64) -> f64 {
    took.value_at_quantile(quantile) as f64 / 1_000.0
}

impl Books {
    /// Admitted by the client = ledger = records, user by user.
    fn new(people: &[Person], users: &[UserId], played: &[Played], audited: Vec<(CellName, AuditedUser)>) -> Self {
        let mut admitted = vec![(0u64, 0u64); people.len()];
        for one in played.iter().filter(|one| matches!(one.verdict, Verdicts::Allowed)) {
            admitted[one.person].0 += 1;
            admitted[one.person].1 += one.tokens;
        }
        let audited: HashMap<UserId, AuditedUser> =
            audited.into_iter().map(|(_, user)| (user.user_id.clone(), user)).collect();
        let mut mismatches = Vec::new();
        for (number, (user, (requests, tokens))) in users.iter().zip(&admitted).enumerate() {
            let label = &people[number].label;
            let Some(books) = audited.get(user) else {
                mismatches.push(format!("user {label}: no cell has him"));
                continue;
            };
            if let Some(what) = books.mismatch() {
                mismatches.push(format!("user {label}: {what}"));
            }
            // What is negative is no sum of charges: it equals nothing that was admitted.
            let ledger = |unit: &str| u64::try_from(books.ledger.get(unit).copied().unwrap_or(0)).unwrap_or(u64::MAX);
            if (ledger("requests"), ledger("tokens"), books.admitted) != (*requests, *tokens, *requests) {
                mismatches.push(format!(
                    "user {label}: {requests} requests and {tokens} tokens were admitted, the ledger has {} and {} in {} checks",
                    ledger("requests"), ledger("tokens"), books.admitted
                ));
            }
        }
        let (requests, tokens) = admitted.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        Self { users: users.len(), requests, tokens, mismatches }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots: BTreeSet<&String> = self.tiers.values().flat_map(|line| line.denied.keys()).collect();
        let mut header = vec!["tier".to_owned(), "users".into(), "requests".into(), "allowed".into()];
        header.extend(slots.iter().map(|slot| format!("denied {slot}")));
        header.extend(["too large", "tokens asked", "charged", "refused"].map(str::to_owned));
        let mut rows = vec![header];
        let total = std::iter::once((&"total".to_owned(), &self.total))
            .map(|(name, line)| line.row(name, &slots))
            .collect::<Vec<_>>();
        rows.extend(self.tiers.iter().map(|(name, line)| line.row(name, &slots)));
        rows.extend(total);
        write_table(f, &rows)?;
        writeln!(
            f,
            "\n{:.0} requests/s   p50 {:.2} ms   p99 {:.2} ms   ({:.1} s)",
            self.speed.requests_per_second, self.speed.p50_ms, self.speed.p99_ms, self.speed.seconds
        )?;
        let mut rows = vec![["cell", "requests", "p50 ms", "p99 ms"].map(str::to_owned).to_vec()];
        rows.extend(self.speed.cells.iter().map(|(cell, speed)| {
            vec![cell.clone(), grouped(speed.requests), format!("{:.2}", speed.p50_ms), format!("{:.2}", speed.p99_ms)]
        }));
        write_table(f, &rows)?;
        writeln!(f)?;
        self.books.fmt(f)
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mismatches.is_empty() {
            return write!(
                f,
                "books agree: {} requests and {} tokens admitted = ledger = Redis records = Postgres records, for each of {} users",
                grouped(self.requests),
                grouped(self.tokens),
                grouped(self.users as u64)
            );
        }
        write!(f, "BOOKS DO NOT AGREE for {} users:", self.mismatches.len())?;
        for mismatch in self.mismatches.iter().take(MISMATCHES_SHOWN) {
            write!(f, "\n  {mismatch}")?;
        }
        Ok(())
    }
}

impl TierLine {
    fn row(&self, name: &str, slots: &BTreeSet<&String>) -> Vec<String> {
        let mut row = vec![name.to_owned(), grouped(self.users), grouped(self.requests), grouped(self.allowed)];
        row.extend(slots.iter().map(|slot| grouped(self.denied.get(*slot).copied().unwrap_or(0))));
        row.extend([self.too_large, self.tokens_asked, self.tokens_charged, self.tokens_refused].map(grouped));
        row
    }
}

//! Which conditions a cell's process is in: looked at once a second, from what its parts know anyway.

use crate::accounts::Accounts;
use crate::catalog::CatalogFollower;
use cellar_directory::OpenDirectory;
use cellar_quota::rollout::{self, SlotFaults};
use cellar_quota::{Quota, QuotaFacts};
use cellar_server::{Condition, Conditions, LOOK_EVERY, Seen};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Looks in a row that the quota Redis is silent at before it counts as away, if no shard has found out before: a
/// machine under load answers some of them late.
const SILENT_LOOKS: u32 = 5;
/// Looks in a row at which a shard is closed: a turn among healthy stores takes milliseconds.
const CLOSED_LOOKS: u32 = 2;
/// And at which the cache is silent, which is given a tenth of a second.
const CACHE_LOOKS: u32 = 3;
/// Slots that one sentence names.
const NAMED_MAX: usize = 3;

/// What looks, and what it saw last.
pub(crate) struct CellWatch {
    pub(crate) conditions: Conditions,
    pub(crate) quota: Quota,
    pub(crate) accounts: Accounts,
    pub(crate) catalog: Arc<CatalogFollower<OpenDirectory>>,
    pub(crate) data_dir: PathBuf,
    before: Before,
}

#[derive(Default)]
struct Before {
    facts: QuotaFacts,
    /// By slot. No more than the catalog has.
    faults: HashMap<String, u64>,
    closed_looks: u32,
    cache_silent_looks: u32,
}

impl CellWatch {
    pub(crate) fn new(
        conditions: Conditions,
        quota: Quota,
        accounts: Accounts,
        catalog: Arc<CatalogFollower<OpenDirectory>>,
        data_dir: PathBuf,
    ) -> Self {
        Self { conditions, quota, accounts, catalog, data_dir, before: Before::default() }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            self.look().await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn look(&mut self) {
        let facts = self.quota.facts();
        let cache_answers = self.accounts.cache_answers().await;
        let before = &mut self.before;
        before.closed_looks = if facts.closed > 0 { before.closed_looks + 1 } else { 0 };
        before.cache_silent_looks = if cache_answers { 0 } else { before.cache_silent_looks + 1 };
        let tell = |condition, seen| self.conditions.tell(condition, seen);
        tell(Condition::RedisAway, redis_away(&facts));
        tell(Condition::ShardClosed, (before.closed_looks >= CLOSED_LOOKS).then(|| shard_closed(&facts)).flatten());
        tell(Condition::PostgresAway, self.accounts.postgres_is_away().then(|| postgres_away(&facts)).flatten());
        tell(Condition::DirectoryAway, directory_away(self.catalog.directory_silence()));
        tell(Condition::CacheAway, (before.cache_silent_looks >= CACHE_LOOKS).then(cache_away).flatten());
        tell(Condition::ClockDisputed, facts.clock_disputed.then(clock_disputed).flatten());
        let slots = rollout::faults(&self.catalog.tiers().borrow());
        tell(Condition::PolicyFaulting, policy_faulting(&mut before.faults, &slots));
        let room = cellar_server::disk_full(&self.data_dir);
        tell(Condition::DiskFull, disk_full(&before.facts, &facts, room));
        tell(Condition::Overloaded, overloaded(&before.facts, &facts));
        tell(Condition::CatalogUnfit, catalog_unfit(&self.catalog));
        before.facts = facts;
    }
}

fn redis_away(facts: &QuotaFacts) -> Option<Seen> {
    let QuotaFacts { shards, on_postgres, redis_silent_looks, .. } = *facts;
    if on_postgres > 0 {
        let what = format!(
            "{on_postgres} of {shards} shards commit to Postgres: the quota Redis does not answer, or takes no writes"
        );
        return Seen::degraded(what);
    }
    let silent = redis_silent_looks >= SILENT_LOOKS;
    let what = || format!("the quota Redis has not answered for {redis_silent_looks} looks, one a second");
    silent.then(|| Seen::degraded(what())).flatten()
}

fn shard_closed(facts: &QuotaFacts) -> Option<Seen> {
    let (closed, shards) = (facts.closed, facts.shards);
    let what = "no store takes their commits, or a turn is under way";
    Seen::failing(format!("{closed} of {shards} shards are closed, and refuse their users' checks: {what}"))
}

fn postgres_away(facts: &QuotaFacts) -> Option<Seen> {
    let undrained = facts.undrained;
    Seen::degraded(format!(
        "the cell's Postgres does not answer: sign-ups, log-ins and changes are refused, checks go on within autonomy; {undrained} ledger entries wait for it"
    ))
}

fn directory_away(silence: Option<std::time::Duration>) -> Option<Seen> {
    let for_s = silence?.as_secs();
    Seen::degraded(format!(
        "the directory has not been read for {for_s} s: sign-ups and changes of an e-mail are refused, nothing new of the catalog comes"
    ))
}

fn cache_away() -> Option<Seen> {
    Seen::degraded("the cache Redis does not answer: profiles and sessions are read from Postgres")
}

fn clock_disputed() -> Option<Seen> {
    Seen::degraded(
        "this machine's wall clock has stepped, and the clocks of Redis and Postgres do not agree with it: policy time goes on without it",
    )
}

/// Seen while one faults, or is left alone for its faults.
fn policy_faulting(before: &mut HashMap<String, u64>, slots: &[SlotFaults]) -> Option<Seen> {
    let mut faulting: Vec<String> = Vec::new();
    let mut failing = false;
    for slot in slots {
        // One that was put in force anew counts anew.
        let since = before.get(&slot.slot).copied().filter(|held| *held <= slot.faults).unwrap_or(0);
        if slot.faults > since || slot.left_alone {
            let so = match (slot.shadow, slot.denies) {
                (true, _) => "a shadow, which binds nobody",
                (false, true) => "its users are denied",
                (false, false) => "its users are admitted without it",
            };
            failing |= slot.denies && !slot.shadow;
            let open = if slot.left_alone { ", and is hardly asked any more" } else { "" };
            faulting.push(format!("{} by {} has faulted {} times{open}: {so}", slot.slot, slot.policy, slot.faults));
        }
    }
    *before = slots.iter().map(|slot| (slot.slot.clone(), slot.faults)).collect();
    let more = faulting.len().saturating_sub(NAMED_MAX);
    faulting.truncate(NAMED_MAX);
    let rest = if more > 0 { format!("; and {more} slots more") } else { String::new() };
    (!faulting.is_empty()).then(|| Seen { what: faulting.join("; ") + &rest, failing })
}

fn disk_full(before: &QuotaFacts, now: &QuotaFacts, room: Option<Seen>) -> Option<Seen> {
    let redis = now.redis_disk_full.saturating_sub(before.redis_disk_full);
    let postgres = now.postgres_disk_full.saturating_sub(before.postgres_disk_full);
    let refused = |store: &str, calls: u64| {
        Seen::degraded(format!("{store} refused {calls} calls within a second because its disk is full"))
    };
    match (redis, postgres) {
        (0, 0) => room,
        (0, calls) => refused("Postgres", calls),
        (calls, _) => refused("the quota Redis", calls),
    }
}

fn overloaded(before: &QuotaFacts, now: &QuotaFacts) -> Option<Seen> {
    let memory = now.out_of_memory.saturating_sub(before.out_of_memory);
    if memory > 0 {
        let all = now.out_of_memory;
        return Seen::failing(format!("the quota Redis is short of memory: {all} commits refused since the start"));
    }
    let refused = now.overloaded.saturating_sub(before.overloaded);
    let all = now.overloaded;
    (refused > 0)
        .then(|| {
            Seen::failing(format!(
                "{refused} checks were refused within a second because too many wait, {all} since the start"
            ))
        })
        .flatten()
}

fn catalog_unfit(catalog: &CatalogFollower<OpenDirectory>) -> Option<Seen> {
    if catalog.tiers().borrow().names().next().is_none() {
        return Seen::failing(catalog.why_no_tier());
    }
    let (tiers, rows) = catalog.unfit();
    let seen = || {
        Seen::degraded(format!(
            "{tiers} tiers are not in force as the catalog has them, and {rows} rows of it cannot be read by this build"
        ))
    };
    (tiers > 0 || rows > 0).then(seen).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(name: &str, faults: u64, left_alone: bool) -> SlotFaults {
        let (slot, policy) = (name.to_owned(), "gcra 1.0.0".to_owned());
        SlotFaults { slot, policy, faults, left_alone, shadow: false, denies: true }
    }

    #[test]
    fn a_policy_faults_while_its_count_grows_or_it_is_left_alone() {
        let mut before = HashMap::new();
        assert_eq!(policy_faulting(&mut before, &[slot("pro/a", 0, false)]), None);
        let seen = policy_faulting(&mut before, &[slot("pro/a", 3, false)]).unwrap();
        assert!(seen.failing && seen.what.contains("pro/a") && seen.what.contains("3 times"), "{seen:?}");
        assert_eq!(policy_faulting(&mut before, &[slot("pro/a", 3, false)]), None);
        assert!(policy_faulting(&mut before, &[slot("pro/a", 3, true)]).is_some());
        assert_eq!(policy_faulting(&mut before, &[slot("pro/a", 0, false)]), None, "in force anew");
        let many: Vec<_> = (0..9).map(|n| slot(&format!("t/{n}"), 1, false)).collect();
        let said = policy_faulting(&mut before, &many).unwrap().what;
        assert!(said.ends_with("and 6 slots more"), "{said}");
    }

    #[test]
    fn what_was_refused_before_the_last_look_is_not_told_again() {
        let now = QuotaFacts { overloaded: 7, redis_disk_full: 2, ..QuotaFacts::default() };
        let seen = overloaded(&QuotaFacts::default(), &now).unwrap();
        assert!(seen.failing && seen.what.starts_with("7 checks"));
        assert_eq!(overloaded(&now, &now), None);
        assert!(disk_full(&QuotaFacts::default(), &now, None).is_some());
        assert_eq!(disk_full(&now, &now, None), None);
    }

    #[test]
    fn redis_is_away_while_postgres_takes_commits_or_it_is_silent_for_some_looks() {
        let facts = |on_postgres, redis_silent_looks| QuotaFacts {
            shards: 4,
            on_postgres,
            redis_silent_looks,
            ..QuotaFacts::default()
        };
        assert_eq!(redis_away(&facts(0, SILENT_LOOKS - 1)), None);
        assert!(redis_away(&facts(0, SILENT_LOOKS)).is_some());
        assert!(redis_away(&facts(4, 0)).unwrap().what.starts_with("4 of 4 shards"));
    }
}

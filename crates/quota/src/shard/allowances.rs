//! What a tier lets its users spend while neither Redis nor Postgres can be asked: only users whom this process
//! has served since its start, each up to the tier's amounts, each charge in the journal before its answer.

use super::{Ask, ShardId};
use crate::clock::{Clock, ClockMode};
use crate::entry::{Act, EntryKind, KeyedAnswer, LedgerCheck, LedgerEntry};
use crate::journal::Journal;
use crate::outcome::Outcome;
use crate::record::RecordBody;
use crate::shard::calls::replay;
use crate::tiers::TierSet;
use cellar_model::{
    Answer, ChargeId, Degraded, Effect, Epoch, Fence, KeyId, OnUnavailable, Operation, Refusal, TierName, TryAgain,
    Unit, UserId, Verdict, Version,
};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use lru::LruCache;
use prometheus_client::metrics::counter::Counter;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;

/// Their charges are numbered from here on: above all that a store commits under the same fence.
const FIRST_VERSION: u64 = 1 << 62;

/// Whether the journal has the charge.
type Written = Shared<BoxFuture<'static, bool>>;

pub(super) struct Allowances {
    shard: ShardId,
    /// None: nothing is allowed.
    journal: Option<Journal>,
    allowed: Counter,
    /// Users of tiers that allow something, with the tier and epoch they were last served in.
    served: LruCache<UserId, (TierName, Epoch)>,
    /// The fence they were served under.
    fence: Fence,
    next: u64,
    /// Since the stores are away, by user.
    spent: HashMap<UserId, HashMap<Unit, u64>>,
    answers: HashMap<KeyId, (Outcome, Written)>,
    /// Postgres was asked and did not answer: until it does, no shard can open.
    in_force: bool,
}

impl Allowances {
    pub(super) fn new(shard: ShardId, journal: Option<Journal>, users_max: usize, allowed: Counter) -> Self {
        Self {
            shard,
            journal,
            allowed,
            served: LruCache::new(NonZeroUsize::new(users_max).unwrap_or(NonZeroUsize::MIN)),
            fence: Fence(0),
            next: FIRST_VERSION,
            spent: HashMap::new(),
            answers: HashMap::new(),
            in_force: false,
        }
    }

    /// A store has committed for `user`, whose tier allows something.
    pub(super) fn has_served(&mut self, user: &UserId, epoch: Epoch, body: &RecordBody) {
        if self.journal.is_none() {
        } else if body.flags.blocked || body.flags.erased {
            self.served.pop(user);
        } else {
            self.served.put(user.clone(), (body.tier.clone(), epoch));
        }
    }

    /// Stands in while a turn borrows the shard.
    pub(super) fn none() -> Self {
        Self::new(ShardId(0), None, 1, Counter::default())
    }

    pub(super) fn opened(&mut self, fence: Fence) {
        (self.fence, self.in_force) = (fence, false);
        self.spent.clear();
        self.answers.clear();
    }

    /// Postgres, which every turn needs and every owner after `autonomy`, answers or does not.
    pub(super) fn postgres_answers(&mut self, answers: bool) {
        self.in_force = !answers;
    }

    /// Answers all of `asks`: what is not allowed is refused for `reason`.
    pub(super) fn answer(&mut self, asks: &mut VecDeque<Ask>, reason: TryAgain, tiers: &TierSet, clock: &Clock) {
        for ask in asks.drain(..) {
            match self.allow(&ask, tiers, clock) {
                Some((verdict, written)) => {
                    tokio::spawn(async move {
                        ask.answer(if written.await { verdict } else { Verdict::try_again(TryAgain::Unknown) });
                    });
                }
                None => ask.answer(Verdict::try_again(reason)),
            }
        }
    }

    /// What `ask` is answered once the journal has it.
    fn allow(&mut self, ask: &Ask, tiers: &TierSet, clock: &Clock) -> Option<(Verdict, Written)> {
        let check = &ask.check;
        if !self.in_force || check.operation != Operation::Consume || self.fence == Fence(0) {
            return None;
        }
        if check.at.is_some() && clock.mode() != ClockMode::Virtual {
            return Some((Verdict::Refused(Refusal::ClockNotVirtual), ready(true)));
        }
        if let Some((key, (outcome, written))) = check.key.and_then(|key| Some((key, self.answers.get(&key.id)?))) {
            return Some((replay(outcome, key.body), written.clone()));
        }
        let (tier_name, epoch) = self.served.peek(&check.user)?.clone();
        let tier = tiers.of(&tier_name, check.user.wave())?;
        let OnUnavailable::AllowUpTo(limits) = &tier.document.on_unavailable else { return None };
        if let Some((unit, _)) = check.cost.iter().find(|(unit, _)| !tier.meters(unit)) {
            return Some((Verdict::Refused(Refusal::UnknownUnit(unit.clone())), ready(true)));
        }
        let costs = |unit: &Unit| check.cost.of_unit(unit).get();
        let spent = self.spent.entry(check.user.clone()).or_default();
        let fits = |(unit, limit): (&Unit, &u64)| {
            let before = spent.get(unit).copied().unwrap_or(0);
            before.saturating_add(costs(unit)) <= *limit
        };
        // What costs none of the units that are bounded would be bounded by nothing.
        if !limits.iter().all(fits) || limits.keys().all(|unit| costs(unit) == 0) {
            return None;
        }
        let version = Version(self.next);
        let charge = ChargeId { epoch, fence: self.fence, version, place: 0 };
        let at = check.at.unwrap_or_else(|| clock.now());
        let answer = Answer {
            charge: Some(charge),
            version,
            tier: tier_name,
            catalog_revision: tiers.revision,
            at,
            slots: Vec::new(),
            effect: Effect::Plain,
        };
        let key = check.key.map(|key| KeyedAnswer {
            id: key.id,
            body: key.body,
            answer: answer.clone(),
            window_s: tier.document.idempotency_window_s,
        });
        let charges = check.cost.iter().filter(|(_, amount)| amount.get() > 0);
        let charged = LedgerCheck {
            charge,
            at,
            act: Act::Consume,
            // An amount is at most 2^40.
            charges: charges.map(|(unit, amount)| (unit.clone(), amount.get() as i64)).collect(),
            takes: Vec::new(),
            key,
        };
        let user = check.user.clone();
        let entry = LedgerEntry { user, epoch, version, kind: EntryKind::Consume, at, checks: vec![charged] };
        let appended = self.journal.as_ref()?.append(self.shard, self.fence, entry)?;
        let written = async move { appended.await.is_ok() }.boxed().shared();
        self.next += 1;
        for unit in limits.keys() {
            *spent.entry(unit.clone()).or_default() += costs(unit);
        }
        if let Some(key) = check.key {
            let outcome = Outcome { body: key.body, answer: answer.clone() };
            self.answers.insert(key.id, (outcome, written.clone()));
        }
        self.allowed.inc();
        Some((Verdict::Admitted { answer, replayed: false, degraded: Some(Degraded::Unavailable) }, written))
    }
}

fn ready(written: bool) -> Written {
    futures::future::ready(written).boxed().shared()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::Remembered;
    use crate::moments::Moments;
    use crate::tiers::Tier;
    use cellar_model::{
        BodyHash, Check, Cost, DeadlineMs, IdempotencyKey, Micros, RevisedTier, Revision, TierDocument,
    };
    use prometheus_client::metrics::gauge::Gauge;
    use std::sync::Arc;
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    struct World {
        allowances: Allowances,
        tiers: TierSet,
        clock: Clock,
        _folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let journal = Journal::open(&folder.path().join("journal"), Gauge::default()).unwrap();
            let document = TierDocument::from_toml(
                r#"name = "pro"
                on_unavailable = { allow_up_to = { tokens = 100 } }
                [[policy]]
                slot = "monthly"
                use = "monthly-bucket@1"
                unit = "tokens""#,
            );
            let tier = RevisedTier { revision: Revision(1), document: document.unwrap() };
            let name = tier.document.name.clone();
            let tier = Tier::new(tier.revision, tier.document, Vec::new());
            let tiers = TierSet::new(Revision(1), [Arc::new(tier)]);
            let mut allowances = Allowances::new(ShardId(0), Some(journal), 10, Counter::default());
            allowances.opened(Fence(3));
            allowances.has_served(&user("u"), Epoch(1), &RecordBody::new(name));
            Self { allowances, tiers, clock: Clock::manual(Micros(5)), _folder: folder }
        }

        async fn ask(&mut self, user_id: &str, cost: &str, key: Option<u8>) -> Verdict {
            let (reply, answer) = oneshot::channel();
            let check = Check {
                user: user(user_id),
                operation: Operation::Consume,
                cost: serde_json::from_str::<Cost>(cost).unwrap(),
                attributes: Vec::new(),
                key: key.map(|n| IdempotencyKey { id: KeyId([n; 16]), body: BodyHash([1; 16]) }),
                at: None,
                deadline: DeadlineMs::QUOTA,
                session: None,
                origin: None,
            };
            let deadline = Instant::now();
            let (moments, remembered) = (Moments::new(deadline.into_std()), Remembered::default());
            let ask = Ask { check, deadline, reply, moments, looked_up: false, found: None, remembered };
            self.allowances.answer(&mut VecDeque::from([ask]), TryAgain::StoreDown, &self.tiers, &self.clock);
            answer.await.unwrap().0
        }
    }

    fn user(id: &str) -> UserId {
        UserId::new(id).unwrap()
    }

    fn is_allowed(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Admitted { degraded: Some(Degraded::Unavailable), replayed: false, .. })
    }

    const REFUSED: Verdict = Verdict::Refused(Refusal::TryAgain { reason: TryAgain::StoreDown });

    #[tokio::test]
    async fn a_served_user_spends_up_to_the_allowance_and_not_a_unit_more() {
        let mut world = World::new();
        assert_eq!(world.ask("u", r#"{"requests": 1, "tokens": 1}"#, None).await, REFUSED, "a store may answer");
        world.allowances.postgres_answers(false);
        assert!(is_allowed(&world.ask("u", r#"{"requests": 1, "tokens": 60}"#, Some(1)).await));
        assert_eq!(world.ask("u", r#"{"tokens": 41, "requests": 1}"#, None).await, REFUSED);
        let replayed = world.ask("u", r#"{"requests": 1, "tokens": 60}"#, Some(1)).await;
        assert!(matches!(replayed, Verdict::Admitted { replayed: true, .. }), "{replayed:?}");
        assert!(is_allowed(&world.ask("u", r#"{"tokens": 40, "requests": 1}"#, None).await));
        assert_eq!(world.ask("u", r#"{"requests": 1}"#, None).await, REFUSED, "bounded by nothing");
        assert_eq!(world.ask("v", r#"{"requests": 1, "tokens": 1}"#, None).await, REFUSED, "never served here");
        assert_eq!(world.allowances.journal.as_ref().unwrap().entries(), 2);
        world.allowances.opened(Fence(4));
        assert_eq!(world.ask("u", r#"{"requests": 1, "tokens": 1}"#, None).await, REFUSED);
    }
}

//! Closing a charge: a settle or a refund, of which each charge sees one.
//!
//! All of them share one idempotency key, made of user and charge: the store takes the first and gives
//! its answer to the others. The record knows the reservations that are open. About any other charge the
//! ledger is asked: what it was, and whether it was closed longer ago than Redis remembers.
//!
//! That is exact, whatever happens meanwhile: the shard says which commit of the user the ledger must
//! hold before it is asked, what is closed after that meets the key in Redis (two hours at least, where
//! a check waits a minute at most), and what was closed before has its key in the ledger for longer than
//! a charge can be closed at all.

use crate::clock::Clock;
use crate::decisions::Remembered;
use crate::entry::LedgerCheck;
use crate::error::StoreError;
use crate::moments::Moments;
use crate::outcome::Outcome;
use crate::shard::{Ask, replay};
use crate::store::postgres::PostgresStore;
use cellar_model::{
    BodyHash, ChargeId, Check, Effect, Fence, IdempotencyKey, KeyId, Micros, Operation, Refusal, TryAgain, Verdict,
    Version,
};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

const DAY_S: u32 = 86_400;
/// The oldest charge that can be closed, in policy time: more than any month.
const CHARGE_AGE_MAX_US: u64 = 40 * DAY_S as u64 * 1_000_000;
/// For how long the ledger remembers what closed a charge: longer than a charge can be closed.
pub(crate) const WINDOW_S: u32 = 41 * DAY_S;
/// For how long Redis does, at least: far longer than any check is under way.
const EXPIRY_MIN_S: u32 = 7_200;
/// Look-ups that ask Postgres at once: they share its connections with the drains, which come first.
const QUERIES_MAX: usize = 2;

/// For how long Redis keeps the answer to a closing, in a tier with this window.
pub(crate) fn expiry_s(window_s: u32) -> u32 {
    (window_s * 2).max(EXPIRY_MIN_S)
}

/// Puts a closing under its charge's key. Other checks keep the one they have.
pub(crate) fn put_key(check: &mut Check) {
    let body = match &check.operation {
        Operation::Settle { .. } => {
            // Plain data into memory: this cannot fail.
            let asked = postcard::to_allocvec(&(&check.cost, &check.attributes)).unwrap_or_default();
            BodyHash::of(&[b"settle", &asked])
        }
        Operation::Refund { .. } => refund_body(),
        _ => return,
    };
    if let Some(charge) = check.operation.closes() {
        check.key = Some(IdempotencyKey { id: KeyId::closing(&check.user, charge), body });
    }
}

/// All refunds of a charge ask the same.
fn refund_body() -> BodyHash {
    BodyHash::of(&[b"refund"])
}

/// What a key's second body is told. A settle with another cost reuses a key; a settle of what was
/// refunded, or a refund of what was settled, finds its charge closed.
pub(crate) fn mismatch(first: &Outcome, second: BodyHash) -> Refusal {
    match first.answer.effect {
        Effect::Refunded => Refusal::ChargeClosed,
        Effect::Settled { .. } if second == refund_body() => Refusal::ChargeClosed,
        _ => Refusal::KeyReused,
    }
}

/// Asks the ledger about charges.
pub(crate) struct LookUps {
    clock: Clock,
    queries: Semaphore,
}

impl LookUps {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, queries: Semaphore::new(QUERIES_MAX) }
    }

    /// What the ledger has of the charge that `check` closes; or the verdict, where nothing is left to
    /// decide. While the ledger does not hold the user's commit `as_of` there is nothing to be said: the
    /// one who asks asks again. Nobody waits here, for other checks came in the same call.
    pub(crate) async fn find(
        &self,
        postgres: &PostgresStore,
        check: &Check,
        charge: ChargeId,
        as_of: (Fence, Version),
        deadline: Instant,
    ) -> Result<Box<LedgerCheck>, Verdict> {
        let found = self.find_within(postgres, check, charge, as_of);
        match tokio::time::timeout_at(deadline, found).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a charge cannot be looked up");
                Err(Verdict::try_again(TryAgain::StoreDown))
            }
            Err(_) => Err(Verdict::try_again(TryAgain::Deadline)),
        }
    }

    async fn find_within(
        &self,
        postgres: &PostgresStore,
        check: &Check,
        charge: ChargeId,
        as_of: (Fence, Version),
    ) -> Result<Result<Box<LedgerCheck>, Verdict>, StoreError> {
        // The semaphore is never closed.
        let _place = self.queries.acquire().await.ok();
        if postgres.drained_head(&check.user).await? < Some(as_of) {
            let (fence, version) = as_of;
            return Ok(Err(Verdict::Refused(Refusal::Undrained { fence, version })));
        }
        if let Some(key) = check.key
            && let Some(first) = postgres.find_keys(&[key.id]).await?.remove(&key.id)
        {
            let unreadable = || Verdict::try_again(TryAgain::NotReady);
            return Ok(Err(first.map_or_else(unreadable, |first| replay(&first, key.body))));
        }
        let now = check.at.unwrap_or_else(|| self.clock.now());
        let since = Micros(now.0.saturating_sub(CHARGE_AGE_MAX_US));
        let found = postgres.find_charge(&check.user, charge, since).await?;
        Ok(found.map(Box::new).ok_or(Verdict::Refused(Refusal::UnknownCharge)))
    }
}

/// A check to be sent once more with what was found.
pub(crate) struct Again {
    pub(crate) check: Check,
    pub(crate) deadline: Instant,
}

impl Again {
    pub(crate) fn ask(self, found: Box<LedgerCheck>, reply: oneshot::Sender<(Verdict, Moments)>) -> Ask {
        Ask {
            check: self.check,
            deadline: self.deadline,
            reply,
            moments: Moments::new(std::time::Instant::now()),
            looked_up: false,
            found: Some(found),
            remembered: Remembered::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::{Amount, Answer, Cost, DeadlineMs, Epoch, Revision, TierName, Unit, UserId};

    fn closing(operation: Operation, tokens: u64) -> IdempotencyKey {
        let mut check = Check {
            user: UserId::new("u").unwrap(),
            operation,
            cost: Cost::tokens(Amount::new(tokens).unwrap()),
            attributes: Vec::new(),
            key: None,
            at: None,
            deadline: DeadlineMs::QUOTA,
            session: None,
            origin: None,
        };
        put_key(&mut check);
        check.key.unwrap()
    }

    fn first(effect: Effect, body: BodyHash) -> Outcome {
        let answer = Answer {
            charge: None,
            version: Version(1),
            tier: TierName::new("pro").unwrap(),
            catalog_revision: Revision(1),
            at: Micros(0),
            slots: Vec::new(),
            effect,
        };
        Outcome { body, answer }
    }

    #[test]
    fn a_charge_is_closed_once_and_its_repeats_are_told_from_its_contradictions() {
        let charge = ChargeId { epoch: Epoch(1), fence: Fence(1), version: Version(1), place: 0 };
        let settle = |tokens| closing(Operation::Settle { charge }, tokens);
        let refund = closing(Operation::Refund { charge }, 9);
        assert_eq!(settle(5).id, refund.id);
        assert_eq!(settle(5), settle(5));
        let settled = first(Effect::Settled { overshoot: vec![(Unit::tokens(), 1)] }, settle(5).body);
        assert!(matches!(replay(&settled, settle(5).body), Verdict::Admitted { replayed: true, .. }));
        assert_eq!(replay(&settled, settle(6).body), Verdict::Refused(Refusal::KeyReused));
        assert_eq!(replay(&settled, refund.body), Verdict::Refused(Refusal::ChargeClosed));
        let refunded = first(Effect::Refunded, refund.body);
        assert_eq!(replay(&refunded, settle(5).body), Verdict::Refused(Refusal::ChargeClosed));
        assert!(matches!(replay(&refunded, closing(Operation::Refund { charge }, 1).body), Verdict::Admitted { .. }));
    }
}

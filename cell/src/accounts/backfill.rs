//! Brings in the next pepper: everyone here with an e-mail gets a claim of it under that pepper too.
//!
//! A missing claim is written CREATING, by the intent by which its user has the e-mail, and then settled as any
//! other claim: by rows that are read after it, held if it still is the user's present e-mail, freed if not. One
//! that stops in between is the reaper's.
//!
//! Whoever has a claim already costs a read, so that a process which begins anew goes on where claims are missing.
//! A pass is repeated for as long as there are two peppers: a process that has only the present one may yet sign
//! somebody up.

use super::claims::stored;
use super::{Accounts, AccountsError, statements};
use cellar_directory::{ClaimState, Claims, Intent, Pepper, claim_rules::Met, claim_steps};
use cellar_model::UserId;
use futures::{StreamExt, TryStreamExt};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::time::Duration;
use tokio::time::Instant;

/// Users looked at in one round of the reaper, at most four of which are made a second: 900,000 in an hour. Each who
/// lacks a claim costs the directory three conditional writes.
const USERS_MAX: i64 = 64;
/// Of these at once.
const AT_ONCE: usize = 8;
/// From the end of a pass that found everybody's claims to the next.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// How far the pass under way has come.
#[derive(Default)]
pub(super) struct Backfill {
    /// The last user looked at; empty where a pass begins.
    after: String,
    /// Users of this pass who could not be given a claim: another one stands there, for the moment.
    in_the_way: u32,
    /// When the next pass begins.
    rests_until: Option<Instant>,
}

impl Backfill {
    /// Whether nothing is to be done at once.
    pub(super) fn rests(&self) -> bool {
        self.after.is_empty()
    }
}

/// What a user's claim under the next pepper was found to be.
enum Found {
    There,
    Written,
    InTheWay,
}

/// Progress, for operators.
#[derive(Clone, Default)]
pub(super) struct Backfilled {
    users: Family<[(&'static str, &'static str); 1], Counter>,
    passes: Counter,
    in_the_way: Gauge,
}

impl Backfilled {
    pub(super) fn register(&self, registry: &mut Registry) {
        for found in ["there", "written", "in_the_way"] {
            self.count(found, 0);
        }
        registry.register(
            "cellar_backfill_users",
            "Users looked at for a claim under the next pepper: it was there, was written, or another is in the way",
            self.users.clone(),
        );
        registry.register(
            "cellar_backfill_passes",
            "Passes over all users of the cell for claims under the next pepper",
            self.passes.clone(),
        );
        registry.register(
            "cellar_backfill_in_the_way",
            "Users without a claim under the next pepper at the end of the last pass",
            self.in_the_way.clone(),
        );
    }

    fn count(&self, found: &'static str, n: u64) {
        self.users.get_or_create(&[("found", found)]).inc_by(n);
    }
}

#[derive(sqlx::FromRow)]
struct EmailRow {
    user_id: String,
    email: String,
    email_intent: String,
}

impl Accounts {
    /// Goes on with the pass by one page of users.
    pub(super) async fn backfill(&self, backfill: &mut Backfill) -> Result<(), AccountsError> {
        let Some(next) = self.0.given.peppers.next() else { return Ok(()) };
        if backfill.rests_until.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        let page: Vec<EmailRow> = sqlx::query_as(statements::EMAILS)
            .bind(&backfill.after)
            .bind(USERS_MAX)
            .fetch_all(&self.0.given.pool)
            .await?;
        let last = page.last().map(|row| row.user_id.clone()).filter(|_| page.len() as i64 == USERS_MAX);
        let found: Vec<Found> = futures::stream::iter(page)
            .map(|row| self.backfill_one(next, row))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for found in found {
            self.0.backfilled.count(
                match found {
                    Found::There => "there",
                    Found::Written => "written",
                    Found::InTheWay => "in_the_way",
                },
                1,
            );
            backfill.in_the_way += u32::from(matches!(found, Found::InTheWay));
        }
        match last {
            Some(last) => backfill.after = last,
            None => self.end_pass(backfill),
        }
        Ok(())
    }

    fn end_pass(&self, backfill: &mut Backfill) {
        self.0.backfilled.passes.inc();
        self.0.backfilled.in_the_way.set(i64::from(backfill.in_the_way));
        // What is in the way is settled by this reaper or another cell's, or freed by a change under way.
        let pause = if backfill.in_the_way > 0 { Duration::ZERO } else { AGAIN_AFTER };
        *backfill = Backfill { rests_until: Some(Instant::now() + pause), ..Backfill::default() };
    }

    async fn backfill_one(&self, next: &Pepper, row: EmailRow) -> Result<Found, AccountsError> {
        let (directory, cell) = (&self.0.given.directory, &self.0.given.cell);
        let user = UserId::new(&row.user_id).map_err(|_| AccountsError::Corrupt("user"))?;
        let intent = Intent::new(&row.email_intent).map_err(|_| AccountsError::Corrupt("intent"))?;
        let email = next.hash(&stored(&row.email)?);
        // This read may be stale: it says at most that there is more to do than there is.
        if let Some(claim) = directory.read_claim(&email).await?
            && (&claim.user, &claim.intent, claim.state) == (&user, &intent, ClaimState::Held)
        {
            return Ok(Found::There);
        }
        let (met, claim) = claim_steps::claim_again(directory, email, &user, cell, &intent).await?;
        if met != Met::Mine || claim.user != user {
            return Ok(Found::InTheWay);
        }
        self.settle(&claim).await?;
        Ok(Found::Written)
    }
}

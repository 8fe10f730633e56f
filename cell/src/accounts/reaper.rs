//! Finishes what its caller did not: sign-ups and changes of e-mail that stopped half way, releases due, homes of
//! enrolled users, and claims that are still missing under a pepper that is being brought in.
//!
//! No claim dies of time. Time only says when to ask: a claim that stands unchanged at two looks, a while
//! apart by this process's own clock, has probably been given up. What becomes of it is decided by rows, and is
//! right however soon it is asked. A claim that names another cell is that cell's; of a cell that is gone for
//! good the claims wait.

use super::backfill::Backfill;
use super::claims::Settled;
use super::{Accounts, AccountsError, statements};
use cellar_directory::{Claim, ClaimCursor, ClaimState, Claims, EmailHash, Op, PAGE_MAX, PepperId, claim_rules};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Between two looks at a claim: several times the longest that a request may take.
const GRACE: Duration = Duration::from_secs(10);
/// Between two pages, so that a cell reads 4,000 claims a second at most: a hundred million in seven hours.
const PAGE_EVERY: Duration = Duration::from_millis(250);
/// Between two passes over all claims, where there are few.
const PASS_EVERY: Duration = Duration::from_secs(5);
/// Claims seen once that are remembered for the second look. More are found again by the next pass.
const SUSPECTS_MAX: usize = 10_000;
/// Claims looked at the second time beside one page: each costs up to four conditional writes.
const SECOND_LOOKS_MAX: usize = 32;

/// Rounds that may fail one after the other before the pass begins anew: more than a few at one page mean the
/// page, not the store.
const FAILURES_MAX: u32 = 10;

/// Claims of this process's own requests that stopped: they need not be found first.
#[derive(Default)]
pub(super) struct Abandoned(Mutex<Vec<Claim>>);

impl Abandoned {
    fn note(&self, claim: Claim) {
        let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.len() < SUSPECTS_MAX {
            claims.push(claim);
        }
    }

    fn take(&self) -> Vec<Claim> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A request that claims an e-mail. If it fails, or its caller goes away, the reaper hears of what it has claimed.
pub(super) struct Begun {
    accounts: Accounts,
    claims: Vec<Claim>,
}

impl Begun {
    pub(super) fn new(accounts: &Accounts) -> Self {
        Self { accounts: accounts.clone(), claims: Vec::new() }
    }

    /// One under each pepper, and more only if they disagree and are met again.
    pub(super) fn note(&mut self, claim: &Claim) {
        self.claims.push(claim.clone());
    }

    /// Nothing is left to do.
    pub(super) fn ended(mut self) {
        self.claims.clear();
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        for claim in self.claims.drain(..) {
            self.accounts.0.abandoned.note(claim);
        }
    }
}

/// What was reaped, by what became of it.
#[derive(Clone, Default)]
pub(super) struct Reaped(Family<[(&'static str, &'static str); 1], Counter>);

impl Reaped {
    pub(super) fn register(&self, registry: &mut Registry) {
        for outcome in ["held", "freed", "passed_on", "released"] {
            self.count(outcome, 0);
        }
        registry.register(
            "cellar_claims_reaped",
            "E-mail claims that were settled behind requests that did not: held for a user who was committed, \
             freed of an intent that was refused, passed on to the user's home, released after a change of e-mail",
            self.0.clone(),
        );
    }

    fn count(&self, outcome: &'static str, n: u64) {
        self.0.get_or_create(&[("outcome", outcome)]).inc_by(n);
    }
}

#[derive(sqlx::FromRow)]
struct HeldRow {
    user_id: String,
    ownership: String,
    email: Option<String>,
    email_intent: Option<String>,
}

/// A claim of this cell seen creating, or held for who has left it.
struct Suspect {
    email: EmailHash,
    op: Op,
    seen: Instant,
}

impl Accounts {
    pub(super) async fn reap(&self, cancel: CancellationToken) {
        let (mut suspects, mut next, mut failures) = (VecDeque::new(), None, 0);
        let mut backfill = Backfill::default();
        loop {
            let round = async {
                self.second_looks(&mut suspects).await?;
                let released = self.release_all().await?;
                self.0.reaped.count("released", released);
                self.confirm_openings().await?;
                let page = self.first_look(&mut suspects, next.as_ref()).await?;
                if let Err(error) = self.backfill(&mut backfill).await {
                    tracing::debug!(error = &error as &dyn std::error::Error, "the next pepper is brought in later");
                }
                Ok::<_, AccountsError>(page)
            };
            let round = tokio::select! {
                () = cancel.cancelled() => return,
                round = round => round,
            };
            let ended = match round {
                Ok(page) => {
                    (next, failures) = (page, 0);
                    next.is_none() && backfill.rests()
                }
                Err(error) => {
                    // The directory or Postgres is away, which others say louder.
                    tracing::debug!(error = &error as &dyn std::error::Error, "claims cannot be settled now");
                    failures += 1;
                    if failures == FAILURES_MAX {
                        (next, failures) = (None, 0);
                    }
                    true
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(if ended { PASS_EVERY } else { PAGE_EVERY }) => {}
            }
        }
    }

    /// Notes the unsettled ones of a page of all claims, and those that requests here gave up. Says where the next
    /// page begins.
    async fn first_look(
        &self,
        suspects: &mut VecDeque<Suspect>,
        from: Option<&ClaimCursor>,
    ) -> Result<Option<ClaimCursor>, AccountsError> {
        let page = self.0.given.directory.claims(from, PAGE_MAX).await?;
        let left = self.held_and_left(&page.claims).await?;
        let seen = Instant::now();
        let abandoned = self.0.abandoned.take();
        let unsettled = page.claims.iter().chain(&abandoned).filter(|claim| self.is_unsettled(claim));
        for claim in unsettled.chain(left) {
            let known = suspects.iter().any(|suspect| suspect.email == claim.email && suspect.op == claim.op);
            if !known && suspects.len() < SUSPECTS_MAX {
                suspects.push_back(Suspect { email: claim.email, op: claim.op.clone(), seen });
            }
        }
        Ok(page.next)
    }

    /// Of a page, the held claims whose user has another e-mail or is gone: who left it may have done so in a
    /// process that had only the other pepper.
    pub(super) async fn held_and_left<'c>(&self, page: &'c [Claim]) -> Result<Vec<&'c Claim>, AccountsError> {
        let held: Vec<&Claim> =
            page.iter().filter(|claim| claim.state == ClaimState::Held && self.is_ours(claim)).collect();
        if held.is_empty() {
            return Ok(Vec::new());
        }
        let users: Vec<&str> = held.iter().map(|claim| claim.user.as_str()).collect();
        let rows: Vec<HeldRow> =
            sqlx::query_as(statements::HELD_ROWS).bind(users).fetch_all(&self.0.given.pool).await?;
        let rows: HashMap<&str, &HeldRow> = rows.iter().map(|row| (row.user_id.as_str(), row)).collect();
        let mut left = Vec::new();
        for claim in held {
            let stands = match rows.get(claim.user.as_str()) {
                Some(row) if row.ownership == "OWNED" => {
                    let emails = row.email.as_deref().map(|email| self.hashes_of(email)).transpose()?;
                    emails.is_some_and(|emails| emails.contains(&claim.email))
                        && row.email_intent.as_deref() == Some(claim.intent.as_str())
                }
                // Under way to another cell, or there.
                Some(row) => row.ownership != "ERASED",
                None => false,
            };
            if !stands {
                left.push(claim);
            }
        }
        Ok(left)
    }

    /// Settles those that still stand as they stood a while ago. They were noted in the order of time.
    async fn second_looks(&self, suspects: &mut VecDeque<Suspect>) -> Result<(), AccountsError> {
        for _ in 0..SECOND_LOOKS_MAX {
            if suspects.front().is_none_or(|suspect| suspect.seen.elapsed() < GRACE) {
                break;
            }
            let Some(suspect) = suspects.pop_front() else { break };
            let claim = self.0.given.directory.read_claim_serially(&suspect.email).await?;
            let Some(claim) = claim.filter(|claim| claim.op == suspect.op) else { continue };
            let outcome = match self.settle(&claim).await? {
                Settled::Held => "held",
                Settled::Freed => "freed",
                Settled::PassedOn => "passed_on",
                Settled::Left => continue,
            };
            tracing::info!(user = ?claim.user, outcome, "a claim left half way is settled");
            self.0.reaped.count(outcome, 1);
        }
        Ok(())
    }

    fn is_unsettled(&self, claim: &Claim) -> bool {
        claim.state != ClaimState::Held && self.is_ours(claim)
    }

    fn is_ours(&self, claim: &Claim) -> bool {
        let live: Vec<PepperId> = self.0.given.peppers.ids().collect();
        claim_rules::is_ours(claim, &self.0.given.cell, &live)
    }
}

//! What this cell's rows say of a claim that names it, and what follows.

use super::{Accounts, AccountsError, statements};
use cellar_directory::{
    CellRows, Claim, Decided, Email, EmailHash, Holding, Intent, PepperId, Release, Settlement, claim_rules,
    claim_steps,
};
use cellar_model::{CellName, UserId};

/// Looks at the rows for one claim: the first finds its intent open, the second sees it refused. A third would
/// mean that a decided intent is open again.
const LOOKS_MAX: u32 = 2;
/// Releases taken up at once, of one user or of all.
const RELEASES_MAX: i64 = 100;

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Held,
    Freed,
    PassedOn,
    /// Nothing was to be done, or it is not yet the time.
    Left,
}

#[derive(sqlx::FromRow)]
struct Rows {
    decided: Option<String>,
    ownership: Option<String>,
    home: Option<String>,
    email: Option<String>,
    email_intent: Option<String>,
}

#[derive(sqlx::FromRow)]
struct ReleaseRow {
    pepper: String,
    value_hash: Vec<u8>,
    intent: String,
    user_id: String,
}

impl Accounts {
    /// Brings a claim that was read before now to its end, if it is this cell's to do so.
    pub(super) async fn settle(&self, claim: &Claim) -> Result<Settled, AccountsError> {
        let (directory, cell) = (&self.0.given.directory, &self.0.given.cell);
        let live: Vec<PepperId> = self.0.given.peppers.ids().collect();
        for _ in 0..LOOKS_MAX {
            let Some(rows) = self.rows_of(claim).await? else { return Ok(Settled::Left) };
            let settlement = claim_rules::settle(claim, cell, &live, &rows);
            if matches!(settlement, Settlement::Hold | Settlement::Free) && rows.decided == Some(Decided::Committed) {
                claim_steps::activate(directory, &claim.user, &claim.intent).await?;
            }
            match settlement {
                Settlement::Leave | Settlement::Later => return Ok(Settled::Left),
                Settlement::PassOn(home) => {
                    claim_steps::pass_on(directory, claim, home).await?;
                    return Ok(Settled::PassedOn);
                }
                Settlement::Hold => {
                    claim_steps::hold(directory, claim).await?;
                    return Ok(Settled::Held);
                }
                Settlement::Free => {
                    claim_steps::free(directory, claim).await?;
                    return Ok(Settled::Freed);
                }
                Settlement::Refuse => {
                    self.refuse_or_tell(&claim.intent, &claim.user).await?;
                }
            }
        }
        Err(AccountsError::Corrupt("intent"))
    }

    /// Brings the claims of one intent to their end, the last pepper's first: who finds the first one freed finds
    /// none of the others standing. Says whether one of them is held now and was not.
    pub(super) async fn settle_all(&self, claims: &[Claim]) -> Result<bool, AccountsError> {
        let mut held = false;
        for claim in claims.iter().rev() {
            held |= self.settle(claim).await? == Settled::Held;
        }
        Ok(held)
    }

    /// None if the claim is under a pepper that this process does not have.
    async fn rows_of(&self, claim: &Claim) -> Result<Option<CellRows>, AccountsError> {
        let Some(pepper) = self.0.given.peppers.of(claim.email.pepper) else { return Ok(None) };
        let rows: Rows = sqlx::query_as(statements::CLAIM_ROWS)
            .bind(claim.intent.as_str())
            .bind(claim.user.as_str())
            .fetch_one(&self.0.given.pool)
            .await?;
        let decided = rows.decided.as_deref().map(decided).transpose()?;
        let holding = match (rows.ownership.as_deref(), rows.email.as_deref(), rows.email_intent.as_deref()) {
            (Some("OWNED"), Some(email), Some(intent)) => {
                let intent = Intent::new(intent).map_err(|_| AccountsError::Corrupt("intent"))?;
                Holding::Owned { email: pepper.hash(&stored(email)?), intent }
            }
            (None | Some("ERASED" | "OWNED"), ..) => Holding::Nobody,
            (Some("FORWARD"), ..) => {
                let home = CellName::new(&rows.home.unwrap_or_default());
                Holding::Forward { home: home.map_err(|_| AccountsError::Corrupt("home"))? }
            }
            // On the way in or out.
            (Some(_), ..) => Holding::Frozen,
        };
        Ok(Some(CellRows { decided, holding }))
    }

    /// What became of an intent here. One that is open is refused now, for good: whoever asks needs an answer
    /// that stays true.
    pub(super) async fn refuse_or_tell(&self, intent: &Intent, user: &UserId) -> Result<Decided, AccountsError> {
        let refused: Option<(bool,)> = sqlx::query_as(statements::INSERT_INTENT)
            .bind(intent.as_str())
            .bind(user.as_str())
            .bind("refused")
            .bind(&[0_u8; 0][..])
            .fetch_optional(&self.0.given.pool)
            .await?;
        if refused.is_some() {
            return Ok(Decided::Refused);
        }
        let (state,): (String,) =
            sqlx::query_as(statements::INTENT_STATE).bind(intent.as_str()).fetch_one(&self.0.given.pool).await?;
        decided(&state)
    }

    /// What became of an intent here, if it is decided.
    pub(super) async fn decision_of(&self, intent: &Intent) -> Result<Option<Decided>, AccountsError> {
        let state: Option<(String,)> =
            sqlx::query_as(statements::INTENT_STATE).bind(intent.as_str()).fetch_optional(&self.0.given.pool).await?;
        state.map(|(state,)| decided(&state)).transpose()
    }

    /// A stored address as the directory knows it, under each pepper.
    pub(super) fn hashes_of(&self, address: &str) -> Result<Vec<EmailHash>, AccountsError> {
        Ok(self.0.given.peppers.hashes(&stored(address)?))
    }

    /// Frees what this user has left.
    pub(super) async fn release_of(&self, user: &UserId) -> Result<u64, AccountsError> {
        let due = sqlx::query_as(statements::RELEASES_OF_USER).bind(user.as_str()).bind(RELEASES_MAX);
        self.release(due.fetch_all(&self.0.given.pool).await?).await
    }

    /// Frees what users here have left, some of it.
    pub(super) async fn release_all(&self) -> Result<u64, AccountsError> {
        let due = sqlx::query_as(statements::RELEASES).bind(RELEASES_MAX);
        self.release(due.fetch_all(&self.0.given.pool).await?).await
    }

    async fn release(&self, due: Vec<ReleaseRow>) -> Result<u64, AccountsError> {
        let mut done = 0;
        for row in due {
            let release = row.read()?;
            release.run(&self.0.given.directory).await?;
            let gone: Option<(bool,)> = sqlx::query_as(statements::DELETE_RELEASE)
                .bind(&release.email.hash[..])
                .bind(release.intent.as_str())
                .fetch_optional(&self.0.given.pool)
                .await?;
            done += u64::from(gone.is_some());
        }
        Ok(done)
    }
}

impl ReleaseRow {
    fn read(self) -> Result<Release, AccountsError> {
        let corrupt = || AccountsError::Corrupt("release");
        Ok(Release {
            email: EmailHash {
                pepper: PepperId::from_text(&self.pepper).map_err(|_| corrupt())?,
                hash: self.value_hash.try_into().map_err(|_| corrupt())?,
            },
            user: UserId::new(&self.user_id).map_err(|_| corrupt())?,
            intent: Intent::new(&self.intent).map_err(|_| corrupt())?,
        })
    }
}

/// An address as it was stored.
pub(super) fn stored(address: &str) -> Result<Email, AccountsError> {
    Email::parse(address).map_err(|_| AccountsError::Corrupt("e-mail"))
}

pub(super) fn decided(state: &str) -> Result<Decided, AccountsError> {
    match state {
        "committed" => Ok(Decided::Committed),
        "refused" => Ok(Decided::Refused),
        _ => Err(AccountsError::Corrupt("intent")),
    }
}

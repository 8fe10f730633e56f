//! Whether a presented session is in force.

use super::caller::{Caller, CallerKind, PresentedSession};
use super::generations::Generation;
use super::{Accounts, AccountsError, CACHE_SESSION, statements};
use cellar_model::{Problem, ProblemType, UserId};
use subtle::ConstantTimeEq;

/// The cached fields. The hash is of 160 random bits: it opens nothing.
const FIELDS: [&str; 3] = ["generation", "user", "hash"];

#[derive(sqlx::FromRow)]
struct SessionRow {
    secret_hash: Vec<u8>,
    state: String,
    left_s: i64,
}

impl Accounts {
    /// The user a request is about, owned here; with a session token, the session is in force.
    pub(crate) async fn authorize(&self, caller: &Caller) -> Result<UserId, AccountsError> {
        let user = caller.user.clone().ok_or_else(|| {
            AccountsError::from(Problem::new(ProblemType::Invalid).detail("name the user in the header Cellar-User"))
        })?;
        match &caller.by {
            CallerKind::Key => {
                self.owned(&user).await?;
            }
            CallerKind::Session(session) => {
                self.owned(&user).await?;
                self.check_session(&user, session).await?;
            }
            CallerKind::Nobody => return Err(ProblemType::Unauthorized.into()),
        }
        Ok(user)
    }

    async fn check_session(&self, user: &UserId, session: &PresentedSession) -> Result<(), AccountsError> {
        let generation = self.0.generations.current(user);
        let key = self.0.cache.key("session", session.id.as_str());
        let given = hex::encode(session.hash);
        if let Some([then, whose, hash]) = self.0.cache.read(&key, FIELDS).await
            && then == generation.to_text()
        {
            self.0.hits.get_or_create(&CACHE_SESSION).inc();
            let same = bool::from(hash.as_bytes().ct_eq(given.as_bytes()));
            if !same || whose != user.as_str() {
                return Err(ProblemType::Unauthorized.into());
            }
        } else {
            self.0.misses.get_or_create(&CACHE_SESSION).inc();
            self.read_session(user, session, generation, &key, given).await?;
        }
        self.0.activity.note(&session.id);
        Ok(())
    }

    async fn read_session(
        &self,
        user: &UserId,
        session: &PresentedSession,
        generation: Generation,
        key: &str,
        given: String,
    ) -> Result<(), AccountsError> {
        let row: Option<SessionRow> = sqlx::query_as(statements::CHECK_SESSION)
            .bind(session.id.as_str())
            .bind(user.as_str())
            .fetch_optional(&self.0.given.pool)
            .await?;
        let row = row.filter(|row| bool::from(row.secret_hash.ct_eq(&session.hash[..])));
        let row = row.ok_or(ProblemType::Unauthorized)?;
        if row.state != "active" {
            return Err(ProblemType::Blocked.into());
        }
        // What expires within the second is not worth keeping.
        let left_s = u64::try_from(row.left_s).unwrap_or_default();
        if left_s > 0 && self.0.generations.current(user) == generation {
            let user = user.as_str().to_owned();
            let values = [generation.to_text(), user, given];
            let fields: Vec<_> = FIELDS.into_iter().zip(values).collect();
            self.0.cache.write(key, &fields, left_s).await;
        }
        Ok(())
    }
}

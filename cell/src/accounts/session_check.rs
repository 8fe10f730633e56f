//! Whether presented sessions are in force.

use super::caller::{Caller, CallerKind};
use super::generations::Generation;
use super::session_life::SessionLife;
use super::{Accounts, AccountsError, CACHE_SESSION, statements};
use cellar_model::{PresentedSession, Problem, ProblemType, SessionId, UserId};
use cellar_trace::store;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// The cached fields. The hash is of 160 random bits: it opens nothing.
const FIELDS: [&str; 3] = ["generation", "user", "hash"];

#[derive(sqlx::FromRow)]
struct SessionRow {
    /// Its place among those asked for, from 1.
    n: i64,
    secret_hash: Vec<u8>,
    state: String,
    /// Of its whole life.
    left_s: i64,
    /// Since it was last active, as far as that is written.
    unused_s: i64,
}

/// A session under its user, as it was presented.
pub(crate) type Presented<'a> = (&'a UserId, &'a PresentedSession);

/// A session that is not in force, as it was presented: whose, its id, the hash of its secret.
pub(super) type Ended = (UserId, SessionId, [u8; 32]);

/// One of them on its way to an answer.
struct Looked<'a> {
    user: &'a UserId,
    session: &'a PresentedSession,
    /// Read before anything else was.
    generation: Generation,
    key: String,
    given: String,
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
                let mut found = self.authorize_all(&[(&user, session)]).await;
                found.pop().unwrap_or(Err(ProblemType::Unauthorized.into()))?;
            }
            CallerKind::Nobody => return Err(ProblemType::Unauthorized.into()),
        }
        Ok(user)
    }

    /// Of each, in order, that its user is owned here and the session in force. However many there are: at most
    /// one question to the cache and two to Postgres.
    pub(crate) async fn authorize_all(&self, presented: &[Presented<'_>]) -> Vec<Result<(), AccountsError>> {
        let users: Vec<&UserId> = presented.iter().map(|(user, _)| *user).collect();
        let owned = self.owned_all(&users).await;
        let here = presented.iter().zip(&owned).filter(|(_, owned)| owned.is_ok());
        let here: Vec<Presented<'_>> = here.map(|(presented, _)| *presented).collect();
        let mut checked = self.check_sessions(&here).await.into_iter();
        let unauthorized = || Err(ProblemType::Unauthorized.into());
        owned.into_iter().map(|owned| owned.and_then(|_| checked.next().unwrap_or_else(unauthorized))).collect()
    }

    async fn check_sessions(&self, presented: &[Presented<'_>]) -> Vec<Result<(), AccountsError>> {
        if presented.is_empty() {
            return Vec::new();
        }
        let looked = presented.iter().map(|(user, session)| Looked {
            user,
            session,
            generation: self.0.generations.current(user),
            key: self.0.cache.key("session", session.id.as_str()),
            given: hex::encode(session.hash),
        });
        let looked: Vec<Looked<'_>> = looked.collect();
        let keys: Vec<&str> = looked.iter().map(|one| one.key.as_str()).collect();
        let cached = self.0.cache.read_all(&keys, FIELDS).await;
        let mut found: Vec<Option<Result<(), AccountsError>>> =
            looked.iter().zip(cached).map(|(one, cached)| one.judge_cached(cached?)).collect();
        for (found, one) in found.iter_mut().zip(&looked).filter(|(found, _)| found.is_none()) {
            if self.0.ended.has(&one.name(), one.generation) {
                *found = Some(Err(ProblemType::Unauthorized.into()));
            }
        }
        let missing: Vec<usize> = (0..looked.len()).filter(|n| found[*n].is_none()).collect();
        self.0.hits.get_or_create(&CACHE_SESSION).inc_by((looked.len() - missing.len()) as u64);
        self.0.misses.get_or_create(&CACHE_SESSION).inc_by(missing.len() as u64);
        if !missing.is_empty() {
            let read: Vec<&Looked<'_>> = missing.iter().map(|n| &looked[*n]).collect();
            for (n, read) in missing.into_iter().zip(self.read_sessions(&read).await) {
                found[n] = Some(read);
            }
        }
        let in_force = looked.iter().zip(&found).filter(|(_, found)| matches!(found, Some(Ok(()))));
        in_force.for_each(|(one, _)| self.0.activity.note(&one.session.id));
        found.into_iter().map(|found| found.unwrap_or(Err(ProblemType::Unauthorized.into()))).collect()
    }

    /// By their rows, and into the cache with those that are in force.
    async fn read_sessions(&self, looked: &[&Looked<'_>]) -> Vec<Result<(), AccountsError>> {
        let ids: Vec<&str> = looked.iter().map(|one| one.session.id.as_str()).collect();
        let users: Vec<&str> = looked.iter().map(|one| one.user.as_str()).collect();
        let query = sqlx::query_as(statements::CHECK_SESSIONS).bind(ids).bind(users);
        let asking = self.0.postgres.ask(async { Ok(query.fetch_all(&self.0.given.pool).await?) });
        let rows = store("postgresql", asking, |rows| rows.is_err().then_some("error")).await;
        let rows: Vec<SessionRow> = match rows {
            Ok(rows) => rows,
            Err(error) => {
                let error = Arc::new(error);
                return looked.iter().map(|_| Err(AccountsError::Shared(error.clone()))).collect();
            }
        };
        let mut rows: HashMap<usize, SessionRow> =
            rows.into_iter().filter_map(|row| Some((usize::try_from(row.n).ok()?, row))).collect();
        let (mut found, mut worth_keeping) = (Vec::with_capacity(looked.len()), Vec::new());
        for (place, one) in (1..).zip(looked) {
            let noted = self.0.activity.age(&one.session.id);
            let judged = one.judge(rows.remove(&place), noted, self.0.given.session_life);
            // What expires within the second is not worth keeping.
            if let Ok(left_s @ 1..) = judged
                && self.0.generations.current(one.user) == one.generation
            {
                let values = [one.generation.to_text(), one.user.as_str().to_owned(), one.given.clone()];
                let mut values = FIELDS.into_iter().zip(values);
                let fields = std::array::from_fn::<_, 3, _>(|_| values.next().unwrap_or_default());
                worth_keeping.push((one.key.clone(), fields, left_s));
            }
            if let Err(AccountsError::Problem(problem)) = &judged
                && problem.kind == ProblemType::Unauthorized
            {
                self.0.ended.put(one.name(), one.generation);
            }
            found.push(judged.map(drop));
        }
        if !worth_keeping.is_empty() {
            self.0.cache.write_all(&worth_keeping).await;
        }
        found
    }
}

impl Looked<'_> {
    fn name(&self) -> Ended {
        (self.user.clone(), self.session.id.clone(), self.session.hash)
    }

    /// None: the entry is from before a change.
    fn judge_cached(&self, [then, whose, hash]: [String; 3]) -> Option<Result<(), AccountsError>> {
        if then != self.generation.to_text() {
            return None;
        }
        let same = bool::from(hash.as_bytes().ct_eq(self.given.as_bytes()));
        let its_own = same && whose == self.user.as_str();
        Some(if its_own { Ok(()) } else { Err(ProblemType::Unauthorized.into()) })
    }

    /// Seconds for which it may be believed without another look. That it is asked about is a use of it.
    fn judge(&self, row: Option<SessionRow>, noted: Option<Duration>, life: SessionLife) -> Result<u64, AccountsError> {
        let row = row.filter(|row| bool::from(row.secret_hash.ct_eq(&self.session.hash[..])));
        let row = row.ok_or(ProblemType::Unauthorized)?;
        if row.state != "active" {
            return Err(ProblemType::Blocked.into());
        }
        let unused_s = u64::try_from(row.unused_s).unwrap_or_default();
        let unused_s = noted.map_or(unused_s, |noted| noted.as_secs().min(unused_s));
        if unused_s > life.refused_after().as_secs() {
            return Err(ProblemType::Unauthorized.into());
        }
        Ok(u64::try_from(row.left_s).unwrap_or_default().min(life.idle.as_secs()))
    }
}

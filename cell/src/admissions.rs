//! Checks on their way to the engine. For one that carries a session, nothing is decided or charged while
//! that is not in force.

use crate::accounts::{Accounts, AccountsError};
use crate::visits::Visits;
use cellar_model::{Check, DeadlineMs, Epoch, PresentedSession, ProblemType, Refusal, TryAgain, Verdict};
use cellar_quota::{NotHere, Quota, Visit};
use futures::future::join_all;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long the sessions of one call may take: a router gives the call itself at least as long.
const SESSIONS_MAX: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Admissions {
    quota: Quota,
    accounts: Accounts,
    /// Where the cell has several processes.
    visits: Option<Visits>,
}

impl Admissions {
    pub(crate) fn new(quota: Quota, accounts: Accounts, visits: Option<Visits>) -> Self {
        Self { quota, accounts, visits }
    }

    /// Decides `checks`, in their order.
    pub(crate) async fn decide(&self, checks: Vec<Check>) -> Vec<Verdict> {
        if checks.iter().all(|check| check.session.is_none()) {
            return self.quota.decide(checks).await;
        }
        let began = Instant::now();
        let mut refused = self.refuse(&checks, began).await;
        let mut admitted = Vec::with_capacity(checks.len());
        for (check, refused) in checks.into_iter().zip(&mut refused) {
            // The sessions took part of the caller's patience.
            match check.deadline.duration().checked_sub(began.elapsed()) {
                _ if refused.is_some() => {}
                Some(left) => {
                    admitted.push(Check { deadline: DeadlineMs::new(left.as_millis() as u64), ..check });
                }
                None => *refused = Some(Refusal::TryAgain { reason: TryAgain::Deadline }),
            }
        }
        let mut decided = self.quota.decide(admitted).await.into_iter();
        let verdicts = refused.into_iter().map(|refused| match refused {
            Some(refusal) => Verdict::Refused(refusal),
            None => decided.next().unwrap_or(Verdict::try_again(TryAgain::Unknown)),
        });
        verdicts.collect()
    }

    /// Of each check, why it is not to be decided: it carries a session, and that is not in force. All sessions
    /// are looked at together.
    async fn refuse(&self, checks: &[Check], began: Instant) -> Vec<Option<Refusal>> {
        let asking = checks.iter().enumerate().filter_map(|(n, check)| Some((n, check, check.session.as_deref()?)));
        let asking: Vec<(usize, &Check, &PresentedSession)> = asking.collect();
        let patience = asking.iter().map(|(_, check, _)| check.deadline.duration()).max();
        let until = began + patience.unwrap_or_default().min(SESSIONS_MAX);
        let visits = join_all(asking.iter().map(|(_, check, _)| self.enter(check, until))).await;
        let inside = asking.iter().zip(&visits).filter(|(_, visit)| visit.is_ok());
        let inside: Vec<_> = inside.map(|((_, check, session), _)| (&check.user, *session)).collect();
        let mut sessions = match timeout_at(until, self.accounts.authorize_all(&inside)).await {
            Ok(sessions) => sessions.into_iter().map(|session| session.map_err(|error| refusal(&error))).collect(),
            Err(_) => vec![Err(Refusal::TryAgain { reason: TryAgain::StoreDown }); inside.len()],
        }
        .into_iter();
        let mut refused = vec![None; checks.len()];
        for ((n, ..), visit) in asking.into_iter().zip(visits) {
            refused[n] = match visit {
                Err(refusal) => Some(refusal),
                Ok(visit) => match sessions.next() {
                    Some(Ok(())) => None,
                    // What is decided says by its commit that this process may. This has none.
                    Some(Err(refusal)) if visit.is_none_or(|visit| visit.holds()) => Some(refusal),
                    Some(Err(_)) | None => Some(Refusal::TryAgain { reason: TryAgain::ShardClosed }),
                },
            };
        }
        refused
    }

    /// What this process remembers of sessions counts while no other may change it.
    async fn enter(&self, check: &Check, until: Instant) -> Result<Option<Visit>, Refusal> {
        let Some(visits) = &self.visits else { return Ok(None) };
        match timeout_at(until, visits.enter(&check.user)).await {
            Ok(Ok(visit)) => Ok(Some(visit)),
            Ok(Err(NotHere::OtherInstance(endpoint))) => Err(Refusal::OtherInstance { endpoint: endpoint.to_string() }),
            Ok(Err(NotHere::Unconfirmed)) | Err(_) => Err(Refusal::TryAgain { reason: TryAgain::ShardClosed }),
        }
    }
}

/// Not owned comes before everything else, as for any check.
fn refusal(error: &AccountsError) -> Refusal {
    if let AccountsError::Misdirected(home) = error.itself() {
        let (home, epoch) = home.clone().map_or((None, Epoch(0)), |(home, epoch)| (Some(home), epoch));
        return Refusal::Elsewhere { home, epoch };
    }
    match error.problem().kind {
        ProblemType::Unauthorized => Refusal::InvalidSession,
        ProblemType::Blocked => Refusal::Blocked,
        ProblemType::Moving => Refusal::Frozen,
        ProblemType::UnknownUser => Refusal::UnknownUser,
        _ => {
            tracing::debug!(error = error as &dyn std::error::Error, "a session could not be read");
            Refusal::TryAgain { reason: TryAgain::StoreDown }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::CellName;

    #[test]
    fn what_is_not_known_of_a_session_is_unknown_and_never_no() {
        let unread = AccountsError::from(sqlx::Error::PoolTimedOut);
        assert_eq!(refusal(&unread), Refusal::TryAgain { reason: TryAgain::StoreDown });
        assert_eq!(refusal(&AccountsError::Corrupt("home")), Refusal::TryAgain { reason: TryAgain::StoreDown });
        assert_eq!(refusal(&ProblemType::Unauthorized.into()), Refusal::InvalidSession);
        let home = CellName::new("us-1").unwrap();
        let moved = AccountsError::Misdirected(Some((home.clone(), Epoch(2))));
        assert_eq!(refusal(&moved), Refusal::Elsewhere { home: Some(home), epoch: Epoch(2) });
    }
}

//! Checks in, verdicts out: for routers as postcard, for callers of a public cell as JSON.

use crate::accounts::{Accounts, AccountsError, Caller};
use crate::admissions::Admissions;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cellar_model::{Check, Cost, DeadlineMs, Operation, OriginOf, Problem, ProblemType, Refusal, Verdict};
use cellar_quota::Quota;
use cellar_server::{Decider, HttpMetrics, HttpProblem};
use http::{HeaderValue, header};
use std::sync::Arc;

/// Checks of one call from a router; it gathers no more than this.
const CHECKS_MAX: usize = 1_000;

/// The engine as the quota routes ask it.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) admissions: Admissions,
    /// No router stands before this cell: who is not here is unknown, not misdirected.
    pub(crate) public: bool,
}

impl Decider for Engine {
    async fn decide(&self, checks: Vec<Check>) -> Vec<Verdict> {
        let mut verdicts = self.admissions.decide(checks).await;
        if self.public {
            for verdict in &mut verdicts {
                if matches!(verdict, Verdict::Refused(Refusal::Elsewhere { .. })) {
                    *verdict = Verdict::Refused(Refusal::UnknownUser);
                }
            }
        }
        verdicts
    }
}

#[derive(Clone)]
pub(crate) struct DecideState {
    pub(crate) engine: Engine,
    pub(crate) quota: Quota,
    pub(crate) metrics: HttpMetrics,
    pub(crate) accounts: Accounts,
}

/// `POST /cell/v1/decide`: postcard `Vec<Check>` in, and behind it whose requests they are, `Vec<Verdict>` out, in order.
pub(crate) async fn decide(State(state): State<DecideState>, body: Bytes) -> Result<Response, HttpProblem> {
    let odd = |detail: &str| HttpProblem(Problem::new(ProblemType::Malformed).detail(detail));
    let (mut checks, rest): (Vec<Check>, &[u8]) =
        postcard::take_from_bytes(&body).map_err(|_| odd("not a list of checks"))?;
    if checks.len() > CHECKS_MAX {
        return Err(odd("more than 1,000 checks"));
    }
    tell_origins(&mut checks, rest);
    let verdicts = state.engine.decide(checks).await;
    verdicts.iter().for_each(|verdict| state.metrics.verdict_of_many(verdict));
    // Verdicts are plain data: writing them into memory cannot fail.
    let bytes = postcard::to_allocvec(&verdicts).unwrap_or_default();
    let kind = HeaderValue::from_static("application/octet-stream");
    Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response())
}

/// Says of each check whose request it is part of, as the router wrote it behind them.
fn tell_origins(checks: &mut [Check], rest: &[u8]) {
    let mut checks = checks.iter_mut();
    for OriginOf { checks: count, origin } in OriginOf::read(rest) {
        let origin = Arc::new(origin);
        for check in checks.by_ref().take(count as usize) {
            check.origin = Some(origin.clone());
        }
    }
}

/// What is left of the user's quota, without spending
#[utoipa::path(get, path = "/v1/user/quota")]
pub(crate) async fn quota(State(state): State<DecideState>, caller: Caller) -> Result<Response, AccountsError> {
    let user = state.accounts.authorize(&caller).await?;
    let check = Check {
        user: user.clone(),
        operation: Operation::Peek,
        cost: Cost::one_request(),
        attributes: Vec::new(),
        key: None,
        at: None,
        deadline: DeadlineMs::QUOTA,
        session: None,
        origin: None,
    };
    let verdict = state.engine.decide(vec![check]).await.pop();
    let verdict = verdict.unwrap_or_else(|| Verdict::try_again(cellar_model::TryAgain::Unknown));
    state.metrics.verdict(&verdict);
    Ok(cellar_server::quota_response(&user, &verdict).map(axum::body::Body::new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::{Origin, UserId};

    #[test]
    fn each_check_is_the_requests_that_the_router_says() {
        let check = |user: &str| Check {
            user: UserId::new(user).unwrap(),
            operation: Operation::Consume,
            cost: Cost::one_request(),
            attributes: Vec::new(),
            key: None,
            at: None,
            deadline: DeadlineMs::QUOTA,
            session: None,
            origin: None,
        };
        let origin = |n: u128| Origin::parse(&format!("00-{n:032x}-00f067aa0ba902b7-01")).unwrap();
        let mut checks = ["a", "b", "c"].map(check);
        let mut body = Vec::new();
        OriginOf::write([(2, &origin(1)), (9, &origin(2))].into_iter(), &mut body);
        tell_origins(&mut checks, &body);
        let told = checks.each_ref().map(|check| check.origin.as_ref().map(|origin| origin.trace.0));
        assert_eq!(told, [Some(1), Some(1), Some(2)]);
        let mut untold = ["a"].map(check);
        tell_origins(&mut untold, b"rubbish");
        assert_eq!(untold[0].origin, None);
    }
}

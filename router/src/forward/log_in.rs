//! Log-in: finds the user behind an e-mail, and takes the request to their cell.

use super::Front;
use super::cargo::{Cargo, Outgoing, read_whole};
use super::enrol::FirstSight;
use super::requests::{arrived, forward, refusal, refused};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use cellar_directory::{Email, EmailHash};
use cellar_model::wire::LogInBody;
use cellar_model::{
    DeadlineMs, Problem, ProblemType, Refusal, Scope, SettingProblem, TryAgain, UserId, header as ours,
};
use cellar_server::{Caller, front, parse_json, write_caller_address};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::net::IpAddr;
use tokio::time::Instant;

impl Front {
    pub(super) async fn log_in(&self, request: Request) -> Result<Response, Problem> {
        let (parts, body) = request.into_parts();
        self.check_credential(&parts.headers)?;
        let bytes = read_whole(body).await?;
        let body: LogInBody = parse_json(&bytes)?;
        match (body.user_id, body.email, body.password) {
            (Some(user), None, None) => self.log_in_trusted(parts, bytes, user).await,
            (None, Some(email), Some(_)) => self.log_in_by_password(parts, bytes, &email).await,
            _ => Err(Problem::new(ProblemType::Invalid).detail("either user_id, or email and password")),
        }
    }

    /// A credential that comes along has to be good, and for this, whatever the body says.
    fn check_credential(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if !headers.contains_key(http::header::AUTHORIZATION) {
            return Ok(());
        }
        match self.keys.authenticate(headers)? {
            Caller::Session { .. } => Ok(()),
            caller => caller.require(Scope::Users),
        }
    }

    /// A service key says who it is: the application has authenticated the person itself.
    async fn log_in_trusted(&self, mut parts: Parts, bytes: Bytes, user: UserId) -> Result<Response, Problem> {
        let address = self.proxies.caller(&parts);
        let admitted = front::admit(&self.keys, &mut parts.headers, DeadlineMs::STANDARD)?;
        admitted.caller.require(Scope::Users)?;
        write_address(&mut parts.headers, address);
        if admitted.user.is_some_and(|named| named != user) {
            let error = SettingProblem::new("/user_id", "the header names another user");
            return Err(Problem::new(ProblemType::Invalid).errors(vec![error]));
        }
        name_user(&mut parts.headers, &user);
        let until = Instant::now() + admitted.deadline.duration();
        let outgoing = Outgoing::new(parts, Cargo::Kept(bytes));
        Ok(self.requests.send(&user, FirstSight::Unknown, outgoing, until).await.unwrap_or_else(refused))
    }

    /// The password is the credential. Another one goes no further: but the failures of whoever has a key are not
    /// counted, for an application passes on what many people typed.
    async fn log_in_by_password(&self, parts: Parts, bytes: Bytes, email: &str) -> Result<Response, Problem> {
        let by_application = match parts.headers.contains_key(http::header::AUTHORIZATION) {
            true => self.keys.authenticate(&parts.headers)?.require(Scope::Users).is_ok(),
            false => false,
        };
        let address = self.proxies.caller(&parts);
        let Some(counted) = address.filter(|_| !by_application) else {
            return self.try_password(parts, bytes, email, address).await;
        };
        let attempt = self.by_address.take_address(counted).inspect_err(|_| {
            self.requests.routing.metrics.limited.inc();
        })?;
        let answer = self.try_password(parts, bytes, email, address).await;
        if !has_failed(&answer) {
            self.by_address.give_back(attempt);
        }
        answer
    }

    async fn try_password(
        &self,
        mut parts: Parts,
        bytes: Bytes,
        email: &str,
        address: Option<IpAddr>,
    ) -> Result<Response, Problem> {
        let deadline = front::deadline(&parts.headers, DeadlineMs::STANDARD)?;
        let until = Instant::now() + deadline.duration();
        front::strip(&mut parts.headers);
        write_address(&mut parts.headers, address);
        let hashes = Email::parse(email).map_or_else(|_| Vec::new(), |email| self.peppers.hashes(&email));
        let mut asked: Option<UserId> = None;
        // Under a pepper that not every process has, the claim may be of who has left the e-mail: then the other
        // one says whose it is.
        for hash in &hashes {
            let user = match self.requests.routing.user_of(hash).await {
                Ok(Some(user)) if asked.as_ref() != Some(&user) => user,
                Ok(_) => continue,
                Err(reason) => return Ok(refused(refusal(reason))),
            };
            let mut parts = parts.clone();
            name_user(&mut parts.headers, &user);
            let outgoing = Outgoing::new(parts, Cargo::Kept(bytes.clone()));
            let answer = self.requests.send(&user, FirstSight::Unknown, outgoing, until).await;
            if !is_unknown(&answer) {
                return Ok(answer.unwrap_or_else(refused));
            }
            self.requests.routing.doubt_email(hash);
            asked = Some(user);
        }
        match asked {
            Some(_) => Err(nobody()),
            None => self.log_in_as_nobody(hashes.first(), Outgoing::new(parts, Cargo::Kept(bytes)), until).await,
        }
    }

    /// An e-mail that nobody has costs a cell the same work as a wrong password, so that neither the
    /// answer nor the time it takes tells who has an account. It is the same cell each time, whichever router is
    /// asked, since that cell counts the failures.
    async fn log_in_as_nobody(
        &self,
        email: Option<&EmailHash>,
        mut outgoing: Outgoing,
        until: Instant,
    ) -> Result<Response, Problem> {
        let Ok(map) = self.requests.routing.known_map() else {
            return Ok(refused(refusal(TryAgain::NotReady)));
        };
        let unique =
            email.and_then(|email| email.hash.first_chunk().copied()).map_or_else(rand::random, u128::from_be_bytes);
        let anyone = UserId::mint(&map.topology.default_region, unique);
        match forward(&map, map.ring_owner(&anyone), &anyone, &mut outgoing, until).await {
            // Somebody has it since a moment ago.
            Ok(response) if matches!(response.status(), StatusCode::MISDIRECTED_REQUEST | StatusCode::LOCKED) => {
                Ok(refused(refusal(TryAgain::NotReady)))
            }
            Ok(response) if response.status() == StatusCode::UNAUTHORIZED => Err(nobody()),
            Ok(response) => Ok(arrived(response)),
            Err(fault) => Ok(refused(refusal(fault.reason()))),
        }
    }
}

/// Whether it told the caller that the password is wrong, or would have been looked at no more.
fn has_failed(answer: &Result<Response, Problem>) -> bool {
    match answer {
        Ok(response) => matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS),
        Err(problem) => problem.kind == ProblemType::Unauthorized,
    }
}

fn write_address(headers: &mut HeaderMap, address: Option<IpAddr>) {
    if let Some(address) = address {
        write_caller_address(headers, address);
    }
}

/// A user who is gone and a wrong password look like an e-mail that nobody has.
fn is_unknown(answer: &Result<Response, Refusal>) -> bool {
    match answer {
        Ok(response) => matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND),
        Err(refusal) => *refusal == Refusal::UnknownUser,
    }
}

/// Word for word what a cell says to a wrong password.
fn nobody() -> Problem {
    Problem::new(ProblemType::Unauthorized).detail("no account has this e-mail and password")
}

pub(super) fn name_user(headers: &mut HeaderMap, user: &UserId) {
    // An id's characters are all plain.
    if let Ok(value) = HeaderValue::from_str(user.as_str()) {
        headers.insert(HeaderName::from_static(ours::USER), value);
    }
}

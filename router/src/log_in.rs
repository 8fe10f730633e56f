//! Log-in: by user id with a service key, or by e-mail and password without a credential.

use crate::app::App;
use crate::forward::{OutBody, Outgoing, end_to_end, not_ready, try_again, write};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use cellar_directory::{ClaimState, Claims, Email};
use cellar_model::wire::LogInBody;
use cellar_model::{DeadlineMs, PlacementKey, Problem, ProblemType, Scope, TryAgain, UserId, header as ours};
use cellar_server::{Caller, front, parse_json, read_body};
use http::{HeaderMap, Method, StatusCode, header};
use tokio::time::{Instant, timeout_at};

/// A log-in on its way out, whoever it turns out to be.
struct LogIn {
    headers: HeaderMap,
    body: Bytes,
    until: Instant,
}

impl App {
    /// `POST /v1/sessions`
    pub(crate) async fn log_in(&self, request: Request) -> Result<Response, Problem> {
        let (mut head, body) = request.into_parts();
        let by_key = self.admit_log_in(&mut head.headers)?;
        let until = Instant::now() + front::deadline(&head.headers, DeadlineMs::STANDARD)?.duration();
        let bytes = read_body(body).await?;
        let body: LogInBody = parse_json(&bytes)?;
        let out = LogIn { headers: end_to_end(head.headers), body: bytes, until };
        match (body.user_id, body.email, body.password) {
            (Some(user), None, None) => {
                if !by_key {
                    return Err(Problem::new(ProblemType::Unauthorized)
                        .detail("a log-in by user_id needs a service key"));
                }
                self.log_in_as(&out, &user).await
            }
            (None, Some(email), Some(_)) => self.log_in_by_email(&out, &email).await,
            _ => Err(Problem::new(ProblemType::Invalid).detail("either user_id, or email and password")),
        }
    }

    /// A log-in needs no credential; one that is there must be a good service key.
    fn admit_log_in(&self, headers: &mut HeaderMap) -> Result<bool, Problem> {
        if !headers.contains_key(header::AUTHORIZATION) {
            let deadline = front::deadline(headers, DeadlineMs::STANDARD)?;
            front::strip(headers);
            write(headers, ours::DEADLINE_MS, &deadline.get().to_string());
            return Ok(false);
        }
        let admitted = front::admit(&self.keys, headers, DeadlineMs::STANDARD)?;
        // Who logs in is said in the body.
        headers.remove(ours::USER);
        if let Caller::Session { .. } = admitted.caller {
            return Err(Problem::new(ProblemType::Forbidden).detail("a session cannot open another"));
        }
        admitted.caller.require(Scope::Users)?;
        Ok(true)
    }

    async fn log_in_by_email(&self, out: &LogIn, email: &str) -> Result<Response, Problem> {
        let Ok(email) = Email::parse(email) else { return self.log_in_as_nobody(out, email).await };
        let hash = hex::encode(self.pepper.hash(&email).0);
        let known = self.emails.get(&hash);
        if let Some(user) = &known {
            let response = self.log_in_as(out, user).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            // Perhaps the e-mail is another user's by now.
            return match self.claimed(&email, out.until).await {
                Ok(Some(now)) if now != *user => {
                    self.emails.put(hash, now.clone());
                    self.log_in_as(out, &now).await
                }
                Ok(_) | Err(_) => Ok(response),
            };
        }
        match self.claimed(&email, out.until).await? {
            Some(user) => {
                self.emails.put(hash, user.clone());
                self.log_in_as(out, &user).await
            }
            None => self.log_in_as_nobody(out, &hash).await,
        }
    }

    async fn log_in_as(&self, out: &LogIn, user: &UserId) -> Result<Response, Problem> {
        let world = self.world().ok_or_else(not_ready)?;
        let trail = self.begin(&world, user).ok_or_else(not_ready)?;
        let mut outgoing = out.outgoing();
        write(&mut outgoing.headers, ours::USER, user.as_str());
        self.send_along(trail, user, outgoing).await
    }

    /// An e-mail that nobody has costs a cell the same work as a wrong password: the answer and the
    /// time it takes do not tell who has an account. Any cell will do; the address chooses.
    async fn log_in_as_nobody(&self, out: &LogIn, address: &str) -> Result<Response, Problem> {
        let world = self.world().ok_or_else(not_ready)?;
        let ring = world.topology.region(&self.config.region).and_then(|region| region.ring().ok());
        let ring = ring.ok_or_else(not_ready)?;
        let cell = world.cell(ring.owner(PlacementKey::new(address))).ok_or_else(not_ready)?;
        self.send_once(cell, &mut out.outgoing()).await
    }

    /// Whose the e-mail is, by the directory.
    async fn claimed(&self, email: &Email, until: Instant) -> Result<Option<UserId>, Problem> {
        let hash = self.pepper.hash(email);
        self.metrics.directory_reads.inc();
        match timeout_at(until, self.directory.read_claim(&hash)).await {
            Ok(Ok(claim)) => Ok(claim.filter(|claim| claim.state == ClaimState::Held).map(|claim| claim.user)),
            Ok(Err(_)) | Err(_) => {
                self.metrics.directory_failures.inc();
                Err(try_again(TryAgain::DirectoryDown))
            }
        }
    }
}

impl LogIn {
    fn outgoing(&self) -> Outgoing {
        Outgoing {
            method: Method::POST,
            target: "/v1/sessions".to_owned(),
            headers: self.headers.clone(),
            body: OutBody::Whole(self.body.clone()),
            until: self.until,
        }
    }
}

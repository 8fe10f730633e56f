//! Sign-up: the router draws an id whose point falls on an open cell, and sends it there.

use crate::app::App;
use crate::forward::{OutBody, Outgoing, end_to_end, home, not_ready, try_again};
use crate::world::World;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use cellar_directory::{Email, Intent};
use cellar_model::wire::{PlacedSignUp, SignUpBody, SignedUp};
use cellar_model::{
    BodyHash, CellName, DeadlineMs, KeyName, Problem, ProblemType, RegionName, Scope, SettingProblem, TryAgain,
    UserId,
};
use cellar_server::{front, idempotency_key, parse_json, read_body};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::Instant;

/// Ids drawn until one falls on an open cell. With half the ring full, 64 misses in a row are one in
/// 10^19.
const DRAWS_MAX: usize = 64;
/// The claim of an earlier attempt names its cell; a move since then names another.
const HOPS_MAX: usize = 3;

impl App {
    /// `POST /v1/users`
    pub(crate) async fn sign_up(&self, request: Request) -> Result<Response, Problem> {
        let (mut head, body) = request.into_parts();
        let key = idempotency_key(&head.headers)?;
        let admitted = front::admit(&self.keys, &mut head.headers, DeadlineMs::STANDARD)?;
        admitted.caller.require(Scope::Users)?;
        let until = Instant::now() + admitted.deadline.duration();
        let body: SignUpBody = parse_json(&read_body(body).await?)?;
        let email = Email::parse(&body.email).map_err(|error| invalid("/email", &error.to_string()))?;
        let world = self.world().ok_or_else(not_ready)?;
        let (user_id, cell) = self.place(&world, &body)?;
        let placed = PlacedSignUp {
            region: world.region_of(&user_id).clone(),
            user_id,
            intent: intent(&admitted.caller.name(), key.as_deref()),
            body,
        };
        let response = self.send_to(&world, cell, &placed, end_to_end(head.headers), until).await?;
        self.learn(response, &email).await
    }

    /// An id and the cell it falls on.
    fn place(&self, world: &World, body: &SignUpBody) -> Result<(UserId, CellName), Problem> {
        let region = body.region.as_ref().unwrap_or(&self.config.region);
        if world.topology.region(region).is_none() {
            return Err(invalid("/region", &format!("there is no region {region}")));
        }
        if let Some(user) = &body.user_id {
            // Its place follows from the id alone: every router must find it without asking.
            let placed = world.region_of(user);
            if body.region.as_ref().is_some_and(|region| region != placed) {
                return Err(invalid("/region", &format!("this user id is placed in {placed}")));
            }
            return Ok((user.clone(), world.ring_cell(user).clone()));
        }
        draw(world, region)
    }

    /// To the cell, and from there to the one that an earlier attempt claimed the e-mail for.
    async fn send_to(
        &self,
        world: &World,
        mut cell: CellName,
        placed: &PlacedSignUp,
        mut headers: HeaderMap,
        until: Instant,
    ) -> Result<Response, Problem> {
        // Plain data: writing it into memory cannot fail.
        let body = Bytes::from(serde_json::to_vec(placed).unwrap_or_default());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.remove(header::CONTENT_LENGTH);
        for _ in 0..=HOPS_MAX {
            let to = world.cell(&cell).ok_or_else(not_ready)?;
            let mut outgoing = Outgoing {
                method: Method::POST,
                target: "/cell/v1/users".to_owned(),
                headers: headers.clone(),
                body: OutBody::Whole(body.clone()),
                until,
            };
            let response = self.send_once(to, &mut outgoing).await?;
            match (response.status(), home(response.headers())) {
                (StatusCode::MISDIRECTED_REQUEST, Some((home, _))) if home != cell => {
                    self.metrics.redirects.inc();
                    cell = home;
                }
                (StatusCode::MISDIRECTED_REQUEST | StatusCode::LOCKED, _) => return Err(not_ready()),
                _ => return Ok(response),
            }
        }
        self.metrics.lost_ways.inc();
        tracing::warn!(%cell, "a sign-up was sent from cell to cell");
        Err(try_again(TryAgain::NotReady))
    }

    /// Remembers whose the e-mail is, for log-ins.
    async fn learn(&self, response: Response, email: &Email) -> Result<Response, Problem> {
        if response.status() != StatusCode::CREATED {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let bytes = read_body(body).await.map_err(|_| try_again(TryAgain::Unknown))?;
        if let Ok(signed_up) = serde_json::from_slice::<SignedUp>(&bytes) {
            self.emails.put(hex::encode(self.pepper.hash(email).0), signed_up.user_id);
        }
        Ok(Response::from_parts(head, bytes.into()))
    }
}

/// Draws ids until one falls on a cell that takes new users.
fn draw(world: &World, region: &RegionName) -> Result<(UserId, CellName), Problem> {
    for _ in 0..DRAWS_MAX {
        let user = UserId::mint(region, uuid::Uuid::now_v7().as_u128());
        let cell = world.ring_cell(&user);
        if world.takes_new_users(cell) {
            return Ok((user, cell.clone()));
        }
    }
    tracing::warn!(%region, "no cell takes new users");
    Err(try_again(TryAgain::Overloaded))
}

/// The same for a repeat under the same key, random without one.
fn intent(caller: &KeyName, key: Option<&str>) -> String {
    match key {
        Some(key) => hex::encode(BodyHash::of(&[b"sign-up", caller.as_str().as_bytes(), key.as_bytes()]).0),
        None => Intent::random().into(),
    }
}

fn invalid(pointer: &str, message: &str) -> Problem {
    Problem::new(ProblemType::Invalid).errors(vec![SettingProblem::new(pointer, message)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_repeats_with_its_key_and_caller_only() {
        let (a, b) = (KeyName::new("a").unwrap(), KeyName::new("b").unwrap());
        assert_eq!(intent(&a, Some("k")), intent(&a, Some("k")));
        assert_ne!(intent(&a, Some("k")), intent(&b, Some("k")));
        assert_ne!(intent(&a, None), intent(&a, None));
        assert!(Intent::new(&intent(&a, Some("k"))).is_ok());
    }
}

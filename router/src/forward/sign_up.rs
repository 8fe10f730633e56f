//! Sign-up: draws an id whose place is a cell that takes users, and hands the rest to that cell.

use super::Front;
use super::cargo::{Cargo, Outgoing, read_whole};
use super::requests::{arrived, forward, home, refusal, refused};
use crate::cells::Fault;
use crate::route::{Lost, Map};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use cellar_model::wire::{PlacedSignUp, SignUpBody};
use cellar_model::{
    CellName, DeadlineMs, Epoch, Problem, ProblemType, RegionName, Scope, SettingProblem, TryAgain, UserId,
    header as ours,
};
use cellar_server::{front, idempotency_key, parse_json, sign_up_intent};
use http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use tokio::time::Instant;

/// Ids drawn until one falls on a cell that takes users. With a twentieth of the ring open, one sign-up in
/// twenty-five finds none.
pub(crate) const DRAWS_MAX: usize = 64;
/// Times a sign-up is sent on: each to the cell of a claim or home that an earlier attempt left.
const FOLLOWED_MAX: usize = 3;

impl Front {
    pub(super) async fn sign_up(&self, request: Request) -> Result<Response, Problem> {
        let (mut parts, body) = request.into_parts();
        let admitted = front::admit(&self.keys, &mut parts.headers, DeadlineMs::STANDARD)?;
        admitted.caller.require(Scope::Users)?;
        let until = Instant::now() + admitted.deadline.duration();
        let key = idempotency_key(&parts.headers)?;
        let body: SignUpBody = parse_json(&read_whole(body).await?)?;
        let Ok(map) = self.requests.routing.known_map() else {
            return Ok(refused(refusal(TryAgain::NotReady)));
        };
        let (user_id, region, cell) = place(&map, &body, &self.region, || uuid::Uuid::now_v7().as_u128())?;
        let user = user_id.clone();
        let intent = sign_up_intent(&admitted.caller.name(), key.as_deref());
        let placed = PlacedSignUp { user_id, region, intent, body };
        // Plain data with string keys: nothing in it can fail to serialize.
        let placed = Bytes::from(serde_json::to_vec(&placed).unwrap_or_default());
        parts.uri = Uri::from_static("/cell/v1/users");
        // Made by the process that has the user's shard: it may remember that there was no such user.
        if let Ok(value) = HeaderValue::from_str(user.as_str()) {
            parts.headers.insert(HeaderName::from_static(ours::USER), value);
        }
        parts.headers.remove(ours::IDEMPOTENCY_KEY);
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let outgoing = Outgoing::new(parts, Cargo::Kept(placed));
        Ok(self.send_sign_up(&map, cell, &user, outgoing, until).await)
    }

    /// An earlier attempt under the same key may have gone to another cell, which this one then names.
    async fn send_sign_up(
        &self,
        map: &Map,
        mut cell: CellName,
        user: &UserId,
        mut outgoing: Outgoing,
        until: Instant,
    ) -> Response {
        for _ in 0..=FOLLOWED_MAX {
            match forward(map, &cell, user, &mut outgoing, until).await {
                Ok(response) if response.status() == StatusCode::MISDIRECTED_REQUEST => match home(&response) {
                    Some((named, _)) if named != cell => {
                        self.requests.routing.metrics.followed.inc();
                        cell = named;
                    }
                    _ => break,
                },
                Ok(response) if response.status() == StatusCode::LOCKED => break,
                Ok(response) => return arrived(response),
                Err(fault) => return refused(refusal(Fault::reason(fault))),
            }
        }
        self.requests.routing.say_lost(user, &cell, Epoch(0), Lost::SignUp);
        refused(refusal(TryAgain::Unknown))
    }
}

/// Who it is to be, by `draw` if they bring no id, and in which region and cell.
pub(crate) fn place(
    map: &Map,
    body: &SignUpBody,
    own: &RegionName,
    mut draw: impl FnMut() -> u128,
) -> Result<(UserId, RegionName, CellName), Problem> {
    if let Some(region) = &body.region
        && map.topology.region(region).is_none()
    {
        return Err(invalid("/region", "there is no such region"));
    }
    if let Some(user) = &body.user_id {
        // The ring cell of an id that was brought keeps a forward row if the user lives elsewhere. One that has
        // the form of those that are drawn lives where it says.
        let region = map.region_of(user);
        let asked = body.region.as_ref().unwrap_or(&region);
        if *asked != region && map.mints(user) {
            return Err(invalid("/region", &format!("this user_id belongs on the ring of region {region}")));
        }
        let full = || Problem::new(ProblemType::TryAgain).detail("the cell of this user_id takes no new users now");
        let cell = map.place(asked, user).ok_or_else(full)?;
        return Ok((user.clone(), asked.clone(), cell.clone()));
    }
    let region = body.region.as_ref().unwrap_or(own);
    // One whose cell would refuse him now, as it says itself: only if there is no other.
    let mut refused = None;
    for _ in 0..DRAWS_MAX {
        let user = UserId::mint(region, draw());
        let Some(cell) = map.place(region, &user) else { continue };
        let placed = (user, region.clone(), cell.clone());
        if map.welcomes(&placed.2) {
            return Ok(placed);
        }
        refused.get_or_insert(placed);
    }
    let full = "no cell of this region takes new users now";
    refused.ok_or_else(|| Problem::new(ProblemType::TryAgain).detail(full))
}

fn invalid(pointer: &str, message: &str) -> Problem {
    Problem::new(ProblemType::Invalid).errors(vec![SettingProblem::new(pointer, message)])
}

//! Forwarding everything that is not a check, to one user's cell.

use super::cargo::{Outgoing, strip_connection};
use super::enrol::{Enrolments, FirstSight};
use super::{Pause, left};
use crate::cells::Fault;
use crate::route::{Map, Onward, Routing};
use axum::body::Body;
use axum::response::Response;
use cellar_model::{CellName, Epoch, Refusal, TryAgain, UserId, Verdict, header as ours, wire};
use http::StatusCode;
use hyper::body::Incoming;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

#[derive(Clone)]
pub(crate) struct Requests {
    pub(crate) routing: Arc<Routing>,
    enrolments: Arc<Enrolments>,
}

impl Requests {
    pub(crate) fn new(routing: Arc<Routing>, enrolments: Arc<Enrolments>) -> Self {
        Self { routing, enrolments }
    }

    /// The answer of the cell that is `user`'s home, or why there is none. Never 421 or 423.
    pub(super) async fn send(
        &self,
        user: &UserId,
        mut sight: FirstSight,
        mut outgoing: Outgoing,
        until: Instant,
    ) -> Result<Response, Refusal> {
        let map = self.routing.known_map()?;
        let mut journey = self.routing.depart(&map, user);
        let mut pause = Pause::default();
        loop {
            let onward = match forward(&map, &journey.cell, user, &mut outgoing, until).await {
                Ok(response) if response.status() == StatusCode::MISDIRECTED_REQUEST => {
                    let told = home(&response);
                    timeout_at(until, self.routing.elsewhere(&map, user, &mut journey, told)).await
                }
                Ok(response) if response.status() == StatusCode::LOCKED => {
                    pause.take(&map, &journey.cell, until).await.map_err(refusal)?;
                    Ok(Onward::Ask)
                }
                Ok(response) => return Ok(arrived(response)),
                Err(Fault::Down) => timeout_at(until, self.routing.cell_down(&map, user, &mut journey)).await,
                Err(fault) => return Err(refusal(fault.reason())),
            };
            match onward {
                Ok(Onward::Ask) => {}
                Ok(Onward::Absent) => self.enrolments.meet(&map, user, &mut journey, &mut sight, until).await?,
                Ok(Onward::Refuse(refused)) => return Err(refused),
                Err(_) => return Err(refusal(TryAgain::Deadline)),
            }
        }
    }
}

/// The answer of the cell's process that has `user`'s shard.
pub(super) async fn forward(
    map: &Map,
    cell: &CellName,
    user: &UserId,
    outgoing: &mut Outgoing,
    until: Instant,
) -> Result<http::Response<Incoming>, Fault> {
    // A cell that the topology does not name cannot be reached.
    let cell = map.cell(cell).ok_or(Fault::Down)?;
    let mut way = cell.way(user);
    loop {
        let left = left(until).ok_or(Fault::Late)?;
        // Gone with the first attempt, at a process that did nothing. The next request goes to the right
        // one.
        let request = outgoing.request(left).ok_or(Fault::Spent)?;
        match cell.forward(&way, request, until).await {
            Ok(response) => match instance(&response) {
                Some(endpoint) if cell.follow(&mut way, endpoint) => {}
                Some(_) => return Err(Fault::Down),
                None => {
                    cell.arrived(&way);
                    return Ok(response);
                }
            },
            Err(Fault::Down) if cell.sidestep(&mut way) => {}
            Err(fault) => return Err(fault),
        }
    }
}

/// The process of the same cell that a 421 names.
fn instance(response: &http::Response<Incoming>) -> Option<&str> {
    let misdirected = response.status() == StatusCode::MISDIRECTED_REQUEST;
    response.headers().get(ours::INSTANCE).filter(|_| misdirected)?.to_str().ok()
}

/// Whom a 421 names.
pub(super) fn home(response: &http::Response<Incoming>) -> Option<(CellName, Epoch)> {
    response.headers().get(ours::HOME).and_then(|value| value.to_str().ok()).and_then(wire::parse_home_header)
}

/// A cell's answer as the caller gets it.
pub(crate) fn arrived(mut response: http::Response<Incoming>) -> Response {
    strip_connection(response.headers_mut());
    response.map(Body::new)
}

pub(super) fn refusal(reason: TryAgain) -> Refusal {
    Refusal::TryAgain { reason }
}

/// A refusal as the caller gets it.
pub(super) fn refused(refusal: Refusal) -> Response {
    cellar_server::verdict_response(&Verdict::Refused(refusal)).map(Body::new)
}

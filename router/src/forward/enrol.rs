//! Enrolment: a foreign user id is signed up by the first request for it, under a key with `auto_enrol`.
//!
//! That nobody has this name is certain by now: its ring cell and the directory have said so. The cell makes the
//! user by an intent of key and id, so that first sights at many routers are one sign-up; those at this router
//! share one call.

use super::cargo::{Cargo, Outgoing};
use super::requests::{forward, refusal};
use crate::flights::{Flight, Flights};
use crate::route::{Journey, Map, Routing};
use bytes::Bytes;
use cellar_model::wire::PlacedEnrolment;
use cellar_model::{DeadlineMs, Refusal, TryAgain, UserId, header as ours};
use cellar_server::{Enrolment, enrolment_intent};
use http::{Request, StatusCode, header};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// Enrolments under way at once, of one id each. Each is two conditional writes and a transaction, and a flood of
/// made-up ids must not take the directory with it.
const ENROLMENTS_MAX: usize = 32;

/// What a request makes of a user who is nowhere: at most one sign-up.
pub(super) enum FirstSight {
    /// There is no such user.
    Unknown,
    Enrols(Enrolment),
    Enrolled,
}

impl From<Option<Enrolment>> for FirstSight {
    fn from(enrol: Option<Enrolment>) -> Self {
        enrol.map_or(FirstSight::Unknown, FirstSight::Enrols)
    }
}

/// Enrolments under way, by their intents.
pub(crate) struct Enrolments {
    routing: Arc<Routing>,
    flights: Flights<String, Result<(), Refusal>>,
}

impl Enrolments {
    pub(crate) fn new(routing: Arc<Routing>) -> Arc<Self> {
        Arc::new(Self { routing, flights: Flights::default() })
    }

    /// Nobody has this name. If the request enrols, someone has after this, and the journey begins anew.
    pub(super) async fn meet(
        self: &Arc<Self>,
        map: &Map,
        user: &UserId,
        journey: &mut Journey,
        sight: &mut FirstSight,
        until: Instant,
    ) -> Result<(), Refusal> {
        match std::mem::replace(sight, FirstSight::Enrolled) {
            FirstSight::Unknown => return Err(Refusal::UnknownUser),
            // Made a moment ago, and not to be found: that is no "no".
            FirstSight::Enrolled => return Err(refusal(TryAgain::Unknown)),
            // Only sign-ups draw such ids, so that one that is unknown is a mistake.
            FirstSight::Enrols(_) if map.mints(user) => return Err(Refusal::UnknownUser),
            FirstSight::Enrols(by) => {
                let flight = self.join(user, by)?;
                let enrolled = timeout_at(until, flight).await.map_err(|_| refusal(TryAgain::Deadline))?;
                // One that panicked is one that failed.
                enrolled.unwrap_or(Err(refusal(TryAgain::Unknown)))?;
            }
        }
        *journey = self.routing.depart(map, user);
        Ok(())
    }

    fn join(self: &Arc<Self>, user: &UserId, by: Enrolment) -> Result<Flight<Result<(), Refusal>>, Refusal> {
        let intent = enrolment_intent(&by.by, user);
        let (enrolments, user, name) = (self.clone(), user.clone(), intent.clone());
        self.flights.join(intent, |others| {
            if others >= ENROLMENTS_MAX {
                return Err(refusal(TryAgain::Overloaded));
            }
            Ok(async move { enrolments.enrol(&user, &by, &name).await })
        })
    }

    async fn enrol(&self, user: &UserId, by: &Enrolment, intent: &str) -> Result<(), Refusal> {
        let map = self.routing.known_map()?;
        let Some(cell) = map.place(&map.region_of(user), user) else {
            // As for any sign-up with an id of its own: certainly nothing written.
            return Err(refusal(TryAgain::Overloaded));
        };
        let until = Instant::now() + DeadlineMs::STANDARD.duration();
        let status = match forward(&map, cell, user, &mut placed(user, by, intent), until).await {
            Ok(response) => response.status(),
            Err(fault) => return Err(refusal(fault.reason())),
        };
        match status {
            StatusCode::CREATED => {
                self.routing.metrics.enrolled.inc();
            }
            // Somebody's by now: where, the next look tells.
            StatusCode::CONFLICT | StatusCode::MISDIRECTED_REQUEST => {}
            StatusCode::UNPROCESSABLE_ENTITY => return Err(Refusal::UnknownTier(by.tier.clone())),
            status => {
                tracing::warn!(?user, %cell, %status, "a cell did not enrol a user");
                return Err(refusal(TryAgain::Unknown));
            }
        }
        self.routing.forget_absence(user);
        Ok(())
    }
}

fn placed(user: &UserId, by: &Enrolment, intent: &str) -> Outgoing {
    let body = PlacedEnrolment { user_id: user.clone(), intent: intent.to_owned(), tier: by.tier.clone() };
    // Plain data with string keys: nothing in it can fail to serialize.
    let body = Bytes::from(serde_json::to_vec(&body).unwrap_or_default());
    // Names and types are plain characters: every header is one.
    let request = Request::post("/cell/v1/enrolments")
        .header(ours::CALLER, by.by.as_str())
        // Made by the process that has the user's shard: it may remember that there was no such user.
        .header(ours::USER, user.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .body(())
        .unwrap_or_default();
    Outgoing::new(request.into_parts().0, Cargo::Kept(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::stub::{Rows, routing, topology};
    use cellar_model::{KeyName, TierName};

    /// Goal: ids above the maximum are refused at once, and those under way are joined.
    /// Method: a cell that takes connections and answers nothing.
    #[tokio::test]
    async fn no_more_ids_than_the_maximum_are_enrolled_at_once() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let routing = routing(folder.path(), Arc::new(Rows::default()));
        let url = format!("http://{}", silent.local_addr().unwrap());
        routing.adopt(topology(&[("eu-1", url)])).unwrap();
        let enrolments = Enrolments::new(routing);
        let by = || Enrolment { by: KeyName::new("app").unwrap(), tier: TierName::new("free").unwrap() };
        let join = |n: usize| enrolments.join(&UserId::new(&format!("u{n}")).unwrap(), by());
        assert!((0..ENROLMENTS_MAX).all(|n| join(n).is_ok()));
        assert_eq!(join(ENROLMENTS_MAX).err(), Some(refusal(TryAgain::Overloaded)));
        assert!(join(0).is_ok());
    }
}

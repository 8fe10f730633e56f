//! Requests and checks on their way to the cells.

mod cargo;
mod checks;
mod enrol;
mod log_in;
mod named;
mod preferences;
mod requests;
mod routes;
mod sign_up;
mod stale;

pub(crate) use checks::Forwarder;
pub(crate) use enrol::Enrolments;
pub(crate) use requests::{Requests, arrived};
pub(crate) use routes::{Front, routes, time_answers};
pub(crate) use sign_up::{DRAWS_MAX, place};
pub(crate) use stale::StalePreferences;

use crate::route::Map;
use cellar_model::{CellName, DeadlineMs, TryAgain};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What is left until `until`; none once it has passed.
fn left(until: Instant) -> Option<DeadlineMs> {
    let left = until.saturating_duration_since(Instant::now());
    (!left.is_zero()).then(|| DeadlineMs::new(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)))
}

/// Between two looks at a user who is being moved: a freeze takes some 25 ms.
#[derive(Default)]
struct Pause {
    taken: u32,
}

impl Pause {
    /// Waits 5 to 15 ms at first, up to 40 to 120 ms later; or says why not.
    async fn take(&mut self, map: &Map, cell: &CellName, until: Instant) -> Result<(), TryAgain> {
        let place = map.cell(cell).and_then(|cell| cell.wait_frozen());
        let _place = place.ok_or(TryAgain::Overloaded)?;
        let base_ms = 10 << self.taken.min(3);
        self.taken += 1;
        let pause = Duration::from_millis(base_ms / 2 + rand::random_range(0..=base_ms));
        if Instant::now() + pause >= until {
            return Err(TryAgain::Deadline);
        }
        sleep(pause).await;
        Ok(())
    }
}

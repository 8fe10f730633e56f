//! The sweep: reservations that are due, of users nobody asks about.
//!
//! Postgres knows when each drained record's first reservation expires. Once a second the shard touches
//! the users who are due, as a check of theirs would, and their records look after themselves. Only a wall
//! clock passes by itself: in virtual time a user's time is what his checks say.

use super::{Ask, Shard};
use crate::clock::ClockMode;
use crate::decisions::Remembered;
use crate::moments::Moments;
use cellar_model::{Check, Cost, DeadlineMs, Operation, UserId};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Instant;

/// Users touched in one second. Twice a batch: more than that expiring at once waits its turn, or for
/// the user's own next check.
const USERS_MAX: usize = 512;

impl Shard {
    /// Touches those found due since the last tick, and asks for the next. One question at a time.
    pub(super) fn sweep(&mut self) {
        // One that is stopping drains what it has; its successor sweeps.
        if self.parts.config.clock.mode() == ClockMode::Virtual || self.parts.stop.is_cancelled() {
            return;
        }
        match self.sweep.as_mut().map(oneshot::Receiver::try_recv) {
            Some(Err(TryRecvError::Empty)) => return,
            Some(Ok(due)) => self.ready.extend(due.into_iter().map(touch)),
            // The question was not answered: it is asked again.
            Some(Err(TryRecvError::Closed)) | None => {}
        }
        let (answer, due) = oneshot::channel();
        self.sweep = Some(due);
        let (postgres, now) = (self.parts.postgres.clone(), self.parts.config.clock.now());
        tokio::spawn(async move {
            match postgres.due_users(now, USERS_MAX).await {
                // The shard may have gone: its successor asks again.
                Ok(due) => _ = answer.send(due),
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "expired reservations wait");
                }
            }
        });
    }
}

/// A check that nobody waits for.
fn touch(user: UserId) -> Ask {
    let check = Check {
        user,
        operation: Operation::Sweep,
        cost: Cost::one_request(),
        attributes: Vec::new(),
        key: None,
        at: None,
        deadline: DeadlineMs::STANDARD,
        session: None,
        origin: None,
    };
    let now = Instant::now();
    let (deadline, moments) = (now + check.deadline.duration(), Moments::new(now.into_std()));
    let (reply, remembered) = (oneshot::channel().0, Remembered::default());
    Ask { check, deadline, reply, moments, looked_up: true, found: None, remembered }
}

//! The way of one request: first to where the user should be, then wherever cells and the directory
//! point.
//!
//! **Invariant:** epochs only rise along the way, so there is no loop; a bound of three hops besides.

use crate::app::App;
use crate::cell::Cell;
use crate::world::World;
use cellar_directory::{HomeState, Homes, UserHome};
use cellar_model::{CellName, Epoch, Refusal, TryAgain, UserId};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};

const HOPS_MAX: u32 = 3;
/// A look-up's answer, an absence too, spares the next one for this long.
const LOOK_UP_FRESH: Duration = Duration::from_secs(1);
const LOOK_UPS_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");
/// Look-ups at once. A dead cell must not turn all its users' requests into reads of the directory.
const READS_MAX: usize = 16;
/// Between two tries at a user who is being moved: a freeze lasts some 25 ms.
const FROZEN_PAUSE_MS: std::ops::Range<u64> = 10..40;

/// What the directory said lately about users whom a cell did not know.
pub(crate) struct LookUps {
    fresh: Mutex<LruCache<UserId, (Instant, Option<UserHome>)>>,
    reads: Semaphore,
}

impl Default for LookUps {
    fn default() -> Self {
        Self { fresh: Mutex::new(LruCache::new(LOOK_UPS_MAX)), reads: Semaphore::new(READS_MAX) }
    }
}

impl LookUps {
    fn get(&self, user: &UserId) -> Option<Option<UserHome>> {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, home) = fresh.get(user)?;
        (at.elapsed() < LOOK_UP_FRESH).then(|| home.clone())
    }

    fn put(&self, user: &UserId, home: Option<UserHome>) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.put(user.clone(), (Instant::now(), home));
    }
}

/// Where a request is, and by what it got there.
pub(crate) struct Trail {
    pub(crate) cell: Arc<Cell>,
    epoch: Epoch,
    hops: u32,
    asked: bool,
}

/// What to do after a cell did not serve the user.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Send it again: `cell` may be another.
    Again,
    GiveUp(Refusal),
}

fn give_up(reason: TryAgain) -> Step {
    Step::GiveUp(Refusal::TryAgain { reason })
}

impl App {
    /// Where to begin: the exception cache, else the ring.
    pub(crate) fn begin(&self, world: &World, user: &UserId) -> Option<Trail> {
        if let Some((home, epoch)) = self.exceptions.get(user)
            && let Some(cell) = world.cell(&home)
        {
            return Some(Trail { cell: cell.clone(), epoch, hops: 0, asked: false });
        }
        self.at(world, world.ring_cell(user))
    }

    pub(crate) fn at(&self, world: &World, cell: &CellName) -> Option<Trail> {
        let cell = world.cell(cell)?.clone();
        Some(Trail { cell, epoch: Epoch(0), hops: 0, asked: false })
    }

    /// The cell said: not here, and perhaps where.
    pub(crate) async fn misdirected(
        &self,
        trail: &mut Trail,
        user: &UserId,
        home: Option<(CellName, Epoch)>,
        until: Instant,
    ) -> Step {
        if let Some((home, epoch)) = home
            && epoch > trail.epoch
        {
            return self.follow_to(trail, user, &home, epoch);
        }
        self.look_up(trail, user, TryAgain::DirectoryDown, until).await
    }

    /// The cell certainly did not get it: perhaps the user lives elsewhere by now.
    pub(crate) async fn down(&self, trail: &mut Trail, user: &UserId, until: Instant) -> Step {
        self.look_up(trail, user, TryAgain::CellDown, until).await
    }

    /// Mid-move: waits a moment, if many do not wait already.
    pub(crate) async fn frozen(&self, trail: &Trail, until: Instant) -> Step {
        let Ok(_place) = trail.cell.frozen_waits.try_acquire() else {
            return give_up(TryAgain::Overloaded);
        };
        let pause = Duration::from_millis(rand::random_range(FROZEN_PAUSE_MS));
        if Instant::now() + pause >= until {
            return give_up(TryAgain::Deadline);
        }
        sleep_until(Instant::now() + pause).await;
        Step::Again
    }

    fn follow_to(&self, trail: &mut Trail, user: &UserId, home: &CellName, epoch: Epoch) -> Step {
        let Some(world) = self.world() else { return give_up(TryAgain::NotReady) };
        let Some(cell) = world.cell(home).filter(|_| trail.hops < HOPS_MAX) else {
            return self.lost(user, home, epoch);
        };
        if world.ring_cell(user) == home {
            self.exceptions.remove(user);
        } else {
            self.exceptions.put(user.clone(), (home.clone(), epoch));
        }
        self.metrics.redirects.inc();
        trail.cell = cell.clone();
        trail.epoch = epoch;
        trail.hops += 1;
        Step::Again
    }

    /// Asks the directory, once a way and once a second for each user.
    async fn look_up(&self, trail: &mut Trail, user: &UserId, otherwise: TryAgain, until: Instant) -> Step {
        if std::mem::replace(&mut trail.asked, true) {
            return self.lost(user, &trail.cell.name, trail.epoch);
        }
        let home = match self.look_ups.get(user) {
            Some(home) => home,
            None => match self.read_home(user, until).await {
                Some(home) => home,
                None => return give_up(otherwise),
            },
        };
        let Some(home) = home.filter(|home| home.state != HomeState::Erased) else {
            return Step::GiveUp(Refusal::UnknownUser);
        };
        if home.epoch > trail.epoch && home.home != trail.cell.name {
            return self.follow_to(trail, user, &home.home, home.epoch);
        }
        if otherwise == TryAgain::CellDown {
            // It is where it belongs, and its cell is away.
            return give_up(otherwise);
        }
        self.lost(user, &home.home, home.epoch)
    }

    /// `None` if there was no answer.
    #[tracing::instrument(level = "debug", name = "directory.read", skip_all, fields(user = ?user))]
    async fn read_home(&self, user: &UserId, until: Instant) -> Option<Option<UserHome>> {
        let _place = self.look_ups.reads.try_acquire().ok()?;
        self.metrics.directory_reads.inc();
        match timeout_at(until, self.directory.read_home(user)).await {
            Ok(Ok(home)) => {
                self.look_ups.put(user, home.clone());
                Some(home)
            }
            Ok(Err(_)) | Err(_) => {
                self.metrics.directory_failures.inc();
                None
            }
        }
    }

    fn lost(&self, user: &UserId, home: &CellName, epoch: Epoch) -> Step {
        self.metrics.lost_ways.inc();
        tracing::warn!(?user, %home, %epoch, "no way to this user's home");
        give_up(TryAgain::NotReady)
    }
}

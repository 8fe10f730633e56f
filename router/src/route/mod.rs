//! Which cell is a user's home, by everything this router knows.

mod exceptions;
mod journey;
mod lookup;
mod map;
mod memory;
mod recent;

pub use exceptions::Exceptions;
pub(crate) use journey::{Journey, Lost, Onward};
pub(crate) use lookup::Lookup;
pub(crate) use map::Map;
pub(crate) use memory::Memory;

use journey::Absence;

use crate::flights::Flights;
use crate::metrics::RouterMetrics;
use cellar_directory::{EmailHash, UserHome};
use cellar_model::{CellName, Epoch, Refusal, Topology, TopologyError, TryAgain, UserId};
use cellar_server::disk::DiskCopy;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// E-mails of the last log-ins, by their keyed hash: some 15 MB.
const EMAILS_MAX: usize = 100_000;
/// Users whom the directory did not know a moment ago.
const ABSENT_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("10,000 is not 0");
/// For how long that spares the directory another read.
const ABSENT: Duration = Duration::from_secs(1);
/// Reads of the directory at once: a cell that is down sends its users' requests here, and must not
/// take the directory with it.
const READS_MAX: usize = 32;
/// How long one may take: as long as most requests have.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything that routing knows. Shared by all requests.
pub(crate) struct Routing {
    map: RwLock<Option<Arc<Map>>>,
    exceptions: Exceptions,
    emails: Memory<[u8; 32], UserId>,
    absent: Mutex<LruCache<UserId, (Instant, Absence)>>,
    lookup: Arc<dyn Lookup>,
    reads: Arc<Semaphore>,
    /// Homes that are being read: many requests for one user are one read.
    readings: Flights<UserId, Result<Option<UserHome>, TryAgain>>,
    pub(crate) metrics: RouterMetrics,
}

impl Routing {
    /// With what `folder` remembers, and no topology yet.
    pub(crate) fn new(folder: &Path, lookup: Arc<dyn Lookup>, metrics: RouterMetrics) -> Arc<Self> {
        let routing = Self {
            map: RwLock::new(None),
            exceptions: Exceptions::open(folder),
            emails: Memory::open(DiskCopy::in_folder(folder, "emails"), EMAILS_MAX),
            absent: Mutex::new(LruCache::new(ABSENT_MAX)),
            lookup,
            reads: Arc::new(Semaphore::new(READS_MAX)),
            readings: Flights::default(),
            metrics,
        };
        routing.count_exceptions();
        Arc::new(routing)
    }

    pub(crate) fn map(&self) -> Option<Arc<Map>> {
        self.map.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The topology in force, or why there is no answer without one.
    pub(crate) fn known_map(&self) -> Result<Arc<Map>, Refusal> {
        self.map().ok_or(Refusal::TryAgain { reason: TryAgain::NotReady })
    }

    /// Goes on with `topology`, if the one held allows it.
    pub(crate) fn adopt(&self, topology: Topology) -> Result<(), TopologyError> {
        let held = self.map();
        if let Some(held) = &held {
            held.topology.may_become(&topology)?;
            if held.topology == topology {
                return Ok(());
            }
        }
        let map = Map::new(topology, held.as_deref(), &self.metrics)?;
        tracing::info!(revision = %map.topology.revision, "topology in force");
        self.metrics.cells_are(|name| map.cells().any(|cell| cell.name().to_string() == name));
        *self.map.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Arc::new(map));
        Ok(())
    }

    /// The exception, if this user is one.
    pub(crate) fn exception(&self, user: &UserId) -> Option<(CellName, Epoch)> {
        self.exceptions.get(user)
    }

    /// Remembers a user's home: as an exception if it is off the ring.
    fn learn(&self, map: &Map, user: &UserId, home: &CellName, epoch: Epoch) {
        if self.exception(user).is_some_and(|(_, held)| held > epoch) {
            return;
        }
        if map.ring_owner(user) == home {
            self.exceptions.forget(user);
        } else {
            self.exceptions.put(user, home, epoch);
        }
        self.count_exceptions();
    }

    /// Remembers a home that nobody has confirmed.
    #[cfg(test)]
    pub(crate) fn remember(&self, user: &UserId, home: &CellName, epoch: Epoch) {
        self.exceptions.put(user, home, epoch);
    }

    fn count_exceptions(&self) {
        self.metrics.exceptions.set(i64::try_from(self.exceptions.len()).unwrap_or(i64::MAX));
    }

    /// What the directory says of a user. None: there is no such user, or not any more.
    async fn read_home(&self, user: &UserId) -> Result<Option<UserHome>, TryAgain> {
        let (lookup, reads, of) = (self.lookup.clone(), self.reads.clone(), user.clone());
        let reading = self.readings.join(user.clone(), |_| {
            let place = reads.try_acquire_owned().map_err(|_| TryAgain::Overloaded)?;
            Ok(async move {
                let read = timeout(READ_TIMEOUT, lookup.home(&of)).await;
                drop(place);
                read.map_err(|_| TryAgain::DirectoryDown)?.map_err(|error| {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "the directory did not say where a user lives");
                    TryAgain::DirectoryDown
                })
            })
        })?;
        // One that panicked is one that failed.
        reading.await.unwrap_or(Err(TryAgain::DirectoryDown))
    }

    fn absence(&self, user: &UserId) -> Option<Absence> {
        let mut absent = self.absent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        absent.get(user).filter(|(since, _)| since.elapsed() < ABSENT).map(|(_, absence)| *absence)
    }

    fn remember_absence(&self, user: &UserId, absence: Absence) {
        let mut absent = self.absent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        absent.put(user.clone(), (Instant::now(), absence));
    }

    /// The user has been signed up a moment ago.
    pub(crate) fn forget_absence(&self, user: &UserId) {
        self.absent.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop(user);
    }

    /// Whose e-mail this is: from memory, else by its claim.
    pub(crate) async fn user_of(&self, email: &EmailHash) -> Result<Option<UserId>, TryAgain> {
        if let Some(user) = self.emails.get(&email.hash) {
            return Ok(Some(user));
        }
        let _place = self.reads.try_acquire().map_err(|_| TryAgain::Overloaded)?;
        let claim = self.lookup.claim(email).await.map_err(|error| {
            tracing::debug!(error = &error as &dyn std::error::Error, "the directory did not say whose an e-mail is");
            TryAgain::DirectoryDown
        })?;
        let held = claim.filter(|claim| claim.state == cellar_directory::ClaimState::Held);
        Ok(held.map(|claim| {
            self.emails.put(email.hash, claim.user.clone());
            claim.user
        }))
    }

    /// The e-mail may have changed hands: the next log-in asks the directory.
    pub(crate) fn doubt_email(&self, email: &EmailHash) {
        self.emails.forget(&email.hash);
    }

    /// Writes down what was learned. Blocks for the disk.
    pub(crate) fn save(&self) {
        for saved in [self.exceptions.save(), self.emails.save()] {
            if let Err(error) = saved {
                tracing::warn!(error = format!("{error:#}"), "what was learned is not on disk");
            }
        }
    }
}

//! Users known to live off the ring.

use super::Memory;
use cellar_model::{CellName, Epoch, Point, UserId};
use cellar_server::disk::DiskCopy;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A million are some 65 MB. Who is forgotten is found by the forward of his ring cell.
const EXCEPTIONS_MAX: usize = 1_000_000;
/// The longest name of a cell.
const NAME_BYTES: usize = 16;

/// Users off the ring, at most a million.
///
/// By a user's point and not by his id, which is twice as long: should two users ever share one, one of
/// them goes to the other's cell first, and is sent on.
pub struct Exceptions(Memory<u64, Place>);

/// A home in 24 bytes.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Place {
    /// Filled up with zeros.
    cell: [u8; NAME_BYTES],
    epoch: u64,
}

impl Exceptions {
    /// What `folder` has of them.
    pub fn open(folder: &Path) -> Self {
        Self(Memory::open(DiskCopy::in_folder(folder, "exceptions"), EXCEPTIONS_MAX))
    }

    /// Where the user lives, and since which epoch.
    pub fn get(&self, user: &UserId) -> Option<(CellName, Epoch)> {
        if self.is_empty() {
            return None;
        }
        let place = self.0.get(&key(user))?;
        let name = std::str::from_utf8(&place.cell).ok()?.trim_end_matches('\0');
        Some((CellName::new(name).ok()?, Epoch(place.epoch)))
    }

    pub fn put(&self, user: &UserId, home: &CellName, epoch: Epoch) {
        let mut cell = [0; NAME_BYTES];
        let name = home.as_str().as_bytes();
        // A name is at most as long, by its type.
        let Some(place) = cell.get_mut(..name.len()) else { return };
        place.copy_from_slice(name);
        self.0.put(key(user), Place { cell, epoch: epoch.0 });
    }

    pub(crate) fn forget(&self, user: &UserId) {
        self.0.forget(&key(user));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the copy on disk, if there is something new. Blocks for the disk.
    pub fn save(&self) -> anyhow::Result<()> {
        self.0.save()
    }
}

fn key(user: &UserId) -> u64 {
    let Point(point) = user.placement_key().point();
    point
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_remembered_by_name_and_epoch_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let exceptions = Exceptions::open(folder.path());
        let homes = ["a", "eu-1", "sixteen-letters1"].map(|name| CellName::new(name).unwrap());
        let users = ["alice", "bob", "carol"].map(|id| UserId::new(id).unwrap());
        for ((user, home), epoch) in users.iter().zip(&homes).zip(2..) {
            exceptions.put(user, home, Epoch(epoch));
        }
        exceptions.save().unwrap();
        let again = Exceptions::open(folder.path());
        for ((user, home), epoch) in users.iter().zip(&homes).zip(2..) {
            assert_eq!(again.get(user), Some((home.clone(), Epoch(epoch))));
        }
        again.forget(&users[0]);
        assert_eq!((again.get(&users[0]), again.len()), (None, 2));
    }
}

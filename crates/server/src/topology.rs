//! The topology as a process follows it: the last good one on disk, and none that may not follow it.

use crate::disk::DiskCopy;
use cellar_model::{Revision, Topology, TopologyError};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a follower of the topology keeps beside the one in force, which is its owner's.
pub struct TopologyKeeper {
    copy: Arc<DiskCopy>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Behind the one in force while the disk cannot be written to.
    on_disk: Option<Revision>,
    /// The last topology that was not taken, so that it is said once.
    refused: Option<Revision>,
}

impl TopologyKeeper {
    pub fn in_folder(folder: &Path) -> Self {
        Self { copy: Arc::new(DiskCopy::in_folder(folder, "topology")), kept: Mutex::default() }
    }

    /// Has the one on disk adopted, if there is one: it binds what may follow.
    pub fn read(&self, adopt: impl FnOnce(Topology) -> Result<(), TopologyError>) -> io::Result<()> {
        let Some(topology) = self.copy.read_document::<Topology>()? else { return Ok(()) };
        let revision = topology.revision;
        adopt(topology).map_err(|error| self.copy.refused(error))?;
        self.kept().on_disk = Some(revision);
        Ok(())
    }

    /// Has one that was read adopted. One that may not follow the held one is refused, loudly, and the held one
    /// kept.
    pub fn take(&self, topology: Topology, adopt: impl FnOnce(Topology) -> Result<(), TopologyError>) {
        let revision = topology.revision;
        if let Err(error) = adopt(topology)
            && self.kept().refused.replace(revision) != Some(revision)
        {
            tracing::error!(%revision, %error, "a topology is refused; going by the one held");
        }
    }

    /// Writes the one in force, unless the disk has it.
    pub async fn save(&self, held: &Topology) -> io::Result<()> {
        // Nobody holds two topologies of one revision.
        if self.kept().on_disk == Some(held.revision) {
            return Ok(());
        }
        self.copy.write_document(held).await?;
        self.kept().on_disk = Some(held.revision);
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

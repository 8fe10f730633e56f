//! A cell whose restored data has its place, until it is known to serve: a command that was killed in between is
//! given again, and goes on from there.

use crate::StackError;
use crate::folders::{Folders, remove, write_private};
use crate::process::Tether;
use crate::recovery::{APPEND_ONLY, BESIDE, folder_of};
use crate::stack::Stack;
use crate::start::Starting;
use crate::state::{ProcessEntry, Role};
use std::io::ErrorKind;
use std::path::PathBuf;

/// Beside a store's data, and moved with it: what the one who restores has to remember.
const NOTE: &str = "restored.json";

impl Stack {
    /// What was noted of a restore of `cell` that was cut short after the data had its place. None: there was none.
    pub fn restored_note(&self, cell: &str) -> Result<Option<Vec<u8>>, StackError> {
        let Some(folder) = self.store_of(cell, Role::Postgres)? else { return Ok(None) };
        let note = folder.join(NOTE);
        match std::fs::read(&note) {
            // Without its data it is a note about nothing.
            Ok(text) if folder.join("cluster").exists() => Ok(Some(text)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StackError::folder(note)(error)),
        }
    }

    /// Starts a cell whose restored data has its place.
    pub async fn start_restored(mut self, cell: &str) -> Result<Self, StackError> {
        let _lock = self.turn().await?;
        self.start_laid_down(cell).await
    }

    /// The restore of `cell` is over: nothing is left to be gone on with.
    pub fn forget_restored(&self, cell: &str) -> Result<(), StackError> {
        for role in [Role::RedisQuota, Role::Postgres] {
            if let Some(folder) = self.store_of(cell, role)? {
                remove(&folder.join(NOTE))?;
            }
        }
        Ok(())
    }

    /// The same, by the one who holds the lock.
    pub(crate) async fn start_laid_down(mut self, cell: &str) -> Result<Self, StackError> {
        if let Some(folder) = self.store_of(cell, Role::RedisQuota)? {
            remove(&folder.join(NOTE))?;
        }
        remove(&self.folders.data.join(BESIDE))?;
        self.state.filled = true;
        self.save()?;
        let Stack { folders, state, .. } = &mut self;
        let of_cell = |process: &ProcessEntry| process.cell.as_deref() == Some(cell);
        let mut starting = Starting { folder: &folders.stack, state, tether: Tether::Free };
        starting.stores(&mut |_| (), of_cell).await?;
        starting.cells(&mut |_| (), of_cell).await?;
        self.state.complete = true;
        self.announce()?;
        Stack::open(&self.folders.stack)
    }

    fn store_of(&self, cell: &str, role: Role) -> Result<Option<PathBuf>, StackError> {
        let mut processes = self.state.processes.iter();
        let store = processes.find(|process| process.role == role && process.cell.as_deref() == Some(cell));
        store.map(folder_of).transpose()
    }
}

/// Gives the stores of `cell`, each made in the folder beside it, their places.
///
/// Postgres last: a Redis with a note and without its Postgres is one that nobody has used, and is laid down anew.
pub(crate) fn put_in_place(stores: [(PathBuf, PathBuf); 2], note: &[u8]) -> Result<(), StackError> {
    for (new, place) in stores {
        write_private(&new.join(NOTE), note)?;
        remove(&place)?;
        std::fs::rename(&new, &place).map_err(StackError::folder(&place))?;
    }
    Ok(())
}

/// Whether a store's folder holds data that a cell has used, or may have.
pub(crate) fn holds_data(process: &ProcessEntry) -> Result<bool, StackError> {
    let folder = folder_of(process)?;
    let unused = process.role == Role::RedisQuota && folder.join(NOTE).exists();
    Ok(folder.join("cluster").exists() || (folder.join(APPEND_ONLY).exists() && !unused))
}

/// Ends what a killed restore has left running below the data of a stack: it is on its way out, but it may not
/// have got there.
pub(crate) async fn end_left_behind(folders: &Folders) {
    let beside = folders.data.join(BESIDE);
    for left in crate::process::working_in(&beside) {
        left.stop(crate::process::Gently::Int).await;
    }
}

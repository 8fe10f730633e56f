//! A stack's data kept under a name, to come back to; and the data of a stack that was never used.

use crate::StackError;
use crate::folders::{Folders, remove};
use crate::postgres::copy_folder;
use crate::stack::{Bootstrap, Keys, Stack};
use crate::world::DirectoryShape;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A name stands in a path.
const NAME_BYTES_MAX: usize = 32;
/// In one stack: each is a copy of all its data.
const SNAPSHOTS_MAX: usize = 32;
const DOCUMENT: &str = "snapshot.json";

/// A copy of a stack's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub name: String,
    /// Of the servers and the programs, all files together.
    pub bytes: u64,
    /// The stack's shape and processes, which have to be the same to load it.
    shape: Vec<String>,
}

impl Stack {
    /// Keeps the stack's data as it is now under `name`, in the place of an earlier one. The stack stands
    /// still meanwhile: what was acknowledged is in the copy, and nothing else is.
    pub async fn snapshot(&mut self, name: &str) -> Result<Snapshot, StackError> {
        check(name)?;
        let _lock = self.turn().await?;
        self.own_stores("a snapshot")?;
        let others = self.snapshots()?.into_iter().filter(|other| other.name != name).count();
        if others >= SNAPSHOTS_MAX {
            return Err(failed("taking a snapshot", format!("there are {others} already, as many as a stack keeps")));
        }
        let ran = self.stand_still().await;
        let (folders, document) = (self.folders.clone(), (name.to_owned(), self.shape()));
        let taken = blocking(move || take(&folders, &document.0, document.1)).await;
        self.go_on(ran).await?;
        taken
    }

    /// Puts the data of a snapshot in the place of what there is.
    pub async fn load(&mut self, name: &str) -> Result<Snapshot, StackError> {
        check(name)?;
        let _lock = self.turn().await?;
        let known = self.snapshots()?;
        let Some(snapshot) = known.iter().find(|snapshot| snapshot.name == name).cloned() else {
            let known: Vec<&str> = known.iter().map(|snapshot| snapshot.name.as_str()).collect();
            return Err(failed("loading a snapshot", format!("none is named {name}; there are: {}", known.join(", "))));
        };
        if snapshot.shape != self.shape() {
            return Err(failed("loading a snapshot", "the stack had other processes when it was taken".into()));
        }
        let from = self.folders.snapshots().join(name);
        let bytes = bytes_in(&from.join("data"));
        if bytes != snapshot.bytes {
            let cause = format!("{} has {bytes} bytes instead of {}: it is damaged", from.display(), snapshot.bytes);
            return Err(failed("loading a snapshot", cause));
        }
        let ran = self.stand_still().await;
        let (folders, keys) = (self.folders.clone(), self.state.policy_keys_file());
        let loaded = blocking(move || {
            let secrets = from.join("secrets");
            // One of an earlier build has policies without signatures, which the next start signs.
            if keys.file_name().is_some_and(|name| !secrets.join(name).exists()) {
                remove(&keys)?;
            }
            folders.replace_data(|new| copy_folder(&from.join("data"), new))?;
            // After the data: killed in between, the same command again makes it whole.
            folders.replace_secrets(&secrets)
        });
        let loaded = loaded.await;
        self.go_on(ran).await?;
        loaded.map(|()| snapshot)
    }

    /// Deletes the stack's data and fills its directory as for a new one. Ports, keys and snapshots stay.
    pub async fn reset<F>(
        &mut self,
        bootstrap: impl FnOnce(Bootstrap) -> F,
        mut say: impl FnMut(&str),
    ) -> Result<(), StackError>
    where
        F: Future<Output = Result<Keys, StackError>>,
    {
        let _lock = self.turn().await?;
        self.own_stores("a reset")?;
        self.stand_still().await;
        let folders = self.folders.clone();
        blocking(move || {
            remove(&folders.data)?;
            Folders::make(&folders.stack).map(|_| ())
        })
        .await?;
        self.state.filled = false;
        self.save()?;
        self.start_all(bootstrap, &mut say).await?;
        self.announce()
    }

    /// The snapshots of this stack, by name.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, StackError> {
        let folder = self.folders.snapshots();
        let mut found: Vec<Snapshot> = Vec::new();
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            // One without a document was not finished.
            let Ok(text) = std::fs::read(entry.path().join(DOCUMENT)) else { continue };
            let path = entry.path();
            let snapshot: Snapshot = serde_json::from_slice(&text)
                .map_err(|error| StackError::State { path: path.clone(), cause: error.to_string() })?;
            if path.file_name().is_some_and(|name| name == snapshot.name.as_str()) {
                found.push(snapshot);
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// What has to be the same for data to fit.
    fn shape(&self) -> Vec<String> {
        let state = self.state();
        std::iter::once(state.world.describe())
            .chain(state.processes.iter().filter(|one| !one.role.is_watcher()).map(|process| process.name.clone()))
            .collect()
    }

    fn own_stores(&self, what: &str) -> Result<(), StackError> {
        if matches!(self.state().world.directory, DirectoryShape::Elsewhere(_)) {
            let cause =
                format!("the stack's directory is elsewhere, and {what} leaves it alone: the two would not fit");
            return Err(StackError::Step { step: "looking at the stack", cause });
        }
        Ok(())
    }
}

fn take(folders: &Folders, name: &str, shape: Vec<String>) -> Result<Snapshot, StackError> {
    let all = folders.snapshots();
    std::fs::create_dir_all(&all).map_err(StackError::folder(&all))?;
    let (new, old, place) = (all.join(format!("{name}.new")), all.join(format!("{name}.old")), all.join(name));
    remove(&new)?;
    remove(&old)?;
    std::fs::create_dir_all(&new).map_err(StackError::folder(&new))?;
    copy_folder(&folders.data, &new.join("data"))?;
    copy_folder(&folders.stack.join("secrets"), &new.join("secrets"))?;
    let snapshot = Snapshot { name: name.to_owned(), bytes: bytes_in(&new.join("data")), shape };
    let document = serde_json::to_vec(&snapshot).map_err(|error| failed("taking a snapshot", error.to_string()))?;
    // Last: with it the copy is whole.
    std::fs::write(new.join(DOCUMENT), document).map_err(StackError::folder(&new))?;
    if place.exists() {
        std::fs::rename(&place, &old).map_err(StackError::folder(&place))?;
    }
    std::fs::rename(&new, &place).map_err(StackError::folder(&place))?;
    remove(&old)?;
    Ok(snapshot)
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

fn check(name: &str) -> Result<(), StackError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(plain) {
        return Ok(());
    }
    let cause = format!("a snapshot's name is 1 to {NAME_BYTES_MAX} characters of [a-z0-9_-]");
    Err(failed("reading the name", cause))
}

fn failed(step: &'static str, cause: String) -> StackError {
    StackError::Step { step, cause }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StackError> + Send + 'static,
) -> Result<T, StackError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| failed("copying the stack's data", error.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_name_is_refused() {
        for odd in ["", "..", "a/b", "A", "a.new", &"a".repeat(33)] {
            assert!(check(odd).is_err(), "{odd}");
        }
        assert!(check("before-the-move_2").is_ok());
    }
}

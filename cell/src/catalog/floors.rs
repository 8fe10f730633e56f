//! The floors that this cell has seen, the highest of each policy: an older copy of the catalog, from the disk or from
//! a directory that was laid down from a backup, lowers none of them.

use cellar_directory::PolicyFloor;
use cellar_model::{PolicyName, VersionNumber};
use cellar_server::disk::DiskCopy;
use std::collections::BTreeMap;
use std::path::Path;

pub(super) struct Floors {
    /// As many as policies whose floor an operator has ever raised.
    highest: BTreeMap<PolicyName, VersionNumber>,
    copy: DiskCopy,
    /// The disk lacks some of them.
    unwritten: bool,
}

impl Floors {
    /// With what the disk remembers.
    pub(super) fn open(folder: &Path) -> Self {
        let copy = DiskCopy::in_folder(folder, "policy-floors");
        let read: Vec<PolicyFloor> = match copy.read_document() {
            Ok(read) => read.unwrap_or_default(),
            Err(error) => {
                // The catalog has them too. What is not believed here is only what protects from an older one.
                tracing::error!(%error, "the floors of policies that this cell has seen are lost; the catalog's count");
                Vec::new()
            }
        };
        let highest = read.into_iter().map(|floor| (floor.name, floor.version)).collect();
        Self { highest, copy, unwritten: false }
    }

    /// Takes what is higher than what is known. Whether anything was.
    pub(super) fn take(&mut self, floors: &[PolicyFloor]) -> bool {
        let mut raised = false;
        for floor in floors {
            let held = self.highest.get(&floor.name);
            if held.is_none_or(|held| *held < floor.version) {
                self.highest.insert(floor.name.clone(), floor.version);
                raised = true;
            }
        }
        self.unwritten |= raised;
        raised
    }

    /// Writes them, unless the disk has them. Blocks for the disk.
    pub(super) fn write(&mut self) -> anyhow::Result<()> {
        if !self.unwritten {
            return Ok(());
        }
        let floors: Vec<PolicyFloor> =
            self.highest.iter().map(|(name, version)| PolicyFloor { name: name.clone(), version: *version }).collect();
        let mut bytes = self.copy.begin(0);
        serde_json::to_writer(&mut bytes, &floors)?;
        self.copy.write(bytes)?;
        self.unwritten = false;
        Ok(())
    }

    pub(super) fn of(&self, name: &PolicyName) -> Option<VersionNumber> {
        self.highest.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_remembered_and_never_goes_down() {
        let folder = tempfile::tempdir().unwrap();
        let name = PolicyName::new("gcra").unwrap();
        let floor = |minor| PolicyFloor { name: name.clone(), version: VersionNumber::new(1, minor, 0) };
        let mut floors = Floors::open(folder.path());
        assert!(floors.take(&[floor(2)]));
        assert!(!floors.take(&[floor(2)]) && !floors.take(&[floor(1)]) && !floors.take(&[]));
        floors.write().unwrap();
        let mut again = Floors::open(folder.path());
        assert_eq!(again.of(&name), Some(VersionNumber::new(1, 2, 0)));
        assert!(!again.take(&[floor(1)]));
        std::fs::write(folder.path().join("policy-floors.copy"), "torn").unwrap();
        assert_eq!(Floors::open(folder.path()).of(&name), None);
    }
}

//! One process a cell: the lock on its folder.

use anyhow::Context;
use std::fs::File;
use std::path::Path;

/// Held for the life of the process; the kernel lets go of it when that ends, however it ends. Having
/// it is proof that every earlier owner of this cell's shards on this machine is dead.
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    pub(crate) fn take(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot write to {}", folder.display()))?;
        let path = folder.join("lock");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => {
                anyhow::bail!("another process serves this cell: {} is locked", path.display())
            }
            Err(std::fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_until_the_first_is_gone() {
        let folder = std::env::temp_dir().join(format!("cellar-lock-{}", std::process::id()));
        let first = FolderLock::take(&folder).unwrap();
        assert!(FolderLock::take(&folder).is_err());
        drop(first);
        assert!(FolderLock::take(&folder).is_ok());
        let _ = std::fs::remove_dir_all(folder);
    }
}

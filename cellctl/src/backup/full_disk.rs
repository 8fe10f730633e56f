//! A disk without room: what there is to do about it.

use super::manifest::Manifest;
use std::path::Path;

/// As the system and the programs that copy say it.
const SAID: [&str; 3] = ["No space left on device", "Disk quota exceeded", "File too large"];

fn is_it(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    SAID.iter().any(|said| text.contains(said))
}

/// The error of a backup into `to`, with what is left there.
pub(super) fn of_backup(error: anyhow::Error, to: &Path) -> anyhow::Error {
    if !is_it(&error) {
        return error;
    }
    let left = match Manifest::find(to) {
        Ok(Some(held)) => format!("the backup that was there, up to {}, is as it was", held.ended_us.to_rfc3339()),
        _ => "there is no backup in it".to_owned(),
    };
    let folder = to.display();
    error.context(format!(
        "{folder} has no room for it, and {left}: make room, or name a folder on another disk, and give the command again (a full backup needs its room beside the one before)"
    ))
}

/// The error of a restore into a stack's folder.
pub(super) fn of_restore(error: anyhow::Error, stack: &Path) -> anyhow::Error {
    if !is_it(&error) {
        return error;
    }
    let place = cellar_devstack::Folders::of(stack).map_or_else(|_| stack.to_owned(), |folders| folders.data);
    error.context(format!("{} has no room for it: make room, and give the command again", place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_disk_that_is_full_is_said_to_be_full() {
        let full = || anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
        assert!(!format!("{:#}", of_backup(full(), Path::new("/nowhere"))).contains("no room"));
        let said = anyhow::anyhow!("pg_basebackup: error: could not write to file: No space left on device");
        let said = format!("{:#}", of_backup(said, Path::new("/nowhere")));
        assert!(said.starts_with("/nowhere has no room for it, and there is no backup in it: make room"), "{said}");
    }
}

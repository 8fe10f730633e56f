//! Files of a data folder, written whole.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Written beside and renamed: a crash leaves the old file or the new one, and once this has returned,
/// a machine that loses power has the new one. Makes the folder if there is none. Blocks for the disk.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let write = || {
        // A file has a folder: a bare name's is the one the process runs in.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let beside = path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        // Else the new name might last, and the bytes not.
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_one_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("catalog.json");
        for text in ["a long first one", "second"] {
            write_atomically(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let below = path.join("no-folder");
        assert!(write_atomically(&below, b"").unwrap_err().to_string().contains("no-folder"));
        assert_eq!(std::fs::read_dir(folder.path().join("deep")).unwrap().count(), 1);
    }
}

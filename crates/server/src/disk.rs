//! The data folder: files written whole, and copies that are believed whole or not at all.

use serde::{Serialize, de::DeserializeOwned};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// The newest form of every copy. A file of another is refused: what it holds is asked for again.
const FORMAT: u32 = 1;
/// A head is shorter than this: two words, two numbers and what stands between them.
const HEAD_BYTES_MAX: usize = 64;

/// Makes the folder, and sees that it can be written to.
pub fn prepare(folder: &Path) -> io::Result<()> {
    let named = |what: &str, error: io::Error| {
        io::Error::new(error.kind(), format!("the data folder {} {what}: {error}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(|error| named("cannot be made", error))?;
    let probe = folder.join("writable");
    let written = std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe));
    written.map_err(|error| named("is not writable", error))
}

/// A copy of what is true elsewhere: `cellar-<what> <format> <xxh3-64 of the rest>` in its first line,
/// then the rest. A bit that a disk lost could name another cell and parse all the same.
#[derive(Debug)]
pub struct DiskCopy {
    what: &'static str,
    path: PathBuf,
}

impl DiskCopy {
    pub fn in_folder(folder: &Path, what: &'static str) -> Self {
        Self { what, path: folder.join(what).with_extension("copy") }
    }

    /// What was written last; none if nothing ever was.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("cannot read {}: {error}", self.path.display())));
            }
        };
        self.open(bytes).map(Some)
    }

    /// The same of a copy that holds a document.
    pub fn read_document<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let Some(bytes) = self.read()? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| self.refused(error))
    }

    /// A new copy with nothing in it: its content goes behind what is there.
    pub fn begin(&self, content_bytes: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES_MAX + content_bytes);
        bytes.extend_from_slice(self.head(&[]).as_bytes());
        bytes
    }

    /// Replaces the copy by one that was begun here. Blocks for the disk.
    pub fn write(&self, mut bytes: Vec<u8>) -> io::Result<()> {
        // A head is as long whatever comes behind it.
        let length = self.head(&[]).len();
        let head = self.head(bytes.get(length..).unwrap_or_default());
        bytes[..length].copy_from_slice(head.as_bytes());
        write_atomically(&self.path, &bytes)
    }

    /// Replaces the copy by a document. Does not block: a disk takes its time.
    pub async fn write_document(self: &Arc<Self>, document: &impl Serialize) -> io::Result<()> {
        let (copy, mut bytes) = (self.clone(), self.begin(0));
        serde_json::to_writer(&mut bytes, document)?;
        tokio::task::spawn_blocking(move || copy.write(bytes)).await?
    }

    /// What to say of a copy whose content cannot be used, with the reason.
    pub fn refused(&self, why: impl std::fmt::Display) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} is not believed: {why}", self.path.display()))
    }

    fn head(&self, payload: &[u8]) -> String {
        format!("cellar-{} {FORMAT} {:016x}\n", self.what, xxh3_64(payload))
    }

    fn open(&self, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let line = bytes.iter().take(HEAD_BYTES_MAX).position(|byte| *byte == b'\n');
        let line = line.ok_or_else(|| self.refused("it does not begin as a copy does"))?;
        let payload = bytes.split_off(line + 1);
        let head = String::from_utf8_lossy(&bytes);
        let ours = format!("cellar-{} {FORMAT} ", self.what);
        if !head.starts_with(&ours) {
            return Err(self.refused(format!("it is of another kind or format than \"{}\"", ours.trim_end())));
        }
        if head != self.head(&payload) {
            return Err(self.refused("its checksum is wrong"));
        }
        Ok(payload)
    }
}

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

    #[test]
    fn a_copy_is_read_back_whole_and_none_with_a_changed_byte_is() {
        let folder = tempfile::tempdir().unwrap();
        let copy = DiskCopy::in_folder(folder.path(), "topology");
        let write = |payload: &[u8]| {
            let mut bytes = copy.begin(payload.len());
            bytes.extend_from_slice(payload);
            copy.write(bytes).unwrap();
        };
        assert_eq!(copy.read().unwrap(), None);
        for payload in [&b""[..], b"a", &[b'\n'; 1000]] {
            write(payload);
            assert_eq!(copy.read().unwrap().as_deref(), Some(payload));
        }
        write(b"eu-1 has it");
        let good = std::fs::read(&copy.path).unwrap();
        for n in 0..good.len() {
            let mut bad = good.clone();
            bad[n] ^= 1;
            std::fs::write(&copy.path, &bad).unwrap();
            assert!(copy.read().unwrap_err().to_string().contains("is not believed"), "byte {n}");
        }
        std::fs::write(&copy.path, &good[..good.len() - 1]).unwrap();
        assert!(copy.read().unwrap_err().to_string().contains("checksum"));
    }

    #[test]
    fn a_copy_of_something_else_or_of_another_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let topology = DiskCopy::in_folder(folder.path(), "topology");
        topology.write(topology.begin(0)).unwrap();
        let catalog = DiskCopy::in_folder(folder.path(), "catalog");
        std::fs::copy(&topology.path, &catalog.path).unwrap();
        assert!(catalog.read().unwrap_err().to_string().contains("another kind or format"));
        let newer = std::fs::read_to_string(&topology.path).unwrap().replacen(" 1 ", " 2 ", 1);
        std::fs::write(&topology.path, newer).unwrap();
        assert!(topology.read().is_err());
    }
}

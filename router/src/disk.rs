//! The data folder, and the copies in it: files that are believed whole or not at all.

use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// The newest form of every copy. A file of another is refused: what it holds is asked for again.
const FORMAT: u32 = 1;
/// A head is shorter than this: two words, two numbers and what stands between them.
const HEAD_BYTES_MAX: usize = 64;

/// A copy of what is true elsewhere: `cellar-<what> <format> <xxh3-64 of the rest>` in its first line,
/// then the rest. A bit that a disk lost could name another cell and parse all the same.
#[derive(Debug)]
pub(crate) struct DiskCopy {
    what: &'static str,
    path: PathBuf,
}

impl DiskCopy {
    pub(crate) fn in_folder(folder: &Path, what: &'static str) -> Self {
        Self { what, path: folder.join(what).with_extension("copy") }
    }

    /// What was written last; none if nothing ever was.
    pub(crate) fn read(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.path.display())),
        };
        self.open(bytes).map(Some).with_context(|| self.refused())
    }

    /// A new copy with nothing in it: its content goes behind what is there.
    pub(crate) fn begin(&self, content_bytes: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES_MAX + content_bytes);
        bytes.extend_from_slice(self.head(&[]).as_bytes());
        bytes
    }

    /// Replaces the copy by one that was begun here. Blocks for the disk.
    pub(crate) fn write(&self, mut bytes: Vec<u8>) -> anyhow::Result<()> {
        // A head is as long whatever comes behind it.
        let length = self.head(&[]).len();
        let head = self.head(bytes.get(length..).unwrap_or_default());
        bytes[..length].copy_from_slice(head.as_bytes());
        Ok(cellar_server::disk::write_atomically(&self.path, &bytes)?)
    }

    /// What to say of a copy whose content cannot be read, besides why.
    pub(crate) fn refused(&self) -> String {
        format!("{} is not believed", self.path.display())
    }

    fn head(&self, payload: &[u8]) -> String {
        format!("cellar-{} {FORMAT} {:016x}\n", self.what, xxh3_64(payload))
    }

    fn open(&self, mut bytes: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let line = bytes.iter().take(HEAD_BYTES_MAX).position(|byte| *byte == b'\n');
        let line = line.context("it does not begin as a copy does")?;
        let payload = bytes.split_off(line + 1);
        let head = String::from_utf8_lossy(&bytes);
        let ours = format!("cellar-{} {FORMAT} ", self.what);
        ensure!(head.starts_with(&ours), "it is of another kind or format than \"{}\"", ours.trim_end());
        ensure!(head == self.head(&payload), "its checksum is wrong");
        Ok(payload)
    }
}

/// Makes the folder, and sees that it can be written to.
pub(crate) fn prepare(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the data folder {}", folder.display()))?;
    let probe = folder.join("writable");
    std::fs::write(&probe, b"").with_context(|| format!("the data folder {} is not writable", folder.display()))?;
    std::fs::remove_file(&probe).with_context(|| format!("the data folder {} is not writable", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert!(format!("{:#}", copy.read().unwrap_err()).contains("is not believed"), "byte {n}");
        }
        std::fs::write(&copy.path, &good[..good.len() - 1]).unwrap();
        assert!(format!("{:#}", copy.read().unwrap_err()).contains("checksum"));
    }

    #[test]
    fn a_copy_of_something_else_or_of_another_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let topology = DiskCopy::in_folder(folder.path(), "topology");
        topology.write(topology.begin(0)).unwrap();
        let catalog = DiskCopy::in_folder(folder.path(), "catalog");
        std::fs::copy(&topology.path, &catalog.path).unwrap();
        assert!(format!("{:#}", catalog.read().unwrap_err()).contains("another kind or format"));
        let newer = std::fs::read_to_string(&topology.path).unwrap().replacen(" 1 ", " 2 ", 1);
        std::fs::write(&topology.path, newer).unwrap();
        assert!(topology.read().is_err());
    }
}

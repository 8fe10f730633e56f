//! The lives of this process, by the names it goes by among the cell's others.

use anyhow::Context;
use cellar_server::disk::write_atomically;
use std::path::Path;

const FILE: &str = "lives";
/// Lives that ended before they could tell anyone of the ones before them. More are forgotten: who waits
/// for one of those waits as long as for a stranger.
const EARLIER_MAX: usize = 64;

/// This life's name, and those of earlier ones in the same folder: its lock, which has to be held, proves
/// that they are over.
pub(crate) struct Lives {
    pub(crate) this: String,
    pub(crate) earlier: Vec<String>,
}

impl Lives {
    pub(crate) fn begin(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let held = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let mut earlier: Vec<String> = held.lines().map(str::to_owned).collect();
        earlier.drain(..earlier.len().saturating_sub(EARLIER_MAX));
        let lives = Self { this: hex::encode(rand::random::<[u8; 12]>()), earlier };
        lives.write(folder, lives.earlier.iter().chain([&lives.this]))?;
        Ok(lives)
    }

    /// The others have been told of the earlier ones.
    pub(crate) fn told(&self, folder: &Path) -> anyhow::Result<()> {
        self.write(folder, [&self.this].into_iter())
    }

    fn write<'l>(&self, folder: &Path, lives: impl Iterator<Item = &'l String>) -> anyhow::Result<()> {
        let path = folder.join(FILE);
        let text: String = lives.flat_map(|life| [life.as_str(), "\n"]).collect();
        write_atomically(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_knows_those_that_ended_before_anyone_was_told() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lives::begin(folder.path()).unwrap();
        assert!(first.earlier.is_empty());
        let second = Lives::begin(folder.path()).unwrap();
        assert_eq!(second.earlier, std::slice::from_ref(&first.this));
        let third = Lives::begin(folder.path()).unwrap();
        assert_eq!(third.earlier, [first.this, second.this]);
        third.told(folder.path()).unwrap();
        assert_eq!(Lives::begin(folder.path()).unwrap().earlier, [third.this]);
    }
}

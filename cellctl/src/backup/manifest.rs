//! What a backup says of itself. Written last: a folder without a whole one is no backup.

use anyhow::{Context, bail, ensure};
use cellar_devstack::World;
use cellar_model::Micros;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Raised when a program of before could not restore what this one writes.
pub(super) const FORMAT: u64 = 1;
const FILE: &str = "manifest.json";
/// One that is being written.
pub(super) const HALF_MANIFEST: &str = "manifest.new";
/// It names every file: some hundred bytes each.
const BYTES_MAX: u64 = 64 << 20;
/// Read and hashed at once.
const CHUNK: usize = 1 << 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u64,
    /// Of the program that wrote it.
    pub(super) version: String,
    pub(super) cell: String,
    pub(super) region: String,
    pub(super) incarnation: u64,
    pub(super) shards: Vec<ShardState>,
    /// The shape of the stack that the cell is part of.
    pub(super) world: World,
    /// Of the world's peppers: one of them is another world's only by chance.
    pub(super) peppers: Vec<String>,
    pub(super) postgres: PostgresState,
    /// The folder of the base and what came after it; a full backup begins a new one.
    pub(super) base: String,
    /// Between them the base was copied. No earlier time can be restored.
    pub(super) base_began_us: Micros,
    pub(super) base_ended_us: Micros,
    /// Below the base's folder: the latest copy of the quota Redis.
    pub(super) redis: String,
    pub(super) redis_version: String,
    /// What was acknowledged by then is in the copies: by Postgres's clock, before Redis was copied.
    pub(super) whole_until_us: Micros,
    /// No later time can be restored.
    pub(super) ended_us: Micros,
    /// The last segment of the log, and the point in it that a replay to the end has to reach.
    pub(super) last_segment: String,
    pub(super) end: String,
    pub(super) files: Vec<FileSum>,
}

/// A shard as Postgres had it shortly before the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShardState {
    pub(super) shard: u16,
    pub(super) fence: u64,
    pub(super) opened: u64,
    pub(super) drained_seq: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PostgresState {
    /// `server_version_num`.
    pub(super) version: u32,
    /// What tells clusters apart; a restored one keeps it and changes its timeline.
    pub(super) system: String,
    pub(super) timeline: u32,
    pub(super) segment_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileSum {
    /// Below the backup's folder.
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// The document on disk: a manifest and its own sum.
#[derive(Serialize, Deserialize)]
struct Sealed {
    sha256: String,
    manifest: Manifest,
}

impl Manifest {
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let found = Self::find(folder)?;
        found.with_context(|| format!("{} holds no whole backup: it has no {FILE}", folder.display()))
    }

    /// None: nobody has finished a backup here.
    pub(super) fn find(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let mut text = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
        let damaged = || format!("{} is damaged", path.display());
        let document: serde_json::Value = serde_json::from_slice(&text).with_context(damaged)?;
        // Before all else: a later format may have anything else in it.
        match document["manifest"]["format"].as_u64() {
            Some(format) if format > FORMAT => bail!(
                "{} has format {format}, and this cellctl knows formats up to {FORMAT}: it takes the one that wrote it, or a later one",
                path.display()
            ),
            _ => {}
        }
        let Sealed { sha256, manifest } = serde_json::from_value(document).with_context(damaged)?;
        ensure!(sha256 == manifest.sum()?, damaged());
        Ok(Some(manifest))
    }

    /// Beside and renamed, when everything it names is on the disk.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(&Sealed { sha256: self.sum()?, manifest: self.clone() })?;
        let (path, beside) = (folder.join(FILE), folder.join(HALF_MANIFEST));
        let written = || -> std::io::Result<()> {
            let mut file = File::create(&beside)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&beside, &path)?;
            File::open(folder)?.sync_all()
        };
        written().with_context(|| format!("cannot write {}", path.display()))
    }

    fn sum(&self) -> anyhow::Result<String> {
        Ok(hex::encode(Sha256::digest(serde_json::to_vec(self)?)))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The files below `part` of the base's folder.
    pub(super) fn files_of<'a>(&'a self, part: &str) -> impl Iterator<Item = &'a FileSum> {
        let prefix = format!("{}/{part}/", self.base);
        self.files.iter().filter(move |file| file.path.starts_with(&prefix))
    }

    /// The first file that is not what it was, in words. `wanted`: those that matter.
    pub(super) fn damage(
        &self,
        folder: &Path,
        wanted: impl Fn(&FileSum) -> bool,
        mut each: impl FnMut(&FileSum),
    ) -> anyhow::Result<Option<String>> {
        for file in self.files.iter().filter(|file| wanted(file)) {
            each(file);
            let found = match FileSum::of(folder, &file.path) {
                Ok(found) => found,
                Err(error) if is_missing(&error) => return Ok(Some(format!("{} is missing", file.path))),
                Err(error) => return Err(error),
            };
            if found.bytes != file.bytes {
                return Ok(Some(format!("{} has {} bytes instead of {}", file.path, found.bytes, file.bytes)));
            }
            if found.sha256 != file.sha256 {
                return Ok(Some(format!("{} has another content than when it was written", file.path)));
            }
        }
        Ok(None)
    }
}

impl FileSum {
    pub(super) fn of(folder: &Path, path: &str) -> anyhow::Result<Self> {
        let at = folder.join(path);
        let read = || -> std::io::Result<(u64, String)> {
            let (mut file, mut sum, mut bytes, mut chunk) = (File::open(&at)?, Sha256::new(), 0, vec![0; CHUNK]);
            loop {
                let n = file.read(&mut chunk)?;
                if n == 0 {
                    return Ok((bytes, hex::encode(sum.finalize())));
                }
                sum.update(&chunk[..n]);
                bytes += n as u64;
            }
        };
        let (bytes, sha256) = read().with_context(|| format!("cannot read {}", at.display()))?;
        Ok(Self { path: path.to_owned(), bytes, sha256 })
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Every file below `folder/part`, as paths below `folder`.
pub(super) fn files_below(folder: &Path, part: &str) -> anyhow::Result<Vec<String>> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::from(part)]);
    while let Some(below) = folders.pop() {
        let at = folder.join(&below);
        for entry in std::fs::read_dir(&at).with_context(|| format!("cannot read {}", at.display()))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                files.push(path.to_str().context("a file has an odd name")?.to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(folder: &Path) -> Manifest {
        std::fs::create_dir_all(folder.join("full-1/wal")).unwrap();
        std::fs::write(folder.join("full-1/wal/a"), b"a segment").unwrap();
        Manifest {
            format: FORMAT,
            version: "0".into(),
            cell: "eu-1".into(),
            region: "eu".into(),
            incarnation: 1,
            shards: vec![ShardState { shard: 0, fence: 3, opened: 3, drained_seq: 9 }],
            world: World::single_cell(),
            peppers: vec!["00".into()],
            postgres: PostgresState { version: 150_000, system: "1".into(), timeline: 1, segment_bytes: 1 << 24 },
            base: "full-1".into(),
            base_began_us: Micros(1),
            base_ended_us: Micros(2),
            redis: "redis-1".into(),
            redis_version: "7.0.15".into(),
            whole_until_us: Micros(3),
            ended_us: Micros(4),
            last_segment: "a".into(),
            end: "e".into(),
            files: vec![FileSum::of(folder, "full-1/wal/a").unwrap()],
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_any_other_bit_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(Manifest::find(path).unwrap().is_none());
        let written = manifest(path);
        written.write(path).unwrap();
        assert_eq!(Manifest::read(path).unwrap().files, written.files);
        let text = std::fs::read_to_string(path.join(FILE)).unwrap();
        for (from, to, said) in [
            ("\"incarnation\": 1", "\"incarnation\": 2", "is damaged"),
            ("\"format\": 1", "\"format\": 9", "has format 9"),
        ] {
            assert!(text.contains(from), "{text}");
            std::fs::write(path.join(FILE), text.replace(from, to)).unwrap();
            assert!(format!("{:#}", Manifest::read(path).unwrap_err()).contains(said));
        }
        std::fs::write(path.join(FILE), &text[..text.len() / 2]).unwrap();
        assert!(Manifest::read(path).is_err(), "half a manifest");
    }

    #[test]
    fn a_file_that_is_missing_or_cut_or_changed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let manifest = manifest(path);
        let damage = || manifest.damage(path, |_| true, |_| ()).unwrap();
        assert_eq!(damage(), None);
        std::fs::write(path.join("full-1/wal/a"), b"a segmenT").unwrap();
        assert!(damage().unwrap().contains("another content"));
        std::fs::write(path.join("full-1/wal/a"), b"a seg").unwrap();
        assert!(damage().unwrap().contains("5 bytes instead of 9"));
        std::fs::remove_file(path.join("full-1/wal/a")).unwrap();
        assert!(damage().unwrap().contains("missing"));
        assert_eq!(manifest.damage(path, |file| file.path.contains("redis"), |_| ()).unwrap(), None);
    }
}

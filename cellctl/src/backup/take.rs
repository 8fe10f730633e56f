//! A backup is taken while the cell serves: its Postgres with the log, its quota Redis, its secrets.

use super::manifest::{FORMAT, FileSum, HALF_MANIFEST, Manifest, files_below};
use super::postgres::{Closed, Segment, Source};
use super::{pepper_ids, redis};
use crate::stack::Progress;
use anyhow::{Context, bail, ensure};
use cellar_devstack::{APPEND_ONLY, ProcessEntry, RedisShape, Role, Stack, World};
use serde_json::json;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Below the folder of a backup: who is writing there.
const LOCK: &str = "lock";
const BASE: &str = "full-";
const REDIS: &str = "redis-";

/// What is copied of a cell, and where it is.
struct Cell {
    name: String,
    region: String,
    incarnation: u64,
    postgres: ProcessEntry,
    redis: ProcessEntry,
    world: World,
    stack: Stack,
}

/// Takes a backup of `cell` (if there is only one, it need not be said) into `to`: a full one if there is
/// none, else what has been written since.
pub(super) async fn take(folder: &Path, to: &Path, cell: Option<&str>, full: bool) -> anyhow::Result<Manifest> {
    let cell = Cell::find(folder, cell)?;
    let _lock = make(to)?;
    let progress = Progress::new();
    let held = Manifest::find(to)?;
    if let Some(held) = &held {
        ensure!(held.cell == cell.name, "{} holds a backup of cell {}, not of {}", to.display(), held.cell, cell.name);
    }
    let base = following_base(to)?;
    sweep(to, held.as_ref())?;
    let mut source = Source::open(&cell.postgres.url).await?;
    let taken = match &held {
        Some(held) if !full => add(&cell, &mut source, to, held, &progress).await,
        _ => begin(&cell, &mut source, to, base, &progress).await,
    };
    if taken.is_err() {
        // What no manifest names is nothing; a disk that is full gets its space back.
        let _ = Manifest::find(to).and_then(|held| sweep(to, held.as_ref()));
    }
    let (manifest, lsn) = taken?;
    source.let_go(&lsn).await?;
    // The base before, if this is a new one.
    sweep(to, Some(&manifest))?;
    Ok(manifest)
}

async fn begin(
    cell: &Cell,
    source: &mut Source,
    to: &Path,
    base: String,
    progress: &Progress,
) -> anyhow::Result<(Manifest, String)> {
    let state = source.state().await?;
    std::fs::create_dir_all(to.join(&base))?;
    source.keep_log().await?;
    let began = source.here().await?;
    progress.say("copying Postgres");
    cellar_devstack::base_backup(cell.postgres.ports[0], &to.join(&base)).await?;
    let base_ended_us = source.now().await?;
    let secrets = copy_secrets(cell, &to.join(&base))?;
    let mut manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        cell: cell.name.clone(),
        region: cell.region.clone(),
        incarnation: cell.incarnation,
        shards: Vec::new(),
        world: World { programs: None, ..cell.world.clone() },
        peppers: pepper_ids(&cell.stack.state().pepper_file)?,
        postgres: state,
        base: base.clone(),
        base_began_us: began.at,
        base_ended_us,
        redis: String::new(),
        redis_version: String::new(),
        whole_until_us: began.at,
        ended_us: base_ended_us,
        last_segment: String::new(),
        end: String::new(),
        files: Vec::new(),
    };
    let mut files = vec![format!("{base}/base.tar.gz"), format!("{base}/pg_wal.tar.gz")];
    files.extend(secrets.into_iter().map(|name| format!("{base}/{name}")));
    for file in files {
        manifest.files.push(FileSum::of(to, &file)?);
    }
    let lsn = go_on(cell, source, to, &mut manifest, began.segment, progress).await?;
    Ok((manifest, lsn))
}

async fn add(
    cell: &Cell,
    source: &mut Source,
    to: &Path,
    held: &Manifest,
    progress: &Progress,
) -> anyhow::Result<(Manifest, String)> {
    let state = source.state().await?;
    let same = (&state.system, state.timeline) == (&held.postgres.system, held.postgres.timeline);
    ensure!(same, "the cell's Postgres has begun another timeline since this backup: `--full` begins anew");
    let from = Source::after(&held.last_segment, state.segment_bytes)?;
    let kept = source.kept_from().await?;
    ensure!(
        kept.is_some_and(|kept| kept <= from),
        "the log since this backup is not kept any more (a backup to another folder has been taken, or too much was written): `--full` begins anew"
    );
    let mut manifest = held.clone();
    manifest.incarnation = cell.incarnation;
    manifest.peppers = pepper_ids(&cell.stack.state().pepper_file)?;
    let lsn = go_on(cell, source, to, &mut manifest, from, progress).await?;
    Ok((manifest, lsn))
}

/// What follows the base: Redis, then the log to its present end, then the manifest.
///
/// In this order. What Postgres has taken over is trimmed from Redis's stream: if the end of the log came
/// first, a charge that is drained and trimmed between the two would be in neither copy.
async fn go_on(
    cell: &Cell,
    source: &mut Source,
    to: &Path,
    manifest: &mut Manifest,
    from: Segment,
    progress: &Progress,
) -> anyhow::Result<String> {
    progress.say("copying the quota Redis");
    let number = following(REDIS, number_of(REDIS, &manifest.redis));
    manifest.whole_until_us = source.now().await?;
    let data = cell.redis.launch.log.parent().context("the quota Redis has no folder")?;
    let place = format!("{}/{number}", manifest.base);
    redis::copy(&data.join(APPEND_ONLY), &to.join(&place))?;
    let shards = source.shards().await?;
    let Closed { at, name, segment: last, lsn } = source.close_segment().await?;
    let (bytes, log) = (manifest.postgres.segment_bytes, format!("{}/wal", manifest.base));
    let say = |segment: &Segment| progress.say(&format!("copying the log: {}", segment.as_str()));
    let segments = source.copy_log((&from, &last), bytes, &to.join(&log), say).await?;
    progress.say("reading what was written");
    let earlier = format!("{}/{}/", manifest.base, manifest.redis);
    manifest.files.retain(|file| manifest.redis.is_empty() || !file.path.starts_with(&earlier));
    let written = segments.iter().map(|segment| format!("{log}/{}", segment.file()));
    for file in written.chain(files_below(to, &place)?) {
        manifest.files.push(FileSum::of(to, &file)?);
    }
    manifest.redis = number;
    manifest.redis_version = cell.redis_version()?;
    manifest.shards = shards;
    manifest.ended_us = at;
    manifest.last_segment = last.as_str().to_owned();
    manifest.end = name;
    manifest.write(to)?;
    Ok(lsn)
}

impl Cell {
    fn find(folder: &Path, name: Option<&str>) -> anyhow::Result<Self> {
        let stack = Stack::open(folder)?;
        let state = stack.state();
        let processes = &state.processes;
        let mut cells: Vec<&str> = processes.iter().filter_map(|process| process.cell.as_deref()).collect();
        cells.sort_unstable();
        cells.dedup();
        let name = match (name, &cells[..]) {
            (Some(name), _) => name.to_owned(),
            (None, [only]) => (*only).to_owned(),
            (None, several) => bail!("there are several cells: say which one with --cell ({})", several.join(", ")),
        };
        ensure!(cells.contains(&name.as_str()), "there is no cell {name}: there are {}", cells.join(", "));
        ensure!(
            state.world.redis == RedisShape::Single,
            "only a quota Redis of one server is copied while it serves, and this one is of several (--redis sentinel, cluster): `cellctl cell snapshot NAME` copies such a stack, which stands still meanwhile"
        );
        let of = |role: Role| {
            let mut found = processes.iter().filter(|process| process.cell.as_deref() == Some(&name));
            let found = found.find(|process| process.role == role);
            found.cloned().with_context(|| format!("cell {name} has no {} of its own", role.label()))
        };
        let (postgres, redis, process) = (of(Role::Postgres)?, of(Role::RedisQuota)?, of(Role::Cell)?);
        let region = process.region.clone().unwrap_or_default();
        let incarnation = super::incarnation(&process)?;
        let world = state.world.clone();
        Ok(Self { name, region, incarnation, postgres, redis, world, stack })
    }

    /// Of the installed server, which wrote the files.
    fn redis_version(&self) -> anyhow::Result<String> {
        let (major, minor) = cellar_devstack::redis_version()?;
        Ok(format!("{major}.{minor}"))
    }
}

/// The folder of a backup, closed to others, and nobody else's.
fn make(to: &Path) -> anyhow::Result<File> {
    let cannot = || format!("cannot write to {}", to.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to).with_context(cannot)?;
    if Manifest::find(to)?.is_none() {
        for entry in std::fs::read_dir(to).with_context(cannot)? {
            let name = entry?.file_name();
            let ours =
                name.to_str().is_some_and(|name| name.starts_with(BASE) || name == LOCK || name == HALF_MANIFEST);
            ensure!(ours, "{} is not empty, and holds no backup", to.display());
        }
    }
    let file = File::options().create(true).append(true).open(to.join(LOCK)).with_context(cannot)?;
    ensure!(file.try_lock().is_ok(), "another backup to {} is under way", to.display());
    Ok(file)
}

/// Removes what the manifest does not name: halves of backups that were killed, and the base before.
fn sweep(to: &Path, held: Option<&Manifest>) -> anyhow::Result<()> {
    let named = |path: &str| held.is_some_and(|held| held.files.iter().any(|file| file.path == path));
    for entry in std::fs::read_dir(to)? {
        let entry = entry?;
        let name = entry.file_name().to_str().unwrap_or_default().to_owned();
        if name == HALF_MANIFEST {
            std::fs::remove_file(entry.path())?;
        }
        if !name.starts_with(BASE) {
            continue;
        }
        if held.is_none_or(|held| held.base != name) {
            std::fs::remove_dir_all(entry.path())?;
            continue;
        }
        for file in files_below(to, &name)?.iter().filter(|path| !named(path)) {
            std::fs::remove_file(to.join(file))?;
            // The last one of a copy of Redis that has been replaced.
            let _ = to.join(file).parent().map(std::fs::remove_dir);
        }
    }
    Ok(())
}

/// A folder's number.
fn number_of(prefix: &str, name: &str) -> Option<u64> {
    name.strip_prefix(prefix)?.parse().ok()
}

fn following(prefix: &str, held: Option<u64>) -> String {
    format!("{prefix}{}", held.unwrap_or(0) + 1)
}

/// A folder for a base, of a name that no other had: a program that copies may outlive the command that was
/// killed for a moment, and writes where it was told to.
fn following_base(to: &Path) -> anyhow::Result<String> {
    let mut highest = None;
    for entry in std::fs::read_dir(to)? {
        highest = highest.max(entry?.file_name().to_str().and_then(|name| number_of(BASE, name)));
    }
    Ok(following(BASE, highest))
}

/// A cell that is alone keeps its secrets with it; those of a world are the world's. Returns their files.
fn copy_secrets(cell: &Cell, to: &Path) -> anyhow::Result<Vec<String>> {
    if !cell.world.single {
        return Ok(Vec::new());
    }
    let (state, folder) = (cell.stack.state(), to.join("secrets"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let keys = json!({ "service_key": state.service_key, "operator_key": state.operator_key });
    let mut files = vec![private(to, "keys.json", keys.to_string().as_bytes())?];
    let held = state.pepper_file.parent().context("the pepper has no folder")?;
    for entry in std::fs::read_dir(held)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).context("a secret has an odd name")?;
        files.push(private(&folder, name, &std::fs::read(&path)?).map(|name| format!("secrets/{name}"))?);
    }
    File::open(&folder)?.sync_all()?;
    Ok(files)
}

fn private(folder: &Path, name: &str, content: &[u8]) -> anyhow::Result<String> {
    let path = folder.join(name);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut file = File::options().create_new(true).write(true).mode(0o600).open(&path)?;
    file.write_all(content)?;
    file.sync_all()?;
    Ok(name.to_owned())
}

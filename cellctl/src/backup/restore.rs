//! A cell is laid down from a backup, and says what it has not.

use super::full_disk;
use super::manifest::{FileSum, Manifest};
use super::note::Note;
use super::pepper_ids;
use super::report::{self, Lost, ShardEnd};
use crate::directory::of_stack;
use crate::stack::{Progress, mend, own_key, size, trust_own};
use crate::tier::confirmed;
use anyhow::{Context, bail, ensure};
use cellar_devstack::{CellCopies, Keys, Recovery, Role, Stack, Until, World};
use cellar_directory::{Documents, OpenDirectory, Written};
use cellar_model::wire::{Restored, TakenOver};
use cellar_model::{CellName, ChargeId, Incarnation, Micros, Secret, UserId};
use clap::Args;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

#[derive(Args)]
pub(crate) struct RestoreArguments {
    /// The backup
    dir: PathBuf,
    /// As it was then, instead of at the backup's end: RFC 3339, between its base and its end
    #[arg(long, value_name = "TIME")]
    to_time: Option<String>,
    /// The cell, as a check: it has to be the backup's
    #[arg(long)]
    cell: Option<String>,
    /// Do without the copy of the quota Redis: records come from Postgres, and the charges that were not in its
    /// ledger, of a quarter of a second or so, are lost
    #[arg(long)]
    without_redis: bool,
    /// Charges that were acknowledged, `user charge_id` a line: those that are gone are listed
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// Do not ask whether the machine that served the cell is gone
    #[arg(long)]
    yes: bool,
    #[arg(long)]
    json: bool,
}

/// What is restored, once everything that can be refused has been looked at.
pub(super) struct Plan {
    from: PathBuf,
    pub(super) manifest: Manifest,
    /// None: to the end.
    pub(super) to: Option<Micros>,
    pub(super) redis: bool,
    check: Option<PathBuf>,
}

/// Of the directory: where the cell is from now on.
const DIRECTORY_POOL: u32 = 2;

pub(crate) async fn restore(folder: &Path, arguments: RestoreArguments) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let progress = Progress::new();
    let plan = Plan::make(&arguments, &progress)?;
    let held = Stack::open(folder).ok();
    let noted = held.as_ref().map(|stack| Note::find(stack, &plan)).transpose()?.flatten();
    drop(progress);
    let (stack, note) = match (held, noted) {
        // The word has been given.
        (Some(stack), Some(note)) => {
            let progress = Progress::new();
            progress.say("an earlier restore was cut short when the data had its place: going on from there");
            (stack.start_restored(&plan.manifest.cell).await?, note)
        }
        (held, _) => {
            let held = held.filter(|stack| stack.state().complete);
            plan.may_begin(held.as_ref(), arguments.yes)?;
            let restored = plan.begin(folder, held).await;
            restored.map_err(|error| full_disk::of_restore(error, folder))?
        }
    };
    let incarnation = note.incarnation;
    let lost = lost(&stack, &plan, note).await?;
    let file = stack.folder().join("lost.json");
    lost.write(&file)?;
    let progress = Progress::new();
    progress.say("comparing the books");
    let audited = report::audit(stack.folder(), &lost).await;
    drop(progress);
    stack.forget_restored(&plan.manifest.cell)?;
    if arguments.json {
        let (audit, error) = (audited.as_ref().ok(), audited.as_ref().err().map(|error| format!("{error:#}")));
        println!("{}", serde_json::json!({ "lost": lost, "audit": audit, "audit_error": error }));
    } else {
        let seconds = began.elapsed().as_secs_f64();
        let (cell, folder) = (&plan.manifest.cell, stack.folder().display());
        println!("cell {cell} serves again in {folder}, as incarnation {incarnation}, after {seconds:.1} s");
        lost.say(&file);
        match &audited {
            Ok(audited) => audited.say(),
            Err(error) => println!("the books could not be compared: {error:#}"),
        }
    }
    Ok(report::code(&audited))
}

impl Plan {
    fn make(arguments: &RestoreArguments, progress: &Progress) -> anyhow::Result<Self> {
        let from = std::path::absolute(&arguments.dir)?;
        let manifest = Manifest::read(&from)?;
        if let Some(cell) = &arguments.cell {
            let held = &manifest.cell;
            ensure!(*cell == *held, "{} is a backup of cell {held}, not of {cell}", from.display());
        }
        runs_here(&manifest)?;
        let to = arguments.to_time.as_deref().map(|text| within(&manifest, text)).transpose()?;
        let prefix = format!("{}/{}/", manifest.base, manifest.redis);
        let of_redis = |file: &FileSum| file.path.starts_with(&prefix);
        let say = |file: &FileSum| progress.say(&format!("reading {} ({})", file.path, size(file.bytes)));
        if let Some(damage) = manifest.damage(&from, |file| !of_redis(file), say)? {
            bail!("{} is damaged: {damage}", from.display());
        }
        // Redis goes with the end: at an earlier time it held something else.
        let redis = to.is_none() && !arguments.without_redis;
        if redis && let Some(damage) = manifest.damage(&from, of_redis, say)? {
            bail!(
                "{} is damaged: {damage}. It can be restored --without-redis, without the charges of its last moments",
                from.display()
            );
        }
        let check = arguments.check.as_deref().map(std::path::absolute).transpose()?;
        if let Some(check) = &check {
            charges_named(check)?;
        }
        Ok(Self { from, manifest, to, redis, check })
    }

    /// Whether there is a place for it, and somebody's word that nothing serves the cell any more.
    fn may_begin(&self, held: Option<&Stack>, yes: bool) -> anyhow::Result<()> {
        let cell = &self.manifest.cell;
        match held {
            Some(stack) => fits(&self.manifest, stack)?,
            None => ensure!(
                self.manifest.world.single,
                "cell {cell} is part of a world: it is restored into that world's stack (--stack DIR), where its directory is"
            ),
        }
        if yes {
            return Ok(());
        }
        println!(
            "Restoring cell {cell} is your word that whatever served it is gone for good: nobody waits for it, and\n\
             what it still acknowledges is lost."
        );
        ensure!(confirmed("Is it gone?")?, "nothing changed");
        Ok(())
    }

    /// From the copies to a cell that has started.
    async fn begin(&self, folder: &Path, held: Option<Stack>) -> anyhow::Result<(Stack, Note)> {
        let progress = Progress::new();
        progress.say("making room");
        let stack = match held {
            Some(stack) => stack,
            None => self.new_stack(folder).await?,
        };
        let mut recovery = stack.recover(&self.manifest.cell).await?;
        let laid_down = lay_down(&mut recovery, self, &progress).await;
        let noted = laid_down
            .and_then(|(taken, incarnation)| Ok(Note::new(self, taken, incarnation, keep_charges(&recovery, self)?)));
        let note = match noted {
            Ok(note) => note,
            Err(error) => {
                recovery.give_up().await;
                return Err(error);
            }
        };
        progress.say("starting the cell");
        Ok((recovery.finish(note.incarnation, &note.text()?).await?, note))
    }

    fn base(&self) -> PathBuf {
        self.from.join(&self.manifest.base)
    }

    fn copies(&self) -> CellCopies {
        let base = self.base();
        let wal = self.manifest.files_of("wal").map(|file| self.from.join(&file.path)).collect();
        CellCopies {
            base: base.join("base.tar.gz"),
            base_wal: base.join("pg_wal.tar.gz"),
            wal,
            redis: self.redis.then(|| base.join(&self.manifest.redis)),
        }
    }

    async fn new_stack(&self, folder: &Path) -> anyhow::Result<Stack> {
        let keys: serde_json::Value = serde_json::from_slice(&std::fs::read(self.base().join("keys.json"))?)?;
        let key = |name: &str| keys[name].as_str().map(str::to_owned).context("keys.json lacks a key");
        let keys = Keys { service_key: key("service_key")?, operator_key: key("operator_key")? };
        let world = World { ephemeral: false, ..self.manifest.world.clone() };
        Ok(Stack::plan_restored(folder, &world, keys, &self.base().join("secrets")).await?)
    }
}

/// A copy of files is for the same major version of Postgres, and for a Redis that is not older.
fn runs_here(manifest: &Manifest) -> anyhow::Result<()> {
    let (copied, here) = (manifest.postgres.version / 10_000, cellar_devstack::postgres_major()?);
    ensure!(copied == here, "the backup is of Postgres {copied}, and Postgres {here} is installed here");
    let mut parts = manifest.redis_version.split('.').map_while(|part| part.parse().ok());
    let copied: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let here = cellar_devstack::redis_version()?;
    ensure!(
        copied <= here,
        "the backup is of Redis {}, and Redis {}.{} is installed here",
        manifest.redis_version,
        here.0,
        here.1
    );
    Ok(())
}

/// How many charges a file names, `user charge_id` a line.
fn charges_named(path: &Path) -> anyhow::Result<usize> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = || text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let fits = |line: &str| {
        let (user, charge) = line.trim().split_once(' ')?;
        Some(UserId::new(user).is_ok() && charge.trim().parse::<ChargeId>().is_ok())
    };
    if let Some((n, _)) = lines().find(|(_, line)| fits(line) != Some(true)) {
        bail!("{}:{}: not `user charge_id`", path.display(), n + 1);
    }
    Ok(lines().count())
}

fn within(manifest: &Manifest, text: &str) -> anyhow::Result<Micros> {
    let at =
        Micros::from_rfc3339(text).with_context(|| format!("{text} is not a time such as 2026-01-31T12:00:00Z"))?;
    let (from, to) = (manifest.base_ended_us, manifest.ended_us);
    ensure!(
        (from..=to).contains(&at),
        "{text} is not in this backup, which reaches from {} to {}",
        from.to_rfc3339(),
        to.to_rfc3339()
    );
    Ok(at)
}

/// Whether a stack is the one that the backup is of.
fn fits(manifest: &Manifest, stack: &Stack) -> anyhow::Result<()> {
    let (state, folder) = (stack.state(), stack.folder().display());
    ensure!(
        !manifest.world.single && !state.world.single,
        "{folder} holds a stack: a cell that is alone is restored into a folder that holds none (--stack DIR)"
    );
    ensure!(
        pepper_ids(&state.pepper_file)?.iter().any(|id| manifest.peppers.contains(id)),
        "the backup is of another world than the one in {folder}: its e-mails are hashed with other peppers"
    );
    let mut cells = state.processes.iter().filter(|process| process.role == Role::Cell);
    let cell = cells.find(|process| process.cell.as_deref() == Some(&manifest.cell));
    let cell = cell.with_context(|| format!("the world in {folder} has no cell {}", manifest.cell))?;
    ensure!(
        cell.region.as_deref() == Some(&manifest.region),
        "cell {} was in region {} when it was backed up",
        manifest.cell,
        manifest.region
    );
    Ok(())
}

/// Everything up to the cell's first start. Returns what was found, and the incarnation it starts as.
async fn lay_down(recovery: &mut Recovery, plan: &Plan, progress: &Progress) -> anyhow::Result<(TakenOver, u64)> {
    let (copies, end) = (plan.copies(), Until::Named(plan.manifest.end.clone()));
    let out = recovery.folder().join("taken-over.json");
    let mut words: Vec<String> = ["restored", "--out", &text(&out)?].map(str::to_owned).into();
    if plan.to.is_some() {
        progress.say("restoring all of it, to compare with");
        let whole = recovery.folder().join("whole-url");
        std::fs::write(&whole, recovery.lay_down_beside(&copies, &end).await?)?;
        words.extend(["--whole".into(), text(&whole)?, "--charges".into(), text(&recovery.folder().join(CHARGES))?]);
    }
    progress.say("replaying the log");
    // A Postgres that starts knows no names of zones yet, not even `Z`.
    let until = plan.to.map_or(end, |to| Until::Time(to.to_rfc3339().replace('Z', "+00:00")));
    recovery.lay_down(&copies, &until).await?;
    progress.say("taking over");
    // As the last backup saw them: an earlier time has lower ones, and their names have been given out.
    let floor = plan.manifest.shards.iter().map(|shard| shard.fence).max().unwrap_or(0);
    words.extend(["--floor".into(), floor.to_string()]);
    recovery.run_cell("taking over what was restored", words).await?;
    let incarnation = raise_incarnation(recovery.stack(), &plan.manifest).await?;
    sign_policies(recovery.stack()).await?;
    Ok((read(&out)?, incarnation))
}

/// A backup from before policies were signed has some that no cell would decide by.
async fn sign_policies(stack: &Stack) -> anyhow::Result<()> {
    let state = stack.state();
    if state.policy_keys_file().exists() {
        return Ok(());
    }
    let (key, url) = (own_key(&state.policy_key_file())?, Secret::new(state.directory_url.clone()));
    mend(&url, &of_stack(&state.directory_replicas), &key).await?;
    trust_own(&state.policy_keys_file(), &key)
}

/// Among the files of a recovery, and then in the stack's folder.
const CHARGES: &str = "lost-charges.jsonl";

/// The list of later charges outlives the recovery.
fn keep_charges(recovery: &Recovery, plan: &Plan) -> anyhow::Result<Option<PathBuf>> {
    if plan.to.is_none() {
        return Ok(None);
    }
    let place = recovery.stack().folder().join(CHARGES);
    std::fs::copy(recovery.folder().join(CHARGES), &place)
        .with_context(|| format!("cannot write {}", place.display()))?;
    Ok(Some(place))
}

/// The cell's next life, in the directory before it begins: its incarnation, and where it is.
async fn raise_incarnation(stack: &Stack, manifest: &Manifest) -> anyhow::Result<u64> {
    let state = stack.state();
    let directory = OpenDirectory::connect(&Secret::new(state.directory_url.clone()), DIRECTORY_POOL).await?;
    let held = directory.read_topology().await?.context("the directory has no topology")?;
    let name = CellName::new(&manifest.cell)?;
    let beats = directory.cells().await?;
    let beat = beats.iter().filter(|beat| beat.cell == name).map(|beat| beat.incarnation.0).max();
    let known = held.cell(&name).with_context(|| format!("the topology has no cell {name}"))?.1.incarnation.0;
    let incarnation = known.max(beat.unwrap_or(0)).max(manifest.incarnation) + 1;
    let mut new = held.clone();
    for cell in new.regions.iter_mut().flat_map(|region| &mut region.cells).filter(|cell| cell.name == name) {
        cell.incarnation = Incarnation(incarnation);
        cell.endpoints = state.endpoints(&manifest.cell);
    }
    (new.revision, new.predecessor, new.plan) = (held.revision.next(), held.revision, None);
    held.may_become(&new)?;
    match directory.put_topology(&new, Some(held.revision)).await? {
        Written::Applied => Ok(incarnation),
        Written::Refused(_) | Written::Unknown(_) => {
            bail!("the topology has changed meanwhile: give the command again")
        }
    }
}

/// Asks the restored ledger, and puts together what is lost.
async fn lost(stack: &Stack, plan: &Plan, note: Note) -> anyhow::Result<Lost> {
    let Note { taken, incarnation, charges, .. } = note;
    let out = stack.folder().join("lost.json");
    let mut words = ["compare", "--out", &text(&out)?].map(str::to_owned).to_vec();
    // A cell that serves already has charges of its own, all of them under later fences.
    if let Some(raised) = taken.shards.iter().map(|shard| shard.fence.0).min() {
        words.extend(["--below".into(), raised.to_string()]);
    }
    if let Some(check) = &plan.check {
        words.extend(["--check".into(), text(check)?]);
    }
    cellar_devstack::run_cell(stack, &plan.manifest.cell, "reading the restored ledger", words).await?;
    let restored: Restored = read(&out)?;
    let whole_until = match plan.to {
        None if plan.redis => Some(plan.manifest.whole_until_us.to_rfc3339()),
        _ => None,
    };
    Ok(Lost {
        cell: plan.manifest.cell.clone(),
        incarnation,
        to: plan.to.map(Micros::to_rfc3339),
        whole_until,
        shards: ShardEnd::all(&taken, &restored),
        later_charges: taken.charges,
        later_charges_file: charges,
        unknown_users: taken.unknown_users,
        no_longer_here: taken.no_longer_here,
        in_doubt: taken.in_doubt,
        checked: plan.check.as_deref().map(charges_named).transpose()?,
        gone: restored.gone,
    })
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} cannot be read", path.display()))
}

/// As an argument of another program.
fn text(path: &Path) -> anyhow::Result<String> {
    Ok(path.to_str().with_context(|| format!("{} is an odd path", path.display()))?.to_owned())
}

//! `cellctl cell backup` and `cellctl cell restore`: a cell's data, kept where the cell is not, and laid down
//! again.

mod full_disk;
mod manifest;
mod note;
mod postgres;
mod redis;
mod report;
mod restore;
mod take;

use crate::stack::{Progress, size};
use anyhow::Context;
use cellar_devstack::ProcessEntry;
use cellar_directory::Peppers;
use cellar_model::Secret;
use clap::{Args, Subcommand};
use manifest::Manifest;
pub(crate) use restore::{RestoreArguments, restore};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct BackupArguments {
    #[command(subcommand)]
    look: Option<Look>,
    /// Where the backup is, or is to be: on another disk, best on another machine's
    #[arg(required = true)]
    dir: Option<PathBuf>,
    /// Which cell, where there are several
    #[arg(long)]
    cell: Option<String>,
    /// Begin anew, in the place of the backup that is there
    #[arg(long)]
    full: bool,
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Look {
    /// What backups there are: in DIR, or in the folders of DIR
    List {
        dir: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// Whether every file of a backup is what it was when it was written
    Verify { dir: PathBuf },
}

pub(crate) async fn backup(folder: &Path, arguments: BackupArguments) -> anyhow::Result<ExitCode> {
    match arguments.look {
        Some(Look::List { dir, json }) => list(&dir, json),
        Some(Look::Verify { dir }) => verify(&dir),
        None => {
            // The programs that copy work in a folder of their own.
            let to = std::path::absolute(arguments.dir.context("say where: cellctl cell backup DIR")?)?;
            let began = Instant::now();
            let taken = take::take(folder, &to, arguments.cell.as_deref(), arguments.full).await;
            let manifest = taken.map_err(|error| full_disk::of_backup(error, &to))?;
            if arguments.json {
                println!("{}", summary(&to, &manifest));
            } else {
                println!(
                    "cell {} is in {}: {} in {:.1} s, whole up to {}",
                    manifest.cell,
                    to.display(),
                    size(manifest.bytes()),
                    began.elapsed().as_secs_f64(),
                    manifest.whole_until_us.to_rfc3339(),
                );
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list(dir: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let mut found = Vec::new();
    if let Some(manifest) = Manifest::find(dir)? {
        found.push((dir.to_owned(), Ok(manifest)));
    } else {
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
            folders.push(entry?.path());
        }
        folders.sort();
        for folder in folders.into_iter().filter(|folder| folder.is_dir()) {
            if let Some(read) = Manifest::find(&folder).transpose() {
                found.push((folder, read));
            }
        }
    }
    if json {
        let document = |(folder, read): &(PathBuf, anyhow::Result<Manifest>)| match read {
            Ok(manifest) => summary(folder, manifest),
            Err(error) => json!({ "dir": folder, "error": format!("{error:#}") }),
        };
        println!("{}", serde_json::to_string_pretty(&found.iter().map(document).collect::<Vec<_>>())?);
        return Ok(ExitCode::SUCCESS);
    }
    for (folder, read) in &found {
        match read {
            Ok(manifest) => println!(
                "{}: cell {}, {}, from {} to {}",
                folder.display(),
                manifest.cell,
                size(manifest.bytes()),
                manifest.base_ended_us.to_rfc3339(),
                manifest.ended_us.to_rfc3339(),
            ),
            Err(error) => println!("{}: {error:#}", folder.display()),
        }
    }
    if found.is_empty() {
        println!("{} holds no backup", dir.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(dir: &Path) -> anyhow::Result<ExitCode> {
    let manifest = Manifest::read(dir)?;
    let progress = Progress::new();
    let damage = manifest.damage(dir, |_| true, |file| progress.say(&format!("reading {}", file.path)))?;
    drop(progress);
    if let Some(damage) = damage {
        println!("{} is damaged: {damage}", dir.display());
        return Ok(ExitCode::FAILURE);
    }
    let (files, bytes) = (manifest.files.len(), size(manifest.bytes()));
    println!("{} is whole: {files} files, {bytes}", dir.display());
    Ok(ExitCode::SUCCESS)
}

fn summary(dir: &Path, manifest: &Manifest) -> serde_json::Value {
    json!({
        "dir": dir, "cell": manifest.cell, "region": manifest.region, "incarnation": manifest.incarnation,
        "from": manifest.base_ended_us.to_rfc3339(), "to": manifest.ended_us.to_rfc3339(),
        "whole_until": manifest.whole_until_us.to_rfc3339(), "bytes": manifest.bytes(),
        "files": manifest.files.len(), "postgres": manifest.postgres.version, "shards": manifest.shards,
    })
}

/// What tells peppers apart, and nothing about them.
fn pepper_ids(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let peppers = Peppers::from_text(&Secret::new(text)).with_context(|| format!("{}", file.display()))?;
    Ok(peppers.ids().map(|id| id.to_string()).collect())
}

/// As the cell's own configuration has it.
fn incarnation(process: &ProcessEntry) -> anyhow::Result<u64> {
    let mut words = process.launch.arguments.iter();
    let file = words.find(|word| *word == "--config").and_then(|_| words.next()).context("the cell has no --config")?;
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let config: toml::Table = text.parse().with_context(|| format!("{file} cannot be read"))?;
    let incarnation = config.get("incarnation").and_then(toml::Value::as_integer).unwrap_or(1);
    Ok(u64::try_from(incarnation)?)
}

//! `tier apply`, `tier diff`: a document in force, and what that changes.

use super::changes::{self, Change};
use super::confirmed;
use crate::stack::Target;
use anyhow::{Context, bail, ensure};
use cellar_client::TierChange;
use cellar_model::{SettingProblem, TierDocument};
use std::path::Path;
use std::process::ExitCode;

/// It could not be found out what would change.
const NOT_COMPARED: u8 = 2;

pub(super) async fn apply(folder: &Path, file: &Path, yes: bool) -> anyhow::Result<()> {
    put(&Target::find(folder)?, &read(file)?, &file.display().to_string(), yes).await
}

/// Shows what `document` changes, asks, and puts it in force if nobody else has changed the tier meanwhile.
pub(super) async fn put(target: &Target, document: &TierDocument, called: &str, yes: bool) -> anyhow::Result<()> {
    let change = target.admin.tier_change(document).await?;
    put_seen(target, change, called, yes).await
}

/// The same for a change that has been looked at already.
pub(super) async fn put_seen(target: &Target, change: TierChange, called: &str, yes: bool) -> anyhow::Result<()> {
    ensure!(change.problems.is_empty(), "{called} cannot be put in force:\n{}", listed(&change.problems));
    let changes = changes::between(change.before.as_ref(), &change.after)?;
    let name = &change.after.name;
    if changes.is_empty() {
        println!("tier {name} is as {called} says already");
        return Ok(());
    }
    print(&changes);
    print_silent(&change);
    if !yes && !confirmed("Put it in force?")? {
        bail!("nothing changed");
    }
    target.admin.replace_tier(&change.after, change.revision).await?;
    println!("tier {name} is in force within seconds");
    Ok(())
}

/// Exit status 1: something differs, or it could not be put in force.
pub(super) async fn diff(folder: &Path, file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let compared = async {
        let change = Target::find(folder)?.admin.tier_change(&read(file)?).await?;
        let changes = changes::between(change.before.as_ref(), &change.after)?;
        anyhow::Ok((change, changes))
    };
    let (change, changes) = match compared.await {
        Ok(compared) => compared,
        Err(error) => {
            eprintln!("cellctl: {error:#}");
            return Ok(ExitCode::from(NOT_COMPARED));
        }
    };
    if json {
        let (tier, revision, problems) = (&change.after.name, change.revision, &change.problems);
        let document = serde_json::json!({
            "tier": tier, "revision": revision, "changes": changes, "problems": problems, "silent": change.silent,
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        print(&changes);
        print_silent(&change);
        if !change.problems.is_empty() {
            println!("it cannot be put in force:\n{}", listed(&change.problems));
        }
    }
    Ok(ExitCode::from(u8::from(!changes.is_empty() || !change.problems.is_empty())))
}

fn read(file: &Path) -> anyhow::Result<TierDocument> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    TierDocument::from_toml(&text).with_context(|| format!("{} is no tier", file.display()))
}

/// Beside what is printed: the change is the same with them.
fn print_silent(change: &TierChange) {
    change.silent.iter().for_each(|cell| eprintln!("judged without asking everyone: {cell}"));
}

fn print(changes: &[Change]) {
    changes.iter().for_each(|change| println!("{change}"));
}

fn listed(problems: &[SettingProblem]) -> String {
    problems.iter().map(|p| format!("  {}: {}", p.pointer, p.message)).collect::<Vec<_>>().join("\n")
}

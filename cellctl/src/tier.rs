//! `cellctl tier`

use crate::stack::Target;
use anyhow::{Context, bail};
use cellar_model::{TierDocument, TierName};
use clap::Subcommand;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(crate) enum TierCommand {
    /// Put a tier file in force, after showing what would change
    Apply {
        file: PathBuf,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Show a tier, or all
    Show {
        name: Option<TierName>,
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn run(folder: &Path, command: TierCommand) -> anyhow::Result<()> {
    match command {
        TierCommand::Apply { file, yes } => apply(folder, &file, yes).await,
        TierCommand::Show { name, json } => show(folder, name, json).await,
    }
}

async fn apply(folder: &Path, file: &Path, yes: bool) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let document = TierDocument::from_toml(&text).with_context(|| format!("{} is no tier", file.display()))?;
    let admin = Target::find(folder)?.admin;
    let change = admin.tier_change(&document).await?;
    if !change.problems.is_empty() {
        let problems: Vec<String> = change.problems.iter().map(|p| format!("  {}: {}", p.pointer, p.message)).collect();
        bail!("{} cannot be put in force:\n{}", file.display(), problems.join("\n"));
    }
    let (before, after) =
        (change.before.map(|tier| toml::to_string_pretty(&tier)).transpose()?, toml::to_string_pretty(&change.after)?);
    if before.as_deref() == Some(&after) {
        println!("tier {} is as the file says already", document.name);
        return Ok(());
    }
    print_difference(before.as_deref().unwrap_or(""), &after);
    if !yes && !confirmed("Put it in force?")? {
        bail!("nothing changed");
    }
    admin.put_tier(&document).await?;
    println!("tier {} is in force within seconds", document.name);
    Ok(())
}

async fn show(folder: &Path, name: Option<TierName>, json: bool) -> anyhow::Result<()> {
    let mut tiers = Target::find(folder)?.admin.tiers().await?;
    tiers.sort_by(|a, b| a.document.name.cmp(&b.document.name));
    if let Some(name) = &name {
        tiers.retain(|tier| tier.document.name == *name);
        if tiers.is_empty() {
            bail!("there is no tier {name}");
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&tiers)?);
        return Ok(());
    }
    for tier in tiers {
        println!("# revision {}\n{}", tier.revision, toml::to_string_pretty(&tier.document)?);
    }
    Ok(())
}

/// Lines that only one of the two has, in the order of the documents.
pub(crate) fn print_difference(before: &str, after: &str) {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    for line in old.iter().filter(|line| !new.contains(line)) {
        println!("- {line}");
    }
    for line in new.iter().filter(|line| !old.contains(line)) {
        println!("+ {line}");
    }
}

pub(crate) fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("say --yes: there is no terminal to ask at");
    }
    print!("{question} [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

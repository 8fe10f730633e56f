//! `cellctl tier`

mod apply;
mod cells;
mod changes;
mod history;
mod waves;

use crate::stack::Target;
use anyhow::ensure;
use cellar_model::{Percent, Revision, TierName};
use clap::Subcommand;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Subcommand)]
pub(crate) enum TierCommand {
    /// Put a tier file in force, after showing what would change
    Apply {
        file: PathBuf,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// What `apply` would change, and what speaks against it; exit status 1 if there is anything
    Diff {
        file: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// Show a tier, or all, and how their candidates do
    Show {
        name: Option<TierName>,
        #[arg(long)]
        json: bool,
    },
    /// A tier's last revisions, newest first, and what each changed
    History {
        name: TierName,
        #[arg(long)]
        json: bool,
    },
    /// Put an earlier document in force again, as a new revision
    Rollback {
        name: TierName,
        /// Which, as `history` names it [default: the last that had no candidate and said something else]
        #[arg(long, value_name = "REVISION")]
        to: Option<u64>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Let a tier's candidate decide more users: the next of 1, 5, 10, 25, 50 and 100 percent, then the tier
    /// itself; one that is held goes on where it was
    Promote {
        name: TierName,
        /// So many percent of the users
        #[arg(long, value_name = "PERCENT", conflicts_with = "all")]
        to: Option<Percent>,
        /// Its policies become the tier's own, in all cells
        #[arg(long)]
        all: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Let a tier's candidate decide nobody for now
    Hold {
        name: TierName,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// How a tier's shadow decides beside its policies, over all cells
    Shadow {
        name: TierName,
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn run(folder: &Path, command: TierCommand) -> anyhow::Result<ExitCode> {
    match command {
        TierCommand::Apply { file, yes } => apply::apply(folder, &file, yes).await?,
        TierCommand::Diff { file, json } => return apply::diff(folder, &file, json).await,
        TierCommand::Show { name, json } => show(folder, name, json).await?,
        TierCommand::History { name, json } => history::history(folder, &name, json).await?,
        TierCommand::Rollback { name, to, yes } => history::rollback(folder, &name, to.map(Revision), yes).await?,
        TierCommand::Promote { name, to, all, yes } => {
            let step = match to {
                Some(percent) => waves::Step::To(percent),
                None if all => waves::Step::All,
                None => waves::Step::Next,
            };
            waves::change(folder, &name, step, yes).await?;
        }
        TierCommand::Hold { name, yes } => waves::change(folder, &name, waves::Step::Hold, yes).await?,
        TierCommand::Shadow { name, json } => cells::shadow(folder, &name, json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(folder: &Path, name: Option<TierName>, json: bool) -> anyhow::Result<()> {
    let target = Target::find(folder)?;
    let mut tiers = target.admin.tiers().await?;
    tiers.sort_by(|a, b| a.document.name.cmp(&b.document.name));
    if let Some(name) = &name {
        tiers.retain(|tier| tier.document.name == *name);
        ensure!(!tiers.is_empty(), "there is no tier {name}");
    }
    // Only where something is under way are cells asked: a tier is shown without them.
    let counted = match tiers.iter().any(|tier| tier.document.rollout.is_some()) {
        true => cells::ask(&target).await?,
        false => Vec::new(),
    };
    if json {
        let mut listed = Vec::with_capacity(tiers.len());
        for tier in &tiers {
            let mut document = serde_json::to_value(tier)?;
            if tier.document.rollout.is_some() {
                document["cells"] = cells::candidate_json(tier, &counted);
            }
            listed.push(document);
        }
        println!("{}", serde_json::to_string_pretty(&listed)?);
        return Ok(());
    }
    for tier in tiers {
        println!("# revision {}", tier.revision);
        cells::print_candidate(&tier, &counted);
        println!("{}", toml::to_string_pretty(&tier.document)?);
    }
    Ok(())
}

pub(crate) fn confirmed(question: &str) -> anyhow::Result<bool> {
    ensure!(std::io::stdin().is_terminal(), "say --yes: there is no terminal to ask at");
    print!("{question} [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

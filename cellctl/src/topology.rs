//! `cellctl topology`: which regions and cells there are, and what a change would mean for users.

use crate::difference;
use crate::stack::Target;
use crate::tier::confirmed;
use anyhow::{Context, bail};
use cellar_client::{Admin, ClientError};
use cellar_model::{CellName, Topology, TopologyCount};
use clap::Subcommand;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Subcommand)]
pub(crate) enum TopologyCommand {
    /// Print the topology in force, in the form `apply` reads
    Show {
        /// Print the document and the number of users of each cell, in the form terraform reads
        #[arg(long)]
        json: bool,
    },
    /// Say whether a file may be put in force, and count the users it would move, by cell
    Diff { file: PathBuf },
    /// Put a file in force, if it is made of the topology in force
    Apply {
        file: PathBuf,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) async fn run(folder: &Path, command: TopologyCommand) -> anyhow::Result<ExitCode> {
    let admin = Target::find(folder)?.admin;
    match command {
        TopologyCommand::Show { json: false } => {
            println!("{}", serde_json::to_string_pretty(&admin.topology().await?)?);
        }
        TopologyCommand::Show { json: true } => println!("{}", with_users(&admin).await?),
        TopologyCommand::Diff { file } => return diff(&admin, &read(&file)?).await,
        TopologyCommand::Apply { file, yes } => apply(&admin, &read(&file)?, yes).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The document in force, and the users of each of its cells: `{"document":{…},"users":{"eu-1":123}}`. Homes
/// are paged through like those of a change that changes nothing.
async fn with_users(admin: &Admin) -> anyhow::Result<serde_json::Value> {
    let document = admin.topology().await?;
    let count = count(admin, &document).await?;
    let cells = document.cells().map(|(_, cell)| cell.name.clone());
    let mut users: BTreeMap<CellName, u64> = cells.map(|name| (name, 0)).collect();
    users.extend(count.cells.into_iter().map(|(name, cell)| (name, cell.users)));
    Ok(serde_json::json!({ "document": document, "users": users }))
}

fn read(file: &Path) -> anyhow::Result<Topology> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let topology: Topology =
        serde_json::from_str(&text).with_context(|| format!("{} is no topology", file.display()))?;
    topology.validate().with_context(|| format!("{} is no topology", file.display()))?;
    Ok(topology)
}

/// Exit status 1: it would be refused.
async fn diff(admin: &Admin, new: &Topology) -> anyhow::Result<ExitCode> {
    print_documents(&admin.topology().await?, new)?;
    let refused = match admin.judge_topology(new).await {
        Ok(()) => None,
        Err(ClientError::Refused(problem)) => Some(ClientError::Refused(problem)),
        Err(error) => return Err(error.into()),
    };
    print_count(&count(admin, new).await?);
    let Some(refused) = refused else { return Ok(ExitCode::SUCCESS) };
    println!("it would be refused: {refused}");
    Ok(ExitCode::FAILURE)
}

async fn apply(admin: &Admin, new: &Topology, yes: bool) -> anyhow::Result<()> {
    let held = admin.topology().await?;
    if held == *new {
        println!("revision {} is in force already", new.revision);
        return Ok(());
    }
    admin.judge_topology(new).await?;
    print_documents(&held, new)?;
    // Without a plan nobody's place on the ring moves: there is nothing to count.
    if new.plan.is_some() {
        print_count(&count(admin, new).await?);
    }
    if !yes && !confirmed("Put it in force?")? {
        bail!("nothing changed");
    }
    admin.put_topology(new).await?;
    println!("revision {} is in force within seconds", new.revision);
    Ok(())
}

fn print_documents(held: &Topology, new: &Topology) -> anyhow::Result<()> {
    difference::print(&lines(held)?, &lines(new)?);
    Ok(())
}

/// A line a cell: what changes is seen with its name.
fn lines(topology: &Topology) -> anyhow::Result<String> {
    let Topology { revision, predecessor, plan, witness, default_region, regions } = topology;
    let mut text = format!("revision {revision}, after {predecessor}\ndefault_region {default_region}\n");
    for (name, value) in [("plan", plan), ("witness", witness)] {
        if let Some(value) = value {
            text.push_str(&format!("{name} {value}\n"));
        }
    }
    for region in regions {
        text.push_str(&format!(
            "region {}, residency {}, routers {:?}\n",
            region.name, region.residency, region.routers
        ));
        for cell in &region.cells {
            text.push_str(&format!("cell {}\n", serde_json::to_string(cell)?));
        }
    }
    Ok(text)
}

async fn count(admin: &Admin, new: &Topology) -> anyhow::Result<TopologyCount> {
    let shown = std::io::stderr().is_terminal();
    let count = admin.count_topology(new, |count| {
        if shown {
            eprint!("\r{} users counted", count.users);
        }
    });
    let count = count.await.context("the count broke off")?;
    if shown {
        eprintln!();
    }
    Ok(count)
}

fn print_count(count: &TopologyCount) {
    println!("{} users, of whom {} would move", count.users, count.moving());
    for (name, cell) in &count.cells {
        println!("  {name:<16} {:>12} users", cell.users);
        for (to, users) in &cell.moving_to {
            println!("    to {to:<13} {users:>8}");
        }
        if cell.orphaned > 0 {
            println!("    without a home {:>5}", cell.orphaned);
        }
    }
}

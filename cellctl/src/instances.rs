//! `cellctl instance` and `cellctl shard`: a cell's processes, and which of them has what.

use crate::books;
use crate::stack::Target;
use anyhow::bail;
use cellar_model::CellName;
use clap::Subcommand;
use std::path::Path;

#[derive(Subcommand)]
pub(crate) enum InstanceCommand {
    /// Every life of the last day, with the shards it owns
    List {
        #[arg(long)]
        json: bool,
    },
    /// Say that a life is over for certain, so that nobody waits for what it may have acknowledged
    Fence {
        /// As `instance list` names it
        id: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum ShardCommand {
    /// Each shard's fence, owner, store, and what the ledger lacks of it
    List {
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn instance(folder: &Path, command: InstanceCommand) -> anyhow::Result<()> {
    let target = Target::find(folder)?;
    match command {
        InstanceCommand::List { json } => list_instances(&target, json).await,
        InstanceCommand::Fence { id } => fence(&target, &id).await,
    }
}

async fn list_instances(target: &Target, json: bool) -> anyhow::Result<()> {
    let mut document = Vec::new();
    for (cell, by_router) in books::cells(target).await? {
        let instances = target.admin.instances(by_router.then_some(&cell)).await?;
        if json {
            document.push(serde_json::json!({ "cell": cell, "instances": instances }));
            continue;
        }
        if instances.is_empty() {
            println!("{cell}: one process");
        }
        for one in instances {
            let state = match (one.live, one.fenced, one.leaving) {
                (true, _, _) => "live",
                (false, true, _) => "fenced",
                (false, false, true) => "left",
                (false, false, false) => "silent",
            };
            let cell = cell.as_str();
            let (age_s, shards) = (one.age_ms as f64 / 1e3, one.shards);
            println!(
                "{cell:<8} {}  {:<28} {state:<7} {shards:>4} shards  {age_s:.1} s ago",
                one.instance, one.endpoint
            );
        }
    }
    if json {
        println!("{}", serde_json::Value::from(document));
    }
    Ok(())
}

/// The cell is the one that knows of it.
async fn fence(target: &Target, id: &str) -> anyhow::Result<()> {
    for (cell, by_router) in books::cells(target).await? {
        let of: Option<&CellName> = by_router.then_some(&cell);
        if target.admin.instances(of).await?.iter().any(|one| one.instance == id) {
            target.admin.fence_instance(of, id).await?;
            println!("{id} of cell {cell} is over");
            return Ok(());
        }
    }
    bail!("no cell knows a life {id}: `cellctl instance list` shows them")
}

pub(crate) async fn shard(folder: &Path, command: ShardCommand) -> anyhow::Result<()> {
    let ShardCommand::List { json } = command;
    let target = Target::find(folder)?;
    let mut document = Vec::new();
    for (cell, by_router) in books::cells(&target).await? {
        let shards = target.admin.shards(by_router.then_some(&cell)).await?;
        if json {
            document.push(serde_json::json!({ "cell": cell, "shards": shards }));
            continue;
        }
        for one in shards {
            let cell = cell.as_str();
            let (mode, endpoint) = (one.mode.as_deref().unwrap_or("-"), one.endpoint.as_deref().unwrap_or("-"));
            println!(
                "{cell:<8} {:>4}  fence {:>6}  opened {:>6}  {mode:<8}  {endpoint:<28}  {} undrained",
                one.shard, one.fence, one.opened, one.undrained
            );
        }
    }
    if json {
        println!("{}", serde_json::Value::from(document));
    }
    Ok(())
}

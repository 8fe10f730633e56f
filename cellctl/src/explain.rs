//! `cellctl explain`: what became of one request, as the cells remember it.

use crate::books;
use crate::stack::Target;
use cellar_client::{Admin, Credential};
use cellar_devstack::Role;
use cellar_model::wire::{Explained, ExplainedPolicy, Explanations, ProcessExplanations};
use clap::Args;
use futures::future::join_all;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// Somebody did not say, so that nobody knows whether it is remembered there.
const NOT_ALL_ASKED: u8 = 2;

#[derive(Args)]
pub(crate) struct ExplainArguments {
    /// As the request's Cellar-Request-Id had it
    request_id: String,
    #[arg(long)]
    json: bool,
}

/// A cell, or one of its processes, and what it said.
type Asked = (String, Result<Explanations, String>);

/// Exit status 1: it is remembered nowhere; 2: not all could be asked.
pub(crate) async fn run(folder: &Path, arguments: ExplainArguments) -> anyhow::Result<ExitCode> {
    let target = Target::find(folder)?;
    let asked = ask(&target, &arguments.request_id).await?;
    let mut all = Explanations::default();
    let mut silent = Vec::new();
    for (who, said) in asked {
        match said {
            Ok(said) => all.processes.extend(said.processes),
            Err(why) => silent.push((who, why)),
        }
    }
    let found = all.processes.iter().any(|process| !process.decisions.is_empty());
    if arguments.json {
        let silent: Vec<_> = silent.iter().map(|(who, why)| serde_json::json!({ "who": who, "why": why })).collect();
        let document = serde_json::json!({
            "request_id": arguments.request_id, "found": found, "processes": all.processes, "silent": silent,
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        print!("{}", page(&arguments.request_id, &all, &silent));
    }
    Ok(match (found, silent.is_empty()) {
        (true, _) => ExitCode::SUCCESS,
        (false, true) => ExitCode::FAILURE,
        (false, false) => ExitCode::from(NOT_ALL_ASKED),
    })
}

/// Every process of a local stack itself; elsewhere every cell, by way of a router.
async fn ask(target: &Target, id: &str) -> anyhow::Result<Vec<Asked>> {
    let said = |error: cellar_client::ClientError| format!("{:#}", anyhow::Error::from(error));
    if let Some(state) = &target.local {
        let cells = state.processes.iter().filter(|process| process.role == Role::Cell);
        let key = state.operator_key.clone().unwrap_or_default();
        let asking = cells.map(|process| {
            let admin = Admin::new(process.admin_url.clone(), Credential::new(key.clone()));
            async move {
                let said = match admin {
                    Ok(admin) => admin.explain(None, id).await.map_err(said),
                    Err(error) => Err(said(error)),
                };
                (process.name.clone(), said)
            }
        });
        return Ok(join_all(asking).await);
    }
    let cells = books::cells(target).await?;
    let asking = cells.iter().map(|(cell, by_router)| async move {
        (cell.to_string(), target.admin.explain(by_router.then_some(cell), id).await.map_err(said))
    });
    Ok(join_all(asking).await)
}

fn page(id: &str, all: &Explanations, silent: &[(String, String)]) -> String {
    let mut page = String::new();
    let found = all.processes.iter().flat_map(|process| process.decisions.iter().map(move |one| (process, one)));
    let mut any = false;
    for (process, one) in found {
        any = true;
        // Writing into a string cannot fail.
        let _ = write_decision(&mut page, process, one);
    }
    if !any {
        let _ = write_absent(&mut page, id, all);
    }
    for (who, why) in silent {
        let _ = writeln!(page, "{who} does not say: {why}");
    }
    page
}

fn write_decision(page: &mut String, process: &ProcessExplanations, one: &Explained) -> std::fmt::Result {
    let (cell, shard) = (&process.cell, one.shard);
    writeln!(page, "{} of {}, {:.1} s ago, in shard {shard} of cell {cell}", one.operation, one.user, one.ago_s)?;
    let mut verdict = one.verdict.clone();
    if let Some(charge) = &one.charge_id {
        write!(verdict, ", charge {charge}")?;
    }
    if let Some(degraded) = &one.degraded {
        write!(verdict, ", degraded: {degraded}")?;
    }
    if let Some(why) = &one.why {
        write!(verdict, " ({why})")?;
    }
    writeln!(page, "  verdict  {verdict}")?;
    if let Some(decided) = &one.decided {
        let by = if decided.candidate { ", its candidate" } else { "" };
        writeln!(page, "  tier     {} revision {}{by}", decided.tier, decided.tier_revision)?;
        let (before, after) = (decided.version, decided.version_after);
        writeln!(page, "  record   version {before} -> {after}, fence {}, at {:?}", decided.fence, decided.at)?;
        if decided.policies.is_empty() {
            writeln!(page, "  policies what they said is not remembered any more")?;
        }
        for (n, policy) in decided.policies.iter().enumerate() {
            writeln!(page, "  {:<8} {}", if n == 0 { "policies" } else { "" }, of_policy(policy))?;
        }
    }
    let then = match (one.decide_us, one.commit_us) {
        (Some(decide), Some(commit)) => format!("decide {}, commit {}", took(decide), took(commit)),
        _ => "not answered yet".to_owned(),
    };
    writeln!(page, "  time     queued {}, {then}", took(one.queued_us))
}

fn of_policy(one: &ExplainedPolicy) -> String {
    let number = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), crate::table::grouped);
    let mut text = format!("{} by {}: cost {} {}", one.slot, one.policy, one.cost, one.unit);
    let (before, after) = (number(one.remaining_before), number(one.remaining_after));
    // Writing into a string cannot fail.
    let _ = write!(text, ", left {before} -> {after} of {}", number(one.limit));
    let _ = write!(
        text,
        ", state {}",
        match one.state_before.as_deref() {
            None => "too long to keep",
            Some("") => "none yet",
            Some(hex) => hex,
        }
    );
    if one.bound {
        text.push_str("  <- this bound");
    }
    if one.shadow {
        text.push_str("  (a shadow)");
    }
    text
}

/// It may have been, and is not there any more; or it never came.
fn write_absent(page: &mut String, id: &str, all: &Explanations) -> std::fmt::Result {
    writeln!(page, "no cell remembers the request {id}")?;
    for process in &all.processes {
        let (cell, kept, max) = (&process.cell, process.kept, process.kept_max);
        match process.reaches_s {
            None => writeln!(page, "  {cell}: no decision has been kept since its process started")?,
            Some(reaches_s) if kept < max => {
                writeln!(
                    page,
                    "  {cell}: all {kept} decisions since {reaches_s:.0} s ago are kept, and it is not one of them"
                )?;
            }
            Some(reaches_s) => writeln!(
                page,
                "  {cell}: its last {kept} decisions reach back {reaches_s:.1} s; an earlier one is not there any more"
            )?,
        }
    }
    Ok(())
}

/// 950 µs, 2.1 ms
fn took(us: u64) -> String {
    if us < 1_000 { format!("{us} µs") } else { format!("{:.1} ms", us as f64 / 1_000.0) }
}

//! `tier shadow`, and what cells say of a candidate: what they have counted, summed over their processes.

use crate::books;
use crate::stack::Target;
use anyhow::{Context, ensure};
use cellar_model::wire::{CellDecisions, RolloutDecisions, ShadowDecisions, TierDecisions, VariantDecisions};
use cellar_model::{CellName, RevisedTier, TierName};
use serde_json::{Value, json};
use std::path::Path;

/// A cell's word, or why it gave none.
pub(super) type Said = (CellName, Result<CellDecisions, String>);

/// Asks every cell.
pub(super) async fn ask(target: &Target) -> anyhow::Result<Vec<Said>> {
    let mut said = Vec::new();
    for (cell, by_router) in books::cells(target).await? {
        let counted = target.admin.decisions(by_router.then_some(&cell)).await.map_err(|error| error.to_string());
        said.push((cell, counted));
    }
    Ok(said)
}

/// What a cell's processes have counted of the tier as it is in force. A process that has not followed yet
/// counts for an earlier revision.
fn of_tier<'c>(counted: &'c CellDecisions, tier: &'c RevisedTier) -> impl Iterator<Item = &'c TierDecisions> {
    let tiers = counted.processes.iter().flat_map(|process| &process.tiers);
    tiers.filter(|held| held.tier == tier.document.name && held.revision == tier.revision)
}

pub(super) async fn shadow(folder: &Path, name: &TierName, json: bool) -> anyhow::Result<()> {
    let target = Target::find(folder)?;
    let tier = target.admin.tier(name).await?.with_context(|| format!("there is no tier {name}"))?;
    let mut rows: Vec<(CellName, ShadowDecisions)> = Vec::new();
    let said = ask(&target).await?;
    for (cell, counted) in &said {
        // A sum that lacks a cell is another number: better none.
        let counted = counted.as_ref().map_err(|why| anyhow::anyhow!("cell {cell} does not say: {why}"))?;
        let of_cell = of_tier(counted, &tier).flat_map(|tier| &tier.shadows);
        for shadow in of_cell {
            match rows.iter_mut().find(|(of, held)| of == cell && same(held, shadow)) {
                Some((_, held)) => add(held, shadow),
                None => rows.push((cell.clone(), shadow.clone())),
            }
        }
    }
    ensure!(!rows.is_empty(), "tier {name} has no shadow in force: its policies all have mode = \"enforce\"");
    if json {
        let of = |(cell, shadow): &(CellName, ShadowDecisions)| {
            let mut row = json!(shadow);
            row["cell"] = json!(cell);
            row
        };
        let cells: Vec<Value> = rows.iter().map(of).collect();
        println!(
            "{}",
            serde_json::to_string_pretty(&json!({ "tier": name, "revision": tier.revision, "cells": cells }))?
        );
        return Ok(());
    }
    println!("tier {name}, revision {}", tier.revision);
    println!(
        "{:<16} {:<28} {:>12} {:>12} {:>12} {:>8}",
        "cell", "shadow", "the same", "would deny", "would admit", "faults"
    );
    let mut sums: Vec<ShadowDecisions> = Vec::new();
    for (cell, shadow) in &rows {
        print(cell.as_str(), shadow);
        match sums.iter_mut().find(|held| same(held, shadow)) {
            Some(held) => add(held, shadow),
            None => sums.push(shadow.clone()),
        }
    }
    if said.len() > 1 {
        sums.iter().for_each(|sum| print("all", sum));
    }
    Ok(())
}

fn same(one: &ShadowDecisions, other: &ShadowDecisions) -> bool {
    (&one.variant, &one.slot, &one.policy, &one.version) == (&other.variant, &other.slot, &other.policy, &other.version)
}

fn add(sum: &mut ShadowDecisions, one: &ShadowDecisions) {
    sum.none += one.none;
    sum.would_deny += one.would_deny;
    sum.would_admit += one.would_admit;
    sum.fault += one.fault;
}

fn print(cell: &str, shadow: &ShadowDecisions) {
    let of = if shadow.variant == "current" { "" } else { " (candidate)" };
    let name = format!("{} {}{of}", shadow.slot, shadow.version);
    let ShadowDecisions { none, would_deny, would_admit, fault, .. } = shadow;
    println!("{cell:<16} {name:<28} {none:>12} {would_deny:>12} {would_admit:>12} {fault:>8}");
}

/// A cell's candidate: stopped if one of its processes has stopped it.
fn candidate(counted: &CellDecisions, tier: &RevisedTier) -> Option<RolloutDecisions> {
    let mut all = of_tier(counted, tier).filter_map(|tier| tier.rollout.clone());
    let mut sum = all.next()?;
    for one in all {
        sum.stopped = sum.stopped.or(one.stopped);
        sum.current = plus(sum.current, one.current);
        sum.candidate = plus(sum.candidate, one.candidate);
    }
    Some(sum)
}

fn plus(one: VariantDecisions, other: VariantDecisions) -> VariantDecisions {
    VariantDecisions {
        admitted: one.admitted + other.admitted,
        denied: one.denied + other.denied,
        faulted: one.faulted + other.faulted,
    }
}

pub(super) fn candidate_json(tier: &RevisedTier, said: &[Said]) -> Value {
    let of = |(cell, counted): &Said| match counted {
        Ok(counted) => json!({ "cell": cell, "candidate": candidate(counted, tier) }),
        Err(why) => json!({ "cell": cell, "unknown": why }),
    };
    said.iter().map(of).collect()
}

/// As comments above the document.
pub(super) fn print_candidate(tier: &RevisedTier, said: &[Said]) {
    let Some(rollout) = &tier.document.rollout else { return };
    for (cell, counted) in said.iter().filter(|(cell, _)| rollout.takes_part(cell)) {
        match counted.as_ref().map(|counted| candidate(counted, tier)) {
            Ok(Some(counted)) => println!("# {cell}: {}", state(&counted)),
            Ok(None) => println!("# {cell}: this revision has not come yet"),
            Err(why) => println!("# {cell}: does not say: {why}"),
        }
    }
}

fn state(counted: &RolloutDecisions) -> String {
    let VariantDecisions { admitted, denied, faulted } = counted.candidate;
    let decided = format!("it admitted {admitted}, denied {denied}, met {faulted} faults");
    match (&counted.stopped, counted.held) {
        (Some(why), _) => format!("STOPPED here: {why}; {decided}"),
        (None, true) => format!("the candidate is held; {decided}"),
        (None, false) => format!("the candidate decides {} % of the users; {decided}", counted.percent),
    }
}

//! `tier history`, `tier rollback`: the revisions a tier has had, and an earlier one again.

use super::{apply, changes};
use crate::stack::Target;
use anyhow::{Context, ensure};
use cellar_model::{RevisedTier, Revision, TierName};
use std::path::Path;

pub(super) async fn history(folder: &Path, name: &TierName, json: bool) -> anyhow::Result<()> {
    let revisions = read(&Target::find(folder)?, name).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&revisions)?);
        return Ok(());
    }
    for (n, tier) in revisions.iter().enumerate() {
        let in_force = if n == 0 { ", in force" } else { "" };
        println!("revision {}{in_force}", tier.revision);
        match revisions.get(n + 1) {
            Some(before) => {
                let changes = changes::between(Some(&before.document), &tier.document)?;
                changes.iter().for_each(|change| println!("  {change}"));
            }
            None if tier.revision == Revision(1) => println!("  the first"),
            None => println!("  older ones are not shown"),
        }
    }
    Ok(())
}

pub(super) async fn rollback(folder: &Path, name: &TierName, to: Option<Revision>, yes: bool) -> anyhow::Result<()> {
    let target = Target::find(folder)?;
    let revisions = read(&target, name).await?;
    let found = match to {
        Some(to) => revisions
            .iter()
            .find(|tier| tier.revision == to)
            .with_context(|| format!("revision {to} is not among the last {} of tier {name}", revisions.len()))?,
        None => settled(&revisions)
            .context("no earlier revision without a candidate says anything else: name one by --to")?,
    };
    let called = format!("revision {}", found.revision);
    println!("back to {called}:");
    apply::put(&target, &found.document, &called, yes).await
}

async fn read(target: &Target, name: &TierName) -> anyhow::Result<Vec<RevisedTier>> {
    let revisions = target.admin.tier_history(name).await?;
    ensure!(!revisions.is_empty(), "there is no tier {name}");
    Ok(revisions)
}

/// What a rollback means if nobody says: before a candidate was tried, or the last change was made. Steps of a
/// wave are no place to go back to.
fn settled(revisions: &[RevisedTier]) -> Option<&RevisedTier> {
    let in_force = revisions.first()?;
    revisions.iter().skip(1).find(|tier| tier.document.rollout.is_none() && tier.document != in_force.document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::TierDocument;

    fn tier(revision: u64, limit: u64, percent: Option<u8>) -> RevisedTier {
        let slot = |table: &str, limit| {
            format!("[[{table}]]\nslot = \"s\"\nuse = \"p@1\"\nunit = \"tokens\"\nsettings = {{ limit = {limit} }}\n")
        };
        let rollout = percent.map(|percent| format!("[rollout]\npercent = {percent}\n{}", slot("rollout.policy", 9)));
        let text = format!("name = \"t\"\n{}{}", slot("policy", limit), rollout.unwrap_or_default());
        RevisedTier { revision: Revision(revision), document: TierDocument::from_toml(&text).unwrap() }
    }

    fn back(revisions: &[RevisedTier]) -> Option<u64> {
        settled(revisions).map(|tier| tier.revision.0)
    }

    #[test]
    fn it_goes_back_to_before_the_candidate_at_whatever_wave() {
        let waves = [tier(4, 1, Some(50)), tier(3, 1, Some(10)), tier(2, 1, None), tier(1, 7, None)];
        assert_eq!(back(&waves), Some(2));
        let promoted = [[tier(5, 9, None)].as_slice(), &waves].concat();
        assert_eq!(back(&promoted), Some(2));
    }

    #[test]
    fn it_goes_back_to_the_last_change_and_undone_forward_again() {
        assert_eq!(back(&[tier(2, 9, None), tier(1, 1, None)]), Some(1));
        assert_eq!(back(&[tier(3, 1, None), tier(2, 9, None), tier(1, 1, None)]), Some(2));
        assert_eq!(back(&[tier(1, 1, None)]), None);
        assert_eq!(back(&[tier(2, 1, Some(10)), tier(1, 1, Some(5))]), None);
    }
}

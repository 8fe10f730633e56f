//! `cellctl directory peppers`: under which peppers e-mails are claimed, and the claims of one that is gone.

use super::rows::{Rows, is_here, pepper_of};
use super::store_url;
use crate::stack::{Progress, Target};
use crate::tier::confirmed;
use anyhow::{Context, bail};
use cellar_devstack::Stack;
use cellar_directory::{Claims, OpenDirectory, PAGE_MAX, PepperId, Peppers, claim_steps};
use cellar_model::{Secret, UserId};
use clap::Subcommand;
use futures::StreamExt;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

/// Claims removed at once.
const AT_ONCE: usize = 8;
const POOL_MAX: u32 = 4;
/// Users named of those who would lose their e-mail.
const NAMED_MAX: usize = 10;

#[derive(Subcommand)]
pub(crate) enum PeppersCommand {
    /// Remove the claims under a pepper that no file names any more
    ///
    /// Refused as long as a cell or the stack's file has it, or a user of these claims holds none under another
    /// pepper. Shows what would go and asks.
    Retire {
        /// The pepper's id, as `cellctl directory peppers` shows it
        id: PepperId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// A file that holds the directory's URL, as routers and cells have it; the local stack's, if not said
        #[arg(long, value_name = "FILE")]
        url_file: Option<PathBuf>,
    },
}

/// What the directory has under one pepper.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Pepper {
    pub(super) held: usize,
    /// Of sign-ups and changes that have not come to their end, or on their way out.
    pub(super) under_way: usize,
    /// Users of cells with an e-mail and no held claim of it under this pepper.
    pub(super) users_without: usize,
}

impl fmt::Display for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { held, under_way, users_without } = self;
        write!(f, "{held} claims held, {under_way} under way; {users_without} users without one")
    }
}

/// By id: every pepper that a claim is under, or that a cell has.
pub(super) fn peppers_of(rows: &Rows) -> BTreeMap<String, Pepper> {
    let mut peppers: BTreeMap<String, Pepper> = BTreeMap::new();
    for id in rows.peppers.values().flatten() {
        peppers.entry(id.clone()).or_default();
    }
    let mut holders: HashMap<(&UserId, &str), &str> = HashMap::new();
    for claim in rows.claims.values() {
        let id = pepper_of(&claim.email);
        let pepper = peppers.entry(id.to_owned()).or_default();
        if claim.state == "held" {
            pepper.held += 1;
            holders.insert((&claim.user_id, id), &claim.intent);
        } else {
            pepper.under_way += 1;
        }
    }
    let with_email = || rows.accounts.iter().filter(|(_, account)| is_here(account) && account.email_intent.is_some());
    for (id, pepper) in &mut peppers {
        let without = with_email().filter(|(_, account)| {
            // A user holds one e-mail by one intent.
            holders.get(&(&account.user_id, id.as_str())).copied() != account.email_intent.as_deref()
        });
        pepper.users_without = without.count();
    }
    peppers
}

/// Whether the first of two lines may be dropped from the files.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Dropping {
    safe: bool,
    because: String,
}

fn dropping(rows: &Rows, peppers: &BTreeMap<String, Pepper>) -> Dropping {
    let no = |because: String| Dropping { safe: false, because };
    let sets: BTreeSet<&Vec<String>> = rows.peppers.values().collect();
    let mut sets = sets.into_iter();
    match (sets.next().map(Vec::as_slice), sets.next()) {
        (_, Some(_)) => no("not all cells have the same peppers".into()),
        (Some([old, next]), None) => match peppers.get(next).map_or(0, |pepper| pepper.users_without) {
            0 => {
                let because = format!("every user holds a claim under {next}: the line of {old} may go");
                Dropping { safe: true, because }
            }
            n => no(format!("{n} users hold no claim under {next} yet")),
        },
        _ => no("the cells have one pepper".into()),
    }
}

pub(super) async fn show(folder: &Path, json: bool) -> anyhow::Result<()> {
    let rows = Rows::read(&Target::find(folder)?, &Progress::new()).await?;
    let (peppers, file) = (peppers_of(&rows), of_file(folder)?);
    let dropping = dropping(&rows, &peppers);
    if json {
        let document = serde_json::json!({
            "peppers": peppers, "cells": rows.peppers, "file": file, "drop_the_first": dropping,
        });
        println!("{document}");
        return Ok(());
    }
    for (id, pepper) in &peppers {
        let place = match file.as_deref() {
            Some([first, ..]) if first == id => ", first line of the stack's file",
            Some([_, second]) if second == id => ", second line of the stack's file",
            _ => "",
        };
        println!("{id}  {pepper}{place}");
    }
    for (cell, ids) in &rows.peppers {
        println!("cell {cell} has {}", ids.join(", "));
    }
    println!("dropping the first line is {}: {}", if dropping.safe { "safe" } else { "not safe" }, dropping.because);
    Ok(())
}

/// The ids of the local stack's file; none where there is no stack.
fn of_file(folder: &Path) -> anyhow::Result<Option<Vec<String>>> {
    let Ok(stack) = Stack::open(folder) else { return Ok(None) };
    let file = &stack.state().pepper_file;
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let peppers = Peppers::from_text(&Secret::new(text)).with_context(|| file.display().to_string())?;
    Ok(Some(peppers.ids().map(|id| id.to_string()).collect()))
}

/// Whose claims under `id` are the only ones that they hold.
fn would_lose(rows: &Rows, id: &str) -> BTreeSet<UserId> {
    let held = rows.claims.values().filter(|claim| claim.state == "held" && pepper_of(&claim.email) != id);
    let holders: HashMap<&UserId, &str> = held.map(|claim| (&claim.user_id, claim.intent.as_str())).collect();
    let here = rows.here();
    let of_it = rows.claims.values().filter(|claim| pepper_of(&claim.email) == id);
    // A user who is in no cell has no e-mail to lose: a sign-up that stopped, or one who has left.
    let living = of_it.filter_map(|claim| here.get(&claim.user_id).map(|(_, account)| (&claim.user_id, account)));
    let losing = living.filter(|(user, account)| {
        account.email_intent.is_some() && holders.get(user).copied() != account.email_intent.as_deref()
    });
    losing.map(|(user, _)| user.clone()).collect()
}

pub(super) async fn run(folder: &Path, command: PeppersCommand) -> anyhow::Result<()> {
    let PeppersCommand::Retire { id, yes, url_file } = command;
    let id = id.to_string();
    let rows = Rows::read(&Target::find(folder)?, &Progress::new()).await?;
    if of_file(folder)?.is_some_and(|file| file.contains(&id)) {
        bail!("the stack's file still names pepper {id}");
    }
    if let Some((cell, _)) = rows.peppers.iter().find(|(_, ids)| ids.contains(&id)) {
        bail!("cell {cell} still has pepper {id}");
    }
    let losing = would_lose(&rows, &id);
    if !losing.is_empty() {
        let named: Vec<&str> = losing.iter().take(NAMED_MAX).map(UserId::as_str).collect();
        bail!("{} users hold no claim under another pepper, among them {}", losing.len(), named.join(", "));
    }
    let seen: BTreeSet<&str> = rows.claims.keys().map(String::as_str).filter(|email| pepper_of(email) == id).collect();
    println!("{} claims under pepper {id}: each of their users holds one under another, or is gone", seen.len());
    if seen.is_empty() {
        return Ok(());
    }
    if !yes && !confirmed("Remove them?")? {
        bail!("nothing changed");
    }
    let (url, _) = store_url(folder, url_file)?;
    let removed = remove(&OpenDirectory::connect(&url, POOL_MAX).await?, &seen).await?;
    println!("{removed} claims removed");
    Ok(())
}

/// Removes the claims that were looked at, and no other.
async fn remove(directory: &OpenDirectory, seen: &BTreeSet<&str>) -> anyhow::Result<usize> {
    let (mut removed, mut from) = (0, None);
    loop {
        let page = directory.claims(from.as_ref(), PAGE_MAX).await?;
        let going = page.claims.into_iter().filter(|claim| seen.contains(claim.email.to_text().as_str()));
        let mut going = futures::stream::iter(going)
            .map(|claim| async move { claim_steps::free(directory, &claim).await })
            .buffer_unordered(AT_ONCE);
        while let Some(freed) = going.next().await {
            freed?;
            removed += 1;
        }
        from = page.next;
        if from.is_none() {
            return Ok(removed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::wire::{CellAccount, DirectoryClaim};
    use cellar_model::{CellName, Epoch};

    fn cell() -> CellName {
        CellName::new("eu-1").unwrap()
    }

    fn account(id: &str, intent: &str) -> (CellName, CellAccount) {
        let account = CellAccount {
            user_id: UserId::new(id).unwrap(),
            ownership: "OWNED".into(),
            epoch: Epoch(1),
            home: cell(),
            emails: Vec::new(),
            email_intent: Some(intent.into()),
            releases: Vec::new(),
            forward_due: false,
            tier: None,
            state: None,
            created_at: None,
        };
        (cell(), account)
    }

    fn claim(email: &str, id: &str, intent: &str, state: &str) -> (String, DirectoryClaim) {
        let claim = DirectoryClaim {
            email: email.into(),
            user_id: UserId::new(id).unwrap(),
            cell: cell(),
            intent: intent.into(),
            state: state.into(),
        };
        (email.into(), claim)
    }

    fn rows(claims: &[(String, DirectoryClaim)], peppers: &[&str]) -> Rows {
        Rows {
            claims: claims.iter().cloned().collect(),
            accounts: vec![account("ada", "a1"), account("bob", "b1")],
            peppers: [(cell(), peppers.iter().map(|id| (*id).to_owned()).collect())].into(),
            ..Rows::default()
        }
    }

    #[test]
    fn dropping_the_first_is_safe_once_every_user_holds_a_claim_under_the_next() {
        let mut claims = vec![
            claim("p1:e1", "ada", "a1", "held"),
            claim("p1:e2", "bob", "b1", "held"),
            claim("p2:f1", "ada", "a1", "held"),
            claim("p2:f2", "bob", "b1", "creating"),
        ];
        let safe = |claims: &[_], peppers: &[&str]| {
            let rows = rows(claims, peppers);
            dropping(&rows, &peppers_of(&rows)).safe
        };
        assert!(!safe(&claims, &["p1", "p2"]));
        claims[3] = claim("p2:f2", "bob", "b0", "held");
        assert!(!safe(&claims, &["p1", "p2"]), "by an intent by which bob has another e-mail");
        claims[3] = claim("p2:f2", "bob", "b1", "held");
        assert!(safe(&claims, &["p1", "p2"]));
        assert!(!safe(&claims, &["p1"]));
    }

    #[test]
    fn only_users_without_a_claim_under_another_pepper_would_lose_theirs() {
        let claims = [
            claim("p1:e1", "ada", "a1", "held"),
            claim("p1:e2", "bob", "b1", "held"),
            claim("p1:e3", "cy", "c1", "creating"),
            claim("p2:f1", "ada", "a1", "held"),
        ];
        let losing = would_lose(&rows(&claims, &["p2"]), "p1");
        assert_eq!(losing.iter().map(UserId::as_str).collect::<Vec<_>>(), ["bob"]);
    }
}

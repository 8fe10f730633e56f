//! `cellctl directory audit`: the directory and the cells say the same of every user, read both ways.

use super::peppers::{Pepper, peppers_of};
use super::rows::{Rows, is_here, pepper_of};
use crate::stack::{Progress, Target};
use cellar_model::wire::{CellAccount, DirectoryClaim, DirectoryHome};
use cellar_model::{CellName, UserId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// The rows could not be read: nobody can say whether they agree.
const NOT_COMPARED: u8 = 2;
/// How often everything is read. Rows are read one after the other while requests change them, so that only
/// what disagrees each time disagrees.
const LOOKS_MAX: u32 = 3;
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(folder: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let target = Target::find(folder)?;
    let compared = match compare(&target).await {
        Ok(compared) => compared,
        Err(error) => {
            eprintln!("cellctl: directory and cells could not be compared: {error:#}");
            return Ok(ExitCode::from(NOT_COMPARED));
        }
    };
    if json {
        println!("{}", compared.to_json());
    } else {
        compared.say();
    }
    Ok(if compared.disagreements.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What disagrees, in words, by user.
pub(crate) async fn disagreements(target: &Target) -> anyhow::Result<Vec<(UserId, String)>> {
    Ok(compare(target).await?.disagreements.into_iter().collect())
}

/// Looks until nothing disagrees, or the same does for the last time.
async fn compare(target: &Target) -> anyhow::Result<Compared> {
    let progress = Progress::new();
    let mut compared = Rows::read(target, &progress).await?.compare();
    for _ in 1..LOOKS_MAX {
        if compared.disagreements.is_empty() {
            break;
        }
        progress.say("looking again at what disagrees");
        tokio::time::sleep(LOOK_EVERY).await;
        let again = Rows::read(target, &progress).await?.compare();
        let both = again.disagreements.intersection(&compared.disagreements).cloned().collect();
        compared = Compared { disagreements: both, ..again };
    }
    Ok(compared)
}

/// A user, and what is said of them here and otherwise there.
type Disagreement = (UserId, String);

struct Compared {
    homes: usize,
    claims: usize,
    users: usize,
    /// What claims there are under each pepper, and who has none, by its id.
    peppers: BTreeMap<String, Pepper>,
    /// Homes of sign-ups that stopped and were refused: their user id is anybody's, and nothing is to be done.
    unused_homes: usize,
    /// Sign-ups and changes that have not come to their end: nothing to mend unless they stay.
    under_way: BTreeSet<Disagreement>,
    disagreements: BTreeSet<Disagreement>,
}

impl Compared {
    fn to_json(&self) -> serde_json::Value {
        let list = |entries: &BTreeSet<Disagreement>| -> Vec<serde_json::Value> {
            entries.iter().map(|(user, what)| serde_json::json!({ "user_id": user, "what": what })).collect()
        };
        serde_json::json!({
            "homes": self.homes, "claims": self.claims, "users": self.users,
            "peppers": self.peppers, "unused_homes": self.unused_homes,
            "under_way": list(&self.under_way), "disagreements": list(&self.disagreements),
        })
    }

    fn say(&self) {
        let Self { homes, claims, users, peppers, unused_homes, under_way, disagreements } = self;
        println!("{homes} homes, {claims} claims, {users} users of cells");
        for (id, pepper) in peppers {
            println!("  pepper {id}: {pepper}");
        }
        if *unused_homes > 0 {
            println!("{unused_homes} of the homes are of sign-ups that stopped: their ids can be signed up");
        }
        for (user, what) in under_way {
            println!("  under way: {} {what}", user.as_str());
        }
        for (user, what) in disagreements {
            println!("  {} {what}", user.as_str());
        }
        match disagreements.len() {
            0 => println!("directory and cells agree"),
            n => println!("directory and cells disagree in {n} {}", if n == 1 { "place" } else { "places" }),
        }
    }
}

impl Rows {
    fn compare(&self) -> Compared {
        let mut compared = Compared {
            homes: self.homes.len(),
            claims: self.claims.len(),
            users: self.accounts.iter().filter(|(_, account)| is_here(account)).count(),
            peppers: peppers_of(self),
            unused_homes: 0,
            under_way: BTreeSet::new(),
            disagreements: BTreeSet::new(),
        };
        let mut here: HashMap<&UserId, (&CellName, &CellAccount)> = HashMap::new();
        let mut forwards: HashMap<(&UserId, &CellName), &CellAccount> = HashMap::new();
        for (cell, account) in &self.accounts {
            let user = &account.user_id;
            if account.ownership == "FORWARD" {
                forwards.insert((user, cell), account);
            } else if !is_here(account) {
                // On the way in, or erased.
            } else if let Some((other, _)) = here.insert(user, (cell, account)) {
                compared.disagree(user, format!("is owned by two cells, {other} and {cell}"));
            } else {
                self.compare_account(cell, account, &mut compared);
            }
        }
        for account in forwards.values() {
            self.compare_forward(account, &here, &mut compared);
        }
        for (cell, account) in here.values() {
            self.compare_ring_cells(cell, account, &forwards, &mut compared);
        }
        let creating = self.claims.values().filter(|claim| claim.state == "creating");
        let creating: HashSet<&UserId> = creating.map(|claim| &claim.user_id).collect();
        for home in self.homes.values() {
            let unused = home.state == "creating" && !creating.contains(&home.user_id);
            if unused && !here.contains_key(&home.user_id) {
                compared.unused_homes += 1;
                continue;
            }
            compare_home(home, here.get(&home.user_id).copied(), &mut compared);
        }
        let due: HashSet<(&UserId, &str)> = self.accounts.iter().flat_map(|(_, account)| dues(account)).collect();
        for claim in self.claims.values() {
            self.compare_claim(claim, here.get(&claim.user_id).copied(), &due, &mut compared);
        }
        compared
    }

    /// A user of a cell has a home there, and the claim of their present e-mail.
    fn compare_account(&self, cell: &CellName, account: &CellAccount, compared: &mut Compared) {
        let user = &account.user_id;
        match self.homes.get(user) {
            Some(home) if home.cell == *cell && home.epoch == account.epoch => {}
            Some(home) => compared.disagree(
                user,
                format!(
                    "is owned by {cell} at epoch {}, and the directory names {} at {}",
                    account.epoch.0, home.cell, home.epoch.0
                ),
            ),
            None => compared.disagree(user, format!("is owned by {cell} and unknown to the directory")),
        }
        // Under one pepper at least. Who lacks a claim under the next one is counted, and given it.
        let claims: Vec<&DirectoryClaim> = account.emails.iter().filter_map(|email| self.claims.get(email)).collect();
        let own =
            |claim: &DirectoryClaim| claim.user_id == *user && Some(&claim.intent) == account.email_intent.as_ref();
        if account.emails.is_empty() || claims.iter().any(|claim| own(claim)) {
            return;
        }
        let who = if claims.is_empty() { "nobody" } else { "another" };
        compared.disagree(user, format!("has an e-mail that {who} claims"));
    }

    /// Where a cell sends on to, the directory does not know better by an older decision, and the user is there
    /// unless they have moved since.
    fn compare_forward(
        &self,
        account: &CellAccount,
        here: &HashMap<&UserId, (&CellName, &CellAccount)>,
        compared: &mut Compared,
    ) {
        let (user, at, epoch) = (&account.user_id, &account.home, account.epoch);
        let sent = format!("is sent on to {at} at epoch {}", epoch.0);
        match self.homes.get(user) {
            Some(home) if home.epoch > epoch || home.state == "erased" => {}
            Some(home) if home.epoch < epoch || home.cell != *at => {
                compared.disagree(user, format!("{sent}, and the directory names {} at {}", home.cell, home.epoch.0));
            }
            _ if here.get(user).is_none_or(|(cell, _)| *cell != at) => {
                compared.disagree(user, format!("{sent}, which does not have them"));
            }
            _ => {}
        }
    }

    /// The cells that the rings name for a user who lives elsewhere send on to there.
    fn compare_ring_cells(
        &self,
        cell: &CellName,
        account: &CellAccount,
        forwards: &HashMap<(&UserId, &CellName), &CellAccount>,
        compared: &mut Compared,
    ) {
        let Some(rings) = &self.rings else { return };
        let user = &account.user_id;
        for ring_cell in rings.forwards(user, cell) {
            let forward = forwards.get(&(user, ring_cell));
            if forward.is_some_and(|forward| forward.home == *cell && forward.epoch == account.epoch) {
                continue;
            }
            let what = format!("lives at {cell}, and {ring_cell} does not send on to there");
            if account.forward_due || self.behind.contains(cell) {
                compared.under_way.insert((user.clone(), what));
            } else {
                compared.disagree(user, what);
            }
        }
    }

    /// A held claim is for its user's present e-mail. Under a pepper that the user's cell does not have nobody can
    /// say; such claims are counted by their pepper.
    fn compare_claim(
        &self,
        claim: &DirectoryClaim,
        here: Option<(&CellName, &CellAccount)>,
        due: &HashSet<(&UserId, &str)>,
        compared: &mut Compared,
    ) {
        let pepper = pepper_of(&claim.email);
        let known = |cell: &CellName| self.peppers.get(cell).is_some_and(|ids| ids.iter().any(|id| id == pepper));
        if here.is_some_and(|(cell, _)| !known(cell)) {
            return;
        }
        let short: String = claim.email.chars().skip(pepper.len() + 1).take(8).collect();
        let present = here.is_some_and(|(cell, account)| {
            account.emails.contains(&claim.email)
                && account.email_intent.as_ref() == Some(&claim.intent)
                && *cell == claim.cell
        });
        if claim.state == "creating" {
            compared.under_way.insert((claim.user_id.clone(), format!("claims e-mail {short}… at {}", claim.cell)));
        } else if claim.state == "releasing" || due.contains(&(&claim.user_id, claim.email.as_str())) {
            compared.under_way.insert((claim.user_id.clone(), format!("leaves e-mail {short}…")));
        } else if !present {
            compared.disagree(&claim.user_id, format!("holds e-mail {short}… and does not have it"));
        }
    }
}

impl Compared {
    fn disagree(&mut self, user: &UserId, what: String) {
        self.disagreements.insert((user.clone(), what));
    }
}

fn dues(account: &CellAccount) -> impl Iterator<Item = (&UserId, &str)> {
    account.releases.iter().map(|email| (&account.user_id, email.as_str()))
}

/// An ACTIVE home has its user. Whether at the cell it names has been looked at from the cell's side.
fn compare_home(home: &DirectoryHome, here: Option<(&CellName, &CellAccount)>, compared: &mut Compared) {
    match (home.state.as_str(), here) {
        ("active" | "moving", None) => {
            compared.disagree(&home.user_id, format!("has a home at {} and is owned by no cell", home.cell));
        }
        ("erased", Some((cell, _))) => {
            compared.disagree(&home.user_id, format!("is erased, and owned by {cell}"));
        }
        ("creating", _) => {
            compared.under_way.insert((home.user_id.clone(), format!("is being signed up at {}", home.cell)));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;

//! `cellctl directory audit`: the directory and the cells say the same of every user, read both ways.

use crate::books;
use crate::stack::{Progress, Target};
use cellar_model::wire::{CellAccount, DirectoryClaim, DirectoryHome};
use cellar_model::{CellName, UserId};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// The rows could not be read: nobody can say whether they agree.
const NOT_COMPARED: u8 = 2;
/// How often everything is read. Rows are read one after the other while requests change them, so that only
/// what disagrees each time disagrees.
const LOOKS_MAX: u32 = 3;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Rows between two lines of progress.
const SAY_EVERY: usize = 100_000;

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
            "unused_homes": self.unused_homes,
            "under_way": list(&self.under_way), "disagreements": list(&self.disagreements),
        })
    }

    fn say(&self) {
        let Self { homes, claims, users, unused_homes, under_way, disagreements } = self;
        println!("{homes} homes, {claims} claims, {users} users of cells");
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

/// Everything that is compared.
#[derive(Default)]
struct Rows {
    homes: HashMap<UserId, DirectoryHome>,
    claims: HashMap<String, DirectoryClaim>,
    accounts: Vec<(CellName, CellAccount)>,
}

impl Rows {
    /// Cells first: what was committed there after it was read is CREATING or newer in the directory.
    async fn read(target: &Target, progress: &Progress) -> anyhow::Result<Self> {
        let mut rows = Self::default();
        for (cell, by_router) in books::cells(target).await? {
            progress.say(&format!("reading the users of cell {cell}"));
            let mut after = None;
            loop {
                let page = target.admin.accounts(by_router.then_some(&cell), after.as_ref()).await?;
                rows.accounts.extend(page.accounts.into_iter().map(|account| (cell.clone(), account)));
                say_now_and_then(progress, rows.accounts.len(), "users");
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        progress.say("reading the directory's homes");
        let mut after = None;
        loop {
            let page = target.admin.homes(after.as_deref()).await?;
            rows.homes.extend(page.homes.into_iter().map(|home| (home.user_id.clone(), home)));
            say_now_and_then(progress, rows.homes.len(), "homes");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        progress.say("reading the directory's claims");
        let mut after = None;
        loop {
            let page = target.admin.claims(after.as_deref()).await?;
            rows.claims.extend(page.claims.into_iter().map(|claim| (claim.email.clone(), claim)));
            say_now_and_then(progress, rows.claims.len(), "claims");
            after = page.next;
            if after.is_none() {
                return Ok(rows);
            }
        }
    }

    fn compare(&self) -> Compared {
        let mut compared = Compared {
            homes: self.homes.len(),
            claims: self.claims.len(),
            users: self.accounts.iter().filter(|(_, account)| is_here(account)).count(),
            unused_homes: 0,
            under_way: BTreeSet::new(),
            disagreements: BTreeSet::new(),
        };
        let mut here: HashMap<&UserId, (&CellName, &CellAccount)> = HashMap::new();
        for (cell, account) in &self.accounts {
            let user = &account.user_id;
            if !is_here(account) {
                self.compare_forward(account, &mut compared);
            } else if let Some((other, _)) = here.insert(user, (cell, account)) {
                compared.disagree(user, format!("is owned by two cells, {other} and {cell}"));
            } else {
                self.compare_account(cell, account, &mut compared);
            }
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
            compare_claim(claim, here.get(&claim.user_id).copied(), &due, &mut compared);
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
        let Some(email) = &account.email else { return };
        match self.claims.get(email) {
            Some(claim) if claim.user_id == *user && Some(&claim.intent) == account.email_intent.as_ref() => {}
            Some(_) => compared.disagree(user, "has an e-mail that another claims".to_owned()),
            None => compared.disagree(user, "has an e-mail that nobody claims".to_owned()),
        }
    }

    /// Where a cell sends on to, the directory does not know better by an older decision.
    fn compare_forward(&self, account: &CellAccount, compared: &mut Compared) {
        let Some(home) = self.homes.get(&account.user_id).filter(|_| account.ownership == "FORWARD") else { return };
        if home.epoch < account.epoch || (home.epoch == account.epoch && home.cell != account.home) {
            compared.disagree(
                &account.user_id,
                format!(
                    "is sent on to {} at epoch {}, and the directory names {} at {}",
                    account.home, account.epoch.0, home.cell, home.epoch.0
                ),
            );
        }
    }
}

impl Compared {
    fn disagree(&mut self, user: &UserId, what: String) {
        self.disagreements.insert((user.clone(), what));
    }
}

/// Whether the cell serves this user, or would if a move did not hold them.
fn is_here(account: &CellAccount) -> bool {
    matches!(account.ownership.as_str(), "OWNED" | "FROZEN")
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

/// A held claim is for its user's present e-mail.
fn compare_claim(
    claim: &DirectoryClaim,
    here: Option<(&CellName, &CellAccount)>,
    due: &HashSet<(&UserId, &str)>,
    compared: &mut Compared,
) {
    let short = claim.email.get(..8).unwrap_or_default();
    let present = here.is_some_and(|(cell, account)| {
        account.email.as_ref() == Some(&claim.email)
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

fn say_now_and_then(progress: &Progress, rows: usize, what: &str) {
    // Pages have up to 1,000 rows.
    if rows % SAY_EVERY < 1_000 && rows >= SAY_EVERY {
        progress.say(&format!("{rows} {what} read"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::Epoch;

    fn user(id: &str) -> UserId {
        UserId::new(id).unwrap()
    }

    fn cell(name: &str) -> CellName {
        CellName::new(name).unwrap()
    }

    fn home(id: &str, at: &str, epoch: u64, state: &str) -> DirectoryHome {
        DirectoryHome { user_id: user(id), cell: cell(at), epoch: Epoch(epoch), state: state.into() }
    }

    fn claim(email: &str, id: &str, intent: &str, state: &str) -> DirectoryClaim {
        DirectoryClaim {
            email: email.into(),
            user_id: user(id),
            cell: cell("eu-1"),
            intent: intent.into(),
            state: state.into(),
        }
    }

    fn owned(id: &str, epoch: u64, email: &str, intent: &str) -> CellAccount {
        CellAccount {
            user_id: user(id),
            ownership: "OWNED".into(),
            epoch: Epoch(epoch),
            home: cell("eu-1"),
            email: Some(email.into()),
            email_intent: Some(intent.into()),
            releases: Vec::new(),
            tier: None,
            state: None,
            created_at: None,
        }
    }

    fn rows(homes: &[DirectoryHome], claims: &[DirectoryClaim], accounts: &[(&str, CellAccount)]) -> Rows {
        Rows {
            homes: homes.iter().map(|home| (home.user_id.clone(), home.clone())).collect(),
            claims: claims.iter().map(|claim| (claim.email.clone(), claim.clone())).collect(),
            accounts: accounts.iter().map(|(at, account)| (cell(at), account.clone())).collect(),
        }
    }

    #[test]
    fn what_agrees_is_silent_and_what_is_under_way_is_no_disagreement() {
        let mut leaving = owned("ada", 1, "e1", "a1");
        leaving.releases.push("e0".into());
        let homes =
            [home("ada", "eu-1", 1, "active"), home("bob", "eu-1", 1, "creating"), home("cy", "eu-1", 1, "creating")];
        let claims =
            [claim("e1", "ada", "a1", "held"), claim("e0", "ada", "a0", "held"), claim("e2", "bob", "b1", "creating")];
        let compared = rows(&homes, &claims, &[("eu-1", leaving)]).compare();
        assert_eq!(compared.disagreements, BTreeSet::new());
        assert_eq!((compared.under_way.len(), compared.unused_homes), (3, 1));
    }

    #[test]
    fn each_way_to_disagree_is_named() {
        let ada = || owned("ada", 1, "e1", "a1");
        let at_home = || vec![home("ada", "eu-1", 1, "active")];
        let held = || vec![claim("e1", "ada", "a1", "held")];
        let forward = CellAccount { ownership: "FORWARD".into(), epoch: Epoch(2), home: cell("eu-2"), ..ada() };
        let cases = [
            (rows(&[], &held(), &[("eu-1", ada())]), "unknown to the directory"),
            (rows(&[home("ada", "eu-2", 2, "active")], &held(), &[("eu-1", ada())]), "the directory names eu-2 at 2"),
            (rows(&at_home(), &held(), &[("eu-1", ada()), ("eu-2", ada())]), "owned by two cells"),
            (rows(&at_home(), &[], &[]), "owned by no cell"),
            (rows(&[home("ada", "eu-1", 1, "erased")], &held(), &[("eu-1", ada())]), "is erased"),
            (rows(&at_home(), &[], &[("eu-1", ada())]), "nobody claims"),
            (rows(&at_home(), &[claim("e1", "bob", "b1", "held")], &[("eu-1", ada())]), "another claims"),
            (rows(&at_home(), &[claim("e1", "ada", "a0", "held")], &[("eu-1", ada())]), "does not have it"),
            (rows(&at_home(), &held(), &[("eu-1", ada()), ("eu-2", forward)]), "is sent on to eu-2"),
        ];
        for (rows, words) in cases {
            let compared = rows.compare();
            let said = compared.disagreements.iter().any(|(_, what)| what.contains(words));
            assert!(said, "{words}: {:?}", compared.disagreements);
        }
    }
}

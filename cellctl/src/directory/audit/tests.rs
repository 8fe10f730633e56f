//! Rows that agree, and each way to disagree.

use super::*;
use cellar_model::{Epoch, Rings};

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
        email: format!("p1:{email}"),
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
        emails: vec![format!("p1:{email}")],
        email_intent: Some(intent.into()),
        releases: Vec::new(),
        forward_due: false,
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
        peppers: ["eu-1", "eu-2"].map(|at| (cell(at), vec!["p1".to_owned()])).into(),
        ..Rows::default()
    }
}

#[test]
fn what_agrees_is_silent_and_what_is_under_way_is_no_disagreement() {
    let mut leaving = owned("ada", 1, "e1", "a1");
    leaving.releases.push("p1:e0".into());
    let homes =
        [home("ada", "eu-1", 1, "active"), home("bob", "eu-1", 1, "creating"), home("cy", "eu-1", 1, "creating")];
    let claims =
        [claim("e1", "ada", "a1", "held"), claim("e0", "ada", "a0", "held"), claim("e2", "bob", "b1", "creating")];
    let compared = rows(&homes, &claims, &[("eu-1", leaving)]).compare();
    assert_eq!(compared.disagreements, BTreeSet::new());
    assert_eq!((compared.under_way.len(), compared.unused_homes), (3, 1));
}

#[test]
fn who_lacks_a_claim_under_one_of_two_peppers_is_counted_and_no_disagreement() {
    let mut ada = owned("ada", 1, "e1", "a1");
    ada.emails.push("p2:e1".into());
    let mut rows = rows(&[home("ada", "eu-1", 1, "active")], &[claim("e1", "ada", "a1", "held")], &[("eu-1", ada)]);
    rows.peppers.insert(cell("eu-1"), vec!["p1".into(), "p2".into()]);
    let compared = rows.compare();
    assert_eq!(compared.disagreements, BTreeSet::new());
    let lacking = |id: &str| compared.peppers[id].users_without;
    assert_eq!((lacking("p1"), lacking("p2")), (0, 1));
    // One of a pepper that no cell has any more says nothing.
    let old = DirectoryClaim { email: "p0:e0".into(), ..claim("e0", "ada", "a0", "held") };
    rows.claims.insert(old.email.clone(), old);
    let compared = rows.compare();
    assert_eq!((compared.disagreements, compared.peppers["p0"].held), (BTreeSet::new(), 1));
}

#[test]
fn each_way_to_disagree_is_named() {
    let ada = || owned("ada", 1, "e1", "a1");
    let at_home = || vec![home("ada", "eu-1", 1, "active")];
    let held = || vec![claim("e1", "ada", "a1", "held")];
    let forward = CellAccount { ownership: "FORWARD".into(), epoch: Epoch(2), home: cell("eu-2"), ..ada() };
    let nowhere = CellAccount { epoch: Epoch(1), home: cell("eu-1"), ..forward.clone() };
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
        (rows(&at_home(), &held(), &[("eu-2", nowhere)]), "does not have them"),
    ];
    for (rows, words) in cases {
        let compared = rows.compare();
        let said = compared.disagreements.iter().any(|(_, what)| what.contains(words));
        assert!(said, "{words}: {:?}", compared.disagreements);
    }
}

/// Goal: a user off the ring is known at the ring's cell, or is on the way to be.
#[test]
fn who_lives_off_the_ring_is_sent_on_by_the_ring_cell() {
    let topology = serde_json::from_str(
        r#"{"revision":1,"predecessor":0,"plan":null,"witness":null,"default_region":"us","regions":[
            {"name":"eu","residency":"eu","routers":[],"cells":[
             {"name":"eu-1","state":"open","weight":1,"shards":4,"incarnation":1,"endpoints":[]}]},
            {"name":"us","residency":"us","routers":[],"cells":[
             {"name":"us-1","state":"open","weight":1,"shards":4,"incarnation":1,"endpoints":[]}]}]}"#,
    )
    .unwrap();
    let compare = |behind: bool, due: bool, forward: Option<CellAccount>| {
        let homes = [home("ada", "eu-1", 1, "active")];
        let mut accounts = vec![("eu-1", CellAccount { forward_due: due, ..owned("ada", 1, "e1", "a1") })];
        accounts.extend(forward.map(|forward| ("us-1", forward)));
        let mut rows = rows(&homes, &[claim("e1", "ada", "a1", "held")], &accounts);
        rows.rings = Some(Rings::new(&topology).unwrap());
        rows.behind.extend(behind.then(|| cell("eu-1")));
        let compared = rows.compare();
        (compared.under_way.len(), compared.disagreements.len())
    };
    let forward = CellAccount { ownership: "FORWARD".into(), ..owned("ada", 1, "e1", "a1") };
    assert_eq!(compare(false, false, Some(forward)), (0, 0));
    assert_eq!(compare(false, false, None), (0, 1));
    assert_eq!(compare(false, true, None), (1, 0));
    assert_eq!(compare(true, false, None), (1, 0));
}

use super::*;
use crate::doctor::look::SeenMember;
use crate::fleet::{Member, Said, SaidCondition, SaidProcess};

fn member(role: MemberRole, region: &str, cell: Option<&str>, name: &str) -> Member {
    let (name, region, cell) = (name.to_owned(), region.to_owned(), cell.map(str::to_owned));
    Member { role, name, region, cell, admin_url: String::new(), door: role == MemberRole::Router }
}

fn says(member: Member, ready: bool, conditions: &[(&str, &str, bool)]) -> SeenMember {
    let conditions = conditions.iter().enumerate().map(|(n, (name, what, failing))| SaidCondition {
        name: (*name).to_owned(),
        since_ms: 1_000 + n as u64,
        for_s: 5.0,
        what: (*what).to_owned(),
        failing: *failing,
        runbook: (*name).to_owned(),
    });
    let process = SaidProcess { name: member.name.clone(), region: member.region.clone() };
    let reasons = if ready { Vec::new() } else { vec!["all 4 shards are closed".to_owned()] };
    let said = Said { process, up_s: 60.0, ready, reasons, conditions: conditions.collect() };
    SeenMember { member, said: Ok(said) }
}

fn cell(name: &str, ready: bool, conditions: &[(&str, &str, bool)]) -> SeenMember {
    says(member(MemberRole::Cell, "eu", Some(name), &format!("cell-{name}")), ready, conditions)
}

fn router(conditions: &[(&str, &str, bool)]) -> SeenMember {
    says(member(MemberRole::Router, "eu", None, "router-eu"), true, conditions)
}

fn store(store: Store, cell: Option<&str>, answers: bool) -> SeenStore {
    let (name, cell) = (format!("{store:?}"), cell.map(str::to_owned));
    SeenStore { store, name, region: None, cell, running: answers, answers, no_room: false }
}

fn kinds(members: Vec<SeenMember>, stores: Vec<SeenStore>) -> Vec<(String, bool)> {
    let causes = deduce(&Seen { members, stores, directory_in_cell: false });
    causes.into_iter().map(|cause| (cause.kind, cause.failing)).collect()
}

fn of(kind: &str, failing: bool) -> (String, bool) {
    (kind.to_owned(), failing)
}

#[test]
fn a_world_without_conditions_has_no_cause() {
    let members = vec![router(&[]), cell("eu-1", true, &[]), cell("eu-2", true, &[])];
    assert_eq!(kinds(members, vec![store(Store::QuotaRedis, Some("eu-1"), true)]), []);
}

#[test]
fn a_dead_redis_is_the_one_cause_of_what_its_cell_and_the_router_say() {
    let members = || {
        vec![
            router(&[("cell-away", "cell eu-1 says that it cannot serve: all 4 shards are closed", true)]),
            cell("eu-1", false, &[("redis-away", "", false), ("shard-closed", "4 of 4", true)]),
            cell("eu-2", true, &[]),
        ]
    };
    let stores = vec![store(Store::QuotaRedis, Some("eu-1"), false), store(Store::QuotaRedis, Some("eu-2"), true)];
    assert_eq!(kinds(members(), stores), [of("redis-away", true)]);
    // Where nobody can look at the stores, the cell's own word.
    assert_eq!(kinds(members(), Vec::new()), [of("redis-away", true)]);
}

#[test]
fn what_one_cell_says_is_not_put_down_to_anothers_store() {
    let members = vec![cell("eu-1", true, &[]), cell("eu-10", true, &[("redis-away", "", false)])];
    let stores = vec![store(Store::QuotaRedis, Some("eu-1"), false)];
    assert_eq!(kinds(members, stores), [of("redis-away", false), of("redis-away", false)]);
    assert!(names("cell eu-10 is silent; cell eu-2 (1 of 2 processes) does not answer", Some("eu-2")));
    assert!(!names("cell eu-10 is silent", Some("eu-1")));
}

#[test]
fn a_directory_that_nobody_reaches_is_one_cause() {
    let away = [("directory-away", "", false)];
    let members = || vec![router(&away), cell("eu-1", true, &away), cell("eu-2", true, &away)];
    assert_eq!(kinds(members(), Vec::new()), [of("directory-away", false)]);
    assert_eq!(kinds(members(), vec![store(Store::Directory, None, false)]), [of("directory-away", false)]);
}

#[test]
fn a_process_that_does_not_answer_is_a_cause_and_fails_users_only_if_none_is_beside_it() {
    let silent = |name: &str, process: &str| SeenMember {
        member: member(MemberRole::Cell, "eu", Some(name), process),
        said: Err("no answer".to_owned()),
    };
    let told = ("cell-away", "cell eu-1 has not answered for 9 looks, one a second", true);
    assert_eq!(kinds(vec![router(&[told]), silent("eu-1", "a")], Vec::new()), [of("cell-away", true)]);
    let told = ("cell-away", "cell eu-1 (1 of 2 processes) has not answered for 9 looks", false);
    let beside = vec![router(&[told]), silent("eu-1", "a"), cell("eu-1", true, &[])];
    assert_eq!(kinds(beside, Vec::new()), [of("cell-away", false)]);
}

#[test]
fn a_full_disk_explains_a_redis_that_takes_no_writes() {
    let full = [("redis-away", "", false), ("disk-full", "", false), ("shard-closed", "", true)];
    assert_eq!(kinds(vec![cell("eu-1", true, &full)], Vec::new()), [of("disk-full", true)]);
    let ended = SeenStore { no_room: true, ..store(Store::QuotaRedis, Some("eu-1"), false) };
    assert_eq!(kinds(vec![cell("eu-1", true, &full[..1])], vec![ended]), [of("disk-full", false)]);
}

#[test]
fn a_router_that_alone_does_not_reach_a_cell_names_it() {
    let told = ("cell-away", "cell eu-1 does not answer requests; cell eu-2 (1 of 2 processes) is silent", true);
    let seen =
        Seen { members: vec![router(&[told]), cell("eu-1", true, &[])], stores: Vec::new(), directory_in_cell: false };
    let causes = deduce(&seen);
    assert_eq!((causes.len(), causes[0].kind.as_str(), causes[0].failing), (1, "cell-away", true));
    assert_eq!(causes[0].cells.iter().collect::<Vec<_>>(), ["eu-1", "eu-2"]);
}

#[test]
fn two_faults_at_once_are_two_causes() {
    let members = vec![
        router(&[]),
        cell("eu-1", true, &[("redis-away", "", false), ("clock-disputed", "", false)]),
        cell("eu-2", true, &[("policy-faulting", "", true), ("overloaded", "", true)]),
    ];
    let mut said = kinds(members, vec![store(Store::QuotaRedis, Some("eu-1"), false)]);
    said.sort();
    let wanted = [("clock-disputed", false), ("overloaded", true), ("policy-faulting", true), ("redis-away", false)];
    assert_eq!(said, wanted.map(|(kind, failing)| of(kind, failing)));
}

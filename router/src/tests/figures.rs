//! Figures for the docs: printed when asked for, never asserted.

use super::stub;
use cellar_model::{CellName, Epoch, RegionName, UserId};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
}

/// Memory and time of a million exceptions: `cargo test -p cellar-router -- --ignored --nocapture figures`.
#[test]
#[ignore = "prints figures; a million of anything is no unit test"]
fn of_a_million_exceptions() {
    let folder = tempfile::tempdir().unwrap();
    let (eu, home) = (RegionName::new("eu").unwrap(), CellName::new("eu-2").unwrap());
    let users: Vec<UserId> = (0..1_000_000u128).map(|n| UserId::mint(&eu, n << 64 | (n * 7_919))).collect();
    let before = resident_mb();
    let routing = stub::routing(folder.path(), Arc::new(stub::Rows::default()));
    let cells = [("eu-1", "http://127.0.0.1:1".to_owned()), ("eu-2", "http://127.0.0.1:2".to_owned())];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    routing.adopt(stub::topology(&cells)).unwrap();
    let map = routing.map().unwrap();
    let each = |what: &str, count: usize, began: Instant| {
        println!("{what}: {:.0} ns each", began.elapsed().as_secs_f64() * 1e9 / count as f64);
    };
    let began = Instant::now();
    users.iter().for_each(|user| drop(black_box(routing.depart(&map, user))));
    each("route, no exceptions", users.len(), began);
    let began = Instant::now();
    users.iter().for_each(|user| routing.remember(user, &home, Epoch(2)));
    each("remember", users.len(), began);
    println!("memory of {} of them: {} MB", routing.exceptions(), resident_mb() - before);
    let began = Instant::now();
    routing.save();
    println!("written to disk in {:?}; memory then {} MB", began.elapsed(), resident_mb() - before);
    // As many again, so that each takes another's place.
    (0..1_000_000u128).for_each(|n| routing.remember(&UserId::mint(&eu, n << 64 | (n * 31 + 5)), &home, Epoch(2)));
    println!("memory after as many others: {} MB", resident_mb() - before);
    users.iter().for_each(|user| routing.remember(user, &home, Epoch(2)));
    let began = Instant::now();
    users.iter().for_each(|user| drop(black_box(routing.depart(&map, user))));
    each("route, a million exceptions, found", users.len(), began);
    let others: Vec<UserId> = (0..1_000_000u128).map(|n| UserId::mint(&eu, n << 64 | 1)).collect();
    let began = Instant::now();
    others.iter().for_each(|user| drop(black_box(routing.depart(&map, user))));
    each("route, a million exceptions, not among them", others.len(), began);
    drop(others);
    let began = Instant::now();
    let again = stub::routing(folder.path(), Arc::new(stub::Rows::default()));
    println!("read from disk in {:?}", began.elapsed());
    assert_eq!(again.exception(&users[users.len() - 1]), Some((home, Epoch(2))));
}

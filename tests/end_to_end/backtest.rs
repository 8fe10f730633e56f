//! `cellctl policy backtest` on a cell's real ledger, and what it says where nothing can be said.

use crate::support::{T0, World, known, tokens};
use cellar_client::Decision;
use cellar_devstack::Cellctl;
use cellar_model::wire::{ReserveBody, SettleBody};
use cellar_model::{Amount, Cost, Unit, UserId};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Output;

const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;

/// The folder of the built components.
fn policies() -> PathBuf {
    let running = std::env::current_exe().unwrap();
    let mut folders = running.ancestors().map(|folder| folder.join("policies"));
    folders.find(|folder| folder.join("gcra.wasm").is_file()).expect("run `make policies` first")
}

fn tier(limit: u64) -> String {
    format!(
        "name = \"own\"\n[[policy]]\nslot = \"monthly\"\nuse = \"monthly-bucket@1\"\nunit = \"tokens\"\n\
         settings = {{ limit = {limit} }}\n"
    )
}

fn write(cellctl: &Cellctl, name: &str, text: &str) -> String {
    let path = cellctl.folder().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn backtest(cellctl: &Cellctl, arguments: &[&str]) -> Output {
    cellctl.run(&[&["policy", "backtest"][..], arguments].concat()).unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn consume(world: &World, user: &UserId, n: u64, at: u64) -> bool {
    let mut check = tokens(user, n, Some(&format!("{at}")));
    check.body.at_us = Some(at);
    matches!(known(&world.client, &check).await, Decision::Allowed(_))
}

/// One request and `n` tokens, of which `used` are used.
async fn reserve_and_settle(world: &World, user: &UserId, n: u64, used: u64, at: u64) {
    let cost = |n: u64| Some(Cost::of([(Unit::tokens(), Amount::new(n).unwrap())]).unwrap());
    let body = ReserveBody { user_id: Some(user.clone()), cost: cost(n), at_us: Some(at), ..ReserveBody::default() };
    let reserved = world.client.reserve(&body, Some(&format!("r{at}"))).await.unwrap();
    let Decision::Allowed(answer) = reserved else { panic!("{reserved:?}") };
    let charge_id = answer.charge_id.unwrap();
    let body = SettleBody {
        user_id: Some(user.clone()),
        charge_id,
        cost: cost(used),
        at_us: Some(at + SECOND),
        ..SettleBody::default()
    };
    assert!(world.client.settle(&body).await.unwrap().is_allowed());
}

/// Goal: the ledger of a real cell, asked again, is admitted by the tier it was admitted by, and a lower limit denies
/// what is above it: settled reservations by what was used, other tiers' users not at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_cells_ledger_is_asked_again_of_a_candidate() {
    let world = World::cell();
    let cellctl = &world.cellctl;
    world.tier(&tier(1_000)).await;
    let candidate = write(cellctl, "candidate.toml", &tier(100));
    let empty = backtest(cellctl, &["--candidate", &candidate]);
    assert_eq!(empty.status.code(), Some(2));
    assert!(said(&empty).contains("the ledger has no rows"), "{}", said(&empty));

    let (ada, bob) = (world.user("ada@example.org", "own").await, world.user("bob@example.org", "own").await);
    let carla = world.user("carla@example.org", "free").await;
    // Warmed up by 60, so that of three times 30 only one still fits under 100; the last is of the next month.
    assert!(consume(&world, &ada, 60, T0).await);
    for at in [T0 + DAY, T0 + DAY + SECOND, T0 + DAY + 2 * SECOND, T0 + 17 * DAY] {
        assert!(consume(&world, &ada, 30, at).await);
    }
    // What is denied now stands in no ledger.
    assert!(!consume(&world, &ada, 990, T0 + 17 * DAY + SECOND).await);
    reserve_and_settle(&world, &bob, 90, 20, T0 + 17 * DAY).await;
    assert!(consume(&world, &bob, 70, T0 + 17 * DAY + 2 * SECOND).await);
    assert!(consume(&world, &carla, 10, T0 + 17 * DAY).await);
    for user in [&ada, &bob, &carla] {
        world.books(None, user, "tokens").await;
    }

    let page = cellctl.folder().join("page.html");
    let since = ["--since", "17d", "--warm-up", "10d", "--json", "--html", page.to_str().unwrap()];
    let output = backtest(cellctl, &[&["--candidate", &candidate][..], &since].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let found = report(&output);
    let at = |pointer: &str| found.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!((at("/requests"), at("/users")), (6.into(), 2.into()));
    assert_eq!((at("/current/denied"), at("/candidate/denied")), (0.into(), 2.into()), "{found:#}");
    assert_eq!((at("/newly_denied/requests"), at("/newly_denied/amounts/tokens")), (2.into(), 60.into()));
    assert_eq!((at("/current/charged/tokens"), at("/candidate/charged/tokens")), (210.into(), 150.into()));
    assert_eq!(at("/worst_hit/0/newly_denied"), 2);
    assert_eq!(at("/candidate/slots/0/from"), "the catalog");
    let html = std::fs::read_to_string(&page).unwrap();
    for whole in [ada.as_str(), bob.as_str(), "example.org"] {
        assert!(!html.contains(whole) && !found.to_string().contains(whole));
    }

    // The short form, and a limit on what may be newly denied.
    let settings = write(cellctl, "settings.json", r#"{"limit":100}"#);
    let slot = ["--tier", "own", "--slot", "monthly", "--settings", &settings];
    let output = backtest(cellctl, &[&slot[..], &since, &["--newly-denied-max", "10"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(report(&output).pointer("/newly_denied/requests"), Some(&2.into()));

    cellctl.ok(&["stop", "cell"]).unwrap();
    let output = backtest(cellctl, &["--candidate", &candidate]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("no answer from"), "{}", said(&output));
}

/// Goal: a trace needs no Cellar, and one that cannot be read is refused by its line.
#[test]
fn a_trace_is_asked_again_without_a_cellar_and_a_bad_one_is_named() {
    let cellctl = Cellctl::new().unwrap();
    let (current, candidate) = (write(&cellctl, "now.toml", &tier(100)), write(&cellctl, "then.toml", &tier(50)));
    let folder = policies().display().to_string();
    let of = |trace: &str| {
        let trace = write(&cellctl, "trace.csv", trace);
        let sides = ["--current", &current, "--candidate", &candidate, "--policies", &folder];
        backtest(&cellctl, &[&sides[..], &["--trace", &trace, "--json"]].concat())
    };
    let output = of("time,tokens,user\n9,40,ada@example.org\n5,30,ada@example.org\n7,20,bob\n");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let found = report(&output);
    let at = |pointer: &str| found.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!((at("/requests"), at("/newly_denied/requests"), at("/users")), (3.into(), 1.into(), 2.into()));
    // 30 came first: it is the 40 that no longer fits.
    assert_eq!((at("/newly_denied/amounts/tokens"), at("/worst_hit/0/user")), (40.into(), "no. 1".into()));
    assert!(at("/notes").to_string().contains("1 lines came out of order"), "{found:#}");
    for (bad, what) in [("time,tokens\n1,x\n", "line 2"), ("time,tokens\n", "no requests"), ("", "line 1")] {
        let output = of(bad);
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains(what), "{}", said(&output));
    }
}

//! What a backup costs where there is something to copy.

use crate::backups::{LIMIT, Load, agrees, destroy, json, path, run};
use crate::machine;
use crate::support::{T0, World};
use cellar_client::Client;
use cellar_devstack::Cellctl;
use cellar_model::wire::ConsumeBody;
use cellar_model::{Amount, Cost, Unit, UserId};
use futures::{StreamExt, TryStreamExt};
use sqlx::{Connection, PgConnection};
use std::time::{Duration, Instant};

const USERS: usize = 100_000;
/// Charges of each user, so many rows of the ledger.
const ROUNDS: usize = 3;
const BATCH: usize = 1_000;
const AT_ONCE: usize = 4;

/// Users as their enrolment leaves them; signing them up would take minutes.
const FILL: &str = "
    with new as (
        insert into users (user_id, tier_id) select 'many-' || n, 'big' from generate_series(1, $1::bigint) n
        returning user_id
    )
    insert into ownership (user_id, state, epoch, home) select user_id, 'OWNED', 1, 'local-1' from new";
const FILL_DIRECTORY: &str = "
    insert into user_home (user_id, placement_key, home, epoch, state)
    select 'many-' || n, 'many-' || n, 'local-1', 1, 'ACTIVE' from generate_series(1, $1::bigint) n";

async fn fill(world: &World) {
    let url = machine::process(&world.cellctl, "postgres").url;
    let directory = format!("{}/directory", url.strip_suffix("/cell").unwrap());
    for (url, fill) in [(&url, FILL), (&directory, FILL_DIRECTORY)] {
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::query(fill).bind(i64::try_from(USERS).unwrap()).execute(&mut connection).await.unwrap();
    }
}

/// One charge of each of these users.
async fn charge_all(client: &Client, users: usize) {
    let cost = Cost::of([(Unit::requests(), Amount::new(0).unwrap()), (Unit::tokens(), Amount::new(1).unwrap())]);
    let check = |n: usize| ConsumeBody {
        user_id: Some(UserId::new(&format!("many-{n}")).unwrap()),
        cost: Some(cost.clone().unwrap()),
        at_us: Some(T0),
        ..ConsumeBody::default()
    };
    let batches = (0..users / BATCH).map(|batch| (1..=BATCH).map(|n| check(batch * BATCH + n)).collect::<Vec<_>>());
    let asked = batches.map(|checks| client.consume_batch(checks));
    let answers: Vec<_> = futures::stream::iter(asked).buffer_unordered(AT_ONCE).try_collect().await.unwrap();
    assert_eq!(answers.iter().map(Vec::len).sum::<usize>(), users);
}

async fn postgres_mib(world: &World) -> i64 {
    let url = machine::process(&world.cellctl, "postgres").url;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let sum = "select (sum(pg_database_size(oid)) / 1048576)::bigint from pg_database";
    sqlx::query_scalar(sum).fetch_one(&mut connection).await.unwrap()
}

/// A backup, in words: its seconds, and how the folder has grown.
fn backed_up(cellctl: &Cellctl, words: &[&str], what: &str, before: u64) -> u64 {
    let began = Instant::now();
    let taken = json(cellctl, &[&["cell", "backup"], words, &["--json"]].concat());
    let (seconds, bytes) = (began.elapsed().as_secs_f64(), taken["bytes"].as_u64().unwrap());
    println!("{what}: {seconds:.1} s, {:.1} MiB more", (bytes as i64 - before as i64) as f64 / 1_048_576.0);
    bytes
}

/// Goal: a cell of 100,000 users and 300,000 rows of ledger is backed up, also while it is charged, and restored
/// with every charge from before; what that costs is printed.
#[tokio::test(flavor = "multi_thread")]
async fn a_larger_cell_is_backed_up_under_load_and_restored_whole() {
    if std::env::var_os("CELLAR_TEST_FULL").is_none() {
        return;
    }
    let world = World::cell();
    world.bucket_tier("big", LIMIT).await;
    fill(&world).await;
    for _ in 0..ROUNDS {
        charge_all(&world.client, USERS).await;
    }
    // The first in order, whose books are on the first page.
    let users: Vec<UserId> = (0..5).map(|n| UserId::new(&format!("many-{}", 10_u32.pow(n))).unwrap()).collect();
    world.books(None, &users[0], "tokens").await;
    println!("{USERS} users, {} rows of ledger: Postgres {} MiB", USERS * ROUNDS, postgres_mib(&world).await);
    let folder = tempfile::tempdir().unwrap();
    let (_, dir) = path(folder.path(), "backup");
    let bytes = backed_up(&world.cellctl, &[&dir], "the first backup", 0);
    let bytes = backed_up(&world.cellctl, &[&dir], "the next one", bytes);
    charge_all(&world.client, USERS / 10).await;
    let bytes = backed_up(&world.cellctl, &[&dir], "one after 10,000 charges more", bytes);

    let load = Load::begin(&world.client, &users);
    let rate = async |seconds: u64| {
        let (before, began) = (load.told().len(), Instant::now());
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        (load.told().len() - before) as f64 / began.elapsed().as_secs_f64()
    };
    println!("10 clients: {:.0} charges/s", rate(5).await);
    let (before, began) = (load.told(), Instant::now());
    let full = backed_up(&world.cellctl, &[&dir, "--full"], "a full one under that load", bytes);
    let meanwhile = (load.told().len() - before.len()) as f64 / began.elapsed().as_secs_f64();
    println!("  {meanwhile:.0} charges/s meanwhile; {:.1} MiB in all", full as f64 / 1_048_576.0);
    run(&world.cellctl, &["cell", "backup", "verify", &dir]);
    load.end().await;
    destroy(&world.cellctl, None).await;

    let (list, check) = path(folder.path(), "acknowledged");
    std::fs::write(&list, before.iter().map(|charge| charge.line() + "\n").collect::<String>()).unwrap();
    let other = Cellctl::new().unwrap();
    let began = Instant::now();
    let restored = json(&other, &["cell", "restore", &dir, "--yes", "--json", "--check", &check]);
    println!("a restore, audits included: {:.1} s", began.elapsed().as_secs_f64());
    agrees(&restored);
    assert_eq!(restored["lost"]["gone"], serde_json::json!([]));
    assert_eq!(restored["lost"]["in_doubt"], serde_json::json!([]));
    assert!(restored["audit"]["users"].as_u64() >= Some(USERS as u64), "{}", restored["audit"]["users"]);
    let again = World::of(other);
    for user in &users {
        let (ledger, record, copy) = again.books(None, user, "tokens").await;
        assert!(ledger > ROUNDS as u64 && ledger == record && record == copy, "{user:?}");
    }
}

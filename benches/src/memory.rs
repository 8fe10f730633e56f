//! What users weigh: in the cell's process, in Redis, in Postgres.
//!
//! Each is charged once, then once more under an idempotency key of his own; sizes are read before,
//! between and after, when everything is drained.

use crate::connection::Connection;
use crate::kind::{Kind, Tally};
use crate::stores::{RedisSize, Stores, Table};
use crate::target::Target;
use anyhow::{Result, ensure};
use futures::future::try_join_all;
use std::time::{Duration, Instant};

/// Checks of a request, and requests in flight: what a cell takes without refusing any.
const CHECKS: usize = 100;
const CONNECTIONS: usize = 8;
/// A full queue passes; a batch refused so often does not.
const TRIES: usize = 20;
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// Fence keys and streams never expire: two a shard of four.
const LASTING_KEYS: i64 = 8;
const DRAINED_MAX: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_secs(1);

struct Sizes {
    cell_bytes: i64,
    redis: RedisSize,
    tables: Vec<Table>,
    wal_bytes: i64,
}

pub(crate) async fn measure(target: Target, count: usize) -> Result<()> {
    let mut stores = Stores::of(&target).await?;
    let began = Instant::now();
    let users = stores.fill(count).await?;
    println!("{count} users written by SQL in {:.0} s", began.elapsed().as_secs_f64());

    let empty = sizes(&target, &mut stores).await?;
    charge(&target, &users, None).await?;
    let touched = sizes(&target, &mut stores).await?;
    charge(&target, &users, Some("memory")).await?;
    let keyed = sizes(&target, &mut stores).await?;
    print(count as f64, &[empty, touched, keyed]);
    Ok(())
}

/// Charges every user once; with a `key`, under one of his own.
async fn charge(target: &Target, users: &[String], key: Option<&str>) -> Result<()> {
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let began = Instant::now();
    let senders = (0..CONNECTIONS).map(|n| {
        let batches = users.chunks(CHECKS).enumerate().skip(n).step_by(CONNECTIONS);
        async move {
            let mut connection = Connection::open(&target.address).await?;
            let mut repeated = 0;
            for (place, batch) in batches {
                repeated +=
                    charge_batch(&mut connection, target, batch, key.map(|key| format!("{key}-{place}"))).await?;
            }
            anyhow::Ok(repeated)
        }
    });
    let repeated: usize = try_join_all(senders).await?.into_iter().sum();
    let took_s = began.elapsed().as_secs_f64();
    let rate = users.len() as f64 / took_s;
    let how = if key.is_some() { "once more, with a key each" } else { "once" };
    println!("charged {how}: {took_s:.0} s, {rate:.0} checks/s, {repeated} batches repeated");
    Ok(())
}

/// Returns how often it had to be repeated: without a key, some of its users then have been charged
/// again, which is a row more in the ledger and counted there.
async fn charge_batch(
    connection: &mut Connection,
    target: &Target,
    users: &[&str],
    key: Option<String>,
) -> Result<usize> {
    let kind = Kind::Batch(users.len());
    let mut tally = Tally::default();
    for tries in 0..TRIES {
        let mut question = kind.question(users, 0, "");
        question.header = key.clone().map(|key| ("idempotency-key", key));
        tally = kind.tally(users, 0, &connection.send(&target.key, question).await?);
        if tally.failed == 0 {
            ensure!(tally.denied == 0, "a user of the run's tier was denied");
            return Ok(tries);
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
    anyhow::bail!("{} of {} checks got no verdict", tally.failed, tally.checks)
}

/// Once everything charged is in Postgres: a record of Redis gets its expiry then, and not before.
async fn sizes(target: &Target, stores: &mut Stores) -> Result<Sizes> {
    let until = Instant::now() + DRAINED_MAX;
    let redis = loop {
        let redis = stores.redis().await?;
        if redis.keys - redis.expiring <= LASTING_KEYS {
            break redis;
        }
        ensure!(Instant::now() < until, "{} records have no expiry yet", redis.keys - redis.expiring);
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let (tables, wal_bytes) = (stores.tables().await?, stores.wal_bytes().await?);
    Ok(Sizes { cell_bytes: target.process("cell")?.resident_bytes()?, redis, tables, wal_bytes })
}

fn print(users: f64, at: &[Sizes; 3]) {
    println!(
        "\n{:<28} {:>14} {:>14} {:>14} {:>12} {:>12}",
        "bytes, unless it says rows", "before", "charged once", "with a key", "1st a user", "2nd a user"
    );
    line(users, "cell, resident", at, |sizes| sizes.cell_bytes);
    line(users, "Redis, used_memory", at, |sizes| sizes.redis.used_bytes);
    line(users, "Redis, resident", at, |sizes| sizes.redis.resident_bytes);
    line(users, "Redis, keys (rows)", at, |sizes| sizes.redis.keys);
    line(users, "Redis, append-only file", at, |sizes| sizes.redis.file_bytes);
    for (n, table) in at[0].tables.iter().enumerate() {
        line(users, &format!("{} (rows)", table.name), at, |sizes| sizes.tables[n].rows);
        line(users, &format!("{}, heap", table.name), at, |sizes| sizes.tables[n].heap_bytes);
        line(users, &format!("{}, indexes", table.name), at, |sizes| sizes.tables[n].index_bytes);
    }
    line(users, "Postgres, written ahead", at, |sizes| sizes.wal_bytes);
}

fn line(users: f64, name: &str, at: &[Sizes; 3], of: impl Fn(&Sizes) -> i64) {
    let [before, once, keyed] = [of(&at[0]), of(&at[1]), of(&at[2])];
    let each = |more: i64| more as f64 / users;
    println!(
        "{name:<28} {before:>14} {once:>14} {keyed:>14} {:>12.1} {:>12.1}",
        each(once - before),
        each(keyed - once)
    );
}

//! The quota Redis answers and does not do what it is asked.

use super::row::is_full;
use super::trial::Trial;
use crate::machine;
use tokio::time::Instant;

/// Of each kind of refusal, before it is taken away again.
const REFUSALS: usize = 40;
/// Answers to each user without Redis: some seconds, in each of which a return could be tried.
const DEGRADED: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_forgets_the_scripts_under_load_is_told_them_again() {
    if !is_full() {
        return;
    }
    let mut trial = Trial::on_a_cell("Redis's scripts flushed (SCRIPT FLUSH)").await;
    trial.refusals_wrote_nothing();
    assert_eq!(machine::redis(&trial.world.cellctl, "SCRIPT FLUSH"), "+OK");
    trial.failed();
    trial.served_as_ever().await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_redis_refuses_under_load_is_not_written() {
    if !is_full() {
        return;
    }
    let mut trial = Trial::on_a_cell("Redis full, then given room again").await;
    trial.refusals_wrote_nothing();
    assert_eq!(machine::redis(&trial.world.cellctl, "CONFIG SET maxmemory 1mb"), "+OK");
    let since = trial.failed();
    trial.load.failed(since, "503 out-of-memory", REFUSALS).await;
    assert_eq!(machine::redis(&trial.world.cellctl, "CONFIG SET maxmemory 0"), "+OK");
    trial.served_as_ever().await;
    trial.end().await;
}

/// Goal: a Redis that answers and takes no write is not gone back to until it does: each turn closes its shard.
/// Method: it is told to write only beside a replica, which it has not; to the cell that is as a full disk.
/// Once Postgres serves all, nothing fails any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_takes_no_writes_is_not_gone_back_to_until_it_does() {
    if !is_full() {
        return;
    }
    let mut trial = Trial::on_a_cell("Redis takes no writes (as with a full disk), until Postgres has served").await;
    assert_eq!(machine::redis(&trial.world.cellctl, "CONFIG SET min-replicas-to-write 1"), "+OK");
    let since = trial.failed();
    trial.load.served_by(since, Some("postgres")).await;
    let served = Instant::now();
    trial.load.answers(served, DEGRADED).await;
    let failed = trial.load.log().iter().filter(|sent| sent.asked > served && !sent.answer.is_good()).count();
    assert_eq!(failed, 0, "Postgres does not serve undisturbed");
    assert_eq!(machine::redis(&trial.world.cellctl, "CONFIG SET min-replicas-to-write 0"), "+OK");
    trial.served_as_ever().await;
    trial.end().await;
}

/// Goal: a Redis that has become a replica takes no commit, and is gone back to once it is none.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_read_only_redis_refuses_under_load_is_not_written() {
    if !is_full() {
        return;
    }
    let mut trial = Trial::on_a_cell("Redis read-only (replica of a dead address), then a master again").await;
    trial.refusals_wrote_nothing();
    // Nobody listens at port 1, so it keeps what it has.
    assert_eq!(machine::redis(&trial.world.cellctl, "REPLICAOF 127.0.0.1 1"), "+OK");
    let since = trial.failed();
    trial.load.failed(since, "503 shard-closed", REFUSALS).await;
    assert_eq!(machine::redis(&trial.world.cellctl, "REPLICAOF NO ONE"), "+OK");
    trial.served_as_ever().await;
    trial.end().await;
}

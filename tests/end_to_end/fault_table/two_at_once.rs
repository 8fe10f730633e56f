//! Two of the three who remember a charge fail at once: Redis, Postgres, and the process that decided.

use super::row::is_full;
use super::trial::Trial;
use crate::machine;
use tokio::time::Instant;

/// Good answers to each user of which one store hears nothing.
const UNDRAINED: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn both_stores_killed_under_load_and_restarted_lose_nothing() {
    if !is_full() {
        return;
    }
    let mut trial = Trial::on_a_cell("Redis and Postgres killed, both restarted").await;
    let cellctl = &trial.world.cellctl;
    tokio::join!(machine::kill9(cellctl, "redis-quota"), machine::kill9(cellctl, "postgres"));
    trial.failed();
    // Postgres first: the cell meets a time without Redis as well.
    machine::restart(&trial.world.cellctl, "postgres");
    machine::restart(&trial.world.cellctl, "redis-quota");
    trial.served_as_ever().await;
    trial.end().await;
}

/// Goal: what the process alone remembers is not lost.
/// Method: Postgres dies, so that nothing is drained; after a while Redis is emptied.
#[tokio::test(flavor = "multi_thread")]
async fn redis_emptied_while_postgres_is_dead_loses_nothing_that_the_process_holds() {
    if !is_full() {
        return;
    }
    let mut trial = Trial::on_a_cell("Redis flushed while Postgres is dead, Postgres restarted").await;
    machine::kill9(&trial.world.cellctl, "postgres").await;
    trial.load.answers(Instant::now(), UNDRAINED).await;
    assert_eq!(machine::redis(&trial.world.cellctl, "FLUSHALL"), "+OK");
    trial.failed();
    machine::restart(&trial.world.cellctl, "postgres");
    trial.served_as_ever().await;
    trial.end().await;
}

/// Goal: what Redis alone remembers is not lost.
/// Method: Postgres dies, so that nothing is drained; after a while the cell's process is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_cell_killed_while_postgres_is_dead_loses_nothing_that_redis_holds() {
    if !is_full() {
        return;
    }
    let mut trial = Trial::on_a_cell("the cell's process killed while Postgres is dead, both restarted").await;
    machine::kill9(&trial.world.cellctl, "postgres").await;
    trial.load.answers(Instant::now(), UNDRAINED).await;
    machine::kill9(&trial.world.cellctl, "cell").await;
    trial.failed();
    machine::restart(&trial.world.cellctl, "postgres");
    machine::restart(&trial.world.cellctl, "cell");
    trial.served_as_ever().await;
    trial.end().await;
}

/// Goal: what was charged while Postgres took the commits is known to a cell that starts beside a Redis which
/// never heard of it.
/// Method: Redis dies, Postgres serves for a while, the cell is killed; Redis returns with what it had.
#[tokio::test(flavor = "multi_thread")]
async fn a_cell_killed_while_redis_is_dead_does_not_believe_what_redis_returns_with() {
    if !is_full() {
        return;
    }
    let mut trial = Trial::on_a_cell("the cell's process killed while Redis is dead, both restarted").await;
    machine::kill9(&trial.world.cellctl, "redis-quota").await;
    trial.load.served_by(Instant::now(), Some("postgres")).await;
    trial.load.answers(Instant::now(), UNDRAINED).await;
    machine::kill9(&trial.world.cellctl, "cell").await;
    trial.failed();
    machine::restart(&trial.world.cellctl, "redis-quota");
    machine::restart(&trial.world.cellctl, "cell");
    trial.served_as_ever().await;
    trial.end().await;
}

//! Both stores of a cell die.

use super::machine;
use super::row::is_full;
use super::trial::Trial;

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

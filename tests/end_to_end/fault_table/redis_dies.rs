//! The quota Redis dies, or stands still.

use super::row::is_full;
use super::trial::Trial;
use crate::machine::{self, Paused};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_under_load_and_restarted_loses_nothing() {
    let mut trial = Trial::on_a_cell("Redis killed, restarted at once").await;
    machine::kill9(&trial.world.cellctl, "redis-quota").await;
    trial.failed();
    machine::restart(&trial.world.cellctl, "redis-quota");
    trial.served_as_ever().await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_under_load_and_restarted_later_is_gone_back_to() {
    if !is_full() {
        return;
    }
    let mut trial = Trial::on_a_cell("Redis killed, restarted once Postgres serves all").await;
    machine::kill9(&trial.world.cellctl, "redis-quota").await;
    let since = trial.failed();
    trial.load.served_by(since, Some("postgres")).await;
    machine::restart(&trial.world.cellctl, "redis-quota");
    trial.served_as_ever().await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_paused_under_load_loses_nothing_and_charges_nothing_twice() {
    if !is_full() {
        return;
    }
    let mut trial = Trial::on_a_cell("Redis paused for 10 s").await;
    let paused = Paused::new(&trial.world.cellctl, "redis-quota");
    trial.failed();
    tokio::time::sleep(Duration::from_secs(10)).await;
    drop(paused);
    trial.served_as_ever().await;
    trial.end().await;
}

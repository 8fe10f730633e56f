//! The cell's Postgres dies, or stands still.

use super::load::Sent;
use super::row::is_full;
use super::trial::{SENDERS, Trial};
use crate::machine::{self, Paused};
use std::time::Duration;

/// Users whom nobody has asked for before: their records are in Postgres alone.
const STRANGERS: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn postgres_killed_under_load_and_restarted_loses_nothing() {
    let mut trial = Trial::on_a_cell("Postgres killed, restarted at once").await;
    machine::kill9(&trial.world.cellctl, "postgres").await;
    trial.failed();
    machine::restart(&trial.world.cellctl, "postgres");
    trial.served_as_ever().await;
    trial.end().await;
}

/// Goal: while Postgres is dead, whose records are at hand is served as ever, whoever else asks.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_killed_under_load_for_a_while_holds_up_nobody_at_hand() {
    if !is_full() {
        return;
    }
    let mut trial = Trial::on_a_cell("Postgres killed, restarted after 10 s, strangers asking").await;
    let strangers = trial.strangers(STRANGERS).await;
    machine::kill9(&trial.world.cellctl, "postgres").await;
    trial.failed();
    trial.beside("strangers", &strangers, 8);
    tokio::time::sleep(Duration::from_secs(10)).await;
    machine::restart(&trial.world.cellctl, "postgres");
    trial.served_as_ever().await;
    hardly_anybody_failed(&trial.end().await[0]);
}

/// Goal: while Postgres stands still, whose records are at hand is served as ever, whoever else asks.
/// Method: beside the load, strangers are asked for, whose records nobody can fetch.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_paused_under_load_loses_nothing_and_holds_up_nobody_at_hand() {
    if !is_full() {
        return;
    }
    let mut trial = Trial::on_a_cell("Postgres paused for 10 s, strangers asking").await;
    let strangers = trial.strangers(STRANGERS).await;
    let paused = Paused::new(&trial.world.cellctl, "postgres");
    trial.failed();
    trial.beside("strangers", &strangers, 8);
    tokio::time::sleep(Duration::from_secs(10)).await;
    drop(paused);
    trial.served_as_ever().await;
    hardly_anybody_failed(&trial.end().await[0]);
}

/// Until the silence is noticed a sender may wait behind a stranger, once.
fn hardly_anybody_failed(log: &[Sent]) {
    let failed = log.iter().filter(|sent| !sent.answer.is_good()).count();
    assert!(failed <= SENDERS, "{failed} checks of users at hand failed");
}

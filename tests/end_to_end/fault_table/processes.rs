//! One of a cell's two processes dies, or stands still and is let go.

use super::row::is_full;
use super::trial::Trial;
use crate::machine::{self, Paused};
use std::time::Duration;

const UP: [&str; 9] = ["up", "--regions", "1", "--cells", "1", "--instances", "2", "--clock", "virtual"];

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_processes_killed_under_load_loses_nothing() {
    if !is_full() {
        return;
    }
    let mut trial = Trial::on_a_world("one of a cell's two processes killed, restarted", &UP, |_| true).await;
    machine::kill9(&trial.world.cellctl, "eu-1-1").await;
    let since = trial.failed();
    trial.load.served(since).await;
    machine::restart(&trial.world.cellctl, "eu-1-1");
    trial.served_as_ever().await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_processes_paused_and_let_go_under_load_loses_nothing() {
    if !is_full() {
        return;
    }
    let mut trial =
        Trial::on_a_world("one of a cell's two processes paused for 30 s, then let go", &UP, |_| true).await;
    let paused = Paused::new(&trial.world.cellctl, "eu-1-1");
    let since = trial.failed();
    tokio::time::sleep(Duration::from_secs(30)).await;
    trial.load.served(since).await;
    drop(paused);
    trial.served_as_ever().await;
    trial.end().await;
}

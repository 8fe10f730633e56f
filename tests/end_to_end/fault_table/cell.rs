//! The cell's own process dies, or stands still.

use super::row::is_full;
use super::trial::{SENDERS, Trial};
use crate::machine::{self, Paused};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_killed_under_load_and_restarted_loses_nothing() {
    let mut trial = Trial::on_a_cell("the cell's process killed, restarted").await;
    machine::kill9(&trial.world.cellctl, "cell").await;
    trial.failed();
    machine::restart(&trial.world.cellctl, "cell");
    trial.served_as_ever().await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_paused_under_load_loses_nothing() {
    if !is_full() {
        return;
    }
    let mut trial = Trial::on_a_cell("the cell's process paused for 10 s").await;
    let paused = Paused::new(&trial.world.cellctl, "cell");
    trial.failed();
    tokio::time::sleep(Duration::from_secs(10)).await;
    drop(paused);
    trial.served_as_ever().await;
    trial.end().await;
}

/// Goal: a cell that is down costs its own users only.
/// Method: two cells behind one router, each with its own senders; one is killed and stays down until the
/// others have been served for a while.
#[tokio::test(flavor = "multi_thread")]
async fn beside_a_cell_that_is_down_the_other_cells_users_see_nothing() {
    let of_dead = |cell: &str| cell == "eu-1";
    let up = ["up", "--regions", "1", "--cells", "2", "--clock", "virtual"];
    let mut trial = Trial::on_a_world("one cell of two killed, restarted (the row is its users')", &up, of_dead).await;
    let others = trial.others(of_dead);
    trial.beside("others", &others, SENDERS).answers(Instant::now(), 20).await;
    machine::kill9(&trial.world.cellctl, "eu-1-0").await;
    let since = trial.failed();
    trial.beside[0].answers(since, 40).await;
    machine::restart(&trial.world.cellctl, "eu-1-0");
    trial.served_as_ever().await;
    let logs = trial.end().await;
    let failed = logs[1].iter().filter(|sent| !sent.answer.is_good()).count();
    assert_eq!(failed, 0, "users of the other cell saw something");
}

//! The quota Redis runs and holds something else than it was left with.

use super::row::is_full;
use super::trial::Trial;
use crate::machine::{self, RedisFiles};
use tokio::time::Instant;

/// In the middle of a command: no batch is as short.
const TORN_BYTES: u64 = 10_007;

#[tokio::test(flavor = "multi_thread")]
async fn redis_flushed_under_load_forgets_nothing() {
    let mut trial = Trial::on_a_cell("Redis flushed (FLUSHALL)").await;
    assert_eq!(machine::redis(&trial.world.cellctl, "FLUSHALL"), "+OK");
    trial.failed();
    trial.served_as_ever().await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_emptied_under_load_forgets_nothing() {
    if !is_full() {
        return;
    }
    let mut trial = Trial::on_a_cell("Redis killed, its files deleted, restarted").await;
    machine::kill9(&trial.world.cellctl, "redis-quota").await;
    trial.failed();
    RedisFiles::of(&trial.world.cellctl).delete();
    machine::restart(&trial.world.cellctl, "redis-quota");
    trial.served_as_ever().await;
    trial.end().await;
}

/// Goal: a Redis that comes back as it was a while ago is not believed: what was admitted since is neither
/// forgotten nor admitted again.
/// Method: its files are copied under load, and put back after more has been admitted under the same fence.
#[tokio::test(flavor = "multi_thread")]
async fn redis_replaced_under_load_by_an_older_copy_of_its_files_is_not_believed() {
    let mut trial = Trial::on_a_cell("Redis killed, an older copy of its files put back, restarted").await;
    let files = RedisFiles::of(&trial.world.cellctl);
    files.copy();
    trial.load.answers(Instant::now(), 20).await;
    machine::kill9(&trial.world.cellctl, "redis-quota").await;
    trial.failed();
    files.put_back();
    machine::restart(&trial.world.cellctl, "redis-quota");
    trial.served_as_ever().await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_under_load_with_its_file_torn_loses_nothing() {
    if !is_full() {
        return;
    }
    let mut trial = Trial::on_a_cell("Redis killed, the end of its file cut off, restarted").await;
    machine::kill9(&trial.world.cellctl, "redis-quota").await;
    trial.failed();
    RedisFiles::of(&trial.world.cellctl).tear(TORN_BYTES);
    machine::restart(&trial.world.cellctl, "redis-quota");
    trial.served_as_ever().await;
    trial.end().await;
}

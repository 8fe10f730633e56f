//! A router dies beside another.

use super::row::is_full;
use super::trial::Trial;
use crate::machine;

/// Goal: callers who know two routers go on when one is killed.
/// Method: the second is another region's; the users live in both.
#[tokio::test(flavor = "multi_thread")]
async fn beside_a_router_killed_under_load_another_regions_serves_the_same_users() {
    if !is_full() {
        return;
    }
    let up = ["up", "--regions", "2", "--cells", "1", "--clock", "virtual"];
    let mut trial = Trial::on_a_world("a router killed beside another region's", &up, |_| true).await;
    let first = machine::listening_at(&trial.world.cellctl, &trial.world.urls[0]);
    machine::kill9(&trial.world.cellctl, &first).await;
    let since = trial.failed();
    trial.load.served(since).await;
    trial.end().await;
}

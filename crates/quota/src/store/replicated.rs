//! Whether a replica has what a shard has committed.
//!
//! `WAIT` blocks its connection and speaks of that connection's own last write. So it has a connection of
//! its own, which first writes a number behind every commit that was answered before it: what a replica
//! has of the stream of writes up to there, it has of all those commits. One question serves them all.

use super::redis::{RedisStore, open, run_id};
use crate::error::{QuotaError, StoreError};
use crate::shard::ShardId;
use redis::aio::MultiplexedConnection;
use std::time::Duration;

/// For the answers beside `WAIT`, which has its own bound.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);

pub(crate) struct ReplicaQuestion {
    connection: MultiplexedConnection,
    shard: ShardId,
    wait: Duration,
    /// Of the questions so far: what the next one writes.
    asked: u64,
}

impl ReplicaQuestion {
    /// Connects to the very server, in the very life, that `store` commits to: a replica of another one
    /// proves nothing.
    pub(crate) async fn connect(store: &RedisStore, wait: Duration) -> Result<Self, QuotaError> {
        let mut connection = open(&store.url, wait + ANSWER_MARGIN).await?;
        let answers = run_id(&mut connection).await?;
        if answers != store.run_id {
            let cause = "another server answers, or the same in another life".to_owned();
            return Err(StoreError::Refused { store: "redis", call: "WAIT", cause }.into());
        }
        Ok(Self { connection, shard: store.shard, wait, asked: 0 })
    }

    /// Whether a replica has every commit that was answered before this call, within the wait.
    pub(crate) async fn ask(&mut self) -> Result<bool, StoreError> {
        self.asked += 1;
        let failed = |error| StoreError::redis("WAIT", &error);
        let name = format!("ack:{{{}}}", self.shard);
        let mut asked = redis::pipe();
        // A write that was refused leaves `WAIT` at an older one: it fails the whole question.
        asked.cmd("SET").arg(name).arg(self.asked);
        asked.cmd("WAIT").arg(1).arg(self.wait.as_millis() as u64);
        let (written, replicas): (String, u64) = asked.query_async(&mut self.connection).await.map_err(failed)?;
        Ok(written == "OK" && replicas > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::FenceKey;
    use cellar_devstack::Redis;
    use cellar_model::Fence;
    use redis::AsyncCommands;

    /// How long is waited for what does not come.
    const WAIT: Duration = Duration::from_millis(300);

    /// For what does come, and is answered as soon as it is there: a busy machine may take long.
    const PATIENT: Duration = Duration::from_secs(20);

    async fn store(server: &Redis) -> RedisStore {
        RedisStore::connect(&server.url(), ShardId(1), Duration::from_secs(2), false).await.ok().unwrap()
    }

    #[tokio::test]
    async fn without_a_replica_nothing_is_replicated() {
        let server = Redis::start_quota().await.unwrap();
        let mut question = ReplicaQuestion::connect(&store(&server).await, WAIT).await.ok().unwrap();
        assert!(!question.ask().await.unwrap());
    }

    #[tokio::test]
    async fn what_a_replica_has_is_replicated_until_the_replica_dies() {
        let server = Redis::start_quota().await.unwrap();
        let replica = Redis::start_replica(&server).await.unwrap();
        let mut store = store(&server).await;
        let mut question = ReplicaQuestion::connect(&store, PATIENT).await.ok().unwrap();
        let key = FenceKey { fence: Fence(7), text: "7:a".into() };
        store.fence(&key).await.unwrap();
        assert!(question.ask().await.unwrap());
        let client = redis::Client::open(replica.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let held: String = connection.get("fence:{1}").await.unwrap();
        assert_eq!(held, "7:a");
        replica.kill9().await;
        let mut question = ReplicaQuestion::connect(&store, WAIT).await.ok().unwrap();
        assert!(!question.ask().await.unwrap());
    }

    /// A server that was restarted, or made a replica, is not asked on behalf of the one before.
    #[tokio::test]
    async fn another_life_of_the_server_is_refused() {
        let mut server = Redis::start_quota().await.unwrap();
        let store = store(&server).await;
        server.restart().await.unwrap();
        assert!(ReplicaQuestion::connect(&store, WAIT).await.is_err());
    }
}

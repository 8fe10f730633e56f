//! The clocks of Redis and Postgres, asked whether this machine's wall clock is to be believed.

use crate::clock::{Clock, boot_clock, micros};
use crate::noticed::Noticed;
use crate::shard::ShardId;
use crate::store::postgres::WALL_CLOCK;
use crate::store::redis::RedisStore;
use crate::store::servers::Servers;
use prometheus_client::metrics::gauge::Gauge;
use sqlx::PgPool;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// For so long at most does policy time follow a clock that two others contradict, or a right one not.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A later answer says too little about when it was given: half of it is the most the answer can be wrong by.
const ANSWER_MAX: Duration = Duration::from_millis(250);

pub(crate) struct Witnesses {
    clock: Clock,
    servers: Arc<Servers>,
    redis: Option<RedisStore>,
    pool: PgPool,
    /// 1 while this machine's clock is not believed.
    disputed: Gauge,
    noticed: Noticed,
    believed: bool,
}

impl Witnesses {
    pub(crate) fn new(clock: Clock, servers: Arc<Servers>, pool: PgPool, disputed: Gauge, noticed: Noticed) -> Self {
        Self { clock, servers, redis: None, pool, disputed, noticed, believed: true }
    }

    /// Judges the wall clock again and again, beside the serving of checks, until told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            self.look().await;
        }
    }

    /// A witness that is away or slow says nothing.
    pub(crate) async fn look(&mut self) {
        let redis = self.redis.take();
        let (servers, pool) = (self.servers.clone(), self.pool.clone());
        let redis = asked(async move {
            let mut redis = match redis {
                Some(redis) => redis,
                None => servers.connect(ShardId(0), ANSWER_MAX, true).await.ok()?,
            };
            let time = redis.time().await.ok()?;
            Some((redis, time))
        });
        let postgres =
            asked(async move { Some(((), sqlx::query_scalar::<_, i64>(WALL_CLOCK).fetch_one(&pool).await.ok()?)) });
        let (redis, postgres) = tokio::join!(redis, postgres);
        let (connection, redis) = redis.unzip();
        self.redis = connection;
        self.noticed.looked(redis.is_some(), postgres.is_some());
        let believed = self.clock.judge(redis, postgres.map(|(_, distance)| distance));
        if believed != self.believed {
            match believed {
                true => tracing::info!("the wall clock is believed again"),
                false => tracing::warn!(
                    "the wall clock has stepped, and neither Redis's nor Postgres's agrees with it: policy time goes on without it"
                ),
            }
        }
        self.believed = believed;
        self.disputed.set(i64::from(!believed));
    }
}

/// What was asked beside the time, and the distance of that time from the boot-time clock at the middle between
/// question and answer.
async fn asked<T>(question: impl Future<Output = Option<(T, i64)>>) -> Option<(T, i64)> {
    let before = boot_clock();
    let (with, time) = tokio::time::timeout(ANSWER_MAX, question).await.ok()??;
    Some((with, time - micros((before + boot_clock()) / 2)))
}

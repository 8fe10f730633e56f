//! The cache Redis. Losing it costs latency: every failure here is a miss.

use cellar_trace::store;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A cache slower than this is slower than Postgres.
const ANSWER_MAX: Duration = Duration::from_millis(100);
const CONNECT_MAX: Duration = Duration::from_millis(200);
/// While it is away, one request in this time tries it again; the others go on without.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// An hour, give or take a tenth, so that what was filled together does not expire together.
const TTL_S: u64 = 3_600;

/// A hash to be written: its key, its fields, the seconds it may live at most.
pub(super) type Filled<const N: usize> = (String, [(&'static str, String); N], u64);

pub(super) struct Cache {
    client: redis::Client,
    /// This process's keys begin with it: what an earlier life wrote, whose generations are
    /// forgotten, is never read.
    life: String,
    held: Mutex<Held>,
}

struct Held {
    connection: Option<MultiplexedConnection>,
    retry_at: Instant,
}

impl Cache {
    pub(super) fn new(client: redis::Client) -> Self {
        let held = Held { connection: None, retry_at: Instant::now() };
        Self { client, life: format!("{:08x}", rand::random::<u32>()), held: Mutex::new(held) }
    }

    pub(super) fn key(&self, kind: &str, id: &str) -> String {
        format!("{kind}:{}:{id}", self.life)
    }

    /// The named fields of a hash: none if any of them is missing.
    pub(super) async fn read<const N: usize>(&self, key: &str, fields: [&str; N]) -> Option<[String; N]> {
        self.read_all(&[key], fields).await.pop().flatten()
    }

    /// The same of each hash, in order and in one round trip.
    pub(super) async fn read_all<const N: usize>(
        &self,
        keys: &[impl AsRef<str>],
        fields: [&str; N],
    ) -> Vec<Option<[String; N]>> {
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline.cmd("HMGET").arg(key.as_ref()).arg(&fields[..]);
        }
        let hashes: Option<Vec<Vec<Option<String>>>> = self.query(&pipeline).await;
        let hashes = hashes.filter(|hashes| hashes.len() == keys.len());
        let whole = |hash: Vec<Option<String>>| hash.into_iter().collect::<Option<Vec<_>>>()?.try_into().ok();
        hashes.map_or_else(|| keys.iter().map(|_| None).collect(), |hashes| hashes.into_iter().map(whole).collect())
    }

    /// Replaces a hash. It lives about an hour, or `seconds_max` if that is less.
    pub(super) async fn write(&self, key: &str, fields: &[(&str, String)], seconds_max: u64) {
        let mut pipeline = redis::pipe();
        Self::replace(&mut pipeline, key, fields, seconds_max);
        let _: Option<()> = self.query(&pipeline).await;
    }

    /// The same of several hashes, each with its seconds, in one round trip.
    pub(super) async fn write_all<const N: usize>(&self, hashes: &[Filled<N>]) {
        let mut pipeline = redis::pipe();
        for (key, fields, seconds_max) in hashes {
            Self::replace(&mut pipeline, key, fields, *seconds_max);
        }
        let _: Option<()> = self.query(&pipeline).await;
    }

    fn replace(pipeline: &mut Pipeline, key: &str, fields: &[(&str, String)], seconds_max: u64) {
        let jitter = rand::random_range(0..=TTL_S / 5);
        let seconds = (TTL_S * 9 / 10 + jitter).min(seconds_max);
        pipeline.cmd("HSET").arg(key);
        for (field, value) in fields {
            pipeline.arg(*field).arg(value);
        }
        pipeline.ignore().cmd("EXPIRE").arg(key).arg(seconds).ignore();
    }

    /// Frees the memory of an entry that its generation made worthless.
    pub(super) async fn remove(&self, key: &str) {
        let mut pipeline = redis::pipe();
        pipeline.cmd("UNLINK").arg(key).ignore();
        let _: Option<()> = self.query(&pipeline).await;
    }

    /// Whether it answers now. While it is away it is asked no more often than by anybody.
    pub(super) async fn answers(&self) -> bool {
        let mut pipeline = redis::pipe();
        pipeline.cmd("PING").ignore();
        self.query::<()>(&pipeline).await.is_some()
    }

    async fn query<T: redis::FromRedisValue>(&self, pipeline: &Pipeline) -> Option<T> {
        store("redis", self.ask(pipeline), |answer| answer.is_none().then_some("no answer")).await
    }

    async fn ask<T: redis::FromRedisValue>(&self, pipeline: &Pipeline) -> Option<T> {
        let mut connection = self.connection().await?;
        match pipeline.query_async(&mut connection).await {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::debug!(%error, "the cache did not answer");
                self.drop_connection();
                None
            }
        }
    }

    async fn connection(&self) -> Option<MultiplexedConnection> {
        {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(connection) = &held.connection {
                return Some(connection.clone());
            }
            if Instant::now() < held.retry_at {
                return None;
            }
            held.retry_at = Instant::now() + RETRY_EVERY;
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(Some(ANSWER_MAX));
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        match connecting.await {
            Ok(connection) => {
                let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                held.connection = Some(connection.clone());
                Some(connection)
            }
            Err(error) => {
                tracing::warn!(%error, "the cache cannot be reached; going on without it");
                None
            }
        }
    }

    fn drop_connection(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.connection = None;
    }
}

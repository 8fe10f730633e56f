//! The quota Redis, one connection of one shard.
//!
//! A connection is used by one turn and the serving after it: when it breaks, the shard turns.

use crate::error::{QuotaError, StoreError};
use crate::record::Head;
use crate::shard::ShardId;
use cellar_model::{Fence, KeyId, Seq, UserId};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Value};
use std::sync::Arc;
use std::time::Duration;

const COMMIT: &str = include_str!("../../../../lua/commit.lua");
const FENCE: &str = include_str!("../../../../lua/fence.lua");
const DRAINED: &str = include_str!("../../../../lua/drained.lua");
const PATCHES: &str = include_str!("../../../../lua/patches.lua");

/// Entries of the stream read at once while a turn drains it.
const STREAM_PAGE: usize = 500;
/// What a probe wrote goes by itself.
const PROBE_TTL_S: u32 = 60;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The first version with stream ids `<fence>-*` and the script rules the commit relies on.
const VERSION_MIN: (u32, u32) = (7, 0);

/// How the server flushes its append-only file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    Always,
    /// Up to a second of acknowledged commits may be lost with the machine.
    Everysec,
}

/// One checked connection. Cheap to clone: all clones share the socket.
#[derive(Clone)]
pub(crate) struct RedisStore {
    connection: MultiplexedConnection,
    pub(super) shard: ShardId,
    scripts: [String; 4],
    /// Of this very server: it may hold a password.
    pub(crate) url: Arc<str>,
    pub(crate) run_id: String,
    pub(crate) fsync: Fsync,
}

/// One user's part of a commit.
pub(crate) struct Group {
    pub(crate) user: UserId,
    /// Record and packed entry; absent when nothing was admitted.
    pub(crate) write: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) keys: Vec<KeyedCheck>,
}

pub(crate) struct KeyedCheck {
    pub(crate) id: KeyId,
    /// Absent when the check was denied: nothing is to be kept.
    pub(crate) outcome: Option<Vec<u8>>,
    pub(crate) expiry_s: u32,
}

/// What a commit answered.
#[derive(Debug, PartialEq)]
pub(crate) struct Committed {
    /// Absent when nothing was written.
    pub(crate) seq: Option<Seq>,
    /// Groups of which nothing was written, with what each of their keyed checks is known as.
    pub(crate) replayed: Vec<(usize, Vec<Option<Vec<u8>>>)>,
}

/// Names and values of a stream's item.
type StreamFields = Vec<(String, Vec<u8>)>;

/// What stands in the stream beyond a given seq.
pub(crate) struct StreamBatch {
    pub(crate) fence: Fence,
    pub(crate) seq: Seq,
    pub(crate) packed: Vec<u8>,
}

/// A writer's proof: what `fence:{s}` must hold for a script to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FenceKey {
    pub(crate) fence: Fence,
    pub(crate) text: String,
}

impl RedisStore {
    /// Connects and checks that the server is fit for acknowledged writes.
    pub(crate) async fn connect(
        url: &str,
        shard: ShardId,
        timeout: Duration,
        allow_unsafe_ack: bool,
    ) -> Result<Self, QuotaError> {
        let unfit = |why: String| QuotaError::UnfitRedis(why);
        let mut connection = open(url, timeout).await?;
        let info = info(&mut connection).await?;
        let field = |name: &str| info_field(&info, name);
        check_version(&field("redis_version")).map_err(unfit)?;
        if field("role") != "master" {
            return Err(QuotaError::RedisRole(field("role")));
        }
        let fsync = check_persistence(&mut connection).await?;
        if fsync == Fsync::Everysec && !allow_unsafe_ack {
            return Err(unfit("appendfsync is not `always`: set it, or allow_unsafe_ack = true".into()));
        }
        let (scripts, run_id) = (Default::default(), field("run_id"));
        let mut store = Self { connection, shard, scripts, url: url.into(), run_id, fsync };
        for (n, script) in [COMMIT, FENCE, DRAINED, PATCHES].into_iter().enumerate() {
            store.scripts[n] = redis::cmd("SCRIPT")
                .arg("LOAD")
                .arg(script)
                .query_async(&mut store.connection)
                .await
                .map_err(|e| StoreError::redis("SCRIPT LOAD", &e))?;
        }
        Ok(store)
    }

    /// Whether it takes a write at all: one whose disk or memory is full lets itself be connected to.
    pub(crate) async fn takes_writes(&mut self) -> Result<(), StoreError> {
        let mut set = redis::cmd("SET");
        set.arg(format!("probe:{{{}}}", self.shard)).arg(1).arg("EX").arg(PROBE_TTL_S);
        set.query_async(&mut self.connection).await.map_err(|e| StoreError::redis("SET probe", &e))
    }

    fn fence_name(&self) -> String {
        format!("fence:{{{}}}", self.shard)
    }

    fn ledger_name(&self) -> String {
        format!("ledger:{{{}}}", self.shard)
    }

    fn record_name(&self, user: &UserId) -> String {
        format!("quota:{{{}}}:{}", self.shard, user.as_str())
    }

    fn key_name(&self, key: &KeyId) -> String {
        format!("key:{{{}}}:{}", self.shard, hex::encode(key.0))
    }

    fn script(&self, n: usize, keys: usize) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.scripts[n]).arg(keys);
        call
    }

    /// Makes `key` the writer. Returns what it replaced (none: nothing stood there).
    pub(crate) async fn fence(&mut self, key: &FenceKey) -> Result<Option<String>, StoreError> {
        let mut call = self.script(1, 1);
        call.arg(self.fence_name()).arg(&key.text);
        let (done, held): (u8, String) =
            call.query_async(&mut self.connection).await.map_err(|e| StoreError::redis("fence.lua", &e))?;
        match done {
            1 => Ok((!held.is_empty()).then_some(held)),
            _ => Err(StoreError::Fenced),
        }
    }

    /// The fence whose turn was the last to make its key the writer's.
    pub(crate) async fn held_fence(&mut self) -> Result<Option<Fence>, StoreError> {
        let held: Option<String> = redis::cmd("GET")
            .arg(self.fence_name())
            .query_async(&mut self.connection)
            .await
            .map_err(|e| StoreError::redis("GET fence", &e))?;
        Ok(held.and_then(|held| held.split_once(':')?.0.parse().ok()).map(Fence))
    }

    pub(crate) async fn fence_stands(&mut self, key: &FenceKey) -> Result<bool, StoreError> {
        let held: Option<String> = redis::cmd("GET")
            .arg(self.fence_name())
            .query_async(&mut self.connection)
            .await
            .map_err(|e| StoreError::redis("GET fence", &e))?;
        Ok(held.as_deref() == Some(&key.text))
    }

    /// One call for a batch. See `lua/commit.lua` for the layout.
    pub(crate) async fn commit(
        &mut self,
        key: &FenceKey,
        valid_from: Fence,
        groups: &[Group],
    ) -> Result<Committed, StoreError> {
        let keys = 2 + groups.iter().map(|group| 1 + group.keys.len()).sum::<usize>();
        let mut call = self.script(0, keys);
        call.arg(self.fence_name()).arg(self.ledger_name());
        for group in groups {
            call.arg(self.record_name(&group.user));
            for check in &group.keys {
                call.arg(self.key_name(&check.id));
            }
        }
        call.arg(&key.text).arg(key.fence.0).arg(valid_from.0).arg(groups.len());
        for group in groups {
            let (record, entry) = group.write.as_ref().map_or((&[][..], &[][..]), |(r, e)| (&r[..], &e[..]));
            call.arg(record).arg(entry).arg(group.keys.len());
            for check in &group.keys {
                call.arg(check.outcome.as_deref().unwrap_or_default()).arg(check.expiry_s);
            }
        }
        let answer: Value =
            call.query_async(&mut self.connection).await.map_err(|e| StoreError::redis("commit.lua", &e))?;
        parse_committed(answer, groups)
    }

    /// Whether so much of its memory is used that nobody new is taken in.
    pub(crate) async fn is_nearly_full(&mut self) -> Result<bool, StoreError> {
        let info = info(&mut self.connection).await?;
        let bytes = |name: &str| info_field(&info, name).parse::<u64>().unwrap_or(0);
        Ok(nearly_full(bytes("used_memory"), bytes("maxmemory")))
    }

    /// Redis's wall clock, in microseconds since the epoch.
    pub(crate) async fn time(&mut self) -> Result<i64, StoreError> {
        let asked = redis::cmd("TIME").query_async::<(i64, i64)>(&mut self.connection).await;
        let (seconds, micros) = asked.map_err(|e| StoreError::redis("TIME", &e))?;
        Ok(seconds.saturating_mul(1_000_000).saturating_add(micros))
    }

    /// Records of `users`, in their order.
    pub(crate) async fn records(&mut self, users: &[UserId]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = redis::cmd("MGET");
        for user in users {
            call.arg(self.record_name(user));
        }
        call.query_async(&mut self.connection).await.map_err(|e| StoreError::redis("MGET", &e))
    }

    /// A page of the stream's batches after the one given (none: from its first), of whatever fence.
    pub(crate) async fn stream_after(&mut self, after: Option<(Fence, Seq)>) -> Result<Vec<StreamBatch>, StoreError> {
        let page: Vec<(String, StreamFields)> = redis::cmd("XRANGE")
            .arg(self.ledger_name())
            .arg(after.map_or("-".to_owned(), |(fence, seq)| format!("({fence}-{}", seq.0)))
            .arg("+")
            .arg("COUNT")
            .arg(STREAM_PAGE)
            .query_async(&mut self.connection)
            .await
            .map_err(|e| StoreError::redis("XRANGE", &e))?;
        let batch = |(id, mut fields): (String, StreamFields)| {
            let (fence, seq) = id.split_once('-')?;
            let (fence, seq) = (Fence(fence.parse().ok()?), Seq(seq.parse().ok()?));
            Some(StreamBatch { fence, seq, packed: fields.pop()?.1 })
        };
        Ok(page.into_iter().filter_map(batch).collect())
    }

    /// The newest batch of the stream.
    pub(crate) async fn stream_end(&mut self) -> Result<Option<(Fence, Seq)>, StoreError> {
        let last: Vec<(String, StreamFields)> = redis::cmd("XREVRANGE")
            .arg(self.ledger_name())
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1)
            .query_async(&mut self.connection)
            .await
            .map_err(|e| StoreError::redis("XREVRANGE", &e))?;
        let id = |(id, _): &(String, StreamFields)| {
            let (fence, seq) = id.split_once('-')?;
            Some((Fence(fence.parse().ok()?), Seq(seq.parse().ok()?)))
        };
        Ok(last.first().and_then(id))
    }

    /// Lets records that Postgres holds expire, and then, if told to, trims the stream: of all earlier
    /// fences, and of this one up to a seq.
    pub(crate) async fn drained(
        &mut self,
        key: &FenceKey,
        trim: Option<Option<Seq>>,
        ttl_s: u32,
        records: &[(UserId, Head)],
    ) -> Result<(), StoreError> {
        let mut call = self.script(2, 2 + records.len());
        call.arg(self.fence_name()).arg(self.ledger_name());
        for (user, _) in records {
            call.arg(self.record_name(user));
        }
        let first = |last: Option<Seq>| format!("{}-{}", key.fence, last.map_or(0, |last| last.0 + 1));
        call.arg(&key.text).arg(trim.map(first).unwrap_or_default()).arg(ttl_s);
        for (_, head) in records {
            call.arg(&head.to_bytes()[..]);
        }
        let answer: String =
            call.query_async(&mut self.connection).await.map_err(|e| StoreError::redis("drained.lua", &e))?;
        if answer == "done" { Ok(()) } else { Err(StoreError::Fenced) }
    }

    fn patches_name(&self) -> String {
        format!("patches:{{{}}}", self.shard)
    }

    /// Keeps one patch, or none, and drops others. See `lua/patches.lua`.
    pub(crate) async fn patches_script(
        &mut self,
        key: &FenceKey,
        kept: Option<(String, Vec<u8>)>,
        dropped: &[String],
    ) -> Result<(), StoreError> {
        let mut call = self.script(3, 2);
        call.arg(self.fence_name()).arg(self.patches_name()).arg(&key.text).arg(usize::from(kept.is_some()));
        if let Some((field, value)) = kept {
            call.arg(field).arg(value);
        }
        call.arg(dropped);
        let answer: String =
            call.query_async(&mut self.connection).await.map_err(|e| StoreError::redis("patches.lua", &e))?;
        if answer == "done" { Ok(()) } else { Err(StoreError::Fenced) }
    }

    /// Every patch of preferences that the shard has, by its field.
    pub(crate) async fn patches(&mut self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut call = redis::cmd("HGETALL");
        call.arg(self.patches_name());
        call.query_async(&mut self.connection).await.map_err(|e| StoreError::redis("HGETALL", &e))
    }
}

/// A connection that nothing has been checked of.
pub(super) async fn open(url: &str, timeout: Duration) -> Result<MultiplexedConnection, QuotaError> {
    let client = Client::open(url).map_err(|_| QuotaError::UnfitRedis("its URL cannot be read".into()))?;
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIMEOUT)).set_response_timeout(Some(timeout));
    let connection = client.get_multiplexed_async_connection_with_config(&config).await;
    connection.map_err(|e| StoreError::redis("connect", &e).into())
}

pub(super) async fn info(connection: &mut MultiplexedConnection) -> Result<String, StoreError> {
    redis::cmd("INFO").query_async(connection).await.map_err(|e| StoreError::redis("INFO", &e))
}

/// From here on the rest is kept for the records of those who are in it.
const FULL_PERCENT: u64 = 80;

/// `bytes_max` 0: there is no limit.
fn nearly_full(bytes: u64, bytes_max: u64) -> bool {
    bytes_max > 0 && bytes.saturating_mul(100) >= bytes_max.saturating_mul(FULL_PERCENT)
}

/// A line's value of what `INFO` says.
pub(super) fn info_field(info: &str, name: &str) -> String {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("").trim().to_owned()
}

/// Which life of the server answers.
pub(super) async fn run_id(connection: &mut MultiplexedConnection) -> Result<String, StoreError> {
    Ok(info_field(&info(connection).await?, "run_id"))
}

fn check_version(version: &str) -> Result<(), String> {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let held = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if held < VERSION_MIN {
        return Err(format!("version {version} is older than 7.0"));
    }
    Ok(())
}

pub(super) async fn check_persistence(connection: &mut MultiplexedConnection) -> Result<Fsync, QuotaError> {
    let mut setting = async |name: &str| -> Result<String, QuotaError> {
        let (_, value): (String, String) = redis::cmd("CONFIG")
            .arg("GET")
            .arg(name)
            .query_async(connection)
            .await
            .map_err(|e| StoreError::redis("CONFIG GET", &e))?;
        Ok(value)
    };
    if setting("appendonly").await? != "yes" {
        return Err(QuotaError::UnfitRedis("it keeps no append-only file (appendonly yes)".into()));
    }
    if setting("maxmemory-policy").await? != "noeviction" {
        return Err(QuotaError::UnfitRedis("it evicts keys (maxmemory-policy must be noeviction)".into()));
    }
    Ok(if setting("appendfsync").await? == "always" { Fsync::Always } else { Fsync::Everysec })
}

/// `{'fenced'}`, or `{seq or ''}` followed by each replayed group's number and outcomes.
fn parse_committed(answer: Value, groups: &[Group]) -> Result<Committed, StoreError> {
    let odd = |what: &str| StoreError::Unknown {
        store: "redis",
        call: "commit.lua",
        cause: format!("an answer of another form: {what}"),
    };
    let Value::Array(items) = answer else { return Err(odd("not a list")) };
    let mut items = items.into_iter();
    let seq = match items.next() {
        Some(Value::BulkString(text)) if text == b"fenced" => return Err(StoreError::Fenced),
        Some(Value::BulkString(text)) if text.is_empty() => None,
        Some(Value::BulkString(text)) => {
            let seq = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
            Some(Seq(seq.ok_or_else(|| odd("no seq"))?))
        }
        _ => return Err(odd("no head")),
    };
    let mut replayed = Vec::new();
    while let Some(group) = items.next() {
        let Value::Int(group) = group else { return Err(odd("no group")) };
        let keyed = groups.get(group as usize).ok_or_else(|| odd("an unknown group"))?.keys.len();
        let mut known = Vec::with_capacity(keyed);
        for _ in 0..keyed {
            match items.next() {
                Some(Value::BulkString(bytes)) => known.push((!bytes.is_empty()).then_some(bytes)),
                _ => return Err(odd("no outcome")),
            }
        }
        replayed.push((group as usize, known));
    }
    Ok(Committed { seq, replayed })
}

/// A fresh nonce: 64 random bits in hex.
pub(crate) fn nonce() -> String {
    hex::encode(rand::random::<[u8; 8]>())
}

#[cfg(test)]
mod tests;

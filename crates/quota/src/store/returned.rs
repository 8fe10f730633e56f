//! What comes after a promotion: Sentinels that were away are told, and a primary that comes back is read to
//! the end and made a replica.
//!
//! **Invariant:** no server is emptied before what its streams hold and Postgres does not is kept in
//! Postgres, as late entries: its disk may be the last that remembers them.

use super::postgres::PostgresStore;
use super::redis::{FenceKey, RedisStore, info, info_field, nonce, open};
use super::sentinel::{DEPOSED, Sentinels, follow, refused};
use crate::entry::LedgerEntry;
use crate::error::{QuotaError, StoreError};
use crate::record::RecordError;
use crate::shard::ShardId;
use crate::store::servers::Servers;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between looks: a Sentinel that was away acts on what it remembers only after several seconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const ASK_MAX: Duration = Duration::from_secs(1);
/// For all streams of a server that came back.
const READ_MAX: Duration = Duration::from_secs(120);

/// Looks after the servers, beside the serving of checks, until told to stop.
pub(crate) async fn look_after(servers: Arc<Servers>, postgres: Vec<PostgresStore>, stop: CancellationToken) {
    let Some(sentinels) = servers.sentinels() else { return };
    let mut said = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let looked = tokio::time::timeout(READ_MAX, look(sentinels, &postgres));
        match looked.await.unwrap_or_else(|_| Err(refused("a server that came back is not read in time").into())) {
            Ok(()) => said = false,
            Err(error) if !said => {
                said = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the quota Redis's servers are not as they should be"
                );
            }
            Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "still not as they should be"),
        }
    }
}

async fn look(sentinels: &Sentinels, postgres: &[PostgresStore]) -> Result<(), QuotaError> {
    let Some(_alone) = sentinels.alone() else { return Ok(()) };
    let views = sentinels.views().await;
    let primary = sentinels.agreed(&views)?;
    sentinels.name(&primary);
    // A primary that does not answer is for a turn.
    let Ok(mut connection) = open(&sentinels.url_of(&primary), ASK_MAX).await else { return Ok(()) };
    let Ok(role) = info(&mut connection).await.map(|info| info_field(&info, "role")) else { return Ok(()) };
    if role != "master" {
        return Err(refused("what the Sentinels name as primary is none").into());
    }
    sentinels.correct(&views, &primary).await;
    let deposed = redis::cmd("SMEMBERS").arg(DEPOSED).query_async::<Vec<String>>(&mut connection).await;
    let deposed = deposed.map_err(|e| StoreError::redis("SMEMBERS", &e))?;
    let mut others = sentinels.replicas(&views).await;
    others.extend(deposed.iter().cloned());
    others.remove(&primary);
    let mut failed = None;
    for other in &others {
        let was_primary = deposed.contains(other);
        match mend(sentinels, other, &primary, was_primary, postgres).await {
            Ok(true) if was_primary => {
                let call = redis::cmd("SREM").arg(DEPOSED).arg(other).to_owned();
                call.query_async::<()>(&mut connection).await.map_err(|e| StoreError::redis("SREM", &e))?;
            }
            Ok(_) => {}
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Makes `address` a replica of `primary`, once nothing of it is needed. False: it does not answer.
async fn mend(
    sentinels: &Sentinels,
    address: &str,
    primary: &str,
    was_primary: bool,
    postgres: &[PostgresStore],
) -> Result<bool, QuotaError> {
    let url = sentinels.url_of(address);
    let Ok(mut connection) = open(&url, ASK_MAX).await else { return Ok(false) };
    let Ok(info) = info(&mut connection).await else { return Ok(false) };
    let field = |name: &str| info_field(&info, name);
    let is_master = field("role") == "master";
    if !is_master && (!was_primary || format!("{}:{}", field("master_host"), field("master_port")) == primary) {
        return Ok(true);
    }
    if is_master {
        for (shard, postgres) in postgres.iter().enumerate() {
            rescue(&url, ShardId(shard as u16), postgres).await?;
        }
    }
    follow(&mut connection, primary).await?;
    tracing::warn!(server = address, %primary, "a Redis server that took itself for the primary is a replica now");
    Ok(true)
}

/// Keeps what the stream of `shard` holds there beyond the ledger. A writer that still believes in that
/// server writes nothing there any more; what it wrote under the present fence, its own turn charges first.
async fn rescue(url: &str, shard: ShardId, postgres: &PostgresStore) -> Result<(), QuotaError> {
    let mut store = RedisStore::connect(url, shard, ASK_MAX, true).await?;
    let fence = postgres.fence().await?;
    store.fence(&FenceKey { fence, text: format!("{fence}:{}", nonce()) }).await?;
    let (mut after, mut watermarks, mut kept) = (None, None, 0);
    loop {
        let page = store.stream_after(after).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.fence, last.seq));
        let mut entries = Vec::new();
        for batch in page {
            if watermarks.is_none() {
                watermarks = Some(postgres.watermarks(batch.fence).await?);
            }
            let drained = watermarks.as_ref().and_then(|held| held.get(&batch.fence).copied()).flatten();
            if Some(batch.seq) > drained {
                let unreadable = |cause| StoreError::Unreadable { store: "redis", cause: RecordError::Body(cause) };
                entries.extend(LedgerEntry::unpack_all(&batch.packed).map_err(unreadable)?);
            }
        }
        if !entries.is_empty() {
            postgres.keep_late(fence, &entries).await?;
            kept += entries.len();
        }
    }
    if kept > 0 {
        tracing::warn!(%shard, entries = kept, "a primary that came back holds what the ledger may lack: looked up by a turn");
    }
    Ok(())
}

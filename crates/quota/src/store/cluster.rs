//! A Redis Cluster: each shard on the node that owns its slot.
//!
//! A shard's keys share its hash tag, so they are in one slot, and scripts, streams and fences work there as
//! on a single server. A slot that moves, or a node that died, is a turn: the node says so, or says nothing.

use super::redis::open;
use super::servers::Listed;
use crate::error::{QuotaError, StoreError};
use crate::shard::ShardId;
use futures::future::join_all;
use redis::Value;
use std::collections::HashMap;
use std::time::Duration;

const SLOTS: u16 = 16_384;
/// For a node to say who owns what.
const ASK_MAX: Duration = Duration::from_millis(300);

pub(crate) struct Cluster {
    login: String,
    /// Some of the nodes: whoever answers knows them all.
    seeds: Vec<String>,
}

impl Cluster {
    pub(super) fn new(listed: Listed) -> Self {
        Self { login: listed.login, seeds: listed.addresses }
    }

    /// The URL of the node that most nodes say owns the slot of `shard`.
    pub(super) async fn node(&self, shard: ShardId) -> Result<String, QuotaError> {
        let slot = slot_of_tag(&shard.to_string());
        let asked = self.seeds.iter().map(|seed| async move {
            let owner = tokio::time::timeout(ASK_MAX, self.ask(seed, slot)).await;
            owner.ok().and_then(Result::ok).flatten()
        });
        let mut said: HashMap<String, usize> = HashMap::new();
        for owner in join_all(asked).await.into_iter().flatten() {
            *said.entry(owner).or_default() += 1;
        }
        let most = said.into_iter().max_by_key(|(_, times)| *times);
        let (owner, _) = most.ok_or_else(|| StoreError::Refused {
            store: "redis",
            call: "CLUSTER SLOTS",
            cause: format!("no node says who owns slot {slot}"),
        })?;
        Ok(format!("redis://{}{owner}/", self.login))
    }

    async fn ask(&self, seed: &str, slot: u16) -> Result<Option<String>, QuotaError> {
        let mut connection = open(&format!("redis://{}{seed}/", self.login), ASK_MAX).await?;
        let slots: Value = redis::cmd("CLUSTER")
            .arg("SLOTS")
            .query_async(&mut connection)
            .await
            .map_err(|e| StoreError::redis("CLUSTER SLOTS", &e))?;
        Ok(owner(&slots, slot, seed))
    }
}

/// Of `CLUSTER SLOTS`: ranges, each as first, last, its primary (host, port, …), its replicas.
fn owner(slots: &Value, slot: u16, asked: &str) -> Option<String> {
    let Value::Array(ranges) = slots else { return None };
    ranges.iter().find_map(|range| {
        let Value::Array(range) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &range[..] else { return None };
        if !(*first..=*last).contains(&i64::from(slot)) {
            return None;
        }
        let [host, Value::Int(port), ..] = &primary[..] else { return None };
        let host = match host {
            Value::BulkString(host) if !host.is_empty() => String::from_utf8(host.clone()).ok()?,
            // A node that has not been told its own address means the one it was asked by.
            _ => asked.rsplit_once(':')?.0.to_owned(),
        };
        Some(format!("{host}:{port}"))
    })
}

/// CRC-16/XMODEM of the hash tag, as every cluster computes it.
fn slot_of_tag(tag: &str) -> u16 {
    let crc = tag.bytes().fold(0u16, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_that_clusters_compute() {
        // The check value of the CRC, and `CLUSTER KEYSLOT` of the first shards.
        assert_eq!(slot_of_tag("123456789"), 0x31C3);
        assert_eq!(["0", "1", "2", "3"].map(slot_of_tag), [13_907, 9_842, 5_649, 1_584]);
    }

    #[test]
    fn the_owner_of_a_slot_is_read_also_of_a_node_that_does_not_know_its_address() {
        let range = |first, last, host: &str, port| {
            let primary = Value::Array(vec![Value::BulkString(host.into()), Value::Int(port)]);
            Value::Array(vec![Value::Int(first), Value::Int(last), primary])
        };
        let slots = Value::Array(vec![range(0, 99, "a", 1), range(100, 200, "", 2)]);
        assert_eq!(owner(&slots, 99, "seed:9").as_deref(), Some("a:1"));
        assert_eq!(owner(&slots, 100, "seed:9").as_deref(), Some("seed:2"));
        assert_eq!(owner(&slots, 201, "seed:9"), None);
    }
}

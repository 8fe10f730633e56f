//! Which servers are the quota Redis, and which of them a shard commits to.
//!
//! `redis://…` is one server; `redis+sentinel://…` is whichever a majority of Sentinels names;
//! `redis+cluster://…` is, for each shard, the node that owns its hash tag's slot.

use super::cluster::Cluster;
use super::redis::RedisStore;
use super::sentinel::Sentinels;
use crate::error::{QuotaError, StoreError};
use crate::shard::ShardId;
use cellar_model::Secret;
use std::time::Duration;

pub(crate) enum Servers {
    Single(String),
    Sentinel(Sentinels),
    Cluster(Cluster),
}

/// What a URL of several servers says.
pub(super) struct Listed {
    /// `user:password@`, or nothing: what the servers themselves ask for.
    pub(super) login: String,
    /// `host:port` of each.
    pub(super) addresses: Vec<String>,
    pub(super) path: String,
}

/// A list is written by hand, and every one of it is asked at each connection.
const ADDRESSES_MAX: usize = 64;

impl Servers {
    pub(crate) fn of(url: &Secret) -> Result<Self, QuotaError> {
        let url = url.reveal();
        let unread = |why: &str| QuotaError::UnfitRedis(format!("its URL cannot be read: {why}"));
        if let Some(listed) = url.strip_prefix("redis+sentinel://") {
            let listed = Listed::of(listed).map_err(unread)?;
            return Sentinels::new(listed).map(Servers::Sentinel).map_err(unread);
        }
        if let Some(listed) = url.strip_prefix("redis+cluster://") {
            return Ok(Servers::Cluster(Cluster::new(Listed::of(listed).map_err(unread)?)));
        }
        redis::Client::open(url).map_err(|_| unread("neither redis://, redis+sentinel:// nor redis+cluster://"))?;
        Ok(Servers::Single(url.to_owned()))
    }

    /// A checked connection to the server that takes `shard`'s commits now.
    pub(crate) async fn connect(
        &self,
        shard: ShardId,
        timeout: Duration,
        allow_unsafe_ack: bool,
    ) -> Result<RedisStore, QuotaError> {
        let url = match self {
            Servers::Single(url) => return RedisStore::connect(url, shard, timeout, allow_unsafe_ack).await,
            Servers::Sentinel(sentinels) => sentinels.primary().await?,
            Servers::Cluster(cluster) => cluster.node(shard).await?,
        };
        match RedisStore::connect(&url, shard, timeout, allow_unsafe_ack).await {
            // Who names it has not seen its role change yet: to be asked again, not to be mended.
            Err(QuotaError::RedisRole(role)) => {
                let cause = format!("it is a {role} by now");
                Err(StoreError::Refused { store: "redis", call: "connect", cause }.into())
            }
            connected => connected,
        }
    }

    /// Whether another server than the one of `url` takes commits by now.
    pub(crate) fn has_moved(&self, url: &str) -> bool {
        match self {
            Servers::Sentinel(sentinels) => sentinels.named().is_some_and(|named| named != url),
            // A node says so itself, to every call.
            Servers::Single(_) | Servers::Cluster(_) => false,
        }
    }

    pub(crate) fn sentinels(&self) -> Option<&Sentinels> {
        match self {
            Servers::Sentinel(sentinels) => Some(sentinels),
            Servers::Single(_) | Servers::Cluster(_) => None,
        }
    }
}

impl Listed {
    fn of(text: &str) -> Result<Self, &'static str> {
        let (login, rest) = match text.rsplit_once('@') {
            Some((login, rest)) => (format!("{login}@"), rest),
            None => (String::new(), text),
        };
        let (addresses, path) = rest.split_once('/').unwrap_or((rest, ""));
        let addresses: Vec<String> = addresses.split(',').map(str::to_owned).collect();
        let is_address = |address: &String| {
            address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if !addresses.iter().all(is_address) || addresses.len() > ADDRESSES_MAX {
            return Err("write [user:password@]host:port,host:port/…");
        }
        Ok(Self { login, addresses, path: path.to_owned() })
    }
}

/// A majority of `all`, so that two of them always share one.
pub(super) fn is_majority(some: usize, all: usize) -> bool {
    some * 2 > all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(url: &str) -> Result<Servers, QuotaError> {
        Servers::of(&Secret::new(url.to_owned()))
    }

    #[test]
    fn every_shape_of_url_is_read_and_others_are_refused() {
        assert!(matches!(servers("redis://127.0.0.1:6379/"), Ok(Servers::Single(_))));
        assert!(matches!(servers("redis+sentinel://u:p@a:1,b:2,c:3/eu-1"), Ok(Servers::Sentinel(_))));
        assert!(matches!(servers("redis+cluster://a:1,b:2"), Ok(Servers::Cluster(_))));
        for bad in ["", "http://a:1", "redis+sentinel://a:1", "redis+sentinel://a/n", "redis+cluster://a:1,,b:2/"] {
            assert!(servers(bad).is_err(), "{bad}");
        }
    }
}

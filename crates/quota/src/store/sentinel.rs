//! A primary and its replicas, watched by Sentinels.
//!
//! Sentinels say which server is the primary and when it is down; they change nothing (replicas have
//! `replica-priority 0`, and the servers' default user may not make any of them another's replica).
//! Promotion is a step of a turn: the cell, which knows what it has acknowledged, performs it and tells the
//! Sentinels. What the new primary holds is never taken for certain, so a replica that lagged forgets
//! nothing that this process, the ledger or the old primary's disk remembers.
//!
//! Every step can be repeated: whoever comes after a promotion that was cut short finds it half done.

use super::redis::{check_persistence, info, info_field, open};
use super::servers::{Listed, is_majority};
use crate::error::{QuotaError, StoreError};
use futures::future::join_all;
use redis::aio::MultiplexedConnection;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// For one Sentinel, or one server, to say how it stands.
const ASK_MAX: Duration = Duration::from_millis(300);
/// For one of them to be told something.
const TELL_MAX: Duration = Duration::from_secs(1);
/// Of a server's role, in the set of those that were primaries before it. On the server itself, for it has
/// to be remembered as long as what it holds.
pub(super) const DEPOSED: &str = "cellar:deposed";

pub(crate) struct Sentinels {
    login: String,
    addresses: Vec<String>,
    name: String,
    /// What a majority named last: `host:port`.
    primary: Mutex<Option<String>>,
    /// One promotion or repair at a time.
    one: tokio::sync::Mutex<()>,
}

/// What one Sentinel says.
pub(super) struct View {
    sentinel: String,
    /// None: it watches nothing of our name.
    master: Option<Master>,
}

#[derive(Clone, Debug)]
struct Master {
    address: String,
    /// It and a quorum of others hold it down.
    down: bool,
    /// What it has to be told again with another address: name and value.
    settings: Vec<(&'static str, String)>,
    quorum: String,
}

/// A replica that could take the primary's place.
struct Candidate {
    address: String,
    connection: MultiplexedConnection,
    offset: i64,
}

impl Sentinels {
    pub(super) fn new(listed: Listed) -> Result<Self, &'static str> {
        if listed.path.is_empty() {
            return Err("the name that the Sentinels know it by is missing: redis+sentinel://host:port,…/name");
        }
        let Listed { login, addresses, path: name } = listed;
        Ok(Self { login, addresses, name, primary: Mutex::default(), one: tokio::sync::Mutex::default() })
    }

    pub(super) fn url_of(&self, address: &str) -> String {
        format!("redis://{}{address}/", self.login)
    }

    /// The URL of the server that was named last.
    pub(crate) fn named(&self) -> Option<String> {
        self.last().map(|address| self.url_of(&address))
    }

    fn last(&self) -> Option<String> {
        // An address is whole whoever panicked.
        self.primary.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn name(&self, address: &str) {
        *self.primary.lock().unwrap_or_else(PoisonError::into_inner) = Some(address.to_owned());
    }

    /// The URL of the server that a majority of the Sentinels names now.
    pub(super) async fn primary(&self) -> Result<String, QuotaError> {
        let address = self.agreed(&self.views().await)?;
        self.name(&address);
        Ok(self.url_of(&address))
    }

    /// What the Sentinels say that answer.
    pub(super) async fn views(&self) -> Vec<View> {
        let asked = self.addresses.iter().map(|sentinel| async move {
            let master = tokio::time::timeout(ASK_MAX, self.master(sentinel)).await.ok()?.ok()?;
            Some(View { sentinel: sentinel.clone(), master })
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn master(&self, sentinel: &str) -> Result<Option<Master>, QuotaError> {
        let mut connection = open(&format!("redis://{sentinel}/"), ASK_MAX).await?;
        let call = redis::cmd("SENTINEL").arg("MASTER").arg(&self.name).to_owned();
        let said: HashMap<String, String> = match call.query_async(&mut connection).await {
            Ok(said) => said,
            // Its word that it watches nothing of this name.
            Err(error) if error.code() == Some("ERR") => return Ok(None),
            Err(error) => return Err(StoreError::redis("SENTINEL MASTER", &error).into()),
        };
        Ok(master(&said))
    }

    /// The address that a majority of all Sentinels names.
    pub(super) fn agreed(&self, views: &[View]) -> Result<String, StoreError> {
        let masters = || views.iter().filter_map(|view| view.master.as_ref());
        let named = masters().find(|master| {
            is_majority(masters().filter(|other| other.address == master.address).count(), self.addresses.len())
        });
        named.map(|master| master.address.clone()).ok_or_else(|| refused("no majority of Sentinels names a primary"))
    }

    /// Whether a majority of all Sentinels holds the server down at this address.
    fn is_down(&self, views: &[View], address: &str) -> bool {
        let masters = views.iter().filter_map(|view| view.master.as_ref());
        is_majority(masters.filter(|master| master.address == address && master.down).count(), self.addresses.len())
    }

    /// Whether a promotion would go through.
    pub(crate) async fn is_promotable(&self) -> bool {
        let views = self.views().await;
        let Ok(primary) = self.agreed(&views) else { return false };
        self.is_down(&views, &primary) && self.candidate(&views, &primary).await.is_ok()
    }

    /// Puts the replica that has the most in the place of a primary that is down. `tried`: the URL that did
    /// not answer; when another server is named by now, there is nothing to do.
    pub(crate) async fn promote(&self, tried: Option<&str>, allow_unsafe_ack: bool) -> Result<(), QuotaError> {
        let _one = self.one.lock().await;
        let views = self.views().await;
        let primary = self.agreed(&views)?;
        if !self.is_down(&views, &primary) {
            self.name(&primary);
            let is_another = tried.is_some_and(|tried| tried != self.url_of(&primary));
            return if is_another { Ok(()) } else { Err(refused("the Sentinels do not hold the primary down").into()) };
        }
        let (mut chosen, others) = self.candidate(&views, &primary).await?;
        if check_persistence(&mut chosen.connection).await? == super::Fsync::Everysec && !allow_unsafe_ack {
            return Err(refused("the replica does not flush at every write (appendfsync always)").into());
        }
        tracing::warn!(from = %primary, to = %chosen.address, "the quota Redis's primary is down; promoting a replica");
        become_primary(&mut chosen.connection, &primary).await?;
        for mut other in others {
            follow(&mut other.connection, &chosen.address).await?;
        }
        self.tell(&views, &chosen.address).await?;
        self.name(&chosen.address);
        Ok(())
    }

    /// The replica that has the most of what `primary` wrote, and the others. All of them have to answer:
    /// the one that does not may be the only one with what was acknowledged as replicated.
    async fn candidate(&self, views: &[View], primary: &str) -> Result<(Candidate, Vec<Candidate>), StoreError> {
        let replicas = self.replicas(views).await;
        let asked = replicas.iter().filter(|address| *address != primary).map(|address| async move {
            let candidate = tokio::time::timeout(ASK_MAX, self.replica(address, primary)).await;
            candidate.unwrap_or_else(|_| Err(refused(&format!("the replica {address} does not answer"))))
        });
        let mut candidates = join_all(asked).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        candidates.sort_by_key(|candidate| candidate.offset);
        let chosen = candidates.pop().ok_or_else(|| refused("the Sentinels know of no replica"))?;
        Ok((chosen, candidates))
    }

    async fn replica(&self, address: &str, primary: &str) -> Result<Candidate, StoreError> {
        let unfit = |why: &str| refused(&format!("the replica {address} {why}"));
        let opened = open(&self.url_of(address), ASK_MAX).await;
        let mut connection = opened.map_err(|_| unfit("does not answer"))?;
        let info = info(&mut connection).await?;
        let field = |name: &str| info_field(&info, name);
        let number = |name: &str| field(name).parse::<i64>().unwrap_or(-1);
        if field("role") == "master" {
            // Promoted by a turn that was cut short.
            return Ok(Candidate { address: address.to_owned(), connection, offset: i64::MAX });
        }
        // Sentinels name addresses; a server may have been told a host's name.
        let (host, port) = (field("master_host"), field("master_port"));
        let other_host = host.parse::<std::net::IpAddr>().is_ok() && split(primary)?.0 != host;
        if other_host || split(primary)?.1 != port {
            return Err(unfit("follows another primary"));
        }
        if field("master_sync_in_progress") != "0" || number("slave_repl_offset") <= 0 {
            return Err(unfit("never had all that the primary holds"));
        }
        Ok(Candidate { address: address.to_owned(), connection, offset: number("slave_repl_offset") })
    }

    /// The replicas that any Sentinel knows of.
    pub(super) async fn replicas(&self, views: &[View]) -> BTreeSet<String> {
        let asked = views.iter().map(|view| async move {
            let replicas = tokio::time::timeout(ASK_MAX, self.replicas_of(&view.sentinel)).await;
            replicas.ok().and_then(Result::ok).unwrap_or_default()
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn replicas_of(&self, sentinel: &str) -> Result<Vec<String>, QuotaError> {
        let mut connection = open(&format!("redis://{sentinel}/"), ASK_MAX).await?;
        let call = redis::cmd("SENTINEL").arg("REPLICAS").arg(&self.name).to_owned();
        let said: Vec<HashMap<String, String>> =
            call.query_async(&mut connection).await.map_err(|e| StoreError::redis("SENTINEL REPLICAS", &e))?;
        Ok(said.iter().filter_map(address).collect())
    }

    /// Makes the Sentinels watch `primary`; a majority has to.
    async fn tell(&self, views: &[View], primary: &str) -> Result<(), StoreError> {
        let settings = views.iter().find_map(|view| view.master.clone());
        let told = views.iter().map(|view| {
            let like = view.master.clone().or(settings.clone());
            let is_right = view.master.as_ref().is_some_and(|master| master.address == primary);
            async move {
                let Some(like) = like else { return false };
                is_right || self.tell_one(&view.sentinel, view.master.is_some(), &like, primary).await.is_ok()
            }
        });
        let told = join_all(told).await.into_iter().filter(|told| *told).count();
        if is_majority(told, self.addresses.len()) {
            Ok(())
        } else {
            Err(refused("no majority of Sentinels could be told of the new primary"))
        }
    }

    async fn tell_one(&self, sentinel: &str, watches: bool, like: &Master, primary: &str) -> Result<(), QuotaError> {
        let (host, port) = split(primary)?;
        let telling = async {
            let mut connection = open(&format!("redis://{sentinel}/"), TELL_MAX).await?;
            let mut told = redis::pipe();
            if watches {
                told.cmd("SENTINEL").arg("REMOVE").arg(&self.name);
            }
            told.cmd("SENTINEL").arg("MONITOR").arg(&self.name).arg(host).arg(port).arg(&like.quorum);
            let set = told.cmd("SENTINEL").arg("SET").arg(&self.name);
            for (name, value) in &like.settings {
                set.arg(*name).arg(value);
            }
            let told: Result<(), _> = told.query_async::<()>(&mut connection).await;
            told.map_err(|e| StoreError::redis("SENTINEL MONITOR", &e).into())
        };
        let late = || StoreError::Unknown { store: "redis", call: "SENTINEL MONITOR", cause: "timed out".into() };
        tokio::time::timeout(TELL_MAX, telling).await.unwrap_or_else(|_| Err(late().into()))
    }

    /// Tells Sentinels that were away, or cut off, during a promotion.
    pub(super) async fn correct(&self, views: &[View], primary: &str) {
        let stale = |view: &&View| view.master.as_ref().is_none_or(|master| master.address != primary);
        let like = views.iter().filter_map(|view| view.master.as_ref()).find(|master| master.address == primary);
        let Some(like) = like else { return };
        for view in views.iter().filter(stale) {
            match self.tell_one(&view.sentinel, view.master.is_some(), like, primary).await {
                Ok(()) => tracing::warn!(sentinel = %view.sentinel, %primary, "told a Sentinel of the primary"),
                Err(error) => {
                    tracing::debug!(sentinel = %view.sentinel, error = &error as &dyn std::error::Error, "a Sentinel cannot be told")
                }
            }
        }
    }

    /// Nobody else promotes or repairs while it is held; none: somebody does.
    pub(super) fn alone(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        self.one.try_lock().ok()
    }
}

fn master(said: &HashMap<String, String>) -> Option<Master> {
    let settings = ["down-after-milliseconds", "failover-timeout", "parallel-syncs"];
    Some(Master {
        address: address(said)?,
        down: said.get("flags")?.split(',').any(|flag| flag == "o_down"),
        settings: settings.into_iter().filter_map(|name| Some((name, said.get(name)?.clone()))).collect(),
        quorum: said.get("quorum")?.clone(),
    })
}

fn address(said: &HashMap<String, String>) -> Option<String> {
    Some(format!("{}:{}", said.get("ip")?, said.get("port")?))
}

pub(super) fn refused(why: &str) -> StoreError {
    StoreError::Refused { store: "redis", call: "Sentinel", cause: why.to_owned() }
}

fn split(address: &str) -> Result<(&str, &str), StoreError> {
    address.rsplit_once(':').ok_or_else(|| refused("an address without a port"))
}

/// From here the server takes writes, and knows whom it has replaced: what that one holds and Postgres does
/// not has to be read before it may be emptied.
async fn become_primary(connection: &mut MultiplexedConnection, before: &str) -> Result<(), StoreError> {
    let failed = |error| StoreError::redis("REPLICAOF NO ONE", &error);
    let call = redis::cmd("REPLICAOF").arg("NO").arg("ONE").to_owned();
    call.query_async::<()>(connection).await.map_err(failed)?;
    redis::cmd("SADD").arg(DEPOSED).arg(before).query_async::<()>(connection).await.map_err(failed)?;
    keep_role(connection).await;
    Ok(())
}

/// Empties the server, and fills it with what `primary` holds.
pub(super) async fn follow(connection: &mut MultiplexedConnection, primary: &str) -> Result<(), StoreError> {
    let (host, port) = split(primary)?;
    let failed = |error| StoreError::redis("REPLICAOF", &error);
    let call = redis::cmd("REPLICAOF").arg(host).arg(port).to_owned();
    call.query_async::<()>(connection).await.map_err(failed)?;
    keep_role(connection).await;
    Ok(())
}

/// Without it the server starts again in the role that its file gives it, and is mended then.
async fn keep_role(connection: &mut MultiplexedConnection) {
    let kept = redis::cmd("CONFIG").arg("REWRITE").query_async::<()>(connection).await;
    if let Err(error) = kept {
        tracing::warn!(error = &error as &dyn std::error::Error, "a Redis server's new role is not in its file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentinels() -> Sentinels {
        let addresses = ["a:1", "b:1", "c:1"].map(str::to_owned).to_vec();
        Sentinels::new(Listed { login: "u:p@".into(), addresses, path: "eu-1".into() }).unwrap()
    }

    fn view(address: &str, flags: &str) -> View {
        let (ip, port) = address.split_once(':').unwrap();
        let said = [("ip", ip), ("port", port), ("flags", flags), ("quorum", "2")];
        let said = said.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        View { sentinel: "s:1".into(), master: master(&said) }
    }

    #[test]
    fn only_what_a_majority_of_all_sentinels_says_counts() {
        let sentinels = sentinels();
        let agreed = |views: &[View]| sentinels.agreed(views).ok();
        assert_eq!(agreed(&[view("p:1", "master"), view("p:1", "master")]).as_deref(), Some("p:1"));
        assert_eq!(agreed(&[view("p:1", "master")]), None, "one of three");
        assert_eq!(agreed(&[view("p:1", "master"), view("r:1", "master")]), None);
        let views = [view("r:1", "master"), view("p:1", "master,s_down,o_down"), view("r:1", "master")];
        assert_eq!(agreed(&views).as_deref(), Some("r:1"));
        assert!(!sentinels.is_down(&views, "r:1") && !sentinels.is_down(&views, "p:1"));
    }

    #[test]
    fn down_is_what_a_quorum_holds_down_not_what_one_sentinel_does() {
        let down = |flags: &str| {
            let views = [view("p:1", flags), view("p:1", flags), view("p:1", "master")];
            sentinels().is_down(&views, "p:1")
        };
        assert!(down("master,s_down,o_down") && !down("master,s_down"));
    }

    #[test]
    fn servers_are_asked_with_the_login_of_the_url() {
        let sentinels = sentinels();
        assert_eq!(sentinels.named(), None);
        sentinels.name("p:1");
        assert_eq!(sentinels.named().as_deref(), Some("redis://u:p@p:1/"));
    }
}

//! The keyspace and its tables, brought up to date.
//!
//! Changes of a schema are no transactions here, and two that run at once can leave a cluster with two
//! versions of a table. So one migration at a time runs a version: who has written its row, by a
//! conditional write. Every statement can be run again, for who takes over from one that died.

use super::classify::{Ask, classify};
use super::session::{builder, nodes, refused};
use super::url::CqlUrl;
use crate::{DirectoryError, Op};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::response::query_result::QueryRowsResult;
use scylla::statement::{Consistency, Statement};
use scylla::value::Row;
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// In order; a version is its place, from 1, and is never changed once it has been released.
const MIGRATIONS: &[&str] = &[include_str!("../../../../migrations/cql/0001_directory.cql")];

/// One change of the schema, with the agreement of all nodes on it.
const STATEMENT_MAX: Duration = Duration::from_secs(30);
/// A migration as a whole, by an operator or at the start of a local stack.
const MIGRATION_MAX: Duration = Duration::from_secs(180);
/// Another's migration that has not moved for so long has died: its statements take at most
/// `STATEMENT_MAX` each, and it beats before every one.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(70);
/// Nodes that have just started see each other within so long.
const MEET_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(250);
/// More copies in one datacenter make every majority larger and nothing safer.
const REPLICAS_MAX: u8 = 9;
/// Of each datacenter, where nobody says.
const REPLICAS: u8 = 3;

const MIGRATIONS_TABLE: &str = "\
    create table if not exists migrations (
        version int primary key, digest text, state text, owner text)";
const READ: &str = "select digest, state, owner from migrations where version = ?";
const BEGIN: &str = "\
    insert into migrations (version, digest, state, owner) values (?, ?, 'running', ?) if not exists";
const OWN: &str = "\
    update migrations set owner = ? where version = ? if owner = ? and state = 'running'";
const FINISH: &str = "\
    update migrations set state = 'done' where version = ? if owner = ? and state = 'running'";

/// How many copies of a row each datacenter keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Replicas {
    /// Nobody says: then the keyspace has to be there.
    #[default]
    AsTheyAre,
    /// By the datacenters' names.
    Of(BTreeMap<String, u8>),
    /// Three in every datacenter of the cluster, or as many as it has nodes: for a local stack. Where it
    /// matters, an operator says.
    EveryDatacenter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("replicas are given as `datacenter=number,…`, each number from 1 to {REPLICAS_MAX}: for example eu=3,us=3")]
pub struct ReplicasError;

impl FromStr for Replicas {
    type Err = ReplicasError;

    fn from_str(text: &str) -> Result<Self, ReplicasError> {
        let mut replicas = BTreeMap::new();
        for part in text.split(',') {
            let (datacenter, number) = part.split_once('=').ok_or(ReplicasError)?;
            let number: u8 = number.parse().map_err(|_| ReplicasError)?;
            // The name stands between quotes in a statement.
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let named = !datacenter.is_empty() && datacenter.chars().all(plain);
            if !named || !(1..=REPLICAS_MAX).contains(&number) {
                return Err(ReplicasError);
            }
            replicas.insert(datacenter.to_owned(), number);
        }
        Ok(Replicas::Of(replicas))
    }
}

/// What a migration came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The schema's version now.
    pub version: u32,
    /// The versions that this run brought.
    pub applied: Vec<u32>,
    /// Copies of each row by datacenter; none on a store that knows no such thing.
    pub replicas: BTreeMap<String, u8>,
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schema version {}", self.version)?;
        match self.applied.len() {
            0 => write!(f, ", as it was")?,
            n => write!(f, ", {n} applied now")?,
        }
        for (datacenter, number) in &self.replicas {
            write!(f, "; {number} replicas in {datacenter}")?;
        }
        Ok(())
    }
}

pub(super) async fn migrate(url: &CqlUrl, replicas: &Replicas) -> Result<Migrated, DirectoryError> {
    let migrating = async {
        let session = connect(url).await?;
        let replicas = keyspace(&session, url, replicas).await?;
        session.use_keyspace(&url.keyspace, false).await.map_err(failed)?;
        let mine = Op::random();
        schema(&session, MIGRATIONS_TABLE).await?;
        let mut applied = Vec::new();
        for (version, text) in (1..).zip(MIGRATIONS) {
            let migration = Migration { session: &session, url, version, text, mine: &mine };
            if migration.run().await? {
                applied.push(version.unsigned_abs());
            }
        }
        Ok(Migrated { version: u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX), applied, replicas })
    };
    tokio::time::timeout(MIGRATION_MAX, migrating).await.map_err(failed)?
}

async fn connect(url: &CqlUrl) -> Result<Session, DirectoryError> {
    let profile = ExecutionProfile::builder()
        .load_balancing_policy(nodes(url))
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(url.serial.of_writes()))
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .request_timeout(Some(STATEMENT_MAX))
        .build();
    let builder = builder(url).default_execution_profile_handle(profile.into_handle());
    builder.schema_agreement_timeout(STATEMENT_MAX).build().await.map_err(refused)
}

/// Makes the keyspace if it is not there, and says what it is. One that is there stays as it is: to
/// change its replicas is an operator's work, with a repair after it.
async fn keyspace(
    session: &Session,
    url: &CqlUrl,
    replicas: &Replicas,
) -> Result<BTreeMap<String, u8>, DirectoryError> {
    let name = &url.keyspace;
    let held = replicas_of(session, name).await?;
    if let Some(held) = held {
        return match replicas {
            Replicas::Of(wanted) if *wanted != held => Err(DirectoryError::Migration(
                format!("the keyspace {name} has replicas {held:?}, not {wanted:?}: change it with ALTER KEYSPACE and repair it, docs/directory.md says how").into(),
            )),
            _ => Ok(held),
        };
    }
    let wanted = match replicas {
        Replicas::Of(wanted) => wanted.clone(),
        Replicas::EveryDatacenter => every_datacenter(session),
        Replicas::AsTheyAre => {
            let known = every_datacenter(session).into_keys().collect::<Vec<_>>().join(", ");
            let cause = format!(
                "there is no keyspace {name}: say how many copies of every row each datacenter keeps, as --replicas \
                 NAME=3,…; the cluster has {known}"
            );
            return Err(failed(cause));
        }
    };
    known(session, &wanted).await?;
    let each: Vec<String> = wanted.iter().map(|(datacenter, number)| format!("'{datacenter}': {number}")).collect();
    let statement = format!(
        "create keyspace if not exists {name} with replication = {{'class': 'NetworkTopologyStrategy', {}}}",
        each.join(", ")
    );
    make(session, &statement).await?;
    Ok(wanted)
}

/// A node that has just started may not have met the other datacenters yet, which others know, and then
/// takes their names for mistakes.
async fn make(session: &Session, statement: &str) -> Result<(), DirectoryError> {
    let until = Instant::now() + MEET_MAX;
    loop {
        match session.query_unpaged(statement, ()).await {
            Ok(_) => break,
            Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::ConfigError, _)))
                if Instant::now() < until =>
            {
                tokio::time::sleep(POLL).await;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    session.await_schema_agreement().await.map_err(failed)?;
    Ok(())
}

/// Waits until the cluster knows these datacenters: nodes that start together meet within moments.
async fn known(session: &Session, wanted: &BTreeMap<String, u8>) -> Result<(), DirectoryError> {
    let until = Instant::now() + MEET_MAX;
    loop {
        let known: BTreeSet<String> = every_datacenter(session).into_keys().collect();
        let Some(unknown) = wanted.keys().find(|datacenter| !known.contains(*datacenter)) else { return Ok(()) };
        if Instant::now() > until {
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(failed(format!("the cluster has no datacenter {unknown}: it has {known}")));
        }
        tokio::time::sleep(POLL).await;
        session.refresh_metadata().await.map_err(failed)?;
    }
}

async fn replicas_of(session: &Session, keyspace: &str) -> Result<Option<BTreeMap<String, u8>>, DirectoryError> {
    let statement = "select replication from system_schema.keyspaces where keyspace_name = ?";
    // Of its own tables a node is asked alone.
    let mut statement = Statement::new(statement);
    statement.set_consistency(Consistency::One);
    let answer = session.query_unpaged(statement, (keyspace,)).await.map_err(failed)?;
    let answer = answer.into_rows_result().map_err(failed)?;
    let row = answer.maybe_first_row::<(BTreeMap<String, String>,)>().map_err(failed)?;
    let of_datacenters = |options: BTreeMap<String, String>| {
        options.into_iter().filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect()
    };
    Ok(row.map(|(options,)| of_datacenters(options)))
}

fn every_datacenter(session: &Session) -> BTreeMap<String, u8> {
    let mut nodes: BTreeMap<String, u8> = BTreeMap::new();
    for node in session.get_cluster_state().get_nodes_info() {
        if let Some(datacenter) = &node.datacenter {
            let number = nodes.entry(datacenter.clone()).or_default();
            *number = REPLICAS.min(*number + 1);
        }
    }
    nodes
}

/// Runs a change of the schema, and waits until all nodes know it.
async fn schema(session: &Session, statement: &str) -> Result<(), DirectoryError> {
    session.query_unpaged(statement, ()).await.map_err(failed)?;
    session.await_schema_agreement().await.map_err(failed)?;
    Ok(())
}

/// One version of the schema.
struct Migration<'a> {
    session: &'a Session,
    url: &'a CqlUrl,
    version: i32,
    text: &'a str,
    /// Who this run is.
    mine: &'a Op,
}

struct Held {
    digest: String,
    state: String,
    owner: String,
}

impl Migration<'_> {
    /// Whether this run applied it.
    async fn run(&self) -> Result<bool, DirectoryError> {
        let digest = hex::encode(sha2::Sha256::digest(self.text.as_bytes()));
        if !self.begin(&digest).await? {
            let mut since = (Instant::now(), String::new());
            loop {
                let Some(held) = self.read().await? else {
                    return Err(failed("the row of a migration is gone: nothing deletes it"));
                };
                if held.digest != digest {
                    let version = self.version;
                    return Err(failed(format!(
                        "version {version} of the schema here is another one than this program's"
                    )));
                }
                if held.state == "done" {
                    return Ok(false);
                }
                if held.owner != since.1 {
                    since = (Instant::now(), held.owner.clone());
                }
                let dead = since.0.elapsed() > TAKE_OVER_AFTER;
                if dead && self.own(&held.owner, self.mine.as_str()).await? {
                    break;
                }
                tokio::time::sleep(POLL).await;
            }
        }
        let mut owner = self.mine.as_str().to_owned();
        for statement in statements(self.text) {
            // The beat: a fresh owner each time, so that who waits sees us move.
            let next = String::from(Op::random());
            if !self.own(&owner, &next).await? {
                return Err(failed("another migration has taken over: run it again to see its end"));
            }
            owner = next;
            schema(self.session, statement).await?;
        }
        if !self.applied(FINISH, (self.version, &owner)).await? {
            return Err(failed("another migration has taken over: run it again to see its end"));
        }
        Ok(true)
    }

    /// Whether this run is the one that applies it. A cluster that has just started may not have seen all
    /// its nodes alive yet, and says that it cannot decide anything.
    async fn begin(&self, digest: &str) -> Result<bool, DirectoryError> {
        let until = Instant::now() + MEET_MAX;
        loop {
            let begun = self.applied(BEGIN, (self.version, digest, self.mine.as_str())).await;
            match begun {
                Err(DirectoryError::Unreachable(_)) if Instant::now() < until => tokio::time::sleep(POLL).await,
                begun => return begun,
            }
        }
    }

    async fn own(&self, owner: &str, next: &str) -> Result<bool, DirectoryError> {
        self.applied(OWN, (next, self.version, owner)).await
    }

    async fn applied(
        &self,
        statement: &str,
        values: impl scylla::serialize::row::SerializeRow,
    ) -> Result<bool, DirectoryError> {
        let answer = self.session.query_unpaged(statement, values).await;
        let answer = answer.map_err(|error| classify(Ask::Conditional, error))?;
        let answer: QueryRowsResult = answer.into_rows_result().map_err(failed)?;
        let row = answer.first_row::<Row>().map_err(failed)?;
        let applied = row.columns.into_iter().next().flatten().and_then(|value| value.as_boolean());
        applied.ok_or_else(|| failed("a conditional write was answered without a verdict"))
    }

    async fn read(&self) -> Result<Option<Held>, DirectoryError> {
        let mut statement = Statement::new(READ);
        statement.set_consistency(self.url.serial.of_reads());
        let answer = self.session.query_unpaged(statement, (self.version,)).await.map_err(failed)?;
        let answer = answer.into_rows_result().map_err(failed)?;
        let row = answer.maybe_first_row::<(String, String, String)>().map_err(failed)?;
        Ok(row.map(|(digest, state, owner)| Held { digest, state, owner }))
    }
}

/// The statements of a file: without its comments, cut at the semicolons. None of ours has either in a
/// text, which the test below would notice.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.split(';').map(str::trim).filter(|statement| {
        statement.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with("--"))
    })
}

fn failed(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DirectoryError {
    DirectoryError::Migration(cause.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_is_cut_into_statements_that_can_be_run_again() {
        let all: Vec<&str> = MIGRATIONS.iter().flat_map(|text| statements(text)).collect();
        assert_eq!(all.len(), 8);
        for statement in all {
            let code = statement.lines().find(|line| !line.trim_start().starts_with("--") && !line.trim().is_empty());
            assert!(code.unwrap().contains(" if not exists "), "{statement}");
        }
    }

    #[test]
    fn replicas_are_named_and_counted() {
        let Replicas::Of(read) = "eu=3,us=3".parse().unwrap() else { panic!("they are given") };
        assert_eq!(read, BTreeMap::from([("eu".to_owned(), 3), ("us".to_owned(), 3)]));
        for bad in ["", "eu", "eu=0", "eu=10", "eu=x", "=3", "eu=3,", "e'u=3"] {
            assert_eq!(bad.parse::<Replicas>(), Err(ReplicasError), "{bad}");
        }
    }
}

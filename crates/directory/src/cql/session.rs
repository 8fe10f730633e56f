//! The session with the cluster: made when first asked for, by one of those who ask.

use super::classify::{Ask, classify, unprepared};
use super::url::{CqlUrl, SerialLevel};
use crate::DirectoryError;
use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::cluster::metadata::Strategy;
use scylla::errors::{NewSessionError, RequestAttemptError, UseKeyspaceError};
use scylla::policies::load_balancing::{DefaultPolicy, LoadBalancingPolicy};
use scylla::policies::retry::{DefaultRetryPolicy, FallthroughRetryPolicy};
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::response::query_result::{QueryResult, QueryRowsResult};
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

/// How long we wait for an answer. Longer than a cluster's own limits (docs/directory.md says which), so
/// that a slow one says itself what it did, and only a silent one leaves us in doubt.
const ANSWER_MAX: Duration = Duration::from_millis(2_000);
/// How long the first connection may take, with what is asked about the cluster. Nothing was sent yet,
/// so the caller may go elsewhere.
const CONNECT_MAX: Duration = Duration::from_millis(2_500);
/// Of one node.
const CONNECT_NODE_MAX: Duration = Duration::from_millis(1_000);
/// A cluster that was not there is tried again after this long; who asks earlier is told at once.
const CONNECT_PAUSE: Duration = Duration::from_millis(250);
/// A connection is asked whether it is alive this often, and given up after as long again: a node that
/// is cut off must not hold every request until its time-out.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// A read that is not answered by then is asked of a second replica too. Far above a usual answer, so
/// that it costs nothing on an ordinary day.
const SECOND_READ_AFTER: Duration = Duration::from_millis(100);
const SECOND_READS_MAX: usize = 1;

/// The link to one cluster, made or not.
pub(super) struct Link {
    url: CqlUrl,
    open: OnceCell<Open>,
    /// When it last failed. Who holds it makes the session; the others wait for that one.
    failed: Mutex<Option<(Instant, String)>>,
}

/// It holds a password, and a driver that would print pages.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("url", &self.url).finish_non_exhaustive()
    }
}

struct Open {
    session: Session,
    profiles: Profiles,
    prepared: RwLock<HashMap<(&'static str, Ask), PreparedStatement>>,
}

/// How each kind of request is asked.
struct Profiles {
    reads: ExecutionProfileHandle,
    serial_reads: ExecutionProfileHandle,
    conditional: ExecutionProfileHandle,
    writes: ExecutionProfileHandle,
}

impl Link {
    pub(super) fn new(url: CqlUrl) -> Self {
        Self { url, open: OnceCell::new(), failed: Mutex::new(None) }
    }

    pub(super) fn serial(&self) -> SerialLevel {
        self.url.serial
    }

    /// One statement, all of its answer.
    pub(super) async fn rows(
        &self,
        ask: Ask,
        statement: &'static str,
        values: impl SerializeRow,
    ) -> Result<QueryRowsResult, DirectoryError> {
        let open = self.open().await?;
        let prepared = open.prepared(ask, statement).await?;
        let answer = open.session.execute_unpaged(&prepared, values).await;
        let answer = answer.map_err(|error| classify(ask, error))?;
        if ask == Ask::Conditional && !answer.is_rows() {
            return Err(DirectoryError::Unconditional("a conditional write was answered without a verdict"));
        }
        rows_of(answer)
    }

    /// A write that answers nothing.
    pub(super) async fn write(&self, statement: &'static str, values: impl SerializeRow) -> Result<(), DirectoryError> {
        let open = self.open().await?;
        let prepared = open.prepared(Ask::Write, statement).await?;
        let answer = open.session.execute_unpaged(&prepared, values).await;
        answer.map(drop).map_err(|error| classify(Ask::Write, error))
    }

    /// One page of a statement, from a place in its answer.
    pub(super) async fn page(
        &self,
        statement: &'static str,
        values: impl SerializeRow,
        from: PagingState,
        rows_max: i32,
    ) -> Result<(QueryRowsResult, PagingStateResponse), DirectoryError> {
        let open = self.open().await?;
        let mut prepared = open.prepared(Ask::Read, statement).await?;
        prepared.set_page_size(rows_max);
        let answer = open.session.execute_single_page(&prepared, values, from).await;
        let (answer, next) = answer.map_err(|error| classify(Ask::Read, error))?;
        Ok((rows_of(answer)?, next))
    }

    async fn open(&self) -> Result<&Open, DirectoryError> {
        if let Some(open) = self.open.get() {
            return Ok(open);
        }
        let making = async {
            let mut failed = self.failed.lock().await;
            if let Some(open) = self.open.get() {
                return Ok(open);
            }
            if let Some((at, why)) = failed.as_ref()
                && at.elapsed() < CONNECT_PAUSE
            {
                return Err(DirectoryError::Unreachable(why.clone().into()));
            }
            match self.connect().await {
                Ok(open) => Ok(self.open.get_or_init(|| async { open }).await),
                Err(error) => {
                    *failed = Some((Instant::now(), reason(&error)));
                    Err(error)
                }
            }
        };
        tokio::time::timeout(CONNECT_MAX, making)
            .await
            .unwrap_or_else(|elapsed| Err(DirectoryError::Unreachable(elapsed.into())))
    }

    async fn connect(&self) -> Result<Open, DirectoryError> {
        let builder = builder(&self.url)
            .use_keyspace(&self.url.keyspace, false)
            .keyspaces_to_fetch([&self.url.keyspace])
            .default_execution_profile_handle(profile(&self.url, Ask::Read));
        let session = builder.build().await.map_err(refused)?;
        self.fits(&session)?;
        let profiles = Profiles {
            reads: profile(&self.url, Ask::Read),
            serial_reads: profile(&self.url, Ask::SerialRead),
            conditional: profile(&self.url, Ask::Conditional),
            writes: profile(&self.url, Ask::Write),
        };
        Ok(Open { session, profiles, prepared: RwLock::default() })
    }

    /// What the URL says against what the cluster is.
    fn fits(&self, session: &Session) -> Result<(), DirectoryError> {
        let cluster = session.get_cluster_state();
        let known: BTreeSet<&str> =
            cluster.get_nodes_info().iter().filter_map(|node| node.datacenter.as_deref()).collect();
        if let Some(datacenter) = &self.url.datacenter
            && !known.contains(datacenter.as_str())
        {
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            let cause = format!("the URL names the datacenter {datacenter}, and the cluster has {known}");
            return Err(DirectoryError::Rejected(cause.into()));
        }
        let keyspace = cluster.get_keyspace(&self.url.keyspace).map(|keyspace| &keyspace.strategy);
        let Some(Strategy::NetworkTopologyStrategy { datacenter_repfactors: replicas }) = keyspace else {
            return Ok(());
        };
        let having = || replicas.iter().filter(|(_, number)| **number > 0);
        if let Some(datacenter) = &self.url.datacenter
            && !having().any(|(name, _)| name == datacenter)
        {
            // Reads and commits there would find nobody.
            let cause = format!("the keyspace {} has no replicas in {datacenter}", self.url.keyspace);
            return Err(DirectoryError::Rejected(cause.into()));
        }
        if self.url.serial == SerialLevel::OneDatacenter && having().count() > 1 {
            return Err(DirectoryError::Unconditional(
                "LOCAL_SERIAL decides in one datacenter, and this keyspace has replicas in several",
            ));
        }
        Ok(())
    }
}

impl Open {
    /// Prepared once and kept; the driver does so again by itself where a node has forgotten.
    async fn prepared(&self, ask: Ask, statement: &'static str) -> Result<PreparedStatement, DirectoryError> {
        // A map is whole after every step, whoever panicked.
        if let Some(prepared) = self.prepared.read().unwrap_or_else(PoisonError::into_inner).get(&(statement, ask)) {
            return Ok(prepared.clone());
        }
        let preparing = tokio::time::timeout(ANSWER_MAX, self.session.prepare(statement)).await;
        let mut prepared =
            preparing.map_err(|elapsed| DirectoryError::Unreachable(elapsed.into()))?.map_err(unprepared)?;
        let profile = match ask {
            Ask::Read => &self.profiles.reads,
            Ask::SerialRead => &self.profiles.serial_reads,
            Ask::Conditional => &self.profiles.conditional,
            Ask::Write => &self.profiles.writes,
        };
        prepared.set_execution_profile_handle(Some(profile.clone()));
        // A conditional write is not: whether it may be sent again is decided by who reads the row.
        prepared.set_is_idempotent(ask != Ask::Conditional);
        let mut known = self.prepared.write().unwrap_or_else(PoisonError::into_inner);
        known.insert((statement, ask), prepared.clone());
        Ok(prepared)
    }
}

/// What every session has in common, with or without a keyspace.
pub(super) fn builder(url: &CqlUrl) -> SessionBuilder {
    let builder = SessionBuilder::new()
        .known_nodes(&url.nodes)
        .connection_timeout(CONNECT_NODE_MAX)
        .keepalive_interval(KEEPALIVE)
        .keepalive_timeout(KEEPALIVE);
    match &url.login {
        Some((user, password)) => builder.user(user, password.reveal()),
        None => builder,
    }
}

/// Which nodes are asked, and in which order.
pub(super) fn nodes(url: &CqlUrl) -> Arc<dyn LoadBalancingPolicy> {
    let mut nodes = DefaultPolicy::builder().token_aware(true);
    if let Some(datacenter) = &url.datacenter {
        // Another datacenter decides the same rows only if all of them decide together.
        let elsewhere = url.serial == SerialLevel::Everywhere;
        nodes = nodes.prefer_datacenter(datacenter.clone()).permit_dc_failover(elsewhere);
    }
    nodes.build()
}

fn profile(url: &CqlUrl, ask: Ask) -> ExecutionProfileHandle {
    let profile = ExecutionProfile::builder()
        .load_balancing_policy(nodes(url))
        .request_timeout(Some(ANSWER_MAX))
        .serial_consistency(Some(url.serial.of_writes()))
        .consistency(match ask {
            Ask::SerialRead => url.serial.of_reads(),
            // A row that nothing decides is looked for in other datacenters too, by a serial read: the
            // two majorities have a replica in common.
            Ask::Write if url.serial == SerialLevel::Everywhere => Consistency::Quorum,
            Ask::Read | Ask::Conditional | Ask::Write => Consistency::LocalQuorum,
        });
    let profile = match ask {
        Ask::Read => {
            let second = SimpleSpeculativeExecutionPolicy {
                max_retry_count: SECOND_READS_MAX,
                retry_interval: SECOND_READ_AFTER,
            };
            profile
                .retry_policy(Arc::new(DefaultRetryPolicy::new()))
                .speculative_execution_policy(Some(Arc::new(second)))
        }
        // Two serial reads of one row would only hold each other up.
        Ask::SerialRead | Ask::Write => profile.retry_policy(Arc::new(DefaultRetryPolicy::new())),
        Ask::Conditional => profile.retry_policy(Arc::new(FallthroughRetryPolicy::new())),
    };
    profile.build().into_handle()
}

fn rows_of(answer: QueryResult) -> Result<QueryRowsResult, DirectoryError> {
    answer.into_rows_result().map_err(|cause| DirectoryError::corrupt("answer", cause))
}

/// Why there is no session.
pub(super) fn refused(error: NewSessionError) -> DirectoryError {
    match &error {
        NewSessionError::UseKeyspaceError(UseKeyspaceError::RequestError(RequestAttemptError::DbError(..))) => {
            DirectoryError::Rejected("the keyspace is not there: `cellctl directory migrate` makes it".into())
        }
        NewSessionError::UseKeyspaceError(UseKeyspaceError::BadKeyspaceName(_)) | NewSessionError::IllegalConfig(_) => {
            DirectoryError::Rejected(error.into())
        }
        _ => DirectoryError::Unreachable(error.into()),
    }
}

fn reason(error: &DirectoryError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

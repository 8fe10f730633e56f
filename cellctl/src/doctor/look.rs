//! One look at everything, at once and with a bound on every wait.

use crate::fleet::{ANSWER_MAX, Fleet, Member, MemberRole, Said};
use cellar_client::{ClientError, Probe};
use cellar_devstack::{ProcessEntry, Role};
use futures::future::join_all;

/// As a server says in its last lines that it ended for want of room.
const NO_ROOM: &str = "No space left on device";

/// What was found.
pub(super) struct Seen {
    pub(super) members: Vec<SeenMember>,
    /// Of a local stack: of others nobody here knows where the stores are.
    pub(super) stores: Vec<SeenStore>,
    /// Of a single cell the directory is in its own Postgres.
    pub(super) directory_in_cell: bool,
}

pub(super) struct SeenMember {
    pub(super) member: Member,
    /// None: it did not answer, and why.
    pub(super) said: Result<Said, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    QuotaRedis,
    /// A replica, or a Sentinel: without it the next fault is worse, and nothing else is.
    QuotaSpare,
    CacheRedis,
    Postgres,
    Directory,
}

pub(super) struct SeenStore {
    pub(super) store: Store,
    pub(super) name: String,
    pub(super) region: Option<String>,
    pub(super) cell: Option<String>,
    pub(super) running: bool,
    pub(super) answers: bool,
    /// It has ended because its disk was full, as its log says.
    pub(super) no_room: bool,
}

pub(super) async fn look(fleet: &Fleet) -> anyhow::Result<Seen> {
    let probe = Probe::new(ANSWER_MAX)?;
    let processes = fleet.local.iter().flat_map(|state| &state.processes);
    let stores = processes.filter_map(|process| Some((kind(process.role)?, process)));
    let (said, stores) = tokio::join!(fleet.ask(&probe), join_all(stores.map(|(store, process)| at(store, process))));
    let mut members = Vec::with_capacity(said.len());
    for (member, said) in fleet.members.iter().zip(said) {
        let (mut member, said) = (member.clone(), said.map_err(why));
        if let Ok(said) = &said {
            // One that was named by its address says who it is.
            if member.region.is_empty() {
                member.region = said.process.region.clone();
            }
            if fleet.local.is_none() && member.role == MemberRole::Cell {
                member.cell = Some(said.process.name.clone());
            }
        }
        members.push(SeenMember { member, said });
    }
    let directory_in_cell = fleet.local.as_ref().is_some_and(|state| state.world.single);
    Ok(Seen { members, stores, directory_in_cell })
}

/// What lies at the bottom of it: the address stands beside it.
fn why(error: ClientError) -> String {
    let error = anyhow::Error::from(error);
    error.root_cause().to_string()
}

/// What of the stack is looked at here: what else belongs to it serves no user.
fn kind(role: Role) -> Option<Store> {
    match role {
        Role::RedisQuota => Some(Store::QuotaRedis),
        Role::RedisReplica | Role::Sentinel => Some(Store::QuotaSpare),
        Role::RedisCache => Some(Store::CacheRedis),
        Role::Postgres => Some(Store::Postgres),
        Role::Directory => Some(Store::Directory),
        _ => None,
    }
}

async fn at(store: Store, process: &ProcessEntry) -> SeenStore {
    let (running, answers) = (process.is_running(), process.answers().await);
    SeenStore {
        store,
        name: process.name.clone(),
        region: process.region.clone(),
        cell: process.cell.clone(),
        running,
        answers,
        no_room: !running && process.launch.log_tail().contains(NO_ROOM),
    }
}

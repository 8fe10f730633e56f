//! Every process there is to look at: those of a local stack, those that a topology names, or those that are named.

use crate::stack::Target;
use anyhow::Context;
use cellar_client::{ClientError, Probe};
use cellar_devstack::{Role, Stack, StackState};
use cellar_model::Topology;
use clap::Args;
use futures::future::join_all;
use serde::Deserialize;
use std::path::Path;
use std::time::Duration;

/// For one process to say how it is. One that needs longer is a finding of its own.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Which processes, where it is neither a local stack's nor a topology's.
#[derive(Args, Clone, Default)]
pub(crate) struct FleetArguments {
    /// Admin listeners of routers, instead of those that are known
    #[arg(long, value_name = "URL")]
    pub(crate) router: Vec<String>,
    /// Admin listeners of cells' processes
    #[arg(long, value_name = "URL")]
    pub(crate) cells: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberRole {
    Router,
    Cell,
}

/// A router, or a process of a cell, by its admin listener.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) role: MemberRole,
    /// Of the process: `router-eu`, `cell-eu-1`.
    pub(crate) name: String,
    pub(crate) region: String,
    /// Of a cell's process, its cell.
    pub(crate) cell: Option<String>,
    pub(crate) admin_url: String,
    /// It serves callers itself: a router, or a cell without one.
    pub(crate) door: bool,
}

pub(crate) struct Fleet {
    pub(crate) members: Vec<Member>,
    pub(crate) local: Option<StackState>,
    pub(crate) topology: Option<Topology>,
}

/// What a process says at `/conditions`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Said {
    pub(crate) process: SaidProcess,
    pub(crate) up_s: f64,
    pub(crate) ready: bool,
    pub(crate) reasons: Vec<String>,
    pub(crate) conditions: Vec<SaidCondition>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SaidProcess {
    pub(crate) name: String,
    pub(crate) region: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SaidCondition {
    pub(crate) name: String,
    pub(crate) since_ms: u64,
    pub(crate) for_s: f64,
    pub(crate) what: String,
    pub(crate) failing: bool,
    pub(crate) runbook: String,
}

impl Fleet {
    pub(crate) async fn find(folder: &Path, arguments: &FleetArguments) -> anyhow::Result<Self> {
        if !arguments.router.is_empty() || !arguments.cells.is_empty() {
            return Ok(Self { members: named(arguments), local: None, topology: None });
        }
        if let Ok(url) = std::env::var("CELLAR_ADMIN_URL") {
            let target = Target::find(folder)?;
            let topology = target.admin.topology().await.context("the topology, which says what cells there are")?;
            return Ok(Self { members: remote(&url, &topology), local: None, topology: Some(topology) });
        }
        let state = Stack::open(folder)?.state().clone();
        // Who is hit is said by the topology, if anybody can be asked for it within the time of a look.
        let topology = match Target::find(folder) {
            Ok(target) if !state.world.single => {
                tokio::time::timeout(ANSWER_MAX, target.admin.topology()).await.ok().and_then(Result::ok)
            }
            _ => None,
        };
        Ok(Self { members: local(&state), local: Some(state), topology })
    }

    /// What each says of itself, in the order of the members.
    pub(crate) async fn ask(&self, probe: &Probe) -> Vec<Result<Said, ClientError>> {
        join_all(self.members.iter().map(|member| member.get(probe, "/conditions"))).await
    }
}

impl Member {
    async fn get(&self, probe: &Probe, path: &str) -> Result<Said, ClientError> {
        probe.json(&format!("{}{path}", self.admin_url)).await
    }

    /// Its metrics, as text.
    pub(crate) async fn metrics(&self, probe: &Probe) -> Result<String, ClientError> {
        probe.text(&format!("{}/metrics", self.admin_url)).await
    }
}

fn named(arguments: &FleetArguments) -> Vec<Member> {
    let member = |role, url: &String| Member {
        role,
        name: url.clone(),
        region: String::new(),
        cell: (role == MemberRole::Cell).then(|| url.clone()),
        admin_url: url.trim_end_matches('/').to_owned(),
        // A cell that is asked without routers is asked for its own callers.
        door: role == MemberRole::Router || arguments.router.is_empty(),
    };
    let routers = arguments.router.iter().map(|url| member(MemberRole::Router, url));
    routers.chain(arguments.cells.iter().map(|url| member(MemberRole::Cell, url))).collect()
}

fn remote(url: &str, topology: &Topology) -> Vec<Member> {
    let router = Member {
        role: MemberRole::Router,
        name: "router".into(),
        region: String::new(),
        cell: None,
        admin_url: url.trim_end_matches('/').to_owned(),
        door: true,
    };
    let mut members = vec![router];
    for (region, cell) in topology.cells() {
        for (n, admin_url) in cell.endpoints.iter().skip(1).step_by(2).enumerate() {
            members.push(Member {
                role: MemberRole::Cell,
                name: format!("{}-{n}", cell.name),
                region: region.name.to_string(),
                cell: Some(cell.name.to_string()),
                admin_url: admin_url.clone(),
                door: false,
            });
        }
    }
    members
}

fn local(state: &StackState) -> Vec<Member> {
    let members = state.processes.iter().filter_map(|process| {
        let role = match process.role {
            Role::Router => MemberRole::Router,
            Role::Cell => MemberRole::Cell,
            _ => return None,
        };
        Some(Member {
            role,
            name: process.name.clone(),
            region: process.region.clone().unwrap_or_default(),
            cell: process.cell.clone(),
            admin_url: process.admin_url.clone()?,
            door: role == MemberRole::Router || state.world.single,
        })
    });
    members.collect()
}

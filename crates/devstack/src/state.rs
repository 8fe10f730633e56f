//! What is known of a stack from one command to the next: one file in its folder.

use crate::StackError;
use crate::folders::write_private;
use crate::postgres::Database;
use crate::process::{Identity, Launch};
use crate::ready::Ready;
use crate::world::{CellShape, RegionShape, World};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Directory,
    RedisQuota,
    RedisReplica,
    Sentinel,
    RedisCache,
    Postgres,
    Cell,
    Router,
    Prometheus,
    Grafana,
}

impl Role {
    pub fn label(self) -> &'static str {
        match self {
            Role::Directory => "directory",
            Role::RedisQuota => "redis-quota",
            Role::RedisReplica => "redis-replica",
            Role::Sentinel => "sentinel",
            Role::RedisCache => "redis-cache",
            Role::Postgres => "postgres",
            Role::Cell => "cell",
            Role::Router => "router",
            Role::Prometheus => "prometheus",
            Role::Grafana => "grafana",
        }
    }

    pub(crate) fn is_router(self) -> bool {
        self == Role::Router
    }

    pub(crate) fn is_cell(self) -> bool {
        self == Role::Cell
    }

    pub(crate) fn is_store(self) -> bool {
        !matches!(self, Role::Cell | Role::Router) && !self.is_watcher()
    }

    /// Watches the stack, which does not need it.
    pub fn is_watcher(self) -> bool {
        matches!(self, Role::Prometheus | Role::Grafana)
    }

    /// The database one works with, of a Postgres.
    pub(crate) fn database(self) -> Database {
        match self {
            Role::Directory => Database::Directory,
            _ => Database::Cell,
        }
    }

    /// Part of a cell's quota store.
    pub(crate) fn is_quota(self) -> bool {
        matches!(self, Role::RedisQuota | Role::RedisReplica | Role::Sentinel)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessEntry {
    pub name: String,
    pub role: Role,
    pub region: Option<String>,
    pub cell: Option<String>,
    /// Its last life, over or not.
    pub life: Option<Identity>,
    pub url: String,
    pub admin_url: Option<String>,
    pub ports: Vec<u16>,
    pub launch: Launch,
    pub ready: Ready,
}

impl ProcessEntry {
    pub fn is_running(&self) -> bool {
        self.life.is_some_and(Identity::is_alive)
    }

    /// Whether it serves, asked in its own language, within two seconds.
    pub async fn answers(&self) -> bool {
        self.is_running() && self.ready.answers().await
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.ready, Ready::PostgresOn(..))
    }

    /// Whether the folder is gone of a server whose data nothing else has. A new one in its place would be empty, and
    /// nobody would know why.
    pub(crate) fn has_lost_its_books(&self) -> bool {
        let keeps = matches!(self.role, Role::Postgres | Role::Directory);
        keeps && self.launch.log.parent().is_some_and(|folder| !folder.exists())
    }

    pub(crate) fn is_cassandra(&self) -> bool {
        matches!(self.ready, Ready::CqlOn(..))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegionEntry {
    pub name: String,
    pub router_url: String,
    pub admin_url: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StackState {
    pub world: World,
    /// In the order they start.
    pub processes: Vec<ProcessEntry>,
    pub regions: Vec<RegionEntry>,
    pub directory_url: String,
    /// Copies of a row in each datacenter, of a directory that is told of them.
    #[serde(default)]
    pub directory_replicas: BTreeMap<String, u8>,
    pub pepper_file: PathBuf,
    /// Present once the directory has been filled for the first time.
    pub service_key: Option<String>,
    pub operator_key: Option<String>,
    /// Not while a reset has emptied the directory and not filled it again.
    #[serde(default = "yes")]
    pub(crate) filled: bool,
    /// Everything started, once: what is missing since has died or was stopped.
    pub complete: bool,
    /// The command that starts the stack, or keeps it in the foreground. None: it runs on its own.
    pub keeper: Option<Identity>,
    /// Whoever started it last has said that it is whole: every process has answered, and it has been seeded.
    pub serves: bool,
}

const FILE: &str = "state.json";
/// Beside the pepper: the key that signs what the stack loads, and those whose policies decide in its cells.
const POLICY_KEY: &str = "policy-key";
pub(crate) const POLICY_KEYS: &str = "policy-keys";
/// And the keys of session tokens.
pub(crate) const MAC_KEY: &str = "mac-key";
/// Virtual nodes of a cell on its region's ring.
const WEIGHT: u32 = 128;

fn yes() -> bool {
    true
}

impl StackState {
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, StackError> {
        let path = folder.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StackError::State { path, cause: error.to_string() }),
        };
        let state = serde_json::from_slice(&text).map_err(|error| StackError::State { path, cause: error.to_string() });
        state.map(Some)
    }

    /// Written beside and renamed; it holds keys, so it is the owner's only.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), StackError> {
        let path = folder.join(FILE);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| StackError::State { path: path.clone(), cause: error.to_string() })?;
        let beside = folder.join("state.new");
        write_private(&beside, &text)?;
        std::fs::rename(&beside, &path).map_err(StackError::folder(&path))
    }

    /// Whether the directory has what a stack begins with.
    pub fn is_filled(&self) -> bool {
        self.filled && self.service_key.is_some()
    }

    /// The keys of session tokens, which every router and cell follows.
    pub fn mac_key_file(&self) -> PathBuf {
        self.pepper_file.with_file_name(MAC_KEY)
    }

    /// The key that signs the policies this stack loads.
    pub fn policy_key_file(&self) -> PathBuf {
        self.pepper_file.with_file_name(POLICY_KEY)
    }

    /// Whose policies decide in its cells.
    pub fn policy_keys_file(&self) -> PathBuf {
        self.pepper_file.with_file_name(POLICY_KEYS)
    }

    /// Whether its policies are signed: the file of keys is written last. Not of a stack from before they were.
    pub(crate) fn is_signed(&self) -> bool {
        self.policy_keys_file().exists()
    }

    /// Who holds this stack, in words; None if it is down, or what runs of it was left behind.
    pub(crate) fn held_by(&self) -> Option<String> {
        match (self.keeper, self.running()) {
            (Some(keeper), _) if keeper.is_alive() => Some(format!("kept by process {}", keeper.pid)),
            (Some(_), _) | (None, 0) => None,
            (None, running) => Some(format!("{running} processes")),
        }
    }

    pub(crate) fn numbers(&self, wanted: impl Fn(&ProcessEntry) -> bool) -> Vec<usize> {
        (0..self.processes.len()).filter(|n| wanted(&self.processes[*n])).collect()
    }

    pub fn running(&self) -> usize {
        self.running_names().len()
    }

    pub(crate) fn running_names(&self) -> HashSet<String> {
        let running = self.processes.iter().filter(|process| process.is_running());
        running.map(|process| process.name.clone()).collect()
    }

    /// Up, or on its way there: what runs of it is not what a killed command left behind.
    pub fn is_held(&self) -> bool {
        self.held_by().is_some()
    }

    /// Whether those run who are asked about the topology: the directory, and every router that was ever started.
    pub fn can_be_asked(&self) -> bool {
        let asked = |process: &&ProcessEntry| match process.role {
            Role::Directory => true,
            Role::Router => process.life.is_some(),
            _ => false,
        };
        self.processes.iter().filter(asked).all(ProcessEntry::is_running)
    }

    pub(crate) fn has_cell(&self, cell: &str) -> bool {
        self.processes.iter().any(|process| process.cell.as_deref() == Some(cell))
    }

    /// Where routers reach the processes of a cell: the data and the admin listener of each in turn.
    pub fn endpoints(&self, cell: &str) -> Vec<String> {
        let of_cell = |process: &&ProcessEntry| process.role == Role::Cell && process.cell.as_deref() == Some(cell);
        let processes = self.processes.iter().filter(of_cell);
        processes.flat_map(|process| [process.url.clone()].into_iter().chain(process.admin_url.clone())).collect()
    }

    /// Where callers reach a region, if it has a router.
    pub fn routers(&self, region: &str) -> Vec<String> {
        let routers = self.regions.iter().filter(|entry| entry.name == region && !self.world.single);
        routers.map(|entry| entry.router_url.clone()).collect()
    }

    /// The first topology of this world: every cell open, with the same weight.
    pub(crate) fn first_topology(&self) -> serde_json::Value {
        let cell = |shape: &CellShape| {
            serde_json::json!({
                "name": shape.name, "state": "open", "weight": WEIGHT, "shards": self.world.shards_of(shape),
                "incarnation": 1, "endpoints": self.endpoints(&shape.name),
            })
        };
        let region = |shape: &RegionShape| {
            serde_json::json!({
                "name": shape.name, "residency": shape.name, "routers": self.routers(&shape.name),
                "cells": shape.cells.iter().map(cell).collect::<Vec<_>>(),
            })
        };
        serde_json::json!({
            "revision": 1, "predecessor": 0, "plan": null, "witness": null,
            "default_region": self.regions.first().map(|region| &region.name),
            "regions": self.world.regions.iter().map(region).collect::<Vec<_>>(),
        })
    }

    /// The document of `cellctl status --json`.
    pub fn to_json(&self, folder: &Path) -> serde_json::Value {
        let running = self.running();
        let state = match running {
            0 => "down",
            n if n == self.processes.len() => "up",
            _ => "degraded",
        };
        let processes = self.processes.iter().map(|process| {
            serde_json::json!({
                "role": process.role.label(), "name": process.name, "region": process.region, "cell": process.cell,
                "pid": process.life.map(|life| life.pid), "url": process.url, "admin_url": process.admin_url,
                "log": process.launch.log, "state": if process.is_running() { "running" } else { "dead" },
            })
        });
        let regions = self.regions.iter().map(|region| {
            serde_json::json!({
                "name": region.name, "router_url": region.router_url, "admin_url": region.admin_url, "grpc_url": null,
            })
        });
        serde_json::json!({
            "stack": folder, "state": state, "clock": self.world.clock,
            "service_key": self.service_key, "operator_key": self.operator_key,
            "global_url": self.regions.first().map(|region| &region.router_url),
            "regions": regions.collect::<Vec<_>>(), "processes": processes.collect::<Vec<_>>(),
        })
    }
}

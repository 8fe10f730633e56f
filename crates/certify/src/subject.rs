//! What is certified: a component on the host, or in tests a policy compiled natively.

use crate::promise::Promise;
use cellar_policy_host::{
    ConfigureError, ENGINE, Fault, GateError, Host, HostError, HostLimits, Outcome, Policy, Request, Stores,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// What the certifier reads of a policy's metadata.
#[derive(Clone, Debug, Deserialize)]
pub struct About {
    pub name: String,
    pub version: String,
    pub unit: String,
    pub state_schema: u32,
    pub settings_schema: Value,
    #[serde(default)]
    pub promises: Vec<Promise>,
    /// Properties by name that are not meant to hold.
    #[serde(default)]
    pub waives: Vec<String>,
}

/// A policy that can be asked.
pub trait Subject {
    fn about(&self) -> &About;

    /// Parameters, or what is wrong with the settings.
    fn configure(&self, settings: &Value) -> Result<Vec<u8>, String>;

    /// One that remembers nothing.
    fn instance(&self) -> Box<dyn Instance>;

    /// The most that any call to any instance has burnt so far; 0 where nothing counts it.
    fn fuel_most(&self) -> u64 {
        0
    }

    /// What compiling these settings burns; 0 where nothing counts it.
    fn configure_fuel(&self, _settings: &Value) -> u64 {
        0
    }

    /// What it runs on. None: nothing of that kind.
    fn engine(&self) -> Option<Engine> {
        None
    }
}

/// What a component was run by, as far as its fuel depends on it or is held against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// Name and version.
    pub name: String,
    /// Of one `decide` or `migrate`.
    pub decide_fuel: u64,
    /// Of one `configure`.
    pub configure_fuel: u64,
    pub memory_max_bytes: usize,
    pub state_max_bytes: usize,
}

/// One live instance.
pub trait Instance {
    /// Checked as the host checks it before anybody acts on it.
    fn decide(&mut self, parameters: &[u8], state: &[u8], request: &Request<'_>) -> Result<Outcome, Fault>;

    fn migrate(&mut self, from_schema: u32, parameters: &[u8], state: &[u8]) -> Result<Vec<u8>, Fault>;

    /// What the last call burnt; 0 where nothing counts it.
    fn fuel(&self) -> u64;
}

/// A component, in a host of its own.
pub struct Component {
    host: Host,
    policy: Arc<Policy>,
    about: About,
    fuel_most: Rc<Cell<u64>>,
}

#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("the host does not let it in")]
    Gate(#[from] GateError),
    #[error("its metadata cannot be read: {0}")]
    Metadata(String),
}

impl Component {
    pub fn load(artifact: &[u8]) -> Result<Self, ComponentError> {
        // A counterexample is found and made shorter by many faults, one after another: no breaker.
        let host = Host::new(HostLimits { breaker_faults: u32::MAX, ..HostLimits::default() })?;
        let policy = host.load(artifact)?;
        let about =
            serde_json::from_str(policy.metadata()).map_err(|error| ComponentError::Metadata(error.to_string()))?;
        Ok(Self { host, policy, about, fuel_most: Rc::default() })
    }

    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }
}

impl Subject for Component {
    fn about(&self) -> &About {
        &self.about
    }

    fn configure(&self, settings: &Value) -> Result<Vec<u8>, String> {
        self.policy.configure(&settings.to_string()).map_err(|error: ConfigureError| error.to_string())
    }

    fn instance(&self) -> Box<dyn Instance> {
        let (stores, fuel_most) = (Stores::new(&self.host), self.fuel_most.clone());
        Box::new(OfComponent { stores, policy: self.policy.clone(), fuel_most })
    }

    fn fuel_most(&self) -> u64 {
        self.fuel_most.get()
    }

    fn configure_fuel(&self, settings: &Value) -> u64 {
        self.policy.configure_counted(&settings.to_string()).1
    }

    fn engine(&self) -> Option<Engine> {
        let HostLimits { decide_fuel, configure_fuel, memory_max_bytes, state_max_bytes, .. } = HostLimits::default();
        Some(Engine { name: ENGINE.into(), decide_fuel, configure_fuel, memory_max_bytes, state_max_bytes })
    }
}

struct OfComponent {
    stores: Stores,
    policy: Arc<Policy>,
    fuel_most: Rc<Cell<u64>>,
}

impl Instance for OfComponent {
    fn decide(&mut self, parameters: &[u8], state: &[u8], request: &Request<'_>) -> Result<Outcome, Fault> {
        let outcome = self.stores.decide(&self.policy, parameters, state, request);
        self.fuel_most.set(self.fuel_most.get().max(self.fuel()));
        outcome
    }

    fn migrate(&mut self, from_schema: u32, parameters: &[u8], state: &[u8]) -> Result<Vec<u8>, Fault> {
        self.stores.migrate(&self.policy, from_schema, parameters, state)
    }

    fn fuel(&self) -> u64 {
        self.stores.fuel_burnt(&self.policy)
    }
}

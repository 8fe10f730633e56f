//! One version of one policy, compiled.

use crate::breaker::{Breaker, BreakerLimits};
use crate::describe::Description;
use crate::digest::Digest;
use crate::fault::Fault;
use crate::fuel::FuelCounts;
use crate::gate::GateError;
use crate::instance::{self, Configured, Exports, Grant};
use crate::limits::HostLimits;
use cellar_model::SettingProblem;
use std::fmt;
use std::sync::Arc;
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

/// Made by `Host::load`, shared by all workers. It decides through a worker's `Stores`.
pub struct Policy {
    pub(crate) version: Arc<Version>,
    pub(crate) breaker: Breaker,
}

/// What every use of an artifact shares.
pub(crate) struct Version {
    digest: Digest,
    metadata: String,
    description: Description,
    pub(crate) limits: HostLimits,
    pub(crate) linked: InstancePre<Grant>,
    pub(crate) exports: Exports,
    pub(crate) fuel: FuelCounts,
}

/// Why settings gave no parameters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigureError {
    /// All that is wrong with them, by JSON pointer.
    #[error("the settings are not fit: {}", .0.iter().map(|p| format!("{}: {}", p.pointer, p.message)).collect::<Vec<_>>().join("; "))]
    Refused(Vec<SettingProblem>),
    #[error("the settings have {bytes} bytes; at most {max} are read")]
    TooLarge { bytes: usize, max: usize },
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Policy {
    pub(crate) fn compile(
        engine: &Engine,
        limits: HostLimits,
        digest: Digest,
        component: &[u8],
    ) -> Result<Self, GateError> {
        Self::link(engine, limits, digest, &machine_code(engine, component)?)
    }

    pub(crate) fn link(
        engine: &Engine,
        limits: HostLimits,
        digest: Digest,
        component: &Component,
    ) -> Result<Self, GateError> {
        let exports = Exports::of(component)?;
        // An empty linker: what the gate may have missed cannot be satisfied here.
        let linked = Linker::new(engine).instantiate_pre(component).map_err(refused)?;
        let json = instance::describe(&linked, &exports, &limits)?;
        let description = Description::from_json(&json).map_err(|what| GateError::Describe { what })?;
        let fuel = FuelCounts::default();
        Ok(Self::of(Arc::new(Version { digest, metadata: json, description, limits, linked, exports, fuel })))
    }

    fn of(version: Arc<Version>) -> Self {
        let limits = &version.limits;
        let breaker = Breaker::new(BreakerLimits {
            faults: limits.breaker_faults,
            refusals: limits.breaker_refusals,
            user_faults: limits.user_faults,
            user_refusals: limits.user_refusals,
        });
        Self { version, breaker }
    }

    /// The same version with a breaker of its own: settings that make it fail in one tier do not keep it from
    /// being asked in another.
    pub fn apart(&self) -> Arc<Policy> {
        Arc::new(Self::of(self.version.clone()))
    }

    /// It has failed so often in a row that it is hardly asked any more.
    pub fn is_left_alone(&self) -> bool {
        self.breaker.is_open()
    }

    pub fn digest(&self) -> Digest {
        self.version.digest
    }

    /// What the calls of workers that serve have burnt.
    pub fn fuel(&self) -> &FuelCounts {
        &self.version.fuel
    }

    /// The metadata `describe` returned, as it came.
    pub fn metadata(&self) -> &str {
        &self.version.metadata
    }

    pub fn description(&self) -> &Description {
        &self.version.description
    }

    /// Compiles settings, in an instance of its own: loading a tier leaves no trace in a worker.
    pub fn configure(&self, settings_json: &str) -> Result<Vec<u8>, ConfigureError> {
        self.configure_counted(settings_json).0
    }

    /// The same, with the fuel it burnt.
    pub fn configure_counted(&self, settings_json: &str) -> (Result<Vec<u8>, ConfigureError>, u64) {
        let version = &self.version;
        let (bytes, max) = (settings_json.len(), version.limits.parameters_max_bytes);
        if bytes > max {
            return (Err(ConfigureError::TooLarge { bytes, max }), 0);
        }
        let (answer, fuel) = instance::configure(&version.linked, &version.exports, &version.limits, settings_json);
        (answer.map_err(ConfigureError::from).and_then(|answer| self.parameters(answer)), fuel)
    }

    fn parameters(&self, answer: Configured) -> Result<Vec<u8>, ConfigureError> {
        let max = self.version.limits.parameters_max_bytes;
        match answer {
            Ok(parameters) if parameters.len() > max => {
                Err(Fault::BadOutcome { what: "parameters that are too large" }.into())
            }
            Ok(parameters) => Ok(parameters),
            Err(problems) => Err(ConfigureError::Refused(problems)),
        }
    }
}

pub(crate) fn machine_code(engine: &Engine, component: &[u8]) -> Result<Component, GateError> {
    Component::new(engine, component).map_err(refused)
}

pub(crate) fn refused(error: wasmtime::Error) -> GateError {
    GateError::DoesNotCompile { what: format!("{error:#}") }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version { description, digest, .. } = &*self.version;
        write!(f, "{:?} {} {digest}", description.name, description.version)
    }
}

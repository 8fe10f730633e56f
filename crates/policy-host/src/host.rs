//! The engine every policy of a process is compiled by.

use crate::digest::Digest;
use crate::gate::{self, GateError};
use crate::limits::HostLimits;
use crate::policy::{self, Policy};
use std::sync::Arc;
use wasmtime::component::Component;
use wasmtime::{Config, Engine};

/// What compiles and runs policies. What a call burns may be another number in another version, so who compares
/// fuel has to know it.
pub const ENGINE: &str = "wasmtime 48.0.8";

/// Compiles policies. Cheap to clone.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    engine: Engine,
    limits: HostLimits,
}

/// A component as machine code.
///
/// **Invariant:** made by a host of this process and kept in its memory. Machine code is believed as it is, so one from a
/// file would have to be authenticated first, and there is no way to make one from bytes.
pub struct Precompiled {
    digest: Digest,
    code: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine cannot start here: {0}")]
pub struct HostError(String);

impl Host {
    pub fn new(limits: HostLimits) -> Result<Self, HostError> {
        let engine = Engine::new(&config(&limits)).map_err(|e| HostError(format!("{e:#}")))?;
        Ok(Self(Arc::new(Inner { engine, limits })))
    }

    /// Checks, compiles and asks a component what it is. Some 20 ms of work: not for a shard's loop.
    pub fn load(&self, component: &[u8]) -> Result<Arc<Policy>, GateError> {
        gate::check(component, &self.0.limits)?;
        let policy = Policy::compile(&self.0.engine, self.0.limits, Digest::of(component), component)?;
        Ok(Arc::new(policy))
    }

    /// Checks and compiles a component, to be loaded again without its compiler.
    pub fn precompile(&self, component: &[u8]) -> Result<Precompiled, GateError> {
        gate::check(component, &self.0.limits)?;
        let code = policy::machine_code(&self.0.engine, component)?.serialize().map_err(policy::refused)?;
        Ok(Precompiled { digest: Digest::of(component), code })
    }

    /// The same policy as of `load`, without compiling.
    pub fn load_precompiled(&self, precompiled: &Precompiled) -> Result<Arc<Policy>, GateError> {
        let Precompiled { digest, code } = precompiled;
        #[allow(
            unsafe_code,
            reason = "machine code that a `Host` of this process has made, and nobody can have changed"
        )]
        // SAFETY: only `precompile` makes a `Precompiled`, and nothing changes one or reads one from elsewhere.
        let component = unsafe { Component::deserialize(&self.0.engine, code) }.map_err(policy::refused)?;
        Ok(Arc::new(Policy::link(&self.0.engine, self.0.limits, *digest, &component)?))
    }

    pub(crate) fn limits(&self) -> &HostLimits {
        &self.0.limits
    }
}

/// Nothing a policy could tell two machines apart by, and nothing it does not need: the same call
/// gives the same outcome and burns the same fuel everywhere.
fn config(limits: &HostLimits) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .cranelift_nan_canonicalization(true)
        .wasm_simd(false)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .max_wasm_stack(limits.stack_max_bytes)
        // Machinery for asynchronous components: it would cost each call half a microsecond.
        .concurrency_support(false)
        // A trap's kind is reported; its frames would be read by nobody and make traps slow.
        .wasm_backtrace_max_frames(None);
    config
}

#[cfg(test)]
mod tests {
    use super::ENGINE;

    #[test]
    fn the_engine_is_named_as_it_is_built() {
        let lock = include_str!("../../../Cargo.lock");
        let (name, version) = ENGINE.split_once(' ').unwrap();
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n")), "{ENGINE}");
    }
}

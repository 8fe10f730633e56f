//! One live instance of a policy, in a store of its own.

use crate::call::{Outcome, Request, WitOutcome, WitProblem, WitRequest};
use crate::fault::Fault;
use crate::gate::GateError;
use crate::limits::HostLimits;
use crate::outcome;
use crate::policy::Version;
use cellar_model::SettingProblem;
use std::sync::Arc;
use wasmtime::component::{Component, ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower, TypedFunc};
use wasmtime::{Store, StoreLimits, StoreLimitsBuilder};

/// What a store holds besides the policy's own memory: the bounds of that memory.
pub(crate) type Grant = StoreLimits;

const INTERFACE: &str = "cellar:policy/policy@1.0.0";

/// Bytes the host copies out of a policy in one call: a reply that names the same megabyte a
/// thousand times stops here.
const REPLY_MAX_BYTES: usize = 4 << 20;

/// Buffers that lend their bytes to a call without a copy on the heap: a typed function owns its
/// parameters, and of an `Arc` it can own a share.
type Shared = Arc<Vec<u8>>;
type Decide = TypedFunc<(Shared, Shared, WitRequest), (WitOutcome,)>;
type Configure = TypedFunc<(&'static str,), ConfigureAnswer>;
type ConfigureAnswer = (Result<Vec<u8>, Vec<WitProblem>>,);
/// Parameters, or all that is wrong with the settings.
pub(crate) type Configured = Result<Vec<u8>, Vec<SettingProblem>>;
type Migrate = TypedFunc<(u32, Shared, Shared), (Result<Vec<u8>, String>,)>;

/// Where the component's functions are, looked up once a version.
pub(crate) struct Exports {
    describe: ComponentExportIndex,
    configure: ComponentExportIndex,
    decide: ComponentExportIndex,
    migrate: ComponentExportIndex,
}

impl Exports {
    pub(crate) fn of(component: &Component) -> Result<Self, GateError> {
        let missing = |name: &str| GateError::Interface { what: format!("there is no {name}") };
        let interface = component.get_export_index(None, INTERFACE).ok_or_else(|| missing(INTERFACE))?;
        let function = |name: &str| component.get_export_index(Some(&interface), name).ok_or_else(|| missing(name));
        Ok(Self {
            describe: function("describe")?,
            configure: function("configure")?,
            decide: function("decide")?,
            migrate: function("migrate")?,
        })
    }
}

pub(crate) struct Instance {
    store: Store<Grant>,
    decide: Decide,
    migrate: Migrate,
    calls: u64,
    parameters: Shared,
    state: Shared,
}

impl Instance {
    pub(crate) fn new(version: &Version) -> Result<Self, Fault> {
        let failed = |e: wasmtime::Error| Fault::NoInstance { what: format!("{e:#}") };
        let mut store = store(&version.linked, &version.limits).map_err(failed)?;
        let instance = version.linked.instantiate(&mut store).map_err(failed)?;
        let decide = instance.get_typed_func(&mut store, version.exports.decide).map_err(failed)?;
        let migrate = instance.get_typed_func(&mut store, version.exports.migrate).map_err(failed)?;
        Ok(Self { store, decide, migrate, calls: 0, parameters: Shared::default(), state: Shared::default() })
    }

    /// Whether it has served long enough.
    pub(crate) fn worn(&self, limits: &HostLimits) -> bool {
        self.calls >= limits.recycle_after_calls
    }

    pub(crate) fn decide(
        &mut self,
        limits: &HostLimits,
        parameters: &[u8],
        state: &[u8],
        request: &Request<'_>,
    ) -> Result<Outcome, Fault> {
        self.prepare(limits, parameters, state)?;
        let arguments = (self.parameters.clone(), self.state.clone(), WitRequest::from(request));
        let (answer,) = self.decide.call(&mut self.store, arguments).map_err(|e| Fault::of_call(&e))?;
        outcome::check(answer.into(), request, limits.state_max_bytes)
    }

    /// What the last call burnt.
    pub(crate) fn fuel_burnt(&self, limits: &HostLimits) -> u64 {
        limits.decide_fuel.saturating_sub(self.store.get_fuel().unwrap_or(0))
    }

    pub(crate) fn migrate(
        &mut self,
        limits: &HostLimits,
        from_schema: u32,
        parameters: &[u8],
        state: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        self.prepare(limits, parameters, state)?;
        let arguments = (from_schema, self.parameters.clone(), self.state.clone());
        let (migrated,) = self.migrate.call(&mut self.store, arguments).map_err(|e| Fault::of_call(&e))?;
        match migrated {
            Ok(state) if state.is_empty() || state.len() > limits.state_max_bytes => {
                Err(Fault::BadOutcome { what: "a migrated state of no fit size" })
            }
            Ok(state) => Ok(state),
            Err(message) => Err(Fault::NotMigrated { from_schema, message }),
        }
    }

    fn prepare(&mut self, limits: &HostLimits, parameters: &[u8], state: &[u8]) -> Result<(), Fault> {
        self.calls += 1;
        fill(&mut self.parameters, parameters);
        fill(&mut self.state, state);
        self.store.set_fuel(limits.decide_fuel).map_err(|e| Fault::of_call(&e))
    }
}

/// Between calls the instance holds the only share, so this allocates only when the bytes outgrow
/// the buffer.
fn fill(buffer: &mut Shared, bytes: &[u8]) {
    let buffer = Arc::make_mut(buffer);
    buffer.clear();
    buffer.extend_from_slice(bytes);
}

fn store(linked: &InstancePre<Grant>, limits: &HostLimits) -> wasmtime::Result<Store<Grant>> {
    let grant = StoreLimitsBuilder::new()
        .memory_size(limits.memory_max_bytes)
        .table_elements(limits.table_max_elements)
        .memories(1)
        .build();
    let mut store = Store::new(linked.engine(), grant);
    store.limiter(|grant| grant);
    store.set_hostcall_fuel(REPLY_MAX_BYTES);
    store.set_fuel(limits.decide_fuel)?;
    Ok(store)
}

/// Asks a fresh instance once, with the fuel of a load, and drops it. Beside the answer stands what it burnt.
fn once<P, R>(
    linked: &InstancePre<Grant>,
    limits: &HostLimits,
    function: ComponentExportIndex,
    arguments: P,
) -> (wasmtime::Result<R>, u64)
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    let mut store = match store(linked, limits) {
        Ok(store) => store,
        Err(error) => return (Err(error), 0),
    };
    let ask = || {
        store.set_fuel(limits.configure_fuel)?;
        let instance = linked.instantiate(&mut store)?;
        instance.get_typed_func::<P, R>(&mut store, function)?.call(&mut store, arguments)
    };
    let answer = ask();
    (answer, limits.configure_fuel.saturating_sub(store.get_fuel().unwrap_or(0)))
}

/// Also checks that all four functions have the interface's types.
pub(crate) fn describe(
    linked: &InstancePre<Grant>,
    exports: &Exports,
    limits: &HostLimits,
) -> Result<String, GateError> {
    check_types(linked, exports, limits).map_err(|e| GateError::Interface { what: format!("{e:#}") })?;
    let (answer, _): (wasmtime::Result<(String,)>, u64) = once(linked, limits, exports.describe, ());
    let (json,) = answer.map_err(|e| GateError::Describe { what: format!("{e:#}") })?;
    Ok(json)
}

fn check_types(linked: &InstancePre<Grant>, exports: &Exports, limits: &HostLimits) -> wasmtime::Result<()> {
    let mut store = store(linked, limits)?;
    store.set_fuel(limits.configure_fuel)?;
    let instance = linked.instantiate(&mut store)?;
    let _: TypedFunc<(), (String,)> = instance.get_typed_func(&mut store, exports.describe)?;
    let _: Configure = instance.get_typed_func(&mut store, exports.configure)?;
    let _: Decide = instance.get_typed_func(&mut store, exports.decide)?;
    let _: Migrate = instance.get_typed_func(&mut store, exports.migrate)?;
    Ok(())
}

pub(crate) fn configure(
    linked: &InstancePre<Grant>,
    exports: &Exports,
    limits: &HostLimits,
    settings_json: &str,
) -> (Result<Configured, Fault>, u64) {
    let (answer, fuel): (wasmtime::Result<ConfigureAnswer>, u64) =
        once(linked, limits, exports.configure, (settings_json,));
    let problem = |p: WitProblem| SettingProblem { pointer: p.pointer, message: p.message };
    let said = |(answer,): ConfigureAnswer| answer.map_err(|all| all.into_iter().map(problem).collect());
    (answer.map(said).map_err(|e| Fault::of_call(&e)), fuel)
}

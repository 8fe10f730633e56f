//! A policy in the text format, of which each test replaces a part.

use cellar_policy_host::{Host, HostLimits, Operation, Policy, Request, Stores};
use std::sync::Arc;

/// Where the scratch module writes what its functions return.
const OUTCOME_AT: u32 = 1024;

/// What the functions of the core module do. The defaults make an honest policy that admits
/// everything and writes a state of one byte.
pub(crate) struct Parts {
    pub(crate) memory: String,
    /// Runs before `decide` answers; the state's length is in local 3, the cost in local 6.
    pub(crate) decide: String,
    pub(crate) outcome: Outcome,
    pub(crate) description: String,
    /// Declarations before the core module, in the component.
    pub(crate) prelude: String,
    /// Run before the others answer.
    pub(crate) describe: String,
    pub(crate) configure: String,
    /// The version of the interface, and what its `migrate` returns.
    pub(crate) interface: String,
    pub(crate) migrate_result: String,
}

/// The answer's fields as they are laid out in memory.
pub(crate) struct Outcome {
    pub(crate) admitted: u32,
    pub(crate) state: Option<(u32, u32)>,
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    pub(crate) retry_after_us: u64,
    pub(crate) reset_after_us: u64,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            memory: "(memory (export \"memory\") 1)".to_owned(),
            decide: String::new(),
            outcome: Outcome {
                admitted: 1,
                state: Some((64, 1)),
                limit: 10,
                remaining: 9,
                retry_after_us: 0,
                reset_after_us: 1,
            },
            description: concat!(
                r#"{"name":"scratch","version":"1.0.0","unit":"requests","#,
                r#""state_schema":1,"settings_schema":{}}"#
            )
            .to_owned(),
            prelude: String::new(),
            describe: String::new(),
            configure: String::new(),
            interface: "1.0.0".to_owned(),
            migrate_result: "(result (result (list u8) (error string)))".to_owned(),
        }
    }
}

impl Parts {
    pub(crate) fn decide(decide: &str) -> Vec<u8> {
        Self { decide: decide.to_owned(), ..Self::default() }.bytes()
    }

    pub(crate) fn outcome(change: impl FnOnce(&mut Outcome)) -> Vec<u8> {
        let mut parts = Self::default();
        change(&mut parts.outcome);
        parts.bytes()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        wat::parse_str(self.text()).unwrap()
    }

    fn text(&self) -> String {
        let Self { memory, decide, prelude, describe, configure, interface, migrate_result, .. } = self;
        let description = self.description.replace('"', "\\\"");
        let (length, stores) = (self.description.len(), self.outcome.stores());
        format!(
            r#"(component
  {prelude}
  (core module $m
    {memory}
    (data (i32.const 2048) "{description}")
    (data (i32.const 3072) "\00\08\00\00")
    (global $calls (mut i32) (i32.const 0))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 4096)
    (func (export "describe") (result i32)
      {describe}
      (i32.store (i32.const 3072) (i32.const 2048))
      (i32.store (i32.const 3076) (i32.const {length}))
      i32.const 3072)
    (func (export "configure") (param i32 i32) (result i32)
      {configure}
      (i32.store (i32.const 3072) (i32.const 0))
      (i32.store (i32.const 3076) (i32.const 64))
      (i32.store (i32.const 3080) (i32.const 1))
      i32.const 3072)
    (func (export "decide")
      (param i32 i32 i32 i32 i32 i64 i64 i64 i64 i32 i32) (result i32)
      {decide}
      {stores}
      i32.const {OUTCOME_AT})
    (func (export "migrate") (param i32 i32 i32 i32 i32) (result i32)
      (i32.store (i32.const 3072) (i32.const 1))
      (i32.store (i32.const 3076) (i32.const 2048))
      (i32.store (i32.const 3080) (i32.const 4))
      i32.const 3072))
  (core instance $i (instantiate $m))
  (type $operation' (enum "consume" "reserve" "settle" "peek"))
  (type $attribute' (record (field "name" string) (field "value" string)))
  (type $request' (record (field "operation" $operation') (field "now" u64) (field "cost" u64)
    (field "held" u64) (field "held-at" u64) (field "attributes" (list $attribute'))))
  (type $outcome' (record (field "admitted" bool) (field "state" (option (list u8))) (field "limit" u64)
    (field "remaining" u64) (field "retry-after" u64) (field "reset-after" u64) (field "note" u32)))
  (type $problem' (record (field "pointer" string) (field "message" string)))
  (instance $types
    (export "operation" (type $operation')) (export "attribute" (type $attribute'))
    (export "request" (type $request')) (export "outcome" (type $outcome')) (export "problem" (type $problem')))
  (export $exported "cellar:policy/types@{interface}" (instance $types))
  (alias export $exported "request" (type $request))
  (alias export $exported "outcome" (type $outcome))
  (alias export $exported "problem" (type $problem))
  (func $describe (result string)
    (canon lift (core func $i "describe") (memory (core memory $i "memory"))))
  (func $configure (param "settings" string) (result (result (list u8) (error (list $problem))))
    (canon lift (core func $i "configure") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func $decide (param "parameters" (list u8)) (param "state" (list u8)) (param "request" $request) (result $outcome)
    (canon lift (core func $i "decide") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (func $migrate (param "from-schema" u32) (param "parameters" (list u8)) (param "state" (list u8))
      {migrate_result}
    (canon lift (core func $i "migrate") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (instance $policy
    (export "describe" (func $describe)) (export "configure" (func $configure))
    (export "decide" (func $decide)) (export "migrate" (func $migrate)))
  (export "cellar:policy/policy@{interface}" (instance $policy)))"#
        )
    }
}

impl Outcome {
    /// The fields' places follow from their sizes: bool, option of a list, four u64, u32.
    fn stores(&self) -> String {
        let at = OUTCOME_AT;
        let (some, state_at, state_len) = match self.state {
            Some((at, len)) => (1, at, len),
            None => (0, 0, 0),
        };
        let words = [(0, self.admitted), (4, some), (8, state_at), (12, state_len), (48, 0)];
        let longs = [(16, self.limit), (24, self.remaining), (32, self.retry_after_us), (40, self.reset_after_us)];
        let words = words.map(|(n, v)| format!("(i32.store (i32.const {}) (i32.const {v}))", at + n));
        let longs = longs.map(|(n, v)| format!("(i64.store (i32.const {}) (i64.const {v}))", at + n));
        format!("{} {}", words.join(" "), longs.join(" "))
    }
}

pub(crate) fn host() -> Host {
    Host::new(HostLimits::default()).unwrap()
}

pub(crate) fn load(component: &[u8]) -> (Stores, Arc<Policy>) {
    let host = host();
    let policy = host.load(component).unwrap();
    (Stores::new(&host), policy)
}

pub(crate) const CONSUME: Request<'static> =
    Request { operation: Operation::Consume, now_us: 1, cost: 1, held: 0, held_at_us: 0, attributes: &[] };

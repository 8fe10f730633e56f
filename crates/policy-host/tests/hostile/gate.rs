//! What is refused before it is compiled, or before it is ever asked.

use crate::component::{CONSUME, Parts, host, load};
use cellar_policy_host::{GateError, HostLimits};

fn refusal(component: &[u8]) -> GateError {
    host().load(component).expect_err("it was let in")
}

#[test]
fn the_honest_scratch_policy_is_let_in_and_answers() {
    let (mut stores, policy) = load(&Parts::default().bytes());
    assert_eq!(policy.description().name.as_str(), "scratch");
    assert_eq!(policy.configure("{}"), Ok(vec![0]));
    let outcome = stores.decide(&policy, b"p", b"", &CONSUME).unwrap();
    assert_eq!((outcome.admitted, outcome.limit, outcome.remaining), (true, 10, 9));
    assert_eq!(outcome.state, Some(vec![0]));
}

#[test]
fn an_import_is_refused_by_name() {
    let prelude = r#"(import "wasi:clocks/wall-clock@0.2.0" (instance))"#.to_owned();
    let error = refusal(&Parts { prelude, ..Parts::default() }.bytes());
    assert_eq!(error, GateError::Imports { name: "wasi:clocks/wall-clock@0.2.0".to_owned() });
}

#[test]
fn two_core_modules_are_refused() {
    let prelude = "(core module $another)".to_owned();
    let error = refusal(&Parts { prelude, ..Parts::default() }.bytes());
    assert_eq!(error, GateError::CoreModules { found: 2 });
    // … also when one hides in a component within.
    let prelude = "(component (component (core module)))".to_owned();
    let error = refusal(&Parts { prelude, ..Parts::default() }.bytes());
    assert_eq!(error, GateError::CoreModules { found: 2 });
}

#[test]
fn a_huge_or_odd_memory_is_refused() {
    for memory in ["17", "65536", "1 2 shared", "i64 1"] {
        let memory = format!("(memory (export \"memory\") {memory})");
        let error = refusal(&Parts { memory: memory.clone(), ..Parts::default() }.bytes());
        assert!(matches!(error, GateError::Memory { .. }), "{memory}: {error}");
    }
    let memory = "(memory (export \"memory\") 1) (memory 1)".to_owned();
    let error = refusal(&Parts { memory, ..Parts::default() }.bytes());
    assert!(matches!(error, GateError::Memory { .. }), "{error}");
}

#[test]
fn an_oversize_component_is_refused_unread() {
    let max = HostLimits::default().component_max_bytes;
    let error = refusal(&vec![0; max + 1]);
    assert_eq!(error, GateError::TooLarge { bytes: max + 1, max });
}

#[test]
fn what_is_no_component_is_refused() {
    for bytes in [&b""[..], b"\0asm", b"MZ", &wat::parse_str("(module)").unwrap()] {
        assert!(matches!(refusal(bytes), GateError::NotAComponent { .. }));
    }
    let mut cut = Parts::default().bytes();
    cut.truncate(cut.len() / 2);
    assert!(matches!(refusal(&cut), GateError::NotAComponent { .. }));
}

#[test]
fn simd_is_refused_by_the_compiler() {
    let component = Parts::decide("(drop (i32x4.extract_lane 0 (v128.const i32x4 1 2 3 4)))");
    assert!(matches!(refusal(&component), GateError::DoesNotCompile { .. }));
}

#[test]
fn another_interface_is_refused() {
    let other = wat::parse_str("(component (core module))").unwrap();
    assert!(matches!(refusal(&other), GateError::Interface { .. }));
}

#[test]
fn a_description_that_cannot_be_read_is_refused() {
    let good = Parts::default().description;
    for bad in ["{", &good.replace("scratch", "S c"), &good.replace("1.0.0", "one")] {
        let error = refusal(&Parts { description: bad.to_owned(), ..Parts::default() }.bytes());
        assert!(matches!(error, GateError::Describe { .. }), "{error}");
    }
}

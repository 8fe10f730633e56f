//! What is refused before it is compiled, or before it is ever asked.

use crate::component::{CONSUME, Parts, host, load};
use cellar_policy_host::{ConfigureError, Fault, GateError, HostLimits};

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
fn another_version_of_the_interface_is_refused_by_name() {
    let component = Parts { interface: "2.0.0".to_owned(), ..Parts::default() };
    match refusal(&component.bytes()) {
        GateError::Interface { what } => assert!(what.contains("cellar:policy/policy@1.0.0"), "{what}"),
        other => panic!("{other}"),
    }
}

#[test]
fn a_function_of_the_interface_with_another_type_is_refused() {
    let component = Parts { migrate_result: "(result (list u8))".to_owned(), ..Parts::default() };
    assert!(matches!(refusal(&component.bytes()), GateError::Interface { .. }));
}

#[test]
fn what_runs_before_it_is_asked_anything_is_bounded_too() {
    // A start function runs with every new instance; a table is memory that the gate does not see.
    for module in ["(func $run (loop $l (br $l))) (start $run)", "(table 100000000 funcref)"] {
        let memory = format!("{} {module}", Parts::default().memory);
        let error = refusal(&Parts { memory, ..Parts::default() }.bytes());
        assert!(matches!(error, GateError::Interface { .. }), "{module}: {error}");
    }
}

#[test]
fn a_description_or_settings_that_never_come_to_an_end_are_refused() {
    let parts = Parts { describe: "(loop $l (br $l))".to_owned(), ..Parts::default() };
    assert!(matches!(refusal(&parts.bytes()), GateError::Describe { .. }));
    let parts = Parts { configure: "(loop $l (br $l))".to_owned(), ..Parts::default() };
    let policy = host().load(&parts.bytes()).unwrap();
    assert_eq!(policy.configure("{}"), Err(ConfigureError::Fault(Fault::OutOfFuel)));
}

/// Each took the compiler from seconds to minutes, or a gigabyte, for a megabyte of code or much less.
#[test]
fn code_that_would_keep_the_compiler_busy_is_refused_unseen() {
    let nested = "loop ".repeat(100) + &"local.get 0 br_if 0 end ".repeat(100);
    let choices = "local.get 0 if local.get 0 local.set 0 end ".repeat(5_000);
    let jumps = format!("block local.get 0 br_table {} 0 end", "0 ".repeat(60_000));
    let long = format!("(func (param i32) {})", "local.get 0 drop ".repeat(20_000));
    let hostile = [
        (format!("(func (param i32) {nested})"), "loops in each other"),
        (format!("(func (param i32) (local {}) {choices})", "i32 ".repeat(1_000)), "variables over its branches"),
        (format!("(func (param i32) (local {}) {jumps})", "i32 ".repeat(100)), "variables over its branches"),
        (format!("(func (param{}))", " i32".repeat(65)), "65 values"),
        (format!("(func (param i32) {})", "local.get 0 drop ".repeat(50_000)), "a function of"),
        ("(func)".repeat(5_000), "functions"),
        (long.repeat(20), "more code"),
    ];
    for (function, expected) in hostile {
        let memory = format!("{} {function}", Parts::default().memory);
        match refusal(&Parts { memory, ..Parts::default() }.bytes()) {
            GateError::Effort { what, .. } => assert!(what.contains(expected), "{what}"),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_description_that_cannot_be_read_is_refused() {
    let good = Parts::default().description;
    for bad in ["{", &good.replace("scratch", "S c"), &good.replace("1.0.0", "one")] {
        let error = refusal(&Parts { description: bad.to_owned(), ..Parts::default() }.bytes());
        assert!(matches!(error, GateError::Describe { .. }), "{error}");
    }
}

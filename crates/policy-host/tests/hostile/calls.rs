//! What is stopped at the call.

use crate::component::{CONSUME, Outcome, Parts, load};
use cellar_policy_host::{Fault, Host, HostLimits, Request, Stores};

/// Does harm when asked for 7 and is honest else.
fn at_seven(harm: &str) -> Vec<u8> {
    Parts::decide(&format!("(if (i64.eq (local.get 6) (i64.const 7)) (then {harm}))"))
}

const SEVEN: Request<'static> = Request { cost: 7, ..CONSUME };

#[test]
fn a_trap_does_not_disturb_the_next_call() {
    let (mut stores, policy) = load(&at_seven("unreachable"));
    let honest = stores.decide(&policy, b"p", b"", &CONSUME);
    for _ in 0..3 {
        let fault = stores.decide(&policy, b"p", b"", &SEVEN).unwrap_err();
        assert!(matches!(fault, Fault::Trapped { .. }), "{fault}");
        assert_eq!(fault.kind(), "trapped");
        assert_eq!(stores.decide(&policy, b"p", b"", &CONSUME), honest);
    }
}

#[test]
fn an_endless_loop_runs_out_of_fuel() {
    let (mut stores, policy) = load(&at_seven("(loop $l (br $l))"));
    assert_eq!(stores.decide(&policy, b"p", b"", &SEVEN), Err(Fault::OutOfFuel));
    assert!(stores.decide(&policy, b"p", b"", &CONSUME).is_ok());
}

#[test]
fn endless_recursion_ends_at_the_stack_or_the_fuel() {
    let recursion = "(drop (call 3 (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) \
        (local.get 5) (local.get 6) (local.get 7) (local.get 8) (local.get 9) (local.get 10)))";
    let (mut stores, policy) = load(&at_seven(recursion));
    let fault = stores.decide(&policy, b"p", b"", &SEVEN).unwrap_err();
    assert!(matches!(fault, Fault::Trapped { .. } | Fault::OutOfFuel), "{fault}");
    assert!(stores.decide(&policy, b"p", b"", &CONSUME).is_ok());
}

#[test]
fn memory_does_not_grow_beyond_the_grant() {
    // Sixteen pages are the grant: fifteen more are given, sixteen are not.
    let grow = |pages: u32| {
        Parts::decide(&format!("(if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable))"))
    };
    let (mut stores, policy) = load(&grow(15));
    assert!(stores.decide(&policy, b"p", b"", &CONSUME).is_ok());
    let (mut stores, policy) = load(&grow(16));
    assert!(matches!(stores.decide(&policy, b"p", b"", &CONSUME), Err(Fault::Trapped { .. })));
}

#[test]
fn a_list_beyond_its_memory_is_a_trap() {
    let component = Parts::outcome(|o| o.state = Some((64, u32::MAX)));
    let (mut stores, policy) = load(&component);
    assert!(matches!(stores.decide(&policy, b"p", b"", &CONSUME), Err(Fault::Trapped { .. })));
}

#[test]
fn lying_outcomes_are_faults() {
    type Change = fn(&mut Outcome);
    let lies: [(&str, Change); 6] = [
        ("more remains", |o| o.remaining = 11),
        ("denial", |o| o.admitted = 0),
        ("calendar", |o| o.reset_after_us = u64::MAX),
        ("yet a wait", |o| o.retry_after_us = 1),
        ("too large", |o| o.state = Some((64, 4097))),
        ("above its limit", |o| (o.limit, o.remaining) = (0, 0)),
    ];
    for (expected, change) in lies {
        let (mut stores, policy) = load(&Parts::outcome(change));
        match stores.decide(&policy, b"p", b"", &CONSUME) {
            Err(Fault::BadOutcome { what }) => assert!(what.contains(expected), "{what}"),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn a_question_that_writes_is_a_fault() {
    let (mut stores, policy) = load(&Parts::default().bytes());
    let nothing = Request { cost: 0, ..CONSUME };
    assert!(matches!(stores.decide(&policy, b"p", b"", &nothing), Err(Fault::BadOutcome { .. })));
}

#[test]
fn a_refused_migration_is_no_fault_of_the_version() {
    let (mut stores, policy) = load(&Parts::default().bytes());
    for _ in 0..100 {
        let fault = stores.migrate(&policy, 3, b"p", b"s").unwrap_err();
        assert!(matches!(fault, Fault::NotMigrated { from_schema: 3, .. }), "{fault}");
    }
    assert!(stores.decide(&policy, b"p", b"", &CONSUME).is_ok());
}

#[test]
fn a_version_that_keeps_failing_is_asked_less_and_forgiven_after_a_success() {
    let limits = HostLimits { breaker_faults: 3, breaker_refusals: 5, ..HostLimits::default() };
    let host = Host::new(limits).unwrap();
    let policy = host.load(&at_seven("unreachable")).unwrap();
    let mut stores = Stores::new(&host);
    let mut kinds = |request, n: usize| -> Vec<&'static str> {
        (0..n).map(|_| stores.decide(&policy, b"p", b"", request).map_or_else(|f| f.kind(), |_| "answer")).collect()
    };
    assert_eq!(kinds(&SEVEN, 3), ["trapped"; 3]);
    assert_eq!(kinds(&SEVEN, 5), ["breaker-open"; 5]);
    assert_eq!(kinds(&SEVEN, 1), ["trapped"]);
    assert_eq!(kinds(&CONSUME, 5), ["breaker-open"; 5]);
    assert_eq!(kinds(&CONSUME, 3), ["answer"; 3]);
}

#[test]
fn an_instance_is_made_anew_after_its_calls_and_when_others_push_it_out() {
    // Counts its own calls and denies nothing until the fourth, which traps.
    let counting = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (if (i32.gt_u (global.get $calls) (i32.const 3)) (then unreachable))";
    let component = Parts::decide(counting);
    let limits = HostLimits { recycle_after_calls: 3, instances_max: 1, ..HostLimits::default() };
    let host = Host::new(limits).unwrap();
    let (policy, other) = (host.load(&component).unwrap(), host.load(&Parts::default().bytes()).unwrap());
    let mut stores = Stores::new(&host);
    for n in 0..20 {
        assert!(stores.decide(&policy, b"p", b"", &CONSUME).is_ok(), "call {n}");
        if n % 5 == 0 {
            assert!(stores.decide(&other, b"p", b"", &CONSUME).is_ok());
        }
    }
}

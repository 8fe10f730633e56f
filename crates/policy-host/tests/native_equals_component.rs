//! The built-in policies, compiled natively and as components, answer every history alike: same
//! parameters, same outcomes, same states, byte for byte.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped is the test's failure")]

use cellar_policy_daily_window::DailyWindow;
use cellar_policy_gcra::Gcra;
use cellar_policy_host::{
    ConfigureError, Fault, Host, HostLimits, Operation, Outcome, Policy, Request, Stores, check_outcome,
};
use cellar_policy_monthly_bucket::MonthlyBucket;
use cellar_policy_night_discount::NightDiscount;
use cellar_policy_open_reservations::OpenReservations;
use cellar_policy_sdk as sdk;
use cellar_policy_token_bucket::TokenBucket;
use cellar_policy_weighted::Weighted;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};
use std::path::PathBuf;
use std::sync::Arc;

const DAY_US: u64 = 86_400_000_000;
const CASES: u32 = 300;

/// Where `make policies` puts components: told by the environment, beside this executable's own
/// target folder, or in the workspace's.
fn policies_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("CELLAR_POLICIES_DIR") {
        return dir.into();
    }
    let executable = std::env::current_exe().unwrap();
    let beside = executable.ancestors().skip(1).map(|folder| folder.join("policies"));
    let built = beside.into_iter().find(|folder| folder.join("gcra.wasm").is_file());
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/policies");
    built.unwrap_or(workspace)
}

fn component(name: &str) -> (Host, Arc<Policy>) {
    let path = policies_dir().join(name).with_extension("wasm");
    let bytes = std::fs::read(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; the components are built by: make policies", path.display()));
    let host = Host::new(HostLimits::default()).unwrap();
    let policy = host.load(&bytes).unwrap();
    (host, policy)
}

/// One step of a history: how long after the last one, what, how much, and whether the settings
/// changed before it.
#[derive(Clone, Debug)]
struct Step {
    pause_us: u64,
    operation: Operation,
    cost: u64,
    held: u64,
    held_since_us: u64,
    settings: usize,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pause = prop_oneof![Just(0), 0..10_u64, 0..DAY_US, 0..400 * DAY_US];
    let operation = prop_oneof![
        6 => Just(Operation::Consume),
        2 => Just(Operation::Reserve),
        2 => Just(Operation::Settle),
        1 => Just(Operation::Peek),
    ];
    let amount = || prop_oneof![6 => 0..30_u64, 1 => 0..=sdk::AMOUNT_MAX, 1 => any::<u64>()];
    let settings = prop_oneof![8 => Just(0_usize), 1 => 0..4_usize];
    let step = (pause, operation, amount(), amount(), 0..3 * DAY_US, settings).prop_map(
        |(pause_us, operation, cost, held, held_since_us, settings)| Step {
            pause_us,
            operation,
            cost,
            held,
            held_since_us,
            settings,
        },
    );
    prop::collection::vec(step, 1..40)
}

fn sdk_operation(operation: Operation) -> sdk::Operation {
    match operation {
        Operation::Consume => sdk::Operation::Consume,
        Operation::Reserve => sdk::Operation::Reserve,
        Operation::Settle => sdk::Operation::Settle,
        Operation::Peek => sdk::Operation::Peek,
    }
}

fn host_outcome(outcome: sdk::Outcome<Vec<u8>>) -> Outcome {
    Outcome {
        admitted: outcome.admitted,
        state: outcome.state,
        limit: outcome.limit,
        remaining: outcome.remaining,
        retry_after_us: outcome.retry_after_us,
        reset_after_us: outcome.reset_after_us,
        note: outcome.note,
    }
}

fn native<P: sdk::Policy>(parameters: &[u8], state: &[u8], request: &Request<'_>) -> Outcome {
    let attribute =
        |(name, value): &(&str, &str)| sdk::Attribute { name: (*name).to_owned(), value: (*value).to_owned() };
    let request = sdk::Request {
        operation: sdk_operation(request.operation),
        now_us: request.now_us,
        cost: request.cost,
        held: request.held,
        held_at_us: request.held_at_us,
        attributes: request.attributes.iter().map(attribute).collect(),
    };
    host_outcome(sdk::decide::<P>(parameters, state, &request))
}

fn histories_agree<P: sdk::Policy>(name: &str, settings: [&str; 4], bad_settings: &[&str]) {
    let (host, policy) = component(name);
    let description: serde_json::Value = serde_json::from_str(&sdk::describe::<P>()).unwrap();
    assert_eq!(description["name"], policy.description().name.as_str());
    assert_eq!(description["version"], policy.description().version.as_str());
    assert_eq!(description["settings_schema"], policy.description().settings_schema);

    let parameters = settings.map(|settings| {
        let parameters = policy.configure(settings).unwrap();
        assert_eq!(sdk::configure::<P>(settings).unwrap(), parameters);
        parameters
    });
    for bad in bad_settings {
        let expected: Vec<_> = sdk::configure::<P>(bad).unwrap_err();
        let Err(ConfigureError::Refused(got)) = policy.configure(bad) else { panic!("{bad} was taken") };
        let expected: Vec<_> = expected.into_iter().map(|p| (p.pointer, p.message)).collect();
        assert_eq!(got.into_iter().map(|p| (p.pointer, p.message)).collect::<Vec<_>>(), expected);
    }

    let mut runner =
        TestRunner::new(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() });
    let histories = (0..200 * 365 * DAY_US, steps());
    let agree = |(start_us, history): (u64, Vec<Step>)| -> TestCaseResult {
        let (mut stores, mut state, mut now_us) = (Stores::new(&host), Vec::new(), start_us);
        for step in history {
            now_us += step.pause_us;
            let request = Request {
                operation: step.operation,
                now_us,
                cost: step.cost,
                held: step.held,
                held_at_us: now_us.saturating_sub(step.held_since_us),
                attributes: &[("model", "large")],
            };
            let parameters = &parameters[step.settings];
            let outcome = stores.decide(&policy, parameters, &state, &request);
            prop_assert_eq!(&outcome, &Ok(native::<P>(parameters, &state, &request)), "{:?}", step);
            if let Some(next) = outcome.ok().and_then(|outcome| outcome.state) {
                let migrated = stores.migrate(&policy, policy.description().state_schema, parameters, &next);
                prop_assert_eq!(migrated.as_ref(), Ok(&next));
                state = next;
            }
        }
        Ok(())
    };
    if let Err(error) = runner.run(&histories, agree) {
        panic!("{error}");
    }
}

#[test]
fn gcra_native_and_component_agree_on_random_histories() {
    let settings = [
        r#"{"limit":20,"period_s":60}"#,
        r#"{"limit":7,"period_s":3,"burst":1}"#,
        r#"{"limit":5000000,"period_s":1,"burst":50}"#,
        r#"{"limit":1099511627776,"period_s":31622400,"burst":1099511627776}"#,
    ];
    let bad = ["", "null", r#"{"limit":0,"burst":-1,"burts":2}"#, r#"{"limit":1,"period_s":31622400,"burst":99}"#];
    histories_agree::<Gcra>("gcra", settings, &bad);
}

#[test]
fn monthly_bucket_native_and_component_agree_on_random_histories() {
    let settings = [
        r#"{"limit":100}"#,
        r#"{"limit":1,"anchor_day":31,"utc_offset_minutes":-720}"#,
        r#"{"limit":20,"anchor_day":15,"utc_offset_minutes":840}"#,
        r#"{"limit":1099511627776}"#,
    ];
    let bad = ["{", "{}", r#"{"limit":1.5,"x":0}"#, r#"{"limit":1,"anchor_day":0,"utc_offset_minutes":1000}"#];
    histories_agree::<MonthlyBucket>("monthly-bucket", settings, &bad);
}

#[test]
fn token_bucket_native_and_component_agree_on_random_histories() {
    let settings = [
        r#"{"limit":100}"#,
        r#"{"limit":1,"every":"hour","rollover_max":120}"#,
        r#"{"limit":20,"every":"week","rollover_max":0,"utc_offset_minutes":330}"#,
        r#"{"limit":1099511627776,"every":"day"}"#,
    ];
    let bad = ["[]", "{}", r#"{"limit":1,"every":"eon"}"#, r#"{"limit":1,"rollover_max":121}"#];
    histories_agree::<TokenBucket>("token-bucket", settings, &bad);
}

#[test]
fn daily_window_native_and_component_agree_on_random_histories() {
    let settings = [
        r#"{"limit":100}"#,
        r#"{"limit":1,"opens_at_minute":1439,"open_minutes":1}"#,
        r#"{"limit":20,"opens_at_minute":540,"open_minutes":480,"utc_offset_minutes":-300}"#,
        r#"{"limit":1099511627776,"utc_offset_minutes":840}"#,
    ];
    histories_agree::<DailyWindow>("daily-window", settings, &["{}", r#"{"limit":1,"open_minutes":1441}"#]);
}

#[test]
fn night_discount_native_and_component_agree_on_random_histories() {
    let settings = [
        r#"{"limit":100,"price_permille":500,"from_minute":1320,"minutes":480}"#,
        r#"{"limit":1,"price_permille":1,"from_minute":0,"minutes":1440,"every":"hour"}"#,
        r#"{"limit":20,"price_permille":333,"from_minute":1439,"minutes":2,"every":"week","utc_offset_minutes":330}"#,
        r#"{"limit":1099511627776,"price_permille":1000,"from_minute":60,"minutes":1,"every":"day"}"#,
    ];
    let bad = ["{}", r#"{"limit":1,"price_permille":1001,"from_minute":1440,"minutes":0}"#];
    histories_agree::<NightDiscount>("night-discount", settings, &bad);
}

#[test]
fn weighted_native_and_component_agree_on_random_histories() {
    let settings = [
        r#"{"limit":100,"weights":{"large":3000,"small":100}}"#,
        r#"{"limit":1,"weights":{},"unknown_weight_permille":1000000,"every":"hour"}"#,
        r#"{"limit":20,"weights":{"large":1},"default_weight_permille":333,"every":"day","utc_offset_minutes":-720}"#,
        r#"{"limit":1099511627776,"attribute":"region"}"#,
    ];
    let bad = ["{}", r#"{"limit":1,"attribute":"","weights":{"large":0}}"#, r#"{"limit":1,"weights":{"":1}}"#];
    histories_agree::<Weighted>("weighted", settings, &bad);
}

#[test]
fn open_reservations_native_and_component_agree_on_random_histories() {
    let settings =
        [r#"{"limit":100}"#, r#"{"limit":1,"open_s":1}"#, r#"{"limit":20,"open_s":60}"#, r#"{"limit":1099511627776}"#];
    histories_agree::<OpenReservations>("open-reservations", settings, &["{}", r#"{"limit":1,"open_s":3601}"#]);
}

/// What an author's native tests take for a lie is what the host takes for a fault, in the same words.
#[test]
fn the_sdk_and_the_host_believe_the_same_outcomes() {
    let operations = [Operation::Consume, Operation::Reserve, Operation::Settle, Operation::Peek];
    let (mut believed, mut refused) = (0, 0);
    for (n, operation) in (0..4_096_u64).flat_map(|n| operations.map(|operation| (n, operation))) {
        let of = |bit: u32, yes: u64| if n >> bit & 1 == 1 { yes } else { 0 };
        let request =
            Request { operation, now_us: 0, cost: of(0, 1) + of(1, 9), held: 0, held_at_us: 0, attributes: &[] };
        let state_bytes = [None, Some(0), Some(8), Some(4_097)][(n >> 2 & 3) as usize];
        let native = sdk::Outcome {
            admitted: of(4, 1) == 1,
            state: state_bytes.map(|bytes| vec![0; bytes]),
            limit: of(5, 5),
            remaining: of(6, 3) + of(7, 3),
            retry_after_us: of(8, 1) + of(9, sdk::TIME_MAX_US),
            reset_after_us: of(10, 1) + of(11, sdk::TIME_MAX_US),
            note: 0,
        };
        let asked = sdk::Request::new(sdk_operation(operation), 0, request.cost);
        let outcome = host_outcome(native.clone());
        match (sdk::testing::truth(&native, &asked), check_outcome(outcome, &request, 4 << 10)) {
            (Ok(()), Ok(_)) => believed += 1,
            (Err(sdk::testing::Lie(native)), Err(Fault::BadOutcome { what })) if native == what => refused += 1,
            (native, host) => panic!("{request:?}: {native:?}, but the host says {host:?}"),
        }
    }
    assert!(believed > 100 && refused > 100, "{believed} believed, {refused} refused");
}

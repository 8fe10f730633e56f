//! What a check costs inside: the policy's decision, the ring, users off the ring, the codec.

use cellar_model::{
    Amount, CellName, Check, Cost, DeadlineMs, Epoch, Operation, PlacementKey, RegionName, Ring, UserId,
};
use cellar_policy_daily_window::DailyWindow;
use cellar_policy_gcra::Gcra;
use cellar_policy_host::{self as host, Host, HostLimits, Request, Stores};
use cellar_policy_monthly_bucket::MonthlyBucket;
use cellar_policy_night_discount::NightDiscount;
use cellar_policy_sdk as sdk;
use cellar_policy_token_bucket::TokenBucket;
use cellar_policy_weighted::Weighted;
use cellar_router::Exceptions;
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::PathBuf;

/// `target/policies`, from the bench's own place in the target folder.
fn component(name: &str) -> Vec<u8> {
    let running = std::env::current_exe().expect("a running program has a path");
    let candidates = running.ancestors().map(|folder| folder.join("policies").join(name));
    let path: Option<PathBuf> = candidates.into_iter().find(|path| path.is_file());
    std::fs::read(path.expect("run `make policies` first")).expect("a component that can be read")
}

/// The first moment at which a policy is asked; 10 µs to the next one.
const BEGIN_US: u64 = 1_700_000_000_000_000;
const STEP_US: u64 = 10;

/// Each policy as a component, and beside it the same code compiled for this machine, asked the same.
fn decide(c: &mut Criterion) {
    let host = Host::new(HostLimits::default()).expect("a host");
    let plenty = r#"{"limit":1000000000000}"#;
    pair::<Gcra>(c, &host, "gcra", r#"{"limit":1000000,"period_s":1,"burst":1000000}"#);
    pair::<MonthlyBucket>(c, &host, "monthly-bucket", plenty);
    pair::<TokenBucket>(c, &host, "token-bucket", plenty);
    pair::<DailyWindow>(c, &host, "daily-window", plenty);
    let weights = r#"{"limit":1000000000000,"weights":{"large":5000,"small":200}}"#;
    pair::<Weighted>(c, &host, "weighted", weights);
    let night = r#"{"limit":1000000000000,"price_permille":500,"from_minute":1320,"minutes":480}"#;
    pair::<NightDiscount>(c, &host, "night-discount", night);
}

fn pair<P: sdk::Policy>(c: &mut Criterion, host: &Host, name: &str, settings: &str) {
    let policy = host.load(&component(&format!("{name}.wasm"))).expect("a built-in policy");
    let parameters = policy.configure(settings).expect("good settings");
    let mut stores = Stores::new(host);
    let (mut state, mut now_us) = (Vec::new(), BEGIN_US);
    c.bench_function(&format!("decide {name}, fuel on"), |b| {
        b.iter(|| {
            now_us += STEP_US;
            let request = Request {
                operation: host::Operation::Consume,
                now_us,
                cost: 1,
                held: 0,
                held_at_us: 0,
                attributes: &[],
            };
            let outcome = stores.decide(&policy, &parameters, &state, &request).expect("no fault");
            if let Some(next) = outcome.state {
                state = next;
            }
        });
    });
    let (mut state, mut now_us) = (Vec::new(), BEGIN_US);
    c.bench_function(&format!("decide {name}, native"), |b| {
        b.iter(|| {
            now_us += STEP_US;
            let request = sdk::Request {
                operation: sdk::Operation::Consume,
                now_us,
                cost: 1,
                held: 0,
                held_at_us: 0,
                attributes: Vec::new(),
            };
            let outcome = sdk::decide::<P>(&parameters, &state, &request);
            if let Some(next) = outcome.state {
                state = next;
            }
        });
    });
}

fn ring(c: &mut Criterion) {
    let cells: Vec<_> = (0..16).map(|n| (CellName::new(&format!("eu-{n}")).expect("a name"), 128)).collect();
    let ring = Ring::new(&cells).expect("a ring");
    let ids: Vec<String> = (0..1024).map(|n| format!("eu_{n:026}")).collect();
    let mut n = 0;
    c.bench_function("ring look-up, 16 cells", |b| {
        b.iter(|| {
            n = (n + 1) % ids.len();
            black_box(ring.owner(PlacementKey::new(&ids[n])));
        });
    });
}

/// What a router looks up before it asks the ring.
fn exceptions(c: &mut Criterion) {
    const COUNT: u128 = 1_000_000;
    let (region, home) = (RegionName::new("eu").expect("a name"), CellName::new("eu-2").expect("a name"));
    let folder = tempfile::tempdir().expect("a folder");
    let exceptions = Exceptions::open(folder.path());
    let user = |n: u128, which: u128| UserId::mint(&region, n << 64 | (n * 7_919 + which));
    (0..COUNT).for_each(|n| exceptions.put(&user(n, 0), &home, Epoch(2)));
    // Far apart, as users who ask are: what the processor has at hand is not theirs.
    for (name, which) in [("found", 0), ("not among them", 1)] {
        let users: Vec<UserId> = (0..65_536).map(|n| user(n * 15, which)).collect();
        let mut n = 0;
        c.bench_function(&format!("one of a million exceptions, {name}"), |b| {
            b.iter(|| {
                n = (n + 7_919) % users.len();
                black_box(exceptions.get(&users[n]));
            });
        });
    }
}

fn codec(c: &mut Criterion) {
    let check = |n: u64| Check {
        user: UserId::new(&format!("eu_{n:026}")).expect("an id"),
        operation: Operation::Consume,
        cost: Cost::tokens(Amount::new(1280).expect("an amount")),
        attributes: Vec::new(),
        key: None,
        at: None,
        deadline: DeadlineMs::QUOTA,
        session: None,
        origin: None,
    };
    let checks: Vec<Check> = (0..64).map(check).collect();
    let bytes = postcard::to_allocvec(&checks).expect("plain data");
    c.bench_function("64 checks to the wire", |b| b.iter(|| postcard::to_allocvec(black_box(&checks))));
    c.bench_function("64 checks from the wire", |b| {
        b.iter(|| postcard::from_bytes::<Vec<Check>>(black_box(&bytes)).expect("what was written"));
    });
}

criterion_group!(benches, decide, ring, exceptions, codec);
criterion_main!(benches);

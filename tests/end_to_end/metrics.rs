//! What processes say of themselves: whole from the first scrape, bounded whoever asks for what, and read by many.

use crate::open_metrics::Page;
use crate::served::Served;
use crate::support::{World, tokens};
use cellar_devstack::Stack;
use cellar_model::UserId;
use cellar_model::wire::{BROUGHT_MAX, BringUsers, Brought, BroughtUser, ConsumeBody};
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Users of the short run, and with `CELLAR_TEST_FULL`.
const USERS: usize = 2_000;
const USERS_FULL: usize = 1_000_000;
/// Calls that bring users, or ask for them, at once.
const CALLS: usize = 4;
const SCRAPERS: usize = 10;
/// Pages that each of them reads.
const PAGES: usize = 20;

/// A process of a stack that has metrics.
#[derive(Clone, Debug)]
pub struct Scraped {
    pub role: &'static str,
    pub name: String,
    url: String,
}

impl Scraped {
    /// Every router and cell.
    pub fn all(world: &World) -> Vec<Scraped> {
        let stack = Stack::open(world.cellctl.stack()).unwrap();
        let of_role = |process: &cellar_devstack::ProcessEntry| {
            let role = ["router", "cell"].into_iter().find(|role| *role == process.role.label())?;
            let url = format!("{}/metrics", process.admin_url.as_deref()?);
            Some(Scraped { role, name: process.name.clone(), url })
        };
        stack.state().processes.iter().filter_map(of_role).collect()
    }

    pub async fn page(&self) -> Page {
        let answer = reqwest::get(&self.url).await.unwrap();
        assert_eq!(answer.status(), 200);
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
        let text = answer.text().await.unwrap();
        let page = Page::parse(&text).unwrap_or_else(|wrong| panic!("{}: {wrong}", self.name));
        let lines = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(page.sum("cellar_metrics_series", &[]), lines as f64, "{}", self.name);
        page
    }
}

/// What a series may be before anybody has asked for anything.
#[derive(Clone, Copy, Debug)]
enum Start {
    Zero,
    /// There was no audit.
    Never,
    /// What the machine says.
    Positive,
    /// What the start itself has left there.
    Any,
}

const EVERYWHERE: &[(&str, Start)] = &[
    ("cellar_requests_total", Start::Any),
    ("cellar_request_seconds", Start::Any),
    ("cellar_verdicts_total", Start::Zero),
    ("cellar_unknowns_total", Start::Zero),
    ("cellar_degraded_answers_total", Start::Zero),
    ("cellar_shed_requests_total", Start::Zero),
    ("cellar_in_flight_requests", Start::Any),
    ("cellar_in_flight_requests_max", Start::Positive),
    ("cellar_label_overflow_total", Start::Zero),
    ("cellar_metrics_series", Start::Positive),
    ("cellar_build_info", Start::Positive),
    ("cellar_disk_free_bytes", Start::Positive),
    ("cellar_plaintext_listeners", Start::Zero),
    ("cellar_condition", Start::Any),
    ("cellar_spans_exported_total", Start::Zero),
    ("cellar_spans_dropped_total", Start::Zero),
    ("cellar_log_lines_suppressed_total", Start::Any),
    ("cellar_log_lines_lost_total", Start::Zero),
    ("db_connection_pool_in_use", Start::Any),
    ("db_connection_pool_max", Start::Positive),
    ("process_start_time_seconds", Start::Positive),
    ("process_cpu_seconds_total", Start::Positive),
    ("process_resident_memory_bytes", Start::Positive),
    ("process_open_fds", Start::Positive),
    ("process_max_fds", Start::Positive),
];

const OF_CELLS: &[(&str, Start)] = &[
    ("cellar_cache_hits_total", Start::Zero),
    ("cellar_cache_misses_total", Start::Zero),
    ("cellar_degraded_reads_total", Start::Zero),
    ("cellar_revocation_lag_seconds", Start::Zero),
    ("cellar_audit_mismatches", Start::Zero),
    ("cellar_audit_age_seconds", Start::Never),
    ("cellar_policy_faults_total", Start::Zero),
    ("cellar_policy_fuel", Start::Zero),
    ("cellar_policy_breaker_open", Start::Zero),
    ("cellar_policy_refused_total", Start::Any),
    ("cellar_quota_undrained_entries", Start::Zero),
    ("cellar_quota_undrained_entries_max", Start::Positive),
    ("cellar_quota_undrained_age_seconds", Start::Zero),
    ("cellar_quota_commit_seconds", Start::Any),
    ("cellar_quota_batch_checks", Start::Any),
    ("cellar_quota_drain_seconds", Start::Any),
    ("cellar_quota_drain_failures_total", Start::Zero),
    ("cellar_quota_replica_wait_seconds", Start::Zero),
    ("cellar_quota_shed_total", Start::Zero),
    ("cellar_quota_turns_total", Start::Any),
    ("cellar_quota_fence", Start::Positive),
    ("cellar_quota_shard_open", Start::Any),
    ("cellar_quota_on_postgres", Start::Zero),
    ("cellar_quota_late_charges_total", Start::Zero),
    ("cellar_quota_replays_total", Start::Zero),
    ("cellar_quota_allowed_unavailable_total", Start::Zero),
    ("cellar_quota_journal_entries", Start::Zero),
    ("cellar_clock_disputed", Start::Zero),
];

const OF_ROUTERS: &[(&str, Start)] = &[
    ("cellar_redirects_total", Start::Zero),
    ("cellar_instance_redirects_total", Start::Zero),
    ("cellar_lost_requests_total", Start::Zero),
    ("cellar_stale_preferences_total", Start::Zero),
    ("cellar_cell_failures_total", Start::Any),
    ("cellar_directory_age_seconds", Start::Any),
    ("cellar_exceptions", Start::Zero),
];

/// Goal: a rate of what has never happened is zero, not nothing.
#[tokio::test(flavor = "multi_thread")]
async fn every_named_series_stands_there_before_anybody_has_asked_for_anything() {
    let world = World::up(&["up", "--regions", "1", "--cells", "2"]);
    let scraped = Scraped::all(&world);
    assert_eq!(scraped.iter().map(|process| process.role).collect::<BTreeSet<_>>().len(), 2, "{scraped:?}");
    for process in scraped {
        let page = process.page().await;
        let own = if process.role == "cell" { OF_CELLS } else { OF_ROUTERS };
        for (name, start) in EVERYWHERE.iter().chain(own) {
            let family = page.family(name).unwrap_or_else(|| panic!("{} has no {name}", process.name));
            assert!(!family.samples.is_empty(), "{} has no series of {name}", process.name);
            for sample in &family.samples {
                let fits = match start {
                    Start::Zero => sample.value == 0.0,
                    Start::Never => sample.value == -1.0,
                    Start::Positive => sample.value > 0.0,
                    Start::Any => sample.value >= 0.0,
                };
                assert!(fits, "{} {start:?}: {sample:?}", process.name);
            }
        }
    }
}

/// Requests that come in every form in which somebody may choose a name, good and bad: none of them is a label.
async fn odd_requests(world: &World, http: &reqwest::Client, user: &UserId, n: usize) {
    let url = &world.urls[0];
    let odd = format!("q\"}} 1\ncellar_requests_total{{n=\"{n}");
    let check =
        serde_json::json!({"user_id": user, "cost": {"requests": 0, "tokens": 1}, "attributes": {odd.as_str(): odd}});
    let post = |path: &str, body: serde_json::Value| http.post(format!("{url}{path}")).json(&body);
    let requests = [
        post("/v1/internal/quota/consume", check),
        post("/v1/internal/quota/consume", serde_json::json!({"user_id": format!("nobody-{n}")})),
        post("/v1/internal/quota/consume", serde_json::json!({"user_id": user, "cost": {format!("unit-{n}"): 1}})),
        post("/v1/internal/quota/grant", serde_json::json!({"user_id": user, "slot": format!("s{n}"), "amount": 1})),
        post("/v1/users", serde_json::json!({"email": format!("o{n}@example.org"), "tier": format!("tier-{n}")})),
        post("/v1/users", serde_json::json!({"email": "not one", "tier": odd})),
        http.get(format!("{url}/v1/nowhere/{n}")),
        http.get(format!("{url}/v1/internal/users/%22%0A{n}")),
        http.delete(format!("{url}/v1/sessions/{}", "x".repeat(10_000))).header("cellar-user", user.as_str()),
        http.put(format!("{url}/v1/user/profile")),
        http.get(format!("{url}/v1/user/profile")).header("cellar-user", user.as_str()),
    ];
    for request in requests {
        request.bearer_auth(&world.service_key).send().await.unwrap();
    }
}

fn check(user: &UserId, n: usize) -> ConsumeBody {
    let odd = |name: &str| format!("{name}\"\\\n{n}").into();
    let attributes = BTreeMap::from([("model".into(), odd("value")), (odd("name"), "x".into())]);
    ConsumeBody { attributes, at_us: None, idempotency_key: Some(format!("k{n}")), ..tokens(user, 1, None).body }
}

/// Goal: what a process exports does not grow with its users, nor with what they say.
/// Method: the series after one user and after thousands are compared by name and labels; a million with
/// CELLAR_TEST_FULL.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_users_with_odd_wishes_make_no_series_that_one_did_not_make() {
    let users = if std::env::var_os("CELLAR_TEST_FULL").is_some() { USERS_FULL } else { USERS };
    let world = World::up(&["up", "--regions", "1", "--cells", "1"]);
    let first = world.user("first@example.org", "pro").await;
    let http = reqwest::Client::new();
    odd_requests(&world, &http, &first, 0).await;
    ask(&world, &[first.clone(), UserId::new("nobody").unwrap()], 0).await;
    bring(&world, 0, 1).await;
    let scraped = Scraped::all(&world);
    let before = join_all(scraped.iter().map(|process| async { process.page().await.series() })).await;

    let began = Instant::now();
    let calls: Vec<usize> = (1..users).step_by(BROUGHT_MAX).collect();
    for calls in calls.chunks(CALLS) {
        join_all(calls.iter().map(|from| bring_and_ask(&world, *from, (from + BROUGHT_MAX).min(users)))).await;
    }
    for n in 1..50 {
        odd_requests(&world, &http, &first, n).await;
    }
    println!("{users} users were brought and asked for in {:.1} s", began.elapsed().as_secs_f64());
    for (process, before) in scraped.iter().zip(before) {
        let page = process.page().await;
        let after = page.series();
        let new: Vec<_> = after.difference(&before).collect();
        println!("{}: {} series after one user, {} after {users}", process.name, before.len(), after.len());
        assert!(new.is_empty(), "{}: {new:?}", process.name);
        assert_eq!(page.sum("cellar_label_overflow_total", &[]), 0.0, "{}", process.name);
    }
    // One whose first answer was unknown may have been charged: asked again, it is told the first answer.
    let admitted = |page: &Page| -> f64 {
        let verdicts = ["allowed", "replayed"].into_iter();
        verdicts.map(|verdict| page.sum("cellar_verdicts_total", &[("verdict", verdict)])).sum()
    };
    let cells = scraped.iter().filter(|process| process.role == "cell").map(Scraped::page);
    let asked: f64 = join_all(cells).await.iter().map(admitted).sum();
    assert!(asked >= users as f64, "{asked} checks were admitted");
}

async fn bring_and_ask(world: &World, from: usize, to: usize) {
    let brought = bring(world, from, to).await;
    ask(world, &brought, from).await;
}

/// Users of the pro tier, by their numbers.
async fn bring(world: &World, from: usize, to: usize) -> Vec<UserId> {
    let ids: Vec<UserId> = (from..to).map(|n| UserId::new(&format!("brought-{n}")).unwrap()).collect();
    let user = |(n, id): (usize, &UserId)| BroughtUser {
        user_id: Some(id.clone()),
        email: format!("brought-{}@example.org", from + n),
        name: None,
        tier: "pro".parse().unwrap(),
        region: None,
        password_hash: None,
        preferences: serde_json::Map::new(),
    };
    let users = BringUsers { users: ids.iter().enumerate().map(user).collect() };
    // Under load a few may be unknown: the same again changes nothing else.
    for _ in 0..20 {
        match world.admin.bring(&users).await {
            Ok(results) if results.iter().all(is_there) => return ids,
            _ => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
    panic!("users {from} to {to} do not arrive");
}

fn is_there(brought: &Brought) -> bool {
    matches!(brought, Brought::Created { .. } | Brought::Unchanged { .. })
}

async fn ask(world: &World, users: &[UserId], from: usize) {
    let checks = || users.iter().enumerate().map(|(n, user)| check(user, from + n)).collect::<Vec<_>>();
    for _ in 0..20 {
        let items = world.client.consume_batch(checks()).await;
        let unknown = |item: &cellar_client::Item| matches!(item, Err(problem) if problem.status == 503);
        match items {
            Ok(items) if !items.iter().any(unknown) => return,
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
    panic!("no answers for users from {from}");
}

/// Goal: whoever reads metrics, and however many, nobody's request fails for it and every page is whole.
#[tokio::test(flavor = "multi_thread")]
async fn ten_scrapers_at_once_read_whole_pages_while_every_request_is_answered() {
    let world = World::up(&["up", "--regions", "1", "--cells", "1"]);
    let users = join_all((0..8).map(|n| {
        let world = &world;
        async move { world.user(&format!("u{n}@example.org"), "pro").await }
    }))
    .await;
    let scraped = Arc::new(Scraped::all(&world));
    let done = Arc::new(AtomicBool::new(false));
    let load = join_all(users.iter().map(|user| async {
        let (mut answered, mut n) = (0, 0);
        while !done.load(Ordering::Relaxed) {
            n += 1;
            let items = world.client.consume_batch(vec![check(user, n)]).await.unwrap();
            answered += items.len();
            assert!(items[0].as_ref().is_ok(), "{items:?}");
        }
        answered
    }));
    let scrapers = async {
        let readers = (0..SCRAPERS).map(|_| {
            let scraped = scraped.clone();
            tokio::spawn(async move {
                let mut last = 0.0;
                for _ in 0..PAGES {
                    for process in scraped.iter() {
                        let page = process.page().await;
                        if process.role == "router" {
                            let now = page.sum("cellar_requests_total", &[("route", "batch")]);
                            assert!(now >= last, "{now} after {last}");
                            last = now;
                        }
                    }
                }
            })
        });
        for reader in join_all(readers).await {
            reader.unwrap();
        }
        done.store(true, Ordering::Relaxed);
    };
    let (answered, ()) = tokio::join!(load, scrapers);
    println!("{:?} checks were answered beside {} pages", answered, SCRAPERS * PAGES * scraped.len());
    assert!(answered.iter().all(|count| *count > 0));
    for process in scraped.iter() {
        let page = process.page().await;
        let in_flight = page.sum("cellar_in_flight_requests", &[]);
        assert_eq!(in_flight, 0.0, "{}", process.name);
    }
}

/// Goal: no route of a door is counted as "other", whatever becomes of the request.
/// Method: each operation of the document is asked for without a credential; then some paths that are none.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_doors_and_of_cells_is_counted_under_its_name() {
    let world = World::up(&["up", "--regions", "1", "--cells", "1"]);
    let served = Served::of(&world).await;
    let scraped = Scraped::all(&world);
    let of = |role: &str| scraped.iter().find(|process| process.role == role).unwrap();
    let stack = Stack::open(world.cellctl.stack()).unwrap();
    let cell = stack.state().processes.iter().find(|process| process.role.label() == "cell").unwrap().url.clone();
    let other = |page: &Page| page.sum("cellar_requests_total", &[("route", "other")]);
    let all = |page: &Page| page.sum("cellar_requests_total", &[]);

    let before = [of("router").page().await, of("cell").page().await];
    let operations = served.operations();
    for operation in &operations {
        for base in [&world.urls[0], &cell] {
            let path = operation.path.replace("{id}", "somebody").replace("{slug}", "gone");
            served.http.request(operation.method.clone(), format!("{base}{path}")).send().await.unwrap();
        }
    }
    for path in ["decide", "users", "enrolments", "intents/an-intent"] {
        served.http.post(format!("{cell}/cell/v1/{path}")).body("{}").send().await.unwrap();
    }
    served.http.put(format!("{cell}/cell/v1/forwards/somebody")).body("{}").send().await.unwrap();
    let after = [of("router").page().await, of("cell").page().await];
    assert_eq!(other(&after[0]), other(&before[0]), "at the router");
    assert!(all(&after[0]) - all(&before[0]) >= operations.len() as f64);
    for route in ["decide", "users", "enrolments", "intents", "forwards", "profile", "quota", "usage", "export"] {
        let count = |page: &Page| page.sum("cellar_requests_total", &[("route", route)]);
        assert!(count(&after[1]) > count(&before[1]), "{route} at the cell");
    }
    for path in ["/nowhere", "/docs", "/problems/blocked"] {
        served.http.get(format!("{}{path}", world.urls[0])).send().await.unwrap();
    }
    let last = of("router").page().await;
    let known =
        |page: &Page, status: &str| page.sum("cellar_requests_total", &[("route", "other"), ("status", status)]);
    assert_eq!(known(&last, "404") - known(&after[0], "404"), 1.0);
    assert_eq!(
        last.sum("cellar_requests_total", &[("route", "contract"), ("status", "200")]),
        3.0,
        "with the document"
    );
}

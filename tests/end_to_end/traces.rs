//! What happened to a request, as a collector hears of it.

use crate::collector::{Collector, Manner, Told, tree};
use crate::served::{Came, DOORS};
use crate::support::World;
use cellar_devstack::Cellctl;
use cellar_model::UserId;
use futures::future::join_all;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;

const BEHIND_A_ROUTER: &[&str] = DOORS[1];
const ALONE: &[&str] = DOORS[0];

/// A stack whose spans go to a collector.
struct Traced {
    world: World,
    collector: Collector,
    http: reqwest::Client,
}

impl Traced {
    async fn up(door: &[&str], manner: Manner, ratio: &str) -> Traced {
        let collector = Collector::start(manner).await;
        let url = collector.url.clone();
        Traced::at(door, collector, &url, if manner == Manner::Grpc { "grpc" } else { "http" }, ratio)
    }

    fn at(door: &[&str], collector: Collector, url: &str, protocol: &str, ratio: &str) -> Traced {
        let mut cellctl = Cellctl::new().unwrap();
        for program in ["ROUTER", "CELL"] {
            let settings = [("OTLP_ENDPOINT", url), ("OTLP_PROTOCOL", protocol), ("TRACE_RATIO", ratio)];
            for (name, value) in settings {
                cellctl.environment(&format!("CELLAR_{program}__{name}"), value);
            }
            // A slow machine makes no request one that is seen for being slow.
            cellctl.environment(&format!("CELLAR_{program}__TRACE_SLOW_MS"), "60000");
        }
        cellctl.keep(door).unwrap();
        Traced { world: World::of(cellctl), collector, http: reqwest::Client::new() }
    }

    fn get(&self, path: &str, user: &UserId) -> RequestBuilder {
        let url = format!("{}{path}", self.world.urls[0]);
        self.http.get(url).bearer_auth(&self.world.service_key).header("cellar-user", user.as_str())
    }

    fn consume(&self, user: &UserId) -> RequestBuilder {
        let url = format!("{}/v1/internal/quota/consume", self.world.urls[0]);
        self.http.post(url).bearer_auth(&self.world.service_key).json(&json!({"user_id": user, "cost": 1}))
    }

    /// What each of the programs exports.
    async fn pages(&self) -> Vec<String> {
        let status = self.world.cellctl.status().unwrap();
        let mut pages = Vec::new();
        for process in status["processes"].as_array().unwrap() {
            let Some(url) = process["admin_url"].as_str() else { continue };
            let Ok(response) = self.http.get(format!("{url}/metrics")).send().await else { continue };
            pages.push(response.text().await.unwrap());
        }
        pages
    }

    /// A counter of all the programs together.
    async fn counted(&self, series: &str) -> u64 {
        let of = |page: &String| {
            let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {series}")).parse::<u64>().unwrap()
        };
        self.pages().await.iter().map(of).sum()
    }

    async fn counted_at_all(&self, series: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.counted(series).await == 0 {
            assert!(Instant::now() < until, "{series} stays at 0");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A trace of a caller's own, who wants to see it.
fn caller(n: u64) -> (String, String, String) {
    let (trace, span) = (format!("{:032x}", (u128::from(n) << 64) | 0x5eed), format!("{:016x}", n + 0x1000));
    let header = format!("00-{trace}-{span}-01");
    (trace, span, header)
}

fn only<'t>(told: &'t [Told], name: &str, store: &str) -> &'t Told {
    let mut found = told.iter().filter(|told| told.hop() == (name, store.to_owned()));
    let first = found.next().unwrap_or_else(|| panic!("no {name} {store} in {told:#?}"));
    assert!(found.next().is_none(), "two {name} {store} in {told:#?}");
    first
}

/// Goal: a profile read that no cache has is one trace: caller, router, cell, cache Redis, Postgres; parents right.
/// Method: over gRPC; the caller brings a trace, and nothing else is sampled.
#[tokio::test(flavor = "multi_thread")]
async fn a_profile_read_is_one_trace_from_the_caller_to_the_stores() {
    let traced = Traced::up(BEHIND_A_ROUTER, Manner::Grpc, "0").await;
    let user = traced.world.user("profile@example.org", "free").await;
    let (trace, span, header) = caller(1);
    let came = Came::of(traced.get("/v1/user/profile", &user).header("traceparent", header)).await;
    assert_eq!((came.status, came.header("cellar-request-id")), (200, trace.as_str()), "{}", came.text);
    let told = traced.collector.trace(&trace, &["route.forward", "profile.read"]).await;
    println!("{}", tree(&told));
    let forward = only(&told, "route.forward", "");
    let read = only(&told, "profile.read", "");
    assert_eq!((forward.service.as_str(), forward.parent()), ("cellar-router", span));
    assert_eq!((read.service.as_str(), read.parent()), ("cellar-cell", forward.id()));
    let stores: Vec<&Told> = told.iter().filter(|told| !told.said("db.system.name").is_empty()).collect();
    assert!(stores.iter().all(|store| store.span.name == "profile.read" && store.parent() == read.id()), "{told:#?}");
    let named: HashSet<String> = stores.iter().map(|store| store.said("db.system.name")).collect();
    assert_eq!(named, ["redis", "postgresql"].map(str::to_owned).into());
    assert_eq!(
        (forward.said("cellar.route"), forward.said("http.response.status_code")),
        ("profile".into(), "200".into())
    );
    // The second is answered from the cache, and says so by what it did not ask.
    let (trace, _, header) = caller(2);
    Came::of(traced.get("/v1/user/profile", &user).header("traceparent", header)).await;
    let told = traced.collector.trace(&trace, &["route.forward", "profile.read"]).await;
    assert!(told.iter().all(|told| told.said("db.system.name") != "postgresql"), "{told:#?}");
}

/// Goal: a consume is one trace: caller, router, cell, the stores its record came from, policies, commit. The time it
/// took leads to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_consume_is_one_trace_from_the_caller_to_the_commit() {
    for (door, manner) in [(BEHIND_A_ROUTER, Manner::Http), (ALONE, Manner::Grpc)] {
        let traced = Traced::up(door, manner, "0").await;
        let user = traced.world.user("consume@example.org", "free").await;
        let (trace, span, header) = caller(1);
        let came = Came::of(traced.consume(&user).header("traceparent", header)).await;
        assert_eq!(came.status, 200, "{}", came.text);
        let told = traced.collector.trace(&trace, &["route.forward", "store.commit"]).await;
        println!("{}", tree(&told));
        let (forward, decide) = (only(&told, "route.forward", ""), only(&told, "quota.decide", ""));
        assert_eq!((forward.parent(), decide.parent()), (span, forward.id()));
        assert_eq!(decide.service, "cellar-cell");
        let under = [
            only(&told, "quota.decide", "redis"),
            only(&told, "quota.decide", "postgresql"),
            only(&told, "policy.call", ""),
            only(&told, "store.commit", "redis"),
        ];
        assert!(under.iter().all(|told| told.parent() == decide.id()), "{told:#?}");
        assert_eq!((decide.said("cellar.verdict"), forward.said("cellar.route")), ("allowed".into(), "consume".into()));
        let exemplar = format!(" # {{trace_id=\"{trace}\"}} ");
        let mut lines = Vec::new();
        for page in traced.pages().await {
            lines.extend(page.lines().filter(|line| line.contains(&exemplar)).map(str::to_owned));
        }
        for (family, label) in
            [("cellar_request_seconds_bucket{", "route=\"consume\""), ("cellar_quota_commit_seconds_bucket{", "")]
        {
            assert!(lines.iter().any(|line| line.starts_with(family) && line.contains(label)), "{family} {lines:#?}");
        }
    }
}

/// Goal: requests that leave in one call and share one commit are each a trace of their own, whole, and the commits
/// say which others they were shared with.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_share_a_commit_are_whole_traces_that_name_each_other() {
    const REQUESTS: u64 = 64;
    let traced = Traced::up(BEHIND_A_ROUTER, Manner::Http, "0").await;
    let user = traced.world.user("shared@example.org", "free").await;
    let asked = (0..REQUESTS).map(|n| traced.consume(&user).header("traceparent", caller(n).2));
    for came in join_all(asked.map(Came::of)).await {
        assert!([200, 429].contains(&came.status), "{}", came.text);
    }
    let traces: HashSet<String> = (0..REQUESTS).map(|n| caller(n).0).collect();
    let commits = |told: &Told| told.span.name == "store.commit" && traces.contains(&told.trace());
    let commits = traced.collector.once(commits, REQUESTS as usize).await;
    let forwards = |told: &Told| told.span.name == "route.forward" && traces.contains(&told.trace());
    traced.collector.once(forwards, REQUESTS as usize).await;
    let told = traced.collector.told();
    let decides: HashMap<(String, String), &Told> = told
        .iter()
        .filter(|told| told.hop() == ("quota.decide", String::new()))
        .map(|told| ((told.trace(), told.id()), told))
        .collect();
    let mut links = 0;
    for commit in &commits {
        assert!(decides.contains_key(&(commit.trace(), commit.parent())), "{commit:#?}");
        for link in &commit.span.links {
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let (trace, id) = (hex(&link.trace_id), hex(&link.span_id));
            assert!(trace != commit.trace() && decides.contains_key(&(trace, id)), "{link:?}");
            links += 1;
        }
    }
    assert_eq!(commits.iter().map(Told::trace).collect::<HashSet<_>>(), traces);
    assert!(links > 0, "none of {REQUESTS} at once shared a commit");
    let forwards: HashMap<String, String> =
        told.iter().filter(|told| told.span.name == "route.forward").map(|told| (told.trace(), told.id())).collect();
    for ((trace, _), decide) in decides.iter().filter(|((trace, _), _)| traces.contains(trace)) {
        assert_eq!(forwards.get(trace), Some(&decide.parent()));
    }
}

/// Goal: with nothing sampled, a request that fails is seen all the same, at the router and at the cell, in its
/// caller's trace although he did not ask for it; one that is as any other is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_is_seen_though_nothing_is_sampled() {
    let traced = Traced::up(BEHIND_A_ROUTER, Manner::Http, "0").await;
    let user = traced.world.user("fails@example.org", "free").await;
    let unsampled = |n: u64| caller(n).2.replace("-01", "-00");
    let plain = traced.consume(&user).header("traceparent", unsampled(1));
    assert_eq!(Came::of(plain).await.status, 200);
    for name in ["eu-1-redis-quota", "eu-1-postgres"] {
        stop(&traced, name);
    }
    // Until the cell has noticed, it may answer from one of them.
    let until = Instant::now() + Duration::from_secs(60);
    let mut n = 2;
    while Came::of(traced.consume(&user).header("traceparent", unsampled(n))).await.status != 503 {
        assert!(Instant::now() < until, "no request fails");
        n += 1;
    }
    let told = traced.collector.trace(&caller(n).0, &["route.forward", "quota.decide"]).await;
    let (forward, decide) = (only(&told, "route.forward", ""), only(&told, "quota.decide", ""));
    assert_eq!((forward.parent(), decide.parent()), (caller(n).1, forward.id()));
    assert_eq!([forward, decide].map(|told| told.said("cellar.kept")), ["error", "error"]);
    assert!(traced.collector.told().iter().all(|told| told.trace() != caller(1).0));
}

fn stop(traced: &Traced, like: &str) {
    let status = traced.world.cellctl.status().unwrap();
    let role = like.strip_prefix("eu-1-").unwrap();
    let processes = status["processes"].as_array().unwrap();
    let process = processes.iter().find(|process| process["role"] == role && process["cell"] != Value::Null).unwrap();
    traced.world.cellctl.ok(&["stop", process["name"].as_str().unwrap()]).unwrap();
}

/// Goal: a collector that is away, silent, refusing, or that babbles costs requests nothing, is counted, and lets
/// the programs end.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_no_good_costs_spans_and_nothing_else() {
    for manner in [None, Some(Manner::Silent), Some(Manner::Refusing), Some(Manner::Babbling)] {
        let traced = match manner {
            Some(manner) => Traced::up(BEHIND_A_ROUTER, manner, "1").await,
            None => {
                let collector = Collector::start(Manner::Http).await;
                // Nobody listens at a port that was free a moment ago.
                let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
                Traced::at(BEHIND_A_ROUTER, collector, &format!("http://{free}"), "grpc", "1")
            }
        };
        let user = traced.world.user("away@example.org", "free").await;
        for _ in 0..20 {
            assert_eq!(Came::of(traced.get("/v1/user/profile", &user)).await.status, 200, "{manner:?}");
        }
        traced.counted_at_all("cellar_spans_dropped_total{reason=\"export\"}").await;
        assert_eq!(traced.counted("cellar_spans_exported_total").await, 0, "{manner:?}");
        traced.world.cellctl.ok(&["down"]).unwrap();
    }
}

/// Goal: with a collector that takes nothing, spans that find no room are counted, and every request is answered.
#[tokio::test(flavor = "multi_thread")]
async fn spans_that_find_no_room_are_counted() {
    let traced = Traced::up(ALONE, Manner::Silent, "1").await;
    let user = traced.world.user("full@example.org", "free").await;
    let until = Instant::now() + Duration::from_secs(120);
    while traced.counted("cellar_spans_dropped_total{reason=\"queue\"}").await == 0 {
        assert!(Instant::now() < until, "no queue is full");
        let reads = (0..256).map(|_| Came::of(traced.get("/v1/user/profile", &user)));
        assert!(join_all(reads).await.iter().all(|came| came.status == 200));
    }
}

/// Goal: no span says who it is about: no e-mail, name, password, token, key, user id or session id.
#[tokio::test(flavor = "multi_thread")]
async fn no_span_says_who_it_is_about() {
    for door in DOORS {
        let traced = Traced::up(door, Manner::Http, "1").await;
        let url = &traced.world.urls[0];
        let (email, name, password) = ("zora@traces.example", "Zora Traced", "a-traced-password");
        // Once the tier is in force.
        traced.world.user("first@example.org", "free").await;
        let key = &traced.world.service_key;
        let body = json!({"email": email, "name": name, "password": password, "tier": "free"});
        let came = Came::of(traced.http.post(format!("{url}/v1/users")).bearer_auth(key).json(&body)).await;
        let user = came.body["user_id"].as_str().unwrap().to_owned();
        let log_in = json!({"email": email, "password": password, "device": {"name": "Zoras phone"}});
        let came = Came::of(traced.http.post(format!("{url}/v1/sessions")).json(&log_in)).await;
        let said = |member: &str| came.body[member].as_str().unwrap().to_owned();
        let (token, session) = (said("session_token"), said("session_id"));
        let by_session = traced.http.get(format!("{url}/v1/user/profile")).bearer_auth(&token);
        assert_eq!(Came::of(by_session).await.status, 200);
        let admit = json!({"session_token": token, "cost": 1, "attributes": {"who": name}});
        let admit = traced.http.post(format!("{url}/v1/internal/admit")).bearer_auth(key).json(&admit);
        assert_eq!(Came::of(admit).await.status, 200);
        let by_email = traced.http.get(format!("{url}/v1/internal/users/{email}")).bearer_auth(key);
        assert_eq!(Came::of(by_email).await.status, 200);
        traced.collector.once(|told| told.span.name == "quota.decide", 1).await;
        traced.collector.once(|told| told.span.name == "directory.read", 1).await;
        traced.collector.once(|told| told.span.name == "profile.read", 1).await;
        traced.world.cellctl.ok(&["down"]).unwrap();
        let text = traced.collector.text();
        let secret = token.rsplit('.').nth(1).unwrap();
        for said in [email, name, password, "Zoras phone", &user, &session, &token, secret, key] {
            assert!(!text.contains(said), "a span says {said}");
        }
    }
}

//! Accounts on a real Postgres, Redis and directory, asked through their routes.

mod absences;
mod accounts;
mod brought;
mod claims;
mod enrolments;
mod forwards;
mod log_ins;
mod peppers;
mod preferences;
mod sessions;

use super::etag::IfMatch;
use super::{Accounts, Dependencies, SessionLife, routes, statements};
use crate::peers::Peers;
use axum::Router;
use axum::body::Body;
use cellar_devstack::{Postgres, Redis};
use cellar_directory::{Email, EmailHash, Homes, OpenDirectory, Peppers};
use cellar_model::{CellName, MacKey, MacKeys, RegionName, Secret, SessionToken, Topology, UserId, header};
use cellar_server::AttemptLimit;
use futures::future::join_all;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sqlx::{Executor, PgPool};
use std::sync::Arc;
use tower::ServiceExt;

const KEY: [(&str, &str); 1] = [(header::CALLER, "gateway")];

/// A cell's accounts on servers of their own, which are gone when this is dropped.
struct World {
    accounts: Accounts,
    routes: Router,
    pool: PgPool,
    redis_url: String,
    directory: OpenDirectory,
    _servers: Arc<(Postgres, Option<Redis>)>,
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

fn accounts(
    pool: PgPool,
    cache: &str,
    directory: OpenDirectory,
    cell: &str,
    peers: Peers,
    peppers: Peppers,
) -> Accounts {
    let (region, _) = cell.split_once('-').unwrap();
    Accounts::new(Dependencies {
        pool,
        cache: redis::Client::open(cache).unwrap(),
        directory,
        peppers,
        mac_keys: mac_keys().into(),
        session_life: SessionLife::default(),
        account_failures: AttemptLimit { failures: 5, forgiven_s: 3_600 },
        cell: CellName::new(cell).unwrap(),
        region: RegionName::new(region).unwrap(),
        peers,
        quota: None,
        tier_exists: Box::new(|tier| tier.as_str() == "pro"),
        public: false,
    })
}

/// A world of one cell.
fn alone() -> Peers {
    let peers = Peers::new();
    peers.adopt(topology(1, &[("eu", "eu-1", "open", "")])).unwrap();
    peers
}

/// Cells by region, name, state and where they listen. The first one's region is the default one.
fn topology(revision: u64, cells: &[(&str, &str, &str, &str)]) -> Topology {
    let mut regions: Vec<Value> = Vec::new();
    for (region, name, state, url) in cells {
        if regions.last().is_none_or(|last| last["name"] != *region) {
            regions.push(json!({"name": region, "residency": region, "routers": [], "cells": []}));
        }
        let cell = json!({"name": name, "state": state, "weight": 128, "shards": 4, "incarnation": 1,
                          "endpoints": [url, url]});
        regions.last_mut().unwrap()["cells"].as_array_mut().unwrap().push(cell);
    }
    serde_json::from_value(json!({
        "revision": revision, "predecessor": revision - 1, "plan": "a test's", "witness": null,
        "default_region": cells[0].0, "regions": regions,
    }))
    .unwrap()
}

fn mac_keys() -> MacKeys {
    MacKeys::new(MacKey::new('a', [1; 32]).unwrap(), None)
}

/// The present pepper, `b'a'`, the next one, `b'b'`, or both, in this order.
fn peppers(which: &[u8]) -> Peppers {
    let lines: Vec<String> = which.iter().map(|pepper| hex::encode([*pepper; 32])).collect();
    Peppers::from_text(&Secret::new(lines.join("\n"))).unwrap()
}

/// An address as the directory knows it under one pepper.
fn hash(pepper: u8, address: &str) -> EmailHash {
    peppers(&[pepper]).hashes(&Email::parse(address).unwrap())[0]
}

impl World {
    async fn start() -> Self {
        let redis = Redis::start_cache().await.expect("Redis starts");
        Self::with_cache(redis.url(), Some(redis)).await
    }

    async fn with_cache(redis_url: String, redis: Option<Redis>) -> Self {
        let server = Postgres::start_cell().await.expect("Postgres starts");
        let pool = PgPool::connect(&server.url()).await.unwrap();
        sqlx::migrate!("../migrations/postgres/cell").run(&pool).await.unwrap();
        // A database beside the cell's saves a second server.
        pool.execute("create database homes").await.unwrap();
        let cell_url = server.url();
        let (address, _) = cell_url.rsplit_once('/').unwrap();
        let url = Secret::new(format!("{address}/homes"));
        OpenDirectory::migrate(&url, &cellar_directory::Replicas::EveryDatacenter).await.unwrap();
        let directory = OpenDirectory::connect(&url, 8).await.unwrap();
        let servers = Arc::new((server, redis));
        Self::process(pool, redis_url, directory, servers, b"a")
    }

    /// Another process of the cell, with these peppers.
    fn beside(&self, which: &[u8]) -> Self {
        let (pool, directory) = (self.pool.clone(), self.directory.clone());
        Self::process(pool, self.redis_url.clone(), directory, self._servers.clone(), which)
    }

    fn process(
        pool: PgPool,
        redis_url: String,
        directory: OpenDirectory,
        servers: Arc<(Postgres, Option<Redis>)>,
        which: &[u8],
    ) -> Self {
        let accounts = accounts(pool.clone(), &redis_url, directory.clone(), "eu-1", alone(), peppers(which));
        let routes = routes(accounts.clone()).split_for_parts().0;
        Self { accounts, routes, pool, redis_url, directory, _servers: servers }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let answer = self.routes.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Reply {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    async fn sign_up(&self, user: &str, intent: &str, body: Value) -> Reply {
        let placed = json!({"user_id": user, "region": "eu", "intent": intent, "body": body});
        self.ask("POST", "/cell/v1/users", &KEY, placed).await
    }

    /// A user `id` with the e-mail `<id>@example.org` and a password.
    async fn user(&self, id: &str) {
        let email = format!("{id}@example.org");
        let body = json!({"email": email, "password": "correct horse", "tier": "pro"});
        let intent = hex::encode(id);
        let reply = self.sign_up(id, &intent, body).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.body);
    }

    /// Logs a user in by service key: the headers a router writes for the token.
    async fn session(&self, user: &str) -> [(&'static str, String); 3] {
        let reply = self.ask("POST", "/v1/sessions", &KEY, json!({"user_id": user})).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.body);
        let token = reply.body["session_token"].as_str().unwrap();
        let token = SessionToken::verify(token, &mac_keys()).unwrap();
        let hash = hex::encode(token.secret.hash());
        [
            (header::USER, user.to_owned()),
            (header::CALLER, "session".to_owned()),
            (header::SESSION, format!("{} {hash}", token.session.as_str())),
        ]
    }

    async fn profile_status(&self, session: &[(&'static str, String); 3]) -> StatusCode {
        self.ask("GET", "/v1/user/profile", &borrowed(session), Value::Null).await.status
    }
}

fn borrowed<'s>(headers: &'s [(&'static str, String); 3]) -> [(&'s str, &'s str); 3] {
    headers.each_ref().map(|(name, value)| (*name, value.as_str()))
}

fn session_id(session: &[(&'static str, String); 3]) -> String {
    session[2].1.split(' ').next().unwrap().to_owned()
}

fn by_key(user: &str) -> [(&str, &str); 2] {
    [(header::CALLER, "gateway"), (header::USER, user)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_sign_up_gets_the_first_answer() {
    let world = World::start().await;
    let body = || json!({"email": "ada@example.org", "name": "Ada", "tier": "pro"});
    // Several at once, each with a draw of its own.
    let draws: Vec<String> = (0..16).map(|n| format!("eu_draw{n}")).collect();
    let replies = join_all(draws.iter().map(|id| world.sign_up(id, "aa01", body()))).await;
    for reply in &replies {
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.body);
        assert_eq!(reply.body, replies[0].body);
    }
    assert_eq!(replies[0].body["tier"], "pro");
    assert_eq!(replies[0].body["region"], "eu");
    let users: (i64,) = sqlx::query_as("select count(*) from users").fetch_one(&world.pool).await.unwrap();
    assert_eq!(users.0, 1);
    let id = UserId::new(replies[0].body["user_id"].as_str().unwrap()).unwrap();
    let home = world.directory.read_home(&id).await.unwrap().unwrap();
    assert_eq!(home.state, cellar_directory::HomeState::Active);

    let other = world.sign_up("eu_b", "aa02", body()).await;
    assert_eq!((other.status, other.body["type"].as_str()), (StatusCode::CONFLICT, Some("/problems/email-taken")));
    let renamed = json!({"email": "ada@example.org", "name": "Eve", "tier": "pro"});
    let reused = world.sign_up("eu_b", "aa01", renamed).await;
    assert_eq!(reused.body["type"], "/problems/key-reused");
    let again = world.sign_up("eu_c", "aa01", body()).await;
    assert_eq!(again.body, replies[0].body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_that_makes_no_sense_says_what_is_wrong() {
    let world = World::start().await;
    let cases = [
        (json!({"email": "no", "tier": "pro"}), "/problems/invalid", "/email"),
        (json!({"email": "a@b", "tier": "gold"}), "/problems/unknown-tier", ""),
        (json!({"email": "a@b", "tier": "pro", "password": "short"}), "/problems/invalid", "/password"),
        (json!({"email": "a@b", "tier": "pro", "name": ""}), "/problems/invalid", "/name"),
    ];
    for (body, kind, pointer) in cases {
        let reply = world.sign_up("eu_x", "bb01", body).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(reply.body["type"], kind);
        assert_eq!(reply.body["errors"][0]["pointer"].as_str().unwrap_or(""), pointer);
        assert_eq!(reply.headers[http::header::CONTENT_TYPE], "application/problem+json");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_id_is_refused_for_good_and_its_email_is_free_again() {
    let world = World::start().await;
    world.user("taken").await;
    let body = || json!({"email": "free@example.org", "tier": "pro"});
    for _ in 0..2 {
        let refused = world.sign_up("taken", "cc01", body()).await;
        assert_eq!((refused.status, refused.body["type"].as_str()), (StatusCode::CONFLICT, Some("/problems/conflict")));
    }
    let another = world.sign_up("eu_other", "cc02", body()).await;
    assert_eq!(another.status, StatusCode::CREATED, "{}", another.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_begun_at_another_cell_is_sent_there() {
    let world = World::start().await;
    let elsewhere = cellar_directory::SignUp {
        user: UserId::new("us_first").unwrap(),
        cell: CellName::new("us-1").unwrap(),
        intent: cellar_directory::Intent::new("dd01").unwrap(),
        emails: peppers(b"a").hashes(&Email::parse("far@example.org").unwrap()),
    };
    elsewhere.claim(&world.directory, |_| {}).await.unwrap();
    let reply = world.sign_up("eu_second", "dd01", json!({"email": "far@example.org", "tier": "pro"})).await;
    assert_eq!(reply.status, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(reply.headers[header::HOME], "us-1; epoch=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_in_by_password_tells_nobody_from_somebody() {
    let world = World::start().await;
    world.user("ada").await;
    let log_in = |email: &str, password: &str| {
        let body = json!({"email": email, "password": password, "device": {"name": "phone", "platform": "ios"}});
        world.ask("POST", "/v1/sessions", &[], body)
    };
    let good = log_in("Ada@Example.org", "correct horse").await;
    assert_eq!(good.status, StatusCode::CREATED, "{}", good.body);
    assert_eq!(good.body["user_id"], "ada");
    let wrong = log_in("ada@example.org", "battery staple").await;
    let unknown = log_in("bob@example.org", "battery staple").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert_eq!((unknown.status, unknown.body), (wrong.status, wrong.body));

    let trusted = |headers: Vec<(&'static str, &'static str)>| {
        let world = &world;
        async move { world.ask("POST", "/v1/sessions", &headers, json!({"user_id": "ada"})).await.status }
    };
    assert_eq!(trusted(vec![]).await, StatusCode::UNAUTHORIZED, "only a key vouches for a user");
    assert_eq!(trusted(KEY.to_vec()).await, StatusCode::CREATED);
    let body = json!({"user_id": "ada", "device": {"name": "x".repeat(101)}});
    let long = world.ask("POST", "/v1/sessions", &KEY, body).await;
    assert_eq!(long.body["errors"][0]["pointer"], "/device/name");

    let list = world.ask("GET", "/v1/sessions", &by_key("ada"), Value::Null).await;
    assert_eq!(list.body["sessions"].as_array().unwrap().len(), 2);
    assert!(list.body["last_login_at"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_in_force_at_once_with_and_without_the_cache() {
    // Port 9 is nobody's: a cache that cannot be reached.
    let away = World::with_cache("redis://127.0.0.1:9".to_owned(), None).await;
    for world in [World::start().await, away] {
        world.user("ada").await;
        let (one, two, three) = (world.session("ada").await, world.session("ada").await, world.session("ada").await);
        for session in [&one, &two, &three, &one, &two, &three] {
            assert_eq!(world.profile_status(session).await, StatusCode::OK);
        }
        let path = format!("/v1/sessions/{}", session_id(&one));
        let revoked = world.ask("DELETE", &path, &borrowed(&two), Value::Null).await;
        assert_eq!(revoked.status, StatusCode::NO_CONTENT);
        assert_eq!(world.profile_status(&one).await, StatusCode::UNAUTHORIZED);
        assert_eq!(world.profile_status(&two).await, StatusCode::OK);

        let kept = world.ask("DELETE", "/v1/sessions?keep=current", &borrowed(&two), Value::Null).await;
        assert_eq!(kept.status, StatusCode::NO_CONTENT);
        assert_eq!(world.profile_status(&two).await, StatusCode::OK);
        assert_eq!(world.profile_status(&three).await, StatusCode::UNAUTHORIZED);
        let list = world.ask("GET", "/v1/sessions", &borrowed(&two), Value::Null).await;
        assert_eq!(list.body["sessions"].as_array().unwrap().len(), 1);
        assert_eq!(list.body["sessions"][0]["current"], true);

        let all = world.ask("DELETE", "/v1/sessions", &by_key("ada"), Value::Null).await;
        assert_eq!(all.status, StatusCode::NO_CONTENT);
        assert_eq!(world.profile_status(&two).await, StatusCode::UNAUTHORIZED);
    }
}

/// Goal: a change that has begun goes to its end, in Postgres and in memory, though nobody waits for it.
/// Method: each future is polled once and dropped; what it was to change shows through the routes soon.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_caller_goes_away_is_made_and_known_all_the_same() {
    let world = World::start().await;
    world.user("ada").await;
    let ada = UserId::new("ada").unwrap();
    let (one, two) = (world.session("ada").await, world.session("ada").await);
    let accounts = &world.accounts;
    let cached = async || {
        for session in [&one, &two] {
            world.profile_status(session).await;
        }
    };

    cached().await;
    let id = cellar_model::SessionId::new(&session_id(&one)).unwrap();
    begin_and_drop(accounts.revoke_session(&ada, &id)).await;
    until(async || world.profile_status(&one).await == StatusCode::UNAUTHORIZED).await;
    assert_eq!(world.profile_status(&two).await, StatusCode::OK);

    cached().await;
    begin_and_drop(accounts.revoke_all(&ada, None)).await;
    until(async || world.profile_status(&two).await == StatusCode::UNAUTHORIZED).await;

    // These look at the person first, so they are asked for what comes after.
    let profile = async || world.ask("GET", "/v1/user/profile", &by_key("ada"), Value::Null).await.body;
    assert_eq!(profile().await["name"], Value::Null);
    let (writing, wanted) = (accounts.clone(), IfMatch::of(&HeaderMap::new()).unwrap());
    let patch = json!({"theme": "dark"}).as_object().unwrap().clone();
    let user = ada.clone();
    begin_and_drop(accounts.change(&ada, async move { writing.merge(&user, &patch, &wanted).await })).await;
    until(async || profile().await["preferences"] == json!({"theme": "dark"})).await;
}

async fn begin_and_drop<T>(change: impl Future<Output = T>) {
    let mut change = Box::pin(change);
    assert!(futures::poll!(&mut change).is_pending(), "it was to be given up half way");
}

async fn until(mut seen: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !seen().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), asking).await.expect("it does not come");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_secret_or_another_user_opens_nothing() {
    let world = World::start().await;
    world.user("ada").await;
    world.user("eve").await;
    let session = world.session("ada").await;
    for _ in 0..2 {
        assert_eq!(world.profile_status(&session).await, StatusCode::OK);
        let mut forged = session.clone();
        forged[2].1 = format!("{} {}", session_id(&session), "0".repeat(64));
        assert_eq!(world.profile_status(&forged).await, StatusCode::UNAUTHORIZED);
        let mut borrowed = session.clone();
        borrowed[0].1 = "eve".to_owned();
        assert_eq!(world.profile_status(&borrowed).await, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hundred_and_first_session_ends_the_oldest() {
    let world = World::start().await;
    world.user("ada").await;
    let first = world.session("ada").await;
    assert_eq!(world.profile_status(&first).await, StatusCode::OK);
    for _ in 0..super::log_in::SESSIONS_MAX {
        world.session("ada").await;
    }
    assert_eq!(world.profile_status(&first).await, StatusCode::UNAUTHORIZED);
    let list = world.ask("GET", "/v1/sessions", &by_key("ada"), Value::Null).await;
    assert_eq!(list.body["sessions"].as_array().unwrap().len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_cached_until_it_changes_and_holds_no_secret() {
    let world = World::start().await;
    world.user("ada").await;
    let ada_by_key = by_key("ada");
    let read = || world.ask("GET", "/v1/user/profile", &ada_by_key, Value::Null);
    let first = read().await;
    assert_eq!(first.body["email"], "ada@example.org");
    assert_eq!(first.body["tier"], "pro");
    assert_eq!(first.body["preferences"], json!({}));
    let second = read().await;
    assert_eq!(second.body, first.body);
    let hits = world.accounts.0.hits.get_or_create(&super::CACHE_USER).get();
    assert!(hits >= 1, "{hits} hits");

    let tag = first.headers[http::header::ETAG].to_str().unwrap().to_owned();
    let known = [by_key("ada").to_vec(), vec![("if-none-match", tag.as_str())]].concat();
    let unchanged = world.ask("GET", "/v1/user/profile", &known, Value::Null).await;
    assert_eq!(unchanged.status, StatusCode::NOT_MODIFIED);

    let matching = [by_key("ada").to_vec(), vec![("if-match", tag.as_str())]].concat();
    let named = world.ask("PATCH", "/v1/user/profile", &matching, json!({"name": "Ada"})).await;
    assert_eq!((named.status, &named.body["name"]), (StatusCode::OK, &json!("Ada")));
    let late = world.ask("PATCH", "/v1/user/profile", &matching, json!({"name": "Eve"})).await;
    assert_eq!(late.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(read().await.body["name"], "Ada");

    let client = redis::Client::open(world.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let key = world.accounts.0.cache.key("user", "ada");
    let fields: Vec<String> = redis::cmd("HGETALL").arg(&key).query_async(&mut connection).await.unwrap();
    assert!(fields.contains(&"ada@example.org".to_owned()));
    assert!(!fields.iter().any(|field| field.contains("argon2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn preferences_merge_and_stay_within_bounds() {
    let world = World::start().await;
    world.user("ada").await;
    let patch = |body: Value| {
        world.ask("POST", "/v1/user/preferences", &[(header::CALLER, "gateway"), (header::USER, "ada")], body)
    };
    let first = patch(json!({"theme": "dark", "mail": {"news": true, "tips": true}})).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.body);
    let second = patch(json!({"theme": null, "mail": {"tips": null}})).await;
    assert_eq!(second.body, json!({"mail": {"news": true}}));
    let read = world.ask("GET", "/v1/user/preferences", &by_key("ada"), Value::Null).await;
    assert_eq!(read.body, second.body);
    assert_eq!(read.headers[http::header::ETAG], "\"2\"");
    let profile = world.ask("GET", "/v1/user/profile", &by_key("ada"), Value::Null).await;
    assert_eq!(profile.body["preferences"], read.body);

    let stale = [by_key("ada").to_vec(), vec![("if-match", "\"1\"")]].concat();
    let late = world.ask("POST", "/v1/user/preferences", &stale, json!({"x": 1})).await;
    assert_eq!(late.status, StatusCode::PRECONDITION_FAILED);
    for bad in [
        json!(["not an object"]),
        json!({"nul": "\u{0}"}),
        json!({"": 1}),
        json!({"big": "x".repeat(65 * 1024)}),
        Value::Object((0..257).map(|n| (format!("k{n}"), json!(1))).collect()),
    ] {
        assert_eq!(patch(bad).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(patch(json!({"big": "x".repeat(1024 * 1024)})).await.status, StatusCode::PAYLOAD_TOO_LARGE);

    // Writers of different keys lose nothing to each other.
    let writes = (0..20).map(|n| patch(Value::Object([(format!("k{n}"), json!(n))].into_iter().collect())));
    for reply in join_all(writes).await {
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    }
    let all = world.ask("GET", "/v1/user/preferences", &by_key("ada"), Value::Null).await;
    assert_eq!(all.body.as_object().unwrap().len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_owned_user_is_served() {
    let world = World::start().await;
    world.user("ada").await;
    let ada_by_key = by_key("ada");
    let read = || world.ask("GET", "/v1/user/profile", &ada_by_key, Value::Null);
    let stranger = world.ask("GET", "/v1/user/profile", &by_key("bob"), Value::Null).await;
    assert_eq!(stranger.status, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(stranger.headers.get(header::HOME), None);
    assert_eq!(read().await.status, StatusCode::OK);

    let ada = UserId::new("ada").unwrap();
    let move_to = |state: &'static str, home: &'static str| {
        let (world, ada) = (&world, &ada);
        async move {
            let statement = "update ownership set state = $1, epoch = 2, home = $2";
            sqlx::query(statement).bind(state).bind(home).execute(&world.pool).await.unwrap();
            world.accounts.forget(ada);
        }
    };
    move_to("FROZEN", "eu-1").await;
    assert_eq!(read().await.status, StatusCode::LOCKED);
    move_to("FORWARD", "us-1").await;
    let moved = read().await;
    assert_eq!(moved.status, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(moved.headers[header::HOME], "us-1; epoch=2");
    let write = world.ask("POST", "/v1/user/preferences", &by_key("ada"), json!({"a": 1})).await;
    assert_eq!(write.status, StatusCode::MISDIRECTED_REQUEST);
    move_to("ERASED", "eu-1").await;
    assert_eq!(read().await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn noted_activity_reaches_postgres() {
    let world = World::start().await;
    world.user("ada").await;
    let session = world.session("ada").await;
    sqlx::query("update session_activity set last_active = now() - interval '1 hour'")
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(world.profile_status(&session).await, StatusCode::OK);
    world.accounts.0.activity.write(&world.pool).await.unwrap();
    let recent: (bool,) = sqlx::query_as("select last_active > now() - interval '1 minute' from session_activity")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert!(recent.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_directory_users_are_served_and_sign_ups_are_not() {
    let world = World::start().await;
    world.user("ada").await;
    let away = Secret::new("postgres://postgres@127.0.0.1:9/none".to_owned());
    let accounts = Accounts::new(Dependencies {
        pool: world.pool.clone(),
        cache: redis::Client::open(world.redis_url.as_str()).unwrap(),
        directory: OpenDirectory::lazy(&away, 1).unwrap(),
        peppers: peppers(b"a"),
        mac_keys: mac_keys().into(),
        session_life: SessionLife::default(),
        account_failures: AttemptLimit { failures: 5, forgiven_s: 3_600 },
        cell: CellName::new("eu-1").unwrap(),
        region: RegionName::new("eu").unwrap(),
        peers: Peers::new(),
        quota: None,
        tier_exists: Box::new(|_| true),
        public: true,
    });
    let routes = routes(accounts).split_for_parts().0;
    let world = World { routes, ..world };
    let known = world.ask("GET", "/v1/user/profile", &by_key("ada"), Value::Null).await;
    assert_eq!(known.status, StatusCode::OK);
    let new = world.sign_up("eu_new", "ee01", json!({"email": "new@example.org", "tier": "pro"})).await;
    assert_eq!(new.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(new.headers.contains_key(http::header::RETRY_AFTER));
    let stranger = world.ask("GET", "/v1/user/profile", &by_key("bob"), Value::Null).await;
    assert_eq!(stranger.status, StatusCode::NOT_FOUND, "no router to be mistaken");
}

#[tokio::test]
async fn every_statement_prepares() {
    let world = World::start().await;
    for statement in statements::ALL.iter().copied().flatten() {
        let prepared = (&world.pool).prepare(sqlx::SqlSafeStr::into_sql_str(*statement)).await;
        assert!(prepared.is_ok(), "{statement}: {:?}", prepared.err());
    }
}

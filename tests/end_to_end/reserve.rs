//! Reserve, settle, refund, grant and override, on real processes in virtual time.

use crate::support::{T0, World};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;
/// 2023-12-01T00:00:00Z, sixteen days after `T0`.
const DECEMBER: u64 = 1_701_388_800_000_000;

/// A user of a world, and what is asked for him, as it stands on the wire.
struct Caller<'w> {
    world: &'w World,
    http: reqwest::Client,
    user: String,
}

/// Status, body, and whether it is a first answer given again.
#[derive(Debug)]
struct Said {
    status: u16,
    text: String,
    replayed: bool,
}

impl Said {
    fn body(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn charge(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text);
        self.body()["charge_id"].as_str().unwrap().to_owned()
    }

    fn remaining(&self) -> u64 {
        self.body()["policies"][0]["remaining"].as_u64().unwrap()
    }

    /// The last part of a problem's type.
    fn problem(&self) -> (u16, String) {
        (self.status, self.body()["type"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
    }
}

impl<'w> Caller<'w> {
    async fn sign_up(world: &'w World, email: &str, tier: &str) -> Self {
        let user = world.user(email, tier).await;
        Self { world, http: reqwest::Client::new(), user: user.as_str().to_owned() }
    }

    /// Sent again while the answer is unknown.
    async fn send(&self, method: reqwest::Method, path: &str, key: Option<&str>, body: &Value) -> Said {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let url = format!("{}{path}", self.world.urls[0]);
            let mut request = self.http.request(method.clone(), url).bearer_auth(&self.world.service_key);
            if let Some(key) = key {
                request = request.header("idempotency-key", format!("\"{key}\""));
            }
            let response = request.header("cellar-deadline-ms", "3000").body(body.to_string()).send().await.unwrap();
            let (status, replayed) =
                (response.status().as_u16(), response.headers().contains_key("idempotency-replayed"));
            let said = Said { status, text: response.text().await.unwrap(), replayed };
            if said.status != 503 {
                return said;
            }
            assert!(Instant::now() < until, "no answer: {}", said.text);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn post(&self, operation: &str, mut body: Value) -> Said {
        body["user_id"] = self.user.clone().into();
        self.send(reqwest::Method::POST, &format!("/v1/internal/quota/{operation}"), None, &body).await
    }

    async fn consume(&self, tokens: u64, at_us: u64) -> Said {
        self.post("consume", json!({"cost": cost(tokens), "at_us": at_us})).await
    }

    async fn reserve(&self, tokens: u64, at_us: u64) -> Said {
        self.post("reserve", json!({"cost": cost(tokens), "at_us": at_us})).await
    }

    async fn settle(&self, charge: &str, tokens: u64, at_us: u64) -> Said {
        self.post("settle", json!({"charge_id": charge, "cost": cost(tokens), "at_us": at_us})).await
    }

    async fn refund(&self, charge: &str, at_us: u64) -> Said {
        self.post("refund", json!({"charge_id": charge, "at_us": at_us})).await
    }

    /// What the policy has left.
    async fn left(&self, at_us: u64) -> u64 {
        self.consume(0, at_us).await.remaining()
    }

    async fn books_say(&self, tokens: u64) {
        let user = self.user.parse().unwrap();
        assert_eq!(self.world.books(None, &user, "tokens").await, (tokens, tokens, tokens));
        let audit = self.world.cellctl.ok(&["audit", "--json"]).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&audit).unwrap()["mismatches"], json!([]));
    }
}

/// Tokens, and no request.
fn cost(tokens: u64) -> Value {
    json!({"tokens": tokens, "requests": 0})
}

/// Goal: what a user was charged is told by day, less what was given back.
#[tokio::test(flavor = "multi_thread")]
async fn usage_adds_up_to_the_ledger_day_by_day() {
    let world = World::cell();
    world.bucket_tier("bucket", 1_000).await;
    let caller = Caller::sign_up(&world, "usage@example.org", "bucket").await;
    caller.consume(10, T0).await;
    let charge = caller.reserve(400, T0 + SECOND).await.charge();
    caller.settle(&charge, 150, T0 + 2 * SECOND).await;
    caller.consume(7, T0 + 86_400 * SECOND).await;
    caller.books_say(167).await;
    let user = caller.user.parse().unwrap();
    let usage = world.client.usage(&user, Some("2023-11-14"), Some("2023-11-16")).await.unwrap();
    let tokens = |n: i64| std::collections::BTreeMap::from([("tokens".into(), n)]);
    assert_eq!(usage.totals, tokens(167));
    let days: Vec<_> = usage.days.into_iter().map(|day| (day.day, day.charges)).collect();
    assert_eq!(days, [("2023-11-14".into(), tokens(160)), ("2023-11-15".into(), tokens(7))]);
    assert!(world.client.usage(&user, Some("2023-11-16"), Some("2023-11-18")).await.unwrap().days.is_empty());
    assert!(world.client.usage(&user, Some("2023-11-16"), Some("2023-11-16")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_is_settled_once_up_and_down_and_the_books_agree() {
    let world = World::cell();
    world.bucket_tier("bucket", 1_000).await;
    let caller = Caller::sign_up(&world, "settle@example.org", "bucket").await;

    let reserved = caller.reserve(400, T0).await;
    let charge = reserved.charge();
    assert_eq!(reserved.remaining(), 600);
    assert_eq!(reserved.body()["expires_at"], "2023-11-14T22:14:20Z");

    let settled = caller.settle(&charge, 150, T0 + SECOND).await;
    assert_eq!((settled.charge(), settled.remaining(), settled.replayed), (charge.clone(), 850, false));
    assert!(settled.body().get("overshoot").is_none(), "{}", settled.text);
    let again = caller.settle(&charge, 150, T0 + 2 * SECOND).await;
    assert_eq!((&again.text, again.replayed), (&settled.text, true));
    assert_eq!(caller.settle(&charge, 151, T0 + 2 * SECOND).await.problem(), (422, "key-reused".into()));
    assert_eq!(caller.refund(&charge, T0 + 2 * SECOND).await.problem(), (409, "charge-closed".into()));

    // More than was left: charged all the same, and said.
    let charge = caller.reserve(800, T0 + 3 * SECOND).await.charge();
    let over = caller.settle(&charge, 900, T0 + 4 * SECOND).await;
    assert_eq!((over.remaining(), &over.body()["overshoot"]), (0, &json!({"tokens": 50})));
    assert_eq!(caller.consume(1, T0 + 5 * SECOND).await.status, 429);
    caller.books_say(1_050).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_gives_back_once_whether_drained_or_not() {
    let world = World::cell();
    world.bucket_tier("bucket", 1_000).await;
    let caller = Caller::sign_up(&world, "refund@example.org", "bucket").await;
    let other = Caller::sign_up(&world, "other@example.org", "bucket").await;

    // Not drained yet: the refund comes right behind its charge.
    let charge = caller.consume(300, T0).await.charge();
    let refunded = caller.refund(&charge, T0 + SECOND).await;
    assert_eq!((refunded.charge(), refunded.remaining()), (charge.clone(), 1_000));
    let again = caller.refund(&charge, T0 + 2 * SECOND).await;
    assert_eq!((&again.text, again.replayed), (&refunded.text, true));
    assert_eq!(caller.settle(&charge, 5, T0 + 2 * SECOND).await.problem(), (409, "charge-closed".into()));

    // An open reservation, then what can be said of it afterwards.
    let reserved = caller.reserve(200, T0 + 3 * SECOND).await.charge();
    assert_eq!(caller.refund(&reserved, T0 + 4 * SECOND).await.remaining(), 1_000);
    assert_eq!(caller.settle(&reserved, 5, T0 + 5 * SECOND).await.problem(), (409, "charge-closed".into()));

    // A plain charge is no reservation; nobody closes another's, nor one that was never made.
    let charge = caller.consume(100, T0 + 6 * SECOND).await.charge();
    assert_eq!(caller.settle(&charge, 5, T0 + 6 * SECOND).await.problem(), (409, "not-reserved".into()));
    assert_eq!(other.refund(&charge, T0 + 6 * SECOND).await.problem(), (404, "unknown-charge".into()));
    assert_eq!(other.settle(&charge, 5, T0 + 6 * SECOND).await.problem(), (404, "unknown-charge".into()));
    assert_eq!(caller.refund("c1-1-1-9", T0 + 6 * SECOND).await.problem(), (404, "unknown-charge".into()));
    assert_eq!(caller.refund("c1-999-999-0", T0 + 6 * SECOND).await.problem(), (404, "unknown-charge".into()));
    assert_eq!(caller.refund("c", T0 + 6 * SECOND).await.problem(), (422, "invalid".into()));

    // Drained long ago, and too old at last.
    caller.books_say(100).await;
    assert_eq!(caller.refund(&charge, T0 + 41 * DAY).await.problem(), (404, "unknown-charge".into()));
    let charge = caller.consume(70, T0 + 42 * DAY).await.charge();
    caller.books_say(170).await;
    assert_eq!(caller.refund(&charge, T0 + 43 * DAY).await.remaining(), 1_000);
    caller.books_say(100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_expiry_a_settle_charges_what_is_missing_once() {
    let world = World::cell();
    world.bucket_tier("bucket", 1_000).await;
    let caller = Caller::sign_up(&world, "expiry@example.org", "bucket").await;
    let (less, more) = (caller.reserve(100, T0).await.charge(), caller.reserve(100, T0).await.charge());
    // The tier says `charge`: nothing comes back.
    assert_eq!(caller.left(T0 + 61 * SECOND).await, 800);
    assert_eq!(caller.settle(&less, 40, T0 + 62 * SECOND).await.remaining(), 800);
    let settled = caller.settle(&more, 130, T0 + 63 * SECOND).await;
    assert_eq!(settled.remaining(), 770);
    let again = caller.settle(&more, 130, T0 + 64 * SECOND).await;
    assert_eq!((&again.text, again.replayed), (&settled.text, true));
    caller.books_say(230).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_that_releases_gives_back_at_expiry_and_a_late_settle_charges_it_all() {
    let world = World::cell();
    world.tier_of("release", "on_expiry = \"release\"\n", 1_000).await;
    let caller = Caller::sign_up(&world, "release@example.org", "release").await;
    let (gone, late) = (caller.reserve(100, T0).await.charge(), caller.reserve(200, T0).await.charge());
    assert_eq!(caller.left(T0 + 59 * SECOND).await, 700);
    assert_eq!(caller.left(T0 + 60 * SECOND).await, 1_000);
    assert_eq!(caller.settle(&late, 150, T0 + 61 * SECOND).await.remaining(), 850);
    assert_eq!(caller.refund(&gone, T0 + 62 * SECOND).await.problem(), (409, "charge-closed".into()));
    caller.books_say(150).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_next_month_nothing_is_given_back() {
    let world = World::cell();
    world.bucket_tier("bucket", 1_000).await;
    let caller = Caller::sign_up(&world, "month@example.org", "bucket").await;
    let charge = caller.reserve(500, DECEMBER - 10 * SECOND).await.charge();
    assert_eq!(caller.consume(100, DECEMBER + SECOND).await.remaining(), 900);
    assert_eq!(caller.settle(&charge, 200, DECEMBER + 2 * SECOND).await.remaining(), 900);
    // What was used is what the books say, whichever month it fell into.
    caller.books_say(300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sixty_fifth_open_reservation_is_refused() {
    let world = World::cell();
    world.bucket_tier("bucket", 1_000).await;
    let caller = Caller::sign_up(&world, "many@example.org", "bucket").await;
    let first = caller.reserve(1, T0).await.charge();
    for _ in 1..64 {
        assert_eq!(caller.reserve(1, T0).await.status, 200);
    }
    let refused = caller.reserve(1, T0).await;
    assert_eq!(refused.problem(), (409, "too-many-reservations".into()));
    assert_eq!(caller.settle(&first, 1, T0).await.status, 200);
    assert_eq!(caller.reserve(1, T0).await.status, 200);
    caller.books_say(65).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_through_a_router_with_keys_and_a_batch_of_good_and_bad_items() {
    let world = World::up(&["up", "--regions", "1", "--cells", "1", "--clock", "virtual"]);
    world.bucket_tier("bucket", 1_000).await;
    let caller = Caller::sign_up(&world, "router@example.org", "bucket").await;
    let body = json!({"user_id": caller.user, "cost": cost(100), "expires_in_s": 600, "at_us": T0});
    let path = "/v1/internal/quota/reserve";
    let first = caller.send(reqwest::Method::POST, path, Some("k"), &body).await;
    let second = caller.send(reqwest::Method::POST, path, Some("k"), &body).await;
    assert_eq!((first.status, &first.text, second.replayed), (200, &second.text, true));
    let charge = first.charge();
    assert_eq!(caller.settle(&charge, 30, T0 + SECOND).await.remaining(), 970);

    let checks = json!({"checks": [
        {"user_id": caller.user, "cost": cost(10), "at_us": T0 + SECOND},
        {"user_id": caller.user, "cost": cost(2_000), "at_us": T0 + SECOND},
        {"user_id": "nobody", "cost": cost(1), "at_us": T0 + SECOND},
        {"user_id": caller.user, "cost": {"apples": 1}, "at_us": T0 + SECOND},
        {"user_id": caller.user, "cost": cost(965), "at_us": T0 + SECOND},
        {"user_id": caller.user, "cost": cost(20), "at_us": T0 + SECOND},
    ]});
    let said = caller.send(reqwest::Method::POST, "/v1/internal/quota/batch", None, &checks).await;
    let results = said.body()["results"].clone();
    let statuses: Vec<u64> = results.as_array().unwrap().iter().map(|one| one["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 422, 404, 422, 429, 200]);
    let charge = results[5]["charge_id"].as_str().unwrap();
    assert_eq!(caller.refund(charge, T0 + 2 * SECOND).await.remaining(), 960);
    let audit: Value = serde_json::from_str(&world.cellctl.ok(&["audit", "--json"]).unwrap()).unwrap();
    assert_eq!(audit["mismatches"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_gives_where_the_policy_denies_and_an_override_has_its_own_limit() {
    let world = World::cell();
    world.bucket_tier("bucket", 100).await;
    let caller = Caller::sign_up(&world, "grant@example.org", "bucket").await;
    assert_eq!(caller.consume(80, T0).await.status, 200);
    assert_eq!(caller.consume(50, T0).await.status, 429);
    let grant = |slot: &str, until: &str| json!({"slot": slot, "amount": 120, "until": until, "at_us": T0});
    let until = "2023-11-20T00:00:00Z";
    assert_eq!(caller.post("grant", grant("daily", until)).await.problem(), (422, "unknown-slot".into()));
    assert_eq!(caller.post("grant", grant("monthly", "2023-11-01T00:00:00Z")).await.problem(), (422, "invalid".into()));
    let granted = caller.post("grant", grant("monthly", until)).await;
    assert_eq!((granted.status, &granted.body()["policies"][0]["granted"]), (200, &json!(120)));

    // The policy has 20 left: what it can give it gives, the rest comes wholly out of the grant.
    let said = caller.consume(50, T0 + SECOND).await;
    assert_eq!((said.remaining(), &said.body()["policies"][0]["granted"]), (20, &json!(70)));
    let charge = said.charge();
    assert_eq!(caller.consume(20, T0 + SECOND).await.remaining(), 0);
    assert_eq!(caller.consume(71, T0 + SECOND).await.status, 429);
    let back = caller.refund(&charge, T0 + 2 * SECOND).await;
    assert_eq!((back.remaining(), &back.body()["policies"][0]["granted"]), (0, &json!(120)));
    assert_eq!(caller.consume(1, T0 + 7 * DAY).await.status, 429, "the grant is over");
    caller.books_say(100).await;

    let path = format!("/v1/internal/users/{}/override", caller.user);
    let put = async |settings: Value| {
        let body =
            json!({"slot": "monthly", "settings": settings, "until": "2023-11-25T00:00:00Z", "at_us": T0 + 8 * DAY});
        caller.send(reqwest::Method::PUT, &path, None, &body).await
    };
    let bad = put(json!({"limit": 0, "burst": 5})).await;
    assert_eq!(bad.problem(), (422, "invalid".into()));
    let pointers: Vec<Value> =
        bad.body()["errors"].as_array().unwrap().iter().map(|error| error["pointer"].clone()).collect();
    assert!(pointers.contains(&json!("/settings/limit")) && pointers.contains(&json!("/settings/burst")), "{bad:?}");
    assert_eq!(put(json!({"limit": 150})).await.remaining(), 50);
    assert_eq!(caller.consume(30, T0 + 8 * DAY).await.remaining(), 20);
    // 25 November and later: the tier's own limit, and what was spent stays spent.
    assert_eq!(caller.consume(1, T0 + 11 * DAY).await.status, 429);
    caller.books_say(130).await;
}

/// Goal: a reservation that nobody settles and nobody asks about is released by itself.
/// Method: a wall clock; only the audit looks at the user.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_wall_clock_the_sweep_releases_what_nobody_touches() {
    let world = World::up(&["cell", "up"]);
    world.tier_of("release", "on_expiry = \"release\"\n", 1_000).await;
    let caller = Caller::sign_up(&world, "sweep@example.org", "release").await;
    let reserved = caller.post("reserve", json!({"cost": cost(400), "expires_in_s": 1})).await;
    assert_eq!(reserved.remaining(), 600);
    let user = caller.user.parse().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while world.books(None, &user, "tokens").await != (0, 0, 0) {
        assert!(Instant::now() < until, "nobody looks after it");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let left = caller.post("consume", json!({"cost": cost(0)})).await;
    assert_eq!(left.remaining(), 1_000);
    // Late all the same: what was used is charged, once.
    let settled = caller.post("settle", json!({"charge_id": reserved.charge(), "cost": cost(300)})).await;
    assert_eq!(settled.remaining(), 700);
    caller.books_say(300).await;
}

/// Goal: of all that would close a charge at the same time one does, and the books show one.
/// Method: 48 settles and refunds of each charge race, of an open reservation and of one that expired
/// and is looked up in the ledger.
#[tokio::test(flavor = "multi_thread")]
async fn a_race_to_close_a_charge_has_one_winner_and_one_answer() {
    let world = World::cell();
    world.bucket_tier("bucket", 1_000_000).await;
    let caller = Caller::sign_up(&world, "race@example.org", "bucket").await;
    let mut total = 0;
    for n in 0..6 {
        let at_us = T0 + n * 100 * SECOND;
        let charge = caller.reserve(100, at_us).await.charge();
        // Every other one is closed after it has expired: it stays charged, and 30 more are missing.
        let late_us = at_us + if n % 2 == 0 { SECOND } else { 61 * SECOND };
        let race = (0..48).map(|n| {
            let (caller, charge) = (&caller, &charge);
            async move {
                match n % 2 {
                    0 => caller.settle(charge, 130, late_us).await,
                    _ => caller.refund(charge, late_us).await,
                }
            }
        });
        let said = futures::future::join_all(race).await;
        let won: Vec<&Said> = said.iter().filter(|said| said.status == 200).collect();
        assert_eq!(won.len(), 24, "all of one kind");
        assert!(won.iter().all(|said| said.text == won[0].text));
        assert_eq!(won.iter().filter(|said| !said.replayed).count(), 1);
        assert!(said.iter().all(|said| said.status == 200 || said.problem() == (409, "charge-closed".into())));
        if said[0].status == 200 {
            total += 130;
        }
    }
    caller.books_say(total).await;
}

/// Goal: what was closed stays closed, with its first answer, after the quota Redis has died.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_forgets_no_reservation_and_no_settle() {
    let world = World::cell();
    world.bucket_tier("bucket", 1_000).await;
    let caller = Caller::sign_up(&world, "killed@example.org", "bucket").await;
    let (settled, open) = (caller.reserve(100, T0).await.charge(), caller.reserve(200, T0).await.charge());
    let plain = caller.consume(50, T0).await.charge();
    let first = caller.settle(&settled, 70, T0 + SECOND).await;
    let refunded = caller.refund(&plain, T0 + SECOND).await;

    cellar_devstack::Stack::open(world.cellctl.stack()).unwrap().kill9("redis-quota").await.unwrap();
    world.cellctl.ok(&["restart", "redis-quota"]).unwrap();
    let again = caller.settle(&settled, 70, T0 + 2 * SECOND).await;
    assert_eq!((&again.text, again.replayed), (&first.text, true));
    assert_eq!(caller.settle(&settled, 71, T0 + 2 * SECOND).await.problem(), (422, "key-reused".into()));
    let again = caller.refund(&plain, T0 + 2 * SECOND).await;
    assert_eq!((&again.text, again.replayed), (&refunded.text, true));
    assert_eq!(caller.settle(&open, 20, T0 + 2 * SECOND).await.remaining(), 910);
    caller.books_say(90).await;
}

//! Bad input gets the documented answer, and nothing is lost.

use crate::support::{World, sign_up_body, tokens};
use serde_json::{Value, json};

struct Raw {
    http: reqwest::Client,
    url: String,
    key: String,
}

impl Raw {
    fn of(world: &World) -> Raw {
        let url = format!("{}/v1/internal/quota/consume", world.urls[0]);
        Raw { http: reqwest::Client::new(), url, key: world.service_key.clone() }
    }

    async fn send(&self, body: String, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut request = self.http.post(&self.url).bearer_auth(&self.key).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or(Value::Null))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_bad_request_gets_its_documented_problem() {
    let world = World::cell();
    let user = world.user("bad@example.org", "free").await;
    let raw = Raw::of(&world);
    let id = user.as_str();
    let with = |cost: Value| json!({"user_id": id, "cost": cost, "at_us": 1_700_000_000_000_000u64}).to_string();

    for (what, body, status, kind) in [
        ("malformed JSON", "{\"user_id\":".to_owned(), 400, "/problems/malformed"),
        ("an empty body", String::new(), 400, "/problems/malformed"),
        ("an unknown user", json!({"user_id": "nobody", "cost": 1}).to_string(), 404, "/problems/unknown-user"),
        ("no user", json!({"cost": 1}).to_string(), 422, "/problems/invalid"),
        ("an unknown unit", with(json!({"apples": 1})), 422, "/problems/unknown-unit"),
        ("a negative amount", with(json!({"tokens": -1})), 422, "/problems/invalid"),
        ("a fraction", with(json!(1.5)), 422, "/problems/invalid"),
        ("more than 2^40", with(json!(1u64 << 41)), 422, "/problems/invalid"),
        ("more than the limit", with(json!(20_001)), 422, "/problems/above-limit"),
        ("an unknown member", json!({"user_id": id, "const": 1}).to_string(), 422, "/problems/invalid"),
    ] {
        let (got, problem) = raw.send(body, &[]).await;
        assert_eq!((got, problem["type"].as_str().unwrap_or("")), (status, kind), "{what}: {problem}");
    }

    let (status, problem) = raw.send("x".repeat(2 << 20), &[]).await;
    assert_eq!((status, problem["type"].as_str().unwrap_or("")), (413, "/problems/too-large"));
    let (status, _) = raw.send(with(json!(1)), &[("idempotency-key", &"k".repeat(201))]).await;
    assert_eq!(status, 422);
    let wrong_key = Raw { key: "csk_wrong".into(), ..Raw::of(&world) };
    assert_eq!(wrong_key.send(with(json!(1)), &[]).await.0, 401);

    // Zero asks only.
    let (status, answer) = raw.send(with(json!({"requests": 0, "tokens": 0})), &[]).await;
    assert_eq!((status, answer["policies"][1]["remaining"].as_u64()), (200, Some(20_000)));
    // And after all that, nothing is charged.
    assert_eq!(world.books(None, &user, "tokens").await, (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_refuses_the_callers_time() {
    let world = World::up(&["cell", "up"]);
    let user = world.user("wall@example.org", "free").await;
    let error = world.client.consume(&tokens(&user, 1, None)).await.unwrap_err();
    assert_eq!(error.status(), Some(422));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_file_with_many_faults_is_refused_with_all_of_them() {
    let world = World::cell();
    let file = world.cellctl.folder().join("bad.toml");
    let text = "name = \"bad\"\n[[policy]]\nslot = \"a\"\nuse = \"gcra@1\"\nunit = \"requests\"\nsettings = { limit = 0, brst = 1 }\n\
                [[policy]]\nslot = \"b\"\nuse = \"nothing@1\"\nunit = \"tokens\"\n";
    std::fs::write(&file, text).unwrap();
    let output = world.cellctl.run(&["tier", "apply", file.to_str().unwrap(), "--yes"]).unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    for pointer in ["/policy/0/settings/limit", "/policy/0/settings/brst", "/policy/1/use"] {
        assert!(said.contains(pointer), "{pointer} is missing: {said}");
    }
    assert!(!world.cellctl.ok(&["tier", "show"]).unwrap().contains("\"bad\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupted_trace_is_named_by_line_and_nothing_of_it_is_played() {
    let world = World::cell();
    let file = world.cellctl.folder().join("trace.csv");
    std::fs::write(&file, "time,tokens\n1700000000,10\n1700000001,ten\n").unwrap();
    let output = world.cellctl.run(&["trace", "play", file.to_str().unwrap()]).unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 3"));
    let audit: Value = serde_json::from_str(&world.cellctl.ok(&["audit", "--json"]).unwrap()).unwrap();
    assert_eq!(audit["users"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_in_an_unknown_tier_or_with_a_bad_e_mail_is_refused() {
    let world = World::cell();
    for body in [sign_up_body("a@example.org", "golden"), sign_up_body("no-address", "free")] {
        assert_eq!(world.client.sign_up(&body, None).await.unwrap_err().status(), Some(422));
    }
    let unclaimed = world.client.sign_up(&sign_up_body("a@example.org", "free"), None).await;
    assert!(unclaimed.is_ok(), "a refused sign-up holds no e-mail");
}

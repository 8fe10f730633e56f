//! Preferences: two writers at once, and what is refused.

use super::{Reply, World, by_key};
use axum::body::Body;
use cellar_model::header;
use futures::future::join_all;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

const PATH: &str = "/v1/user/preferences";

impl World {
    async fn patch(&self, patch: Value, if_match: Option<&str>) -> Reply {
        let named = if_match.map(|tag| ("if-match", tag));
        let headers: Vec<(&str, &str)> = by_key("ada").into_iter().chain(named).collect();
        self.ask("POST", PATH, &headers, patch).await
    }

    async fn preferences(&self) -> (Value, String) {
        let reply = self.ask("GET", PATH, &by_key("ada"), Value::Null).await;
        (reply.body, reply.headers[http::header::ETAG].to_str().unwrap().to_owned())
    }

    /// A patch of bytes that may be no JSON: the status, and the problem's type.
    async fn patch_raw(&self, body: Vec<u8>) -> (u16, String) {
        let request = Request::post(PATH).header(header::CALLER, "gateway").header(header::USER, "ada");
        let answer = self.routes.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        (status, problem["type"].as_str().unwrap_or_default().to_owned())
    }
}

/// Goal: two writers at once lose nothing to each other, on the same key and on different ones; of those that name
/// the same state exactly one writes.
#[tokio::test(flavor = "multi_thread")]
async fn two_writers_at_once_lose_nothing_and_of_those_that_name_a_state_one_wins() {
    let world = World::start().await;
    world.user("ada").await;
    for round in 0..10 {
        let (one, two) = (format!("one-{round}"), format!("two-{round}"));
        let both = [json!({"same": {&one: 1}, &one: round}), json!({"same": {&two: 2}, &two: round})];
        for reply in join_all(both.map(|patch| world.patch(patch, None))).await {
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        }
        let (all, _) = world.preferences().await;
        assert_eq!((&all["same"][&one], &all["same"][&two]), (&json!(1), &json!(2)), "the same key");
        assert_eq!((&all[&one], &all[&two]), (&json!(round), &json!(round)), "keys of their own");
    }
    for round in 0..10 {
        let (before, tag) = world.preferences().await;
        let racing = (0..6).map(|n| world.patch(json!({"won": [round, n], format!("n{n}"): round}), Some(&tag)));
        let replies = join_all(racing).await;
        let won: Vec<usize> = (0..6).filter(|n| replies[*n].status == StatusCode::OK).collect();
        let late = replies.iter().filter(|reply| reply.status == StatusCode::PRECONDITION_FAILED).count();
        assert_eq!((won.len(), late), (1, 5));
        let (mut expected, n) = (before, won[0]);
        expected["won"] = json!([round, n]);
        expected[format!("n{n}")] = json!(round);
        assert_eq!(world.preferences().await.0, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_patch_gets_its_problem_and_nothing_is_lost() {
    let world = World::start().await;
    world.user("ada").await;
    assert_eq!(world.patch(json!({"theme": "dark"}), None).await.status, StatusCode::OK);
    let (kept, tag) = world.preferences().await;

    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let of_keys = |count: usize| Value::Object((0..count).map(|n| (format!("k{n}"), json!(1))).collect()).to_string();
    // The quotes count, and the key.
    let of_bytes = |bytes: usize| json!({"b": "x".repeat(bytes - 3), "theme": null}).to_string();
    let refused: [(&str, Vec<u8>, u16, &str); 14] = [
        ("200 levels", deep.into(), 400, "/problems/malformed"),
        ("no JSON", b"{\"a\":".to_vec(), 400, "/problems/malformed"),
        ("nothing", Vec::new(), 400, "/problems/malformed"),
        ("invalid UTF-8", b"{\"a\":\"\xff\xfe\"}".to_vec(), 400, "/problems/malformed"),
        ("a lone surrogate", br#"{"a":"\ud800"}"#.to_vec(), 400, "/problems/malformed"),
        ("a lone surrogate in a key", br#"{"\udc00":1}"#.to_vec(), 400, "/problems/malformed"),
        ("a number beyond all", b"{\"a\":1e999}".to_vec(), 400, "/problems/malformed"),
        ("NUL", br#"{"a":"\u0000"}"#.to_vec(), 422, "/problems/invalid"),
        ("NUL in a key further down", br#"{"a":[{"\u0000":1}]}"#.to_vec(), 422, "/problems/invalid"),
        ("a key twice", br#"{"a":1,"a":2}"#.to_vec(), 422, "/problems/invalid"),
        ("no object", b"[1]".to_vec(), 422, "/problems/invalid"),
        ("257 keys", of_keys(257).into(), 422, "/problems/invalid"),
        ("64 KiB and a byte", of_bytes(64 * 1024 + 1).into(), 422, "/problems/invalid"),
        ("2 MB", vec![b' '; 2 << 20], 413, "/problems/too-large"),
    ];
    for (what, body, status, kind) in refused {
        assert_eq!(world.patch_raw(body).await, (status, kind.to_owned()), "{what}");
    }
    assert_eq!(world.patch(json!({"a": 1}), Some("\"0\"")).await.status, StatusCode::PRECONDITION_FAILED);
    let none = world.patch(json!({"a": 1}), Some("")).await;
    assert_eq!(none.status, StatusCode::PRECONDITION_FAILED, "a list of no tags");
    for malformed in ["0", "\"1", "*, \"1\""] {
        assert_eq!(world.patch(json!({"a": 1}), Some(malformed)).await.status, StatusCode::BAD_REQUEST, "{malformed}");
    }
    assert_eq!(world.preferences().await, (kept.clone(), tag.clone()), "after all that nothing has changed");

    let empty = world.patch(json!({}), Some(&tag)).await;
    assert_eq!((empty.status, &empty.body), (StatusCode::OK, &kept), "an empty patch changes nothing");
    assert_eq!(world.patch_raw(of_bytes(64 * 1024).into()).await.0, 200, "just 64 KiB");
    let none = world.patch(json!({"b": null}), Some("*")).await;
    assert_eq!(none.body, json!({}));
    assert_eq!(world.patch_raw(of_keys(256).into()).await.0, 200);
}

//! Every route, and every kind of input that is wrong: the documented problem, and nothing else.

use crate::served::{Came, DOORS, Operation, Served, parameters};
use crate::support::{World, sign_up_body};
use cellar_model::UserId;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use std::ops::RangeInclusive;

/// Any problem that says the caller's request is at fault.
const MISTAKE: RangeInclusive<u16> = 400..=422;

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_every_kind_of_bad_input_with_a_documented_problem() {
    for door in DOORS {
        let world = World::up(door);
        let served = open(&world).await;
        for operation in served.operations() {
            for (name, example) in operation.examples() {
                let asked = Asked { served: &served, operation: &operation, example };
                asked.try_bodies(&name).await;
                asked.try_parameters(&name).await;
            }
        }
        try_paths(&served).await;
        try_ids_of_other_cells(&served).await;
        try_methods(&served).await;
        assert_whole(&served).await;
    }
}

/// With the user of the examples.
async fn open(world: &World) -> Served {
    world.user("first@example.org", "free").await;
    let mut body = sign_up_body("grace@example.org", "free");
    body.user_id = Some(UserId::new("grace").unwrap());
    world.client.sign_up(&body, None).await.unwrap();
    Served::of(world).await
}

struct Asked<'s> {
    served: &'s Served,
    operation: &'s Operation,
    example: Value,
}

impl Asked<'_> {
    fn request(&self, replaced: &[(&str, &str)]) -> RequestBuilder {
        let mut all = parameters(&self.example);
        for (name, value) in replaced {
            all.retain(|(other, _)| other != name);
            all.push(((*name).to_owned(), (*value).to_owned()));
        }
        self.served.request(self.operation, &all).bearer_auth(&self.served.key)
    }

    async fn expect(&self, what: &str, request: RequestBuilder, statuses: RangeInclusive<u16>) -> Came {
        let came = Came::of(request).await;
        let what = format!("{} {}: {what}", self.operation.method, self.operation.path);
        assert!(statuses.contains(&came.status), "{what}: {} {}", came.status, came.text);
        assert_eq!(self.served.fault(self.operation, &came), None, "{what}");
        came
    }

    async fn try_bodies(&self, name: &str) {
        let large = vec![b' '; 2 << 20];
        if !self.operation.takes_body() {
            // Nobody reads it, and a router does not pass it on.
            // It may be gone before it has taken the whole of it.
            // The connection goes with it: nothing later is to meet its end.
            if let Ok(response) = self.request(&[]).header("connection", "close").body(large).send().await {
                let status = response.status().as_u16();
                assert!(
                    status == self.operation.success() || [404, 413].contains(&status),
                    "{}: {status}",
                    self.operation.id
                );
            }
            return;
        }
        let whole = self.example["body"].to_string();
        let cut = &whole[..whole.len() - 1];
        let member = |text: &str| format!("{cut},{text}}}");
        let deep = format!("{cut},\"deep\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        let cases: Vec<(&str, Vec<u8>, RangeInclusive<u16>)> = vec![
            ("nothing", Vec::new(), 400..=400),
            ("half a body", cut.into(), 400..=400),
            ("two bodies", format!("{whole}{whole}").into(), 400..=400),
            ("no JSON", b"user_id=grace".to_vec(), 400..=400),
            ("invalid UTF-8", [cut.as_bytes(), b",\"x\":\"\xff\xfe\"}"].concat(), 400..=422),
            ("UTF-16", "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect(), 400..=400),
            ("a NUL between members", [cut.as_bytes(), b"\0}"].concat(), 400..=400),
            ("a lone surrogate", member(r#""x":"\ud800""#).into(), 400..=422),
            ("depth 200", deep.into(), 400..=422),
            ("an array for an object", format!("[{whole}]").into(), 400..=422),
            ("a text", b"\"grace\"".to_vec(), 422..=422),
            ("a number", b"7".to_vec(), 422..=422),
            ("null", b"null".to_vec(), 422..=422),
            ("2 MB", large, 413..=413),
        ];
        for (what, body, statuses) in cases {
            let came = self.expect(&format!("{name}: {what}"), self.request(&[]).body(body), statuses).await;
            assert!(!came.text.contains("grace@"), "{what} is not told back: {}", came.text);
        }
        self.try_members(name, &member).await;
    }

    async fn try_members(&self, name: &str, member: &impl Fn(&str) -> String) {
        if self.operation.id == "patchPreferences" {
            // Any member is a key.
            self.expect("a NUL in a key", self.request(&[]).body(member(r#""a\u0000b":1"#)), 422..=422).await;
            self.expect("a NUL in a value", self.request(&[]).body(member(r#""a":["\u0000"]"#)), 422..=422).await;
            self.expect("an empty key", self.request(&[]).body(member(r#""":1"#)), 422..=422).await;
            return;
        }
        let unknown = self.request(&[]).body(member(r#""cellar":1"#));
        let came = self.expect(&format!("{name}: an unknown member"), unknown, 422..=422).await;
        assert_eq!(came.body["errors"][0]["pointer"], "/cellar");
        let body = self.example["body"].as_object().unwrap();
        for (key, value) in body {
            let twice = member(&format!("{}:{value}", Value::from(key.as_str())));
            self.expect(&format!("{name}: {key} twice"), self.request(&[]).body(twice), 422..=422).await;
            for wrong in
                [json!(true), json!([[]]), json!({"a": {"b": []}}), json!("\u{0}"), json!(-1), json!(1.5), json!(1e300)]
            {
                let mut changed = body.clone();
                changed.insert(key.clone(), wrong.clone());
                let request = self.request(&[]).body(Value::from(changed).to_string());
                let came = Came::of(request).await;
                assert_eq!(self.served.fault(self.operation, &came), None, "{name}: {key} is {wrong}");
                // Settings are the policy's own; a password may be any text, if it is long enough.
                assert!(MISTAKE.contains(&came.status), "{name}: {key} is {wrong}: {}", came.text);
            }
        }
    }

    async fn try_parameters(&self, name: &str) {
        let long = "k".repeat(403);
        for (parameter, value, statuses) in [
            ("header.Cellar-Deadline-Ms", "soon", 400..=400),
            ("header.Cellar-Deadline-Ms", "-1", 400..=400),
            ("header.Cellar-Deadline-Ms", "1e3", 400..=400),
            ("header.Cellar-User", "a b", MISTAKE),
            ("header.Cellar-User", "", MISTAKE),
            ("header.Cellar-User", "é", MISTAKE),
            ("header.Cellar-User", "../grace", MISTAKE),
            ("header.Cellar-User", "somebody-else", MISTAKE),
            ("header.Idempotency-Key", long.as_str(), MISTAKE),
            ("header.Idempotency-Key", "\"half", MISTAKE),
            ("header.Idempotency-Key", "", MISTAKE),
            ("header.Idempotency-Key", "é", MISTAKE),
            ("header.If-Match", "é", MISTAKE),
            ("header.If-Match", "\"none\"", 412..=412),
            ("query.keep", "all", 422..=422),
            ("query.keep", "%FF", MISTAKE),
            ("query.keep", "current&keep=current", 400..=400),
            ("query.from", "yesterday", 422..=422),
            ("query.from", "2026-13-01", 422..=422),
            ("query.to", "1000-01-01", 422..=422),
            ("query.to", "9999-12-31&to=9999-12-31", 400..=400),
        ] {
            let (place, named) = parameter.split_once('.').unwrap();
            let takes = |one: &Value| one["in"] == place && one["name"] == named;
            if !self.operation.document["parameters"].as_array().unwrap().iter().any(takes) {
                continue;
            }
            let request = self.request(&[(parameter, value)]);
            let request =
                if self.example["body"].is_null() { request } else { request.body(self.example["body"].to_string()) };
            let came = Came::of(request).await;
            let what = format!("{} {name}: {parameter} {value:?}: {}", self.operation.id, came.text);
            assert_eq!(self.served.fault(self.operation, &came), None, "{what}");
            assert!(statuses.contains(&came.status), "{what}: {}", came.status);
        }
    }
}

async fn try_paths(served: &Served) {
    for operation in served.operations().into_iter().filter(|operation| operation.path.contains("{id}")) {
        let body = operation.examples().values().next().unwrap()["body"].clone();
        let long = "a".repeat(65);
        for id in ["%FF%FE", "%00", "a%20b", "%C3%A9", "..%2Fgrace", long.as_str(), "%2E%2E"] {
            let request = served
                .request(&operation, &[("path.id".into(), id.into()), ("header.cellar-user".into(), "grace".into())]);
            let came = Came::of(request.bearer_auth(&served.key).body(body.to_string())).await;
            assert!(MISTAKE.contains(&came.status), "{} {id}: {} {}", operation.id, came.status, came.text);
            assert_eq!(came.header("content-type"), "application/problem+json", "{} {id}: {}", operation.id, came.text);
        }
    }
    for path in [
        "/",
        "/v1",
        "/v1/nothing",
        "/v1/users/",
        "//v1/users",
        "/v1/user/profile/..",
        "/cell/v1/users",
        "/admin/v1/tiers",
    ] {
        let came = Came::of(served.http.get(format!("{}{path}", served.url)).bearer_auth(&served.key)).await;
        assert_eq!((came.status, came.kind()), (404, "/problems/not-found"), "{path}: {}", came.text);
    }
}

/// Ids that have the form of those that are drawn, here or elsewhere, and are nobody's.
async fn try_ids_of_other_cells(served: &Served) {
    for id in
        ["us_06h0qt4rc9rlh3bjimmfbvvft0", "eu_06h0qt4rc9rlh3bjimmfbvvft0", "local_06h0qt4rc9rlh3bjimmfbvvft0", "nobody"]
    {
        for operation in served.operations() {
            for (name, example) in operation.examples() {
                let mut example = example.clone();
                if operation.id == "signUp" || name == "password" || operation.id == "batch" || operation.id == "admit"
                {
                    continue;
                }
                let id = Value::from(id);
                for place in ["header.Cellar-User", "path.id"] {
                    let of_session = operation.id == "revokeSession" && place == "path.id";
                    if !example["parameters"][place].is_null() && !of_session {
                        example["parameters"][place] = id.clone();
                    }
                }
                if example["body"]["user_id"].is_string() {
                    example["body"]["user_id"] = id.clone();
                }
                let request = served.request(&operation, &parameters(&example)).bearer_auth(&served.key);
                let request =
                    if example["body"].is_null() { request } else { request.body(example["body"].to_string()) };
                let came = Came::of(request).await;
                assert_eq!(
                    (came.status, came.kind()),
                    (404, "/problems/unknown-user"),
                    "{} {id}: {}",
                    operation.id,
                    came.text
                );
            }
        }
    }
}

async fn try_methods(served: &Served) {
    for operation in served.operations() {
        let path = operation.path.replace("{id}", "grace");
        let served_here: Vec<String> = served
            .operations()
            .into_iter()
            .filter(|other| other.path == operation.path)
            .map(|other| other.method.to_string())
            .collect();
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "TRACE", "OPTIONS", "FANCY"] {
            if served_here.iter().any(|other| other == method) {
                continue;
            }
            let request = served.http.request(method.parse().unwrap(), format!("{}{path}", served.url));
            let came = Came::of(request.bearer_auth(&served.key)).await;
            assert_eq!((came.status, came.kind()), (405, "/problems/method-not-allowed"), "{method} {path}");
            let allowed: Vec<&str> = came.header("allow").split(',').map(str::trim).collect();
            assert!(served_here.iter().all(|one| allowed.contains(&one.as_str())), "{method} {path}: {allowed:?}");
        }
    }
}

/// After all of it the service serves, and the user is as she was.
async fn assert_whole(served: &Served) {
    let request = served.http.get(format!("{}/v1/user/profile", served.url)).header("cellar-user", "grace");
    let came = Came::of(request.bearer_auth(&served.key)).await;
    assert_eq!(
        (came.status, &came.body["email"], &came.body["preferences"]),
        (200, &json!("grace@example.org"), &json!({}))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn e_mails_of_every_form_are_taken_or_refused_as_documented_and_case_makes_no_other() {
    let long = format!("{}@example.org", "l".repeat(242));
    let legal = [
        "ada@example.org",
        "a@b",
        "ada+tag@example.org",
        "a.d.a@sub.example.org",
        "\"quoted\"@example.org",
        "o'brien@example.org",
        "ada@[192.0.2.1]",
        "ada@xn--exmple-cua.org",
        "élan@exämple.org",
        "用户@例子.公司",
        "!#$%&'*+/=?^_`{|}~-@example.org",
        "ada@localhost",
        long.as_str(),
    ];
    let too_long = format!("l{long}");
    let illegal = [
        "",
        " ",
        "@",
        "ada",
        "ada@",
        "@example.org",
        "ada@@example.org",
        "a@b@c",
        "ad a@example.org",
        "ada@exa mple.org",
        "ada\u{0}@example.org",
        "ada\n@example.org",
        "ada@example\u{85}.org",
        "ada@exam\u{2003}ple.org",
        too_long.as_str(),
    ];
    for door in DOORS {
        let world = World::up(door);
        let served = open(&world).await;
        let operation = served.operation("signUp");
        let sign_up = async |email: &str| {
            let body = json!({"email": email, "tier": "free"}).to_string();
            let came = Came::of(served.request(&operation, &[]).bearer_auth(&served.key).body(body)).await;
            assert_eq!(served.fault(&operation, &came), None, "{email:?}");
            assert!(email.len() < 5 || !came.text.contains(email), "an e-mail is never told back: {}", came.text);
            (came.status, came.kind().to_owned())
        };
        for email in legal {
            assert_eq!(sign_up(email).await.0, 201, "{email:?}");
            for again in [email.to_owned(), email.to_uppercase(), format!(" {email}\t")] {
                assert_eq!(sign_up(&again).await, (409, "/problems/email-taken".to_owned()), "{again:?}");
            }
        }
        for email in illegal {
            assert_eq!(sign_up(email).await, (422, "/problems/invalid".to_owned()), "{email:?}");
        }
    }
}

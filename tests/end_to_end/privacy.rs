//! What a person says of himself stands where it is kept, and in nothing else that is written.

use crate::served::{Came, DOORS, Served};
use crate::support::World;
use cellar_devstack::{Cellctl, Stack};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

const EMAIL: &str = "zebulon.marker@privacy.example";
const OTHER_EMAIL: &str = "zebulon.second@privacy.example";
const NAME: &str = "Zebulon Markername";
const PASSWORD: &str = "marker-password-of-zebulon";
const PREFERENCE: &str = "marker-preference-value";
const DEVICE: &str = "Zebulons-marker-laptop";

/// Goal: no e-mail, name, password, device, preference value, token or key is in any log, metric, span or error.
/// Method: everything is asked once as it should be and once wrongly, while all processes log at debug and once
/// while the cell's Postgres is away; then everything that was written is searched.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_a_person_said_is_in_any_log_metric_span_or_error() {
    for door in DOORS {
        let mut cellctl = Cellctl::new().unwrap();
        cellctl.environment("CELLAR_LOG", "debug");
        let collector = Collector::start();
        for program in ["ROUTER", "CELL"] {
            cellctl.environment(&format!("CELLAR_{program}__OTLP_ENDPOINT"), &collector.url);
            cellctl.environment(&format!("CELLAR_{program}__TRACE_RATIO"), "1");
        }
        cellctl.keep(door).unwrap();
        let world = World::of(cellctl);
        let mut person = Person::sign_up(&world).await;
        person.ask_everything().await;
        person.ask_wrongly().await;
        person.ask_without_postgres(&world).await;
        person.search(&world).await;
        // What has not been exported yet is, when a process ends.
        world.cellctl.ok(&["down"]).unwrap();
        let spans = collector.received.lock().unwrap();
        assert!(!spans.is_empty(), "there are spans to search");
        person.assert_nothing_in("a span", &String::from_utf8_lossy(&spans));
    }
}

/// Takes what is exported, and keeps it.
struct Collector {
    url: String,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received: Arc<Mutex<Vec<u8>>> = Arc::default();
        let keeps = received.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let keeps = keeps.clone();
                std::thread::spawn(move || while Collector::take(&stream, &keeps).is_some() {});
            }
        });
        Collector { url, received }
    }

    /// One request of a connection; none once it is closed.
    fn take(mut stream: &TcpStream, keeps: &Mutex<Vec<u8>>) -> Option<()> {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap();
        let mut body = vec![0; length.trim().parse().unwrap()];
        stream.read_exact(&mut body).ok()?;
        keeps.lock().unwrap().extend(body);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()
    }
}

struct Person {
    served: Served,
    user: String,
    /// What must not be found.
    said: Vec<String>,
    /// What was answered to what was asked wrongly.
    errors: Vec<String>,
}

impl Person {
    async fn sign_up(world: &World) -> Person {
        let served = Served::of(world).await;
        let texts = [EMAIL, OTHER_EMAIL, NAME, PASSWORD, PREFERENCE, DEVICE].map(str::to_owned);
        let mut person = Person { user: String::new(), said: texts.into(), errors: Vec::new(), served };
        person.said.push(person.served.key.clone());
        let body = json!({"email": EMAIL, "name": NAME, "password": PASSWORD, "tier": "free"});
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let came = person.ask(Method::POST, "/v1/users", &body).await;
            if came.status == 201 {
                person.user = came.body["user_id"].as_str().unwrap().to_owned();
                return person;
            }
            assert!(Instant::now() < until, "{}", came.text);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request =
            self.served.http.request(method, format!("{}{path}", self.served.url)).bearer_auth(&self.served.key);
        if self.user.is_empty() { request } else { request.header("cellar-user", &self.user) }
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Came {
        let request = self.request(method, path);
        Came::of(if body.is_null() { request } else { request.body(body.to_string()) }).await
    }

    /// Answers that must be had.
    async fn ask_everything(&mut self) {
        let log_in = json!({"email": EMAIL, "password": PASSWORD, "device": {"name": DEVICE, "platform": "linux"}});
        let came =
            Came::of(self.served.http.post(format!("{}/v1/sessions", self.served.url)).body(log_in.to_string())).await;
        assert_eq!(came.status, 201, "{}", came.text);
        let token = came.body["session_token"].as_str().unwrap().to_owned();
        // The secret and the MAC of it are what must not be known.
        self.said.extend(token.split('.').skip(3).map(str::to_owned));
        let user = self.user.clone();
        for (method, path, body) in [
            (Method::GET, "/v1/sessions", Value::Null),
            (Method::GET, "/v1/user/profile", Value::Null),
            (Method::POST, "/v1/user/preferences", json!({"theme": PREFERENCE, "deep": {"er": [PREFERENCE]}})),
            (Method::GET, "/v1/user/preferences", Value::Null),
            (Method::PATCH, "/v1/user/profile", json!({"name": NAME, "email": OTHER_EMAIL})),
            (Method::PATCH, "/v1/user/profile", json!({"email": EMAIL})),
            (Method::POST, "/v1/internal/admit", json!({"session_token": token, "cost": {"requests": 0}})),
            (Method::POST, "/v1/internal/quota/consume", json!({"user_id": user, "attributes": {"who": NAME}})),
            (Method::GET, "/v1/user/quota", Value::Null),
            (Method::GET, "/v1/user/usage", Value::Null),
            (Method::DELETE, "/v1/sessions", Value::Null),
        ] {
            let came = self.ask(method.clone(), path, &body).await;
            assert!(came.status < 300, "{method} {path}: {} {}", came.status, came.text);
        }
        // A token that is in force no longer.
        let came = Came::of(self.served.http.get(format!("{}/v1/sessions", self.served.url)).bearer_auth(&token)).await;
        assert_eq!(came.status, 401);
        self.errors.push(came.text);
    }

    async fn ask_wrongly(&mut self) {
        let user = self.user.clone();
        for (method, path, body) in [
            (Method::POST, "/v1/users", json!({"email": EMAIL.to_uppercase(), "tier": "free"})),
            (Method::POST, "/v1/users", json!({"email": EMAIL, "tier": EMAIL})),
            (Method::POST, "/v1/users", json!({"email": "a@b", "tier": "free", "region": NAME})),
            (Method::POST, "/v1/users", json!({"email": {"is": EMAIL}, "tier": "free"})),
            (Method::POST, "/v1/users", json!({"email": "a@b", "tier": "free", "user_id": EMAIL})),
            (Method::POST, "/v1/users", json!({"email": format!("{EMAIL}@"), "tier": "free"})),
            (Method::POST, "/v1/users", json!({"email": "c@d", "name": format!("{NAME}\n"), "tier": "free"})),
            (Method::POST, "/v1/sessions", json!({"email": EMAIL, "password": format!("{PASSWORD}!")})),
            (Method::POST, "/v1/sessions", json!({"email": EMAIL, "password": [PASSWORD]})),
            (Method::POST, "/v1/sessions", json!({"user_id": user, "device": DEVICE})),
            (Method::POST, "/v1/sessions", json!({"user_id": user, "device": {"name": [DEVICE]}})),
            (Method::PATCH, "/v1/user/profile", json!({"name": {"is": NAME}})),
            (Method::PATCH, "/v1/user/profile", json!({"name": format!("{NAME}\u{0}")})),
            (Method::PATCH, "/v1/user/profile", json!({"email": null})),
            (Method::POST, "/v1/user/preferences", json!([PREFERENCE])),
            (Method::POST, "/v1/user/preferences", json!(PREFERENCE)),
            (Method::POST, "/v1/user/preferences", json!({"theme": format!("{PREFERENCE}\u{0}")})),
            (Method::POST, "/v1/internal/quota/consume", json!({"user_id": user, "cost": NAME})),
            (Method::POST, "/v1/internal/quota/consume", json!({"user_id": EMAIL, "cost": 1})),
            (
                Method::POST,
                "/v1/internal/quota/grant",
                json!({"user_id": user, "slot": NAME, "amount": 1, "until": EMAIL}),
            ),
            (Method::POST, "/v1/internal/admit", json!({"session_token": {"is": PASSWORD}})),
            (Method::POST, "/v1/internal/admit", json!({"session_token": format!("cst1.{PASSWORD}")})),
        ] {
            let came = self.ask(method.clone(), path, &body).await;
            assert!((400..500).contains(&came.status), "{method} {path} {body}: {} {}", came.status, came.text);
            self.errors.push(came.text);
        }
        for path in [format!("/v1/sessions/{EMAIL}"), format!("/v1/user/usage?from={EMAIL}"), format!("/v1/{EMAIL}")] {
            let method = if path.starts_with("/v1/sessions") { Method::DELETE } else { Method::GET };
            let came = Came::of(self.request(method, &path)).await;
            assert!((400..500).contains(&came.status), "{path}: {}", came.text);
            self.errors.push(came.text);
        }
        let half = format!("{{\"email\":\"{EMAIL}\",\"name\":\"{NAME}");
        let came = Came::of(self.request(Method::POST, "/v1/users").body(half)).await;
        assert_eq!(came.status, 400);
        self.errors.push(came.text);
        for header in ["cellar-user", "if-match", "idempotency-key", "cellar-deadline-ms"] {
            let request =
                self.served.http.patch(format!("{}/v1/user/profile", self.served.url)).bearer_auth(&self.served.key);
            self.errors.push(Came::of(request.header(header, format!("\"{EMAIL}")).body("{}")).await.text);
        }
    }

    async fn ask_without_postgres(&mut self, world: &World) {
        let stack = Stack::open(world.cellctl.stack()).unwrap();
        let postgres =
            stack.state().processes.iter().find(|process| process.role.label() == "postgres").unwrap().name.clone();
        world.cellctl.ok(&["stop", &postgres]).unwrap();
        let user = self.user.clone();
        for (method, path, body) in [
            (Method::POST, "/v1/users", json!({"email": "other.marker@privacy.example", "name": NAME, "tier": "free"})),
            (Method::POST, "/v1/sessions", json!({"email": EMAIL, "password": PASSWORD})),
            (Method::POST, "/v1/sessions", json!({"user_id": user, "device": {"name": DEVICE}})),
            (Method::PATCH, "/v1/user/profile", json!({"name": NAME})),
            (Method::POST, "/v1/user/preferences", json!({"theme": PREFERENCE})),
        ] {
            let came = self.ask(method, path, &body).await;
            assert!(came.status >= 200, "{}", came.text);
            if came.status >= 400 {
                self.errors.push(came.text);
            }
        }
        self.said.push("other.marker@privacy.example".into());
        world.cellctl.ok(&["restart", &postgres]).unwrap();
    }

    async fn search(&self, world: &World) {
        let stack = Stack::open(world.cellctl.stack()).unwrap();
        let mut searched = 0;
        for process in &stack.state().processes {
            let log = std::fs::read(&process.launch.log).unwrap();
            self.assert_nothing_in(&format!("the log of {}", process.name), &String::from_utf8_lossy(&log));
            searched += log.len();
            if let Some(url) = &process.admin_url {
                let page = Came::of(self.served.http.get(format!("{url}/metrics"))).await;
                assert_eq!(page.status, 200);
                self.assert_nothing_in(&format!("the metrics of {}", process.name), &page.text);
            }
        }
        assert!(searched > 10_000, "there are logs to search: {searched} bytes");
        for error in &self.errors {
            self.assert_nothing_in("an error", error);
        }
    }

    fn assert_nothing_in(&self, what: &str, text: &str) {
        let text = text.to_lowercase();
        for said in &self.said {
            if let Some(at) = text.find(&said.to_lowercase()) {
                let around: String = text[..at].chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
                panic!("{what} holds {said}, after: {around}");
            }
        }
    }
}

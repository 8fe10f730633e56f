//! A cell in a container of the engine that is here.

use cellar_testcontainers::Cell;
use serde_json::{Value, json};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TIER: &str = r#"
name = "three"
[[policy]]
slot = "monthly"
use = "monthly-bucket@1"
unit = "tokens"
settings = { limit = 3 }
"#;

/// Status and body of a request without a client's help.
async fn post(url: &str, key: &str, path: &str, body: Value) -> (u16, Value) {
    let address = url.strip_prefix("http://").unwrap();
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// What the engine knows of a container.
async fn known(id: &str) -> bool {
    let words = ["container", "inspect", id];
    let output = tokio::process::Command::new("docker").args(words).output().await.unwrap();
    output.status.success()
}

/// Goal: a cell in a line has the tier and the user it was given, signs up, decides by that tier, and leaves no
/// container behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_cell_in_a_container_serves_and_is_gone() {
    let began = Instant::now();
    let cell = Cell::default().tier(TIER).user("ada@example.org", "three").start().await.unwrap();
    println!("a seeded cell served after {:.1} s", began.elapsed().as_secs_f64());
    assert!(!format!("{cell:?}").contains(cell.service_key()));

    let ask = async |path, body| post(cell.url(), cell.service_key(), path, body).await;
    let taken = ask("/v1/users", json!({ "email": "ada@example.org", "tier": "three" })).await;
    assert_eq!(taken.0, 409, "{}", taken.1);
    let (status, user) = ask("/v1/users", json!({ "email": "bob@example.org", "tier": "three" })).await;
    assert_eq!(status, 201, "{user}");
    let consume = json!({ "user_id": user["user_id"], "cost": 2 });
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(ask("/v1/internal/quota/consume", consume.clone()).await.0);
    }
    assert_eq!(statuses, [200, 429]);

    let id = cell.container().id().to_owned();
    assert!(known(&id).await);
    cell.stop().await.unwrap();
    assert!(!known(&id).await);
}

/// Goal: a seed that a cell refuses is an error of the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_is_refused_is_no_cell() {
    assert!(Cell::default().user("ada@example.org", "no-such-tier").start().await.is_err());
}

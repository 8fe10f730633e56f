//! Users of a load run, in a tier that no run exhausts.

use crate::connection::{Connection, Question};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Cells read the catalog every two seconds.
const IN_FORCE_MAX: Duration = Duration::from_secs(30);

/// Everybody's who logs in.
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// Users who are given it: each costs a hash.
const PASSWORDS: usize = 64;

/// When the tier's checks are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Once Redis has them.
    AckRedis,
    /// Once their ledger rows are committed as well.
    AckPostgres,
}

impl Tier {
    /// Two policies, as the tiers of the local stack have, with limits beyond reach.
    fn document(self) -> Value {
        let ack = match self {
            Tier::AckRedis => "redis",
            Tier::AckPostgres => "postgres",
        };
        json!({
            "name": "load",
            "ack": ack,
            "policy": [
                { "slot": "per-minute", "use": "gcra@1", "unit": "requests",
                  "settings": { "limit": 1_000_000_000u64, "period_s": 60, "burst": 1_000_000_000u64 } },
                { "slot": "monthly", "use": "monthly-bucket@1", "unit": "tokens", "settings": { "limit": 1_000_000_000_000u64 } },
            ],
        })
    }
}

/// Puts the tier in force by way of the admin listener.
pub(crate) async fn put_tier(admin: &str, operator_key: &str, tier: Tier) -> Result<()> {
    let mut connection = Connection::open(admin).await?;
    let body = tier.document().to_string();
    let question = Question { method: "PUT", path: "/admin/v1/tiers/load", header: None, body };
    let answer = connection.send(operator_key, question).await?;
    ensure!(answer.status == 200, "the tier was answered {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    Ok(())
}

/// Signs up `count` users and returns their ids.
pub(crate) async fn sign_up(address: &str, key: &str, count: usize) -> Result<Vec<String>> {
    let mut connection = Connection::open(address).await?;
    let until = Instant::now() + IN_FORCE_MAX;
    let mut ids = Vec::with_capacity(count);
    while ids.len() < count {
        let body = json!({ "email": email_of(ids.len()), "tier": "load" }).to_string();
        let question = Question { method: "POST", path: "/v1/users", header: None, body };
        let answer = connection.send(key, question).await?;
        if answer.status == 422 && ids.is_empty() && Instant::now() < until {
            // The tier is not in force yet.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        ensure!(answer.status == 201, "sign-up answered {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        let signed_up: Value = serde_json::from_slice(&answer.body)?;
        ids.push(signed_up["user_id"].as_str().context("no user_id")?.to_owned());
    }
    Ok(ids)
}

/// Gives the first users a password, and returns their e-mails.
pub(crate) async fn give_passwords(address: &str, key: &str, users: &[String]) -> Result<Vec<String>> {
    let mut connection = Connection::open(address).await?;
    let mut emails = Vec::new();
    for (n, user) in users.iter().take(PASSWORDS).enumerate() {
        let path = format!("/v1/internal/users/{user}/password");
        let body = json!({ "password": PASSWORD }).to_string();
        let answer = connection.send(key, Question { method: "PUT", path: &path, header: None, body }).await?;
        ensure!(answer.status / 100 == 2, "a password was answered {}", answer.status);
        emails.push(email_of(n));
    }
    Ok(emails)
}

fn email_of(n: usize) -> String {
    format!("load-{n}@example.org")
}

/// Logs each user in and returns the tokens.
pub(crate) async fn log_in(address: &str, key: &str, users: &[String]) -> Result<Vec<String>> {
    let mut connection = Connection::open(address).await?;
    let mut tokens = Vec::with_capacity(users.len());
    for user in users {
        let body = json!({ "user_id": user }).to_string();
        let question = Question { method: "POST", path: "/v1/sessions", header: None, body };
        let answer = connection.send(key, question).await?;
        ensure!(answer.status == 201, "log-in answered {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        let logged_in: Value = serde_json::from_slice(&answer.body)?;
        tokens.push(logged_in["session_token"].as_str().context("no session_token")?.to_owned());
    }
    Ok(tokens)
}

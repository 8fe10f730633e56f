//! Batches: many checks in one call, each answered by itself.

use crate::error::{ClientError, ProblemBody};
use crate::quota::Decision;
use crate::transport::Client;
use cellar_model::wire::{BatchBody, ConsumeBody};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

/// What became of one check of a batch: its decision, or why there is none.
pub type Item = Result<Decision, Box<ProblemBody>>;

#[derive(Deserialize)]
struct Results {
    results: Vec<Value>,
}

impl Client {
    /// Decides up to `wire::BATCH_CHECKS_MAX` checks, answered in order. Each check has its own
    /// `idempotency_key`, in its body.
    pub async fn consume_batch(&self, checks: Vec<ConsumeBody>) -> Result<Vec<Item>, ClientError> {
        let (count, body) = (checks.len(), BatchBody { checks });
        let path = "/v1/internal/quota/batch";
        let answer: Results = self.ask(Method::POST, path, |request| request.json(&body)).await?;
        let items: Option<Vec<Item>> = answer.results.into_iter().map(item).collect();
        items.filter(|items| items.len() == count).ok_or_else(|| ClientError::Odd { url: path.to_owned(), status: 200 })
    }
}

/// An item says its own status among its members. None: it has a form that nobody sends.
fn item(value: Value) -> Option<Item> {
    match value.get("status")?.as_u64()? {
        200 => serde_json::from_value(value).ok().map(|answer| Ok(Decision::Allowed(answer))),
        429 => serde_json::from_value(value).ok().map(|denied| Ok(Decision::Denied(Box::new(denied)))),
        _ => serde_json::from_value(value).ok().map(|problem| Err(Box::new(problem))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<Item> {
        item(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn an_item_is_a_decision_or_a_problem_by_its_status() {
        let members = r#""allowed":true,"version":1,"tier":"pro","catalog_revision":1,"policies":[]"#;
        assert!(read(&format!(r#"{{"status":200,{members}}}"#)).unwrap().unwrap().is_allowed());
        let denied = format!(
            r#"{{"status":429,"type":"t","title":"t","violated-policies":["m"],"retryable":true,"resets_at":"x",{members}}}"#
        );
        assert!(!read(&denied).unwrap().unwrap().is_allowed());
        let unknown = read(r#"{"status":503,"type":"/problems/try-again","title":"t"}"#).unwrap();
        assert_eq!(unknown.unwrap_err().status, 503);
        assert!(read(r#"{"status":"odd"}"#).is_none());
    }
}

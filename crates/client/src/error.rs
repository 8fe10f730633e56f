//! What a call came to when it was not an answer.

use serde::{Deserialize, Serialize};

/// A problem document (RFC 9457) as it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProblemBody {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    #[serde(default)]
    pub detail: Option<String>,
    #[serde(default)]
    pub errors: Vec<cellar_model::SettingProblem>,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The service answered that it would not.
    #[error("{}", describe(.0))]
    Refused(Box<ProblemBody>),
    /// No answer: what was asked may have been done. Repeat with the same idempotency key.
    #[error("no answer from {url}")]
    NoAnswer {
        url: String,
        #[source]
        cause: reqwest::Error,
    },
    #[error("an answer of another form from {url}: {status}")]
    Odd { url: String, status: u16 },
    #[error("no URL to ask")]
    NoUrl,
    #[error("the answer cannot be written")]
    Write(#[source] std::io::Error),
}

impl ClientError {
    /// The status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            ClientError::Refused(problem) => Some(problem.status),
            ClientError::Odd { status, .. } => Some(*status),
            ClientError::NoAnswer { .. } | ClientError::NoUrl | ClientError::Write(_) => None,
        }
    }

    /// Whether the answer is unknown, so that a repeat under the same key is the way to learn it.
    pub fn is_unknown(&self) -> bool {
        matches!(self.status(), None | Some(503))
    }
}

fn describe(problem: &ProblemBody) -> String {
    let mut text = format!("{} ({})", problem.title, problem.status);
    if let Some(detail) = &problem.detail {
        text.push_str(&format!(": {detail}"));
    }
    for error in &problem.errors {
        text.push_str(&format!("\n  {}: {}", error.pointer, error.message));
    }
    text
}

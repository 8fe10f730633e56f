//! JSON bodies: what cannot be parsed is 400, what makes no sense is 422, what is too long is 413.

use crate::limits::{BODY_MAX, BODY_READ_TIMEOUT, LINGER_BYTES_MAX, LINGER_MAX};
use crate::problem::HttpProblem;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use cellar_model::{Problem, ProblemType, SettingProblem};
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// A JSON body of a handler, read within `BODY_MAX`.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = HttpProblem;

    async fn from_request(request: Request, _: &S) -> Result<Self, HttpProblem> {
        let bytes = read_body(request.into_body()).await?;
        Ok(Self(parse_json(&bytes)?))
    }
}

/// A whole body within `BODY_MAX`, or 413.
pub async fn read_body<B>(body: B) -> Result<Bytes, Problem>
where
    B: http_body::Body + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    read_body_within(body, BODY_MAX).await
}

/// A whole body of at most `bytes_max`, or 413.
pub async fn read_body_within<B>(mut body: B, bytes_max: usize) -> Result<Bytes, Problem>
where
    B: http_body::Body + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || format!("a body may have {bytes_max} bytes here");
    read_within(&mut body, BodyLimits { bytes_max, ..ORDINARY }, too_large).await
}

/// How much of a body is read and kept, and how much is read on and dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    pub(crate) bytes_max: usize,
    pub(crate) within: Duration,
    pub(crate) linger_bytes_max: usize,
    pub(crate) linger_max: Duration,
}

const ORDINARY: BodyLimits = BodyLimits {
    bytes_max: BODY_MAX,
    within: BODY_READ_TIMEOUT,
    linger_bytes_max: LINGER_BYTES_MAX,
    linger_max: LINGER_MAX,
};

/// A whole body, or 413 with what `too_large` says.
pub(crate) async fn read_within<B>(
    body: &mut B,
    limits: BodyLimits,
    too_large: impl FnOnce() -> String,
) -> Result<Bytes, Problem>
where
    B: http_body::Body + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let whole = tokio::time::timeout(limits.within, Limited::new(&mut *body, limits.bytes_max).collect());
    let Ok(whole) = whole.await else {
        return Err(Problem::new(ProblemType::Malformed).detail("the body did not arrive in time"));
    };
    match whole {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            linger(body, limits).await;
            Err(Problem::new(ProblemType::TooLarge).detail(too_large()))
        }
        Err(_) => Err(Problem::new(ProblemType::Malformed).detail("the body did not arrive whole")),
    }
}

/// Reads on for a while and keeps nothing: a caller who still sends when the connection is closed finds it
/// broken, and never reads why.
async fn linger<B: http_body::Body + Unpin>(body: &mut B, limits: BodyLimits) {
    let mut left = limits.linger_bytes_max;
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, bytes::Buf::remaining);
            match left.checked_sub(bytes) {
                Some(fewer) => left = fewer,
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(limits.linger_max, rest).await;
}

/// Parses a body, telling what is no JSON from JSON that makes no sense here.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    use serde_json::error::Category;
    // What reads an object would read its members from a list as well, in their order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice::<serde::de::IgnoredAny>(bytes)
            .map_err(|error| Problem::new(ProblemType::Malformed).detail(format!("the body is not JSON: {error}")))?;
        let error = SettingProblem::new("", "a body is an object");
        return Err(Problem::new(ProblemType::Invalid).detail("the body does not fit").errors(vec![error]));
    }
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Data => {
            let error = SettingProblem { pointer: pointer_of::<T>(bytes), message: without_values(&error.to_string()) };
            Problem::new(ProblemType::Invalid).detail("the body does not fit").errors(vec![error])
        }
        Category::Io | Category::Syntax | Category::Eof => {
            Problem::new(ProblemType::Malformed).detail(format!("the body is not JSON: {error}"))
        }
    })
}

/// The parser's words without what it met: a value in the wrong place may be a person's, or a secret.
fn without_values(message: &str) -> String {
    let unexpected = ["invalid type: ", "invalid value: "].into_iter().find(|said| message.starts_with(said));
    match (unexpected, message.rfind(", expected "), message.find(", not \"")) {
        (Some(said), Some(expected), _) => {
            let met = message[said.len()..expected].split(['"', '`']).next().unwrap_or_default();
            format!("{said}{}{}", met.trim_end(), &message[expected..])
        }
        (_, _, Some(value)) => message[..value].to_owned(),
        _ => message.to_owned(),
    }
}

/// Where in the body the member stands that does not fit, as a JSON pointer. Parses a second time, so
/// that bodies which fit pay nothing for it.
fn pointer_of<T: DeserializeOwned>(bytes: &[u8]) -> String {
    use serde_path_to_error::Segment;
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut json) else { return String::new() };
    let segments = error.path().iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(format!("/{index}")),
        Segment::Map { key } => Some(format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    segments.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::wire::{BatchBody, ConsumeBody};

    fn kind(body: &str) -> u16 {
        parse_json::<ConsumeBody>(body.as_bytes()).map_or_else(|problem| problem.kind.status(), |_| 200)
    }

    #[test]
    fn no_json_is_400_and_senseless_json_422() {
        assert_eq!(kind(r#"{"user_id":"u","cost":5}"#), 200);
        assert_eq!(kind(r#"{"user_id":"u","cost":"#), 400);
        assert_eq!(kind("\u{0}"), 400);
        assert_eq!(kind("["), 400);
        for senseless in [
            r#"{"user_id":"u","cost":-5}"#,
            r#"{"user_id":"u","cost":1.5}"#,
            r#"{"user_id":"u","cost":1099511627777}"#,
            r#"{"user_id":"u u"}"#,
            r#"{"user_id":"u","const":5}"#,
            r#" ["u",5]"#,
            "[]",
        ] {
            assert_eq!(kind(senseless), 422, "{senseless}");
        }
    }

    #[test]
    fn a_value_that_does_not_fit_is_not_told_back() {
        for body in [
            r#"{"user_id":["ada@example.org"]}"#,
            r#"{"cost":"ada@example.org"}"#,
            r#"{"cost":"a, expected ada@example.org"}"#,
            r#"{"at_us":"ada@example.org"}"#,
        ] {
            let problem = parse_json::<ConsumeBody>(body.as_bytes()).unwrap_err();
            let said = problem.to_json();
            assert!(!serde_json::Value::from(said.clone()).to_string().contains("example"), "{said:?}");
        }
        let problem = parse_json::<ConsumeBody>(br#"{"at_us":"soon"}"#).unwrap_err();
        assert!(problem.errors[0].message.starts_with("invalid type: string, expected u64"), "{problem:?}");
    }

    #[test]
    fn what_does_not_fit_is_pointed_at() {
        let pointer = |body: &str| {
            let problem = parse_json::<BatchBody>(body.as_bytes()).unwrap_err();
            problem.errors[0].pointer.clone()
        };
        assert_eq!(pointer(r#"{"checks":[{"user_id":"u"},{"cost":{"tokens":-3}}]}"#), "/checks/1/cost/tokens");
        assert_eq!(pointer(r#"{"checks":[{"cost":1.5}]}"#), "/checks/0/cost");
        assert_eq!(pointer(r#"{"cheks":[]}"#), "/cheks");
    }
}

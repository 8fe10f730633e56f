//! JSON bodies: what cannot be parsed is 400, what makes no sense is 422, what is too long is 413.

use crate::limits::BODY_MAX;
use crate::problem::HttpProblem;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use cellar_model::{Problem, ProblemType, SettingProblem};
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;

/// A JSON body of a handler, read within `BODY_MAX`.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = HttpProblem;

    async fn from_request(request: Request, _: &S) -> Result<Self, HttpProblem> {
        let bytes = read_body(request.into_body()).await?;
        Ok(Self(parse_json(&bytes)?))
    }
}

/// A whole body, or 413.
pub(crate) async fn read_body<B>(body: B) -> Result<Bytes, Problem>
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Problem::new(ProblemType::TooLarge).detail(format!("a body may have {BODY_MAX} bytes")))
        }
        Err(_) => Err(Problem::new(ProblemType::Malformed).detail("the body did not arrive whole")),
    }
}

/// Parses a body, telling what is no JSON from JSON that makes no sense here.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    use serde_json::error::Category;
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Data => {
            let pointer = String::new();
            let message = error.to_string();
            Problem::new(ProblemType::Invalid)
                .detail("the body does not fit")
                .errors(vec![SettingProblem { pointer, message }])
        }
        Category::Io | Category::Syntax | Category::Eof => {
            Problem::new(ProblemType::Malformed).detail(format!("the body is not JSON: {error}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::wire::ConsumeBody;

    fn kind(body: &str) -> u16 {
        parse_json::<ConsumeBody>(body.as_bytes()).map_or_else(|problem| problem.kind.status(), |_| 200)
    }

    #[test]
    fn no_json_is_400_and_senseless_json_422() {
        assert_eq!(kind(r#"{"user_id":"u","cost":5}"#), 200);
        assert_eq!(kind(r#"{"user_id":"u","cost":"#), 400);
        assert_eq!(kind("\u{0}"), 400);
        for senseless in [
            r#"{"user_id":"u","cost":-5}"#,
            r#"{"user_id":"u","cost":1.5}"#,
            r#"{"user_id":"u","cost":1099511627777}"#,
            r#"{"user_id":"u u"}"#,
            r#"{"user_id":"u","const":5}"#,
        ] {
            assert_eq!(kind(senseless), 422, "{senseless}");
        }
    }
}

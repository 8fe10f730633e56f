//! A policy's component as operators send it: what no host would let in is refused at the door, as far as that
//! shows without a compiler.

use crate::body::{BodyLimits, parse_json, read_within};
use axum::body::Body;
use cellar_model::{ARTIFACT_BYTES_MAX, Base64, PolicyUpload, Problem, ProblemType, UPLOAD_BYTES_MAX, VersionNumber};
use http::{HeaderMap, header};
use std::time::Duration;

/// How a WebAssembly component begins. A core module has 1, 0, 0, 0 after the first four bytes.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// The largest upload over a line of 60 KiB a second. Of what is far too large more is read on than elsewhere: whoever
/// mistakes a build folder for a component should read why it is refused, and not of a broken pipe.
const UPLOAD: BodyLimits = BodyLimits {
    bytes_max: UPLOAD_BYTES_MAX,
    within: Duration::from_secs(60),
    linger_bytes_max: 64 * 1024 * 1024,
    linger_max: Duration::from_secs(10),
};

/// A component with its signature and certificate as JSON, or one by itself as it is.
pub async fn read_upload(headers: &HeaderMap, mut body: Body) -> Result<PolicyUpload, Problem> {
    let is_json =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let bytes_max = if is_json { UPLOAD_BYTES_MAX } else { ARTIFACT_BYTES_MAX };
    let too_large = || format!("an artifact has at most {ARTIFACT_BYTES_MAX} bytes");
    let body = read_within(&mut body, BodyLimits { bytes_max, ..UPLOAD }, too_large).await?;
    let upload = if is_json {
        parse_json(&body)?
    } else {
        PolicyUpload { artifact: Base64(body.into()), signature: None, certificate: None }
    };
    if upload.artifact.0.len() > ARTIFACT_BYTES_MAX {
        return Err(Problem::new(ProblemType::TooLarge).detail(too_large()));
    }
    if !upload.artifact.0.starts_with(COMPONENT) {
        return Err(Problem::new(ProblemType::Invalid).detail("not a WebAssembly component"));
    }
    Ok(upload)
}

/// Whether `version` is three numbers.
pub fn check_version(version: &str) -> Result<(), Problem> {
    let number = version.parse::<VersionNumber>();
    number.map(|_| ()).map_err(|error| Problem::new(ProblemType::Invalid).detail(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json() -> HeaderMap {
        [(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"))].into_iter().collect()
    }

    #[tokio::test]
    async fn what_no_cell_would_let_in_is_refused_at_the_door() {
        let sent = |bytes: Vec<u8>| async {
            let read = read_upload(&HeaderMap::new(), bytes.clone().into()).await.map_err(|problem| problem.kind);
            let body = serde_json::json!({ "artifact": Base64(bytes) }).to_string();
            let as_json = read_upload(&json(), body.into()).await.map_err(|problem| problem.kind);
            assert_eq!(read.as_ref().err(), as_json.as_ref().err());
            read.map(|upload| upload.artifact.0.len())
        };
        assert!(sent(COMPONENT.to_vec()).await.is_ok());
        for odd in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0", b"MZ"] {
            assert_eq!(sent(odd.to_vec()).await, Err(ProblemType::Invalid), "{odd:?}");
        }
        let mut large = COMPONENT.to_vec();
        large.resize(ARTIFACT_BYTES_MAX, 0);
        assert!(sent(large.clone()).await.is_ok());
        large.push(0);
        assert_eq!(sent(large).await, Err(ProblemType::TooLarge));
    }

    #[tokio::test]
    async fn a_body_that_is_no_upload_is_refused() {
        let kind = |body: String| async {
            read_upload(&json(), body.into()).await.map(|_| ()).map_err(|problem| problem.kind)
        };
        assert_eq!(kind("{".into()).await, Err(ProblemType::Malformed));
        assert_eq!(kind(r#"{"artifact":"%"}"#.into()).await, Err(ProblemType::Invalid));
        assert_eq!(kind(r#"{"artefact":""}"#.into()).await, Err(ProblemType::Invalid));
        assert_eq!(kind(" ".repeat(UPLOAD_BYTES_MAX + 1)).await, Err(ProblemType::TooLarge));
    }

    #[test]
    fn a_version_is_three_numbers() {
        assert!(check_version("1.4.2").is_ok());
        for odd in ["", "1", "1.4", "1.4.2.0", "1.4.x", "1.4.-2", "1.4.99999999999", &"1".repeat(40)] {
            assert!(check_version(odd).is_err(), "{odd}");
        }
    }
}

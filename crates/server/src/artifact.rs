//! A policy's component as operators send it: what no host would let in is refused at the door, as far as that
//! shows without a compiler.

use axum::body::Body;
use bytes::Bytes;
use cellar_model::{ARTIFACT_BYTES_MAX, Problem, ProblemType};

const VERSION_BYTES_MAX: usize = 32;
/// How a WebAssembly component begins. A core module has 1, 0, 0, 0 after the first four bytes.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// The bytes of a component.
pub async fn read_artifact(body: Body) -> Result<Bytes, Problem> {
    let artifact = axum::body::to_bytes(body, ARTIFACT_BYTES_MAX).await.map_err(|_| {
        Problem::new(ProblemType::TooLarge).detail(format!("an artifact has at most {ARTIFACT_BYTES_MAX} bytes"))
    })?;
    if !artifact.starts_with(COMPONENT) {
        return Err(Problem::new(ProblemType::Invalid).detail("not a WebAssembly component"));
    }
    Ok(artifact)
}

/// Whether `version` is three numbers.
pub fn check_version(version: &str) -> Result<(), Problem> {
    let numbers: Vec<&str> = version.split('.').collect();
    if version.len() > VERSION_BYTES_MAX || numbers.len() != 3 || numbers.iter().any(|n| n.parse::<u32>().is_err()) {
        return Err(Problem::new(ProblemType::Invalid).detail("a version is three numbers, 1.4.2"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_no_cell_would_let_in_is_refused_at_the_door() {
        let sent = |bytes: Vec<u8>| async { read_artifact(bytes.into()).await.map_err(|problem| problem.kind) };
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

    #[test]
    fn a_version_is_three_numbers() {
        assert!(check_version("1.4.2").is_ok());
        for odd in ["", "1", "1.4", "1.4.2.0", "1.4.x", "1.4.-2", "1.4.99999999999", &"1".repeat(40)] {
            assert!(check_version(odd).is_err(), "{odd}");
        }
    }
}

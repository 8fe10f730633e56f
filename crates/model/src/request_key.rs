//! Which request a check belongs to, in a form that every check can carry.

use crate::Origin;
use xxhash_rust::xxh3::xxh3_128;

/// 128 bits of the request's id (`Cellar-Request-Id`): as long as an id may be, what remembers it stays as small. The
/// trace's id is its own key. All zero: the request had none.
///
/// It finds a decision again and decides nothing: two ids that meet are two requests explained together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestKey([u8; 16]);

impl RequestKey {
    pub const NONE: RequestKey = RequestKey([0; 16]);

    /// Of an id as people have it.
    pub fn of(id: &str) -> Self {
        let is_trace = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        match u128::from_str_radix(id, 16) {
            Ok(trace) if is_trace => Self(trace.to_be_bytes()),
            _ if id.is_empty() => Self::NONE,
            _ => Self(xxh3_128(id.as_bytes()).to_be_bytes()),
        }
    }

    /// Of a request under way.
    pub fn of_origin(origin: Option<&Origin>) -> Self {
        match origin {
            None => Self::NONE,
            Some(Origin { named: Some(name), .. }) => Self::of(name.as_str()),
            Some(origin) => Self(origin.trace.0.to_be_bytes()),
        }
    }

    pub fn is_some(self) -> bool {
        self != Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: whatever id an answer had, it finds the request.
    #[test]
    fn a_request_is_found_by_the_id_that_its_answer_has() {
        let traced = Origin::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").unwrap();
        let named = Origin { named: crate::RequestId::new("job-7"), ..traced.clone() };
        for origin in [traced, named] {
            assert_eq!(RequestKey::of(&origin.request_id()), RequestKey::of_origin(Some(&origin)));
        }
        assert_ne!(RequestKey::of("job-7"), RequestKey::of("job-8"));
        assert!(!RequestKey::of("").is_some() && !RequestKey::of_origin(None).is_some());
    }
}

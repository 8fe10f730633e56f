//! Idempotency: which request is the same request.

use crate::{ChargeId, KeyName, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The longest `Idempotency-Key` a caller may send, in bytes.
pub const IDEMPOTENCY_KEY_MAX: usize = 200;

/// An idempotency key in its scope (caller, user, operation): 128 bits of SHA-256, so that neither
/// two callers nor two users can meet, and the caller's own text is stored nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyId(pub [u8; 16]);

/// What else was asked under the key: another body under one key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BodyHash(pub [u8; 16]);

/// Key and body of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    pub id: KeyId,
    pub body: BodyHash,
}

impl KeyId {
    pub fn new(caller: &KeyName, user: &UserId, operation: &str, key: &str) -> Self {
        Self(hash128(&[caller.as_str(), user.as_str(), operation, key].map(str::as_bytes)))
    }

    /// Of everything that closes `charge`: settles and refunds of one charge share it, so that one of
    /// them happens, whoever asks.
    pub fn closing(user: &UserId, charge: ChargeId) -> Self {
        Self(hash128(&[user.as_str(), "close", &charge.to_string()].map(str::as_bytes)))
    }
}

impl BodyHash {
    pub fn of(parts: &[&[u8]]) -> Self {
        Self(hash128(parts))
    }
}

/// The first half of SHA-256 over the parts, each behind its length: ("ab","c") is not ("a","bc").
fn hash128(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_different_scopes_never_meet() {
        let (caller, user) = (KeyName::new("a").unwrap(), UserId::new("u").unwrap());
        let key = |operation: &str, key: &str| KeyId::new(&caller, &user, operation, key);
        assert_eq!(key("consume", "k"), key("consume", "k"));
        assert_ne!(key("consume", "k"), key("refund", "k"));
        assert_ne!(key("consume", "1k"), key("consume1", "k"));
    }
}

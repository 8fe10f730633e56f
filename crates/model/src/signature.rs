//! What an author signs of a policy, and how a signed policy travels to a catalog. Whether a signature is true, and
//! whose counts, `cellar-artifacts` says.

use crate::{Digest, PolicyName, VersionNumber};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The largest certificate: a report of a dozen properties is some 5 KiB, and one broken history in it as long.
pub const CERTIFICATE_BYTES_MAX: usize = 256 * 1024;
/// The largest body that puts a signed policy in force: the artifact as base64, the certificate with its quotes
/// escaped, and what stands around them.
pub const UPLOAD_BYTES_MAX: usize = crate::ARTIFACT_BYTES_MAX / 3 * 4 + 2 * CERTIFICATE_BYTES_MAX + 64 * 1024;

/// The public half of a key that signs policies: `ed25519:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyKey(pub [u8; 32]);

impl PolicyKey {
    /// Short enough to compare by eye, and no two keys of a catalog share it but by an attack of 2^32 tries: what
    /// is trusted is the whole key, never this.
    pub fn id(&self) -> PolicyKeyId {
        let hash = Digest::of(&self.0).0;
        PolicyKeyId(std::array::from_fn(|n| hash[n]))
    }
}

/// The first eight bytes of a key's hash, in hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyKeyId([u8; 8]);

/// 64 bytes of Ed25519, in hex.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SignatureBytes(pub [u8; 64]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a public key is {KEY_PREFIX} and 64 hex digits")]
pub struct PolicyKeyError;

const KEY_PREFIX: &str = "ed25519:";

/// One author's word that these bytes are this version of this policy. It says itself what it was made over, so that
/// whoever refuses it can say what is other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySignature {
    pub name: PolicyName,
    pub version: VersionNumber,
    /// Of the component.
    pub digest: Digest,
    /// Of the certificate that goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Digest>,
    pub key: PolicyKey,
    pub signature: SignatureBytes,
}

/// What a catalog says of a certificate without its histories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateSummary {
    /// Histories a property was tested with.
    pub cases: u32,
    pub held: u32,
    /// Properties by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waived: Vec<String>,
}

/// The body of `PUT /admin/v1/policies/{name}/{version}` as JSON. Without a signature the component may come as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyUpload {
    pub artifact: Base64,
    #[serde(default)]
    pub signature: Option<PolicySignature>,
    /// The certificate as it was signed, to the byte.
    #[serde(default)]
    pub certificate: Option<String>,
}

/// Bytes in a JSON text.
#[derive(Clone, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl fmt::Debug for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(|_| serde::de::Error::custom("it is not base64"))
    }
}

impl fmt::Display for PolicyKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PolicyKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PolicyKeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY_PREFIX}{}", hex::encode(self.0))
    }
}

impl fmt::Debug for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for PolicyKey {
    type Err = PolicyKeyError;
    fn from_str(text: &str) -> Result<Self, PolicyKeyError> {
        let digits = text.strip_prefix(KEY_PREFIX).ok_or(PolicyKeyError)?;
        let mut key = [0; 32];
        hex::decode_to_slice(digits, &mut key).map_err(|_| PolicyKeyError)?;
        Ok(Self(key))
    }
}

impl Serialize for PolicyKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PolicyKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for SignatureBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for SignatureBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for SignatureBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        let odd = |_| serde::de::Error::custom("a signature is 128 hex digits");
        hex::decode_to_slice(text, &mut bytes).map_err(odd)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_a_signed_policy_are_read_back_as_they_were_written() {
        let key = PolicyKey([7; 32]);
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(key.id().to_string().len(), 16);
        for odd in ["", "ed25519:", "ed25519:00", "rsa:00", &"0".repeat(64)] {
            assert_eq!(odd.parse::<PolicyKey>(), Err(PolicyKeyError), "{odd}");
        }
        let signature = PolicySignature {
            name: PolicyName::new("gcra").unwrap(),
            version: VersionNumber::new(1, 4, 2),
            digest: Digest::of(b"component"),
            certificate: Some(Digest::of(b"report")),
            key,
            signature: SignatureBytes([9; 64]),
        };
        let upload = PolicyUpload {
            artifact: Base64(vec![0, 1, 255]),
            signature: Some(signature),
            certificate: Some("{}".into()),
        };
        let text = serde_json::to_string(&upload).unwrap();
        let read: PolicyUpload = serde_json::from_str(&text).unwrap();
        assert_eq!((read.artifact, read.signature), (upload.artifact, upload.signature));
        assert!(serde_json::from_str::<PolicyUpload>(r#"{"artifact":"%"}"#).is_err());
    }
}

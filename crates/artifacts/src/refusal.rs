//! Why a policy's signature does not count.

use cellar_model::{Digest, KeyName, PolicyKey, PolicyKeyId, PolicyName, VersionNumber};

/// Each says which rule failed, and what whoever reads it can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is not signed: its author signs it with `cellctl policy sign`")]
    Unsigned,
    #[error("its version is not three numbers such as 1.4.2, so that no signature can be for it")]
    OddVersion,
    #[error(
        "its signature is for other bytes ({signed}; these are {found}): what is shipped has to be what was signed"
    )]
    OtherBytes { signed: Digest, found: Digest },
    #[error("its signature is for policy {signed}, not for {found}: its author signs it under the name it is to have")]
    OtherName { signed: PolicyName, found: PolicyName },
    #[error("its signature is for version {signed}, not for {found}: its author signs the version it is to be")]
    OtherVersion { signed: VersionNumber, found: VersionNumber },
    #[error(
        "it is signed by key {} ({key}), which is not trusted here: `cellctl policy keys trust` trusts it, if it is its author's", .key.id()
    )]
    UnknownKey { key: PolicyKey },
    #[error("key {name} ({id}) has not made its signature: it is damaged or forged")]
    Forged { name: KeyName, id: PolicyKeyId },
    #[error("key {name} ({id}) is trusted for {patterns}, not for {policy}: `cellctl policy keys trust` widens that")]
    NotForName { name: KeyName, id: PolicyKeyId, patterns: String, policy: PolicyName },
}

impl Refusal {
    /// Every label there is, so that a metric has each from the start.
    pub const LABELS: [&str; 8] = [
        "unsigned",
        "odd-version",
        "other-bytes",
        "other-name",
        "other-version",
        "unknown-key",
        "forged",
        "not-for-name",
    ];

    pub fn label(&self) -> &'static str {
        match self {
            Refusal::Unsigned => "unsigned",
            Refusal::OddVersion => "odd-version",
            Refusal::OtherBytes { .. } => "other-bytes",
            Refusal::OtherName { .. } => "other-name",
            Refusal::OtherVersion { .. } => "other-version",
            Refusal::UnknownKey { .. } => "unknown-key",
            Refusal::Forged { .. } => "forged",
            Refusal::NotForName { .. } => "not-for-name",
        }
    }
}

//! Service and operator keys: made, rotated, revoked. Each change is one conditional write of the key's row.

use crate::catalog::{self, Put};
use crate::{CatalogKind, CatalogRow, DirectoryError, Documents};
use cellar_model::{KeyDocument, KeyHash, KeyKind, KeyName, Problem, ProblemType, TierName};

/// Names of keys, revoked ones too: each is read by every process with every poll.
pub const KEYS_MAX: usize = 1_000;
/// Attempts at one change: each reads the one that came in between.
const ATTEMPTS_MAX: u32 = 3;

/// Which of a key's texts are to count no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The one from before the rotation, if there is one.
    Old,
    /// All: for good, for the name too. A name says who did what, and under whose idempotency keys.
    All,
}

/// Why a key was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRefusal {
    Unknown,
    Taken,
    Revoked,
    /// The text from before the last rotation still counts.
    Rotating,
    LastOperator,
    Full,
    UnknownTier(TierName),
}

pub type KeyChange = Result<KeyDocument, KeyRefusal>;

impl KeyRefusal {
    pub fn problem(&self) -> Problem {
        let conflict = |detail: &str| Problem::new(ProblemType::Conflict).detail(detail);
        match self {
            KeyRefusal::Unknown => Problem::new(ProblemType::NotFound).detail("there is no key of this name"),
            KeyRefusal::Taken => conflict("there is another key of this name, or the same key under another"),
            KeyRefusal::Revoked => conflict("this key has been revoked: make one of another name"),
            KeyRefusal::Rotating => conflict("its text from before the last rotation still counts: revoke that first"),
            KeyRefusal::LastOperator => conflict("it is the last operator key: nobody could make another"),
            KeyRefusal::Full => Problem::new(ProblemType::TooLarge).detail(format!("there are {KEYS_MAX} keys")),
            KeyRefusal::UnknownTier(tier) => {
                Problem::new(ProblemType::UnknownTier).detail(format!("there is no tier {tier}"))
            }
        }
    }
}

/// Puts a new key in force. To repeat it is harmless.
pub async fn create(directory: &impl Documents, key: &KeyDocument) -> Result<KeyChange, DirectoryError> {
    let held = catalog::read(directory).await?;
    if let Some(tier) = &key.auto_enrol
        && !held.tiers.iter().any(|one| one.document.name == *tier)
    {
        return Ok(Err(KeyRefusal::UnknownTier(tier.clone())));
    }
    let known = held.keys.iter().any(|one| one.name == key.name);
    if !known && held.keys.len() >= KEYS_MAX {
        return Ok(Err(KeyRefusal::Full));
    }
    if is_of_another(&held.keys, &key.name, key.hash) {
        return Ok(Err(KeyRefusal::Taken));
    }
    Ok(match catalog::put(directory, CatalogKind::Key, key.name.as_str(), key, None).await? {
        Put::Done(_) => Ok(key.clone()),
        Put::Stale(_) => Err(KeyRefusal::Taken),
    })
}

/// Gives a key another text. The one it had counts as well, until it is revoked: whoever holds it may change over
/// in their own time. To repeat it is harmless.
pub async fn rotate(directory: &impl Documents, name: &KeyName, new: KeyHash) -> Result<KeyChange, DirectoryError> {
    if is_of_another(&catalog::read(directory).await?.keys, name, new) {
        return Ok(Err(KeyRefusal::Taken));
    }
    change(directory, name, |held| match held {
        held if held.revoked => Err(KeyRefusal::Revoked),
        held if held.hash == new => Ok(held),
        held if held.previous.is_some() => Err(KeyRefusal::Rotating),
        held => Ok(KeyDocument { hash: new, previous: Some(held.hash), ..held }),
    })
    .await
}

/// Takes a key, or its old text, out of force: at each process with its next poll of the catalog.
pub async fn revoke(directory: &impl Documents, name: &KeyName, what: Revoked) -> Result<KeyChange, DirectoryError> {
    if what == Revoked::Old {
        return change(directory, name, |held| Ok(KeyDocument { previous: None, ..held })).await;
    }
    let Some(held) = key(directory, name).await? else { return Ok(Err(KeyRefusal::Unknown)) };
    if held.revoked {
        return Ok(Ok(held));
    }
    if held.kind == KeyKind::Operator && !has_another_operator(directory, name).await? {
        return Ok(Err(KeyRefusal::LastOperator));
    }
    let revoked = change(directory, name, |held| Ok(KeyDocument { previous: None, revoked: true, ..held })).await?;
    // The last two may have been revoked at one moment, each beside the other. Rows are read serially: whoever wrote
    // second sees it.
    if held.kind == KeyKind::Operator && !has_another_operator(directory, name).await? {
        change(directory, name, |_| Ok(held.clone())).await?.ok();
        return Ok(Err(KeyRefusal::LastOperator));
    }
    Ok(revoked)
}

async fn change(
    directory: &impl Documents,
    name: &KeyName,
    next: impl Fn(KeyDocument) -> KeyChange,
) -> Result<KeyChange, DirectoryError> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(row) = row(directory, name).await? else { return Ok(Err(KeyRefusal::Unknown)) };
        let next = match next(catalog::parse("key", &row)?) {
            Ok(next) => next,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let put = catalog::put(directory, CatalogKind::Key, name.as_str(), &next, Some(row.revision)).await?;
        if let Put::Done(_) = put {
            return Ok(Ok(next));
        }
    }
    Err(DirectoryError::Undecided { what: "key", attempts: ATTEMPTS_MAX })
}

async fn row(directory: &impl Documents, name: &KeyName) -> Result<Option<CatalogRow>, DirectoryError> {
    directory.catalog_row(CatalogKind::Key, name.as_str()).await
}

async fn key(directory: &impl Documents, name: &KeyName) -> Result<Option<KeyDocument>, DirectoryError> {
    row(directory, name).await?.map(|row| catalog::parse("key", &row)).transpose()
}

async fn has_another_operator(directory: &impl Documents, name: &KeyName) -> Result<bool, DirectoryError> {
    let keys = catalog::read(directory).await?.keys;
    for one in keys.iter().filter(|one| one.kind == KeyKind::Operator && one.name != *name && !one.revoked) {
        if key(directory, &one.name).await?.is_some_and(|one| !one.revoked) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_of_another(keys: &[KeyDocument], name: &KeyName, hash: KeyHash) -> bool {
    keys.iter().any(|one| one.name != *name && (one.hash == hash || one.previous == Some(hash)))
}

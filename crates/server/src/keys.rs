//! Credentials: the catalog's keys as of the last poll, and the MAC keys of session tokens.

use crate::caller::Caller;
use crate::mac_keyring::MacKeyring;
use cellar_model::{ApiKey, KeyDocument, KeyHash, KeyKind, MacKeys, Problem, ProblemType, SessionToken};
use http::{HeaderMap, header};
use std::collections::HashMap;
use std::sync::{Arc, RwLock};

/// Texts of keys found good, so that the hot path hashes nothing. Junk never gets in, so the catalog
/// bounds it; this bounds a catalog of absurd size.
const SEEN_MAX: usize = 10_000;

/// Cheap to clone; all clones see the same keys.
#[derive(Clone)]
pub struct Keys {
    inner: Arc<Inner>,
}

struct Inner {
    mac: MacKeyring,
    held: RwLock<Held>,
}

#[derive(Default)]
struct Held {
    by_hash: HashMap<KeyHash, Caller>,
    seen: HashMap<String, Caller>,
}

impl Keys {
    pub fn new(mac: impl Into<MacKeyring>) -> Self {
        Self { inner: Arc::new(Inner { mac: mac.into(), held: RwLock::default() }) }
    }

    /// The session keys of this moment.
    pub fn mac(&self) -> Arc<MacKeys> {
        self.inner.mac.now()
    }

    /// Puts another set of keys in force, at once: a revoked one is refused from the next request on. One that is
    /// being rotated has two texts.
    pub fn replace(&self, keys: &[KeyDocument]) {
        let by_hash = keys.iter().filter(|key| !key.revoked).flat_map(|key| {
            let caller = match key.kind {
                KeyKind::Service => Caller::Service {
                    name: key.name.clone(),
                    scopes: key.scopes.as_slice().into(),
                    auto_enrol: key.auto_enrol.clone(),
                },
                KeyKind::Operator => Caller::Operator { name: key.name.clone() },
            };
            [Some(key.hash), key.previous].into_iter().flatten().map(move |hash| (hash, caller.clone()))
        });
        let fresh = Held { by_hash: by_hash.collect(), seen: HashMap::new() };
        if let Ok(mut held) = self.inner.held.write() {
            *held = fresh;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.inner.held.read().is_ok_and(|held| held.by_hash.is_empty())
    }

    /// Who sent these headers. 401 without a good credential: which part of it is wrong is not said.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let unauthorized = || Problem::new(ProblemType::Unauthorized);
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, token) = value.and_then(|value| value.split_once(' ')).ok_or_else(unauthorized)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(unauthorized());
        }
        let token = token.trim();
        if token.starts_with("cst1.") {
            let token = SessionToken::verify(token, &self.mac()).map_err(|_| unauthorized())?;
            return Ok(Caller::Session { secret_hash: token.secret.hash(), user: token.user, session: token.session });
        }
        if let Some(caller) = self.inner.held.read().ok().and_then(|held| held.seen.get(token).cloned()) {
            return Ok(caller);
        }
        let key = ApiKey::parse(token).map_err(|_| unauthorized())?;
        let mut held = self.inner.held.write().map_err(|_| unauthorized())?;
        let caller = held.by_hash.get(&key.hash()).cloned().ok_or_else(unauthorized)?;
        if held.seen.len() < SEEN_MAX {
            held.seen.insert(token.to_owned(), caller.clone());
        }
        Ok(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::{KeyName, MacKey, Scope};

    fn keys() -> (Keys, ApiKey, KeyDocument) {
        let key = ApiKey::generate(KeyKind::Service, &mut rand::rng());
        let document = KeyDocument {
            name: KeyName::new("gateway").unwrap(),
            kind: KeyKind::Service,
            hash: key.hash(),
            scopes: vec![Scope::Quota],
            auto_enrol: None,
            previous: None,
            revoked: false,
        };
        let keys = Keys::new(MacKeys::new(MacKey::new('a', [1; 32]).unwrap(), None));
        keys.replace(std::slice::from_ref(&document));
        (keys, key, document)
    }

    fn bearer(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        headers
    }

    #[test]
    fn a_key_of_the_catalog_is_its_holder_until_it_is_revoked() {
        let (keys, key, mut document) = keys();
        for _ in 0..2 {
            assert_eq!(keys.authenticate(&bearer(key.reveal())).unwrap().name().as_str(), "gateway");
        }
        document.revoked = true;
        keys.replace(&[document]);
        assert!(keys.authenticate(&bearer(key.reveal())).is_err());
    }

    #[test]
    fn scopes_are_kept_apart() {
        let (keys, key, _) = keys();
        let caller = keys.authenticate(&bearer(key.reveal())).unwrap();
        assert!(caller.require(Scope::Quota).is_ok());
        assert_eq!(caller.require(Scope::Users).unwrap_err().kind, ProblemType::Forbidden);
    }

    #[test]
    fn junk_is_401() {
        let (keys, _, _) = keys();
        let other = ApiKey::generate(KeyKind::Service, &mut rand::rng());
        for junk in ["", "x", "csk_x", "cst1.a.b.c.d", other.reveal()] {
            assert_eq!(keys.authenticate(&bearer(junk)).unwrap_err().kind, ProblemType::Unauthorized, "{junk}");
        }
        assert!(keys.authenticate(&HeaderMap::new()).is_err());
    }
}

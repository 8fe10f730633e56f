//! The front door: what a caller said of himself is checked and replaced by what we know.
//!
//! What a cell sees under `cellar-*` names was written here.

use crate::caller::Caller;
use crate::keys::Keys;
use cellar_model::{DeadlineMs, Problem, ProblemType, UserId, header};
use http::{HeaderMap, HeaderName, HeaderValue};

/// As many as fit a 64-bit number, whichever they are.
const DEADLINE_DIGITS_MAX: usize = 19;

/// Who came in, and for whom.
pub struct Admitted {
    pub caller: Caller,
    /// The session's user, or whom a service key named in `Cellar-User`.
    pub user: Option<UserId>,
    pub deadline: DeadlineMs,
}

/// Checks the credential, drops every other incoming `cellar-*` header but request id and deadline,
/// and writes ours.
pub fn admit(keys: &Keys, headers: &mut HeaderMap, default_deadline: DeadlineMs) -> Result<Admitted, Problem> {
    let caller = keys.authenticate(headers)?;
    let user = match &caller {
        Caller::Session { user, .. } => Some(user.clone()),
        Caller::Service { .. } => named_user(headers)?,
        Caller::Operator { .. } => None,
    };
    let deadline = deadline(headers, default_deadline)?;
    strip(headers);
    let mut write = |name: &'static str, value: &str| {
        // Names, ids and hex digits: always plain characters.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    write(header::CALLER, caller.name().as_str());
    if let Some(user) = &user {
        write(header::USER, user.as_str());
    }
    if let Caller::Session { session, secret_hash, .. } = &caller {
        write(header::SESSION, &format!("{} {}", session.as_str(), hex::encode(secret_hash)));
    }
    write(header::DEADLINE_MS, &deadline.get().to_string());
    Ok(Admitted { caller, user, deadline })
}

pub(crate) fn named_user(headers: &HeaderMap) -> Result<Option<UserId>, Problem> {
    let Some(value) = headers.get(header::USER) else { return Ok(None) };
    let user = value.to_str().ok().and_then(|text| UserId::new(text).ok());
    user.map(Some).ok_or_else(|| Problem::new(ProblemType::Invalid).detail("Cellar-User is not a user id"))
}

/// `Cellar-Deadline-Ms`, in range.
pub fn deadline(headers: &HeaderMap, default: DeadlineMs) -> Result<DeadlineMs, Problem> {
    let Some(value) = headers.get(header::DEADLINE_MS) else { return Ok(default) };
    let digits = |text: &&str| text.len() <= DEADLINE_DIGITS_MAX && text.bytes().all(|b| b.is_ascii_digit());
    let ms = value.to_str().ok().filter(digits).and_then(|text| text.parse().ok());
    ms.map(DeadlineMs::new)
        .ok_or_else(|| Problem::new(ProblemType::Malformed).detail("Cellar-Deadline-Ms is not a number"))
}

/// Drops the credential and all headers that only we may write: what is left may be forwarded.
pub fn strip(headers: &mut HeaderMap) {
    headers.remove(http::header::AUTHORIZATION);
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("cellar-") && name.as_str() != header::REQUEST_ID)
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::{
        ApiKey, KeyDocument, KeyKind, KeyName, MacKey, MacKeys, Scope, SessionId, SessionSecret, SessionToken,
    };

    fn keys() -> (Keys, String) {
        let key = ApiKey::generate(KeyKind::Service, &mut rand::rng());
        let keys = Keys::new(MacKeys::new(MacKey::new('a', [1; 32]).unwrap(), None));
        keys.replace(&[KeyDocument {
            name: KeyName::new("app").unwrap(),
            kind: KeyKind::Service,
            hash: key.hash(),
            scopes: vec![Scope::Quota],
            auto_enrol: None,
            previous: None,
            revoked: false,
        }]);
        (keys, key.reveal().to_owned())
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn what_only_we_may_write_is_stripped() {
        let (keys, key) = keys();
        let mut incoming = headers(&[
            ("authorization", &format!("Bearer {key}")),
            ("cellar-caller", "root"),
            ("cellar-session", "forged"),
            ("cellar-home", "eu-1; epoch=9"),
            ("cellar-user", "alice"),
            ("cellar-request-id", "r1"),
            ("accept", "*/*"),
        ]);
        let admitted = admit(&keys, &mut incoming, DeadlineMs::STANDARD).ok().unwrap();
        assert_eq!(admitted.user, UserId::new("alice").ok());
        let mut names: Vec<_> = incoming.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "cellar-caller", "cellar-deadline-ms", "cellar-request-id", "cellar-user"]);
        assert_eq!(incoming["cellar-caller"], "app");
    }

    #[test]
    fn a_session_speaks_for_its_own_user_only() {
        let (keys, _) = keys();
        let token = SessionToken {
            user: UserId::new("bob").unwrap(),
            session: SessionId::mint(1),
            secret: SessionSecret::generate(&mut rand::rng()),
        };
        let text = format!("Bearer {}", token.sign(&keys.mac()));
        let mut incoming = headers(&[("authorization", &text), ("cellar-user", "alice")]);
        admit(&keys, &mut incoming, DeadlineMs::STANDARD).ok().unwrap();
        assert_eq!(incoming["cellar-user"], "bob");
        let session = format!("{} {}", token.session.as_str(), hex::encode(token.secret.hash()));
        assert_eq!(incoming["cellar-session"], session.as_str());
    }
}

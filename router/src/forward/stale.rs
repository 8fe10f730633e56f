//! Preferences as they were, for while a cell does not answer. Service keys only: whether a session is
//! still good, nobody but its cell can say.

use axum::response::Response;
use bytes::Bytes;
use cellar_model::{UserId, header as ours};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use lru::LruCache;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Older ones are not shown: ten minutes without its cell are an outage that someone looks at.
const STALE_MAX: Duration = Duration::from_secs(600);
const STALE_IF_ERROR: HeaderValue = HeaderValue::from_static("stale-if-error=600");
/// What `Cellar-Degraded` says.
const DEGRADED: HeaderValue = HeaderValue::from_static("stale");
/// Bytes of all that is kept, bodies and what it costs to keep one.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A larger body is not kept: one user must not push out a thousand.
const BODY_BYTES_MAX: u64 = 16 * 1024;
/// Of an entry besides its body: id, tag, links.
const ENTRY_BYTES: usize = 256;

/// The preferences that were read last. Cheap to clone; clones share them.
#[derive(Clone)]
pub(crate) struct StalePreferences(Arc<Mutex<Kept>>);

struct Kept {
    bodies: LruCache<UserId, Body>,
    bytes: usize,
}

struct Body {
    json: Bytes,
    tag: Option<HeaderValue>,
    read_at: Instant,
}

impl StalePreferences {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Kept { bodies: LruCache::unbounded(), bytes: 0 })))
    }

    /// Whether an answer of this size may be kept.
    pub(crate) fn fits(bytes: Option<u64>) -> bool {
        bytes.is_some_and(|bytes| bytes <= BODY_BYTES_MAX)
    }

    pub(crate) fn keep(&self, user: &UserId, headers: &HeaderMap, json: Bytes, read_at: Instant) {
        let body = Body { json, tag: headers.get(header::ETAG).cloned(), read_at };
        let mut kept = self.kept();
        kept.forget(user);
        kept.bytes += body.json.len() + ENTRY_BYTES;
        kept.bodies.put(user.clone(), body);
        while kept.bytes > KEPT_BYTES_MAX {
            let Some((_, oldest)) = kept.bodies.pop_lru() else { break };
            kept.bytes -= oldest.json.len() + ENTRY_BYTES;
        }
    }

    /// They have changed, or are nobody's to read any more.
    pub(crate) fn forget(&self, user: &UserId) {
        self.kept().forget(user);
    }

    /// What they were, with how long before `now` that was.
    pub(crate) fn answer(&self, user: &UserId, now: Instant) -> Option<Response> {
        let mut kept = self.kept();
        let body = kept.bodies.get(user)?;
        let age = now.saturating_duration_since(body.read_at);
        if age > STALE_MAX {
            kept.forget(user);
            return None;
        }
        let mut response = Response::new(body.json.clone().into());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, STALE_IF_ERROR);
        headers.insert(header::AGE, age.as_secs().into());
        headers.insert(HeaderName::from_static(ours::DEGRADED), DEGRADED);
        if let Some(tag) = &body.tag {
            headers.insert(header::ETAG, tag.clone());
        }
        Some(response)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing that holds it can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget(&mut self, user: &UserId) {
        if let Some(body) = self.bodies.pop(user) {
            self.bytes -= body.json.len() + ENTRY_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: usize) -> UserId {
        UserId::new(&format!("user-{n}")).unwrap()
    }

    #[test]
    fn what_is_kept_is_shown_for_ten_minutes_with_its_age() {
        let (stale, now) = (StalePreferences::new(), Instant::now());
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, HeaderValue::from_static("\"7\""));
        stale.keep(&user(1), &headers, Bytes::from_static(b"{}"), now);
        let answer = stale.answer(&user(1), now + Duration::from_secs(599)).unwrap();
        let said = ["age", "cellar-degraded", "etag", "cache-control"].map(|name| &answer.headers()[name]);
        assert_eq!(said, ["599", "stale", "\"7\"", "stale-if-error=600"]);
        assert!(stale.answer(&user(1), now + Duration::from_secs(601)).is_none());
        assert!(stale.answer(&user(2), now).is_none());
        assert_eq!(stale.kept().bytes, 0);
    }

    #[test]
    fn the_least_recently_used_go_when_it_is_full() {
        let (stale, now) = (StalePreferences::new(), Instant::now());
        let body = Bytes::from(vec![b' '; BODY_BYTES_MAX as usize]);
        for n in 0..2_000 {
            stale.keep(&user(n), &HeaderMap::new(), body.clone(), now);
            // A second time takes no second place.
            stale.keep(&user(n), &HeaderMap::new(), body.clone(), now);
        }
        assert!(stale.kept().bytes <= KEPT_BYTES_MAX && stale.kept().bodies.len() > 1_000);
        assert!(stale.answer(&user(1_999), now).is_some() && stale.answer(&user(0), now).is_none());
        assert!(StalePreferences::fits(Some(BODY_BYTES_MAX)));
        assert!(!StalePreferences::fits(Some(BODY_BYTES_MAX + 1)) && !StalePreferences::fits(None));
    }
}

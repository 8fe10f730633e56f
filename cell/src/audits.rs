//! What the last comparison of this cell's books found. Whoever audits reads them page by page; the pages that
//! follow each other, from the first to the last, are one audit.

use cellar_metrics::Age;
use cellar_model::UserId;
use cellar_model::wire::AuditPage;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What the age is while there was no audit.
const NEVER: f64 = -1.0;

/// Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Audits {
    mismatches: Gauge,
    age: Age,
    walk: Arc<Mutex<Walk>>,
}

/// An audit under way.
#[derive(Default)]
struct Walk {
    /// The user whom the next page comes after.
    next: Option<UserId>,
    mismatches: i64,
}

impl Audits {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let audits = Self { mismatches: Gauge::default(), age: Age::new(NEVER), walk: Arc::default() };
        let help = "Users whose books did not agree at the last whole audit by way of this process";
        registry.register("cellar_audit_mismatches", help, audits.mismatches.clone());
        let help = "Since the last page of a whole audit by way of this process; -1 while there was none";
        registry.register_with_unit("cellar_audit_age", help, Unit::Seconds, audits.age.clone());
        audits
    }

    /// Somebody is shown the page after `after`. One that does not follow the last belongs to another walk, and
    /// is not counted.
    pub(crate) fn shown(&self, after: Option<&UserId>, page: &AuditPage) {
        let mut walk = self.walk.lock().unwrap_or_else(PoisonError::into_inner);
        if after.is_none() {
            *walk = Walk::default();
        } else if walk.next.as_ref() != after {
            return;
        }
        walk.mismatches += page.users.iter().filter(|user| user.mismatch().is_some()).count() as i64;
        walk.next = page.next.clone();
        if page.next.is_none() {
            self.mismatches.set(walk.mismatches);
            self.age.since(Some(Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::wire::AuditedUser;

    fn user(id: &str, ledger: i64, copy: i64) -> AuditedUser {
        let sums = |tokens: i64| [("tokens".into(), tokens)].into_iter().collect();
        let id = UserId::new(id).unwrap();
        AuditedUser {
            user_id: id,
            ledger: sums(ledger),
            record: sums(copy),
            copy: sums(copy),
            behind: false,
            admitted: 0,
        }
    }

    fn page(users: Vec<AuditedUser>, more: bool) -> AuditPage {
        let next = users.last().map(|user| user.user_id.clone()).filter(|_| more);
        AuditPage { users, next, undrained: 0, stores: Vec::new(), unread: Vec::new() }
    }

    #[test]
    fn an_audit_counts_once_its_last_page_has_come() {
        let audits = Audits::register(&mut Registry::default());
        assert_eq!((audits.mismatches.get(), audits.age.seconds()), (0, NEVER));
        let after = UserId::new("b").unwrap();
        audits.shown(None, &page(vec![user("a", 1, 2), user("b", 3, 3)], true));
        assert_eq!(audits.age.seconds(), NEVER);
        audits.shown(Some(&UserId::new("x").unwrap()), &page(vec![user("y", 1, 2)], false));
        assert_eq!(audits.age.seconds(), NEVER, "a page of another walk");
        audits.shown(Some(&after), &page(vec![user("c", 1, 0)], false));
        assert_eq!(audits.mismatches.get(), 2);
        assert!(audits.age.seconds() >= 0.0);
        audits.shown(None, &page(vec![user("a", 2, 2)], false));
        assert_eq!(audits.mismatches.get(), 0);
    }
}

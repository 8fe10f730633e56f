//! What a run asks, over and over, and what counts as an answer to it.

use crate::connection::{Answer, Question};
use crate::people::PASSWORD;
use memchr::memmem;
use std::fmt::Write as _;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Consume,
    /// With an idempotency key of its own each time.
    Keyed,
    /// A consume by a session's token, as an application asks that knows its callers by nothing else.
    Admit,
    /// So many checks in one request, each of another user.
    Batch(usize),
    /// So many checks in one request, of one user, the same in all requests.
    Hot(usize),
    Profile,
    /// The same by a session's token, which is checked first.
    SessionProfile,
    /// A merge patch of one key.
    Preferences,
    /// A session opened by e-mail and password.
    LogIn,
}

/// Of the checks of one request (a profile read is one).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) checks: u64,
    pub(crate) denied: u64,
    /// Answered neither by an admission nor by a denial.
    pub(crate) failed: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        self.checks += other.checks;
        self.denied += other.denied;
        self.failed += other.failed;
    }
}

impl Kind {
    /// How many users a connection must have of its own.
    pub(crate) fn distinct_users(self) -> usize {
        match self {
            Kind::Batch(checks) => checks,
            _ => 1,
        }
    }

    /// Whether it is asked by users with sessions of their own.
    pub(crate) fn by_session(self) -> bool {
        matches!(self, Kind::Admit | Kind::SessionProfile)
    }

    /// Whether it is asked with e-mail and password.
    pub(crate) fn by_password(self) -> bool {
        self == Kind::LogIn
    }

    /// What its `n`-th question is asked with: the service key, or the session's own token.
    pub(crate) fn credential<'a>(self, key: &'a str, users: &[&'a str], n: usize) -> &'a str {
        if self == Kind::SessionProfile { users[n % users.len()] } else { key }
    }

    pub(crate) fn checks(self) -> usize {
        match self {
            Kind::Consume
            | Kind::Keyed
            | Kind::Admit
            | Kind::Profile
            | Kind::SessionProfile
            | Kind::Preferences
            | Kind::LogIn => 1,
            Kind::Batch(checks) | Kind::Hot(checks) => checks,
        }
    }

    /// The `n`-th question of a connection: `users` are its own (of an admit, their sessions' tokens), `key` is
    /// unique to it.
    pub(crate) fn question(self, users: &[&str], n: usize, key: &str) -> Question<'static> {
        let user = users[n % users.len()];
        let post = |path, header, body| Question { method: "POST", path, header, body };
        match self {
            Kind::Consume => post(CONSUME, None, check(user)),
            Kind::Keyed => post(CONSUME, Some(("idempotency-key", format!("{key}-{n}"))), check(user)),
            Kind::Admit => {
                post("/v1/internal/admit", None, format!("{{\"session_token\":\"{user}\",\"cost\":{{\"tokens\":1}}}}"))
            }
            Kind::Batch(checks) => {
                let in_turn = (0..checks).map(|place| users[(n * checks + place) % users.len()]);
                post(BATCH, None, batch(in_turn))
            }
            Kind::Hot(checks) => post(BATCH, None, batch(std::iter::repeat_n(users[0], checks))),
            Kind::Profile => Question {
                method: "GET",
                path: "/v1/user/profile",
                header: Some(("cellar-user", user.to_owned())),
                body: String::new(),
            },
            // The session says whose.
            Kind::SessionProfile => {
                Question { method: "GET", path: "/v1/user/profile", header: None, body: String::new() }
            }
            Kind::Preferences => {
                post("/v1/user/preferences", Some(("cellar-user", user.to_owned())), format!("{{\"n\":{n}}}"))
            }
            Kind::LogIn => post("/v1/sessions", None, format!("{{\"email\":\"{user}\",\"password\":\"{PASSWORD}\"}}")),
        }
    }

    pub(crate) fn tally(self, users: &[&str], n: usize, answer: &Answer) -> Tally {
        let checks = self.checks() as u64;
        let count = |part: &[u8]| memmem::find_iter(&answer.body, part).count() as u64;
        let (admitted, denied) = match self {
            // A key that has been seen before would cost less, and no key is used twice.
            _ if answer.replayed => (0, 0),
            Kind::Consume | Kind::Keyed | Kind::Admit | Kind::Batch(_) | Kind::Hot(_)
                if matches!(answer.status, 200 | 429) =>
            {
                (count(b"\"allowed\":true"), count(b"\"allowed\":false"))
            }
            Kind::Profile if answer.status == 200 => (count(users[n % users.len()].as_bytes()).min(1), 0),
            Kind::SessionProfile if answer.status == 200 => (count(b"\"user_id\":").min(1), 0),
            Kind::Preferences if answer.status == 200 => {
                // As written: nobody else writes this user's.
                (count(format!("\"n\": {n}").as_bytes()).max(count(format!("\"n\":{n}").as_bytes())).min(1), 0)
            }
            Kind::LogIn if answer.status == 201 => (count(b"\"session_token\":").min(1), 0),
            _ => (0, 0),
        };
        Tally { checks, denied, failed: checks.saturating_sub(admitted + denied) }
    }
}

const CONSUME: &str = "/v1/internal/quota/consume";
const BATCH: &str = "/v1/internal/quota/batch";

fn check(user: &str) -> String {
    format!("{{\"user_id\":\"{user}\",\"cost\":{{\"tokens\":1}}}}")
}

fn batch<'a>(users: impl Iterator<Item = &'a str>) -> String {
    let mut body = String::from("{\"checks\":[");
    for (n, user) in users.enumerate() {
        let comma = if n == 0 { "" } else { "," };
        // Writing into a string cannot fail.
        let _ = write!(body, "{comma}{}", check(user));
    }
    body.push_str("]}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, degraded: None, replayed: false, body: body.to_owned().into() }
    }

    #[test]
    fn every_check_of_a_batch_is_counted_and_one_without_a_verdict_failed() {
        let body = r#"{"results":[{"status":200,"allowed":true},{"status":429,"allowed":false},{"status":503}]}"#;
        let tally = |kind: Kind, status| kind.tally(&["a", "b", "c"], 0, &answer(status, body));
        assert_eq!(tally(Kind::Batch(3), 200), Tally { checks: 3, denied: 1, failed: 1 });
        assert_eq!(tally(Kind::Batch(3), 503), Tally { checks: 3, denied: 0, failed: 3 });
    }

    #[test]
    fn an_answer_to_another_question_is_a_failure() {
        let failed = Tally { checks: 1, denied: 0, failed: 1 };
        assert_eq!(Kind::Profile.tally(&["a", "b"], 1, &answer(200, r#"{"user_id":"a"}"#)), failed);
        let repeat = Answer { replayed: true, ..answer(200, r#"{"allowed":true}"#) };
        assert_eq!(Kind::Keyed.tally(&["a"], 0, &repeat), failed);
    }

    #[test]
    fn batches_of_a_connection_go_through_its_users_in_turn() {
        let users = ["a", "b", "c"];
        let second = Kind::Batch(2).question(&users, 1, "k").body;
        assert_eq!(second, format!("{{\"checks\":[{},{}]}}", check("c"), check("a")));
        let hot = Kind::Hot(2).question(&users, 1, "k").body;
        assert_eq!(hot, format!("{{\"checks\":[{},{}]}}", check("a"), check("a")));
    }
}

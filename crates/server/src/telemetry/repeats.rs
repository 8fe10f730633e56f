//! Log lines about things that may happen with every request: a few of a kind, and how many were left out.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, callsite};

/// What goes wrong for a user goes wrong with each of his requests, and a log that is full of it shows nothing else.
const WINDOW: Duration = Duration::from_secs(10);
/// Lines of one kind in a window: enough to see whom it hits.
const TROUBLE_MAX: u32 = 5;
/// The same of what is said of a life, not of a request: an operator may do much at once.
const INFO_MAX: u32 = 100;
/// Kinds at once. A line has a few cells, shards or slots to be about; beyond it they count as one.
const KINDS_MAX: usize = 4_096;
/// What tells kinds apart beside the place in the code: each is a name of a thing of which there are few.
const OF: [&str; 7] = ["cell", "policy", "reason", "shard", "slot", "tier", "why"];

/// Who wrote it: a fixed word for a metric.
pub(super) const KINDS: [&str; 8] =
    ["cell", "directory", "library", "policy_host", "quota", "router", "server", "trace"];

/// The word of a line from that module.
pub(super) fn kind_of(target: &str) -> &'static str {
    let of = target.split("::").next().and_then(|name| name.strip_prefix("cellar_"));
    of.and_then(|of| KINDS.into_iter().find(|kind| *kind == of)).unwrap_or("library")
}

#[derive(Default)]
pub(super) struct Repeats(Mutex<HashMap<(callsite::Identifier, u64), Kind>>);

struct Kind {
    since: Instant,
    said: u32,
    left_out: u64,
}

impl Repeats {
    /// Whether to say it now, and how many have been left out since the last one.
    pub(super) fn say(&self, event: &Event<'_>) -> Option<u64> {
        let metadata = event.metadata();
        let max = match *metadata.level() {
            Level::ERROR | Level::WARN => TROUBLE_MAX,
            Level::INFO => INFO_MAX,
            // Somebody asked for these.
            _ => return Some(0),
        };
        let mut about = About(DefaultHasher::new());
        event.record(&mut about);
        self.at((metadata.callsite(), about.0.finish()), max, Instant::now())
    }

    fn at(&self, kind: (callsite::Identifier, u64), max: u32, now: Instant) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = if kinds.len() < KINDS_MAX || kinds.contains_key(&kind) { kind } else { (kind.0, 0) };
        let kind = kinds.entry(kind).or_insert(Kind { since: now, said: 0, left_out: 0 });
        if now.duration_since(kind.since) >= WINDOW {
            (kind.since, kind.said) = (now, 0);
        }
        if kind.said >= max {
            kind.left_out += 1;
            return None;
        }
        kind.said += 1;
        Some(std::mem::take(&mut kind.left_out))
    }
}

/// Tells apart what a line is about.
struct About(DefaultHasher);

impl Visit for About {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if OF.contains(&field.name()) {
            format!("{value:?}").hash(&mut self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::callsite::Callsite;

    struct Here;

    impl Callsite for Here {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}
        fn metadata(&self) -> &tracing::Metadata<'_> {
            unreachable!("nobody asks")
        }
    }

    static HERE: Here = Here;

    #[test]
    fn a_few_are_said_and_then_none_until_the_window_is_over() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let at = |about: u64, s: u64| repeats.at((callsite::Identifier(&HERE), about), 2, now + Duration::from_secs(s));
        assert_eq!([at(1, 0), at(1, 1), at(1, 2), at(1, 9)], [Some(0), Some(0), None, None]);
        assert_eq!(at(2, 9), Some(0), "another cell is another kind");
        assert_eq!([at(1, 10), at(1, 11), at(1, 12)], [Some(2), Some(0), None]);
    }

    #[test]
    fn a_line_is_counted_by_who_wrote_it() {
        assert_eq!(
            ["cellar_quota::shard::calls", "cellar_cell", "sqlx::pool"].map(kind_of),
            ["quota", "cell", "library"]
        );
    }
}

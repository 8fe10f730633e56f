//! The tail: batches that Redis has taken and Postgres has not, in the order of their seq.

use crate::entry::LedgerEntry;
use crate::record::Head;
use cellar_model::{Micros, Seq, UserId};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One committed batch.
pub(crate) struct TailBatch {
    pub(crate) seq: Seq,
    pub(crate) entries: Vec<LedgerEntry>,
    /// Each user's record as the batch left it.
    pub(crate) records: Vec<(UserId, Head, Vec<u8>)>,
}

/// **Invariant:** holds no batch at or below `drained`, and is drained from its front only, without
/// a gap: an answer that is still missing stops the drain there.
pub(crate) struct Tail {
    batches: BTreeMap<Seq, (Arc<TailBatch>, Instant)>,
    /// The last seq that Postgres holds.
    drained: Option<Seq>,
    entries: usize,
}

impl Tail {
    /// Of a fence under which nothing was written yet, or up to `drained`.
    pub(crate) fn new(drained: Option<Seq>) -> Self {
        Self { batches: BTreeMap::new(), drained, entries: 0 }
    }

    /// A batch that is held already stays: the writer's own copy has the records as that batch left them.
    pub(crate) fn push(&mut self, batch: TailBatch) {
        if self.drained.is_some_and(|drained| batch.seq <= drained) {
            return;
        }
        if let Entry::Vacant(place) = self.batches.entry(batch.seq) {
            self.entries += batch.entries.len();
            place.insert((Arc::new(batch), Instant::now()));
        }
    }

    /// The newest seq that Postgres does not hold.
    pub(crate) fn last(&self) -> Option<Seq> {
        self.batches.last_key_value().map(|(seq, _)| *seq)
    }

    pub(crate) fn drained(&self) -> Option<Seq> {
        self.drained
    }

    /// Entries not yet in Postgres.
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    pub(crate) fn age(&self) -> Duration {
        self.oldest().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Since when the first batch that is held has been.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.batches.first_key_value().map(|(_, (_, since))| *since)
    }

    fn next(&self) -> Seq {
        self.drained.map_or(Seq(0), Seq::next)
    }

    /// The batches to drain next: consecutive from the watermark, at most `max` entries of several.
    pub(crate) fn front(&self, max: usize) -> Vec<Arc<TailBatch>> {
        let mut expected = self.next();
        let consecutive = self.batches.iter().take_while(|(seq, _)| {
            let next = **seq == expected;
            expected = expected.next();
            next
        });
        Self::bounded(consecutive.map(|(_, (batch, _))| batch), max)
    }

    /// The same over gaps, for a turn: its fence is over, so no answer that is missing will come.
    pub(crate) fn rest(&self, max: usize) -> Vec<Arc<TailBatch>> {
        Self::bounded(self.batches.values().map(|(batch, _)| batch), max)
    }

    fn bounded<'b>(batches: impl Iterator<Item = &'b Arc<TailBatch>>, max: usize) -> Vec<Arc<TailBatch>> {
        let (mut count, mut front) = (0, Vec::new());
        for batch in batches {
            count += batch.entries.len();
            if count > max && !front.is_empty() {
                break;
            }
            front.push(batch.clone());
        }
        front
    }

    /// What is held, entry by entry.
    pub(crate) fn entries_held(&self) -> Vec<LedgerEntry> {
        self.batches.values().flat_map(|(batch, _)| batch.entries.iter().cloned()).collect()
    }

    /// Postgres holds everything up to `last`.
    pub(crate) fn drained_to(&mut self, last: Seq) {
        let rest = self.batches.split_off(&last.next());
        let gone = std::mem::replace(&mut self.batches, rest);
        self.entries -= gone.values().map(|(batch, _)| batch.entries.len()).sum::<usize>();
        self.drained = Some(last);
    }
}

/// A calendar month of policy time, in UTC: one partition of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Month {
    year: i16,
    month: i8,
}

impl Month {
    pub(crate) fn of(at: Micros) -> Self {
        let at = jiff::Timestamp::from_microsecond(at.0.min(Micros::MAX.0) as i64).unwrap_or_default();
        let date = jiff::tz::Offset::UTC.to_datetime(at);
        Self { year: date.year(), month: date.month() }
    }

    /// So many months later.
    pub(crate) fn ahead(self, months: u32) -> Self {
        (0..months).fold(self, |month, _| month.next())
    }

    /// `2023-11`.
    pub(crate) fn name(self) -> String {
        format!("{:04}-{:02}", self.year, self.month)
    }

    /// What [`Month::name`] says.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (year, month) = name.split_once('-')?;
        let digits = |text: &str, n: usize| text.len() == n && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(year, 4) || !digits(month, 2) {
            return None;
        }
        let (year, month) = (year.parse().ok()?, month.parse().ok()?);
        (1..=12).contains(&month).then_some(Self { year, month })
    }

    pub(crate) fn of_partition(name: &str) -> Option<Self> {
        Self::parse(&name.strip_prefix("ledger_")?.replace('_', "-"))
    }

    fn next(self) -> Self {
        match self.month {
            12 => Self { year: self.year + 1, month: 1 },
            month => Self { year: self.year, month: month + 1 },
        }
    }

    fn start_us(self) -> i64 {
        let first = jiff::civil::date(self.year.min(9999), self.month, 1);
        let start = jiff::tz::Offset::UTC.to_timestamp(first.at(0, 0, 0, 0));
        start.map_or(i64::MAX, jiff::Timestamp::as_microsecond)
    }

    /// From (inclusive) and to (exclusive), in microseconds since the epoch.
    pub(crate) fn bounds(self) -> (i64, i64) {
        let to = if self.year == 9999 && self.month == 12 { i64::MAX } else { self.next().start_us() };
        (self.start_us(), to)
    }

    pub(crate) fn partition(self) -> String {
        format!("ledger_{:04}_{:02}", self.year, self.month)
    }
}

/// Which partitions this process knows to exist.
#[derive(Default)]
pub(crate) struct Months(HashSet<Month>);

impl Months {
    /// Those of `times`, and each one's next: a month's first entry finds its partition made.
    pub(crate) fn missing(&self, times: impl Iterator<Item = Micros>) -> Vec<Month> {
        let needed: HashSet<Month> = times.map(Month::of).collect();
        let needed: HashSet<Month> = needed.into_iter().flat_map(|month| [month, month.next()]).collect();
        needed.into_iter().filter(|month| !self.0.contains(month)).collect()
    }

    pub(crate) fn made(&mut self, month: Month) {
        self.0.insert(month);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(seq: u64) -> TailBatch {
        TailBatch { seq: Seq(seq), entries: Vec::new(), records: Vec::new() }
    }

    fn seqs(front: &[Arc<TailBatch>]) -> Vec<u64> {
        front.iter().map(|batch| batch.seq.0).collect()
    }

    #[test]
    fn a_missing_answer_stops_the_drain_there() {
        let mut tail = Tail::new(None);
        for seq in [0, 1, 3] {
            tail.push(batch(seq));
        }
        assert_eq!(seqs(&tail.front(100)), [0, 1]);
        tail.push(batch(2));
        assert_eq!(seqs(&tail.front(100)), [0, 1, 2, 3]);
    }

    #[test]
    fn what_postgres_holds_is_not_taken_again() {
        let mut tail = Tail::new(Some(Seq(4)));
        tail.push(batch(4));
        tail.push(batch(5));
        assert_eq!(seqs(&tail.front(100)), [5]);
        tail.drained_to(Seq(5));
        assert!(tail.front(100).is_empty());
    }

    #[test]
    fn months_meet_without_a_gap_over_leap_days_and_year_ends() {
        let us = |text: &str| Micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond() as u64);
        let february = Month::of(us("2024-02-29T23:59:59.999999Z"));
        assert_eq!(february.partition(), "ledger_2024_02");
        assert_eq!(february.bounds().1, Month::of(us("2024-03-01T00:00:00Z")).bounds().0);
        let december = Month::of(us("2023-12-31T23:59:59Z"));
        assert_eq!(december.bounds().1, us("2024-01-01T00:00:00Z").0 as i64);
        assert_eq!(Month::of(Micros::MAX).bounds().1, i64::MAX);
    }

    #[test]
    fn a_month_has_one_name_and_nothing_else_is_one() {
        let november = Month::parse("2023-11").unwrap();
        assert_eq!(Month::of_partition(&november.partition()), Some(november));
        assert_eq!(november.ahead(2).name(), "2024-01");
        for odd in ["", "2023", "2023-13", "2023-00", "23-11", "2023-1", "2023-11-01", "2023-1a", "+023-11"] {
            assert_eq!(Month::parse(odd), None, "{odd}");
        }
    }
}

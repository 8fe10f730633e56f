//! What is counted while requests are asked again. Tallies of workers add up to one, in any order.

use super::requests::{Request, Requests};
use cellar_model::{Cost, Refusal, Unit, Verdict};
use std::collections::BTreeMap;

pub(super) const HOUR_US: u64 = 3_600_000_000;
/// Users who are named in a report.
const WORST_MAX: usize = 20;
/// Users by the share of their requests that is newly denied: nothing, and tenths.
pub(super) const SHARES: usize = 11;

/// The present tier, and the candidate.
pub(super) const CURRENT: usize = 0;
pub(super) const CANDIDATE: usize = 1;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) users: u64,
    pub(super) sides: [SideTally; 2],
    pub(super) newly_denied: Changed,
    pub(super) newly_admitted: Changed,
    /// By hours since the epoch.
    pub(super) hours: BTreeMap<u64, Hour>,
    pub(super) shares: [u64; SHARES],
    pub(super) worst: Vec<Hit>,
    /// Decisions of both sides, those that are not counted and corrections among them.
    pub(super) decisions: u64,
    /// Corrections of charges from before what was read.
    pub(super) unmatched: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SideTally {
    pub(super) admitted: u64,
    /// Too large ones among them, and those of a unit that the tier does not meter.
    pub(super) denied: u64,
    /// By slot; a request that two slots deny counts for both.
    pub(super) by_slot: BTreeMap<String, u64>,
    /// By slot, more than it can ever admit.
    pub(super) too_large: BTreeMap<String, u64>,
    pub(super) unknown_unit: BTreeMap<String, u64>,
    /// Denied for another reason: no room in the record, or for another reservation.
    pub(super) otherwise: u64,
    /// Charged less given back, in the order of the units.
    pub(super) charged: Vec<i128>,
    /// Corrections of what this side had denied.
    pub(super) skipped: u64,
    /// Grants and overrides of slots that the tier lacks, and others that it refuses.
    pub(super) terms_refused: u64,
    pub(super) faults: BTreeMap<(String, String), u64>,
    pub(super) calls: u64,
    pub(super) fuel: u64,
    pub(super) fuel_most: u64,
}

/// Requests that the sides decide differently.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Changed {
    pub(super) requests: u64,
    pub(super) users: u64,
    pub(super) amounts: Vec<i128>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Hour {
    pub(super) requests: u64,
    pub(super) denied: [u64; 2],
    pub(super) charged: [Vec<i128>; 2],
}

/// A user who would be denied more than he is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hit {
    pub(super) user: u32,
    pub(super) requests: u64,
    pub(super) denied: [u64; 2],
    pub(super) newly_denied: u64,
    pub(super) newly_denied_amounts: Vec<i128>,
}

impl Hit {
    fn new(user: u32) -> Self {
        Self { user, requests: 0, denied: [0; 2], newly_denied: 0, newly_denied_amounts: Vec::new() }
    }

    /// The worse come first: by share, then by number; the order of users makes it one order.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        // By products, since equal shares must be equal.
        let (own, others) = (
            u128::from(self.newly_denied) * u128::from(other.requests),
            u128::from(other.newly_denied) * u128::from(self.requests),
        );
        others.cmp(&own).then(other.newly_denied.cmp(&self.newly_denied)).then(self.user.cmp(&other.user))
    }

    /// 0 for nothing, else the tenth that the share falls in.
    fn bin(&self) -> usize {
        let tenths = (self.newly_denied * 10).div_ceil(self.requests.max(1));
        (tenths as usize).min(SHARES - 1)
    }
}

/// One user while he is asked again.
pub(super) struct Counting<'t> {
    tally: &'t mut Tally,
    units: &'t [Unit],
    hit: Hit,
    newly_admitted: bool,
}

impl Tally {
    pub(super) fn count<'t>(&'t mut self, user: u32, units: &'t [Unit]) -> Counting<'t> {
        Counting { tally: self, units, hit: Hit::new(user), newly_admitted: false }
    }

    pub(super) fn add(&mut self, other: Tally) {
        self.requests += other.requests;
        self.users += other.users;
        self.decisions += other.decisions;
        self.unmatched += other.unmatched;
        for (side, other) in self.sides.iter_mut().zip(other.sides) {
            side.add(other);
        }
        for (own, other) in
            [(&mut self.newly_denied, other.newly_denied), (&mut self.newly_admitted, other.newly_admitted)]
        {
            own.requests += other.requests;
            own.users += other.users;
            add_amounts(&mut own.amounts, &other.amounts);
        }
        for (hour, other) in other.hours {
            let own = self.hours.entry(hour).or_default();
            own.requests += other.requests;
            for side in [CURRENT, CANDIDATE] {
                own.denied[side] += other.denied[side];
                add_amounts(&mut own.charged[side], &other.charged[side]);
            }
        }
        for (own, other) in self.shares.iter_mut().zip(other.shares) {
            *own += other;
        }
        self.worst.extend(other.worst);
        self.keep_worst();
    }

    fn keep_worst(&mut self) {
        self.worst.sort_by(Hit::order);
        self.worst.truncate(WORST_MAX);
    }
}

impl SideTally {
    fn add(&mut self, other: SideTally) {
        self.admitted += other.admitted;
        self.denied += other.denied;
        self.otherwise += other.otherwise;
        self.skipped += other.skipped;
        self.terms_refused += other.terms_refused;
        self.calls += other.calls;
        self.fuel += other.fuel;
        self.fuel_most = self.fuel_most.max(other.fuel_most);
        for (own, other) in [
            (&mut self.by_slot, other.by_slot),
            (&mut self.too_large, other.too_large),
            (&mut self.unknown_unit, other.unknown_unit),
        ] {
            other.into_iter().for_each(|(name, count)| *own.entry(name).or_default() += count);
        }
        other.faults.into_iter().for_each(|(name, count)| *self.faults.entry(name).or_default() += count);
        add_amounts(&mut self.charged, &other.charged);
    }

    /// Whether it was admitted.
    fn take(&mut self, verdict: &Verdict) -> bool {
        let denied = match verdict {
            Verdict::Admitted { .. } | Verdict::Seen { .. } => {
                self.admitted += 1;
                return true;
            }
            Verdict::Denied { denial, .. } => {
                denial.violated.iter().for_each(|slot| more(&mut self.by_slot, slot.as_str()));
                return self.deny();
            }
            Verdict::Refused(refusal) => refusal,
        };
        match denied {
            Refusal::AboveLimit { slot, .. } => more(&mut self.too_large, slot.as_str()),
            Refusal::UnknownUnit(unit) => more(&mut self.unknown_unit, unit.as_str()),
            _ => self.otherwise += 1,
        }
        self.deny()
    }

    fn deny(&mut self) -> bool {
        self.denied += 1;
        false
    }
}

impl Counting<'_> {
    /// A request that both sides have decided.
    pub(super) fn request(&mut self, requests: &Requests, request: &Request, verdicts: &[Verdict; 2]) {
        let tally = &mut *self.tally;
        let hour = tally.hours.entry(request.at.0 / HOUR_US).or_default();
        let admitted = [CURRENT, CANDIDATE].map(|side| {
            let admitted = tally.sides[side].take(&verdicts[side]);
            hour.denied[side] += u64::from(!admitted);
            self.hit.denied[side] += u64::from(!admitted);
            admitted
        });
        hour.requests += 1;
        tally.requests += 1;
        self.hit.requests += 1;
        match admitted {
            [true, false] => {
                self.hit.newly_denied += 1;
                add_cost(&mut self.hit.newly_denied_amounts, self.units, requests.cost(request));
            }
            [false, true] => {
                tally.newly_admitted.requests += 1;
                self.newly_admitted = true;
                add_cost(&mut tally.newly_admitted.amounts, self.units, requests.cost(request));
            }
            _ => {}
        }
    }

    /// What a side has charged or given back at a time.
    pub(super) fn charged<'c>(&mut self, side: usize, at_us: u64, charges: impl Iterator<Item = &'c (Unit, i64)>) {
        let hour = self.tally.hours.entry(at_us / HOUR_US).or_default();
        for (unit, amount) in charges {
            let Some(place) = self.units.iter().position(|known| known == unit) else { continue };
            for amounts in [&mut self.tally.sides[side].charged, &mut hour.charged[side]] {
                amounts.resize(self.units.len(), 0);
                amounts[place] += i128::from(*amount);
            }
        }
    }

    pub(super) fn tally(&mut self) -> &mut Tally {
        self.tally
    }

    pub(super) fn finish(self) {
        if self.hit.requests == 0 {
            return;
        }
        self.tally.users += 1;
        self.tally.shares[self.hit.bin()] += 1;
        self.tally.newly_admitted.users += u64::from(self.newly_admitted);
        if self.hit.newly_denied > 0 {
            let all = &mut self.tally.newly_denied;
            all.users += 1;
            all.requests += self.hit.newly_denied;
            add_amounts(&mut all.amounts, &self.hit.newly_denied_amounts);
            self.tally.worst.push(self.hit);
            if self.tally.worst.len() > 2 * WORST_MAX {
                self.tally.keep_worst();
            }
        }
    }
}

fn more(counts: &mut BTreeMap<String, u64>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => _ = counts.insert(name.to_owned(), 1),
    }
}

fn add_cost(amounts: &mut Vec<i128>, units: &[Unit], cost: &Cost) {
    amounts.resize(units.len(), 0);
    for (amount, unit) in amounts.iter_mut().zip(units) {
        *amount += i128::from(cost.of_unit(unit).get());
    }
}

fn add_amounts(own: &mut Vec<i128>, other: &[i128]) {
    own.resize(own.len().max(other.len()), 0);
    own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(user: u32, newly_denied: u64, requests: u64) -> Hit {
        Hit { newly_denied, requests, ..Hit::new(user) }
    }

    #[test]
    fn the_worst_are_those_who_lose_the_largest_share() {
        let mut tally = Tally { worst: vec![hit(1, 1, 2), hit(2, 9, 10), hit(3, 5, 10)], ..Tally::default() };
        tally.worst.extend((10..40).map(|user| hit(user, 1, 100)));
        tally.keep_worst();
        let users: Vec<u32> = tally.worst.iter().map(|hit| hit.user).collect();
        assert_eq!(users[..4], [2, 3, 1, 10]);
        assert_eq!(users.len(), WORST_MAX);
    }

    #[test]
    fn a_share_falls_in_the_tenth_that_ends_with_it() {
        let bins = [(0, 7), (1, 100), (1, 10), (11, 100), (10, 10)].map(|(denied, of)| hit(1, denied, of).bin());
        assert_eq!(bins, [0, 1, 1, 2, 10]);
    }
}

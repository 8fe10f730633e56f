//! What should happen, written from the rules alone: buckets by calendar month, charges that know what
//! they took, grants in a list. Nothing here is shared with the engine but the questions it is asked.

use super::told::Told;
use crate::record::RESERVATIONS_MAX;
use cellar_model::{ChargeId, Check, Operation};
use std::collections::{BTreeMap, HashMap};

const SECOND_US: u64 = 1_000_000;
const DAY_US: u64 = 86_400 * SECOND_US;

#[derive(Clone, Copy, PartialEq)]
enum Standing {
    /// A consume, or a reservation that expired and stays charged.
    Charged {
        reserved: bool,
    },
    Open {
        expires_us: u64,
        release: bool,
    },
    Released,
}

struct Charge {
    at_us: u64,
    units: BTreeMap<String, u64>,
    parts: Vec<Part>,
    standing: Standing,
    /// How it was closed, and what was told then.
    closed: Option<(Closing, Told)>,
    remembered: bool,
}

/// What one slot gave.
#[derive(Clone)]
struct Part {
    slot: &'static str,
    unit: &'static str,
    own: u64,
    granted: u64,
}

#[derive(Clone, PartialEq)]
enum Closing {
    Settled(BTreeMap<String, u64>),
    Refunded,
}

#[derive(Clone)]
struct Grant {
    slot: String,
    left: u64,
    spent: u64,
    until_us: u64,
}

/// (slot, unit, limit) of each tier, and whether it releases: as `strategy::TIERS` says.
const SLOTS: [&[(&str, &str, u64)]; 3] = [
    &[("m-requests", "requests", 30), ("m-tokens", "tokens", 200)],
    &[("m-tokens", "tokens", 120), ("m-images", "images", 50)],
    &[("m-requests", "images", 40), ("m-tight", "tokens", 90), ("m-tokens", "tokens", 300)],
];
const RELEASES: [bool; 3] = [false, true, true];

pub(super) struct Reference {
    pub(super) tier: usize,
    pub(super) totals: BTreeMap<String, i64>,
    now_us: u64,
    /// By slot: a month and what was spent in it.
    buckets: HashMap<&'static str, (i32, u64)>,
    charges: Vec<Charge>,
    grants: Vec<Grant>,
    /// By slot: a limit, and until when.
    limits: HashMap<String, (u64, u64)>,
}

fn month(us: u64) -> i32 {
    let date = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from_microsecond(us as i64).unwrap()).date();
    i32::from(date.year()) * 12 + i32::from(date.month())
}

impl Reference {
    pub(super) fn new() -> Self {
        Self {
            tier: 0,
            totals: BTreeMap::new(),
            now_us: 0,
            buckets: HashMap::new(),
            charges: Vec::new(),
            grants: Vec::new(),
            limits: HashMap::new(),
        }
    }

    pub(super) fn charges(&self) -> usize {
        self.charges.len()
    }

    pub(super) fn forget(&mut self) {
        self.charges.iter_mut().for_each(|charge| charge.remembered = false);
    }

    pub(super) fn decide(&mut self, checks: &[Check], names: &[ChargeId]) -> Vec<Told> {
        checks.iter().map(|check| self.one(check, names)).collect()
    }

    fn one(&mut self, check: &Check, names: &[ChargeId]) -> Told {
        let asked_us = check.at.unwrap().0;
        let now = asked_us.max(self.now_us);
        let units: BTreeMap<String, u64> =
            check.cost.iter().map(|(unit, amount)| (unit.to_string(), amount.get())).collect();
        let closing = match &check.operation {
            Operation::Settle { charge } => Some((*charge, Closing::Settled(units.clone()))),
            Operation::Refund { charge } => Some((*charge, Closing::Refunded)),
            _ => None,
        };
        if let Some((charge, closing)) = closing {
            let place = names.iter().position(|name| *name == charge);
            let known = place.filter(|place| self.charges[*place].remembered);
            if known.is_none() {
                self.expire(now);
            }
            return match place {
                Some(place) => self.close(place, closing, now, asked_us),
                None => Told::refused("UnknownCharge"),
            };
        }
        self.expire(now);
        match &check.operation {
            Operation::Sweep => Told { end: "seen".into(), slots: Vec::new() },
            Operation::Peek => match self.unknown(&units, &BTreeMap::new()) {
                Some(refused) => refused,
                None => Told { end: "seen".into(), slots: self.look(now) },
            },
            Operation::Grant(terms) => self.grant(&terms.slot.to_string(), terms.amount.get(), terms.until.0, now),
            Operation::Override(terms) => {
                let limit = terms.settings.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
                self.set_limit(&terms.slot.to_string(), limit, terms.until.0, now)
            }
            Operation::Reserve { expires_in_s } => self.spend(units, Some(*expires_in_s), now),
            _ => self.spend(units, None, now),
        }
    }

    fn unknown(&self, units: &BTreeMap<String, u64>, charged: &BTreeMap<String, u64>) -> Option<Told> {
        let metered = |unit: &str| unit == "requests" || SLOTS[self.tier].iter().any(|slot| slot.1 == unit);
        let unknown = units.keys().find(|unit| !metered(unit) && !charged.contains_key(*unit))?;
        Some(Told::refused(format!("UnknownUnit({unknown})")))
    }

    fn limit(&self, slot: &str, own: u64, now: u64) -> u64 {
        self.limits.get(slot).filter(|(_, until)| *until > now).map_or(own, |(limit, _)| *limit)
    }

    fn spent(&self, slot: &str, now: u64) -> u64 {
        self.buckets.get(slot).filter(|(held, _)| *held == month(now)).map_or(0, |(_, spent)| *spent)
    }

    fn granted(&self, slot: &str, now: u64) -> u64 {
        self.grants.iter().filter(|grant| grant.slot == slot && grant.until_us > now).map(|grant| grant.left).sum()
    }

    fn look(&self, now: u64) -> Vec<(String, u64, u64, u64)> {
        let one = |(slot, _, own): &(&str, &str, u64)| {
            let limit = self.limit(slot, *own, now);
            ((*slot).to_owned(), limit, limit.saturating_sub(self.spent(slot, now)), self.granted(slot, now))
        };
        SLOTS[self.tier].iter().map(one).collect()
    }

    fn spend(&mut self, units: BTreeMap<String, u64>, expires_in_s: Option<u32>, now: u64) -> Told {
        if let Some(refused) = self.unknown(&units, &BTreeMap::new()) {
            return refused;
        }
        let open = self.charges.iter().filter(|one| matches!(one.standing, Standing::Open { .. })).count();
        if expires_in_s.is_some() && open >= RESERVATIONS_MAX {
            return Told::refused("TooManyReservations");
        }
        let (mut parts, mut violated) = (Vec::new(), Vec::new());
        for (slot, unit, own) in SLOTS[self.tier] {
            let asked = units.get(*unit).copied().unwrap_or(0);
            let limit = self.limit(slot, *own, now);
            if asked == 0 || self.spent(slot, now) + asked <= limit {
                parts.push(Part { slot, unit, own: asked, granted: 0 });
            } else if self.granted(slot, now) >= asked {
                parts.push(Part { slot, unit, own: 0, granted: asked });
            } else if asked > limit {
                return Told::refused(format!("above the limit of {slot}"));
            } else {
                violated.push(*slot);
            }
        }
        if !violated.is_empty() {
            return Told { end: format!("denied by {violated:?}").replace('"', ""), slots: self.look(now) };
        }
        if expires_in_s.is_none() && units.values().all(|amount| *amount == 0) {
            return Told { end: "charged".into(), slots: self.look(now) };
        }
        for part in &parts {
            if part.own > 0 {
                let spent = self.spent(part.slot, now) + part.own;
                self.buckets.insert(part.slot, (month(now), spent));
            }
            self.take_grants(part.slot, part.granted, now);
        }
        for (unit, amount) in units.iter().filter(|(_, amount)| **amount > 0) {
            *self.totals.entry(unit.clone()).or_insert(0) += *amount as i64;
        }
        let (end, standing) = match expires_in_s {
            Some(seconds) => {
                let expires_us = now + u64::from(seconds) * SECOND_US;
                let standing = Standing::Open { expires_us, release: RELEASES[self.tier] };
                (format!("reserved until {expires_us}"), standing)
            }
            None => ("charged".to_owned(), Standing::Charged { reserved: false }),
        };
        self.charges.push(Charge { at_us: now, units, parts, standing, closed: None, remembered: false });
        self.committed(now);
        Told { end, slots: self.look(now) }
    }

    fn close(&mut self, place: usize, closing: Closing, now: u64, asked_us: u64) -> Told {
        let charge = &self.charges[place];
        if let Some((first, told)) = &charge.closed {
            return match (first, &closing) {
                (first, second) if first == second => Told { end: format!("{}, again", told.end), ..told.clone() },
                (Closing::Settled(_), Closing::Settled(_)) => Told::refused("KeyReused"),
                _ => Told::refused("ChargeClosed"),
            };
        }
        let open = matches!(charge.standing, Standing::Open { .. });
        if !open && charge.at_us < asked_us.saturating_sub(40 * DAY_US) {
            return Told::refused("UnknownCharge");
        }
        let (at, mut held, mut parts) = (charge.at_us, charge.units.clone(), charge.parts.clone());
        let used = match &closing {
            Closing::Settled(_) if charge.standing == (Standing::Charged { reserved: false }) => {
                return Told::refused("NotReserved");
            }
            Closing::Refunded if charge.standing == Standing::Released => return Told::refused("ChargeClosed"),
            Closing::Settled(used) => used.clone(),
            Closing::Refunded => BTreeMap::new(),
        };
        if charge.standing == Standing::Released {
            held.clear();
            parts.iter_mut().for_each(|part| (part.own, part.granted) = (0, 0));
        }
        // A unit charged nothing is not one that was charged.
        let charged: BTreeMap<String, u64> = held.clone().into_iter().filter(|(_, amount)| *amount > 0).collect();
        if let Some(refused) = self.unknown(&used, &charged) {
            return refused;
        }
        let gives_back = open || closing == Closing::Refunded;
        let above = self.correct(at, &held, &parts, &used, gives_back, now);
        self.committed(now);
        let end = match &closing {
            Closing::Settled(_) => format!("settled, {above:?} above"),
            Closing::Refunded => "refunded".to_owned(),
        };
        let told = Told { end, slots: self.look(now) };
        let charge = &mut self.charges[place];
        charge.closed = Some((closing, told.clone()));
        charge.remembered = true;
        charge.standing = Standing::Charged { reserved: true };
        told
    }

    /// Makes `used` of what was held. Returns by unit what was charged above what was left.
    fn correct(
        &mut self,
        at: u64,
        held: &BTreeMap<String, u64>,
        parts: &[Part],
        used: &BTreeMap<String, u64>,
        gives_back: bool,
        now: u64,
    ) -> BTreeMap<String, u64> {
        let mut above: BTreeMap<String, u64> = BTreeMap::new();
        for part in parts {
            let Some((_, _, own_limit)) =
                SLOTS[self.tier].iter().find(|(slot, unit, _)| *slot == part.slot && *unit == part.unit)
            else {
                continue;
            };
            let (had, uses) = (part.own + part.granted, used.get(part.unit).copied().unwrap_or(0));
            if uses > had {
                let (more, spent) = (uses - had, self.spent(part.slot, now));
                let left = self.limit(part.slot, *own_limit, now).saturating_sub(spent);
                self.buckets.insert(part.slot, (month(now), spent + more));
                if more > left {
                    let most = above.entry(part.unit.to_owned()).or_insert(0);
                    *most = (*most).max(more - left);
                }
            } else if gives_back && part.granted > 0 {
                self.give_grants(part.slot, had - uses, now);
            } else if gives_back && month(at) == month(now) {
                let spent = self.spent(part.slot, now);
                self.buckets.insert(part.slot, (month(now), spent - (had - uses)));
            }
        }
        let mut units: Vec<&String> = held.keys().chain(used.keys()).collect();
        units.sort();
        units.dedup();
        for unit in units {
            let of = |amounts: &BTreeMap<String, u64>| amounts.get(unit).copied().unwrap_or(0) as i64;
            let moved = of(used) - of(held);
            if moved > 0 || (moved < 0 && gives_back) {
                *self.totals.entry(unit.clone()).or_insert(0) += moved;
            }
        }
        above
    }

    fn expire(&mut self, now: u64) {
        let mut due: Vec<(u64, usize)> = Vec::new();
        for (place, charge) in self.charges.iter().enumerate() {
            if let Standing::Open { expires_us, .. } = charge.standing
                && expires_us <= now
            {
                due.push((expires_us, place));
            }
        }
        due.sort_unstable();
        for (expires_us, place) in due {
            let at = expires_us.max(self.now_us);
            let charge = &mut self.charges[place];
            let Standing::Open { release, .. } = charge.standing else { continue };
            charge.standing = if release { Standing::Released } else { Standing::Charged { reserved: true } };
            if release {
                let (taken, units, parts) = (charge.at_us, charge.units.clone(), charge.parts.clone());
                self.correct(taken, &units, &parts, &BTreeMap::new(), true, at);
            }
            self.now_us = at;
        }
    }

    fn grant(&mut self, slot: &str, amount: u64, until_us: u64, now: u64) -> Told {
        if let Some(refused) = self.bad_terms(slot, until_us, now, amount == 0) {
            return refused;
        }
        if self.grants.iter().filter(|grant| grant.until_us > now).count() >= 8 {
            return Told::refused("RecordFull");
        }
        self.grants.push(Grant { slot: slot.to_owned(), left: amount, spent: 0, until_us });
        self.committed(now);
        Told { end: "changed".into(), slots: self.look(now) }
    }

    fn set_limit(&mut self, slot: &str, limit: u64, until_us: u64, now: u64) -> Told {
        if let Some(refused) = self.bad_terms(slot, until_us, now, false) {
            return refused;
        }
        if limit == 0 {
            return Told::refused("invalid /settings/limit");
        }
        self.limits.insert(slot.to_owned(), (limit, until_us));
        self.committed(now);
        Told { end: "changed".into(), slots: self.look(now) }
    }

    fn bad_terms(&self, slot: &str, until_us: u64, now: u64, no_amount: bool) -> Option<Told> {
        if SLOTS[self.tier].iter().all(|(held, _, _)| *held != slot) {
            return Some(Told::refused(format!("UnknownSlot({slot})")));
        }
        if no_amount {
            return Some(Told::refused("invalid /amount"));
        }
        (until_us <= now).then(|| Told::refused("invalid /until"))
    }

    /// Soonest to end first.
    fn take_grants(&mut self, slot: &str, mut amount: u64, now: u64) {
        let mut live: Vec<&mut Grant> =
            self.grants.iter_mut().filter(|grant| grant.slot == slot && grant.until_us > now).collect();
        live.sort_by_key(|grant| grant.until_us);
        for grant in live {
            let part = amount.min(grant.left);
            (grant.left, grant.spent, amount) = (grant.left - part, grant.spent + part, amount - part);
        }
    }

    /// Last to end first; what nothing in force has spent is gone.
    fn give_grants(&mut self, slot: &str, mut amount: u64, now: u64) {
        let mut live: Vec<&mut Grant> =
            self.grants.iter_mut().filter(|grant| grant.slot == slot && grant.until_us > now).collect();
        live.sort_by_key(|grant| std::cmp::Reverse(grant.until_us));
        for grant in live {
            let part = amount.min(grant.spent);
            (grant.left, grant.spent, amount) = (grant.left + part, grant.spent - part, amount - part);
        }
    }

    fn committed(&mut self, now: u64) {
        self.now_us = self.now_us.max(now);
    }
}

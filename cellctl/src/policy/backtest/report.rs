//! What came of a backtest, for machines; `text.rs` and `page.rs` say the same to people.

use super::requests::Requests;
use super::sides::{Sides, Used};
use super::tally::{CANDIDATE, CURRENT, Changed, HOUR_US, Hit, SHARES, SideTally, Tally};
use cellar_model::{Micros, Unit};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// By unit. Sums of ten million amounts of 2^40 fit.
pub(super) type Amounts = BTreeMap<String, i128>;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Report {
    pub(super) tier: String,
    /// Where the requests come from.
    pub(super) source: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) requests: u64,
    pub(super) users: u64,
    pub(super) current: SideReport,
    pub(super) candidate: SideReport,
    pub(super) newly_denied: ChangedReport,
    pub(super) newly_admitted: ChangedReport,
    /// Hours without requests are left out.
    pub(super) hours: Vec<HourReport>,
    /// Users by the share of their requests that is newly denied: nothing, up to a tenth, up to two …
    pub(super) users_by_newly_denied_share: [u64; SHARES],
    pub(super) worst_hit: Vec<HitReport>,
    pub(super) speed: Speed,
    /// What has to be known to read the figures.
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct SideReport {
    pub(super) name: String,
    pub(super) slots: Vec<Used>,
    pub(super) admitted: u64,
    pub(super) denied: u64,
    /// A request that two slots deny counts for both.
    pub(super) denied_by_slot: BTreeMap<String, u64>,
    pub(super) too_large_by_slot: BTreeMap<String, u64>,
    pub(super) unknown_unit: BTreeMap<String, u64>,
    pub(super) denied_otherwise: u64,
    pub(super) charged: Amounts,
    pub(super) faults: Vec<FaultReport>,
    pub(super) fuel: FuelReport,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct FaultReport {
    pub(super) slot: String,
    pub(super) kind: String,
    pub(super) count: u64,
}

/// Of calls to policies: a request makes one a slot, and more where it is denied.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct FuelReport {
    pub(super) calls: u64,
    pub(super) a_call: u64,
    pub(super) most: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct ChangedReport {
    pub(super) requests: u64,
    pub(super) users: u64,
    pub(super) amounts: Amounts,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct HourReport {
    /// Since the epoch.
    #[serde(skip)]
    pub(super) number: u64,
    pub(super) hour: String,
    pub(super) requests: u64,
    pub(super) current: HourSide,
    pub(super) candidate: HourSide,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct HourSide {
    pub(super) denied: u64,
    pub(super) charged: Amounts,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct HitReport {
    /// Never a whole id.
    pub(super) user: String,
    pub(super) requests: u64,
    pub(super) denied_by_current: u64,
    pub(super) denied_by_candidate: u64,
    pub(super) newly_denied: u64,
    pub(super) newly_denied_amounts: Amounts,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Speed {
    /// Of both sides.
    pub(super) decisions: u64,
    pub(super) seconds: f64,
    pub(super) decisions_per_second: f64,
}

/// Where the requests come from, and what that means.
pub(super) struct Source {
    pub(super) said: String,
    pub(super) notes: Vec<String>,
}

impl Report {
    pub(super) fn new(sides: &Sides, requests: &Requests, source: Source, tally: Tally, took: Duration) -> Self {
        let units = requests.units();
        let named = |amounts: &[i128]| named(&units, amounts);
        let (from, to) = requests.times().unwrap_or_default();
        let notes = notes(source.notes, &tally);
        let side = |n: usize| SideReport::new(&sides.said[n], &sides.used[n], &tally.sides[n], &units);
        let changed = |changed: &Changed| ChangedReport {
            requests: changed.requests,
            users: changed.users,
            amounts: named(&changed.amounts),
        };
        let hours = tally.hours.iter().map(|(hour, counted)| {
            let side = |n: usize| HourSide { denied: counted.denied[n], charged: named(&counted.charged[n]) };
            HourReport {
                number: *hour,
                hour: hour_name(*hour),
                requests: counted.requests,
                current: side(CURRENT),
                candidate: side(CANDIDATE),
            }
        });
        let hit = |hit: &Hit| HitReport {
            user: requests.who(hit.user).to_string(),
            requests: hit.requests,
            denied_by_current: hit.denied[CURRENT],
            denied_by_candidate: hit.denied[CANDIDATE],
            newly_denied: hit.newly_denied,
            newly_denied_amounts: named(&hit.newly_denied_amounts),
        };
        let seconds = took.as_secs_f64();
        Self {
            tier: sides.tiers[CURRENT].document.name.to_string(),
            source: source.said,
            from: minute(from),
            to: minute(to),
            requests: tally.requests,
            users: tally.users,
            current: side(CURRENT),
            candidate: side(CANDIDATE),
            newly_denied: changed(&tally.newly_denied),
            newly_admitted: changed(&tally.newly_admitted),
            hours: hours.collect(),
            users_by_newly_denied_share: tally.shares,
            worst_hit: tally.worst.iter().map(hit).collect(),
            speed: Speed {
                decisions: tally.decisions,
                seconds,
                decisions_per_second: (tally.decisions as f64 / seconds.max(1e-9)).round(),
            },
            notes,
        }
    }

    /// In percent of all requests.
    pub(super) fn newly_denied_percent(&self) -> f64 {
        percent(self.newly_denied.requests, self.requests)
    }

    pub(super) fn units(&self) -> Vec<&String> {
        let mut units: Vec<&String> = self.current.charged.keys().chain(self.candidate.charged.keys()).collect();
        units.sort();
        units.dedup();
        units
    }
}

impl SideReport {
    fn new(name: &str, slots: &[Used], tally: &SideTally, units: &[Unit]) -> Self {
        let fault = |((slot, kind), count): (&(String, String), &u64)| FaultReport {
            slot: slot.clone(),
            kind: kind.clone(),
            count: *count,
        };
        Self {
            name: name.to_owned(),
            slots: slots.to_vec(),
            admitted: tally.admitted,
            denied: tally.denied,
            denied_by_slot: tally.by_slot.clone(),
            too_large_by_slot: tally.too_large.clone(),
            unknown_unit: tally.unknown_unit.clone(),
            denied_otherwise: tally.otherwise,
            charged: named(units, &tally.charged),
            faults: tally.faults.iter().map(fault).collect(),
            fuel: FuelReport { calls: tally.calls, a_call: tally.fuel / tally.calls.max(1), most: tally.fuel_most },
        }
    }
}

fn named(units: &[Unit], amounts: &[i128]) -> Amounts {
    units.iter().zip(amounts).map(|(unit, amount)| (unit.to_string(), *amount)).collect()
}

fn notes(mut notes: Vec<String>, tally: &Tally) -> Vec<String> {
    if tally.unmatched > 0 {
        notes.push(format!("{} corrections of charges from before what was read are left out", tally.unmatched));
    }
    for (side, name) in tally.sides.iter().zip(["the current tier", "the candidate"]) {
        if side.skipped > 0 {
            notes.push(format!(
                "{} settles and refunds of what {name} had denied, or refused, are left out on its side",
                side.skipped
            ));
        }
        if side.terms_refused > 0 {
            notes.push(format!("{} grants and overrides are refused by {name}", side.terms_refused));
        }
        for unit in side.unknown_unit.keys() {
            notes.push(format!("{name} meters no {unit}: what names it is refused (422)"));
        }
    }
    notes
}

pub(super) fn percent(part: u64, of: u64) -> f64 {
    100.0 * part as f64 / of.max(1) as f64
}

pub(super) fn hour_name(number: u64) -> String {
    minute(Micros(number.saturating_mul(HOUR_US)))
}

/// `2023-11-16 18:15`
fn minute(at: Micros) -> String {
    at.to_rfc3339().chars().take(16).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

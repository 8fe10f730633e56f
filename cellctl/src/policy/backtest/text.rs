//! A report on a terminal.

use super::report::{Amounts, HourReport, Report, SideReport, percent};
use crate::table::{grouped, write_table};
use std::collections::BTreeSet;
use std::fmt;

/// Lines of hours; of more, days are shown.
const HOURS_MAX: usize = 48;
/// Lines of days: the last ones.
const DAYS_MAX: usize = 62;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "tier {}: {}, beside {}", self.tier, self.candidate.name, self.current.name)?;
        writeln!(
            f,
            "{} requests of {} users, {} to {} UTC, {}\n",
            grouped(self.requests),
            grouped(self.users),
            self.from,
            self.to,
            self.source
        )?;
        self.policies(f)?;
        write_table(f, &self.sides())?;
        writeln!(f)?;
        for (what, changed) in [("newly denied", &self.newly_denied), ("newly admitted", &self.newly_admitted)] {
            write!(
                f,
                "{what:<15} {} requests ({:.2} %) of {} users",
                grouped(changed.requests),
                percent(changed.requests, self.requests),
                grouped(changed.users)
            )?;
            if changed.requests > 0 {
                write!(f, ": {}", amounts(&changed.amounts))?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        write_table(f, &self.by_time())?;
        if !self.worst_hit.is_empty() {
            writeln!(f, "\nworst hit, by the share of their requests that is newly denied")?;
            write_table(f, &self.worst())?;
        }
        for note in &self.notes {
            writeln!(f, "\nnote: {note}")?;
        }
        write!(
            f,
            "\n{} decisions in {:.1} s: {} a second",
            grouped(self.speed.decisions),
            self.speed.seconds,
            grouped(self.speed.decisions_per_second as u64)
        )
    }
}

impl Report {
    fn policies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["slot", "side", "policy", "of", "from"].map(str::to_owned).to_vec()];
        for (side, name) in [(&self.current, "current"), (&self.candidate, "candidate")] {
            for used in &side.slots {
                let shadow = if used.mode == "shadow" { " (shadow)" } else { "" };
                rows.push(vec![
                    format!("{}{shadow}", used.slot),
                    name.into(),
                    format!("{} {}", used.policy, used.version),
                    used.unit.clone(),
                    used.from.clone(),
                ]);
            }
        }
        write_table(f, &rows)?;
        writeln!(f)
    }

    pub(super) fn sides(&self) -> Vec<Vec<String>> {
        let sides = [&self.current, &self.candidate];
        let mut rows = vec![["", "current", "candidate", "difference"].map(str::to_owned).to_vec()];
        let mut line = |name: String, of: &dyn Fn(&SideReport) -> i128| {
            let [current, candidate] = sides.map(of);
            rows.push(vec![name, signed(current), signed(candidate), with_sign(candidate - current)]);
        };
        line("admitted".into(), &|side| side.admitted.into());
        line("denied".into(), &|side| side.denied.into());
        let names = |of: &dyn Fn(&SideReport) -> Vec<String>| sides.iter().flat_map(|side| of(side)).collect();
        let slots: BTreeSet<String> = names(&|side| side.denied_by_slot.keys().cloned().collect());
        for slot in &slots {
            line(format!("  by {slot}"), &|side| side.denied_by_slot.get(slot).copied().unwrap_or(0).into());
        }
        let large: BTreeSet<String> = names(&|side| side.too_large_by_slot.keys().cloned().collect());
        for slot in &large {
            let name = format!("  too large for {slot}");
            line(name, &|side| side.too_large_by_slot.get(slot).copied().unwrap_or(0).into());
        }
        let unknown: BTreeSet<String> = names(&|side| side.unknown_unit.keys().cloned().collect());
        for unit in &unknown {
            let name = format!("  {unit} are not metered");
            line(name, &|side| side.unknown_unit.get(unit).copied().unwrap_or(0).into());
        }
        if sides.iter().any(|side| side.denied_otherwise > 0) {
            line("  for another reason".into(), &|side| side.denied_otherwise.into());
        }
        for unit in self.units() {
            line(format!("{unit} charged"), &|side| side.charged.get(unit).copied().unwrap_or(0));
        }
        line("faults".into(), &|side| side.faults.iter().map(|fault| i128::from(fault.count)).sum());
        line("fuel a call".into(), &|side| side.fuel.a_call.into());
        line("  at most".into(), &|side| side.fuel.most.into());
        rows
    }

    /// By hour, or where these are too many by day.
    fn by_time(&self) -> Vec<Vec<String>> {
        let days = self.hours.len() > HOURS_MAX;
        let key = |hour: &HourReport| if days { hour.hour.chars().take(10).collect() } else { hour.hour.clone() };
        let mut lines: Vec<(String, [u64; 3])> = Vec::new();
        for hour in &self.hours {
            let counts = [hour.requests, hour.current.denied, hour.candidate.denied];
            match lines.last_mut().filter(|(held, _)| *held == key(hour)) {
                Some((_, sums)) => sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count),
                None => lines.push((key(hour), counts)),
            }
        }
        let header = [if days { "day" } else { "hour" }, "requests", "denied by current", "%", "by candidate", "%"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        let left_out = lines.len().saturating_sub(DAYS_MAX);
        for (name, [requests, current, candidate]) in lines.into_iter().skip(left_out) {
            rows.push(vec![
                name,
                grouped(requests),
                grouped(current),
                format!("{:.2}", percent(current, requests)),
                grouped(candidate),
                format!("{:.2}", percent(candidate, requests)),
            ]);
        }
        rows
    }

    fn worst(&self) -> Vec<Vec<String>> {
        let header = ["user", "requests", "denied by current", "by candidate", "newly denied", "%", "amounts"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        rows.extend(self.worst_hit.iter().map(|hit| {
            vec![
                hit.user.clone(),
                grouped(hit.requests),
                grouped(hit.denied_by_current),
                grouped(hit.denied_by_candidate),
                grouped(hit.newly_denied),
                format!("{:.1}", percent(hit.newly_denied, hit.requests)),
                amounts(&hit.newly_denied_amounts),
            ]
        }));
        rows
    }
}

/// `12 requests, 3,400 tokens`
pub(super) fn amounts(amounts: &Amounts) -> String {
    let said = amounts.iter().filter(|(_, amount)| **amount != 0);
    said.map(|(unit, amount)| format!("{} {unit}", signed(*amount))).collect::<Vec<_>>().join(", ")
}

pub(super) fn signed(number: i128) -> String {
    let digits = grouped(u64::try_from(number.unsigned_abs()).unwrap_or(u64::MAX));
    if number < 0 { format!("-{digits}") } else { digits }
}

fn with_sign(number: i128) -> String {
    if number > 0 { format!("+{}", signed(number)) } else { signed(number) }
}

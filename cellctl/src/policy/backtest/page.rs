//! A report as a page: one file, without anything from elsewhere, and without scripts.

use super::chart::{Chart, Line, escaped};
use super::report::{HourReport, HourSide, Report, percent};
use super::text::{amounts, signed};
use crate::table::grouped;
use std::fmt::Write as _;

const STYLE: &str = include_str!("page.css");
/// Steps of a chart over time: a week of hours. Of longer times a step is several hours.
const STEPS_MAX: u64 = 168;
/// Units that have a chart each.
const UNITS_MAX: usize = 4;
const HOURS_A_STEP: [u64; 8] = [1, 2, 3, 6, 12, 24, 7 * 24, 28 * 24];

pub(super) fn page(report: &Report) -> String {
    let title = format!("Backtest of tier {}", report.tier);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        title = escaped(&title)
    );
    head(&mut page, report, &title);
    let steps = Steps::of(report);
    denials(&mut page, &steps);
    for unit in report.units().into_iter().take(UNITS_MAX) {
        charged(&mut page, &steps, unit);
    }
    shares(&mut page, report);
    worst(&mut page, report);
    sides(&mut page, report);
    policies(&mut page, report);
    notes(&mut page, report);
    let _ = write!(
        page,
        "</main>\n<footer>{} decisions in {:.1} s.</footer>\n</body>\n</html>\n",
        grouped(report.speed.decisions),
        report.speed.seconds
    );
    page
}

fn head(page: &mut String, report: &Report, title: &str) {
    let _ = write!(
        page,
        "<h1>{}</h1>\n<p>{}, beside {}</p>\n<p class=\"soft\">{} requests of {} users, {} to {} UTC, {}</p>\n",
        escaped(title),
        escaped(&report.candidate.name),
        escaped(&report.current.name),
        grouped(report.requests),
        grouped(report.users),
        escaped(&report.from),
        escaped(&report.to),
        escaped(&report.source)
    );
    let rate = |denied: u64| format!("{:.2} %", percent(denied, report.requests));
    let cards = [
        (rate(report.current.denied), "denied by the current tier".to_owned()),
        (rate(report.candidate.denied), "denied by the candidate".to_owned()),
        (
            grouped(report.newly_denied.requests),
            format!("newly denied, of {} users", grouped(report.newly_denied.users)),
        ),
        (
            grouped(report.newly_admitted.requests),
            format!("newly admitted, of {} users", grouped(report.newly_admitted.users)),
        ),
    ];
    page.push_str("<div class=\"cards\">\n");
    for (figure, what) in cards {
        let _ = writeln!(page, "<div class=\"card\"><b>{}</b><span>{}</span></div>", escaped(&figure), escaped(&what));
    }
    page.push_str("</div>\n");
}

/// The hours of a report, in steps of equal length.
struct Steps {
    names: Vec<String>,
    hours: u64,
    /// Requests, and each side's denials.
    counts: Vec<[u64; 3]>,
    sides: Vec<[HourSide; 2]>,
}

impl Steps {
    fn of(report: &Report) -> Self {
        let (first, last) = match (report.hours.first(), report.hours.last()) {
            (Some(first), Some(last)) => (first.number, last.number),
            _ => (0, 0),
        };
        let span = last - first + 1;
        let fits = |hours: &u64| span.div_ceil(*hours) <= STEPS_MAX;
        let hours = HOURS_A_STEP.into_iter().find(fits).unwrap_or_else(|| span.div_ceil(STEPS_MAX));
        let steps = span.div_ceil(hours) as usize;
        let name = |n: usize| super::report::hour_name(first + n as u64 * hours);
        let mut own = Self {
            names: (0..steps).map(name).collect(),
            hours,
            counts: vec![[0; 3]; steps],
            sides: vec![Default::default(); steps],
        };
        for hour in &report.hours {
            own.add(((hour.number - first) / hours) as usize, hour);
        }
        own
    }

    fn add(&mut self, step: usize, hour: &HourReport) {
        let counts = [hour.requests, hour.current.denied, hour.candidate.denied];
        self.counts[step].iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        for (sum, side) in self.sides[step].iter_mut().zip([&hour.current, &hour.candidate]) {
            for (unit, amount) in &side.charged {
                *sum.charged.entry(unit.clone()).or_default() += amount;
            }
        }
    }

    fn a_step(&self) -> String {
        match self.hours {
            1 => "hour".into(),
            24 => "day".into(),
            hours => format!("{hours} hours"),
        }
    }

    /// Both sides' values, where anything was asked.
    fn values(&self, of: impl Fn(usize, usize) -> f64) -> [Vec<Option<f64>>; 2] {
        [0, 1].map(|side| {
            let asked = self.counts.iter().enumerate();
            asked.map(|(step, [requests, ..])| (*requests > 0).then(|| of(step, side))).collect()
        })
    }

    fn figure(
        &self,
        page: &mut String,
        title: &str,
        description: &str,
        value: &dyn Fn(f64) -> String,
        values: &[Vec<Option<f64>>; 2],
    ) {
        let chart = Chart { title, description, names: &self.names, value };
        let line = |name, class, values| Line { name, class, values };
        let svg = chart.lines(&[line("current", "current", &values[0]), line("candidate", "candidate", &values[1])]);
        let _ = write!(
            page,
            "<h2>{}</h2>\n<figure>\n<div class=\"legend\"><span>current</span><span class=\"candidate\">candidate</span></div>\n{svg}\n</figure>\n",
            escaped(title)
        );
    }
}

fn denials(page: &mut String, steps: &Steps) {
    let values = steps.values(|step, side| percent(steps.counts[step][1 + side], steps.counts[step][0]));
    let title = format!("Denied, by {}", steps.a_step());
    let description = "The share of all requests that each side denies, over policy time in UTC.";
    steps.figure(page, &title, description, &|value| format!("{} %", short(value)), &values);
}

fn charged(page: &mut String, steps: &Steps, unit: &str) {
    let values = steps.values(|step, side| {
        let amount = steps.sides[step][side].charged.get(unit).copied().unwrap_or(0);
        amount.max(0) as f64
    });
    let title = format!("Admitted {unit}, by {}", steps.a_step());
    let description = format!("How many {unit} each side charges, less what it gives back, over policy time in UTC.");
    steps.figure(page, &title, &description, &short, &values);
}

fn shares(page: &mut String, report: &Report) {
    let [untouched, touched @ ..] = &report.users_by_newly_denied_share;
    page.push_str("<h2>Users, by the share of their requests that is newly denied</h2>\n");
    let _ = writeln!(
        page,
        "<p class=\"soft\">{} of {} users lose nothing.</p>",
        grouped(*untouched),
        grouped(report.users)
    );
    if report.newly_denied.users == 0 {
        return;
    }
    let names: Vec<String> = (1..=touched.len()).map(|tenth| format!("≤ {} %", tenth * 10)).collect();
    let values: Vec<f64> = touched.iter().map(|users| *users as f64).collect();
    let chart = Chart {
        title: "Users, by the share of their requests that is newly denied",
        description: "How many users lose up to a tenth of their requests, up to two tenths, and so on.",
        names: &names,
        value: &short,
    };
    let _ = writeln!(page, "<figure>\n{}\n</figure>", chart.bars(&values));
}

fn worst(page: &mut String, report: &Report) {
    if report.worst_hit.is_empty() {
        return;
    }
    page.push_str("<h2>Worst hit</h2>\n");
    let header = ["user", "requests", "denied by current", "by candidate", "newly denied", "share", "amounts"];
    let rows = report.worst_hit.iter().map(|hit| {
        vec![
            hit.user.clone(),
            grouped(hit.requests),
            grouped(hit.denied_by_current),
            grouped(hit.denied_by_candidate),
            grouped(hit.newly_denied),
            format!("{:.1} %", percent(hit.newly_denied, hit.requests)),
            amounts(&hit.newly_denied_amounts),
        ]
    });
    table(page, &header, rows, &[]);
}

fn sides(page: &mut String, report: &Report) {
    page.push_str("<h2>Both sides</h2>\n");
    let [header, rows @ ..] = &report.sides()[..] else { return };
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    table(page, &header, rows.iter().map(|row| row.iter().map(|cell| cell.trim_start().to_owned()).collect()), &[]);
    for (side, name) in [(&report.current, "current"), (&report.candidate, "candidate")] {
        for fault in &side.faults {
            let _ = writeln!(
                page,
                "<p>{name}: {} faults ({}) of slot {}</p>",
                signed(fault.count.into()),
                escaped(&fault.kind),
                escaped(&fault.slot)
            );
        }
    }
}

fn policies(page: &mut String, report: &Report) {
    page.push_str("<h2>Policies</h2>\n");
    let header = ["side", "slot", "policy", "counts", "settings", "from"];
    let sides = [(&report.current, "current"), (&report.candidate, "candidate")];
    let rows = sides.into_iter().flat_map(|(side, name)| {
        side.slots.iter().map(move |used| {
            let shadow = if used.mode == "shadow" { " (shadow)" } else { "" };
            vec![
                name.to_owned(),
                format!("{}{shadow}", used.slot),
                format!("{} {} {}…", used.policy, used.version, used.digest.chars().take(19).collect::<String>()),
                used.unit.clone(),
                used.settings.to_string(),
                used.from.clone(),
            ]
        })
    });
    table(page, &header, rows, &[1, 2, 3, 4, 5]);
}

fn notes(page: &mut String, report: &Report) {
    page.push_str("<h2>To be known</h2>\n<ul>\n");
    for note in &report.notes {
        let _ = writeln!(page, "<li>{}</li>", escaped(note));
    }
    page.push_str("</ul>\n");
}

/// Columns of `text` stand to the left and may break.
fn table(page: &mut String, header: &[&str], rows: impl Iterator<Item = Vec<String>>, text: &[usize]) {
    let class = |n: usize| if text.contains(&n) { " class=\"text\"" } else { "" };
    page.push_str("<div class=\"wide\"><table>\n<thead><tr>");
    for (n, name) in header.iter().enumerate() {
        let _ = write!(page, "<th scope=\"col\"{}>{}</th>", class(n), escaped(name));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        page.push_str("<tr>");
        for (n, cell) in row.iter().enumerate() {
            let _ = write!(page, "<td{}>{}</td>", class(n), escaped(cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

/// `12.5`, `3,400`, `1.2 M`
fn short(value: f64) -> String {
    let trimmed = |text: String| text.trim_end_matches('0').trim_end_matches('.').to_owned();
    for (size, name) in [(1e12, " T"), (1e9, " G"), (1e6, " M")] {
        if value >= size {
            return format!("{}{name}", trimmed(format!("{:.2}", value / size)));
        }
    }
    if value >= 1_000.0 { grouped(value.round() as u64) } else { trimmed(format!("{value:.2}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let said = [0.0, 12.5, 3_400.0, 1_234_567.0, 2e9, 100.0, 0.004].map(short);
        assert_eq!(said, ["0", "12.5", "3,400", "1.23 M", "2 G", "100", "0"]);
    }
}

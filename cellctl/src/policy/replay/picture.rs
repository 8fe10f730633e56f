//! What remained to a user over time, drawn with characters.

use super::Answered;
use anyhow::ensure;
use cellar_model::Micros;
use std::collections::HashMap;

/// A narrow terminal has eighty columns, of which labels take some.
const COLUMNS: usize = 60;
const ROWS: u64 = 6;
/// Parts of a row, as there are characters for.
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const DENIED: char = '×';
/// Pictures that are drawn; more would be read by nobody.
const USERS_DRAWN: usize = 8;
/// Requests that are kept for the pictures, a state each.
const CALLS_MAX: usize = 1_000_000;

#[derive(Default)]
pub(super) struct Picture {
    /// In the order in which they first came.
    users: Vec<Series>,
    places: HashMap<String, Option<usize>>,
    calls: usize,
}

struct Series {
    user: String,
    limit: u64,
    calls: Vec<Call>,
}

struct Call {
    at_us: u64,
    denied: bool,
    state: Vec<u8>,
}

impl Picture {
    pub(super) fn add(&mut self, answered: &Answered) -> anyhow::Result<()> {
        let user = &answered.line.user;
        let place = match self.places.get(user) {
            Some(place) => *place,
            None => {
                let place = (self.users.len() < USERS_DRAWN).then_some(self.users.len());
                if place.is_some() {
                    self.users.push(Series { user: user.clone(), limit: 0, calls: Vec::new() });
                }
                self.places.insert(user.clone(), place);
                place
            }
        };
        let Some(place) = place else { return Ok(()) };
        self.calls += 1;
        ensure!(self.calls <= CALLS_MAX, "more than {CALLS_MAX} requests are not drawn; --user NAME draws one user's");
        let series = &mut self.users[place];
        series.limit = series.limit.max(answered.outcome.limit);
        let state = answered.outcome.state.clone().unwrap_or_else(|| answered.before.clone());
        series.calls.push(Call { at_us: answered.now_us, denied: !answered.outcome.admitted, state });
        Ok(())
    }

    /// A picture a user, all over the same time. `peek` says what remains at a moment to one of that state.
    pub(super) fn draw(&self, mut peek: impl FnMut(&[u8], u64) -> anyhow::Result<u64>) -> anyhow::Result<Vec<String>> {
        let moments = || self.users.iter().flat_map(|series| &series.calls).map(|call| call.at_us);
        let (first_us, last_us) = (moments().min().unwrap_or(0), moments().max().unwrap_or(0));
        let pictures = self.users.iter().map(|series| series.draw(first_us, last_us, &mut peek));
        let mut pictures = pictures.collect::<anyhow::Result<Vec<_>>>()?;
        let left_out = self.places.len().saturating_sub(self.users.len());
        if left_out > 0 {
            pictures.push(format!("{left_out} more users are not drawn; --user NAME draws one"));
        }
        Ok(pictures)
    }
}

impl Series {
    fn draw(
        &self,
        first_us: u64,
        last_us: u64,
        peek: &mut impl FnMut(&[u8], u64) -> anyhow::Result<u64>,
    ) -> anyhow::Result<String> {
        let width_us = (last_us - first_us) / COLUMNS as u64 + 1;
        let (mut remaining, mut denied) = ([0; COLUMNS], [false; COLUMNS]);
        let (mut next, mut state) = (0, &[][..]);
        for column in 0..COLUMNS {
            // What is left when the column ends, after all that was asked in it. Before his first call nobody has
            // a state.
            let end_us = first_us + width_us * (column as u64 + 1) - 1;
            while let Some(call) = self.calls.get(next).filter(|call| call.at_us <= end_us) {
                (next, state) = (next + 1, &call.state);
                denied[column] |= call.denied;
            }
            remaining[column] = peek(state, end_us.min(Micros::MAX.0))?;
        }
        let rows = rows(&remaining, self.limit);
        let label = self.limit.to_string();
        let mut text = format!("{}\n", self.user);
        for (row, bars) in rows.iter().enumerate() {
            let mark = if row == 0 { &label } else { "" };
            text.push_str(&format!("{mark:>14} ┤{bars}\n"));
        }
        let marks: String = denied.iter().map(|denied| if *denied { DENIED } else { ' ' }).collect();
        text.push_str(&format!("{:>14} └{}\n", 0, "─".repeat(COLUMNS)));
        if denied.contains(&true) {
            text.push_str(&format!("{:>14}  {}\n", "denied", marks.trim_end()));
        }
        let (from, to) = (Micros(first_us).to_rfc3339(), Micros(last_us).to_rfc3339());
        text.push_str(&format!("{:>14}  {from} to {to}", ""));
        Ok(text)
    }
}

/// The bars from the top row to the bottom one.
fn rows(remaining: &[u64], limit: u64) -> Vec<String> {
    let heights: Vec<u64> = remaining.iter().map(|left| height(*left, limit)).collect();
    let row = |row: u64| {
        let below = (ROWS - 1 - row) * 8;
        heights.iter().map(|height| EIGHTHS[height.saturating_sub(below).min(8) as usize]).collect()
    };
    (0..ROWS).map(row).collect()
}

/// In eighths of a row. Whatever is left shows, and only all of it is full.
fn height(left: u64, limit: u64) -> u64 {
    if left == 0 || limit == 0 {
        return 0;
    }
    let most = ROWS * 8;
    let share = u128::from(left) * u128::from(most) / u128::from(limit);
    u64::try_from(share).map_or(most, |share| share.clamp(1, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_high_as_what_is_left() {
        let rows = rows(&[0, 1, 500, 999, 1_000], 1_000);
        assert_eq!(rows, ["   ▇█", "   ██", "   ██", "  ███", "  ███", " ▁███"]);
        assert_eq!(height(u64::MAX, u64::MAX), ROWS * 8);
        assert_eq!(height(5, 0), 0);
    }

    #[test]
    fn a_series_shows_its_denials_where_they_were() {
        let call = |at_us, denied| Call { at_us, denied, state: vec![1] };
        let series = Series { user: "ada".into(), limit: 10, calls: vec![call(0, false), call(600, true)] };
        let text = series.draw(0, 600, &mut |_, at_us| Ok(if at_us < 300 { 10 } else { 0 })).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0] == "ada" && lines[1].starts_with("            10 ┤█"), "{text}");
        assert!(lines[8].starts_with("        denied ") && lines[8].ends_with(DENIED), "{text}");
    }
}

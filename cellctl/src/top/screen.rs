//! A frame as text: as wide and as high as it may be.

use super::rows::{Cell, Door, Frame, InForce};
use crate::table::{grouped, write_table};
use std::fmt::Write;

/// Lines that conditions get before shards get any.
const CONDITIONS_MIN: usize = 4;

/// Lines of at most `width` characters, at most `height` of them.
pub(super) fn draw(frame: &Frame, width: usize, height: usize) -> String {
    let mut lines = vec![head(frame), String::new()];
    lines.extend(table(&DOORS, frame.doors.iter().map(door)));
    lines.push(String::new());
    lines.extend(table(&CELLS, frame.cells.iter().map(cell)));
    let conditions = conditions(frame);
    let shards = frame.cells.iter().flat_map(shards).collect::<Vec<_>>();
    // What is wrong is seen before what is usual.
    let room = height.saturating_sub(lines.len() + conditions.len().max(CONDITIONS_MIN) + 3);
    if !shards.is_empty() && room > 1 {
        lines.push(String::new());
        lines.extend(shards.into_iter().take(room));
    }
    lines.push(String::new());
    lines.extend(conditions);
    let mut text = String::new();
    // The last line has no end of its own: the screen would move.
    for line in lines.iter().take(height.saturating_sub(1)) {
        let _ = writeln!(text, "{}", line.chars().take(width).collect::<String>().trim_end());
    }
    text
}

fn head(frame: &Frame) -> String {
    let silent = match frame.silent.len() {
        0 => String::new(),
        _ => format!(", no answer from {}", frame.silent.join(", ")),
    };
    format!(
        "cellar: {} doors, {} processes of cells, {:.1} s{silent}   q ends",
        frame.doors.len(),
        frame.cells.len(),
        frame.over_s
    )
}

const DOORS: [&str; 8] = ["door", "region", "requests/s", "p50 ms", "p99 ms", "denied/s", "5xx/s", "directory age s"];
const CELLS: [&str; 8] = ["cell", "region", "checks/s", "commit p50 ms", "p99 ms", "refused/s", "undrained", "lag s"];

fn table<'r>(heads: &[&str], rows: impl Iterator<Item = Vec<String>> + 'r) -> Vec<String> {
    let mut all = vec![heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>()];
    all.extend(rows);
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write_table(&mut text, &all);
    text.lines().map(str::to_owned).collect()
}

fn door(door: &Door) -> Vec<String> {
    vec![
        door.name.clone(),
        door.region.clone(),
        whole(door.requests_per_s),
        fine(door.p50_ms),
        fine(door.p99_ms),
        whole(door.denied_per_s),
        whole(door.failed_per_s),
        fine(door.directory_age_s),
    ]
}

fn cell(cell: &Cell) -> Vec<String> {
    let undrained: u64 = cell.shards.iter().map(|shard| shard.undrained).sum();
    vec![
        cell.name.clone(),
        cell.region.clone(),
        whole(cell.checks_per_s),
        fine(cell.commit_p50_ms),
        fine(cell.commit_p99_ms),
        whole(cell.refused_per_s),
        grouped(undrained),
        fine(cell.lag_s),
    ]
}

fn shards(cell: &Cell) -> impl Iterator<Item = String> + '_ {
    cell.shards.iter().map(|shard| {
        let (name, at, mode) = (&cell.cell, &shard.shard, shard.mode);
        format!("shard {name}/{at:<4} {mode:<9} fence {:<6} undrained {}", shard.fence, grouped(shard.undrained))
    })
}

fn conditions(frame: &Frame) -> Vec<String> {
    if frame.conditions.is_empty() {
        return vec!["no condition is in force".to_owned()];
    }
    let line = |one: &InForce| {
        let how = if one.failing { "FAILING" } else { "degraded" };
        format!("{how:<8} {} at {} for {:.0} s: {}", one.condition, one.process, one.for_s, one.what)
    };
    frame.conditions.iter().map(line).collect()
}

fn whole(rate: f64) -> String {
    grouped(rate.round() as u64)
}

fn fine(number: Option<f64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.2}"))
}

#[cfg(test)]
mod tests {
    use super::super::rows::Shard;
    use super::*;

    fn frame(shards: usize, conditions: usize) -> Frame {
        let shard = |n: usize| Shard { shard: n.to_string(), mode: "redis", fence: 7, undrained: 1_234 };
        let cell = Cell {
            region: "eu".into(),
            cell: "eu-1".into(),
            name: "cell-eu-1".into(),
            checks_per_s: 12_345.0,
            commit_p50_ms: Some(0.5),
            commit_p99_ms: None,
            refused_per_s: 0.0,
            lag_s: None,
            shards: (0..shards).map(shard).collect(),
        };
        let held = |n: usize| InForce {
            process: format!("cell-{n}"),
            condition: "redis-away".into(),
            for_s: 3.0,
            what: "x".repeat(300),
            failing: n == 0,
        };
        let conditions = (0..conditions).map(held).collect();
        Frame { over_s: 1.0, doors: Vec::new(), cells: vec![cell], conditions, silent: vec!["router-eu".into()] }
    }

    #[test]
    fn a_frame_keeps_to_the_size_of_its_terminal() {
        for (width, height) in [(80, 24), (40, 10), (200, 60), (20, 3), (1, 1)] {
            let drawn = draw(&frame(64, 9), width, height);
            assert!(drawn.lines().count() <= height, "{drawn}");
            assert!(drawn.lines().all(|line| line.chars().count() <= width), "{drawn}");
        }
    }

    #[test]
    fn what_is_wrong_is_shown_before_shards_are() {
        let drawn = draw(&frame(64, 3), 120, 20);
        assert_eq!(drawn.lines().filter(|line| line.contains("redis-away")).count(), 3);
        assert!(drawn.contains("FAILING") && drawn.contains("12,345") && drawn.contains("no answer from router-eu"));
        let calm = draw(&frame(4, 0), 120, 40);
        assert!(calm.contains("no condition is in force") && calm.contains("shard eu-1/3"));
        assert!(calm.contains("undrained 1,234") && calm.contains("4,936"), "{calm}");
    }
}

//! A row of the table, and the table once its last row is there.

use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

/// Tests that measure a row.
const ROWS: usize = 25;

const HEAD: &str = "\
| failure | all served again after, ms | longest gap of a user, ms | failed | lost | over-admitted | degraded |
|---|---|---|---|---|---|---|";

/// What has been measured by the tests of this process.
static TABLE: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[derive(Debug, Default)]
pub(super) struct Row {
    /// From the failure until every user had been answered again.
    pub(super) served_after: Duration,
    /// The longest that any user went without an answer.
    pub(super) longest_gap: Duration,
    pub(super) answered: usize,
    pub(super) failed: usize,
    pub(super) lost: usize,
    pub(super) over_admitted: u64,
    pub(super) degraded: usize,
}

/// A row whose test has begun. Dropped without numbers, its test has failed.
pub(super) struct OpenRow {
    failure: &'static str,
    closed: bool,
}

impl OpenRow {
    pub(super) fn new(failure: &'static str) -> Self {
        Self { failure, closed: false }
    }

    pub(super) fn close(mut self, row: &Row) {
        let line = format!(
            "| {} | {} | {} | {} of {} | {} | {} | {} |",
            self.failure,
            row.served_after.as_millis(),
            row.longest_gap.as_millis(),
            row.failed,
            row.answered + row.failed,
            row.lost,
            row.over_admitted,
            row.degraded
        );
        println!("{line}");
        self.closed = true;
        enter(line);
    }
}

impl Drop for OpenRow {
    fn drop(&mut self) {
        if !self.closed {
            enter(format!("| {} | failed | | | | | |", self.failure));
        }
    }
}

fn enter(line: String) {
    let Ok(mut table) = TABLE.lock() else { return };
    table.push(line);
    if table.len() == ROWS {
        table.sort();
        let text = format!("\n{HEAD}\n{}\n", table.join("\n"));
        // Not by `println`, which a test's harness keeps to itself. A closed pipe wants no table.
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
}

/// Whether the rows that take long are measured too.
pub(super) fn is_full() -> bool {
    std::env::var_os("CELLAR_TEST_FULL").is_some()
}

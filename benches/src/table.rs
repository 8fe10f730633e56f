//! The table of the load runs, beside what was promised.

use crate::run::Measured;

pub(crate) fn head() {
    println!(
        "{:<42} {:>9} {:>9} {:>8} {:>8} {:>7} {:>7}  CPU µs a check, by process",
        "run", "checks/s", "must", "p50 ms", "p99 ms", "denied", "failed"
    );
}

/// Times are of a request, rates and CPU of a check.
pub(crate) fn row(name: &str, must: Option<f64>, measured: &Measured) {
    let rate = measured.rate();
    let ms = |quantile: f64| measured.took_us.value_at_quantile(quantile) as f64 / 1_000.0;
    let share = |part: u64| format!("{:.1} %", part as f64 * 100.0 / measured.tally.checks.max(1) as f64);
    let cpu: Vec<String> = measured.cpu_us.iter().map(|(role, us)| format!("{role} {us:.1}")).collect();
    let promised = must.map_or_else(|| "-".into(), |must| format!("{must:.0}"));
    let verdict = if must.is_none_or(|must| rate >= must) { "" } else { "  MISSED" };
    println!(
        "{name:<42} {rate:>9.0} {promised:>9} {:>8.2} {:>8.2} {:>7} {:>7}  {}{verdict}",
        ms(0.5),
        ms(0.99),
        share(measured.tally.denied),
        share(measured.tally.failed),
        cpu.join(", ")
    );
}

//! The table of the load runs, beside what was promised.

use crate::run::Measured;

pub(crate) fn head() {
    println!(
        "{:<38} {:>9} {:>9} {:>8} {:>8} {:>7} {:>7}  CPU µs a request, by process",
        "run", "rate/s", "must", "p50 ms", "p99 ms", "denied", "failed"
    );
}

pub(crate) fn row(name: &str, must: f64, measured: &Measured) {
    let rate = measured.requests as f64 / measured.elapsed.as_secs_f64();
    let ms = |quantile: f64| measured.took_us.value_at_quantile(quantile) as f64 / 1_000.0;
    let share = |part: u64| format!("{:.1} %", part as f64 * 100.0 / measured.requests.max(1) as f64);
    let cpu: Vec<String> = measured.cpu_us.iter().map(|(role, us)| format!("{role} {us:.1}")).collect();
    let verdict = if rate >= must { "" } else { "  MISSED" };
    println!(
        "{name:<38} {rate:>9.0} {must:>9.0} {:>8.2} {:>8.2} {:>7} {:>7}  {}{verdict}",
        ms(0.5),
        ms(0.99),
        share(measured.denied),
        share(measured.failed),
        cpu.join(", ")
    );
}

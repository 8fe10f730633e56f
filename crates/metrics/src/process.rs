//! The process's own figures, read when they are asked for.
//!
//! What only `/proc` knows has no series where there is none.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::fs;

/// Ticks of a second in `/proc`: the kernel tells programs a hundred on every architecture, whatever it counts by.
const TICKS_A_SECOND: f64 = 100.0;

/// Adds `cellar_build_info` and the `process_*` of whoever uses Prometheus.
pub fn register(registry: &mut Registry, version: &'static str) {
    let build = Info::new([("version", version)]);
    registry.register("cellar_build", "What was built", build);
    registry.register_collector(Box::new(Process { started: started() }));
}

#[derive(Debug)]
struct Process {
    /// Seconds since the epoch.
    started: Option<f64>,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Processor time, of user and system.";
        let mut cpu = encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?;
        cpu.encode_counter::<NoLabelSet, _, u64>(&cpu_s(), None)?;
        let bytes = Some(&Unit::Bytes);
        let seconds = Some(&Unit::Seconds);
        let gauges = [
            (
                "process_start_time",
                "When the process started, since the epoch; none without /proc.",
                seconds,
                self.started,
            ),
            ("process_resident_memory", "Memory that is not swapped out; none without /proc.", bytes, resident_bytes()),
            ("process_open_fds", "Open files and sockets; none without /proc.", None, open_fds()),
            (
                "process_max_fds",
                "The most files and sockets that may be open; none if there is no limit.",
                None,
                max_fds(),
            ),
        ];
        for (name, help, unit, value) in gauges {
            let Some(value) = value else { continue };
            encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

fn cpu_s() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

fn started() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in brackets, may have any characters; the start is the 20th field after it.
    let ticks: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let booted: f64 = after("/proc/stat", "btime")?.parse().ok()?;
    Some(booted + ticks / TICKS_A_SECOND)
}

fn resident_bytes() -> Option<f64> {
    let kib: f64 = after("/proc/self/status", "VmRSS:")?.trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024.0)
}

/// What stands after `name` on its line of a file.
fn after(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
}

fn open_fds() -> Option<f64> {
    // One of them is the folder that is being read.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

fn max_fds() -> Option<f64> {
    Some(rustix::process::getrlimit(rustix::process::Resource::Nofile).current? as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    fn value(text: &str, name: &str) -> f64 {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn the_figures_are_those_of_this_process() {
        let mut registry = Registry::default();
        register(&mut registry, "1.2.3");
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("cellar_build_info{version=\"1.2.3\"} 1\n"), "{text}");
        assert!(value(&text, "process_cpu_seconds_total") > 0.0);
        let resident = value(&text, "process_resident_memory_bytes");
        assert!((1e5..1e11).contains(&resident), "{resident}");
        let (open, max) = (value(&text, "process_open_fds"), value(&text, "process_max_fds"));
        assert!(open >= 3.0 && open < max, "{open} of {max}");
        // After 2020, and not after the machine's own figure for a file that was made just now.
        let made = tempfile_made_s();
        let started = value(&text, "process_start_time_seconds");
        assert!(started > 1.577e9 && started <= made + 1.0, "{started} and {made}");
    }

    fn tempfile_made_s() -> f64 {
        let path = std::env::temp_dir().join(format!("cellar-metrics-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        let made = fs::metadata(&path).unwrap().modified().unwrap();
        fs::remove_file(&path).unwrap();
        made.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
    }
}

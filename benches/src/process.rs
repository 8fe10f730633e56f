//! What the kernel says of a process: the CPU it has used, the memory it holds.

use anyhow::{Context, Result};

/// `_SC_CLK_TCK` of every Linux that has `/proc`.
const TICKS: f64 = 100.0;

/// One process of a stack, or the client.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) role: String,
    pub(crate) pid: i64,
}

impl Process {
    /// CPU seconds of it and its children: Postgres serves each connection by one.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        let pid = self.pid;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| ticks(child.parse().ok()?));
        let own = ticks(pid).with_context(|| format!("{} (process {pid}) is gone", self.role))?;
        Ok((own + children.sum::<f64>()) / TICKS)
    }

    pub(crate) fn resident_bytes(&self) -> Result<i64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: i64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1_024)
    }
}

/// User and system time, of itself and of children it has waited for.
fn ticks(pid: i64) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    fields.get(11..15)?.iter().map(|field| field.parse::<f64>().ok()).sum()
}

//! The page, for people and for programs.

use super::causes::{Cause, SILENT, Symptom};
use super::look::Seen;
use crate::fleet::MemberRole;
use cellar_model::Micros;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// Where a runbook is, by its stem.
const RUNBOOKS: &str = "docs/operations/runbooks";
/// Symptoms that a cause shows: the same thing seen by a hundred processes is one thing.
const SHOWN_MAX: usize = 6;

fn status(causes: &[Cause]) -> &'static str {
    match causes.iter().map(|cause| cause.failing).max() {
        None => "healthy",
        Some(false) => "degraded",
        Some(true) => "failing",
    }
}

fn counts(seen: &Seen) -> (usize, usize, usize) {
    let of = |role| seen.members.iter().filter(|one| one.member.role == role).count();
    (of(MemberRole::Router), of(MemberRole::Cell), seen.stores.len())
}

pub(super) fn json(seen: &Seen, causes: &[Cause], took: Duration) -> Value {
    let (routers, cells, stores) = counts(seen);
    let all: Vec<Value> = causes.iter().map(of_cause).collect();
    json!({
        "status": status(causes), "looked_at": { "routers": routers, "cells": cells, "stores": stores },
        "took_ms": took.as_millis() as u64, "causes": all,
    })
}

fn of_cause(cause: &Cause) -> Value {
    let seen = |symptom: &Symptom| {
        json!({
            "process": symptom.process, "cell": symptom.cell, "region": symptom.region,
            "condition": symptom.condition, "what": symptom.what, "since_ms": symptom.since_ms,
        })
    };
    json!({
        "cause": cause.kind, "title": cause.title, "failing": cause.failing,
        "since_ms": cause.since_ms, "for_s": cause.for_s, "regions": cause.regions, "cells": cause.cells,
        "process": cause.process, "hit": cause.hit, "next": cause.next, "runbook": runbook(cause),
        "seen": cause.symptoms.iter().map(seen).collect::<Vec<_>>(),
    })
}

fn runbook(cause: &Cause) -> String {
    format!("{RUNBOOKS}/{}.md", cause.runbook)
}

pub(super) fn text(seen: &Seen, causes: &[Cause], took: Duration) -> String {
    let (routers, cells, stores) = counts(seen);
    let stores = if stores > 0 { format!(", {stores} stores") } else { String::new() };
    let looked = format!("{routers} routers, {cells} processes of cells{stores}, in {} ms", took.as_millis());
    let mut page = String::new();
    // Writing into a string cannot fail.
    let _ = match status(causes) {
        "healthy" => writeln!(page, "healthy: no condition is in force ({looked})"),
        "degraded" => writeln!(page, "DEGRADED: users are served, less well ({looked})"),
        _ => writeln!(page, "FAILING: users are refused ({looked})"),
    };
    for (n, cause) in causes.iter().enumerate() {
        let _ = write_cause(&mut page, n + 1, cause);
    }
    page
}

fn write_cause(page: &mut String, n: usize, cause: &Cause) -> std::fmt::Result {
    let how = if cause.failing { "  [failing]" } else { "" };
    writeln!(page, "\n{n}. {}{how}", cause.title)?;
    if let (Some(since_ms), Some(for_s)) = (cause.since_ms, cause.for_s) {
        let since = Micros(since_ms.saturating_mul(1_000)).to_rfc3339();
        writeln!(page, "   since    {since}, for {}", lasted(for_s))?;
    }
    writeln!(page, "   hit      {}", cause.hit)?;
    for (n, symptom) in cause.symptoms.iter().take(SHOWN_MAX).enumerate() {
        let name = if symptom.condition == SILENT { "no answer" } else { &symptom.condition };
        writeln!(page, "   {:<8} {} at {}: {}", label(n, "seen"), name, symptom.process, symptom.what)?;
    }
    if cause.symptoms.len() > SHOWN_MAX {
        writeln!(page, "            and {} more", cause.symptoms.len() - SHOWN_MAX)?;
    }
    for (n, step) in cause.next.iter().enumerate() {
        writeln!(page, "   {:<8} {step}", label(n, "next"))?;
    }
    writeln!(page, "   runbook  {}", runbook(cause))
}

fn label(n: usize, word: &'static str) -> &'static str {
    if n == 0 { word } else { "" }
}

/// 90 s, 12 min, 3 h
fn lasted(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3_600.0),
    }
}

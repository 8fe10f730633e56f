//! `cellctl slo`: what was promised over a period, and what is left of the errors it allows.

use crate::fleet::{ANSWER_MAX, Fleet, FleetArguments};
use crate::metrics_text::{Classes, Scrape};
use crate::table;
use anyhow::{Context, bail};
use cellar_client::Probe;
use clap::Args;
use futures::future::join_all;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Of requests to the quota routes, so many are answered: 200, 429 and what is the caller's own mistake are answers,
/// 5xx is none.
const AVAILABLE: f64 = 0.999_9;
/// And so many of them within so long.
const IN_TIME: f64 = 0.99;
const IN_TIME_S: f64 = 0.020;
/// What an application asks for each of its own requests, and what closes or changes it.
const ROUTES: [&str; 8] = ["consume", "admit", "batch", "reserve", "settle", "refund", "grant", "quota"];
/// For Prometheus to go through an hour of series.
const QUERY_MAX: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct SloArguments {
    /// 15m, 1h, 30d
    #[arg(long, value_parser = period, default_value = "1h")]
    since: Duration,
    /// A Prometheus that scrapes the routers [default: the stack's own, if it has one]
    #[arg(long, value_name = "URL")]
    prometheus: Option<String>,
    #[command(flatten)]
    fleet: FleetArguments,
    #[arg(long)]
    json: bool,
}

fn period(text: &str) -> Result<Duration, String> {
    let odd = || "a period is a number and s, m, h or d".to_owned();
    let unit = text.chars().last().ok_or_else(odd)?;
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| odd())?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(odd()),
    };
    // A year is longer than anybody keeps such series.
    match number.checked_mul(seconds) {
        Some(seconds @ 1..=31_536_000) => Ok(Duration::from_secs(seconds)),
        _ => Err("a period is a second to a year".to_owned()),
    }
}

/// What was counted, and over what.
#[derive(Default)]
struct Counted {
    answered: f64,
    failed: f64,
    seconds: Classes,
    /// In a sentence.
    over: String,
}

/// One promise.
struct Kept {
    name: &'static str,
    promised: f64,
    /// None: nobody asked anything.
    kept: Option<f64>,
    bad: f64,
    all: f64,
}

impl Kept {
    fn is_met(&self) -> bool {
        self.kept.is_none_or(|kept| kept >= self.promised)
    }

    /// Of the errors that the promise allows over this period, the part that is left; below 0 it is broken.
    fn budget_left(&self) -> Option<f64> {
        (self.all > 0.0).then(|| 1.0 - self.bad / (self.all * (1.0 - self.promised)))
    }

    /// How many times as fast as allowed errors came: at 1, the budget of a month lasts a month.
    fn burn_rate(&self) -> Option<f64> {
        Some((1.0 - self.kept?) / (1.0 - self.promised))
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "promised": self.promised, "kept": self.kept, "met": self.is_met(), "bad": self.bad,
            "all": self.all, "error_budget_left": self.budget_left(), "burn_rate": self.burn_rate(),
        })
    }
}

/// Exit status 1: a promise was broken.
pub(crate) async fn run(folder: &Path, arguments: SloArguments) -> anyhow::Result<ExitCode> {
    let prometheus = arguments.prometheus.clone().or_else(|| own_prometheus(folder));
    let (counted, exact) = match &prometheus {
        Some(url) => (from_prometheus(url, arguments.since).await?, true),
        None => (from_processes(folder, &arguments.fleet).await?, false),
    };
    let kept = promises(&counted);
    let met = kept.iter().all(Kept::is_met);
    if arguments.json {
        let promises: Vec<Value> = kept.iter().map(Kept::json).collect();
        let document = json!({
            "since_s": arguments.since.as_secs(), "whole_period": exact, "over": counted.over, "met": met,
            "promises": promises,
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        print!("{}", page(&counted, &kept));
    }
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The stack's own, as its status names it.
fn own_prometheus(folder: &Path) -> Option<String> {
    let stack = cellar_devstack::Stack::open(folder).ok()?;
    let status = stack.state().to_json(stack.folder());
    let processes = status["processes"].as_array()?;
    let running = processes.iter().find(|one| one["role"] == "prometheus" && one["state"] == "running")?;
    running["url"].as_str().map(str::to_owned)
}

async fn from_prometheus(url: &str, since: Duration) -> anyhow::Result<Counted> {
    let probe = Probe::new(QUERY_MAX)?;
    let (routes, seconds) = (ROUTES.join("|"), since.as_secs());
    // Routers alone, where there are any: a cell counts the same checks once more.
    let of = |job: &str| format!("job=\"cellar-{job}\",route=~\"{routes}\"");
    for job in ["router", "cell"] {
        let requests = format!("sum by (status) (increase(cellar_requests_total{{{}}}[{seconds}s]))", of(job));
        let series = probe.query(url, &requests).await.context("Prometheus does not say")?;
        if series.is_empty() {
            continue;
        }
        let mut counted = Counted { over: format!("the last {seconds} s, by {url}"), ..Counted::default() };
        for one in &series {
            let status = one.metric.get("status").map(String::as_str).unwrap_or_default();
            counted.count(status, one.number());
        }
        let buckets = format!("sum by (le) (increase(cellar_request_seconds_bucket{{{}}}[{seconds}s]))", of(job));
        let buckets = probe.query(url, &buckets).await.context("Prometheus does not say")?;
        // In the form that processes export, so that one reader reads both.
        let mut text = String::new();
        for one in &buckets {
            let le = one.metric.get("le").map(String::as_str).unwrap_or_default();
            let _ = writeln!(text, "cellar_request_seconds_bucket{{le=\"{le}\"}} {}", one.number());
        }
        counted.seconds = Scrape::parse(&text).histogram("cellar_request_seconds", "route", &[]);
        return Ok(counted);
    }
    bail!("{url} has no cellar_requests_total of the last {seconds} s")
}

async fn from_processes(folder: &Path, arguments: &FleetArguments) -> anyhow::Result<Counted> {
    let fleet = Fleet::find(folder, arguments).await?;
    let probe = Probe::new(ANSWER_MAX)?;
    let doors: Vec<_> = fleet.members.iter().filter(|member| member.door).collect();
    let scraped = join_all(doors.iter().map(|member| member.metrics(&probe))).await;
    let said = fleet.ask(&probe).await;
    let mut counted = Counted::default();
    let (mut asked, mut silent) = (0, Vec::new());
    for (member, text) in doors.iter().zip(scraped) {
        let Ok(text) = text else {
            silent.push(member.name.clone());
            continue;
        };
        asked += 1;
        let scrape = Scrape::parse(&text);
        for route in ROUTES {
            for (status, count) in scrape.statuses(route) {
                counted.count(&status, count);
            }
        }
        counted.seconds.add(&scrape.histogram("cellar_request_seconds", "route", &ROUTES));
    }
    if asked == 0 {
        bail!("no router answers, and without a Prometheus (--prometheus URL) nobody else has counted");
    }
    let up = fleet.members.iter().zip(&said).filter(|(member, _)| member.door);
    let up: Vec<f64> = up.filter_map(|(_, said)| said.as_ref().ok().map(|said| said.up_s)).collect();
    let longest = up.iter().copied().fold(0.0, f64::max);
    counted.over = format!(
        "since the {asked} doors there are started, the first {longest:.0} s ago: without a Prometheus it is not the period that was asked for"
    );
    if !silent.is_empty() {
        let _ = write!(counted.over, "; {} did not answer and are not counted", silent.join(", "));
    }
    Ok(counted)
}

impl Scrape {
    /// Requests of a route by status.
    fn statuses(&self, route: &str) -> Vec<(String, f64)> {
        let statuses = self.by("cellar_requests_total", "status").into_keys();
        let count = |status: &str| self.sum("cellar_requests_total", &[("route", route), ("status", status)]);
        statuses.map(|status| (status.clone(), count(&status))).collect()
    }
}

impl Counted {
    fn count(&mut self, status: &str, requests: f64) {
        if !requests.is_finite() {
            return;
        }
        if status.starts_with('5') {
            self.failed += requests;
        } else {
            self.answered += requests;
        }
    }
}

fn promises(counted: &Counted) -> [Kept; 2] {
    let all = counted.answered + counted.failed;
    let kept = (all > 0.0).then(|| counted.answered / all);
    let timed = counted.seconds.count();
    let in_time = counted.seconds.part_within(IN_TIME_S);
    let late = in_time.map_or(0.0, |part| timed * (1.0 - part));
    [
        Kept { name: "answered", promised: AVAILABLE, kept, bad: counted.failed, all },
        Kept { name: "within 20 ms", promised: IN_TIME, kept: in_time, bad: late, all: timed },
    ]
}

fn page(counted: &Counted, kept: &[Kept]) -> String {
    let mut page = format!("quota routes, {}\n", counted.over);
    let percent = |part: Option<f64>| part.map_or_else(|| "-".to_owned(), |part| format!("{:.3} %", 100.0 * part));
    let heads = ["", "promised", "kept", "requests", "bad", "budget left", "burn rate", ""];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for one in kept {
        rows.push(vec![
            one.name.to_owned(),
            format!("{:.2} %", 100.0 * one.promised),
            percent(one.kept),
            table::grouped(one.all.round() as u64),
            table::grouped(one.bad.round() as u64),
            one.budget_left().map_or_else(|| "-".into(), |left| format!("{:.1} %", 100.0 * left)),
            one.burn_rate().map_or_else(|| "-".into(), |rate| format!("{rate:.2}")),
            if one.is_met() { "met" } else { "MISSED" }.to_owned(),
        ]);
    }
    // Writing into a string cannot fail.
    let _ = table::write_table(&mut page, &rows);
    if let Some(p99) = counted.seconds.quantile(0.99) {
        let _ = writeln!(page, "p99 {:.1} ms, within its class as if requests were spread evenly", 1_000.0 * p99);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_an_answer_and_a_503_is_none() {
        let mut counted = Counted::default();
        for (status, requests) in [("200", 99_000.0), ("429", 989.0), ("503", 10.0), ("500", 1.0), ("404", f64::NAN)] {
            counted.count(status, requests);
        }
        let [answered, in_time] = promises(&counted);
        assert_eq!((answered.bad, answered.all), (11.0, 100_000.0));
        assert!(!answered.is_met());
        assert!((answered.burn_rate().unwrap() - 1.1).abs() < 1e-6, "{:?}", answered.burn_rate());
        assert!((answered.budget_left().unwrap() + 0.1).abs() < 1e-6);
        assert!(in_time.is_met() && in_time.kept.is_none(), "nobody was timed");
    }

    #[test]
    fn a_promise_that_is_just_kept_has_no_budget_left() {
        let counted = Counted { answered: 9_999.0, failed: 1.0, ..Counted::default() };
        let [answered, _] = promises(&counted);
        assert!(answered.is_met() && answered.budget_left().unwrap().abs() < 1e-6);
        let page = page(&counted, &promises(&counted));
        assert!(page.contains("99.990 %") && page.contains("10,000"), "{page}");
    }

    #[test]
    fn periods_are_a_number_and_a_unit() {
        assert_eq!(period("1h"), Ok(Duration::from_secs(3_600)));
        assert_eq!(period("30d"), Ok(Duration::from_secs(2_592_000)));
        for odd in ["", "h", "1", "1x", "0s", "9999999d", "-1h", "1é"] {
            assert!(period(odd).is_err(), "{odd}");
        }
    }

    /// Goal: where a Prometheus has counted, it is asked for the period, of routers if it knows any.
    /// Method: a stand-in that answers the two questions as Prometheus does.
    #[tokio::test]
    async fn a_prometheus_is_asked_for_the_period() {
        use axum::extract::Query;
        use std::collections::HashMap;
        let answer = |Query(asked): Query<HashMap<String, String>>| async move {
            let query = &asked["query"];
            let series = |name: &str, values: &[(&str, &str)]| {
                let one = |(label, value): &(&str, &str)| json!({ "metric": { name: label }, "value": [1.5, value] });
                values.iter().map(one).collect::<Vec<_>>()
            };
            let result = match () {
                () if !query.contains("cellar-router") || !query.contains("[900s]") => Vec::new(),
                () if query.contains("_bucket") => series("le", &[("0.01", "40"), ("0.02", "90"), ("+Inf", "100")]),
                () => series("status", &[("200", "95"), ("429", "3"), ("503", "2")]),
            };
            axum::Json(json!({ "status": "success", "data": { "resultType": "vector", "result": result } }))
        };
        let routes = axum::Router::new().route("/api/v1/query", axum::routing::get(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let counted = from_prometheus(&url, Duration::from_secs(900)).await.unwrap();
        assert_eq!((counted.answered, counted.failed), (98.0, 2.0));
        assert_eq!(counted.seconds.part_within(IN_TIME_S), Some(0.9));
        assert!(from_prometheus(&url, Duration::from_secs(60)).await.is_err(), "it has nothing of that period");
    }
}

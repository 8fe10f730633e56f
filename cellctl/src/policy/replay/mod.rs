//! `policy run`: requests in, outcomes out, each user's state kept in between.

use anyhow::{Context, bail, ensure};
use cellar_model::{Amount, Micros};
use cellar_policy_host::{ConfigureError, Host, HostLimits, Operation, Outcome, Policy, Request, Stores};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

/// Bytes of a line. One request has about a hundred.
const LINE_MAX_BYTES: usize = 64 << 10;
/// Users of one run: a state each is kept in memory.
const USERS_MAX: usize = 10_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestLine {
    user: String,
    #[serde(default)]
    operation: OperationName,
    at_us: u64,
    cost: Amount,
    #[serde(default)]
    held: Amount,
    #[serde(default)]
    held_at_us: u64,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OperationName {
    #[default]
    Consume,
    Reserve,
    Settle,
    Peek,
}

#[derive(Serialize)]
struct OutcomeLine {
    admitted: bool,
    limit: u64,
    remaining: u64,
    retry_after_us: u64,
    reset_after_us: u64,
}

pub(super) fn replay(component: &Path, settings: &Path, requests: &Path) -> anyhow::Result<()> {
    ensure!(!(is_stdin(settings) && is_stdin(requests)), "only one of --settings and --requests can be -");
    let host = Host::new(HostLimits::default())?;
    let bytes = fs::read(component).with_context(|| format!("cannot read {}", component.display()))?;
    let policy = host.load(&bytes).with_context(|| component.display().to_string())?;
    let parameters = configure(&policy, settings)?;
    let mut run = Run { stores: Stores::new(&host), policy, parameters, users: HashMap::new() };

    let mut input = open(requests)?;
    let mut output = BufWriter::new(io::stdout().lock());
    let done = run.all(&mut input, &mut output);
    // What was decided before a bad line is shown before the line is named.
    match output.flush().map_err(anyhow::Error::from).and(done) {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        result => result,
    }
}

pub(super) fn configure(policy: &Policy, settings: &Path) -> anyhow::Result<Vec<u8>> {
    let mut json = String::new();
    open(settings)?.read_to_string(&mut json).with_context(|| format!("cannot read {}", settings.display()))?;
    match policy.configure(&json) {
        Ok(parameters) => Ok(parameters),
        Err(ConfigureError::Refused(problems)) => {
            let lines: Vec<String> =
                problems.iter().map(|p| format!("\n  {}: {}", shown(&p.pointer), p.message)).collect();
            bail!("{}: the settings are not fit:{}", settings.display(), lines.concat())
        }
        Err(other) => Err(other).with_context(|| settings.display().to_string()),
    }
}

/// The pointer to the whole document is empty, which nobody would see.
fn shown(pointer: &str) -> &str {
    if pointer.is_empty() { "(all)" } else { pointer }
}

struct Run {
    stores: Stores,
    policy: Arc<Policy>,
    parameters: Vec<u8>,
    users: HashMap<String, User>,
}

#[derive(Default)]
struct User {
    state: Vec<u8>,
    /// A user's time never runs backwards: an earlier moment counts as this one.
    now_us: u64,
}

impl Run {
    fn all(&mut self, input: &mut dyn BufRead, output: &mut dyn Write) -> anyhow::Result<()> {
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            Read::take(&mut *input, LINE_MAX_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let outcome = self.one(&line).with_context(|| format!("line {number}"))?;
            let outcome = OutcomeLine {
                admitted: outcome.admitted,
                limit: outcome.limit,
                remaining: outcome.remaining,
                retry_after_us: outcome.retry_after_us,
                reset_after_us: outcome.reset_after_us,
            };
            serde_json::to_writer(&mut *output, &outcome)?;
            output.write_all(b"\n")?;
        }
        Ok(())
    }

    fn one(&mut self, line: &[u8]) -> anyhow::Result<Outcome> {
        ensure!(line.len() <= LINE_MAX_BYTES, "longer than {LINE_MAX_BYTES} bytes");
        let line: RequestLine = serde_json::from_slice(line)?;
        ensure!(line.at_us <= Micros::MAX.0, "at_us must be at most {}", Micros::MAX.0);
        ensure!(self.users.len() < USERS_MAX || self.users.contains_key(&line.user), "more than {USERS_MAX} users");
        let user = self.users.entry(line.user).or_default();
        user.now_us = user.now_us.max(line.at_us);
        let attributes: Vec<(&str, &str)> =
            line.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let request = Request {
            operation: line.operation.into(),
            now_us: user.now_us,
            cost: line.cost.get(),
            held: line.held.get(),
            held_at_us: line.held_at_us,
            attributes: &attributes,
        };
        let outcome = self.stores.decide(&self.policy, &self.parameters, &user.state, &request)?;
        if let Some(state) = &outcome.state {
            user.state.clone_from(state);
        }
        Ok(outcome)
    }
}

impl From<OperationName> for Operation {
    fn from(name: OperationName) -> Self {
        match name {
            OperationName::Consume => Operation::Consume,
            OperationName::Reserve => Operation::Reserve,
            OperationName::Settle => Operation::Settle,
            OperationName::Peek => Operation::Peek,
        }
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    if is_stdin(path) {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Box::new(BufReader::new(file)))
}

/// The reader of our output had enough: no failure of ours.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
    let json = error.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
    io.or(json) == Some(io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<RequestLine, String> {
        serde_json::from_str(line).map_err(|e| e.to_string())
    }

    #[test]
    fn the_operation_is_consume_unless_said_otherwise() {
        let line = parse(r#"{"user":"a","at_us":1,"cost":2}"#).unwrap();
        assert_eq!(Operation::from(line.operation), Operation::Consume);
        let line = parse(r#"{"user":"a","operation":"peek","at_us":1,"cost":2}"#).unwrap();
        assert_eq!(Operation::from(line.operation), Operation::Peek);
    }

    #[test]
    fn malformed_lines_are_refused() {
        for bad in [
            "",
            "[]",
            r#"{"user":"a","cost":1}"#,
            r#"{"user":"a","at_us":1,"cost":-1}"#,
            r#"{"user":"a","at_us":1,"cost":1099511627777}"#,
            r#"{"user":"a","operation":"steal","at_us":1,"cost":1}"#,
            r#"{"user":"a","at_us":1,"cost":1,"price":1}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_pointer_to_all_settings_is_shown() {
        assert_eq!(shown(""), "(all)");
        assert_eq!(shown("/limit"), "/limit");
    }
}

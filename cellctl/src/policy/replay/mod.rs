//! `policy run`: requests in, outcomes out, each user's state kept in between.

mod explain;
mod picture;
mod source;
mod table;

pub(super) use source::OperationName;

use super::Component;
use anyhow::{Context, bail, ensure};
use cellar_model::Micros;
use cellar_policy_host::{ConfigureError, Host, HostLimits, Operation, Outcome, Policy, Request, Stores};
use picture::Picture;
use serde::Serialize;
use source::{RequestLine, Source, is_stdin, open};
use std::collections::HashMap;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Users of one run: a state each is kept in memory.
const USERS_MAX: usize = 10_000_000;

#[derive(Debug, clap::Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    component: Component,
    /// The policy's settings; - is the standard input
    #[arg(long, value_name = "FILE.json", default_value = "settings.json")]
    settings: PathBuf,
    /// The requests, as lines of JSON or as a table (.csv), either also gzipped (.gz); - is the standard input
    #[arg(long, value_name = "FILE")]
    requests: PathBuf,
    /// Ask this user's requests only
    #[arg(long)]
    user: Option<String>,
    /// Say of every request why it was answered so, with the state before and after, and the fuel
    #[arg(long, conflicts_with_all = ["draw", "json"])]
    explain: bool,
    /// Draw what remained to each user over time
    #[arg(long, conflicts_with = "json")]
    draw: bool,
    /// Only sums, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct OutcomeLine {
    admitted: bool,
    limit: u64,
    remaining: u64,
    retry_after_us: u64,
    reset_after_us: u64,
}

/// What is shown of a run.
enum Shown {
    /// A line of JSON a request.
    Outcomes,
    Explained,
    Drawn(Picture),
    Sums,
}

pub(super) fn run(arguments: &RunArguments) -> anyhow::Result<()> {
    let RunArguments { component, settings, requests, .. } = arguments;
    ensure!(!(is_stdin(settings) && is_stdin(requests)), "only one of --settings and --requests can be -");
    let host = Host::new(HostLimits::default())?;
    let policy = host.load(&component.read()?).with_context(|| component.to_string())?;
    let parameters = configure(&policy, settings)?;
    let mut replay =
        Replay { stores: Stores::new(&host), policy, parameters, users: HashMap::new(), sums: Sums::default() };
    let shown = match arguments {
        RunArguments { explain: true, .. } => Shown::Explained,
        RunArguments { draw: true, .. } => Shown::Drawn(Picture::default()),
        RunArguments { json: true, .. } => Shown::Sums,
        _ => Shown::Outcomes,
    };

    let mut source = Source::open(requests)?;
    let mut output = BufWriter::new(io::stdout().lock());
    let done = replay.all(&mut source, arguments.user.as_deref(), shown, &mut output);
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

struct Replay {
    stores: Stores,
    policy: Arc<Policy>,
    parameters: Vec<u8>,
    users: HashMap<String, User>,
    sums: Sums,
}

#[derive(Default)]
struct User {
    state: Vec<u8>,
    /// A user's time never runs backwards: an earlier moment counts as this one.
    now_us: u64,
}

/// One request that was answered.
struct Answered {
    line: RequestLine,
    /// The user's time, which is the request's or a later one.
    now_us: u64,
    before: Vec<u8>,
    outcome: Outcome,
}

#[derive(Default, Serialize)]
struct Sums {
    users: usize,
    requests: u64,
    /// Peeks, and costs of nothing: they are neither admitted nor denied.
    questions: u64,
    admitted: u64,
    denied: u64,
    /// What was admitted, as settles have corrected it.
    amount: i128,
}

impl Replay {
    fn all(
        &mut self,
        source: &mut Source,
        only: Option<&str>,
        mut shown: Shown,
        output: &mut dyn Write,
    ) -> anyhow::Result<()> {
        while let Some((number, line)) = source.next()? {
            if only.is_some_and(|only| line.user != only) {
                continue;
            }
            let answered = self.one(line).with_context(|| format!("line {number}"))?;
            match &mut shown {
                Shown::Outcomes => {
                    serde_json::to_writer(&mut *output, &OutcomeLine::of(&answered.outcome))?;
                    output.write_all(b"\n")?;
                }
                Shown::Explained => {
                    let fuel = self.stores.fuel_burnt(&self.policy);
                    output.write_all(explain::text(&answered, &self.policy.description().notes, fuel).as_bytes())?;
                }
                Shown::Drawn(picture) => picture.add(&answered)?,
                Shown::Sums => {}
            }
        }
        self.sums.users = self.users.len();
        match shown {
            Shown::Outcomes => {}
            Shown::Sums => writeln!(output, "{}", serde_json::to_string_pretty(&self.sums)?)?,
            Shown::Explained => writeln!(output, "{}", self.sums)?,
            Shown::Drawn(picture) => {
                for text in picture.draw(|state, at_us| self.peek(state, at_us))? {
                    writeln!(output, "{text}")?;
                }
                writeln!(output, "{}", self.sums)?;
            }
        }
        Ok(())
    }

    fn one(&mut self, line: RequestLine) -> anyhow::Result<Answered> {
        ensure!(line.at_us <= Micros::MAX.0, "at_us must be at most {}", Micros::MAX.0);
        ensure!(self.users.len() < USERS_MAX || self.users.contains_key(&line.user), "more than {USERS_MAX} users");
        let user = match self.users.get_mut(&line.user) {
            Some(user) => user,
            None => self.users.entry(line.user.clone()).or_default(),
        };
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
        self.sums.add(&request, outcome.admitted);
        let before = match &outcome.state {
            Some(state) => std::mem::replace(&mut user.state, state.clone()),
            None => user.state.clone(),
        };
        Ok(Answered { now_us: user.now_us, line, before, outcome })
    }

    /// What remains at `at_us` to one of this state.
    fn peek(&mut self, state: &[u8], at_us: u64) -> anyhow::Result<u64> {
        let request =
            Request { operation: Operation::Peek, now_us: at_us, cost: 0, held: 0, held_at_us: 0, attributes: &[] };
        Ok(self.stores.decide(&self.policy, &self.parameters, state, &request)?.remaining)
    }
}

impl OutcomeLine {
    fn of(outcome: &Outcome) -> Self {
        Self {
            admitted: outcome.admitted,
            limit: outcome.limit,
            remaining: outcome.remaining,
            retry_after_us: outcome.retry_after_us,
            reset_after_us: outcome.reset_after_us,
        }
    }
}

impl Sums {
    fn add(&mut self, request: &Request<'_>, admitted: bool) {
        self.requests += 1;
        let settles = request.operation == Operation::Settle;
        if request.operation == Operation::Peek || (request.cost == 0 && !settles) {
            self.questions += 1;
        } else if admitted {
            self.admitted += 1;
            self.amount += i128::from(request.cost) - if settles { i128::from(request.held) } else { 0 };
        } else {
            self.denied += 1;
        }
    }
}

impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { users, requests, questions, admitted, denied, amount } = self;
        write!(f, "{requests} requests of {users} users: {admitted} admitted, {amount} in all; {denied} denied")?;
        if *questions > 0 { write!(f, "; {questions} only asked") } else { Ok(()) }
    }
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

    #[test]
    fn the_pointer_to_all_settings_is_shown() {
        assert_eq!(shown(""), "(all)");
        assert_eq!(shown("/limit"), "/limit");
    }

    #[test]
    fn a_settle_corrects_the_sum_and_a_question_is_neither_admitted_nor_denied() {
        let ask = |operation, cost, held| Request { operation, now_us: 0, cost, held, held_at_us: 0, attributes: &[] };
        let mut sums = Sums::default();
        sums.add(&ask(Operation::Reserve, 50, 0), true);
        sums.add(&ask(Operation::Settle, 20, 50), true);
        sums.add(&ask(Operation::Consume, 90, 0), false);
        sums.add(&ask(Operation::Peek, 0, 0), true);
        sums.add(&ask(Operation::Consume, 0, 0), true);
        let said = "5 requests of 0 users: 2 admitted, 20 in all; 1 denied; 2 only asked";
        assert_eq!(sums.to_string(), said);
    }
}

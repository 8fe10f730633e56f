//! One user of a policy: asks and tells, and remembers what was said, for who has to read it.

use crate::history::{Scale, Step};
use crate::promise::{Promise, moment};
use crate::subject::{Instance, Subject};
use cellar_policy_host::{Operation, Outcome, Request};
use serde_json::Value;
use std::fmt::Write as _;

/// Calls shown of a history, from its end.
const SHOWN_MAX: usize = 24;

/// A property is broken by what this says.
pub(crate) type Broken = String;

pub(crate) struct User {
    instance: Box<dyn Instance>,
    pub(crate) parameters: Vec<u8>,
    pub(crate) state: Vec<u8>,
    pub(crate) now_us: u64,
    /// What he spends by: of a policy that promises what is open at most, by reserving.
    taking: Operation,
    /// In the order they were sent.
    pub(crate) calls: Vec<Call>,
}

#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) request: Request<'static>,
    pub(crate) state: Vec<u8>,
    pub(crate) outcome: Outcome,
    pub(crate) fuel: u64,
}

impl User {
    pub(crate) fn new(subject: &dyn Subject, parameters: &[u8], now_us: u64) -> Self {
        Self {
            instance: subject.instance(),
            parameters: parameters.to_vec(),
            state: Vec::new(),
            now_us,
            taking: taking(subject),
            calls: Vec::new(),
        }
    }

    /// The same user once more, on another instance.
    pub(crate) fn twin(&self, subject: &dyn Subject) -> Self {
        Self { state: self.state.clone(), ..Self::new(subject, &self.parameters, self.now_us) }
    }

    /// Asks without keeping what it answers.
    pub(crate) fn ask(&mut self, request: Request<'static>) -> Result<Outcome, Broken> {
        let answered = self.instance.decide(&self.parameters, &self.state, &request);
        let fuel = self.instance.fuel();
        match answered {
            Ok(outcome) => {
                self.calls.push(Call { request, state: self.state.clone(), outcome: outcome.clone(), fuel });
                Ok(outcome)
            }
            Err(fault) => Err(self.broken(&format!("{}: {fault}", shown(&request)))),
        }
    }

    /// Asks, and keeps the state.
    pub(crate) fn tell(&mut self, request: Request<'static>) -> Result<Outcome, Broken> {
        let outcome = self.ask(request)?;
        if let Some(state) = &outcome.state {
            self.state.clone_from(state);
        }
        Ok(outcome)
    }

    pub(crate) fn consume(&mut self, cost: u64) -> Result<Outcome, Broken> {
        self.tell(self.take(self.now_us, cost))
    }

    /// The question of who spends `cost`.
    pub(crate) fn take(&self, at_us: u64, cost: u64) -> Request<'static> {
        request(self.taking, at_us, cost)
    }

    /// What is left at `at_us`, which is not before now; the user stays where he is.
    pub(crate) fn peek(&mut self, at_us: u64) -> Result<Outcome, Broken> {
        self.ask(request(Operation::Peek, at_us, 0))
    }

    pub(crate) fn remaining(&mut self) -> Result<u64, Broken> {
        Ok(self.peek(self.now_us)?.remaining)
    }

    /// Lives through a history.
    pub(crate) fn live(&mut self, steps: &[Step], scale: Scale) -> Result<(), Broken> {
        for step in steps {
            self.go(step.pause.us(scale));
            self.consume(step.amount.units(scale))?;
        }
        Ok(())
    }

    pub(crate) fn go(&mut self, pause_us: u64) {
        self.now_us = Self::after(self.now_us, pause_us);
    }

    /// As far as the calendar goes.
    pub(crate) fn after(now_us: u64, pause_us: u64) -> u64 {
        now_us.saturating_add(pause_us).min(LAST_US)
    }

    pub(crate) fn migrate(&mut self, from_schema: u32) -> Result<Vec<u8>, Broken> {
        let migrated = self.instance.migrate(from_schema, &self.parameters, &self.state);
        migrated.map_err(|fault| self.broken(&format!("its own state, asked of migrate: {fault}")))
    }

    /// What was said until now, and what is wrong with it.
    pub(crate) fn broken(&self, what: &str) -> Broken {
        let mut text = String::new();
        let left_out = self.calls.len().saturating_sub(SHOWN_MAX);
        if left_out > 0 {
            let _ = writeln!(text, "  … {left_out} calls before these");
        }
        for call in &self.calls[left_out..] {
            let Outcome { admitted, limit, remaining, retry_after_us, reset_after_us, .. } = &call.outcome;
            let verdict =
                if *admitted { "admitted".to_owned() } else { format!("denied, retry after {retry_after_us} us") };
            let _ = writeln!(
                text,
                "  {}: {verdict}; {remaining} of {limit} left, all back in {reset_after_us} us",
                shown(&call.request)
            );
        }
        let _ = write!(text, "  but {what}");
        text
    }
}

fn taking(subject: &dyn Subject) -> Operation {
    let open = subject.about().promises.iter().any(|promise| matches!(promise, Promise::Open { .. }));
    if open { Operation::Reserve } else { Operation::Consume }
}

/// A tenth of a century before the end of the calendar: waits are added to it.
const LAST_US: u64 = 253_000_000_000_000_000;

pub(crate) fn request(operation: Operation, now_us: u64, cost: u64) -> Request<'static> {
    Request { operation, now_us, cost, held: 0, held_at_us: 0, attributes: &[] }
}

pub(crate) fn settle(now_us: u64, cost: u64, held: u64, held_at_us: u64) -> Request<'static> {
    Request { held, held_at_us, ..request(Operation::Settle, now_us, cost) }
}

pub(crate) fn shown(request: &Request<'_>) -> String {
    let (at, cost) = (moment(request.now_us), request.cost);
    match request.operation {
        Operation::Consume => format!("{at}  consume {cost}"),
        Operation::Reserve => format!("{at}  reserve {cost}"),
        Operation::Settle => {
            format!("{at}  settle {cost} of {} held since {}", request.held, moment(request.held_at_us))
        }
        Operation::Peek => format!("{at}  peek"),
    }
}

/// The scale of these settings, by asking a user who takes all there is.
pub(crate) fn scale(subject: &dyn Subject, parameters: &[u8], now_us: u64) -> Result<Scale, Broken> {
    let mut user = User::new(subject, parameters, now_us);
    let limit = user.peek(now_us)?.limit;
    let taken = user.consume(limit)?;
    Ok(Scale { limit, reset_us: taken.reset_after_us.max(1) })
}

pub(crate) fn said(settings: &Value, what: &str) -> Broken {
    format!("  settings {settings}\n{what}")
}

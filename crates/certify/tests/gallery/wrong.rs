//! Wrong policies, each wrong in one way that has been seen in the wild, or could be.

use crate::native::Flawed;
use cellar_policy_gcra::{Gcra, Parameters as Rate, State as Tat};
use cellar_policy_monthly_bucket::{MonthlyBucket, State as Month};
use cellar_policy_sdk::{Fixed, Operation, Outcome, Problem, Request, configure, decide};
use std::cell::Cell;

macro_rules! flawed {
    ($(#[$doc:meta])* $name:ident of $base:ty, $($body:tt)*) => {
        $(#[$doc])*
        pub(crate) struct $name;
        impl Flawed for $name {
            type Base = $base;
            $($body)*
        }
    };
}

const HOUR_US: u64 = 3_600_000_000;

flawed! {
    /// Its month ends an hour early, as it does in another time zone.
    LeaksOnMonthEnd of MonthlyBucket,
    fn decide(parameters: &[u8], state: &[u8], request: &Request) -> Outcome<Vec<u8>> {
        decide::<MonthlyBucket>(parameters, state, &Request { now_us: request.now_us + HOUR_US, ..request.clone() })
    }
}

flawed! {
    /// Lets a burst through twice before it looks.
    DoubleBurst of Gcra,
    fn decide(parameters: &[u8], state: &[u8], request: &Request) -> Outcome<Vec<u8>> {
        let rate = Rate::from_bytes(parameters).unwrap();
        let twice = Rate { burst: rate.burst * 2, ..rate };
        let outcome = decide::<Gcra>(&twice.to_bytes(), state, request);
        let admitted = outcome.admitted && request.cost <= rate.burst;
        Outcome {
            admitted,
            state: outcome.state.filter(|_| admitted),
            limit: rate.burst,
            remaining: outcome.remaining.min(rate.burst),
            ..outcome
        }
    }
}

flawed! {
    /// Rounds what is owed down to whole microseconds, each time a little.
    DriftingTat of Gcra,
    fn decide(parameters: &[u8], state: &[u8], request: &Request) -> Outcome<Vec<u8>> {
        let outcome = decide::<Gcra>(parameters, state, request);
        let rounded = |state: Vec<u8>| Tat { tat_part: 0, ..Tat::from_bytes(&state).unwrap() }.to_bytes();
        Outcome { state: outcome.state.map(rounded), ..outcome }
    }
}

flawed! {
    /// Tells callers to come back before it lets them in.
    RetryTooSoon of Gcra,
    fn decide(parameters: &[u8], state: &[u8], request: &Request) -> Outcome<Vec<u8>> {
        let outcome = decide::<Gcra>(parameters, state, request);
        Outcome { retry_after_us: outcome.retry_after_us / 2, ..outcome }
    }
}

flawed! {
    /// Keeps callers away for longer than it has to.
    RetryTooLate of MonthlyBucket,
    fn decide(parameters: &[u8], state: &[u8], request: &Request) -> Outcome<Vec<u8>> {
        let outcome = decide::<MonthlyBucket>(parameters, state, request);
        let wait_us = outcome.retry_after_us;
        Outcome { retry_after_us: if wait_us > 0 { wait_us + HOUR_US } else { 0 }, ..outcome }
    }
}

flawed! {
    /// Counts attempts, admitted or not.
    ChargesOnDenial of MonthlyBucket,
    fn decide(parameters: &[u8], state: &[u8], request: &Request) -> Outcome<Vec<u8>> {
        let outcome = decide::<MonthlyBucket>(parameters, state, request);
        let attempt = || decide::<MonthlyBucket>(parameters, state, &Request { cost: 1, ..request.clone() }).state;
        if outcome.admitted { outcome } else { Outcome { state: attempt(), ..outcome } }
    }
}

flawed! {
    /// Takes limits above a thousand for thousands.
    NotMonotone of Gcra,
    fn configure(settings: &str) -> Result<Vec<u8>, Vec<Problem>> {
        let mut settings: serde_json::Value = serde_json::from_str(settings).map_err(|_| Vec::new())?;
        if let Some(limit) = settings["limit"].as_u64().filter(|limit| *limit > 1_000) {
            settings["limit"] = (limit / 1_000).into();
        }
        configure::<Gcra>(&settings.to_string())
    }
}

flawed! {
    /// Remembers how often it was asked.
    HiddenState of Gcra,
    fn decide(parameters: &[u8], state: &[u8], request: &Request) -> Outcome<Vec<u8>> {
        thread_local!(static ASKED: Cell<u64> = const { Cell::new(0) });
        let asked = ASKED.replace(ASKED.get() + 1);
        let outcome = decide::<Gcra>(parameters, state, request);
        Outcome { note: u32::from(asked.is_multiple_of(7)), ..outcome }
    }
}

flawed! {
    /// Gives back twice what was not used.
    SettleInvents of MonthlyBucket,
    fn decide(parameters: &[u8], state: &[u8], request: &Request) -> Outcome<Vec<u8>> {
        let unused = request.held.saturating_sub(request.cost);
        let settle = request.operation == Operation::Settle;
        let cost = if settle { request.cost.saturating_sub(unused) } else { request.cost };
        decide::<MonthlyBucket>(parameters, state, &Request { cost, ..request.clone() })
    }
}

flawed! {
    /// Gives back into a month what was taken in the one before.
    SettlesIntoTheNewMonth of MonthlyBucket,
    fn decide(parameters: &[u8], state: &[u8], request: &Request) -> Outcome<Vec<u8>> {
        let held_at_us = request.now_us;
        decide::<MonthlyBucket>(parameters, state, &Request { held_at_us, ..request.clone() })
    }
}

flawed! {
    /// Charges no more than the limit for what was used beyond it.
    ForgivesOvershoot of MonthlyBucket,
    fn decide(parameters: &[u8], state: &[u8], request: &Request) -> Outcome<Vec<u8>> {
        let settle = request.operation == Operation::Settle;
        let cost = if settle { request.cost.min(request.held) } else { request.cost };
        decide::<MonthlyBucket>(parameters, state, &Request { cost, ..request.clone() })
    }
}

flawed! {
    /// Reads its own states as new users.
    MigrateForgets of MonthlyBucket,
    fn migrate(_: u32, _: &[u8], state: &[u8]) -> Result<Vec<u8>, String> {
        let month = Month::from_bytes(state).ok_or("unread")?;
        Ok(Month { spent: 0, ..month }.to_bytes())
    }
}

flawed! {
    /// Its states are of a second schema, which a version before it has never heard of.
    Successor of MonthlyBucket,
    const SCHEMA: Option<u32> = Some(2);
    fn migrate(from_schema: u32, _: &[u8], state: &[u8]) -> Result<Vec<u8>, String> {
        if from_schema == 1 || from_schema == 2 { Ok(state.to_vec()) } else { Err("unread".into()) }
    }
}

flawed! {
    /// Reads its own states and no later ones.
    Predecessor of MonthlyBucket,
    fn migrate(from_schema: u32, _: &[u8], state: &[u8]) -> Result<Vec<u8>, String> {
        if from_schema == 1 { Ok(state.to_vec()) } else { Err("of a later version".into()) }
    }
}

flawed! {
    /// Sound, and the version before the next one.
    OfSchemaTwo of MonthlyBucket,
    const SCHEMA: Option<u32> = Some(2);
    fn migrate(_: u32, _: &[u8], state: &[u8]) -> Result<Vec<u8>, String> {
        Ok(state.to_vec())
    }
}

flawed! {
    /// Begins anew where the version before it had counted already.
    ForgetsThePrevious of MonthlyBucket,
    fn migrate(from_schema: u32, _: &[u8], state: &[u8]) -> Result<Vec<u8>, String> {
        let month = Month::from_bytes(state).ok_or("unread")?;
        let spent = if from_schema == 1 { month.spent } else { 0 };
        Ok(Month { spent, ..month }.to_bytes())
    }
}

flawed! {
    /// Takes a user of another rate for a new one.
    ForgetsOnTierChange of Gcra,
    fn decide(parameters: &[u8], state: &[u8], request: &Request) -> Outcome<Vec<u8>> {
        let rate = Rate::from_bytes(parameters).unwrap();
        let of_this = Tat::from_bytes(state).is_some_and(|tat| (tat.units, tat.span_us) == (rate.units, rate.span_us));
        decide::<Gcra>(parameters, if of_this { state } else { &[] }, request)
    }
}

flawed! {
    /// Promises everything back in half the time it takes.
    ResetTooSoon of Gcra,
    fn decide(parameters: &[u8], state: &[u8], request: &Request) -> Outcome<Vec<u8>> {
        let outcome = decide::<Gcra>(parameters, state, request);
        Outcome { reset_after_us: outcome.reset_after_us / 2, ..outcome }
    }
}

flawed! {
    /// Shows one more than there is.
    RemainingOffByOne of MonthlyBucket,
    fn decide(parameters: &[u8], state: &[u8], request: &Request) -> Outcome<Vec<u8>> {
        let outcome = decide::<MonthlyBucket>(parameters, state, request);
        Outcome { remaining: (outcome.remaining + 1).min(outcome.limit), ..outcome }
    }
}

flawed! {
    /// Breaks over one amount.
    TrapsOnOne of Gcra,
    fn decide(parameters: &[u8], state: &[u8], request: &Request) -> Outcome<Vec<u8>> {
        assert!(request.cost != 3, "three is what nobody tried");
        decide::<Gcra>(parameters, state, request)
    }
}

flawed! {
    /// Closes at night, and does not say that waiting may leave less.
    ClosesAtNight of MonthlyBucket,
    fn decide(parameters: &[u8], state: &[u8], request: &Request) -> Outcome<Vec<u8>> {
        let outcome = decide::<MonthlyBucket>(parameters, state, request);
        if request.now_us / HOUR_US % 24 < 23 || request.operation == Operation::Settle {
            return outcome;
        }
        let asks = request.only_asks();
        Outcome { admitted: asks, state: None, remaining: 0, retry_after_us: if asks { 0 } else { HOUR_US }, ..outcome }
    }
}

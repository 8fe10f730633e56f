//! Policies compiled natively, as subjects of the certifier.

use cellar_certify::{About, Instance, Subject};
use cellar_policy_host::{Fault, Operation, Outcome, Request, check_outcome};
use cellar_policy_sdk as sdk;
use serde_json::Value;
use std::panic::{AssertUnwindSafe, catch_unwind};

const STATE_MAX_BYTES: usize = 4 << 10;

/// A policy on top of another: what it does differently is what is wrong with it.
pub(crate) trait Flawed {
    type Base: sdk::Policy;

    /// Of its states, if not that of the policy it is on top of.
    const SCHEMA: Option<u32> = None;

    fn decide(parameters: &[u8], state: &[u8], request: &sdk::Request) -> sdk::Outcome<Vec<u8>> {
        sdk::decide::<Self::Base>(parameters, state, request)
    }

    fn configure(settings: &str) -> Result<Vec<u8>, Vec<sdk::Problem>> {
        sdk::configure::<Self::Base>(settings)
    }

    fn migrate(from_schema: u32, parameters: &[u8], state: &[u8]) -> Result<Vec<u8>, String> {
        sdk::migrate::<Self::Base>(from_schema, parameters, state)
    }
}

/// Nothing is wrong with it.
pub(crate) struct Sound<P>(std::marker::PhantomData<P>);

impl<P: sdk::Policy> Flawed for Sound<P> {
    type Base = P;
}

pub(crate) struct Native<F> {
    about: About,
    flaw: std::marker::PhantomData<F>,
}

impl<F: Flawed> Native<F> {
    pub(crate) fn new() -> Self {
        let mut about: About = serde_json::from_str(&sdk::describe::<F::Base>()).unwrap();
        about.state_schema = F::SCHEMA.unwrap_or(about.state_schema);
        Self { about, flaw: std::marker::PhantomData }
    }
}

impl<F: Flawed + 'static> Subject for Native<F> {
    fn about(&self) -> &About {
        &self.about
    }

    fn configure(&self, settings: &Value) -> Result<Vec<u8>, String> {
        F::configure(&settings.to_string()).map_err(|problems| format!("{problems:?}"))
    }

    fn instance(&self) -> Box<dyn Instance> {
        Box::new(OfNative::<F>(std::marker::PhantomData))
    }
}

struct OfNative<F>(std::marker::PhantomData<F>);

impl<F: Flawed> Instance for OfNative<F> {
    fn decide(&mut self, parameters: &[u8], state: &[u8], request: &Request<'_>) -> Result<Outcome, Fault> {
        let asked = sdk::Request {
            operation: match request.operation {
                Operation::Consume => sdk::Operation::Consume,
                Operation::Reserve => sdk::Operation::Reserve,
                Operation::Settle => sdk::Operation::Settle,
                Operation::Peek => sdk::Operation::Peek,
            },
            now_us: request.now_us,
            cost: request.cost,
            held: request.held,
            held_at_us: request.held_at_us,
            attributes: Vec::new(),
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| F::decide(parameters, state, &asked)));
        let outcome = outcome.map_err(|_| Fault::Trapped { what: "a panic".into() })?;
        let outcome = Outcome {
            admitted: outcome.admitted,
            state: outcome.state,
            limit: outcome.limit,
            remaining: outcome.remaining,
            retry_after_us: outcome.retry_after_us,
            reset_after_us: outcome.reset_after_us,
            note: outcome.note,
        };
        check_outcome(outcome, request, STATE_MAX_BYTES)
    }

    fn migrate(&mut self, from_schema: u32, parameters: &[u8], state: &[u8]) -> Result<Vec<u8>, Fault> {
        F::migrate(from_schema, parameters, state).map_err(|message| Fault::NotMigrated { from_schema, message })
    }

    fn fuel(&self) -> u64 {
        0
    }
}

//! Wrong policies: each property catches one.

use super::*;
use crate::example::{Parameters, Rule, State};
use crate::settings::Problem;

/// The example, with one place of its decision made wrong.
macro_rules! wrong {
    ($test:ident, $property:ident, $wrong:expr) => {
        #[test]
        fn $test() {
            struct Wrong;

            impl Policy for Wrong {
                const NAME: &'static str = "wrong";
                const VERSION: &'static str = "1.0.0";
                const UNIT: &'static str = "requests";
                const STATE_SCHEMA: u32 = 1;
                type Settings = <Rule as Policy>::Settings;
                type Parameters = Parameters;
                type State = State;

                fn compile(settings: Self::Settings) -> Result<Parameters, Vec<Problem>> {
                    Rule::compile(settings)
                }

                fn decide(parameters: &Parameters, state: Option<State>, request: &Request) -> Outcome<State> {
                    let wrong: fn(&Parameters, &Request, Outcome<State>) -> Outcome<State> = $wrong;
                    wrong(parameters, request, Rule::decide(parameters, state, request))
                }
            }

            let found = Property::$property.search::<Wrong>(r#"{"limit":10}"#);
            let broken = found.expect_err("the property is to be broken");
            assert!(broken.lines().count() <= 11, "{broken}");
        }
    };
}

wrong!(a_state_on_a_denial_is_caught, ADenialChangesNothing, |_, request, outcome| match outcome.admitted {
    true => outcome,
    false => Outcome { state: Some(State { day: request.now_us, spent: 0 }), ..outcome },
});

wrong!(a_question_that_is_denied_is_caught, AQuestionChangesNothing, |_, request, outcome| {
    Outcome { admitted: outcome.admitted && (request.cost > 0 || outcome.remaining > 0), ..outcome }
});

wrong!(one_too_many_is_caught, RemainingIsExact, |_, _, outcome| {
    Outcome { remaining: (outcome.remaining + 1).min(outcome.limit), ..outcome }
});

wrong!(a_wait_that_is_too_short_is_caught, RetryAfterIsHonest, |_, _, outcome| {
    Outcome { retry_after_us: outcome.retry_after_us / 2, ..outcome }
});

wrong!(a_reset_that_is_too_late_is_caught, ResetAfterIsHonest, |_, _, outcome| {
    Outcome { reset_after_us: outcome.reset_after_us + 1, ..outcome }
});

wrong!(a_settle_that_charges_again_is_caught, ASettleAtWhatWasHeldChangesNothing, |parameters, request, outcome| {
    if request.operation != Operation::Settle {
        return outcome;
    }
    let spent = parameters.limit - outcome.remaining + 1;
    Outcome { state: Some(State { day: request.now_us / DAY_US, spent }), ..outcome }
});

wrong!(a_release_that_gives_nothing_back_is_caught, AReleaseAtOnceGivesAllBack, |_, request, outcome| {
    let settle = request.operation == Operation::Settle;
    Outcome { state: outcome.state.filter(|_| !settle), ..outcome }
});

wrong!(a_settle_beyond_what_can_be_true_is_caught, AmountsOfAnySizeAreAnswered, |_, request, outcome| {
    let wait_us = if request.cost == AMOUNT_MAX { TIME_MAX_US + 1 } else { outcome.reset_after_us };
    Outcome { reset_after_us: wait_us, ..outcome }
});

#[test]
fn what_a_policy_waives_is_not_tested() {
    struct Waives;

    impl Policy for Waives {
        const NAME: &'static str = "waives";
        const VERSION: &'static str = "1.0.0";
        const UNIT: &'static str = "requests";
        const STATE_SCHEMA: u32 = 1;
        const WAIVES: &'static [&'static str] = &["exact-remaining"];
        type Settings = <Rule as Policy>::Settings;
        type Parameters = Parameters;
        type State = State;

        fn compile(settings: Self::Settings) -> Result<Parameters, Vec<Problem>> {
            Rule::compile(settings)
        }

        fn decide(parameters: &Parameters, state: Option<State>, request: &Request) -> Outcome<State> {
            Outcome { remaining: 0, ..Rule::decide(parameters, state, request) }
        }
    }

    assert!(Property::RemainingIsExact.search::<Waives>(r#"{"limit":10}"#).is_err());
    Property::RemainingIsExact.check::<Waives>(r#"{"limit":10}"#);
}

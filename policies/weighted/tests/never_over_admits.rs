//! weighted against an oracle that keeps every charge with its weight, in a map by calendar month.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped is the test's failure")]

#[path = "../../../tests/policies/user.rs"]
mod user;

use cellar_policy_sdk::{AMOUNT_MAX, Attribute, Operation, Request, configure};
use cellar_policy_weighted::{MODELS_MAX, Weighted};
use jiff::Timestamp;
use jiff::tz::Offset;
use proptest::prelude::*;
use std::collections::HashMap;
use user::{Rule, User, us};

const DAY_US: u64 = 86_400_000_000;
/// No weight is named for the last; none at all is named by a call without a model.
const MODELS: [Option<&str>; 4] = [None, Some("large"), Some("small"), Some("strange")];

#[derive(Clone, Copy, Debug)]
struct Models {
    limit: u64,
    large: u64,
    small: u64,
    default: u64,
    unknown: Option<u64>,
}

impl Rule for Models {
    type Policy = Weighted;

    fn settings(self) -> String {
        let Self { limit, large, small, default, unknown } = self;
        let unknown = unknown.map_or("null".to_owned(), |weight| weight.to_string());
        format!(
            r#"{{"limit":{limit},"weights":{{"large":{large},"small":{small}}},"default_weight_permille":{default},"unknown_weight_permille":{unknown}}}"#
        )
    }
}

impl Models {
    fn weight(self, model: Option<&str>) -> Option<u64> {
        match model {
            None => Some(self.default),
            Some("large") => Some(self.large),
            Some("small") => Some(self.small),
            Some(_) => self.unknown,
        }
    }

    fn least(self) -> u64 {
        [self.large, self.small, self.default].into_iter().chain(self.unknown).min().unwrap()
    }
}

fn naming(model: Option<&str>, request: Request) -> Request {
    let attribute = |name: &str, value: &str| Attribute { name: name.to_owned(), value: value.to_owned() };
    let named = model.map(|model| attribute("model", model));
    Request { attributes: [attribute("region", "large")].into_iter().chain(named).collect(), ..request }
}

fn calendar_month(at_us: u64) -> (i16, i8) {
    let date = Offset::UTC.to_datetime(Timestamp::from_microsecond(at_us as i64).unwrap()).date();
    (date.year(), date.month())
}

fn models() -> impl Strategy<Value = Models> {
    let limit = prop_oneof![1..50_u64, 1..=AMOUNT_MAX];
    let weight = || prop_oneof![Just(1_000_u64), Just(333), 1..5_000_u64, 1..=1_000_000_u64];
    (limit, weight(), weight(), weight(), proptest::option::of(weight()))
        .prop_map(|(limit, large, small, default, unknown)| Models { limit, large, small, default, unknown })
}

type Call = (u64, u64, Option<&'static str>);

fn histories() -> impl Strategy<Value = (Models, Vec<Call>)> {
    models().prop_flat_map(|models| {
        let limit = models.limit;
        let pause = prop_oneof![Just(0_u64), 0..5_u64, 0..DAY_US, 0..40 * DAY_US];
        let cost = prop_oneof![Just(1_u64), 1..=limit, Just(limit), 1..=(limit / 3).max(1)];
        (Just(models), prop::collection::vec((pause, cost, proptest::sample::select(MODELS.to_vec())), 1..40))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_month_ever_holds_more_than_its_limit_in_weighted_amounts(
        (models, history) in histories(), start_us in 0..100 * 366 * DAY_US,
    ) {
        let (mut user, mut now_us, mut spent) = (User::new(models), start_us, HashMap::new());
        let limit = u128::from(models.limit) * 1_000;
        for (pause_us, cost, model) in history {
            now_us += pause_us;
            let spent: &mut u128 = spent.entry(calendar_month(now_us)).or_default();
            let outcome = user.tell(&naming(model, Request::new(Operation::Consume, now_us, cost)));
            let Some(weight) = models.weight(model) else {
                prop_assert_eq!((outcome.admitted, outcome.limit, outcome.note), (false, 0, 2));
                continue;
            };
            let price = u128::from(cost) * u128::from(weight);
            prop_assert_eq!(outcome.admitted, *spent + price <= limit);
            if outcome.admitted {
                *spent += price;
            } else {
                prop_assert_eq!(&outcome.state, &None);
                prop_assert_eq!(outcome.retry_after_us > 0, price <= limit);
                let then_us = now_us + outcome.retry_after_us;
                let at = |at_us| user.ask(&naming(model, Request::new(Operation::Consume, at_us, cost))).admitted;
                prop_assert!(outcome.retry_after_us == 0 || (at(then_us) && !at(then_us - 1)));
            }
            prop_assert_eq!(u128::from(outcome.remaining), (limit - *spent) / u128::from(weight));
            prop_assert_eq!(u128::from(outcome.limit), limit / u128::from(weight));
        }
    }

    /// Whatever model a settle names, or none, and whatever the weights are by then.
    #[test]
    fn a_settle_counts_at_the_weight_of_when_it_was_held(
        models in models(), other in models(), of in 0..3_usize, named in 0..4_usize, held in 1..=1_000_u64,
        used in 0..=2_000_u64, changes: bool,
    ) {
        let (model, now_us) = (MODELS[of], us("2024-03-10T00:00:00"));
        let weight = models.weight(model).unwrap();
        let held = (u128::from(models.limit) * 1_000 / u128::from(weight) * u128::from(held) / 1_000) as u64;
        prop_assume!(held > 0 && held <= AMOUNT_MAX);
        let used = (u128::from(held) * u128::from(used) / 1_000) as u64;
        let (mut user, mut at_once) = (User::new(models), User::new(models));
        prop_assert!(user.tell(&naming(model, Request::new(Operation::Reserve, now_us, held))).admitted);
        // Consumed, or where it was too much for that, settled: charged in any case, at the model's weight.
        at_once.tell(&naming(model, Request::settle(now_us, used, 0, now_us)));
        if changes {
            let to = Models { limit: models.limit, ..other };
            user.goes_under(to);
            at_once.goes_under(to);
        }
        user.tell(&naming(MODELS[named], Request::settle(now_us, used, held, now_us)));
        prop_assert_eq!(user.remaining(now_us), at_once.remaining(now_us));
    }

    /// A refund of what was consumed names no model, and nobody remembers it.
    #[test]
    fn what_is_not_remembered_gives_back_no_more_than_the_least_weight(
        models in models(), of in 0..3_usize, named in 0..4_usize, cost in 1..=1_000_u64,
    ) {
        let (model, now_us) = (MODELS[of], us("2024-03-10T00:00:00"));
        let limit = models.limit * 1_000;
        let weight = models.weight(model).unwrap();
        let cost = (u128::from(limit / weight) * u128::from(cost) / 1_000) as u64;
        let mut user = User::new(models);
        prop_assume!(cost > 0 && user.tell(&naming(model, Request::new(Operation::Consume, now_us, cost))).admitted);
        user.tell(&naming(MODELS[named], Request::settle(now_us, 0, cost, now_us)));
        let spent = cost * weight - cost * models.least();
        prop_assert_eq!(user.remaining(now_us), (limit - spent) / models.default);
    }
}

const MODELS_OF_A_SHOP: Models = Models { limit: 100, large: 5_000, small: 200, default: 1_000, unknown: None };

#[test]
fn each_model_counts_by_its_weight() {
    let mut user = User::new(MODELS_OF_A_SHOP);
    let now_us = us("2024-03-10T00:00:00");
    let mut consume = |model, cost| user.tell(&naming(model, Request::new(Operation::Consume, now_us, cost)));
    let large = consume(Some("large"), 12);
    assert_eq!((large.admitted, large.limit, large.remaining), (true, 20, 8));
    let small = consume(Some("small"), 151);
    assert_eq!((small.admitted, small.limit, small.remaining), (true, 500, 49));
    let bare = consume(None, 10);
    assert_eq!((bare.admitted, bare.remaining, bare.retry_after_us > 0), (false, 9, true));
    let large = consume(Some("large"), 21);
    assert_eq!((large.admitted, large.retry_after_us, large.note), (false, 0, 1));
    assert_eq!(consume(Some("strange"), 1).note, 2);
}

#[test]
fn settles_that_somebody_made_up_leave_a_policy_that_still_answers() {
    let mut user = User::new(MODELS_OF_A_SHOP);
    for _ in 0..3 {
        user.tell(&naming(Some("large"), Request::settle(9, u64::MAX, 0, 9)));
    }
    assert_eq!(user.remaining(9), 0);
}

#[test]
fn weights_that_do_not_fit_are_refused_at_their_places() {
    let many: Vec<String> = (0..=MODELS_MAX).map(|n| format!(r#""m{n}":1"#)).collect();
    let settings = format!(r#"{{"limit":1,"attribute":"","weights":{{{},"":1}}}}"#, many.join(","));
    let said: Vec<String> = configure::<Weighted>(&settings).unwrap_err().into_iter().map(|p| p.pointer).collect();
    assert_eq!(said, ["/attribute", "/weights", "/weights"]);
    let settings = r#"{"limit":1,"weights":{"large":0},"unknown_weight_permille":1000001}"#;
    let said: Vec<String> = configure::<Weighted>(settings).unwrap_err().into_iter().map(|p| p.pointer).collect();
    assert_eq!(said, ["/unknown_weight_permille", "/weights/large"]);
}

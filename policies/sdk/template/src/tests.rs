//! Natively, in milliseconds.

use super::Rule;
use cellar_policy_sdk::testing::{Sim, hours};

/// What the tests below count by, whatever the settings beside them are changed to.
const SETTINGS: &str = r#"{"limit": 1000}"#;

// What every policy has to keep, one test each, over histories that are drawn.
cellar_policy_sdk::property_tests!(Rule, SETTINGS);

#[test]
fn a_day_has_its_limit_and_the_next_day_its_own() {
    let mut user = Sim::<Rule>::new(SETTINGS);
    user.at("2024-02-29T22:00:00Z").consume(700).admitted().remaining(300);
    user.consume(301).denied().remaining(300).retry_after(hours(2));
    user.after(hours(2)).consume(301).admitted().remaining(699);
}

#[test]
fn what_was_not_used_comes_back_on_the_same_day_only() {
    let mut user = Sim::<Rule>::new(SETTINGS);
    let held = user.at("2024-02-29T22:00:00Z").reserve(700).held();
    user.after(hours(1)).settle(held, 500).remaining(500);

    let held = user.reserve(200).held();
    user.after(hours(1)).settle(held, 0).remaining(1_000);
}

#[test]
fn what_was_spent_stays_spent_in_another_tier() {
    let mut user = Sim::<Rule>::new(SETTINGS);
    user.consume(700).admitted();
    user.under(r#"{"limit": 500}"#).peek().remaining(0);
    user.under(r#"{"limit": 5000}"#).peek().remaining(4_300);
}

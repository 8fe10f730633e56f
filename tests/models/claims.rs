//! Claims of e-mails: two cells, sign-ups, changes of e-mail, their repeats, reapers; requests that stop
//! anywhere, writes to the directory that are not answered and take effect late; processes with the present pepper,
//! with both, or with the next one. What is done with a claim is
//! answered by `cellar_directory::claim_rules`, the functions that the cells run.

mod environments;
mod rules;
mod settling;
mod state;
mod steps;
mod world;

use crate::search::{all_of_it, search};
use environments::Environment;
use rules::Rules;
use world::World;

/// A rule, and an environment that finds the protocol wrong without it.
const CASES: &[(&str, &str)] = &[
    ("anothers_claim_ends_it", "one-email-two-cells"),
    ("follows_the_claim_it_meets", "a-repeat-elsewhere"),
    ("creates_only_into_its_own_home", "one-id-two-cells"),
    ("takes_over_after_a_refusal", "one-id-one-cell"),
    ("asks_the_cell_of_the_home", "one-id-two-cells"),
    ("a_refused_intent_does_not_commit", "one-email-two-cells"),
    ("only_the_named_cell_settles", "one-email-two-cells"),
    ("refuses_before_it_frees", "one-email-two-cells"),
    ("present_by_email", "a-key-with-another-email"),
    ("holds_only_the_claim_it_read", "a-change-beside-a-repeated-sign-up"),
    ("a_repeat_looks_at_the_rows", "a-change-beside-a-repeated-sign-up"),
    ("the_home_before_the_claim", "one-email-two-cells"),
    ("changes_name_the_op", "one-email-two-cells"),
    ("unanswered_writes_are_read_back", "one-email-two-cells"),
    ("commits_before_it_releases", "the-left-email-is-taken"),
    ("the_release_is_due_with_the_change", "the-left-email-is-taken"),
    ("releases_only_its_own_claim", "the-left-email-is-taken"),
    ("the_home_before_the_release", "a-change-after-a-sign-up"),
    ("claims_are_reaped", "one-email-two-cells"),
    ("claims_under_every_pepper", "both-beside-new"),
    ("follows_the_last_pepper", "a-repeat-from-new-to-both"),
    ("refuses_before_it_passes_on", "a-late-claim-of-both-beside-old"),
    ("what_is_committed_stays", "a-late-claim-of-both-beside-old"),
    ("looks_under_the_next", "a-repeat-beside-another-under-both"),
    ("leaves_other_peppers_alone", "both-beside-new"),
    ("frees_what_was_left", "a-change-at-old"),
    ("drops_the_first_after_the_backfill", "old-to-new"),
];

/// What these prevent is mended by a look at held claims, too, if later: either suffices, and so both are off.
const ELSE_MENDED: &[&str] =
    &["holds_only_the_claim_it_read", "a_repeat_looks_at_the_rows", "the_release_is_due_with_the_change"];

/// Goal: claims as they are keep their promises, whatever comes in whatever order.
/// Method: every environment's states, each of them, to the last.
#[test]
fn no_order_of_events_leaves_an_email_to_two_users_or_to_nobody() {
    for environment in environments::ALL.iter().filter(|environment| environment.quick || all_of_it()) {
        let world = World { environment: *environment, rules: Rules::ALL };
        search(world, world::describe).holds(environment.name);
    }
}

/// Goal: no rule is there for nothing, and the model would notice the loss of any.
/// Method: each rule is switched off alone, where something is known to go wrong without it.
#[test]
fn without_any_one_of_their_rules_claims_break_a_promise() {
    let mut missed_by_nobody = Vec::new();
    for (rule, environment) in CASES {
        let mut rules = Rules::without(rule);
        rules.frees_what_was_left &= !ELSE_MENDED.contains(rule);
        let world = World { environment: Environment::named(environment), rules };
        if !search(world, world::describe).misses(rule, environment) {
            missed_by_nobody.push((rule, environment));
        }
    }
    assert!(missed_by_nobody.is_empty(), "nothing goes wrong without {missed_by_nobody:?}");
}

#[test]
fn every_rule_of_claims_has_an_environment_that_misses_it() {
    let cases: Vec<&str> = CASES.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(cases, Rules::NAMES);
}

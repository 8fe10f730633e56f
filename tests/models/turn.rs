//! The turn of the quota engine: two processes, one shard, Redis and Postgres that fail, late messages,
//! repeated keys. What a turn does next and what it believes is answered by `cellar_quota::protocol`, the
//! functions that the shard's process runs; stores and scripts are stood in for by what they promise.

mod environments;
mod rules;
mod serving;
mod state;
mod turning;
mod world;

use crate::search::{all_of_it, search};
use environments::Environment;
use rules::Rules;
use world::World;

/// A rule, and an environment that finds the protocol wrong without it.
struct Case {
    rule: &'static str,
    environment: &'static str,
    /// Found within seconds.
    quick: bool,
}

const fn case(rule: &'static str, environment: &'static str) -> Case {
    Case { rule, environment, quick: true }
}

const fn long(rule: &'static str, environment: &'static str) -> Case {
    Case { rule, environment, quick: false }
}

const CASES: &[Case] = &[
    case("waits_when_redis_is_silent", "redis-unseen"),
    case("waits_when_content_is_uncertain", "flushed"),
    case("content_by_fence_key", "flushed"),
    case("content_by_server_life", "comes-back-older"),
    case("mode_postgres_raises_valid_from", "redis-dies"),
    case("uncertain_raises_valid_from", "comes-back-older"),
    long("late_charge_raises_valid_from", "flushed-postgres-unseen"),
    case("asks_again_when_key_is_gone", "flushed"),
    case("older_fences_are_late", "redis-dies"),
    case("a_watermark_for_each_fence", "postgres-and-redis-unseen"),
    case("unanswered_are_charged", "redis-dies"),
    case("the_stream_settles_unanswered", "flushed"),
    case("earlier_turns_settled_unanswered", "redis-dies"),
    case("autonomy_when_handled", "postgres-and-redis-unseen"),
    case("the_row_keeps_the_last_finished_turn", "redis-dies"),
    case("fences_before_it_drains", "no-fault"),
    case("a_nonce_in_the_fence_key", "fence-unanswered"),
    long("the_late_mark_raises_valid_from", "redis-unseen-broken-turn"),
    case("the_late_mark_is_heeded_by_the_drain", "redis-unseen-broken-turn"),
    case("after_late_charges_all_is_late", "redis-unseen-broken-turn"),
    case("late_entries_are_charged", "redis-dies"),
    case("known_late_entries_are_void", "redis-unseen-deciding-process-dies"),
    case("a_broken_turn_keeps_the_tail", "flushed-postgres-unseen-broken-turn"),
    case("a_deposed_owner_hands_over", "flushed"),
    case("handed_over_calls_are_judged", "flushed"),
    case("memory_goes_with_the_turn", "three-keys"),
    case("the_script_compares_the_fence", "no-fault"),
    case("the_ledger_compares_the_fence", "no-fault"),
    case("the_ledger_compares_the_watermark", "drain-unanswered"),
    case("a_connection_is_of_one_life", "comes-back-empty"),
    case("answers_after_the_commit", "no-fault"),
    case("young_content_asks_the_ledger", "no-fault"),
    case("outcomes_carry_their_fence", "redis-unseen-deciding-process-dies"),
    case("denied_keys_are_in_the_call", "no-fault"),
    case("an_unanswered_call_is_a_turn", "unanswered"),
    case("unanswered_transactions_are_final", "redis-dies"),
    case("the_store_numbers", "two-users-unanswered"),
    case("the_drain_stops_at_gaps", "two-users-unanswered"),
    case("trims_after_the_drain", "redis-dies"),
];

/// Goal: the turn as it is keeps its promises, whatever comes in whatever order.
/// Method: every environment's states, each of them, to the last.
#[test]
fn no_order_of_events_makes_the_turn_break_a_promise() {
    for environment in environments::ALL.iter().filter(|environment| environment.quick || all_of_it()) {
        let world = World { environment: *environment, rules: Rules::ALL };
        search(world, world::describe).holds(environment.name);
    }
}

/// Goal: no rule is there for nothing, and the model would notice the loss of any.
/// Method: each rule is switched off alone, where something is known to go wrong without it.
#[test]
fn without_any_one_of_its_rules_the_turn_breaks_a_promise() {
    let mut missed_by_nobody = Vec::new();
    for Case { rule, environment, .. } in CASES.iter().filter(|case| case.quick || all_of_it()) {
        let world = World { environment: Environment::named(environment), rules: Rules::without(rule) };
        if !search(world, world::describe).misses(rule, environment) {
            missed_by_nobody.push((rule, environment));
        }
    }
    assert!(missed_by_nobody.is_empty(), "nothing goes wrong without {missed_by_nobody:?}");
}

#[test]
fn every_rule_has_an_environment_that_misses_it() {
    let cases: Vec<&str> = CASES.iter().map(|case| case.rule).collect();
    assert_eq!(cases, Rules::NAMES);
}

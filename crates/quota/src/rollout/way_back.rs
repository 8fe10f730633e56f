//! Whether a change of policies can be undone: two versions in one slot read each other's states, and what a
//! user has spent is the same before and after.
//!
//! Asked before a tier comes into force, by histories played on the very artifacts and settings. A version
//! whose predecessor refuses its states, or reads something else out of them, is not let in: the day it has to
//! be undone, each of its users would meet a fault instead.

use super::Variant;
use crate::tiers::{Tier, TierSlot};
use cellar_model::SettingProblem;
use cellar_policy_host::{Fault, Host, Operation, Outcome, Request, Stores};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Histories a pair of versions, each from another seed: they find what an author forgot, and take a few
/// milliseconds.
const HISTORIES: u64 = 32;
/// Requests a history.
const STEPS: usize = 24;
/// 2023-11-14, so that a month ends among the steps.
const T0_US: u64 = 1_700_000_000_000_000;
/// Between two steps: from a moment to some days.
const PAUSES_US: [u64; 5] = [1, 1_000_000, 60_000_000, 3_600_000_000, 5 * 86_400_000_000];

/// What of `after` could not be undone, by pointer into its document. Compared are the policies that decide
/// now, the new ones, and the new candidate's, each with each where slot and policy are the same.
pub fn check(host: &Host, before: Option<&Tier>, after: &Tier) -> Vec<SettingProblem> {
    let (mut stores, mut problems) = (Stores::new(host), Vec::new());
    let in_force = before.into_iter().flat_map(Tier::variants).flat_map(|(_, slots)| slots);
    let in_force: Vec<TierSlot> = in_force.map(apart).collect();
    for (variant, slots) in after.variants() {
        let at = match variant {
            Variant::Current => "",
            Variant::Candidate => "/rollout",
        };
        for (n, slot) in slots.iter().map(apart).enumerate() {
            let beside = after.slots.iter().filter(|_| variant == Variant::Candidate);
            let others = in_force.iter().cloned().chain(beside.map(apart));
            let refused = others.filter(|other| shares_states(&slot, other)).find_map(|other| {
                let both = passes(&mut stores, &other, &slot).and_then(|()| passes(&mut stores, &slot, &other));
                both.err()
            });
            if let Some(message) = refused {
                problems.push(SettingProblem { pointer: format!("{at}/policy/{n}/use"), message });
            }
        }
    }
    problems
}

/// With breakers of its own: what faults here must not keep a policy from its users.
fn apart(slot: &TierSlot) -> TierSlot {
    TierSlot { policy: slot.policy.apart(), ..slot.clone() }
}

/// Whether one reads what the other has written.
fn shares_states(one: &TierSlot, other: &TierSlot) -> bool {
    let same_states = one.slot == other.slot && one.policy.description().name == other.policy.description().name;
    same_states && one.policy.digest() != other.policy.digest()
}

/// Plays histories on `from`; every state that it leaves goes to `to` and back.
fn passes(stores: &mut Stores, from: &TierSlot, to: &TierSlot) -> Result<(), String> {
    for seed in 0..HISTORIES {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut state, mut now_us) = (Vec::new(), T0_US);
        // Costs of the size of what it takes at once, or hardly any state would be reached.
        let Ok(first) = decide(stores, from, &state, &peek(now_us)) else { return Ok(()) };
        for _ in 0..STEPS {
            let pause_us = PAUSES_US[random.random_range(0..PAUSES_US.len())];
            now_us += random.random_range(0..=pause_us);
            let cost = random.random_range(1..=(first.limit / 4).max(1));
            let asked = Request { cost, operation: Operation::Consume, ..peek(now_us) };
            // What `from` cannot answer itself says nothing of the way back.
            let Ok(outcome) = decide(stores, from, &state, &asked) else { break };
            let Some(next) = outcome.state else { continue };
            state = next;
            goes_and_comes(stores, from, to, &state, now_us)?;
        }
    }
    Ok(())
}

fn goes_and_comes(
    stores: &mut Stores,
    from: &TierSlot,
    to: &TierSlot,
    state: &[u8],
    now_us: u64,
) -> Result<(), String> {
    let unread = |by: &TierSlot, of: &TierSlot, fault: &Fault| {
        format!("{} cannot read the states of {}, so the change could not be undone: {fault}", named(by), named(of))
    };
    let there = read(stores, to, from, state).map_err(|fault| unread(to, from, &fault))?;
    let spent = decide(stores, to, &there, &Request { cost: 1, operation: Operation::Consume, ..peek(now_us) });
    let spent = spent.map_err(|fault| unread(to, from, &fault))?;
    let back = read(stores, from, to, &there).map_err(|fault| unread(from, to, &fault))?;
    let held = decide(stores, from, state, &peek(now_us)).map_err(|fault| unread(from, from, &fault))?;
    let returned = decide(stores, from, &back, &peek(now_us)).map_err(|fault| unread(from, to, &fault))?;
    if held.remaining != returned.remaining {
        return Err(format!(
            "a user of {} with {} left has {} left after {} had his state: the change would forget or invent spend",
            named(from),
            held.remaining,
            returned.remaining,
            named(to),
        ));
    }
    // And what `to` makes of it comes back too.
    let Some(spent) = spent.state else { return Ok(()) };
    let back = read(stores, from, to, &spent).map_err(|fault| unread(from, to, &fault))?;
    decide(stores, from, &back, &peek(now_us)).map(|_| ()).map_err(|fault| unread(from, to, &fault))
}

/// `state`, written by `of`, as `by` has it.
fn read(stores: &mut Stores, by: &TierSlot, of: &TierSlot, state: &[u8]) -> Result<Vec<u8>, Fault> {
    let schema = of.policy.description().state_schema;
    if by.policy.description().state_schema == schema {
        return Ok(state.to_owned());
    }
    stores.migrate(&by.policy, schema, &by.parameters, state)
}

fn decide(stores: &mut Stores, slot: &TierSlot, state: &[u8], request: &Request<'_>) -> Result<Outcome, Fault> {
    stores.decide(&slot.policy, &slot.parameters, state, request)
}

fn peek(now_us: u64) -> Request<'static> {
    Request { operation: Operation::Peek, now_us, cost: 0, held: 0, held_at_us: 0, attributes: &[] }
}

fn named(slot: &TierSlot) -> String {
    let description = slot.policy.description();
    format!("{} {}", description.name, description.version)
}

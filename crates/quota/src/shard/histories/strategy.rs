//! What may happen to a user.

use cellar_model::{
    Amount, ChargeId, Cost, Epoch, Fence, GrantTerms, Micros, Operation, OverrideTerms, SlotName, Unit, Version,
};
use proptest::prelude::*;

/// They share slots, change their limits, drop them, and let one slot meter another unit.
pub(super) const TIERS: [&str; 3] = [
    r#"name = "one"
       policy = [
         { slot = "m-requests", use = "monthly-bucket@1", unit = "requests", settings = { limit = 30 } },
         { slot = "m-tokens", use = "monthly-bucket@1", unit = "tokens", settings = { limit = 200 } },
       ]"#,
    r#"name = "two"
       on_expiry = "release"
       policy = [
         { slot = "m-tokens", use = "monthly-bucket@1", unit = "tokens", settings = { limit = 120 } },
         { slot = "m-images", use = "monthly-bucket@1", unit = "images", settings = { limit = 50 } },
       ]"#,
    r#"name = "three"
       on_expiry = "release"
       policy = [
         { slot = "m-requests", use = "monthly-bucket@1", unit = "images", settings = { limit = 40 } },
         { slot = "m-tight", use = "monthly-bucket@1", unit = "tokens", settings = { limit = 90 } },
         { slot = "m-tokens", use = "monthly-bucket@1", unit = "tokens", settings = { limit = 300 } },
       ]"#,
];
const SLOTS: [&str; 4] = ["m-requests", "m-tokens", "m-images", "m-tight"];
const MINUTE_US: u64 = 60_000_000;
const DAY_US: u64 = 1_440 * MINUTE_US;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Pause(u64),
    Tier(usize),
    /// Another fence.
    Turn,
    /// Redis no longer remembers any key.
    Forget,
    /// Checks of one commit. What closes a charge stands alone: it may need two.
    Ask(Vec<Asked>),
}

#[derive(Clone, Debug)]
pub(super) struct Asked {
    what: What,
    cost: Cost,
}

#[derive(Clone, Debug)]
enum What {
    Consume,
    Peek,
    Reserve(u32),
    Settle(usize),
    Refund(usize),
    Grant { slot: usize, amount: u64, us: u64 },
    Override { slot: usize, limit: u64, us: u64 },
    Sweep,
}

impl Step {
    pub(super) fn costs(&self) -> Vec<Cost> {
        match self {
            Step::Ask(asked) => asked.iter().map(|one| one.cost.clone()).collect(),
            _ => Vec::new(),
        }
    }
}

impl Asked {
    pub(super) fn operation(&self, charges: &[ChargeId], now: Micros) -> Operation {
        // Mostly one of the last charges, sometimes one that never was.
        let charge = |back: usize| {
            let bogus = ChargeId { epoch: Epoch(1), fence: Fence(1), version: Version(1), place: 40 };
            charges.iter().rev().nth(back).copied().unwrap_or(bogus)
        };
        let slot = |n: usize| SlotName::new(SLOTS[n]).unwrap();
        match self.what {
            What::Consume => Operation::Consume,
            What::Peek => Operation::Peek,
            What::Reserve(expires_in_s) => Operation::Reserve { expires_in_s },
            What::Settle(back) => Operation::Settle { charge: charge(back) },
            What::Refund(back) => Operation::Refund { charge: charge(back) },
            What::Grant { slot: n, amount, us } => {
                let amount = Amount::new(amount).unwrap();
                Operation::Grant(Box::new(GrantTerms { slot: slot(n), amount, until: now.saturating_add(us) }))
            }
            What::Override { slot: n, limit, us } => {
                let settings = format!("{{\"limit\":{limit}}}");
                Operation::Override(Box::new(OverrideTerms { slot: slot(n), settings, until: now.saturating_add(us) }))
            }
            What::Sweep => Operation::Sweep,
        }
    }
}

fn cost() -> impl Strategy<Value = Cost> {
    let amounts = (0..4_u64, prop::option::weighted(0.8, 0..130_u64), prop::option::weighted(0.2, 0..20_u64));
    amounts.prop_map(|(requests, tokens, images)| {
        let amount = |of: u64| Amount::new(of).unwrap();
        let mut units = vec![(Unit::requests(), amount(requests))];
        units.extend(tokens.map(|tokens| (Unit::tokens(), amount(tokens))));
        units.extend(images.map(|images| (Unit::new("images").unwrap(), amount(images))));
        Cost::of(units).unwrap()
    })
}

fn asked(what: impl Strategy<Value = What>) -> impl Strategy<Value = Asked> {
    (what, cost()).prop_map(|(what, cost)| Asked { what, cost })
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let until = || prop_oneof![1 => Just(0), 4 => 0..3 * DAY_US, 2 => 0..50 * DAY_US];
    let spend = prop_oneof![
        4 => Just(What::Consume),
        4 => prop_oneof![1..120_u32, 3_000..3_600_u32].prop_map(What::Reserve),
        1 => Just(What::Peek),
    ];
    let alone = prop_oneof![
        6 => (0..5_usize).prop_map(What::Settle),
        4 => (0..5_usize).prop_map(What::Refund),
        2 => (0..4_usize, 0..150_u64, until()).prop_map(|(slot, amount, us)| What::Grant { slot, amount, us }),
        1 => (0..4_usize, 0..250_u64, until()).prop_map(|(slot, limit, us)| What::Override { slot, limit, us }),
        1 => Just(What::Sweep),
    ];
    let pause = prop_oneof![0..2 * MINUTE_US, 0..2 * DAY_US, 0..45 * DAY_US];
    let step = prop_oneof![
        6 => prop::collection::vec(asked(spend), 1..4).prop_map(Step::Ask),
        8 => asked(alone).prop_map(|one| Step::Ask(vec![one])),
        5 => pause.prop_map(Step::Pause),
        1 => (0..TIERS.len()).prop_map(Step::Tier),
        1 => Just(Step::Turn),
        1 => Just(Step::Forget),
    ];
    prop::collection::vec(step, 1..70)
}

//! Users on both sides of a candidate, and shadows beside what is answered.

#[path = "../../../../tests/policies/spender.rs"]
mod spender;

use super::{Difference, Variant, check_way_back};
use crate::compiled::CompiledSettings;
use crate::evaluate::{Decision, Evaluation};
use crate::record::{Head, RecordBody, SlotState};
use crate::tiers::{Tier, TierSlot};
use cellar_model::{
    Amount, CellName, ChargeId, Check, Cost, DeadlineMs, Epoch, Fence, Micros, Operation, PolicyName, RevisedTier,
    Revision, SlotName, TierDocument, TierName, Unit, UserId, Version,
};
use cellar_policy_host::{Fault, Host, HostLimits, Policy, Stores};
use spender::Spender;
use std::sync::Arc;

const T0: Micros = Micros(1_700_000_000_000_000);
const CHARGE: ChargeId = ChargeId { epoch: Epoch(1), fence: Fence(1), version: Version(1), place: 0 };

/// `spender@1` and `@2` are the hand-written ones, everything else a shipped component.
fn policy(host: &Host, used: &cellar_model::PolicyRef) -> Arc<Policy> {
    let component = match used.to_string().as_str() {
        "spender@1" => Spender::ONE.component(),
        "spender@2" => Spender::TWO.component(),
        "spender@3" => Spender { version: "3.0.0", harm: "unreachable", ..Spender::ONE }.component(),
        _ => {
            let running = std::env::current_exe().unwrap();
            let name = format!("policies/{}.wasm", used.name);
            let path = running.ancestors().map(|folder| folder.join(&name)).find(|path| path.is_file());
            std::fs::read(path.expect("the components are built by: make policies")).unwrap()
        }
    };
    host.load(&component).unwrap()
}

fn slot(table: &str, slot: &str, used: &str, limit: u64, mode: &str) -> String {
    format!(
        "[[{table}]]\nslot = \"{slot}\"\nuse = \"{used}\"\nunit = \"tokens\"\nmode = \"{mode}\"\n\
         settings = {{ limit = {limit} }}\n"
    )
}

fn compile(host: &Host, revision: u64, slots: &str) -> Tier {
    let document = TierDocument::from_toml(&format!("name = \"t\"\n{slots}")).unwrap();
    let tier = RevisedTier { revision: Revision(revision), document };
    Tier::compile(&tier, |used| Some(policy(host, used))).unwrap()
}

struct Bench {
    tier: Tier,
    stores: Stores,
    compiled: CompiledSettings,
    body: RecordBody,
}

impl Bench {
    fn new(slots: &str) -> Self {
        let host = Host::new(HostLimits::default()).unwrap();
        let tier = compile(&host, 1, slots);
        let body = RecordBody::new(tier.document.name.clone());
        Self { tier, stores: Stores::new(&host), compiled: CompiledSettings::default(), body }
    }

    /// One check of a user who is on that side now.
    fn ask(&mut self, side: Variant, operation: Operation, tokens: u64) -> Decision {
        let tier = match side {
            Variant::Current => &self.tier,
            Variant::Candidate => &self.tier.candidate.as_ref().unwrap().tier,
        };
        let mut evaluation = Evaluation {
            stores: &mut self.stores,
            compiled: &mut self.compiled,
            fault_seen: &mut |slot: &TierSlot, fault: &Fault| slot.report(fault),
            tier,
            catalog_revision: Revision(1),
            now: T0,
            held: Head { fence: Fence(1), epoch: Epoch(1), version: Version(1) },
        };
        let zero = Amount::new(0).unwrap();
        let check = Check {
            user: UserId::new("u").unwrap(),
            operation,
            cost: Cost::of([(Unit::requests(), zero), (Unit::tokens(), Amount::new(tokens).unwrap())]).unwrap(),
            attributes: Vec::new(),
            key: None,
            at: None,
            deadline: DeadlineMs::QUOTA,
            session: None,
            origin: None,
        };
        evaluation.decide(&mut self.body, &check, CHARGE, None)
    }

    /// What the first slot has left on that side; none if it denied.
    fn left(&mut self, side: Variant, operation: Operation, tokens: u64) -> Option<u64> {
        match self.ask(side, operation, tokens) {
            Decision::Admit { answer, .. } | Decision::Look(answer) => Some(answer.slots[0].remaining),
            _ => None,
        }
    }

    fn shadow(&self, place: usize) -> [u64; 4] {
        Difference::ALL.map(|difference| self.tier.slots[place].counts.shadow(difference))
    }
}

const CANDIDATE: &str = "[rollout]\npercent = 50\n";

#[test]
fn spend_goes_with_a_user_who_changes_sides_over_another_state_schema() {
    let slots = [
        slot("policy", "monthly", "spender@1", 100, "enforce"),
        CANDIDATE.to_owned(),
        slot("rollout.policy", "monthly", "spender@2", 1_000, "enforce"),
    ];
    let mut bench = Bench::new(&slots.concat());
    assert_eq!(bench.left(Variant::Current, Operation::Consume, 7), Some(93));
    assert_eq!(bench.left(Variant::Candidate, Operation::Consume, 10), Some(983));
    assert_eq!(bench.left(Variant::Current, Operation::Consume, 1), Some(82));
    assert_eq!(bench.left(Variant::Candidate, Operation::Peek, 0), Some(982));
}

#[test]
fn a_charge_is_closed_by_the_slot_that_took_it_on_whichever_side_its_user_is_by_then() {
    let slots = [
        slot("policy", "monthly", "monthly-bucket@1", 100, "enforce"),
        CANDIDATE.to_owned(),
        slot("rollout.policy", "monthly", "spender@1", 50, "enforce"),
    ];
    let mut bench = Bench::new(&slots.concat());
    assert_eq!(bench.left(Variant::Current, Operation::Consume, 30), Some(70));
    assert_eq!(bench.left(Variant::Candidate, Operation::Reserve { expires_in_s: 60 }, 20), Some(30));
    assert_eq!(bench.left(Variant::Current, Operation::Settle { charge: CHARGE }, 5), Some(70), "it gave nothing");
    assert_eq!(bench.left(Variant::Candidate, Operation::Peek, 0), Some(45), "15 of 20 came back to who gave them");
    assert_eq!(bench.body.totals, [(Unit::tokens(), 35)]);
}

#[test]
fn a_slot_keeps_the_states_of_both_policies_that_its_tier_has_and_no_third() {
    let mut body = RecordBody::new(TierName::new("t").unwrap());
    let state = |policy: &str| SlotState {
        slot: SlotName::new("monthly").unwrap(),
        policy: PolicyName::new(policy).unwrap(),
        digest: [0; 32],
        schema: 1,
        state: policy.into(),
    };
    body.put_state(state("a"), |_| true);
    body.put_state(state("b"), |_| true);
    body.put_state(state("a"), |_| true);
    let policies = |body: &RecordBody| body.slots.iter().map(|held| held.policy.to_string()).collect::<Vec<_>>();
    assert_eq!(policies(&body), ["a", "b"]);
    body.put_state(state("c"), |held| held.policy.as_str() == "b");
    assert_eq!(policies(&body), ["b", "c"]);
    body.put_state(state("c"), |_| false);
    assert_eq!(policies(&body), ["c"]);
}

#[test]
fn a_shadow_is_compared_with_what_was_answered_and_keeps_nothing_of_what_was_denied() {
    let slots =
        [slot("policy", "monthly", "spender@1", 10, "enforce"), slot("policy", "trial", "spender@2", 5, "shadow")];
    let mut bench = Bench::new(&slots.concat());
    assert!(bench.left(Variant::Current, Operation::Consume, 4).is_some());
    assert!(bench.left(Variant::Current, Operation::Consume, 4).is_some(), "the shadow has 1 left");
    assert!(bench.left(Variant::Current, Operation::Consume, 4).is_none(), "both would deny");
    assert!(bench.left(Variant::Current, Operation::Peek, 0).is_some(), "a question is no decision");
    assert_eq!(bench.shadow(1), [2, 1, 0, 0]);

    let slots =
        [slot("policy", "monthly", "spender@1", 5, "enforce"), slot("policy", "trial", "spender@2", 10, "shadow")];
    let mut bench = Bench::new(&slots.concat());
    assert!(bench.left(Variant::Current, Operation::Consume, 4).is_some());
    for _ in 0..3 {
        assert!(bench.left(Variant::Current, Operation::Consume, 4).is_none());
    }
    assert_eq!(bench.shadow(1), [1, 0, 3, 0], "each of the denied met the same state");
}

#[test]
fn a_shadow_that_traps_is_counted_and_binds_nobody() {
    let slots =
        [slot("policy", "monthly", "spender@1", 10, "enforce"), slot("policy", "trial", "spender@3", 10, "shadow")];
    let mut bench = Bench::new(&slots.concat());
    assert!(bench.left(Variant::Current, Operation::Consume, 4).is_some());
    assert!(bench.left(Variant::Current, Operation::Consume, 7).is_none());
    assert_eq!(bench.shadow(1), [0, 0, 0, 2]);
    let trapped: u64 = bench.tier.slots[1].counts.faults().map(|(_, count)| count).sum();
    assert_eq!(trapped, 2);
}

#[test]
fn counts_go_on_where_nothing_changed_and_a_stop_holds_for_its_revision() {
    let host = Host::new(HostLimits::default()).unwrap();
    let text = [
        slot("policy", "monthly", "spender@1", 10, "enforce"),
        "[rollout]\npercent = 100\ncells = [\"eu-1\"]\n".to_owned(),
        slot("rollout.policy", "monthly", "spender@2", 10, "enforce"),
    ]
    .concat();
    let (here, there) = (CellName::new("eu-1").unwrap(), CellName::new("us-1").unwrap());
    let user = UserId::new("u").unwrap().wave();
    let decides = |tier: &Tier| tier.candidate.as_ref().unwrap().decides(user);

    let first = compile(&host, 1, &text).enter(&here, None);
    assert!(decides(&first) && !decides(&compile(&host, 1, &text).enter(&there, None)));
    first.candidate.as_ref().unwrap().watch.stop("a test");
    first.slots[0].counts.faulted(&Fault::OutOfFuel);
    assert!(!decides(&first));

    let again = compile(&host, 1, &text).enter(&here, Some(&first));
    assert!(!decides(&again), "another document of the catalog has changed");
    assert_eq!(again.slots[0].counts.faults().map(|(_, count)| count).sum::<u64>(), 1);
    let revised = compile(&host, 2, &text).enter(&here, Some(&again));
    assert!(decides(&revised));
}

#[test]
fn what_a_slot_does_for_users_of_the_other_side_is_counted_with_it() {
    let host = Host::new(HostLimits::default()).unwrap();
    let text = [
        slot("policy", "monthly", "monthly-bucket@1", 10, "enforce"),
        CANDIDATE.to_owned(),
        slot("rollout.policy", "monthly", "spender@1", 10, "enforce"),
    ]
    .concat();
    let cell = CellName::new("eu-1").unwrap();
    let first = compile(&host, 1, &text).enter(&cell, None);
    for tier in [compile(&host, 1, &text).enter(&cell, Some(&first)), first] {
        let candidate = &tier.candidate.as_ref().unwrap().tier;
        assert!(Arc::ptr_eq(&tier.beside[0].counts, &candidate.slots[0].counts));
        assert!(Arc::ptr_eq(&candidate.beside[0].counts, &tier.slots[0].counts));
    }
}

/// What speaks against `spender@1` being followed by another, or the other way.
fn against(first: Spender, second: Spender) -> Vec<String> {
    let host = Host::new(HostLimits::default()).unwrap();
    let compile = |spender: Spender| {
        let text = format!("name = \"t\"\n{}", slot("policy", "monthly", "spender@1", 1_000, "enforce"));
        let tier = RevisedTier { revision: Revision(1), document: TierDocument::from_toml(&text).unwrap() };
        Tier::compile(&tier, |_| Some(host.load(&spender.component()).unwrap())).unwrap()
    };
    let problems = check_way_back(&host, Some(&compile(first)), &compile(second));
    assert!(problems.iter().all(|problem| problem.pointer == "/policy/0/use"));
    problems.into_iter().map(|problem| problem.message).collect()
}

#[test]
fn a_version_whose_predecessor_reads_its_states_back_is_let_in_and_no_other() {
    assert!(against(Spender::ONE, Spender::TWO).is_empty());
    assert!(against(Spender::TWO, Spender::ONE).is_empty());
    let deaf = Spender { version: "1.0.1", migrates: false, ..Spender::ONE };
    for problems in [against(deaf, Spender::TWO), against(Spender::TWO, deaf)] {
        assert_eq!(problems.len(), 1);
        let said = "spender 1.0.1 cannot read the states of spender 2.0.0, so the change could not be undone";
        assert!(problems[0].starts_with(said), "{}", problems[0]);
    }
}

#[test]
fn a_version_that_forgets_spend_on_the_way_is_refused() {
    let forgetful = Spender { carries: false, ..Spender::TWO };
    let problems = against(Spender::ONE, forgetful);
    assert!(problems[0].contains("the change would forget or invent spend"), "{}", problems[0]);
}

#[test]
fn a_candidate_is_compared_with_the_policies_beside_it() {
    let host = Host::new(HostLimits::default()).unwrap();
    let text = [
        slot("policy", "monthly", "spender@1", 10, "enforce"),
        CANDIDATE.to_owned(),
        slot("rollout.policy", "monthly", "spender@2", 10, "enforce"),
    ]
    .concat();
    let compile = |second: Spender| {
        let document = TierDocument::from_toml(&format!("name = \"t\"\n{text}")).unwrap();
        let tier = RevisedTier { revision: Revision(1), document };
        let component = |used: &str| if used == "spender@1" { Spender::ONE } else { second }.component();
        Tier::compile(&tier, |used| Some(host.load(&component(&used.to_string())).unwrap())).unwrap()
    };
    assert!(check_way_back(&host, None, &compile(Spender::TWO)).is_empty());
    let problems = check_way_back(&host, None, &compile(Spender { carries: false, ..Spender::TWO }));
    assert_eq!(problems[0].pointer, "/rollout/policy/0/use");
}

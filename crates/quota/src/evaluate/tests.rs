//! What the histories of `shard/histories.rs` do not reach: faults, and a rate beside a bucket.

use super::{Decision, Evaluation};
use crate::compiled::CompiledSettings;
use crate::record::{Head, Record, RecordBody};
use crate::tiers::{Tier, TierSlot};
use cellar_model::{
    Amount, ChargeId, Check, Cost, DeadlineMs, Degraded, Effect, Epoch, Fence, Micros, Operation, Refusal, RevisedTier,
    Revision, TierDocument, TierName, TryAgain, Unit, UserId, Version,
};
use cellar_policy_host::{Fault, Host, HostLimits, Stores};

const T0: Micros = Micros(1_700_000_000_000_000);
const RESERVED: ChargeId = ChargeId { epoch: Epoch(1), fence: Fence(1), version: Version(1), place: 0 };
const LATER: ChargeId = ChargeId { version: Version(2), ..RESERVED };

struct Bench {
    tier: Tier,
    stores: Stores,
    compiled: CompiledSettings,
    faults: usize,
    body: RecordBody,
}

impl Bench {
    /// A rate of ten requests a minute and a bucket of 100 tokens, with lines of the tier's own.
    fn new(lines: &str) -> Self {
        Self::of(&format!(
            r#"name = "t"
            {lines}
            policy = [
              {{ slot = "rate", use = "gcra@1", unit = "requests", settings = {{ limit = 10, period_s = 60 }} }},
              {{ slot = "monthly", use = "monthly-bucket@1", unit = "tokens", settings = {{ limit = 100 }} }},
            ]"#
        ))
    }

    fn of(tier: &str) -> Self {
        let host = Host::new(HostLimits::default()).unwrap();
        let document = TierDocument::from_toml(tier).unwrap();
        let policy = |name: &str| {
            let running = std::env::current_exe().unwrap();
            let built = running.ancestors().map(|folder| folder.join("policies").join(format!("{name}.wasm")));
            let path = built.into_iter().find(|path| path.is_file());
            host.load(&std::fs::read(path.expect("the components are built by: make policies")).unwrap()).unwrap()
        };
        let tier = RevisedTier { revision: Revision(1), document };
        let tier = Tier::compile(&tier, |used| Some(policy(used.name.as_str()))).ok().unwrap();
        let body = RecordBody::new(TierName::new("t").unwrap());
        Self { tier, stores: Stores::new(&host), compiled: CompiledSettings::default(), faults: 0, body }
    }

    fn at<R>(&mut self, now: Micros, ask: impl FnOnce(&mut Evaluation<'_>, &mut RecordBody) -> R) -> R {
        let faults = &mut self.faults;
        let mut evaluation = Evaluation {
            stores: &mut self.stores,
            compiled: &mut self.compiled,
            fault_seen: &mut |_: &TierSlot, _: &Fault| *faults += 1,
            tier: &self.tier,
            catalog_revision: Revision(1),
            now,
            held: Head { fence: Fence(1), epoch: Epoch(1), version: Version(1) },
        };
        ask(&mut evaluation, &mut self.body)
    }

    fn decide(&mut self, now: Micros, operation: Operation, requests: u64, tokens: u64, name: ChargeId) -> Decision {
        let amount = |of: u64| Amount::new(of).unwrap();
        let cost = Cost::of([(Unit::requests(), amount(requests)), (Unit::tokens(), amount(tokens))]).unwrap();
        let check = Check {
            user: UserId::new("u").unwrap(),
            operation,
            cost,
            attributes: Vec::new(),
            key: None,
            at: None,
            deadline: DeadlineMs::QUOTA,
            session: None,
            origin: None,
        };
        self.at(now, |evaluation, body| evaluation.decide(body, &check, name, None))
    }

    fn reserved(lines: &str) -> Self {
        let mut bench = Self::new(lines);
        let reserve = Operation::Reserve { expires_in_s: 60 };
        assert!(matches!(bench.decide(T0, reserve, 5, 60, RESERVED), Decision::Admit { .. }));
        bench
    }

    /// A state that its policy cannot read: it traps.
    fn spoil(&mut self) {
        self.body.slots.iter_mut().find(|slot| slot.slot.as_str() == "monthly").unwrap().state.push(0);
    }
}

fn left(decision: &Decision) -> Vec<u64> {
    match decision {
        Decision::Admit { answer, .. } => answer.slots.iter().map(|slot| slot.remaining).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_settle_corrects_a_rate_and_a_bucket_each_in_its_own_way() {
    let mut bench = Bench::reserved("");
    // After 12 s the rate has paid back two of the five: of four unused, three are left to return.
    let settled = bench.decide(T0.saturating_add(12_000_000), Operation::Settle { charge: RESERVED }, 1, 70, LATER);
    assert_eq!(left(&settled), [10, 30]);
    let Decision::Admit { answer, charged, .. } = settled else { panic!() };
    assert_eq!(answer.effect, Effect::Settled { overshoot: Vec::new() });
    assert_eq!(charged.charges, [(Unit::requests(), -4), (Unit::tokens(), 10)]);
    assert_eq!(bench.body.totals, [(Unit::requests(), 1), (Unit::tokens(), 70)]);
}

#[test]
fn a_faulting_policy_leaves_a_settle_to_be_repeated_and_changes_nothing() {
    let mut bench = Bench::reserved("");
    bench.spoil();
    let before = bench.body.clone();
    let settled = bench.decide(T0, Operation::Settle { charge: RESERVED }, 1, 10, LATER);
    assert_eq!(settled, Decision::Refuse(Refusal::TryAgain { reason: TryAgain::NotReady }));
    assert_eq!((&bench.body, bench.faults), (&before, 1));
}

#[test]
fn where_faults_are_allowed_a_settle_says_so_and_corrects_the_rest() {
    let mut bench = Bench::reserved("on_fault = \"allow\"");
    bench.spoil();
    match bench.decide(T0, Operation::Settle { charge: RESERVED }, 1, 10, LATER) {
        Decision::Admit { answer, degraded, .. } => {
            assert_eq!(degraded, Some(Degraded::PolicyFault));
            assert_eq!(
                answer.slots.iter().map(|slot| (slot.slot.as_str(), slot.remaining)).collect::<Vec<_>>(),
                [("rate", 9)]
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_release_that_a_fault_forbids_stays_open_and_the_others_go() {
    let mut bench = Bench::reserved("on_expiry = \"release\"");
    // This one took nothing of the bucket, but the bucket was asked, so it is corrected by nothing.
    let reserve = Operation::Reserve { expires_in_s: 30 };
    assert!(matches!(bench.decide(T0, reserve, 2, 0, LATER), Decision::Admit { .. }));
    bench.spoil();
    let name = |n: usize| ChargeId { place: n as u32, ..LATER };
    let expired = bench.at(T0.saturating_add(60_000_000), |evaluation, body| evaluation.expire(body, name));
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0].charges, [(Unit::requests(), -2)]);
    assert_eq!(expired[0].at, T0.saturating_add(30_000_000), "as of its expiry");
    assert_eq!(bench.body.reservations.iter().map(|open| open.charge).collect::<Vec<_>>(), [RESERVED]);
    let head = Head { fence: Fence(1), epoch: Epoch(1), version: Version(2) };
    assert!(Record { head, body: bench.body.clone() }.encode().is_ok());
}

#[test]
fn a_blocked_user_spends_nothing_and_is_settled_all_the_same() {
    let mut bench = Bench::reserved("");
    bench.body.flags.blocked = true;
    for operation in [Operation::Consume, Operation::Peek, Operation::Reserve { expires_in_s: 1 }] {
        assert_eq!(bench.decide(T0, operation, 1, 1, LATER), Decision::Refuse(Refusal::Blocked));
    }
    assert_eq!(left(&bench.decide(T0, Operation::Settle { charge: RESERVED }, 5, 10, LATER)), [5, 90]);
}

#[test]
fn a_policy_of_open_reservations_is_told_of_a_settle_that_used_all_of_one() {
    let mut bench = Bench::of(
        r#"name = "t"
        policy = [
          { slot = "open", use = "open-reservations@1", unit = "requests", settings = { limit = 2 } },
          { slot = "monthly", use = "monthly-bucket@1", unit = "tokens", settings = { limit = 100 } },
        ]"#,
    );
    let reserve = Operation::Reserve { expires_in_s: 60 };
    assert_eq!(left(&bench.decide(T0, reserve.clone(), 1, 60, RESERVED)), [1, 40]);
    assert_eq!(left(&bench.decide(T0, reserve.clone(), 1, 30, LATER)), [0, 10]);
    let third = ChargeId { version: Version(3), ..RESERVED };
    assert!(matches!(bench.decide(T0, reserve.clone(), 1, 1, third), Decision::Deny { .. }));
    let settle = Operation::Settle { charge: RESERVED };
    assert_eq!(left(&bench.decide(T0, settle, 1, 60, third)), [1, 10]);
    assert!(matches!(bench.decide(T0, reserve, 1, 1, third), Decision::Admit { .. }));
}

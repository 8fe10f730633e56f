//! Random histories of every operation, over tier changes, turns and month ends, against a reference that
//! shares no code with the engine: verdicts, what each slot has left, and the books, equal to the unit.
//!
//! The stores are stood in for by a record, a list of entries and a map of keys; deciding is the shard's
//! own. Policies are monthly buckets, as the components that are shipped.

mod reference;
mod strategy;
mod told;

use super::Ask;
use super::batch::Deciding;
use super::calls::replay;
use crate::clock::{Clock, ClockMode};
use crate::closing;
use crate::compiled::CompiledSettings;
use crate::decisions::Remembered;
use crate::entry::{LedgerCheck, LedgerEntry};
use crate::moments::Moments;
use crate::outcome::Outcome;
use crate::record::{Head, Record, RecordBody};
use crate::tiers::{Tier, TierSet};
use cellar_model::{
    ChargeId, Check, DeadlineMs, Epoch, Fence, KeyId, Micros, Operation, Refusal, RevisedTier, Revision, TierDocument,
    TierName, UserId, Verdict, Version,
};
use cellar_policy_host::{Host, HostLimits, Stores};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};
use reference::Reference;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use strategy::{Step, TIERS};
use tokio::sync::oneshot;
use tokio::time::Instant;
use told::Told;

const DAY_US: u64 = 86_400_000_000;

/// Where `make policies` puts components: beside this executable, in the target folder.
fn component(name: &str) -> Vec<u8> {
    let running = std::env::current_exe().unwrap();
    let built = running.ancestors().map(|folder| folder.join("policies").join(name));
    let path: Option<PathBuf> = built.into_iter().find(|path| path.is_file());
    std::fs::read(path.expect("the components are built by: make policies")).unwrap()
}

fn tiers(host: &Host) -> TierSet {
    let bucket = host.load(&component("monthly-bucket.wasm")).unwrap();
    let tiers = TIERS.iter().map(|text| {
        let document = TierDocument::from_toml(text).unwrap();
        Arc::new(Tier::compile(&RevisedTier { revision: Revision(1), document }, |_| Some(bucket.clone())).unwrap())
    });
    TierSet::new(Revision(1), tiers)
}

/// What outlives a history.
struct Engine {
    tiers: TierSet,
    stores: Stores,
    compiled: CompiledSettings,
    clock: Clock,
}

/// One user, as the stores have him.
struct Stored<'e> {
    engine: &'e mut Engine,
    fence: Fence,
    record: Record,
    ledger: Vec<LedgerEntry>,
    /// What Redis remembers; it may forget.
    keys: HashMap<KeyId, Outcome>,
}

impl Stored<'_> {
    /// One commit of `checks`: a verdict each, as the engine gives it.
    fn decide(&mut self, checks: Vec<Check>) -> Vec<Verdict> {
        let mut checks = checks;
        checks.iter_mut().for_each(closing::put_key);
        let first: Vec<Verdict> = self.commit(checks.iter().map(|check| (check.clone(), None)).collect());
        let looked_up = first.into_iter().zip(checks).map(|(verdict, check)| match verdict {
            Verdict::Refused(Refusal::Undrained { fence, version }) => {
                assert!((fence, version) <= (self.record.head.fence, self.record.head.version), "asks for the future");
                self.look_up(check)
            }
            verdict => verdict,
        });
        looked_up.collect()
    }

    fn look_up(&mut self, check: Check) -> Verdict {
        let (key, charge) = (check.key.unwrap(), check.operation.closes().unwrap());
        let checks = || self.ledger.iter().flat_map(|entry| &entry.checks);
        if let Some(known) = checks().filter_map(|held| held.key.as_ref()).find(|held| held.id == key.id) {
            return replay(&Outcome { body: known.body, answer: known.answer.clone() }, key.body);
        }
        let since = Micros(check.at.unwrap().0.saturating_sub(40 * DAY_US));
        let young = self.ledger.iter().filter(|entry| entry.at >= since);
        let found = young.flat_map(|entry| &entry.checks).find(|held| held.charge == charge).cloned();
        match found {
            Some(found) => self.commit(vec![(check, Some(Box::new(found)))]).pop().unwrap(),
            None => Verdict::Refused(Refusal::UnknownCharge),
        }
    }

    fn commit(&mut self, checks: Vec<(Check, Option<Box<LedgerCheck>>)>) -> Vec<Verdict> {
        if let [(check, _)] = &checks[..]
            && let Some(key) = check.key
            && let Some(known) = self.keys.get(&key.id)
        {
            return vec![replay(known, key.body)];
        }
        let asks = checks.into_iter().map(|(check, found)| Ask {
            check,
            deadline: Instant::now(),
            reply: oneshot::channel().0,
            moments: Moments::new(std::time::Instant::now()),
            looked_up: true,
            found,
            remembered: Remembered::default(),
        });
        let mut deciding = Deciding {
            stores: &mut self.engine.stores,
            compiled: &mut self.engine.compiled,
            tiers: &self.engine.tiers,
            clock: &self.engine.clock,
            fence: self.fence,
            degraded: None,
            fault_seen: &mut |slot, fault| panic!("{} faulted: {fault}", slot.slot),
        };
        let (decided, group) = deciding.decide(UserId::new("u").unwrap(), self.record.clone(), asks.collect());
        assert_eq!(decided.entry.is_some(), group.write.is_some());
        if let (Some(entry), Some((record, _))) = (decided.entry, group.write) {
            assert_eq!(Record::expiry_in(&record), decided.record.body.next_expiry());
            self.record = Record::decode(&record).unwrap();
            assert_eq!(self.record, decided.record);
            for held in entry.checks.iter().filter_map(|check| check.key.as_ref()) {
                self.keys.insert(held.id, Outcome { body: held.body, answer: held.answer.clone() });
            }
            self.ledger.push(entry);
        } else {
            assert_eq!(self.record, decided.record, "what is not committed changes nothing");
        }
        decided.asks.into_iter().map(|(_, verdict)| verdict).collect()
    }

    /// The ledger's sums, and the record's.
    fn books(&self) -> [BTreeMap<String, i64>; 2] {
        let mut ledger = BTreeMap::new();
        for (unit, amount) in self.ledger.iter().flat_map(LedgerEntry::charges) {
            *ledger.entry(unit.to_string()).or_insert(0) += amount;
        }
        let record = self.record.body.totals.iter().map(|(unit, total)| (unit.to_string(), *total as i64)).collect();
        [ledger, record]
    }
}

fn play(engine: &mut Engine, steps: &[Step]) -> TestCaseResult {
    let mut stored = Stored {
        engine,
        fence: Fence(1),
        record: Record {
            head: Head { fence: Fence(0), epoch: Epoch(1), version: Version(0) },
            body: RecordBody::new(TierName::new("one").unwrap()),
        },
        ledger: Vec::new(),
        keys: HashMap::new(),
    };
    let mut reference = Reference::new();
    // What the engine calls each charge of the reference, in its order.
    let mut charges: Vec<ChargeId> = Vec::new();
    let mut now = Micros(1_700_000_000_000_000);
    for step in steps {
        match step {
            Step::Pause(us) => now = now.saturating_add(*us),
            Step::Tier(tier) => {
                let name = TIERS[*tier].split('"').nth(1).unwrap();
                stored.record.body.tier = TierName::new(name).unwrap();
                reference.tier = *tier;
            }
            Step::Turn => stored.fence = stored.fence.next(),
            Step::Forget => {
                stored.keys.clear();
                reference.forget();
            }
            Step::Ask(operations) => {
                let operations: Vec<Operation> = operations.iter().map(|one| one.operation(&charges, now)).collect();
                let costs = step.costs();
                let check = |(operation, cost)| Check {
                    user: UserId::new("u").unwrap(),
                    operation,
                    cost,
                    attributes: Vec::new(),
                    key: None,
                    at: Some(now),
                    deadline: DeadlineMs::QUOTA,
                    session: None,
                    origin: None,
                };
                let checks: Vec<Check> = operations.into_iter().zip(costs).map(check).collect();
                let expected = reference.decide(&checks, &charges);
                let verdicts = stored.decide(checks);
                for verdict in &verdicts {
                    if let Verdict::Admitted { answer, replayed: false, .. } = verdict
                        && matches!(answer.effect, cellar_model::Effect::Plain | cellar_model::Effect::Reserved { .. })
                    {
                        charges.extend(answer.charge);
                    }
                }
                let told: Vec<Told> = verdicts.iter().map(Told::of).collect();
                prop_assert_eq!(told, expected, "at {:?}", now);
            }
        }
        prop_assert_eq!(charges.len(), reference.charges());
        let [ledger, record] = stored.books();
        prop_assert_eq!(&ledger, &record, "the books");
        prop_assert_eq!(&record, &reference.totals, "what was charged");
    }
    Ok(())
}

#[test]
fn every_history_is_decided_as_the_reference_says_to_the_unit() {
    let host = Host::new(HostLimits::default()).unwrap();
    let engine = Engine {
        tiers: tiers(&host),
        stores: Stores::new(&host),
        compiled: CompiledSettings::default(),
        clock: Clock::new(ClockMode::Virtual),
    };
    let engine = std::cell::RefCell::new(engine);
    let cases = if std::env::var_os("CELLAR_TEST_FULL").is_some() { 20_000 } else { 4_000 };
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner.run(&strategy::steps(), |steps| play(&mut engine.borrow_mut(), &steps)).unwrap();
}

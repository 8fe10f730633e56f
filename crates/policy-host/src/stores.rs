//! The instances one worker decides with.

use crate::call::{Outcome, Request};
use crate::digest::Digest;
use crate::fault::Fault;
use crate::host::Host;
use crate::instance::Instance;
use crate::policy::Policy;
use std::sync::Arc;

/// One a worker: an instance of every policy version it asks, kept from call to call, thrown away
/// after any fault and made anew after a million calls.
pub struct Stores {
    /// At most `instances_max`: few enough that looking through them is the fastest search.
    kept: Vec<Kept>,
    instances_max: usize,
    /// Counts calls, so that `last_used` orders them.
    tick: u64,
    burnt: Burnt,
    /// The hash of the user whom the calls are for, if they are for one.
    user: Option<u64>,
    /// Whether its calls are counted with their artifact.
    serves: bool,
}

/// What all calls of one worker have cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Burnt {
    pub calls: u64,
    pub fuel: u64,
    /// By one call.
    pub fuel_most: u64,
}

struct Kept {
    digest: Digest,
    last_used: u64,
    instance: Instance,
}

impl Stores {
    pub fn new(host: &Host) -> Self {
        let instances_max = host.limits().instances_max.max(1);
        let (kept, burnt) = (Vec::with_capacity(instances_max), Burnt::default());
        Self { kept, instances_max, tick: 0, burnt, user: None, serves: false }
    }

    /// Of a worker that answers callers: what it burns is in the metrics of what it asks. What is only tried out
    /// is not.
    pub fn serving(host: &Host) -> Self {
        Self { serves: true, ..Self::new(host) }
    }

    /// Whom the calls from here on are for, by his hash: a policy that fails on one user is not asked for him
    /// for a while, and decides for others.
    pub fn asked_for(&mut self, user: Option<u64>) {
        self.user = user;
    }

    /// Asks `policy`. An empty `state` is a user it has not seen. A fault here says nothing about
    /// the next call: its instance is gone.
    pub fn decide(
        &mut self,
        policy: &Arc<Policy>,
        parameters: &[u8],
        state: &[u8],
        request: &Request<'_>,
    ) -> Result<Outcome, Fault> {
        self.ask(policy, |instance| instance.decide(&policy.version.limits, parameters, state, request))
    }

    /// A state that an earlier version wrote under `from_schema`, in this version's form.
    pub fn migrate(
        &mut self,
        policy: &Arc<Policy>,
        from_schema: u32,
        parameters: &[u8],
        state: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        self.ask(policy, |instance| instance.migrate(&policy.version.limits, from_schema, parameters, state))
    }

    /// What the last call to `policy` here burnt: all of it, if it ended in a fault.
    pub fn fuel_burnt(&self, policy: &Policy) -> u64 {
        let kept = self.kept.iter().find(|kept| kept.digest == policy.digest());
        kept.map_or(policy.version.limits.decide_fuel, |kept| kept.instance.fuel_burnt(&policy.version.limits))
    }

    /// What all calls until now have burnt.
    pub fn burnt(&self) -> Burnt {
        self.burnt
    }

    fn count(&mut self, fuel: u64) {
        let Burnt { calls, fuel: sum, fuel_most } = self.burnt;
        self.burnt = Burnt { calls: calls + 1, fuel: sum.saturating_add(fuel), fuel_most: fuel_most.max(fuel) };
    }

    fn ask<R>(&mut self, policy: &Policy, call: impl FnOnce(&mut Instance) -> Result<R, Fault>) -> Result<R, Fault> {
        if !policy.breaker.admits(self.user) {
            return Err(Fault::BreakerOpen);
        }
        let answer = match self.place(policy) {
            Ok(place) => {
                let answer = call(&mut self.kept[place].instance);
                let fuel = self.kept[place].instance.fuel_burnt(&policy.version.limits);
                self.count(fuel);
                if self.serves {
                    policy.version.fuel.count(fuel);
                }
                match answer {
                    // A refusal to migrate is an answer: the policy is sound.
                    Err(fault) if !matches!(fault, Fault::NotMigrated { .. }) => {
                        self.kept.swap_remove(place);
                        Err(fault)
                    }
                    answer => {
                        policy.breaker.succeeded(self.user);
                        return answer;
                    }
                }
            }
            Err(fault) => Err(fault),
        };
        policy.breaker.failed(self.user);
        if let Err(fault) = &answer {
            tracing::debug!(?policy, kind = fault.kind(), error = %fault, "policy fault");
        }
        answer
    }

    /// Where the instance of `policy` is kept, made if it is missing or worn.
    fn place(&mut self, policy: &Policy) -> Result<usize, Fault> {
        self.tick += 1;
        let digest = policy.digest();
        if let Some(place) = self.kept.iter().position(|kept| kept.digest == digest) {
            if self.kept[place].instance.worn(&policy.version.limits) {
                self.kept[place].instance = Instance::new(&policy.version)?;
            }
            self.kept[place].last_used = self.tick;
            return Ok(place);
        }
        if self.kept.len() >= self.instances_max {
            let oldest = self.kept.iter().enumerate().min_by_key(|(_, kept)| kept.last_used);
            if let Some(place) = oldest.map(|(place, _)| place) {
                self.kept.swap_remove(place);
            }
        }
        let instance = Instance::new(&policy.version)?;
        self.kept.push(Kept { digest, last_used: self.tick, instance });
        Ok(self.kept.len() - 1)
    }
}

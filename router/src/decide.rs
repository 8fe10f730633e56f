//! Checks to their users' home cells, and verdicts back.

use crate::app::Shared;
use crate::trail::{Step, Trail};
use cellar_model::{CellName, Check, Refusal, TryAgain, UserId, Verdict};
use cellar_server::Decider;
use futures::future::join_all;
use std::collections::HashMap;
use tokio::time::Instant;

/// What a caller of a router is answered with comes from here: never `Elsewhere`, never `Frozen`.
#[derive(Clone)]
pub(crate) struct Forwarder {
    app: Shared,
}

/// A check on its way, and its place among those it came with.
struct Travelling {
    place: usize,
    check: Check,
    trail: Trail,
    until: Instant,
}

impl Decider for Forwarder {
    async fn decide(&self, checks: Vec<Check>) -> Vec<Verdict> {
        let Some(world) = self.app.world() else {
            return vec![Verdict::try_again(TryAgain::NotReady); checks.len()];
        };
        let mut verdicts = vec![Verdict::try_again(TryAgain::NotReady); checks.len()];
        let now = Instant::now();
        let mut begun = Vec::with_capacity(checks.len());
        for (place, check) in checks.into_iter().enumerate() {
            if let Some(trail) = self.app.begin(&world, &check.user) {
                let until = now + check.deadline.duration();
                begun.push(Travelling { place, check, trail, until });
            }
        }
        if begun.len() == 1
            && let Some(one) = begun.pop()
        {
            let place = one.place;
            verdicts[place] = self.decide_one(one).await;
            return verdicts;
        }
        for (place, verdict) in self.decide_many(begun).await {
            verdicts[place] = verdict;
        }
        verdicts
    }
}

impl Forwarder {
    pub(crate) fn new(app: Shared) -> Self {
        Self { app }
    }

    async fn decide_one(&self, mut one: Travelling) -> Verdict {
        loop {
            let gatherer = one.trail.cell.gatherer.clone();
            let (checks, mut verdicts) = gatherer.ask(vec![one.check], one.until).await;
            let verdict = verdicts.pop().unwrap_or_else(|| Verdict::try_again(TryAgain::Unknown));
            let Some(check) = checks.and_then(|mut checks| checks.pop()) else { return verdict };
            one.check = check;
            match self.after(&mut one.trail, &one.check.user, verdict, one.until).await {
                Ok(verdict) => return verdict,
                Err(Again) => {}
            }
        }
    }

    /// One call a cell first; then each of those that have further to go by itself.
    async fn decide_many(&self, begun: Vec<Travelling>) -> Vec<(usize, Verdict)> {
        let mut by_cell: HashMap<CellName, Vec<Travelling>> = HashMap::new();
        for one in begun {
            by_cell.entry(one.trail.cell.name.clone()).or_default().push(one);
        }
        let asked = join_all(by_cell.into_values().map(|group| self.ask_together(group))).await;
        let settled = asked.into_iter().flatten().map(|(one, verdict)| self.settle(one, verdict));
        join_all(settled).await
    }

    /// Checks of one cell, together. A check that did not come back has its verdict for good.
    async fn ask_together(&self, group: Vec<Travelling>) -> Vec<(Result<Travelling, usize>, Verdict)> {
        let Some(first) = group.first() else { return Vec::new() };
        let gatherer = first.trail.cell.gatherer.clone();
        let until = group.iter().map(|one| one.until).max().unwrap_or(first.until);
        let (mut ways, mut checks) = (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
        for one in group {
            ways.push((one.place, one.trail, one.until));
            checks.push(one.check);
        }
        let (checks, verdicts) = gatherer.ask(checks, until).await;
        let mut checks = checks.map(Vec::into_iter);
        let back = ways.into_iter().zip(verdicts).map(|((place, trail, until), verdict)| {
            let check = checks.as_mut().and_then(Iterator::next);
            (check.map(|check| Travelling { place, check, trail, until }).ok_or(place), verdict)
        });
        back.collect()
    }

    async fn settle(&self, one: Result<Travelling, usize>, verdict: Verdict) -> (usize, Verdict) {
        let mut one = match one {
            Ok(one) => one,
            Err(place) => return (place, verdict),
        };
        let place = one.place;
        match self.after(&mut one.trail, &one.check.user, verdict, one.until).await {
            Ok(verdict) => (place, verdict),
            Err(Again) => (place, self.decide_one(one).await),
        }
    }

    /// A verdict for the caller, or word to go on to the trail's next cell.
    async fn after(
        &self,
        trail: &mut Trail,
        user: &UserId,
        verdict: Verdict,
        until: Instant,
    ) -> Result<Verdict, Again> {
        let step = match verdict {
            Verdict::Refused(Refusal::Elsewhere { home, epoch }) => {
                let home = home.map(|home| (home, epoch));
                self.app.misdirected(trail, user, home, until).await
            }
            Verdict::Refused(Refusal::Frozen) => self.app.frozen(trail, until).await,
            Verdict::Refused(Refusal::TryAgain { reason: TryAgain::CellDown }) => {
                self.app.down(trail, user, until).await
            }
            verdict => return Ok(verdict),
        };
        match step {
            Step::GiveUp(refusal) => Ok(Verdict::Refused(refusal)),
            Step::Again if Instant::now() >= until => Ok(Verdict::try_again(TryAgain::Deadline)),
            Step::Again => Err(Again),
        }
    }
}

struct Again;

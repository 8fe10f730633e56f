//! Checks on their way: to the cells of their users, and on to others when they have moved.

use super::enrol::{Enrolments, FirstSight};
use crate::cells::{Fault, Said};
use crate::route::{Journey, Map, Onward, Routing};
use cellar_model::{CellName, Check, Operation, Refusal, TryAgain, Verdict};
use cellar_server::{Decider, Enrolment};
use futures::StreamExt;
use futures::future::join_all;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// Checks of one batch that are sent on at once, each by itself: their cells' queues gather them again.
const SENT_ON_MAX: usize = 64;

/// Decides checks by asking their users' cells.
#[derive(Clone)]
pub(crate) struct Forwarder {
    routing: Arc<Routing>,
    enrolments: Arc<Enrolments>,
    /// Whether callers may say what time it is.
    virtual_clock: bool,
}

/// A check and how far it has come.
struct Traveller {
    check: Check,
    journey: Journey,
    sight: FirstSight,
    until: Instant,
}

impl Decider for Forwarder {
    async fn decide(&self, checks: Vec<Check>) -> Vec<Verdict> {
        self.decide_by(checks, None).await
    }

    async fn decide_or_enrol(&self, checks: Vec<Check>, by: Enrolment) -> Vec<Verdict> {
        self.decide_by(checks, Some(&by)).await
    }
}

impl Forwarder {
    pub(crate) fn new(routing: Arc<Routing>, enrolments: Arc<Enrolments>, virtual_clock: bool) -> Self {
        Self { routing, enrolments, virtual_clock }
    }

    async fn decide_by(&self, mut checks: Vec<Check>, by: Option<&Enrolment>) -> Vec<Verdict> {
        let map = match self.routing.known_map() {
            Ok(map) => map,
            Err(refusal) => return checks.iter().map(|_| Verdict::Refused(refusal.clone())).collect(),
        };
        if checks.len() > 1 {
            return self.batch(&map, checks, by).await;
        }
        let Some(check) = checks.pop() else { return Vec::new() };
        vec![self.single(&map, check, by).await]
    }

    async fn single(&self, map: &Map, check: Check, by: Option<&Enrolment>) -> Verdict {
        if let Some(refusal) = self.refuse(&check) {
            return refusal;
        }
        let traveller = self.depart(map, check, by);
        let said = ask_one(map, &traveller).await;
        self.arrive(map, traveller, said).await
    }

    /// Every cell gets its users' checks in one piece; who is not at home there goes on alone.
    async fn batch(&self, map: &Map, checks: Vec<Check>, by: Option<&Enrolment>) -> Vec<Verdict> {
        let mut verdicts: Vec<Option<Verdict>> = checks.iter().map(|check| self.refuse(check)).collect();
        let travellers: Vec<Traveller> = checks.into_iter().map(|check| self.depart(map, check, by)).collect();
        let mut by_cell: HashMap<&CellName, Vec<usize>> = HashMap::new();
        for (n, traveller) in travellers.iter().enumerate() {
            if verdicts[n].is_none() {
                by_cell.entry(&traveller.journey.cell).or_default().push(n);
            }
        }
        let answers = join_all(by_cell.into_iter().map(|(cell, places)| {
            let travellers = &travellers;
            async move {
                let checks: Vec<&Check> = places.iter().map(|n| &travellers[*n].check).collect();
                let until = places.iter().map(|n| travellers[*n].until).max();
                let until = until.unwrap_or_else(Instant::now);
                let answers = ask(map, cell, &checks, until).await;
                places.into_iter().zip(answers)
            }
        }))
        .await;
        let mut said: Vec<Option<Said>> = travellers.iter().map(|_| None).collect();
        for (n, answer) in answers.into_iter().flatten() {
            said[n] = Some(answer);
        }
        let mut going_on = Vec::new();
        for (n, (traveller, said)) in travellers.into_iter().zip(said).enumerate() {
            match said {
                None => {}
                Some(Ok(verdict)) if is_final(&verdict) => verdicts[n] = Some(verdict),
                Some(said) => going_on.push((n, traveller, said)),
            }
        }
        let mut arrived = futures::stream::iter(going_on)
            .map(|(n, traveller, said)| async move { (n, self.arrive(map, traveller, said).await) })
            .buffer_unordered(SENT_ON_MAX);
        while let Some((n, verdict)) = arrived.next().await {
            verdicts[n] = Some(verdict);
        }
        verdicts.into_iter().map(|verdict| verdict.unwrap_or(Verdict::try_again(TryAgain::Unknown))).collect()
    }

    /// Time said by a caller is for virtual clocks: refused before it costs a call.
    fn refuse(&self, check: &Check) -> Option<Verdict> {
        let odd = check.at.is_some() && !self.virtual_clock;
        odd.then_some(Verdict::Refused(Refusal::ClockNotVirtual))
    }

    fn depart(&self, map: &Map, check: Check, by: Option<&Enrolment>) -> Traveller {
        let journey = self.routing.depart(map, &check.user);
        // What closes a charge, or changes a user's terms, is for a user who is there; so is who has a session.
        let first = matches!(check.operation, Operation::Consume | Operation::Peek | Operation::Reserve { .. })
            && check.session.is_none();
        let sight = FirstSight::from(by.filter(|_| first).cloned());
        Traveller { journey, sight, until: Instant::now() + check.deadline.duration(), check }
    }

    /// Goes on from what a cell said to what the caller is told, which is never "elsewhere" or "frozen".
    async fn arrive(&self, map: &Map, mut traveller: Traveller, mut said: Said) -> Verdict {
        let mut pause = super::Pause::default();
        loop {
            let until = traveller.until;
            let Traveller { check, journey, sight, .. } = &mut traveller;
            let user = &check.user;
            let onward = match said {
                Ok(Verdict::Refused(Refusal::Elsewhere { home, epoch })) => {
                    let told = home.map(|home| (home, epoch));
                    timeout_at(until, self.routing.elsewhere(map, user, journey, told)).await
                }
                Ok(Verdict::Refused(Refusal::Frozen)) => {
                    if let Err(reason) = pause.take(map, &journey.cell, until).await {
                        return Verdict::try_again(reason);
                    }
                    Ok(Onward::Ask)
                }
                Ok(verdict) => return verdict,
                Err(Fault::Down) => timeout_at(until, self.routing.cell_down(map, user, journey)).await,
                Err(fault) => return Verdict::try_again(fault.reason()),
            };
            match onward {
                Ok(Onward::Ask) => {}
                Ok(Onward::Absent) => {
                    if let Err(refusal) = self.enrolments.meet(map, user, journey, sight, until).await {
                        return Verdict::Refused(refusal);
                    }
                }
                Ok(Onward::Refuse(refusal)) => return Verdict::Refused(refusal),
                Err(_) => return Verdict::try_again(TryAgain::Deadline),
            }
            let Some(left) = super::left(until) else { return Verdict::try_again(TryAgain::Deadline) };
            check.deadline = left;
            said = ask_one(map, &traveller).await;
        }
    }
}

async fn ask(map: &Map, cell: &CellName, checks: &[&Check], until: Instant) -> Vec<Said> {
    match map.cell(cell) {
        Some(cell) => cell.decide(checks, until).await,
        // A cell that the topology does not name cannot be reached.
        None => vec![Err(Fault::Down); checks.len()],
    }
}

async fn ask_one(map: &Map, traveller: &Traveller) -> Said {
    let said = ask(map, &traveller.journey.cell, &[&traveller.check], traveller.until).await.pop();
    said.unwrap_or(Err(Fault::Silent))
}

fn is_final(verdict: &Verdict) -> bool {
    !matches!(verdict, Verdict::Refused(Refusal::Elsewhere { .. } | Refusal::Frozen))
}

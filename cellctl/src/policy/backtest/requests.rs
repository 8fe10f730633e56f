//! What is asked again, wherever it comes from: requests in little memory, one user after another.

use cellar_model::{Amount, ChargeId, Cost, GrantTerms, Micros, OverrideTerms, Unit};
use std::collections::HashMap;
use std::ops::Range;

/// Requests of one backtest: below a gigabyte, and twice that while the list grows.
pub(super) const REQUESTS_MAX: usize = crate::trace::REQUESTS_MAX;

pub(super) struct Request {
    pub(super) at: Micros,
    /// Place in `users`, and in `costs`.
    pub(super) user: u32,
    pub(super) cost: u32,
    /// The name it had in the ledger; a trace's are numbered in the order of its lines.
    pub(super) charge: ChargeId,
    pub(super) act: Act,
}

// What ten million of them take is documented.
const _: () = assert!(size_of::<Request>() <= 64);

/// What is asked. Boxed where it is rare: most are consumes.
pub(super) enum Act {
    Consume,
    Reserve,
    /// A reservation or a charge is closed. For a settle `moved` is what the ledger moved by, and so what was
    /// used is the sum of all that was moved under the charge.
    Settle(Box<Closing>),
    Refund(Box<Closing>),
    /// Each side sees to that by itself, at this time.
    Expire(Box<Closing>),
    Grant(Box<GrantTerms>),
    Override(Box<OverrideTerms>),
}

pub(super) struct Closing {
    pub(super) of: ChargeId,
    pub(super) moved: Vec<(Unit, i64)>,
}

/// All requests, sorted by user, time and name.
#[derive(Default)]
pub(super) struct Requests {
    requests: Vec<Request>,
    costs: Vec<Cost>,
    users: Vec<Who>,
    /// Where each user's requests stand; the longest first, so that no worker is left with one at the end.
    spans: Vec<Range<usize>>,
    /// Earlier ones are decided and not counted.
    pub(super) counted_from: Micros,
}

/// Whom a report may name: never by a whole id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The last eight characters of a longer id.
    Tail(String),
    /// By the order in which users appear, from 1 on: of ids that are short, or e-mails.
    Number(u32),
}

const TAIL_CHARS: usize = 8;

impl Who {
    pub(super) fn of(id: &str, number: u32) -> Self {
        let chars = id.chars().count();
        if chars <= TAIL_CHARS || id.contains('@') {
            return Self::Number(number);
        }
        Self::Tail(id.chars().skip(chars - TAIL_CHARS).collect())
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Who::Tail(tail) => write!(f, "…{tail}"),
            Who::Number(number) => write!(f, "no. {number}"),
        }
    }
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn spans(&self) -> &[Range<usize>] {
        &self.spans
    }

    pub(super) fn of_span(&self, span: &Range<usize>) -> &[Request] {
        &self.requests[span.clone()]
    }

    pub(super) fn cost(&self, request: &Request) -> &Cost {
        &self.costs[request.cost as usize]
    }

    pub(super) fn who(&self, user: u32) -> &Who {
        &self.users[user as usize]
    }

    /// Units in the order of their names, over all costs.
    pub(super) fn units(&self) -> Vec<Unit> {
        let mut units: Vec<Unit> = self.costs.iter().flat_map(Cost::iter).map(|(unit, _)| unit.clone()).collect();
        units.sort();
        units.dedup();
        units
    }

    /// The first and the last that count.
    pub(super) fn times(&self) -> Option<(Micros, Micros)> {
        let counted = || self.requests.iter().map(|request| request.at).filter(|at| *at >= self.counted_from);
        Some((counted().min()?, counted().max()?))
    }
}

/// Requests on their way in.
#[derive(Default)]
pub(super) struct Gathering {
    pub(super) requests: Vec<Request>,
    costs: Vec<Cost>,
    places: HashMap<Vec<(Unit, u64)>, u32>,
    users: Vec<Who>,
}

impl Gathering {
    /// Equal costs are kept once.
    pub(super) fn cost(&mut self, units: Vec<(Unit, u64)>) -> Result<u32, String> {
        if let Some(place) = self.places.get(&units) {
            return Ok(*place);
        }
        let amounts = units.iter().map(|(unit, amount)| Ok((unit.clone(), Amount::new(*amount)?)));
        let amounts = amounts.collect::<Result<Vec<_>, cellar_model::AmountError>>().map_err(|e| e.to_string())?;
        // There are no more costs than requests, which fit.
        let place = self.costs.len() as u32;
        self.costs.push(Cost::of(amounts)?);
        self.places.insert(units, place);
        Ok(place)
    }

    /// One more user, by his id.
    pub(super) fn user(&mut self, id: &str) -> u32 {
        let user = self.users.len() as u32;
        self.users.push(Who::of(id, user + 1));
        user
    }

    pub(super) fn users(&self) -> usize {
        self.users.len()
    }

    /// One user after another, each in the order of time; requests of one moment as they were made.
    pub(super) fn finish(mut self, counted_from: Micros) -> Requests {
        self.requests.sort_unstable_by_key(|request| (request.user, request.at, place(request.charge)));
        let mut spans = Vec::new();
        let mut from = 0;
        while from < self.requests.len() {
            let user = self.requests[from].user;
            let length = self.requests[from..].partition_point(|request| request.user == user);
            spans.push(from..from + length);
            from += length;
        }
        spans.sort_by_key(|span| std::cmp::Reverse(span.len()));
        Requests { requests: self.requests, costs: self.costs, users: self.users, spans, counted_from }
    }
}

fn place(charge: ChargeId) -> (u64, u64, u64, u32) {
    (charge.epoch.0, charge.fence.0, charge.version.0, charge.place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::{Epoch, Fence, Version};

    #[test]
    fn nobody_is_named_by_a_whole_id_or_an_e_mail() {
        assert_eq!(Who::of("local_06h0qt4rc9rlh3bjimmfbvvft0", 3).to_string(), "…mfbvvft0");
        assert_eq!(Who::of("ada", 3).to_string(), "no. 3");
        assert_eq!(Who::of("ada@example.org", 4).to_string(), "no. 4");
        assert_eq!(Who::of("überlänge", 5).to_string(), "…berlänge");
    }

    #[test]
    fn requests_stand_by_user_and_time_and_equal_costs_once() {
        let mut gathering = Gathering::default();
        let (a, b) = (gathering.user("a"), gathering.user("b"));
        for (n, (user, at)) in [(b, 5), (a, 9), (b, 3), (a, 9)].into_iter().enumerate() {
            let cost = gathering.cost(vec![(Unit::requests(), 1)]).unwrap();
            let charge = ChargeId { epoch: Epoch(0), fence: Fence(0), version: Version(n as u64), place: 0 };
            gathering.requests.push(Request { at: Micros(at), user, cost, charge, act: Act::Consume });
        }
        let requests = gathering.finish(Micros(0));
        let order = |span: &Range<usize>| {
            requests.of_span(span).iter().map(|r| (r.user, r.at.0, r.charge.version.0)).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = requests.spans().iter().map(order).collect();
        all.sort();
        assert_eq!(all, [vec![(a, 9, 1), (a, 9, 3)], vec![(b, 3, 2), (b, 5, 0)]]);
        assert_eq!(requests.costs.len(), 1);
    }
}

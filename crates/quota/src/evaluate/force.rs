//! A charge that is true already, taken from whatever the record holds now: it is never denied.

use super::Evaluation;
use super::ask::{Question, slot_state};
use crate::entry::{Act, LedgerCheck};
use crate::record::{RESERVATIONS_MAX, RecordBody, Reservation};
use cellar_model::{ChargeId, Effect, Micros, RESERVATION_S_MAX};
use cellar_policy_host as host;

impl Evaluation<'_> {
    /// Does to `body` what `check` did to the record it was decided on.
    ///
    /// Policies settle it: above a limit an amount is charged all the same. One that faults misses it in
    /// its own state; the totals, which the ledger adds up to, have it.
    pub(crate) fn force(&mut self, body: &mut RecordBody, check: &LedgerCheck) {
        let mut taken_at = check.at;
        match &check.act {
            Act::Consume => {}
            Act::Reserve { on_expiry } => {
                if body.reservations.len() < RESERVATIONS_MAX {
                    body.reservations.push(Reservation {
                        charge: check.charge,
                        at: check.at,
                        expires_at: expiry(check),
                        on_expiry: *on_expiry,
                        charges: check.charges.iter().map(|(unit, n)| (unit.clone(), (*n).max(0) as u64)).collect(),
                        takes: check.takes.clone(),
                    });
                }
            }
            Act::Settle { of } | Act::Refund { of } | Act::Expire { of } => taken_at = close(body, *of, check.at),
            Act::Grant(terms) => _ = self.grant(body, check.charge, terms),
            Act::Override(terms) => _ = self.override_slot(body, check.charge, terms),
            // Its cell repeats it until it is committed: what the account's row says by now counts, and not what
            // it said then.
            Act::Adopt(_) | Act::Erase => {}
        }
        let tier = self.tier;
        for slot in &tier.slots {
            let moved: i64 = check.charges.iter().filter(|(unit, _)| *unit == slot.unit).map(|(_, n)| *n).sum();
            if moved == 0 {
                continue;
            }
            let (cost, held) = if moved > 0 { (moved.unsigned_abs(), 0) } else { (0, moved.unsigned_abs()) };
            let operation = host::Operation::Settle;
            let question = Question { operation, now: self.now, cost, held, held_at: taken_at, attributes: &[] };
            if let Ok(outcome) = self.ask(slot, body, &question)
                && let Some(state) = outcome.state
            {
                body.put_state(slot_state(slot, state), |held| tier.keeps(held));
            }
        }
        for (unit, amount) in &check.charges {
            body.charge(unit, *amount);
        }
        self.finish(body);
    }
}

/// When a reservation ends whose answer may be lost: rather too late than before its owner settles it.
fn expiry(check: &LedgerCheck) -> Micros {
    match check.key.as_ref().map(|key| &key.answer.effect) {
        Some(Effect::Reserved { expires_at }) => *expires_at,
        _ => check.at.saturating_add(u64::from(RESERVATION_S_MAX) * 1_000_000),
    }
}

/// Ends reservation `of`. Returns when it was taken, as far as that is known.
fn close(body: &mut RecordBody, of: ChargeId, otherwise: Micros) -> Micros {
    let at = body.reservations.iter().find(|open| open.charge == of).map_or(otherwise, |open| open.at);
    body.reservations.retain(|open| open.charge != of);
    at
}

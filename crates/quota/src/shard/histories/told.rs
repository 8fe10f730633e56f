//! What is compared of a verdict.

use cellar_model::{Effect, Refusal, Verdict};
use std::collections::BTreeMap;

/// A verdict, as far as it is compared: how it ends, and of each slot limit, remaining and grants.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) end: String,
    pub(super) slots: Vec<(String, u64, u64, u64)>,
}

impl Told {
    pub(super) fn of(verdict: &Verdict) -> Self {
        let (end, answer) = match verdict {
            Verdict::Admitted { answer, replayed, .. } => {
                let effect = match &answer.effect {
                    Effect::Plain => "charged".to_owned(),
                    Effect::Reserved { expires_at } => format!("reserved until {}", expires_at.0),
                    Effect::Settled { overshoot } => {
                        let above: BTreeMap<String, u64> =
                            overshoot.iter().map(|(unit, above)| (unit.to_string(), *above)).collect();
                        format!("settled, {above:?} above")
                    }
                    Effect::Refunded => "refunded".to_owned(),
                    Effect::Changed => "changed".to_owned(),
                };
                (format!("{effect}{}", if *replayed { ", again" } else { "" }), Some(answer))
            }
            Verdict::Denied { denial, .. } => (format!("denied by {:?}", denial.violated), Some(&denial.answer)),
            Verdict::Seen { answer, .. } => ("seen".to_owned(), Some(answer)),
            Verdict::Refused(Refusal::Invalid(problems)) => (format!("invalid {}", problems[0].pointer), None),
            Verdict::Refused(Refusal::AboveLimit { slot, .. }) => (format!("above the limit of {slot}"), None),
            Verdict::Refused(refusal) => (format!("{refusal:?}"), None),
        };
        let slots = answer.into_iter().flat_map(|answer| &answer.slots);
        let slots = slots.map(|slot| (slot.slot.to_string(), slot.limit, slot.remaining, slot.granted)).collect();
        Self { end, slots }
    }

    pub(super) fn refused(end: impl Into<String>) -> Self {
        Self { end: end.into(), slots: Vec::new() }
    }
}

//! What an account's row changes in its record: tier, block, and the end.

use super::{Charged, Decision, Evaluation};
use crate::entry::Act;
use crate::record::{Head, RecordBody};
use cellar_model::{AccountTerms, Answer, ChargeId, Effect, Micros, Revision};

impl Evaluation<'_> {
    /// Takes over tier and block. A repeat changes nothing, and is not committed.
    pub(super) fn adopt(&mut self, body: &mut RecordBody, charge: ChargeId, terms: &AccountTerms) -> Decision {
        if body.tier == terms.tier && body.flags.blocked == terms.blocked {
            return Decision::Look(self.answer(body, None, &[]));
        }
        body.tier = terms.tier.clone();
        body.flags.blocked = terms.blocked;
        self.changed(body, charge, Act::Adopt(Box::new(terms.clone())))
    }
}

/// Empties the record of a user whom Postgres has erased. The totals stay, as the ledger's amounts do. A repeat
/// changes nothing, and says the same version.
pub(crate) fn erase(body: &mut RecordBody, held: Head, charge: ChargeId, now: Micros, catalog: Revision) -> Decision {
    let erased = body.flags.erased;
    let answer = Answer {
        charge: None,
        version: if erased { held.version } else { charge.version },
        tier: body.tier.clone(),
        catalog_revision: catalog,
        at: now,
        slots: Vec::new(),
        effect: Effect::Changed,
    };
    if erased {
        return Decision::Look(answer);
    }
    let totals = std::mem::take(&mut body.totals);
    *body = RecordBody { totals, now: body.now.max(now), ..RecordBody::new(body.tier.clone()) };
    body.flags.erased = true;
    Decision::Admit {
        answer,
        charged: Charged { act: Act::Erase, charges: Vec::new(), takes: Vec::new() },
        degraded: None,
    }
}

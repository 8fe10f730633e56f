//! The rules of claims, each a switch. All on, the model is the protocol; with one off it is the protocol
//! without that rule, and has to be found wrong.

use super::state::{self, Cell, Decision, Due, Home, Row};
use cellar_directory::claim_rules::{self, After, Met};
use cellar_directory::{CellRows, Decided, Holding, Joined, Opened, Release, Settlement};

rules! {
    /// `meet`: another intent's claim ends it.
    anothers_claim_ends_it,
    /// `meet`: a claim by the same intent at another cell is followed, not written beside.
    follows_the_claim_it_meets,
    /// `open`: a user is created only while the home says CREATING by this intent.
    creates_only_into_its_own_home,
    /// A home that is another's is taken over after its intent was refused.
    takes_over_after_a_refusal,
    /// The intent of a home is asked of the cell that the home names.
    asks_the_cell_of_the_home,
    /// The cell's transaction finds an intent that was refused.
    a_refused_intent_does_not_commit,
    /// `settle`: the cell that the claim names, and no other.
    only_the_named_cell_settles,
    /// `settle`: an open intent is refused before its claim is freed.
    refuses_before_it_frees,
    /// `is_present` compares the e-mail. (The intent as well; nothing is known to go wrong without that.)
    present_by_email,
    /// `after_change`: a claim written since the rows were read is looked at anew.
    holds_only_the_claim_it_read,
    /// A sign-up that finds itself committed before settles its claim by the rows.
    a_repeat_looks_at_the_rows,
    /// What settles a claim of a committed intent makes the home ACTIVE first.
    the_home_before_the_claim,
    /// Every change of a claim names the op it read.
    changes_name_the_op,
    /// A write without an answer is followed by a serial read.
    unanswered_writes_are_read_back,
    /// The old e-mail is released after the new one is committed.
    commits_before_it_releases,
    /// That it is due is written in the same transaction.
    the_release_is_due_with_the_change,
    /// `Release::is_of` compares the intent.
    releases_only_its_own_claim,
    /// A release makes the home ACTIVE first.
    the_home_before_the_release,
    /// Claims left half way are looked for.
    claims_are_reaped,
    /// An e-mail is claimed under every pepper that the process has.
    claims_under_every_pepper,
    /// `join`: of claims by one intent that disagree the last pepper's is followed.
    follows_the_last_pepper,
    /// `join`: a claim is taken from a cell after the cell has refused its intent.
    refuses_before_it_passes_on,
    /// `join`: what a cell has committed stays as it is.
    what_is_committed_stays,
    /// Who finds the first claim another's looks under the next pepper.
    looks_under_the_next,
    /// `is_ours`: a claim under a pepper that the process does not have is left alone.
    leaves_other_peppers_alone,
    /// `settle`: a held claim of who has left the e-mail is freed.
    frees_what_was_left,
    /// The first pepper is dropped when everyone holds a claim under the next.
    drops_the_first_after_the_backfill,
}

impl Rules {
    pub fn meet(&self, met: &Row, intent: u8, cell: u8) -> Met {
        match claim_rules::meet(&met.claim(), &state::intent(intent), &state::cell(cell)) {
            Met::Taken if !self.anothers_claim_ends_it => Met::Mine,
            Met::Elsewhere if !self.follows_the_claim_it_meets => Met::Mine,
            met => met,
        }
    }

    pub fn open(&self, met: &Home, claim: &Row) -> Opened {
        let opened = claim_rules::open(met.row(), &state::intent(claim.intent), &state::cell(claim.cell));
        if self.creates_only_into_its_own_home { opened } else { Opened::Creating { epoch: met.row().epoch } }
    }

    pub fn settle(&self, claim: &Row, at: u8, rows: &Cell) -> Settlement {
        let decided = decided(rows, claim.intent);
        let holding = rows.users[usize::from(claim.user)].map_or(Holding::Nobody, |present| {
            let email = if self.present_by_email { present.email } else { claim.email };
            // A process that has the first pepper only can hash under no other.
            let under = if self.leaves_other_peppers_alone { claim.pepper } else { 0 };
            Holding::Owned { email: state::email(under, email), intent: state::intent(present.intent) }
        });
        let at = if self.only_the_named_cell_settles { at } else { claim.cell };
        let live = [state::pepper(0), state::pepper(1)];
        match claim_rules::settle(&claim.claim(), &state::cell(at), &live, &CellRows { decided, holding }) {
            Settlement::Refuse if !self.refuses_before_it_frees => Settlement::Free,
            Settlement::Free if claim.held && !self.frees_what_was_left => Settlement::Leave,
            settlement => settlement,
        }
    }

    pub fn join(&self, earlier: &Row, last: &Row, rows: &Cell) -> Joined {
        let mut decided = decided(rows, earlier.intent);
        if !self.what_is_committed_stays {
            decided = decided.map(|_| Decided::Refused);
        }
        match claim_rules::join(&earlier.claim(), &last.claim(), decided) {
            Joined::Refuse if !self.refuses_before_it_passes_on => Joined::PassOn,
            joined => joined,
        }
    }

    pub fn after_change(&self, read: &Row, now: Option<&Row>) -> After {
        match claim_rules::after_change(&read.claim(), now.map(Row::claim).as_ref()) {
            After::LookAgain if !self.holds_only_the_claim_it_read => After::Repeat,
            after => after,
        }
    }

    pub fn is_of(&self, due: &Due, claim: &Row) -> bool {
        let intent = if self.releases_only_its_own_claim { due.intent } else { claim.intent };
        let user = if self.releases_only_its_own_claim { due.user } else { claim.user };
        let email = state::email(due.pepper, due.email);
        let release = Release { email, user: state::user(user), intent: state::intent(intent) };
        release.is_of(&claim.claim())
    }
}

fn decided(rows: &Cell, intent: u8) -> Option<Decided> {
    rows.intents[usize::from(intent)].map(|decision| match decision {
        Decision::Committed { .. } => Decided::Committed,
        Decision::Refused => Decided::Refused,
    })
}

//! `claims` in CQL.

use super::classify::Ask;
use super::columns::Columns;
use super::{CqlDirectory, statements::*};
use crate::traced::{CQL, traced};
use crate::{Claim, ClaimCursor, ClaimPage, ClaimState, Claims, DirectoryError, EmailHash, Intent, Op, Written};
use cellar_model::{CellName, UserId};

const WHAT: &str = "claim";
const WHOLE: [&str; 7] = ["scope", "value_hash", "user_id", "cell", "intent", "state", "op"];

fn claim(mut row: Columns) -> Result<Claim, DirectoryError> {
    let corrupt = |cause: String| DirectoryError::corrupt(WHAT, cause);
    let state = match row.text("state")?.as_str() {
        "creating" => ClaimState::Creating,
        "held" => ClaimState::Held,
        "releasing" => ClaimState::Releasing,
        state => return Err(corrupt(format!("state {state}"))),
    };
    let (scope, hash) = (row.text("scope")?, row.digest("value_hash")?);
    Ok(Claim {
        email: EmailHash::of_scope(&scope, hash).ok_or_else(|| corrupt(format!("scope {scope}")))?,
        user: UserId::new(&row.text("user_id")?).map_err(|e| corrupt(e.to_string()))?,
        cell: CellName::new(&row.text("cell")?).map_err(|e| corrupt(e.to_string()))?,
        intent: Intent::new(&row.text("intent")?).map_err(|e| corrupt(e.to_string()))?,
        state,
        op: Op::new(&row.text("op")?).map_err(|e| corrupt(e.to_string()))?,
    })
}

fn state(state: ClaimState) -> &'static str {
    match state {
        ClaimState::Creating => "creating",
        ClaimState::Held => "held",
        ClaimState::Releasing => "releasing",
    }
}

impl CqlDirectory {
    async fn claim(&self, ask: Ask, email: &EmailHash) -> Result<Option<Claim>, DirectoryError> {
        self.optional(ask, WHAT, READ_CLAIM, (email.scope(), &email.hash[..])).await?.map(claim).transpose()
    }
}

impl Claims for CqlDirectory {
    async fn read_claim(&self, email: &EmailHash) -> Result<Option<Claim>, DirectoryError> {
        traced(CQL, self.claim(Ask::Read, email)).await
    }

    async fn read_claim_serially(&self, email: &EmailHash) -> Result<Option<Claim>, DirectoryError> {
        traced(CQL, self.claim(Ask::SerialRead, email)).await
    }

    async fn create_claim(&self, next: &Claim) -> Result<Written<Claim>, DirectoryError> {
        let (user, cell, intent) = (next.user.as_str(), next.cell.as_str(), next.intent.as_str());
        let values =
            (next.email.scope(), &next.email.hash[..], user, cell, intent, state(next.state), next.op.as_str());
        let decided = self.decide(WHAT, CREATE_CLAIM, values).await?;
        decided.meeting(&WHOLE, claim, self.read_claim_serially(&next.email)).await
    }

    async fn change_claim(&self, read: &Op, next: &Claim) -> Result<Written<Claim>, DirectoryError> {
        let (user, cell, intent) = (next.user.as_str(), next.cell.as_str(), next.intent.as_str());
        let (scope, hash) = (next.email.scope(), &next.email.hash[..]);
        let values = (user, cell, intent, state(next.state), next.op.as_str(), scope, hash, read.as_str());
        let decided = self.decide(WHAT, CHANGE_CLAIM, values).await?;
        decided.meeting(&WHOLE, claim, self.read_claim_serially(&next.email)).await
    }

    async fn remove_claim(&self, email: &EmailHash, read: &Op) -> Result<Written<Claim>, DirectoryError> {
        let decided = self.decide(WHAT, REMOVE_CLAIM, (email.scope(), &email.hash[..], read.as_str())).await?;
        decided.meeting(&WHOLE, claim, self.read_claim_serially(email)).await
    }

    async fn claims(&self, from: Option<&ClaimCursor>, claims_max: u32) -> Result<ClaimPage, DirectoryError> {
        let from = from.map(|cursor| cursor.0.as_str());
        let (rows, next) = self.page(WHAT, PAGE_CLAIMS, (), from, claims_max).await?;
        let claims = rows.into_iter().map(claim).collect::<Result<_, _>>()?;
        Ok(ClaimPage { claims, next: next.map(ClaimCursor) })
    }
}

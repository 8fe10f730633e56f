//! `claims` in Postgres.

use super::{PostgresDirectory, statements::*};
use crate::traced::{POSTGRES, traced};
use crate::{
    Claim, ClaimCursor, ClaimPage, ClaimState, Claims, DirectoryError, EmailHash, Intent, Op, PAGE_MAX, Written,
};
use cellar_model::{CellName, UserId};

#[derive(sqlx::FromRow)]
struct ClaimRow {
    scope: String,
    value_hash: Vec<u8>,
    user_id: String,
    cell: String,
    intent: String,
    state: String,
    op: String,
}

impl ClaimRow {
    fn read(self) -> Result<Claim, DirectoryError> {
        let corrupt = |cause: String| DirectoryError::corrupt("claim", cause);
        let hash: [u8; 32] = self.value_hash.try_into().map_err(|_| corrupt("its hash has another length".into()))?;
        let state = match self.state.as_str() {
            "creating" => ClaimState::Creating,
            "held" => ClaimState::Held,
            "releasing" => ClaimState::Releasing,
            state => return Err(corrupt(format!("state {state}"))),
        };
        Ok(Claim {
            email: EmailHash::of_scope(&self.scope, hash).ok_or_else(|| corrupt(format!("scope {}", self.scope)))?,
            user: UserId::new(&self.user_id).map_err(|e| corrupt(e.to_string()))?,
            cell: CellName::new(&self.cell).map_err(|e| corrupt(e.to_string()))?,
            intent: Intent::new(&self.intent).map_err(|e| corrupt(e.to_string()))?,
            state,
            op: Op::new(&self.op).map_err(|e| corrupt(e.to_string()))?,
        })
    }
}

fn state(state: ClaimState) -> &'static str {
    match state {
        ClaimState::Creating => "creating",
        ClaimState::Held => "held",
        ClaimState::Releasing => "releasing",
    }
}

impl Claims for PostgresDirectory {
    async fn read_claim(&self, email: &EmailHash) -> Result<Option<Claim>, DirectoryError> {
        let query = sqlx::query_as::<_, ClaimRow>(READ_CLAIM).bind(email.scope()).bind(&email.hash[..]);
        traced(POSTGRES, self.optional(query)).await?.map(ClaimRow::read).transpose()
    }

    async fn read_claim_serially(&self, email: &EmailHash) -> Result<Option<Claim>, DirectoryError> {
        self.read_claim(email).await
    }

    async fn create_claim(&self, claim: &Claim) -> Result<Written<Claim>, DirectoryError> {
        let query = sqlx::query_as(CREATE_CLAIM)
            .bind(claim.email.scope())
            .bind(&claim.email.hash[..])
            .bind(claim.user.as_str())
            .bind(claim.cell.as_str())
            .bind(claim.intent.as_str())
            .bind(state(claim.state))
            .bind(claim.op.as_str());
        let decided = self.decide(query).await?;
        decided.meeting(self.read_claim(&claim.email)).await
    }

    async fn change_claim(&self, read: &Op, next: &Claim) -> Result<Written<Claim>, DirectoryError> {
        let query = sqlx::query_as(CHANGE_CLAIM)
            .bind(next.email.scope())
            .bind(&next.email.hash[..])
            .bind(next.user.as_str())
            .bind(next.cell.as_str())
            .bind(next.intent.as_str())
            .bind(state(next.state))
            .bind(next.op.as_str())
            .bind(read.as_str());
        let decided = self.decide(query).await?;
        decided.meeting(self.read_claim(&next.email)).await
    }

    async fn remove_claim(&self, email: &EmailHash, read: &Op) -> Result<Written<Claim>, DirectoryError> {
        let query = sqlx::query_as(REMOVE_CLAIM).bind(email.scope()).bind(&email.hash[..]).bind(read.as_str());
        let decided = self.decide(query).await?;
        decided.meeting(self.read_claim(email)).await
    }

    async fn claims(&self, from: Option<&ClaimCursor>, claims_max: u32) -> Result<ClaimPage, DirectoryError> {
        let limit = claims_max.clamp(1, PAGE_MAX);
        let (scope, hash) = match from {
            Some(cursor) => place(&cursor.0).map(|last| (last.scope(), last.hash.to_vec()))?,
            None => Default::default(),
        };
        let query = sqlx::query_as::<_, ClaimRow>(PAGE_CLAIMS).bind(scope).bind(hash).bind(i64::from(limit));
        let rows = self.all(query).await?;
        let full = rows.len() == limit as usize;
        let claims: Vec<Claim> = rows.into_iter().map(ClaimRow::read).collect::<Result<_, _>>()?;
        let last = claims.last().map(|claim| claim.email.to_text());
        Ok(ClaimPage { next: last.filter(|_| full).map(ClaimCursor), claims })
    }
}

/// The last claim of the page before.
fn place(cursor: &str) -> Result<EmailHash, DirectoryError> {
    EmailHash::from_text(cursor).ok_or_else(|| DirectoryError::corrupt("claim cursor", cursor.to_owned()))
}

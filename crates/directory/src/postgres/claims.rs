//! `claims` in Postgres.

use super::{PostgresDirectory, statements::*};
use crate::{
    Claim, ClaimCursor, ClaimPage, ClaimState, Claims, DirectoryError, EmailHash, Intent, Op, PAGE_MAX, Written,
};
use cellar_model::{CellName, UserId};

#[derive(sqlx::FromRow)]
struct ClaimRow {
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
            email: EmailHash(hash),
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
    #[tracing::instrument(name = "directory.read", level = "debug", skip_all)]
    async fn read_claim(&self, email: &EmailHash) -> Result<Option<Claim>, DirectoryError> {
        let query = sqlx::query_as::<_, ClaimRow>(READ_CLAIM).bind(&email.0[..]);
        self.optional(query).await?.map(ClaimRow::read).transpose()
    }

    #[tracing::instrument(name = "directory.read", level = "debug", skip_all)]
    async fn read_claim_serially(&self, email: &EmailHash) -> Result<Option<Claim>, DirectoryError> {
        self.read_claim(email).await
    }

    async fn create_claim(&self, claim: &Claim) -> Result<Written<Claim>, DirectoryError> {
        let query = sqlx::query_as(CREATE_CLAIM)
            .bind(&claim.email.0[..])
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
            .bind(&next.email.0[..])
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
        let query = sqlx::query_as(REMOVE_CLAIM).bind(&email.0[..]).bind(read.as_str());
        let decided = self.decide(query).await?;
        decided.meeting(self.read_claim(email)).await
    }

    async fn claims(&self, from: Option<&ClaimCursor>, claims_max: u32) -> Result<ClaimPage, DirectoryError> {
        let limit = claims_max.clamp(1, PAGE_MAX);
        let from = from.map(|cursor| hex::decode(&cursor.0)).transpose();
        let from = from.map_err(|cause| DirectoryError::corrupt("claim cursor", cause))?.unwrap_or_default();
        let query = sqlx::query_as::<_, ClaimRow>(PAGE_CLAIMS).bind(from).bind(i64::from(limit));
        let rows = self.all(query).await?;
        let full = rows.len() == limit as usize;
        let claims: Vec<Claim> = rows.into_iter().map(ClaimRow::read).collect::<Result<_, _>>()?;
        let last = claims.last().map(|claim| hex::encode(claim.email.0));
        Ok(ClaimPage { next: last.filter(|_| full).map(ClaimCursor), claims })
    }
}

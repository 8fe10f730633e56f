//! Intents that stand in another's way: what became of them, asked of the one cell that can commit them.

use super::{Accounts, AccountsError};
use crate::peers::{Patience, PeerError};
use cellar_directory::{Decided, Intent, UserHome};
use cellar_model::{
    ProblemType,
    wire::{IntentAnswer, IntentQuestion},
};
use http::{Method, StatusCode};

impl Accounts {
    /// Answers another cell, which waits for this. An intent that is open is refused first, for good.
    pub(crate) async fn tell_intent(
        &self,
        intent: &str,
        question: &IntentQuestion,
    ) -> Result<IntentAnswer, AccountsError> {
        self.is_meant(&question.cell)?;
        let intent = Intent::new(intent).map_err(|_| ProblemType::Malformed)?;
        let decided = self.refuse_or_tell(&intent, &question.user_id).await?;
        Ok(IntentAnswer { committed: decided == Decided::Committed })
    }

    /// Asks the cell that the home names. No other can commit this intent for this user, and so none can refuse it.
    pub(super) async fn ask_intent(
        &self,
        intent: &Intent,
        met: &UserHome,
        patience: &mut Patience,
    ) -> Result<Decided, AccountsError> {
        let cell = &met.home;
        if *cell == self.0.given.cell {
            return self.refuse_or_tell(intent, &met.user).await;
        }
        let path = format!("/cell/v1/intents/{}", intent.as_str());
        let question = IntentQuestion { cell: cell.clone(), user_id: met.user.clone() };
        let peers = &self.0.given.peers;
        let answer = patience.spend(|within| peers.call(cell, Method::POST, &path, &question, within)).await;
        let (status, body) = answer?;
        if status != StatusCode::OK {
            return Err(PeerError::Odd { cell: cell.clone(), status }.into());
        }
        let answer: IntentAnswer =
            serde_json::from_slice(&body).map_err(|_| PeerError::Odd { cell: cell.clone(), status })?;
        Ok(if answer.committed { Decided::Committed } else { Decided::Refused })
    }
}

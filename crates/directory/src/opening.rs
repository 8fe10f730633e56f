//! A user's home on its way to being opened, by sign-ups with an e-mail and without.

use crate::claim_rules::{self, Opened};
use crate::claim_steps::{ATTEMPTS_MAX, undecided};
use crate::{DirectoryError, HomeState, Homes, Intent, UserHome, Written};
use cellar_model::{CellName, Epoch, UserId};

/// Whose home is to be opened where, and by which intent.
#[derive(Clone, Debug)]
pub struct Opening {
    pub user: UserId,
    /// The cell that runs this.
    pub cell: CellName,
    pub intent: Intent,
}

impl Opening {
    /// Opens the home here, or finds it opened.
    pub async fn open(&self, directory: &impl Homes) -> Result<Opened, DirectoryError> {
        let home = self.home();
        for _ in 0..ATTEMPTS_MAX {
            let met = match directory.create_home(&home).await? {
                Written::Applied => return Ok(Opened::Creating { epoch: home.epoch }),
                Written::Refused(met) => met,
                Written::Unknown(_) => directory.read_home_serially(&home.user).await?,
            };
            if let Some(met) = met {
                return Ok(claim_rules::open(met, &self.intent, &self.cell));
            }
        }
        Err(undecided("home"))
    }

    /// Takes over the CREATING row of an intent that its cell has refused for good: from then on no attempt
    /// of it creates the user.
    pub async fn take_over(&self, directory: &impl Homes, refused: &UserHome) -> Result<Opened, DirectoryError> {
        let home = self.home();
        for _ in 0..ATTEMPTS_MAX {
            let met = match directory.change_home(refused, &home).await? {
                Written::Applied => return Ok(Opened::Creating { epoch: home.epoch }),
                Written::Refused(met) => met,
                Written::Unknown(_) => directory.read_home_serially(&home.user).await?,
            };
            match met {
                Some(met) if met == *refused => {}
                Some(met) => return Ok(claim_rules::open(met, &self.intent, &self.cell)),
                // Rows of `user_home` are never deleted.
                None => break,
            }
        }
        Err(undecided("home"))
    }

    fn home(&self) -> UserHome {
        UserHome {
            user: self.user.clone(),
            home: self.cell.clone(),
            epoch: Epoch(1),
            state: HomeState::Creating { intent: self.intent.clone() },
        }
    }
}

//! Rows FORWARD: where users live whom the ring places here and who live elsewhere. Their homes write them.

use super::{Accounts, AccountsError, statements};
use cellar_model::{CellName, Epoch, Problem, ProblemType, UserId, wire::ForwardNews};

/// Attempts at the row: one that another writer has changed between two looks is looked at again.
const ATTEMPTS_MAX: u32 = 3;

/// What becomes of the news that a user lives elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Write,
    /// Here already, or something newer.
    Known,
    /// It cannot be true beside the row that stands here. Nothing is written.
    Contradicted,
}

/// A forward takes the place of nothing, and of an older forward.
///
/// OWNED and FROZEN are let go of by this cell alone, by its own part in a move; RECEIVING and READY are emptied by
/// it as well, and ERASED is for good. So whoever says of one of these that the user lives elsewhere is wrong, or
/// early. One epoch has one home.
fn judge(held: Option<(&str, Epoch, &str)>, home: &CellName, epoch: Epoch) -> News {
    match held {
        None => News::Write,
        Some(("FORWARD", held, _)) if held < epoch => News::Write,
        Some(("FORWARD", held, at)) if held > epoch || at == home.as_str() => News::Known,
        Some(_) => News::Contradicted,
    }
}

impl Accounts {
    /// Takes down where a user lives, for good once this has returned. Any process of the cell may be told.
    pub(crate) async fn keep_forward(&self, user: UserId, news: ForwardNews) -> Result<(), AccountsError> {
        self.is_meant(&news.cell)?;
        if news.home == self.0.given.cell {
            return Err(AccountsError::invalid("/home", "a cell does not send on to itself"));
        }
        let (accounts, of) = (self.clone(), user.clone());
        // Whoever was told that the user is nowhere asks again.
        self.change(&user, async move { accounts.write_forward(&of, &news.home, news.epoch).await }).await
    }

    async fn write_forward(&self, user: &UserId, home: &CellName, epoch: Epoch) -> Result<(), AccountsError> {
        for _ in 0..ATTEMPTS_MAX {
            let written: Option<(bool,)> = sqlx::query_as(statements::WRITE_FORWARD)
                .bind(user.as_str())
                .bind(epoch.as_i64())
                .bind(home.as_str())
                .fetch_optional(&self.0.given.pool)
                .await?;
            if written.is_some() {
                return Ok(());
            }
            let row = self.read_ownerships(&[user.as_str()]).await?.remove(user.as_str());
            let held = row.as_ref().map(|row| (row.state.as_str(), Epoch::from_i64(row.epoch), row.home.as_str()));
            match judge(held, home, epoch) {
                News::Write => {}
                News::Known => return Ok(()),
                News::Contradicted => {
                    let state = row.map(|row| row.state).unwrap_or_default();
                    let detail = format!("the user is {state} here");
                    return Err(Problem::new(ProblemType::Conflict).detail(detail).into());
                }
            }
        }
        Err(ProblemType::TryAgain.into())
    }

    /// Whether another cell's question is for this one. 421 leaves the asker as wise as before.
    pub(super) fn is_meant(&self, cell: &CellName) -> Result<(), AccountsError> {
        if *cell == self.0.given.cell { Ok(()) } else { Err(AccountsError::Misdirected(None)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(name: &str) -> CellName {
        CellName::new(name).unwrap()
    }

    /// Goal: whatever is told in whatever order, a row only rises, and nothing but a forward is ever replaced.
    #[test]
    fn only_nothing_and_an_older_forward_give_way() {
        let news = |held, at| judge(held, &cell("eu-2"), Epoch(at));
        assert_eq!(news(None, 1), News::Write);
        for (held, at, expected) in [
            (("FORWARD", Epoch(1), "eu-3"), 2, News::Write),
            (("FORWARD", Epoch(2), "eu-2"), 2, News::Known),
            (("FORWARD", Epoch(3), "eu-3"), 2, News::Known),
            (("FORWARD", Epoch(2), "eu-3"), 2, News::Contradicted),
        ] {
            assert_eq!(news(Some(held), at), expected, "{held:?}");
        }
        for state in ["OWNED", "FROZEN", "RECEIVING", "READY", "ERASED"] {
            for held in 1..4 {
                assert_eq!(news(Some((state, Epoch(held), "eu-1")), 2), News::Contradicted, "{state} {held}");
            }
        }
    }
}

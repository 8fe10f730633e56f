//! Users of this cell whom the ring places elsewhere: the cells that it names are told, until they have confirmed it.
//!
//! A request for a user begins at the ring cell. Without a row there it needs the directory, and with the directory
//! away it is 503. So a user is due from the commit that makes them until every cell that the rings name has
//! a row, and all users are looked at once more when the rings change. A topology that leaves the rings as they are
//! costs nothing.
//!
//! **Invariant:** no user is missed between a sign-up by one topology and a pass by the next. Who makes a user, or
//! takes one off the list, compares its rings with those in `forward_rings` in one statement that holds that row: by
//! other rings a new user is due, and nobody is taken off. A pass begins by changing the row.

use super::{Accounts, AccountsError, statements};
use crate::peers::{Known, Patience, PeerError};
use cellar_model::{CellName, Epoch, UserId, wire::ForwardNews};
use futures::future::{join_all, try_join_all};
use http::{Method, StatusCode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::collections::HashSet;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two rounds, and the longest after rounds in which somebody was not told.
const ROUND_EVERY: Duration = Duration::from_secs(1);
const ROUND_EVERY_MAX: Duration = Duration::from_secs(30);
/// Users that are due, read at once.
const DUE_MAX: i64 = 100;
/// Users told of at once: a few hundred a second, beside everything else the other cells do.
const TOLD_AT_ONCE: usize = 8;
/// Users looked at after the rings have changed, a page and a round.
const PASS_PAGE: i64 = 1_000;
const PASS_PAGES: usize = 10;

/// Cells told of users, by what came of it.
#[derive(Clone, Default)]
pub(super) struct ForwardsTold(Family<[(&'static str, &'static str); 1], Counter>);

impl ForwardsTold {
    pub(super) fn register(&self, registry: &mut Registry) {
        for outcome in ["confirmed", "contradicted", "failed"] {
            self.0.get_or_create(&[("outcome", outcome)]).inc_by(0);
        }
        registry.register(
            "cellar_forwards_told",
            "Cells told where a user lives whom the ring places there: confirmed by them, contradicted by a row of \
             theirs, or failed, which is repeated",
            self.0.clone(),
        );
    }

    fn count(&self, outcome: &'static str) {
        self.0.get_or_create(&[("outcome", outcome)]).inc();
    }
}

#[derive(sqlx::FromRow)]
struct RingsRow {
    revision: i64,
    digest: String,
    after: Option<String>,
}

#[derive(sqlx::FromRow)]
struct DueRow {
    user_id: String,
    epoch: i64,
}

/// Of a new user, as the rings were known before its transaction.
pub(super) struct ToBeTold {
    /// There are other cells at all.
    pub(super) others: bool,
    /// Some of them are to know; or no rings are known yet.
    pub(super) elsewhere: bool,
    /// Of the rings that said so.
    pub(super) digest: String,
}

impl Accounts {
    /// What a commit needs to know to write down whether other cells are to be told of a new user.
    pub(super) fn to_be_told(&self, user: &UserId) -> ToBeTold {
        if self.0.given.public {
            return ToBeTold { others: false, elsewhere: false, digest: String::new() };
        }
        let known = self.0.given.peers.known().ok();
        let elsewhere = known.as_ref().is_none_or(|known| !known.rings.forwards(user, &self.0.given.cell).is_empty());
        let digest = known.as_ref().map_or_else(String::new, |known| known.rings.digest().to_owned());
        ToBeTold { others: true, elsewhere, digest }
    }

    /// Once this has returned, every cell that the rings name for this user sends on to here.
    pub(super) async fn tell_forwards(&self, user: &UserId, patience: &mut Patience) -> Result<(), AccountsError> {
        if self.0.given.public {
            return Ok(());
        }
        let due: Option<(i64,)> =
            sqlx::query_as(statements::FORWARD_DUE).bind(user.as_str()).fetch_optional(&self.0.given.pool).await?;
        let Some((epoch,)) = due else { return Ok(()) };
        let known = self.0.given.peers.known()?;
        self.tell(&known, user, Epoch::from_i64(epoch), patience).await.map_err(|(_, error)| error)
    }

    /// Tells every cell that has to know, and takes the user off the list. Else the cell that could not be told.
    async fn tell(
        &self,
        known: &Known,
        user: &UserId,
        epoch: Epoch,
        patience: &mut Patience,
    ) -> Result<(), (Option<CellName>, AccountsError)> {
        let own = &self.0.given.cell;
        let cells = known.rings.forwards(user, own);
        let told = patience.spend(|within| {
            try_join_all(cells.iter().map(move |cell| async move {
                let cell = (*cell).clone();
                let news = ForwardNews { cell: cell.clone(), home: own.clone(), epoch };
                self.tell_one(user, &news, within).await.map_err(|error| (Some(cell), error))
            }))
        });
        told.await?;
        let _: Option<(bool,)> = sqlx::query_as(statements::DELETE_FORWARD_DUE)
            .bind(user.as_str())
            .bind(known.rings.digest())
            .fetch_optional(&self.0.given.pool)
            .await
            .map_err(|error| (None, error.into()))?;
        Ok(())
    }

    async fn tell_one(&self, user: &UserId, news: &ForwardNews, within: Duration) -> Result<(), AccountsError> {
        let (cell, path) = (&news.cell, format!("/cell/v1/forwards/{}", user.as_str()));
        let answer = self.0.given.peers.call(cell, Method::PUT, &path, news, within).await;
        let outcome = match &answer {
            Ok((StatusCode::NO_CONTENT, _)) => "confirmed",
            Ok((StatusCode::CONFLICT, _)) => "contradicted",
            _ => "failed",
        };
        self.0.forwards_told.count(outcome);
        match answer? {
            (StatusCode::NO_CONTENT, _) => Ok(()),
            (status, _) => {
                if status == StatusCode::CONFLICT {
                    // Two cells that both say they have the user: no repeat mends that.
                    tracing::error!(?user, %cell, "a cell has another row of a user who lives here");
                }
                Err(PeerError::Odd { cell: cell.clone(), status }.into())
            }
        }
    }

    /// Tells of everyone who is due, again and again, and looks at all users when the rings have changed.
    pub(super) async fn tell_all_forwards(&self, cancel: CancellationToken) {
        if self.0.given.public {
            return;
        }
        let (mut pause, mut failing) = (ROUND_EVERY, false);
        loop {
            let round = async {
                let known = self.0.given.peers.known()?;
                self.look_at_all(&known).await?;
                self.tell_due(&known).await
            };
            let left = tokio::select! {
                () = cancel.cancelled() => return,
                round = round => round,
            };
            let well = match &left {
                Ok(left) => *left == 0,
                Err(error) => {
                    tracing::debug!(error = error as &dyn std::error::Error, "nobody can be told of users here now");
                    false
                }
            };
            pause = if well { ROUND_EVERY } else { (pause * 2).min(ROUND_EVERY_MAX) };
            if let Ok(left @ 1..) = left
                && !std::mem::replace(&mut failing, true)
            {
                tracing::warn!(left, "other cells could not be told of users who live here; repeating");
            }
            failing &= !well;
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One look at each who is due. How many are left.
    pub(super) async fn tell_due(&self, known: &Known) -> Result<usize, AccountsError> {
        let (mut after, mut left) = (String::new(), 0);
        // A cell that could not be told of one user is not asked about the others in this round.
        let mut down: HashSet<CellName> = HashSet::new();
        loop {
            let rows: Vec<DueRow> = sqlx::query_as(statements::FORWARDS_DUE)
                .bind(&after)
                .bind(DUE_MAX)
                .fetch_all(&self.0.given.pool)
                .await?;
            let Some(last) = rows.last() else { return Ok(left) };
            after.clone_from(&last.user_id);
            for some in rows.chunks(TOLD_AT_ONCE) {
                let down_now = &down;
                let told = join_all(some.iter().map(|row| async move {
                    let user = UserId::new(&row.user_id).map_err(|_| (None, AccountsError::Corrupt("user")))?;
                    let own = &self.0.given.cell;
                    if known.rings.forwards(&user, own).into_iter().any(|cell| down_now.contains(cell)) {
                        return Ok(false);
                    }
                    let epoch = Epoch::from_i64(row.epoch);
                    self.tell(known, &user, epoch, &mut Patience::new()).await.map(|()| true)
                }));
                for told in told.await {
                    match told {
                        Ok(told) => left += usize::from(!told),
                        Err((None, error)) => return Err(error),
                        Err((Some(cell), _)) => {
                            left += 1;
                            down.insert(cell);
                        }
                    }
                }
            }
        }
    }

    /// Goes on with the pass over all users by the present rings, if they are not those of the last one.
    pub(super) async fn look_at_all(&self, known: &Known) -> Result<(), AccountsError> {
        let (pool, digest) = (&self.0.given.pool, known.rings.digest());
        let revision = i64::try_from(known.topology.revision.0).unwrap_or(i64::MAX);
        let _: Option<(bool,)> =
            sqlx::query_as(statements::BEGIN_PASS).bind(revision).bind(digest).fetch_optional(pool).await?;
        for _ in 0..PASS_PAGES {
            let row: RingsRow = sqlx::query_as(statements::FORWARD_RINGS).fetch_one(pool).await?;
            let Some(after) = row.after else { return Ok(()) };
            if row.digest != digest {
                // Another process of this cell knows a newer topology, and looks by that.
                tracing::debug!(newer = row.revision, "users are looked at by newer rings");
                return Ok(());
            }
            let page: Vec<(String,)> =
                sqlx::query_as(statements::OWNED_PAGE).bind(&after).bind(PASS_PAGE).fetch_all(pool).await?;
            let mut elsewhere = Vec::new();
            for (id,) in &page {
                let user = UserId::new(id).map_err(|_| AccountsError::Corrupt("user"))?;
                if !known.rings.forwards(&user, &self.0.given.cell).is_empty() {
                    elsewhere.push(id.clone());
                }
            }
            let _: Vec<(bool,)> =
                sqlx::query_as(statements::INSERT_FORWARDS_DUE).bind(&elsewhere).fetch_all(pool).await?;
            let whole = page.len() as i64 == PASS_PAGE;
            let next = page.last().filter(|_| whole).map(|(id,)| id.as_str());
            let _: Option<(bool,)> = sqlx::query_as(statements::GO_ON_WITH_PASS)
                .bind(row.revision)
                .bind(&after)
                .bind(next)
                .fetch_optional(pool)
                .await?;
        }
        Ok(())
    }

    /// The rings by which every user here has been looked at.
    pub(super) async fn looked_at_by(&self) -> Result<Option<String>, AccountsError> {
        let row: RingsRow = sqlx::query_as(statements::FORWARD_RINGS).fetch_one(&self.0.given.pool).await?;
        Ok(row.after.is_none().then_some(row.digest))
    }
}

//! What the ledger is asked about single users: a charge of theirs, how far it is complete, and whose
//! reservations are due.

use super::postgres::{PostgresStore, bounded};
use crate::entry::LedgerCheck;
use crate::error::StoreError;
use crate::record::RecordError;
use cellar_model::{ChargeId, Fence, Micros, UserId, Version};

/// Up to which of the user's commits the ledger is complete.
pub(super) const DRAINED_HEAD: &str = "select fence, version from quota_state where user_id = $1";

/// Where a charge of the commit ($4, $5, $6) may stand, no older than $2: that commit, and what was charged
/// late (kind 7) at its time, under its old names.
///
/// A user's rows are ordered by time as they are by commit, late ones aside, and indexed by time alone:
/// time is halved, from $2 to $3, until all earlier commits lie at `low` or before it. Some sixty look-ups
/// in the index, however many rows he has. Then the next commit, if it is another one, ends the search.
pub(super) const FIND_CHARGE: &str = "
    with recursive halves (low, high) as (
        select $2::bigint, $3::bigint
        union all
        select case when first.past then low else middle end, case when first.past then middle else high end
        from (select low, high, low + (high - low) / 2 as middle from halves where high - low > 1) as half
        cross join lateral (
            select coalesce((
                select (epoch, fence, version) >= ($4, $5, $6) from ledger
                where user_id = $1 and at_us >= half.middle and kind <> 7
                order by at_us, epoch, fence, version limit 1
            ), true) as past
        ) as first
    ), place as (
        select max(low) as low, coalesce((
            select at_us from ledger
            where user_id = $1 and at_us >= (select max(low) from halves) and kind <> 7
                and (epoch, fence, version) >= ($4, $5, $6)
            order by at_us limit 1
        ), $3) as high from halves
    )
    select l.checks from place join ledger l on l.user_id = $1 and l.at_us between place.low and place.high
    where (l.epoch, l.fence, l.version) = ($4, $5, $6) or l.kind = 7
    limit 256";

/// Users whose first reservation expires by now, those who wait longest first.
pub(super) const DUE_USERS: &str = "
    select q.user_id from quota_state q join ownership o using (user_id)
    where q.shard = $1 and q.expires_at_us <= $2 and o.state = 'OWNED' order by q.expires_at_us limit $3";

impl PostgresStore {
    /// The head of the user's record as of the last drain; none before his first.
    pub(crate) async fn drained_head(&self, user: &UserId) -> Result<Option<(Fence, Version)>, StoreError> {
        let row = sqlx::query_as::<_, (i64, i64)>(DRAINED_HEAD).bind(user.as_str()).fetch_optional(&self.pool);
        let row = bounded("drained head", row).await?;
        Ok(row.map(|(fence, version)| (Fence::from_i64(fence), Version::from_i64(version))))
    }

    /// The check that became `charge`, if the ledger has it at or after `since`.
    pub(crate) async fn find_charge(
        &self,
        user: &UserId,
        charge: ChargeId,
        since: Micros,
    ) -> Result<Option<LedgerCheck>, StoreError> {
        let find = sqlx::query_scalar::<_, Vec<u8>>(FIND_CHARGE)
            .bind(user.as_str())
            .bind(since.0 as i64)
            .bind(Micros::MAX.0 as i64 + 1)
            .bind(charge.epoch.as_i64())
            .bind(charge.fence.as_i64())
            .bind(charge.version.as_i64())
            .fetch_all(&self.pool);
        for packed in bounded("find charge", find).await? {
            let checks: Vec<LedgerCheck> = postcard::from_bytes(&packed)
                .map_err(|cause| StoreError::Unreadable { store: "postgres", cause: RecordError::Body(cause) })?;
            if let Some(found) = checks.into_iter().find(|check| check.charge == charge) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Users of this shard whose reservations are due at `now`.
    pub(crate) async fn due_users(&self, now: Micros, max: usize) -> Result<Vec<UserId>, StoreError> {
        let due = sqlx::query_scalar::<_, String>(DUE_USERS)
            .bind(self.shard())
            .bind(now.0 as i64)
            .bind(max as i64)
            .fetch_all(&self.pool);
        let due = bounded("due users", due).await?;
        Ok(due.iter().filter_map(|id| UserId::new(id).ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Act, EntryKind};
    use crate::shard::ShardId;
    use cellar_model::Epoch;

    /// Commits at times that repeat, over a month's end and a change of fence.
    fn commits() -> Vec<(ChargeId, i64)> {
        let december = 1_701_388_800_000_000;
        let commit = |n: i64| {
            let fence = if n < 150 { 3 } else { 4 };
            let charge = ChargeId {
                epoch: Epoch(1),
                fence: Fence(fence),
                // A version that was decided and never written leaves a gap.
                version: Version(2 * n as u64 + 1),
                place: 0,
            };
            (charge, december + (n / 3 - 50) * 1_000_003)
        };
        (0..300).map(commit).collect()
    }

    #[tokio::test]
    async fn every_charge_is_found_and_none_that_is_not_there_or_too_old() {
        let server = cellar_devstack::Postgres::start_cell().await.unwrap();
        let pool = sqlx::PgPool::connect(&server.url()).await.unwrap();
        sqlx::migrate!("../../migrations/postgres/cell").run(&pool).await.unwrap();
        let december = 1_701_388_800_000_000_i64;
        for (name, from, to) in [("a", 0, december), ("b", december, i64::MAX)] {
            let create = format!("create table {name} partition of ledger for values from ({from}) to ({to})");
            sqlx::query(sqlx::AssertSqlSafe(create)).execute(&pool).await.unwrap();
        }
        let (user, other) = (UserId::new("u").unwrap(), UserId::new("other").unwrap());
        for (n, (charge, at_us)) in commits().into_iter().enumerate() {
            // Every seventh was charged late: its row is of a newer commit, its time and its name are old.
            let late = n % 7 == 3;
            let row = if late { (9, 9_000 + n as i64) } else { (charge.fence.as_i64(), charge.version.as_i64()) };
            let kind = if late { EntryKind::Late } else { EntryKind::Consume };
            let check = LedgerCheck {
                charge,
                at: Micros(at_us as u64),
                act: Act::Consume,
                charges: Vec::new(),
                takes: Vec::new(),
                key: None,
            };
            sqlx::query("insert into ledger values (0, $1, $2, 0, $3, $4, 1, $5, $7, 1, '{}', $6)")
                .bind(row.0)
                .bind(n as i64)
                .bind(at_us)
                .bind(user.as_str())
                .bind(row.1)
                .bind(postcard::to_allocvec(&[check].to_vec()).unwrap())
                .bind(kind.as_i16())
                .execute(&pool)
                .await
                .unwrap();
        }
        assert_eq!(EntryKind::Late.as_i16(), 7, "as the statement has it");
        let store = PostgresStore::new(pool, ShardId(0));
        let find = async |user, charge, since| store.find_charge(user, charge, Micros(since)).await.unwrap();
        for (charge, at_us) in commits() {
            assert_eq!(find(&user, charge, 0).await.map(|check| check.charge), Some(charge));
            assert!(find(&user, charge, at_us as u64).await.is_some(), "just young enough");
            assert!(find(&user, charge, at_us as u64 + 1).await.is_none(), "too old");
            assert!(find(&other, charge, 0).await.is_none());
            for absent in [
                ChargeId { place: 1, ..charge },
                ChargeId { version: charge.version.next(), ..charge },
                ChargeId { fence: Fence(9), ..charge },
                ChargeId { epoch: Epoch(0), ..charge },
            ] {
                assert!(find(&user, absent, 0).await.is_none(), "{absent}");
            }
        }
    }
}

//! The cell's Postgres while it is copied: how far its log has come, and what is kept of it.

use super::manifest::{PostgresState, ShardState};
use anyhow::{Context, ensure};
use cellar_model::Micros;
use flate2::Compression;
use flate2::write::GzEncoder;
use sqlx::{Connection, PgConnection};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// Keeps the log since the last backup, for the next one to add.
const SLOT: &str = "cellar_backup";
/// So much of it, and no more: a cell whose disk fills up for a backup that never comes is worse off than one
/// whose next backup has to be a full one.
const KEPT_MAX: &str = "2GB";
/// One backup of a cell at a time; the server forgets it with the connection.
const LOCK: i64 = 0x6365_6c6c_6172_6261;
/// The server sees that a killed command is gone when it has done what it was asked last.
const GONE_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const CHUNK: u64 = 4 << 20;

pub(super) struct Source(PgConnection);

/// A place in the log, and when it was there.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    pub(super) at: Micros,
    /// The segment that holds it.
    pub(super) segment: Segment,
}

/// The end of what a backup holds.
pub(super) struct Closed {
    pub(super) at: Micros,
    /// In the log.
    pub(super) name: String,
    pub(super) segment: Segment,
    pub(super) lsn: String,
}

/// A segment of the log: the names of later ones of a timeline are greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment(String);

impl Segment {
    pub(super) fn new(name: &str) -> anyhow::Result<Self> {
        let whole = name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        ensure!(whole, "{name} is not the name of a segment of the log");
        Ok(Self(name.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its copy.
    pub(super) fn file(&self) -> String {
        format!("{}.gz", self.0)
    }

    /// A name is timeline, high half and low half, eight digits each; the low half counts to 4 GiB.
    fn next(&self, segment_bytes: u64) -> anyhow::Result<Self> {
        let part = |at: usize| u64::from_str_radix(&self.0[at..at + 8], 16);
        let (timeline, high, low) = (part(0)?, part(8)?, part(16)? + 1);
        let per_high = (1_u64 << 32) / segment_bytes;
        let (high, low) = (high + low / per_high, low % per_high);
        Ok(Self(format!("{timeline:08X}{high:08X}{low:08X}")))
    }
}

impl Source {
    /// Connects, and sees that nobody else copies this cell.
    pub(super) async fn open(url: &str) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(url).await.context("the cell's Postgres does not answer")?;
        let until = Instant::now() + GONE_MAX;
        while !sqlx::query_scalar::<_, bool>("select pg_try_advisory_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut connection)
            .await?
        {
            ensure!(Instant::now() < until, "another backup of this cell is under way: try again when it is done");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Self(connection))
    }

    pub(super) async fn state(&mut self) -> anyhow::Result<PostgresState> {
        let row: (i32, String, i64, String) = sqlx::query_as(
            "select current_setting('server_version_num')::int4, (select system_identifier::text from pg_control_system()),
                    (select setting::bigint from pg_settings where name = 'wal_segment_size'),
                    pg_walfile_name(pg_current_wal_lsn())",
        )
        .fetch_one(&mut self.0)
        .await?;
        let timeline = u32::from_str_radix(Segment::new(&row.3)?.0.get(..8).unwrap_or_default(), 16)?;
        Ok(PostgresState { version: row.0 as u32, system: row.1, timeline, segment_bytes: row.2 as u64 })
    }

    pub(super) async fn shards(&mut self) -> anyhow::Result<Vec<ShardState>> {
        let rows: Vec<(i16, i64, i64, i64)> =
            sqlx::query_as("select shard, fence, opened, drained_seq from shard order by shard")
                .fetch_all(&mut self.0)
                .await?;
        let state = |(shard, fence, opened, drained_seq): (i16, i64, i64, i64)| ShardState {
            shard: shard as u16,
            fence: fence.max(0) as u64,
            opened: opened.max(0) as u64,
            drained_seq,
        };
        Ok(rows.into_iter().map(state).collect())
    }

    /// Begins to keep the log, unless it is kept already.
    pub(super) async fn keep_log(&mut self) -> anyhow::Result<()> {
        if self.kept_from().await?.is_some() {
            return Ok(());
        }
        let bounded: bool = sqlx::query_scalar("select current_setting('max_slot_wal_keep_size') <> '-1'")
            .fetch_one(&mut self.0)
            .await?;
        if !bounded {
            let bound = sqlx::AssertSqlSafe(format!("alter system set max_slot_wal_keep_size = '{KEPT_MAX}'"));
            sqlx::query(bound).execute(&mut self.0).await?;
            sqlx::query("select pg_reload_conf()").execute(&mut self.0).await?;
        }
        sqlx::query("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1")
            .bind(SLOT)
            .execute(&mut self.0)
            .await?;
        sqlx::query("select slot_name from pg_create_physical_replication_slot($1, true)")
            .bind(SLOT)
            .execute(&mut self.0)
            .await?;
        Ok(())
    }

    /// The oldest segment that is kept. None: nothing is, or too much would have had to be.
    pub(super) async fn kept_from(&mut self) -> anyhow::Result<Option<Segment>> {
        let kept: Option<String> = sqlx::query_scalar(
            "select pg_walfile_name(restart_lsn) from pg_replication_slots
             where slot_name = $1 and restart_lsn is not null and wal_status in ('reserved', 'extended')",
        )
        .bind(SLOT)
        .fetch_optional(&mut self.0)
        .await?;
        kept.map(|kept| Segment::new(&kept)).transpose()
    }

    /// What is in the backup need not be kept any longer.
    pub(super) async fn let_go(&mut self, lsn: &str) -> anyhow::Result<()> {
        sqlx::query("select end_lsn::text from pg_replication_slot_advance($1, $2::text::pg_lsn)")
            .bind(SLOT)
            .bind(lsn)
            .execute(&mut self.0)
            .await?;
        Ok(())
    }

    pub(super) async fn now(&mut self) -> anyhow::Result<Micros> {
        let us: i64 = sqlx::query_scalar("select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
            .fetch_one(&mut self.0)
            .await?;
        Ok(Micros(us.max(0) as u64))
    }

    pub(super) async fn here(&mut self) -> anyhow::Result<Reached> {
        let segment: String =
            sqlx::query_scalar("select pg_walfile_name(pg_current_wal_lsn())").fetch_one(&mut self.0).await?;
        Ok(Reached { at: self.now().await?, segment: Segment::new(&segment)? })
    }

    /// Ends the segment that is being written, behind a commit that is later than the time returned and a point
    /// with a name: a replay up to that time, an earlier one or that name ends there, and one that runs out of
    /// log before is an error.
    pub(super) async fn close_segment(&mut self) -> anyhow::Result<Closed> {
        let at = self.now().await?;
        let name = format!("cellar-backup-{}", at.0);
        // An id makes it a transaction that is logged; it changes nothing.
        sqlx::query("select pg_current_xact_id()::text").execute(&mut self.0).await?;
        sqlx::query("select pg_create_restore_point($1)::text").bind(&name).execute(&mut self.0).await?;
        let (segment, lsn): (String, String) =
            sqlx::query_as("select pg_walfile_name(lsn), lsn::text from pg_switch_wal() as lsn")
                .fetch_one(&mut self.0)
                .await?;
        Ok(Closed { at, name, segment: Segment::new(&segment)?, lsn })
    }

    /// Copies a segment that is complete, gzipped: one that was closed early is zeros for the most part. It
    /// stays as long as it is kept.
    pub(super) async fn copy_segment(&mut self, segment: &Segment, bytes: u64, to: &Path) -> anyhow::Result<()> {
        let path = to.join(segment.file());
        let cannot = || format!("cannot write {}", path.display());
        let mut file = GzEncoder::new(File::create(&path).with_context(cannot)?, Compression::fast());
        let mut offset = 0;
        while offset < bytes {
            let chunk: Vec<u8> = sqlx::query_scalar("select pg_read_binary_file('pg_wal/' || $1, $2, $3)")
                .bind(segment.as_str())
                .bind(offset as i64)
                .bind(CHUNK.min(bytes - offset) as i64)
                .fetch_one(&mut self.0)
                .await
                .with_context(|| format!("segment {} of the log cannot be read", segment.as_str()))?;
            ensure!(!chunk.is_empty(), "segment {} of the log is not whole", segment.as_str());
            file.write_all(&chunk).with_context(cannot)?;
            offset += chunk.len() as u64;
        }
        file.finish().and_then(|file| file.sync_all()).with_context(cannot)
    }

    /// Copies the log from `from` up to and with `to`, and sees that it was kept all the while. Returns the
    /// names of the segments.
    pub(super) async fn copy_log(
        &mut self,
        (from, last): (&Segment, &Segment),
        segment_bytes: u64,
        to: &Path,
        mut each: impl FnMut(&Segment),
    ) -> anyhow::Result<Vec<Segment>> {
        std::fs::create_dir_all(to).with_context(|| format!("cannot write {}", to.display()))?;
        let (mut copied, mut segment) = (Vec::new(), from.clone());
        while segment <= *last {
            each(&segment);
            self.copy_segment(&segment, segment_bytes, to).await?;
            copied.push(segment.clone());
            segment = segment.next(segment_bytes)?;
        }
        let kept = self.kept_from().await?;
        ensure!(
            kept.is_some_and(|kept| kept <= *from),
            "more of the log was written than is kept for backups ({KEPT_MAX}): `--full` begins anew"
        );
        File::open(to)?.sync_all()?;
        Ok(copied)
    }

    /// The segment after this one.
    pub(super) fn after(segment: &str, segment_bytes: u64) -> anyhow::Result<Segment> {
        Segment::new(segment)?.next(segment_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_follow_each_other_over_every_four_gibibytes() {
        let next = |name: &str, bytes: u64| Segment::new(name).unwrap().next(bytes).unwrap().0;
        assert_eq!(next("000000010000000000000009", 1 << 24), "00000001000000000000000A");
        assert_eq!(next("0000000100000000000000FF", 1 << 24), "000000010000000100000000");
        assert_eq!(next("000000020000000A0000003F", 1 << 26), "000000020000000B00000000");
        assert!(Segment::new("00000002.history").is_err());
    }
}

//! A cell whose stores were laid down from copies: what is done before its first start, and what is said after.
//!
//! Nothing else opens these stores meanwhile.

use crate::config::CellConfig;
use anyhow::Context;
use cellar_directory::{HomeState, Homes, OpenDirectory, PAGE_MAX, UserHome};
use cellar_model::wire::{LostCharge, Restored, TakenOver};
use cellar_model::{ChargeId, Fence, Secret, UserId};
use cellar_quota::restored;
use cellar_server::disk::write_atomically;
use clap::Args;
use futures::StreamExt;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Args)]
pub(crate) struct TakeOver {
    /// A file for what was found and done, as JSON
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A fence that every shard's has to be above, besides those that the stores show
    #[arg(long, default_value_t = 0)]
    floor: u64,
    /// A file with the URL of a Postgres that was restored further than the cell's own
    #[arg(long, value_name = "FILE", requires = "charges")]
    whole: Option<PathBuf>,
    /// A file for the charges that it has and the cell's own has not, a line of JSON each
    #[arg(long, value_name = "FILE")]
    charges: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Compare {
    /// A file for what the ledger has, as JSON
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Charges of this fence or a later one were made after the restore
    #[arg(long)]
    below: Option<u64>,
    /// Charges to look for, `user charge_id` a line
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

/// A server that was recovered takes writes a moment after it takes connections.
const PROMOTED_MAX: Duration = Duration::from_secs(60);
const PROMOTED_POLL: Duration = Duration::from_millis(50);
/// For every shard to turn, which drains what the copy of Redis holds. Two processes that start together hand
/// shards to each other, and neither counts one that it takes for the other's when it says that it is ready.
const TURNED_MAX: Duration = Duration::from_secs(120);
const TURNED_POLL: Duration = Duration::from_millis(100);
/// Serial reads of the directory at once.
const READS_MAX: usize = 32;
/// Users of a page.
const PAGE_USERS: i64 = 1_000;
/// A file of charges is read whole: some gigabyte of names.
const NAMES_BYTES_MAX: u64 = 1 << 30;

const USERS: &str = "
    select user_id, epoch from ownership where state in ('OWNED', 'FROZEN') and user_id > $1 order by user_id limit $2";
const UNKNOWN: &str = "
    select t.user_id from unnest($1::text[]) as t (user_id)
    where not exists (select from ownership o where o.user_id = t.user_id)";
const ALL_USERS: &str = "select user_id from ownership where user_id > $1 order by user_id limit $2";
const LEAVE: &str = "
    update ownership set state = $2, home = $3, epoch = $4, move_id = null where user_id = $1 and epoch <= $4";
const FOLLOW: &str = "update ownership set epoch = $2 where user_id = $1 and epoch < $2";

/// Before the first start.
pub(crate) async fn take_over(config: &CellConfig, asked: &TakeOver) -> anyhow::Result<()> {
    let secrets = config.secrets()?;
    let pool = connect(&secrets.postgres_url).await?;
    promoted(&pool).await?;
    sqlx::migrate!("../migrations/postgres/cell").run(&pool).await.context("migrating the cell's Postgres")?;
    let directory = OpenDirectory::connect(&secrets.directory_url, READS_MAX as u32).await?;
    let mut unknown = of_directory(config, &directory, &pool).await?;
    let mut charges = 0;
    if let (Some(whole), Some(out)) = (&asked.whole, &asked.charges) {
        let whole = connect(&cellar_server::config::read_secret(whole)?).await?;
        promoted(&whole).await?;
        charges = cut_off(&whole, &pool, out).await?;
        unknown.extend(of_whole(&whole, &pool).await?);
    }
    let (no_longer_here, in_doubt) = follow_directory(config, &directory, &pool).await?;
    let raised =
        restored::take_over(&pool, &secrets.redis_quota_url, Fence(asked.floor), config.allow_unsafe_ack).await?;
    let unknown_users = unknown.into_iter().collect();
    write(&asked.out, &TakenOver { shards: raised, charges, unknown_users, no_longer_here, in_doubt })
}

/// After the first start, once every shard has turned: before that the ledger is not whole.
pub(crate) async fn compare(config: &CellConfig, asked: &Compare) -> anyhow::Result<()> {
    let pool = connect(&config.secrets()?.postgres_url).await?;
    turned(&pool).await?;
    let names = asked.check.as_deref().map(read_names).transpose()?.unwrap_or_default();
    let gone = restored::gone(&pool, &names).await?;
    let gone = gone.into_iter().map(|(user, charge)| format!("{} {charge}", user.as_str())).collect();
    write(&asked.out, &Restored { ends: restored::ends(&pool, asked.below.map(Fence)).await?, gone })
}

fn write(path: &Path, document: &impl serde::Serialize) -> anyhow::Result<()> {
    Ok(write_atomically(path, &serde_json::to_vec(document)?)?)
}

async fn connect(url: &Secret) -> anyhow::Result<PgPool> {
    let options: PgConnectOptions = url.reveal().parse().context("a file that should hold the URL of a Postgres")?;
    PgPoolOptions::new().max_connections(2).connect_with(options).await.context("the restored Postgres")
}

async fn promoted(pool: &PgPool) -> anyhow::Result<()> {
    let until = tokio::time::Instant::now() + PROMOTED_MAX;
    while sqlx::query_scalar::<_, bool>("select pg_is_in_recovery()").fetch_one(pool).await? {
        anyhow::ensure!(tokio::time::Instant::now() < until, "the restored Postgres does not end its recovery");
        tokio::time::sleep(PROMOTED_POLL).await;
    }
    Ok(())
}

async fn turned(pool: &PgPool) -> anyhow::Result<()> {
    let until = tokio::time::Instant::now() + TURNED_MAX;
    loop {
        let turning = restored::turning(pool).await?;
        if turning.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(
            tokio::time::Instant::now() < until,
            "the shards {turning:?} have not opened on their Redis: what the ledger lacks cannot be said"
        );
        tokio::time::sleep(TURNED_POLL).await;
    }
}

/// Writes the charges that `whole` has and `cut` has not. Returns how many.
async fn cut_off(whole: &PgPool, cut: &PgPool, out: &Path) -> anyhow::Result<u64> {
    let mut file = BufWriter::new(File::create(out).with_context(|| format!("cannot write {}", out.display()))?);
    let (mut charges, mut written) = (0, std::io::Result::Ok(()));
    let each = |charge: &LostCharge| {
        charges += 1;
        if written.is_ok() {
            written = serde_json::to_writer(&mut file, charge).map_err(Into::into).and_then(|()| file.write_all(b"\n"));
        }
    };
    restored::beyond(whole, cut, each).await?;
    written.with_context(|| format!("cannot write {}", out.display()))?;
    file.flush()?;
    Ok(charges)
}

/// Whom the directory has at home here, and this cell's books do not know.
async fn of_directory(
    config: &CellConfig,
    directory: &OpenDirectory,
    pool: &PgPool,
) -> anyhow::Result<BTreeSet<String>> {
    let (mut unknown, mut from) = (BTreeSet::new(), None);
    loop {
        let page = directory.homes(from.as_ref(), PAGE_MAX).await?;
        // Of a sign-up that had not come to its commit nothing was promised.
        let here = |home: &&UserHome| {
            home.home == config.name && matches!(home.state, HomeState::Active | HomeState::Moving { .. })
        };
        let here: Vec<&str> = page.homes.iter().filter(here).map(|home| home.user.as_str()).collect();
        unknown.extend(sqlx::query_scalar::<_, String>(UNKNOWN).bind(here).fetch_all(pool).await?);
        from = page.next;
        if from.is_none() {
            return Ok(unknown);
        }
    }
}

/// Whom the books that were restored further know, and these do not.
async fn of_whole(whole: &PgPool, pool: &PgPool) -> anyhow::Result<BTreeSet<String>> {
    let (mut unknown, mut after) = (BTreeSet::new(), String::new());
    loop {
        let users: Vec<String> = sqlx::query_scalar(ALL_USERS).bind(&after).bind(PAGE_USERS).fetch_all(whole).await?;
        let Some(last) = users.last() else { return Ok(unknown) };
        after.clone_from(last);
        unknown.extend(sqlx::query_scalar::<_, String>(UNKNOWN).bind(users).fetch_all(pool).await?);
    }
}

/// Each user's home as the directory has it by now: who was erased or has left is not served again. Returns
/// them, and those of whom it does not say where they are.
async fn follow_directory(
    config: &CellConfig,
    directory: &OpenDirectory,
    pool: &PgPool,
) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let (mut gone, mut in_doubt, mut after) = (Vec::new(), Vec::new(), String::new());
    loop {
        let users: Vec<(String, i64)> = sqlx::query_as(USERS).bind(&after).bind(PAGE_USERS).fetch_all(pool).await?;
        let Some((last, _)) = users.last() else { return Ok((gone, in_doubt)) };
        after.clone_from(last);
        let reads = futures::stream::iter(users).map(|(user, epoch)| async move {
            let id = UserId::new(&user).map_err(|_| anyhow::anyhow!("the ownership table has an odd user id"))?;
            Ok::<_, anyhow::Error>((directory.read_home_serially(&id).await?, user, epoch))
        });
        let mut reads = reads.buffer_unordered(READS_MAX);
        while let Some(read) = reads.next().await {
            let (home, user, held) = read?;
            let Some(home) = home else {
                in_doubt.push(user);
                continue;
            };
            let epoch = home.epoch.as_i64();
            match home.state {
                HomeState::Erased => {
                    sqlx::query(LEAVE).bind(&user).bind("ERASED").bind("").bind(epoch).execute(pool).await?;
                    gone.push(user);
                }
                HomeState::Active if home.home != config.name => {
                    let home = home.home.as_str();
                    sqlx::query(LEAVE).bind(&user).bind("FORWARD").bind(home).bind(epoch).execute(pool).await?;
                    gone.push(user);
                }
                HomeState::Active | HomeState::Creating { .. } => {
                    if epoch > held {
                        sqlx::query(FOLLOW).bind(&user).bind(epoch).execute(pool).await?;
                    }
                }
                HomeState::Moving { .. } => in_doubt.push(user),
            }
        }
    }
}

fn read_names(path: &Path) -> anyhow::Result<Vec<(UserId, ChargeId)>> {
    let cannot = || format!("cannot read {}", path.display());
    let bytes = std::fs::metadata(path).with_context(cannot)?.len();
    anyhow::ensure!(bytes <= NAMES_BYTES_MAX, "{} is larger than {NAMES_BYTES_MAX} bytes", path.display());
    let text = std::fs::read_to_string(path).with_context(cannot)?;
    let name = |line: &str| -> Option<(UserId, ChargeId)> {
        let (user, charge) = line.trim().split_once(' ')?;
        Some((UserId::new(user).ok()?, charge.trim().parse().ok()?))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let named = |(n, line)| name(line).with_context(|| format!("{}:{}: not `user charge_id`", path.display(), n + 1));
    lines.map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_charges_is_read_and_a_bad_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("charges");
        std::fs::write(&path, "ada c1-2-3-0\n\nbob c1-1002-1-4\n").unwrap();
        let names: Vec<String> = read_names(&path).unwrap().iter().map(|(_, charge)| charge.to_string()).collect();
        assert_eq!(names, ["c1-2-3-0", "c1-1002-1-4"]);
        for bad in ["ada", "ada c1-2-3", "a/b c1-2-3-0"] {
            std::fs::write(&path, format!("ada c1-2-3-0\n{bad}\n")).unwrap();
            let error = read_names(&path).unwrap_err();
            assert!(format!("{error:#}").contains("charges:2"), "{error:#}");
        }
    }
}

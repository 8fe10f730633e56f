//! The cell's migrated schema, and the statements that rely on it.

use cellar_devstack::Postgres;
use sqlx::Executor;

/// Every statement of the quota engine is one that the migrated schema understands.
#[tokio::test]
async fn every_statement_of_the_quota_engine_prepares() {
    let postgres = Postgres::start_cell().await.unwrap();
    let pool = sqlx::PgPool::connect(&postgres.url()).await.unwrap();
    sqlx::migrate!("../migrations/postgres/cell").run(&pool).await.unwrap();
    for statement in cellar_quota::STATEMENTS {
        let prepared = (&pool).prepare(sqlx::SqlSafeStr::into_sql_str(*statement)).await;
        assert!(prepared.is_ok(), "{statement}: {:?}", prepared.err());
    }
}

/// Goal: a month goes only when it is exported whole, unchanged since, and far enough behind.
#[tokio::test]
async fn only_a_month_that_is_exported_whole_and_far_behind_is_dropped() {
    const DAY_US: i64 = 86_400_000_000;
    /// 2023-11-15
    const NOVEMBER: i64 = 1_700_006_400_000_000;
    let postgres = Postgres::start_cell().await.unwrap();
    let pool = sqlx::PgPool::connect(&postgres.url()).await.unwrap();
    sqlx::migrate!("../migrations/postgres/cell").run(&pool).await.unwrap();
    let insert = async |at_us: i64, n: i32| {
        sqlx::query(
            "insert into ledger (at_us, shard, fence, seq, n, user_id, epoch, version, kind, places, charges, checks)
             values ($1, 0, 1, 0, $2, 'u', 1, 1, 0, 1, '{\"tokens\":5}', '')",
        )
        .bind(at_us)
        .bind(n)
        .execute(&pool)
        .await
        .unwrap();
    };
    (&pool).execute("insert into shard (shard, fence, taker) values (0, 1, 'x')").await.unwrap();
    for (name, from, to) in [
        ("2023_11", 1_698_796_800_000_000i64, 1_701_388_800_000_000i64),
        ("2024_02", 1_706_745_600_000_000, 1_709_251_200_000_000),
    ] {
        let create = format!("create table ledger_{name} partition of ledger for values from ({from}) to ({to})");
        sqlx::query(sqlx::AssertSqlSafe(create)).execute(&pool).await.unwrap();
    }
    insert(NOVEMBER, 0).await;
    insert(NOVEMBER, 1).await;
    let ledger = cellar_quota::Ledger::new(pool.clone());
    let page = ledger.page("2023-11", None).await.unwrap().unwrap();
    assert_eq!((page.rows.len(), page.last), (2, true));
    assert_eq!(ledger.page("2023-11", page.rows.first()).await.unwrap().unwrap().rows.len(), 1);
    assert!(ledger.page("November", None).await.unwrap().is_none());

    assert!(!ledger.mark_exported("2023-11", 1, "half").await.unwrap(), "not whole");
    assert!(ledger.mark_exported("2023-11", 2, "whole").await.unwrap());
    assert!(ledger.drop_due(2).await.unwrap().is_empty(), "not behind");
    insert(NOVEMBER + 90 * DAY_US, 2).await;
    insert(NOVEMBER, 3).await;
    assert!(ledger.drop_due(2).await.unwrap().is_empty(), "a late entry has come");
    assert!(ledger.mark_exported("2023-11", 3, "again").await.unwrap());
    assert!(ledger.drop_due(3).await.unwrap().is_empty(), "not far enough");
    assert_eq!(ledger.drop_due(2).await.unwrap(), ["2023-11"]);
    let months: Vec<String> = ledger.months().await.unwrap().into_iter().map(|month| month.month).collect();
    assert_eq!(months, ["2024-02"]);
}

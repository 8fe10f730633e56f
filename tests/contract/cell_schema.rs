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

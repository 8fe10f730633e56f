//! A user's tier, block and end, through routers and cells of real processes.

use crate::machine;
use crate::support::{World, sign_up_body, status_of, tokens};
use cellar_client::{Client, Credential, Decision};
use cellar_devstack::Stack;
use cellar_model::UserId;
use cellar_model::wire::{Device, LogInBody};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// What a person says of himself, and what nobody else in the test says.
const EMAIL: &str = "zaphod.b@heart-of-gold.example";
const NAME: &str = "Zaphod Beeblebrox";
const DEVICE: &str = "improbable-phone";
const PREFERENCE: &str = "pan-galactic-gargle";

async fn person(world: &World, tier: &str) -> (UserId, Client) {
    let mut body = sign_up_body(EMAIL, tier);
    body.name = Some(NAME.into());
    body.password = Some("correct horse battery staple".into());
    let user = world.client.sign_up(&body, Some("zaphod")).await.unwrap().user_id;
    let log_in = LogInBody {
        email: None,
        password: None,
        user_id: Some(user.clone()),
        device: Device { name: DEVICE.into(), platform: "linux".into() },
    };
    let session = world.client.log_in(&log_in).await.unwrap();
    let preference = json!({"drink": PREFERENCE}).as_object().unwrap().clone();
    world.client.patch_preferences(&user, &preference).await.unwrap();
    (user, world.client.with_credential(Credential::new(session.session_token)))
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tier_decides_from_the_answer_on_and_forgets_no_spend() {
    let world = World::two_regions();
    world.bucket_tier("small", 10).await;
    world.bucket_tier("large", 100).await;
    let (user, _) = person(&world, "small").await;
    assert!(world.client.consume(&tokens(&user, 8, None)).await.unwrap().is_allowed());
    assert_eq!(status_of(world.client.consume(&tokens(&user, 8, None)).await), 429);

    world.client.set_tier(user.as_str(), "large".parse().unwrap()).await.unwrap();
    let Decision::Allowed(allowed) = world.client.consume(&tokens(&user, 8, None)).await.unwrap() else {
        panic!("the larger tier denies")
    };
    assert_eq!((allowed.tier.as_str(), allowed.policies[0].remaining), ("large", 84), "8 and 8 of 100 are spent");
    // Back: what was spent is more than there is.
    world.client.set_tier(EMAIL, "small".parse().unwrap()).await.unwrap();
    assert_eq!(status_of(world.client.consume(&tokens(&user, 1, None)).await), 429);
    assert_eq!(world.client.account(EMAIL).await.unwrap().tier.as_str(), "small");
    let books = world.books(Some(&cell_of(&world, &user).await), &user, "tokens").await;
    assert_eq!(books, (16, 16, 16));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_ends_sessions_and_spending_until_it_is_lifted() {
    let world = World::two_regions();
    world.bucket_tier("bucket", 100).await;
    let (user, session) = person(&world, "bucket").await;
    assert!(world.client.consume(&tokens(&user, 1, None)).await.unwrap().is_allowed());
    world.client.set_blocked(EMAIL, true).await.unwrap();
    assert_eq!(status_of(world.client.consume(&tokens(&user, 1, None)).await), 403);
    assert_eq!(session.sessions().await.unwrap_err().status(), Some(403));
    // In force in another life of the cell as well.
    world.cellctl.ok(&["restart", "cell"]).unwrap();
    assert_eq!(status_of(world.client.consume(&tokens(&user, 1, None)).await), 403);
    world.client.set_blocked(user.as_str(), false).await.unwrap();
    assert!(world.client.consume(&tokens(&user, 1, None)).await.unwrap().is_allowed());
    assert_eq!(session.sessions().await.unwrap().sessions.len(), 1);
}

/// Goal: a tier change whose quota record could not be told is told later, by itself.
/// Method: both of the record's stores die behind the row's change: the quota Redis is stopped, so the first
/// answer may be unknown; when it is back the new tier decides without another word.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_no_record_took_is_made_up_for() {
    let world = World::cell();
    world.bucket_tier("small", 10).await;
    world.bucket_tier("large", 100).await;
    let (user, _) = person(&world, "small").await;
    assert!(world.client.consume(&tokens(&user, 10, None)).await.unwrap().is_allowed());
    crate::faults::kill9(&world, "redis-quota").await;
    let _ = world.client.set_tier(user.as_str(), "large".parse().unwrap()).await;
    world.cellctl.ok(&["restart", "redis-quota"]).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match world.client.consume(&tokens(&user, 10, Some("large"))).await {
            Ok(Decision::Allowed(allowed)) => break assert_eq!(allowed.tier.as_str(), "large"),
            Ok(Decision::Denied(_)) | Err(_) => {
                assert!(Instant::now() < until, "the record never hears of its tier");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Goal: an erased person leaves every store, and the amounts stay.
/// Method: a person with everything there is, on two regions of real processes, is exported and erased; then the
/// Postgres servers are dumped, Redis's keys and values read, and every file of the stack searched.
#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_leaves_no_trace_in_any_store() {
    let world = World::two_regions();
    world.bucket_tier("bucket", 1_000).await;
    let (user, session) = person(&world, "bucket").await;
    for n in 0..5 {
        let spent = world.client.consume(&tokens(&user, 7, Some(&format!("k{n}")))).await.unwrap();
        assert!(spent.is_allowed());
    }
    session.profile(&user).await.unwrap();
    let mut exported = Vec::new();
    world.client.export(EMAIL, &mut exported).await.unwrap();
    let export: serde_json::Value = serde_json::from_slice(&exported).unwrap();
    let text = export.to_string();
    for said in [EMAIL, NAME, DEVICE, PREFERENCE, user.as_str()] {
        assert!(text.contains(said), "the export lacks {said}");
    }

    let cell = cell_of(&world, &user).await;
    world.client.erase(EMAIL).await.unwrap();
    assert_eq!(status_of(world.client.consume(&tokens(&user, 1, None)).await), 404);
    assert_eq!(world.client.account(EMAIL).await.unwrap_err().status(), Some(404));
    assert!(matches!(session.sessions().await.unwrap_err().status(), Some(401 | 404)));
    world.client.erase(user.as_str()).await.unwrap();

    let said = [EMAIL, NAME, DEVICE, PREFERENCE];
    let (mut stores, mut amounts) = (0, 0);
    for process in Stack::open(world.cellctl.stack()).unwrap().state().processes.clone() {
        let rows = match process.role.label() {
            "postgres" | "directory" => rows_of_postgres(&process.url).await,
            "redis-quota" | "redis-cache" => values_of_redis(&process.url).await,
            _ => continue,
        };
        stores += 1;
        for (place, row) in &rows {
            for said in said {
                let hidden = said.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
                assert!(!row.contains(said) && !row.contains(&hidden), "{}: {place} still has {said}", process.name);
            }
            // The id itself stays where it must never begin again, and in no book.
            let kept = ["ownership", "intents", "user_home"].contains(&place.as_str());
            // An empty record until it expires; and in the stream until that is trimmed, a second later.
            let of_quota = ["quota:", "ledger:"].iter().any(|kind| place.starts_with(kind));
            assert!(
                kept || of_quota || !row.contains(user.as_str()),
                "{}: {place} names the user: {row}",
                process.name
            );
            amounts += usize::from(place == "ledger" && row.contains("erased_") && row.contains("\"\"tokens\"\": 7"));
        }
    }
    until_trimmed(&machine::process(&world.cellctl, &format!("{cell}-redis-quota")).url, &user).await;
    assert!(stores >= 7, "{stores} stores were searched");
    assert_eq!(amounts, 5, "the ledger keeps the amounts");
    let mut searched = 0;
    for file in files(world.cellctl.stack()) {
        let Ok(bytes) = std::fs::read(&file) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        searched += 1;
        for said in said {
            assert!(!text.contains(said), "{} has {said}", file.display());
        }
    }
    assert!(searched > 10, "{searched} files were searched");
}

/// The stream of commits names the user no more.
async fn until_trimmed(redis: &str, user: &UserId) {
    let until = Instant::now() + Duration::from_secs(20);
    let named = |(key, row): &(String, String)| key.starts_with("ledger:") && row.contains(user.as_str());
    while values_of_redis(redis).await.iter().any(named) {
        assert!(Instant::now() < until, "the stream still names the user");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Every row of every table, as text.
async fn rows_of_postgres(url: &str) -> Vec<(String, String)> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let tables = "select relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
                  where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut connection).await.unwrap();
    let mut rows = Vec::new();
    for table in tables {
        let all = sqlx::AssertSqlSafe(format!("select t::text from {table} t"));
        let found: Vec<String> = sqlx::query_scalar(all).fetch_all(&mut connection).await.unwrap();
        rows.extend(found.into_iter().map(|row| (table.clone(), row)));
    }
    rows
}

/// Every key with its value, as text.
async fn values_of_redis(url: &str) -> Vec<(String, String)> {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    let mut values = Vec::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut connection).await.unwrap();
        let read = match kind.as_str() {
            "hash" => redis::cmd("HGETALL").arg(&key).clone(),
            "stream" => redis::cmd("XRANGE").arg(&key).arg("-").arg("+").clone(),
            "list" => redis::cmd("LRANGE").arg(&key).arg(0).arg(-1).clone(),
            "zset" => redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).clone(),
            "set" => redis::cmd("SMEMBERS").arg(&key).clone(),
            _ => redis::cmd("GET").arg(&key).clone(),
        };
        let value: redis::Value = read.query_async(&mut connection).await.unwrap();
        values.push((key.clone(), format!("{key} {}", plain(&value))));
    }
    values
}

fn plain(value: &redis::Value) -> String {
    match value {
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        redis::Value::Array(items) | redis::Value::Set(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        redis::Value::Map(pairs) => pairs.iter().map(|(k, v)| plain(k) + " " + &plain(v)).collect::<Vec<_>>().join(" "),
        other => format!("{other:?}"),
    }
}

/// All files of a stack but the databases' own, where a row that is gone lies until it is written over.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let own = |name: &str| path.join(name).exists();
        if path.is_dir() && !own("PG_VERSION") && !own("appendonlydir") {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

/// The cell that is the user's home.
async fn cell_of(world: &World, user: &UserId) -> String {
    let found = world.admin.whereabouts(user).await.unwrap();
    found["cell"].as_str().unwrap().to_owned()
}

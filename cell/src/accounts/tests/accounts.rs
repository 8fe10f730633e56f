//! Tier, block, password and the end of an account.

use super::*;
use cellar_directory::{Claims, HomeState};

fn of(user: &str) -> [(&str, &str); 2] {
    [(header::CALLER, "gateway"), (header::USER, user)]
}

#[tokio::test]
async fn a_tier_is_changed_once_and_only_by_who_has_seen_the_last_change() {
    let world = World::start().await;
    world.user("ada").await;
    let shown = world.ask("GET", "/v1/internal/users/ada", &of("ada"), Value::Null).await;
    assert_eq!(shown.status, StatusCode::OK, "{}", shown.body);
    let tag = shown.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!((&shown.body["state"], &shown.body["has_password"]), (&json!("active"), &json!(true)));

    let other = world.ask("PUT", "/v1/internal/users/ada/tier", &of("ada"), json!({"tier": "gold"})).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
    // The same again changes nothing, and its tag stays.
    let same = world.ask("PUT", "/v1/internal/users/ada/tier", &of("ada"), json!({"tier": "pro"})).await;
    assert_eq!((same.status, same.headers["etag"].to_str().unwrap()), (StatusCode::OK, tag.as_str()));

    assert_eq!(world.ask("PUT", "/v1/internal/users/ada/block", &of("ada"), Value::Null).await.status, 204);
    let stale = [of("ada")[0], of("ada")[1], ("if-match", tag.as_str())];
    let late = world.ask("PUT", "/v1/internal/users/ada/tier", &stale, json!({"tier": "pro"})).await;
    assert_eq!(late.status, StatusCode::PRECONDITION_FAILED);
}

#[tokio::test]
async fn a_blocked_user_has_no_session_until_the_block_ends() {
    let world = World::start().await;
    world.user("ada").await;
    let session = world.session("ada").await;
    assert_eq!(world.profile_status(&session).await, StatusCode::OK);
    for _ in 0..2 {
        assert_eq!(world.ask("PUT", "/v1/internal/users/ada/block", &of("ada"), Value::Null).await.status, 204);
        assert_eq!(world.profile_status(&session).await, StatusCode::FORBIDDEN);
        let log_in = json!({"email": "ada@example.org", "password": "correct horse"});
        assert_eq!(world.ask("POST", "/v1/sessions", &of("ada"), log_in).await.status, StatusCode::FORBIDDEN);
    }
    let shown = world.ask("GET", "/v1/internal/users/ada", &of("ada"), Value::Null).await;
    assert_eq!(shown.body["state"], "blocked");
    assert_eq!(world.ask("DELETE", "/v1/internal/users/ada/block", &of("ada"), Value::Null).await.status, 204);
    assert_eq!(world.profile_status(&session).await, StatusCode::OK);
}

#[tokio::test]
async fn a_new_password_ends_every_session_but_the_kept_one() {
    let world = World::start().await;
    world.user("ada").await;
    let (kept, other) = (world.session("ada").await, world.session("ada").await);
    let change = json!({"current_password": "wrong horse", "password": "battery staple"});
    let path = "/v1/user/password?keep=current";
    let wrong = world.ask("PUT", path, &borrowed(&kept), change).await;
    assert_eq!(
        (wrong.status, &wrong.body["errors"][0]["pointer"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("/current_password"))
    );
    let missing = world.ask("PUT", path, &borrowed(&kept), json!({"password": "battery staple"})).await;
    assert_eq!(missing.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(world.profile_status(&other).await, StatusCode::OK, "nothing has changed yet");

    let change = json!({"current_password": "correct horse", "password": "battery staple"});
    assert_eq!(world.ask("PUT", path, &borrowed(&kept), change).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.profile_status(&other).await, StatusCode::UNAUTHORIZED);
    assert_eq!(world.profile_status(&kept).await, StatusCode::OK);
    let log_in = |password: &str| json!({"email": "ada@example.org", "password": password});
    let old = world.ask("POST", "/v1/sessions", &of("ada"), log_in("correct horse")).await;
    assert_eq!(old.status, StatusCode::UNAUTHORIZED);
    let new = world.ask("POST", "/v1/sessions", &of("ada"), log_in("battery staple")).await;
    assert_eq!(new.status, StatusCode::CREATED);

    // A service key needs no present one, and keeps nobody.
    let reset =
        world.ask("PUT", "/v1/internal/users/ada/password", &of("ada"), json!({"password": "third time"})).await;
    assert_eq!(reset.status, StatusCode::NO_CONTENT);
    assert_eq!(world.profile_status(&kept).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_erased_user_is_nobody_and_the_e_mail_anybodys() {
    let world = World::start().await;
    world.user("ada").await;
    let session = world.session("ada").await;
    let preference = json!({"theme": "dark"});
    assert_eq!(world.ask("POST", "/v1/user/preferences", &of("ada"), preference).await.status, StatusCode::OK);
    assert_eq!(world.ask("DELETE", "/v1/user", &borrowed(&session), Value::Null).await.status, StatusCode::NO_CONTENT);

    assert!(matches!(world.profile_status(&session).await, StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED));
    assert_eq!(world.ask("GET", "/v1/user/profile", &of("ada"), Value::Null).await.status, StatusCode::NOT_FOUND);
    let home = world.directory.read_home_serially(&UserId::new("ada").unwrap()).await.unwrap().unwrap();
    assert_eq!((home.state, home.epoch.0), (HomeState::Erased, 2));
    assert!(world.directory.read_claim_serially(&hash(b'a', "ada@example.org")).await.unwrap().is_none());
    for table in ["users", "sessions", "preferences", "preference_versions", "erasures", "releases", "terms_due"] {
        let (rows,): (i64,) = sqlx::query_as(sqlx::AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(&world.pool)
            .await
            .unwrap();
        assert_eq!(rows, 0, "{table}");
    }
    // A repeat has nothing to do, the id never begins again, and the e-mail does.
    assert_eq!(world.ask("DELETE", "/v1/internal/users/ada", &of("ada"), Value::Null).await.status, 204);
    let body = json!({"email": "other@example.org", "tier": "pro"});
    assert_eq!(world.sign_up("ada", "beef01", body).await.status, StatusCode::CONFLICT);
    let body = json!({"email": "ada@example.org", "tier": "pro"});
    assert_eq!(world.sign_up("eve", "beef02", body).await.status, StatusCode::CREATED);
}

/// Goal: an erasure that stopped after its first step is finished by whoever comes next.
/// Method: the directory is away while the user is erased; then the round looks again.
#[tokio::test]
async fn an_erasure_that_stopped_half_way_is_finished_by_the_round() {
    let world = World::start().await;
    world.user("ada").await;
    let (away, back) =
        ("alter table user_home rename to user_home_away", "alter table user_home_away rename to user_home");
    let options = world.pool.connect_options().as_ref().clone().database("homes");
    let homes = PgPool::connect_with(options).await.unwrap();
    homes.execute(away).await.unwrap();
    let erased = world.ask("DELETE", "/v1/internal/users/ada", &of("ada"), Value::Null).await;
    assert!(erased.status.is_server_error(), "{}", erased.status);
    // This cell serves nobody of that name already.
    assert_eq!(world.ask("GET", "/v1/user/profile", &of("ada"), Value::Null).await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.accounts.finish_erasures().await.unwrap(), 1);
    homes.execute(back).await.unwrap();
    assert_eq!(world.accounts.finish_erasures().await.unwrap(), 0);
    let home = world.directory.read_home_serially(&UserId::new("ada").unwrap()).await.unwrap().unwrap();
    assert_eq!(home.state, HomeState::Erased);
}

#[tokio::test]
async fn who_is_named_by_an_e_mail_that_is_no_longer_theirs_is_nobody() {
    let world = World::start().await;
    world.user("ada").await;
    for (id, status) in
        [("ada%40example.org", 200), ("ADA%40Example.org", 200), ("eve%40example.org", 404), ("x%40", 404)]
    {
        let path = format!("/v1/internal/users/{id}");
        assert_eq!(world.ask("GET", &path, &of("ada"), Value::Null).await.status.as_u16(), status, "{id}");
    }
    // Two names in one request, and a session, which speaks for nobody here.
    assert_eq!(world.ask("GET", "/v1/internal/users/eve", &of("ada"), Value::Null).await.status, 422);
    let session = world.session("ada").await;
    let by_session = world.ask("DELETE", "/v1/internal/users/ada", &borrowed(&session), Value::Null).await;
    assert_eq!(by_session.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_export_has_the_account_its_sessions_and_its_preferences() {
    let world = World::start().await;
    world.user("ada").await;
    world.session("ada").await;
    let preference = json!({"theme": {"dark": true}});
    world.ask("POST", "/v1/user/preferences", &of("ada"), preference.clone()).await;
    for path in ["/v1/user/export", "/v1/internal/users/ada/export"] {
        let exported = world.ask("GET", path, &of("ada"), Value::Null).await;
        assert_eq!(exported.status, StatusCode::OK);
        assert_eq!(exported.body["account"]["email"], "ada@example.org");
        assert_eq!(exported.body["preferences"], preference);
        assert_eq!(exported.body["sessions"].as_array().unwrap().len(), 1);
        assert_eq!(exported.body["ledger"], json!([]));
        assert!(!exported.body.to_string().contains("argon2"), "a hash is not the person's");
    }
}

/// Goal: who signed up after the backup that a cell was restored from can be erased, and begins anew.
#[tokio::test]
async fn a_user_whom_only_the_directory_knows_can_be_erased() {
    let world = World::start().await;
    world.user("ada").await;
    let user = UserId::new("ada").unwrap();
    for table in ["users", "ownership", "intents"] {
        let gone = format!("delete from {table} where user_id = 'ada'");
        world.pool.execute(sqlx::AssertSqlSafe(gone)).await.unwrap();
    }
    world.accounts.forget_all();
    assert_eq!(world.ask("DELETE", "/v1/internal/users/eve", &of("eve"), Value::Null).await.status, 421);
    assert_eq!(world.ask("DELETE", "/v1/internal/users/ada", &of("ada"), Value::Null).await.status, 204);
    let home = world.directory.read_home_serially(&user).await.unwrap().unwrap();
    assert_eq!(home.state, HomeState::Erased);
    let held = world.directory.claims(None, 10).await.unwrap().claims;
    let left = world.accounts.held_and_left(&held).await.unwrap();
    assert_eq!(left.len(), 1, "the reaper frees the claim");
}

//! Keys on real processes: who may ask, and what session tokens are signed with.

use crate::support::World;
use cellar_client::{Admin, Client, ClientError, Credential};
use cellar_model::UserId;
use cellar_model::wire::{Device, LogInBody, LoggedIn};
use serde_json::Value;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

async fn log_in(client: &Client, user: &UserId) -> LoggedIn {
    let device = Device { name: "laptop".into(), platform: "linux".into() };
    let body = LogInBody { email: None, password: None, user_id: Some(user.clone()), device };
    client.log_in(&body).await.unwrap()
}

async fn sessions(world: &World, n: usize, token: &str) -> Option<u16> {
    let client = Client::new([world.urls[n].clone()], Credential::new(token)).unwrap();
    client.sessions().await.err().map(|error| error.status().unwrap_or(0))
}

/// Asks with tokens, old and fresh, at both routers, until it is told to stop. How often, and what was no answer.
async fn keep_asking(world: Arc<World>, user: UserId, token: String, stop: Arc<AtomicBool>) -> (u64, Vec<u16>) {
    let (mut asked, mut refused) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let logged_in = log_in(&world.client, &user).await;
        let fresh = logged_in.session_token;
        for n in 0..2 {
            for token in [&token, &fresh] {
                asked += 1;
                refused.extend(sessions(&world, n, token).await);
            }
        }
        // A hundred and one of them would put out the first.
        let own = world.client.with_credential(Credential::new(fresh));
        own.revoke_session(&logged_in.session_id).await.unwrap();
    }
    (asked, refused)
}

/// Goal: while keys are rotated no token that is alive is refused by any process; one of a key that has left is.
/// Method: requests with tokens from before and from this moment at both routers all the while.
#[tokio::test(flavor = "multi_thread")]
async fn session_keys_are_rotated_under_load_and_no_live_token_is_refused() {
    let world = Arc::new(World::two_regions());
    let user = world.user("ada@example.org", "pro").await;
    let first = log_in(&world.client, &user).await.session_token;
    let stop = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn(keep_asking(world.clone(), user.clone(), first.clone(), stop.clone()));
    let rotate = |more: &'static str| {
        let world = world.clone();
        let command = ["keys", "mac", "rotate", more];
        tokio::task::spawn_blocking(move || world.cellctl.run(&command).unwrap())
    };
    let rotated = rotate("--json").await.unwrap();
    assert!(rotated.status.success(), "{rotated:?}");
    let said: Value = serde_json::from_slice(&rotated.stdout).unwrap();
    assert_eq!((said["processes"].as_u64(), said["fingerprints"].as_array().unwrap().len()), (Some(4), 2));
    stop.store(true, Ordering::Relaxed);
    let (asked, refused) = asking.await.unwrap();
    assert!(asked > 0 && refused.is_empty(), "{asked} asked, {refused:?}");

    let second = log_in(&world.client, &user).await.session_token;
    assert_eq!(sessions(&world, 0, &first).await, None, "the key before still counts");
    let held = rotate("--json").await.unwrap();
    let said = String::from_utf8_lossy(&held.stderr).into_owned();
    assert!(!held.status.success() && said.contains("--drop-older"), "{said}");
    assert_eq!(sessions(&world, 0, &first).await, None);
    assert!(rotate("--drop-older").await.unwrap().status.success());
    for n in 0..2 {
        assert_eq!(sessions(&world, n, &first).await, Some(401), "its key has left");
        assert_eq!(sessions(&world, n, &second).await, None);
    }
    // A process that starts later goes by the file.
    world.cellctl.ok(&["restart", "router"]).unwrap();
    assert_eq!(sessions(&world, 1, &first).await, Some(401));
    assert_eq!(sessions(&world, 1, &second).await, None);
}

/// Waits until it is so: processes read the catalog every two seconds.
async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn refusal(world: &World, command: &[&str]) -> String {
    let out = world.cellctl.run(command).unwrap();
    assert!(!out.status.success(), "{out:?}");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn key_in(file: &str) -> String {
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

/// Goal: a service key is made, rotated with no moment at which its holder has none, and ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_key_is_made_rotated_without_a_gap_and_revoked() {
    let world = World::two_regions();
    let user = world.user("ada@example.org", "pro").await;
    let file = |name: &str| world.cellctl.folder().join(name).display().to_string();
    let (first, second) = (file("first"), file("second"));
    let create = ["keys", "service", "create", "app", "--scopes", "quota,users", "--out", &first];
    world.cellctl.ok(&create).unwrap();
    let asked = |key: String| {
        let (client, user) = (Client::new(world.urls.clone(), Credential::new(key)).unwrap(), user.clone());
        async move { client.quota(&user).await.err().map_or(200, |error| error.status().unwrap_or(0)) }
    };
    let first_key = key_in(&first);
    until("the key is in force", || async { asked(first_key.clone()).await == 200 }).await;
    assert!(refusal(&world, &create).contains("cannot write"), "the file is there");
    let again = ["keys", "service", "create", "app", "--scopes", "quota", "--out", &second];
    assert!(refusal(&world, &again).contains("another key of this name"));
    assert!(!std::path::Path::new(&second).exists(), "no key that is none is left lying about");
    let gold = ["keys", "service", "create", "b", "--scopes", "quota", "--auto-enrol", "gold"];
    assert!(refusal(&world, &gold).contains("there is no tier gold"));

    // One asks with the old text until the new one counts, and no request is refused.
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let asking = tokio::spawn({
        let (stop, count, asked) = (stop.clone(), count.clone(), asked(first_key.clone()));
        let (client, user) =
            (Client::new(world.urls.clone(), Credential::new(first_key.clone())).unwrap(), user.clone());
        async move {
            asked.await;
            while !stop.load(Ordering::Relaxed) {
                client.quota(&user).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    world.cellctl.ok(&["keys", "service", "rotate", "app", "--out", &second]).unwrap();
    let second_key = key_in(&second);
    until("the new text counts", || async { asked(second_key.clone()).await == 200 }).await;
    stop.store(true, Ordering::Relaxed);
    asking.await.unwrap();
    assert!(count.load(Ordering::Relaxed) > 0);
    assert!(refusal(&world, &["keys", "service", "rotate", "app"]).contains("still counts"));
    world.cellctl.ok(&["keys", "service", "revoke", "app", "--old"]).unwrap();
    until("the old text is none", || async { asked(first_key.clone()).await == 401 }).await;
    assert_eq!(asked(second_key.clone()).await, 200);
    world.cellctl.ok(&["keys", "service", "revoke", "app"]).unwrap();
    until("the key is none", || async { asked(second_key.clone()).await == 401 }).await;
    assert!(refusal(&world, &["keys", "service", "rotate", "app"]).contains("has been revoked"));
    let listed: Value =
        serde_json::from_str(&world.cellctl.ok(&["keys", "service", "list", "--json"]).unwrap()).unwrap();
    let app = listed.as_array().unwrap().iter().find(|key| key["name"] == "app").unwrap();
    assert_eq!(app["revoked"], true);
    let all = listed.to_string();
    assert!(!all.contains(&second_key) && !all.contains(&first_key) && !all.contains("hash"), "{all}");
}

/// Goal: operator keys make keys and nobody else does, and there is always one.
#[tokio::test(flavor = "multi_thread")]
async fn only_operators_make_keys_and_the_last_of_them_stays() {
    let world = World::cell();
    let status = world.cellctl.status().unwrap();
    let admin_url = status["regions"][0]["admin_url"].as_str().unwrap();
    let with = |key: &str| Admin::new([admin_url], Credential::new(key.to_owned())).unwrap();
    let code = |answer: Result<_, ClientError>| answer.map(|_: Vec<_>| 200).unwrap_or_else(|e| e.status().unwrap_or(0));
    let user = world.user("ada@example.org", "pro").await;
    let session = log_in(&world.client, &user).await.session_token;
    assert_eq!(code(with(&world.service_key).keys().await), 403);
    assert_eq!(code(with(&session).keys().await), 403);
    assert_eq!(code(with("cok_x").keys().await), 401);

    let own = refusal(&world, &["keys", "operator", "revoke", "operator"]);
    assert!(own.contains("--own"), "{own}");
    let last = refusal(&world, &["keys", "operator", "revoke", "operator", "--own"]);
    assert!(last.contains("the last operator key"), "{last}");
    let made = world.cellctl.ok(&["keys", "operator", "create", "eve", "--json"]).unwrap();
    let made: Value = serde_json::from_str(&made).unwrap();
    let eve = with(made["key"].as_str().unwrap());
    assert_eq!(code(eve.keys().await), 200, "in force at once where it was made");
    // The stack's own key is rotated: its commands go on with the new text.
    world.cellctl.ok(&["keys", "operator", "rotate", "operator"]).unwrap();
    world.cellctl.ok(&["keys", "operator", "revoke", "operator", "--old"]).unwrap();
    assert!(world.cellctl.ok(&["keys", "operator", "list"]).unwrap().contains("eve"));
    let operator = status["operator_key"].as_str().unwrap();
    assert_eq!(code(with(operator).keys().await), 401);
    world.cellctl.ok(&["keys", "operator", "revoke", "operator", "--own"]).unwrap();
    assert_eq!(code(eve.keys().await), 200);
}

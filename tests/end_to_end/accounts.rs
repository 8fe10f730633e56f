//! A person's account through a router: log in, look around, log out.

use crate::support::World;
use cellar_client::Credential;
use cellar_model::wire::{Device, LogInBody, SignUpBody};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_sees_devices_and_preferences_and_logs_out_everywhere() {
    let world = World::two_regions();
    let sign_up = SignUpBody {
        email: "Ada@Example.org".into(),
        name: Some("Ada".into()),
        password: Some("correct horse battery staple".into()),
        tier: "pro".parse().unwrap(),
        region: Some("us".parse().unwrap()),
        user_id: None,
    };
    let user = world.client.sign_up(&sign_up, Some("ada")).await.unwrap().user_id;
    assert_eq!(world.client.sign_up(&sign_up, Some("ada")).await.unwrap().user_id, user, "a repeat is the same user");
    assert_eq!(world.client.sign_up(&sign_up, Some("other")).await.unwrap_err().status(), Some(409));

    let log_in = |password: &str| LogInBody {
        email: Some("ada@example.org".into()),
        password: Some(password.into()),
        user_id: None,
        device: Device { name: "laptop".into(), platform: "linux".into() },
    };
    let anyone = world.client.without_credential();
    assert_eq!(anyone.log_in(&log_in("wrong password here")).await.err().and_then(|e| e.status()), Some(401));
    let first = anyone.log_in(&log_in("correct horse battery staple")).await.unwrap();
    let second = anyone.log_in(&log_in("correct horse battery staple")).await.unwrap();
    assert_eq!(first.user_id, user);

    let session = world.client.with_credential(Credential::new(first.session_token));
    let listed = session.sessions().await.unwrap().sessions;
    assert_eq!(listed.len(), 2);
    assert_eq!(listed.iter().filter(|entry| entry.current).count(), 1);

    let patch = json!({"theme": "dark", "font": 12}).as_object().unwrap().clone();
    world.client.patch_preferences(&user, &patch).await.unwrap();
    let patch = json!({"font": null}).as_object().unwrap().clone();
    world.client.patch_preferences(&user, &patch).await.unwrap();
    let profile = world.client.profile(&user).await.unwrap();
    assert_eq!((profile.name.as_deref(), profile.tier.as_str()), (Some("Ada"), "pro"));
    assert_eq!(serde_json::Value::from(profile.preferences), json!({"theme": "dark"}));

    // In force for every request that starts after the answer.
    session.revoke_all_sessions(true).await.unwrap();
    let other = world.client.with_credential(Credential::new(second.session_token));
    assert_eq!(other.sessions().await.unwrap_err().status(), Some(401));
    assert_eq!(session.sessions().await.unwrap().sessions.len(), 1);
    session.revoke_all_sessions(false).await.unwrap();
    assert_eq!(session.sessions().await.unwrap_err().status(), Some(401));
}

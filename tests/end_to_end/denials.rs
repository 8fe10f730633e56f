//! A candidate that denies what the tier does not, in a cell that serves.

use crate::support::{World, tokens};
use cellar_model::UserId;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// Of whom about half are in the wave. Fifty on either side are needed before anything is said.
const USERS: usize = 200;
const WAIT_MAX: Duration = Duration::from_secs(60);
const TIER: &str = r#"
name = "metered"
[[policy]]
slot = "monthly"
use = "monthly-bucket@1"
unit = "tokens"
settings = { limit = 1000000 }
"#;
/// One token a month: of each user's first two checks it denies one.
const STRICT: &str = r#"
[rollout]
percent = 50
stop = { denials_percent = 5.0, after = 100 }
[[rollout.policy]]
slot = "monthly"
use = "monthly-bucket@1"
unit = "tokens"
settings = { limit = 1 }
"#;

/// Asks once for each user: who was decided by the candidate, by the limit in the answer, and who was denied.
async fn ask_all(world: &World, http: &reqwest::Client, users: &[UserId]) -> (usize, usize) {
    let (mut by_candidate, mut denied) = (0, 0);
    for user in users {
        let url = format!("{}/v1/internal/quota/consume", world.urls[0]);
        let check = tokens(user, 1, None);
        let answer = http.post(url).bearer_auth(&world.service_key).json(&check.body).send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        assert!(matches!(status, 200 | 429), "{status} {body}");
        by_candidate += usize::from(body["policies"][0]["limit"] == 1);
        denied += usize::from(status == 429);
    }
    (by_candidate, denied)
}

async fn metric(world: &World, name: &str) -> Option<String> {
    let admin = world.cellctl.status().unwrap()["regions"][0]["admin_url"].as_str().unwrap().to_owned();
    let text = reqwest::get(format!("{admin}/metrics")).await.unwrap().text().await.unwrap();
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
}

async fn until_stopped_is(world: &World, value: &str) {
    let until = Instant::now() + WAIT_MAX;
    loop {
        let found = metric(world, "cellar_rollout_stopped{tier=\"metered\"}").await;
        if found.as_deref() == Some(value) {
            return;
        }
        assert!(Instant::now() < until, "{found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Goal: a candidate that denies half of what the tier admits stops in the cell by itself, says why, and stays stopped
/// over a restart; from then on its users are decided by the tier's own policies again.
#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_denies_much_more_is_stopped_by_the_cell() {
    let world = World::cell();
    world.tier(TIER).await;
    let mut users = Vec::new();
    for n in 0..USERS {
        users.push(world.user(&format!("metered-{n}@example.org"), "metered").await);
    }
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    world.admin.put_tier(&cellar_model::TierDocument::from_toml(&format!("{TIER}{STRICT}")).unwrap()).await.unwrap();
    until_stopped_is(&world, "0").await;

    // The first round admits everywhere. In the second, those of the candidate are denied until it stops.
    let (by_candidate, denied) = ask_all(&world, &http, &users).await;
    assert!(by_candidate > 50 && by_candidate < USERS - 50 && denied == 0, "{by_candidate} {denied}");
    let (_, denied) = ask_all(&world, &http, &users).await;
    until_stopped_is(&world, "1").await;
    assert!(denied > 0, "it decided nobody");
    let (by_candidate, denied_after) = ask_all(&world, &http, &users).await;
    assert_eq!((by_candidate, denied_after), (0, 0), "the tier's own policies decide, and admit");

    let shown = world.cellctl.ok(&["tier", "show", "metered"]).unwrap();
    assert!(shown.contains("STOPPED here: it denied ") && shown.contains("the current policies 0.0 % of"), "{shown}");
    let stack = cellar_devstack::Stack::open(world.cellctl.stack()).unwrap();
    let cells = stack.state().processes.iter().filter(|process| process.role.label() == "cell");
    let cell = cells.map(|process| process.name.clone()).next().unwrap();
    let log = world.cellctl.ok(&["logs", &cell]).unwrap();
    assert!(log.contains("it denied "), "the log says why");
    world.cellctl.ok(&["restart", &cell]).unwrap();
    until_stopped_is(&world, "1").await;
    assert_eq!(ask_all(&world, &http, &users[..20]).await, (0, 0));
}

//! Policies that mean harm, in a Cellar that serves: what is refused at the door, and whom the rest reaches.

use crate::spender::Spender;
use crate::support::{World, tokens};
use cellar_client::Consume;
use cellar_model::{PolicyName, UserId};
use futures::future::{join, join_all};
use serde_json::Value;

/// Requests of each user, beside those of the others.
const REQUESTS: usize = 150;

fn tier(name: &str, used: &str, limit: u64) -> String {
    format!(
        "name = \"{name}\"\n[[policy]]\nslot = \"monthly\"\nuse = \"{used}\"\nunit = \"tokens\"\n\
         settings = {{ limit = {limit} }}\n"
    )
}

async fn publish(world: &World, spender: Spender) {
    let name = PolicyName::new(Spender::NAME).unwrap();
    world.publish(&name, spender.version.parse().unwrap(), spender.component()).await;
}

/// How a check was answered: its status, and whether a policy faulted over it.
async fn ask(world: &World, http: &reqwest::Client, check: &Consume) -> (u16, bool) {
    let url = format!("{}/v1/internal/quota/consume", world.urls[0]);
    let answer = http.post(url).bearer_auth(&world.service_key).json(&check.body).send().await.unwrap();
    (answer.status().as_u16(), answer.headers().contains_key("cellar-policy-fault"))
}

/// `REQUESTS` checks of a user, one after the other.
async fn ask_on(world: &World, http: &reqwest::Client, user: &UserId, cost: u64) -> Vec<(u16, bool)> {
    let mut answers = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        answers.push(ask(world, http, &tokens(user, cost, None)).await);
    }
    answers
}

async fn people(world: &World, tier: &str, number: usize) -> Vec<UserId> {
    let mut people = Vec::new();
    for n in 0..number {
        people.push(world.user(&format!("{tier}-{n}@example.org"), tier).await);
    }
    people
}

/// The sum of a counter's series of a tier.
async fn faults(world: &World, tier: &str) -> u64 {
    let stack = cellar_devstack::Stack::open(world.cellctl.stack()).unwrap();
    let url = stack.state().processes.iter().filter(|process| process.role.label() == "cell");
    let url = url.map(|process| process.admin_url.clone().unwrap()).next().unwrap();
    let text = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
    let of_tier = format!("cellar_policy_faults_total{{tier=\"{tier}\",");
    let series = text.lines().filter(|line| line.starts_with(&of_tier));
    series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Goal: a tier whose policy traps on every call costs no request of another tier, also of one that decides by
/// the same artifact, and answers as its `on_fault` says.
/// Method: users of five tiers ask at once. Two of them decide by the artifact that traps on a limit of 666.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_traps_on_every_call_costs_no_other_tier_a_request() {
    let world = World::cell();
    let trap = "(if (i64.eq (local.get $limit) (i64.const 666)) (then unreachable))";
    let looping = "(loop $forever (br $forever))";
    publish(&world, Spender { harm: trap, ..Spender::ONE }).await;
    publish(&world, Spender { harm: looping, version: "3.0.0", ..Spender::ONE }).await;
    world.tier(&tier("trapping", "spender@1", 666)).await;
    world.tier(&("on_fault = \"allow\"\n".to_owned() + &tier("forgiving", "spender@1", 666))).await;
    world.tier(&tier("looping", "spender@3", 666)).await;
    world.tier(&tier("same", "spender@1", 1_000_000)).await;
    world.tier(&tier("other", "monthly-bucket@1", 1_000_000)).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut tiers = Vec::new();
    for name in ["trapping", "forgiving", "looping", "same", "other"] {
        tiers.push((name, people(&world, name, 4).await));
    }
    let asked = tiers.iter().map(|(name, people)| {
        let (world, http) = (&world, &http);
        async move { (*name, join_all(people.iter().map(|user| ask_on(world, http, user, 1))).await.concat()) }
    });
    for (name, answers) in join_all(asked).await {
        let expected = match name {
            "trapping" | "looping" => (429, true),
            "forgiving" => (200, true),
            _ => (200, false),
        };
        assert!(
            answers.iter().all(|answer| *answer == expected),
            "{name}: {:?}",
            answers.iter().find(|a| **a != expected)
        );
    }
    // Each check is counted, whether the policy was asked or its breaker was open.
    assert_eq!(faults(&world, "trapping").await, 4 * REQUESTS as u64);
    assert_eq!((faults(&world, "same").await, faults(&world, "other").await), (0, 0));
}

/// Goal: a policy that traps on one user is there for all others, however often he asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_traps_on_one_user_decides_for_the_others_of_his_tier() {
    let world = World::cell();
    let trap = "(if (i64.eq (local.get $cost) (i64.const 7)) (then unreachable))";
    publish(&world, Spender { harm: trap, ..Spender::ONE }).await;
    world.tier(&tier("one", "spender@1", 1_000_000)).await;
    let people = people(&world, "one", 5).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    // Alone first, so that no other's success comes between his faults.
    let his = ask_on(&world, &http, &people[0], 7).await;
    let others = join_all(people[1..].iter().map(|user| ask_on(&world, &http, user, 1)));
    let (more, others) = join(ask_on(&world, &http, &people[0], 7), others).await;
    assert!([his, more].concat().iter().all(|answer| *answer == (429, true)));
    assert!(others.concat().iter().all(|answer| *answer == (200, false)));
    for user in &people[1..] {
        let spent = REQUESTS as u64;
        assert_eq!(world.books(None, user, "tokens").await, (spent, spent, spent));
    }
}

/// Goal: what no cell would let in is refused at the door with a reason, and nothing of it is in the catalog.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_component_is_refused_at_the_door_with_a_reason() {
    let world = World::cell();
    let good = Spender::ONE.component();
    let text = |text: &str| wat::parse_str(text).unwrap();
    let hostile: [(&str, Vec<u8>, u16, &str); 6] = [
        ("import", text("(component (import \"wasi:clocks/wall-clock@0.2.0\" (instance)))"), 422, "imports nothing"),
        ("modules", text("(component (core module) (core module))"), 422, "a policy has one"),
        ("memory", text("(component (core module (memory 65536)))"), 422, "of memory"),
        ("nothing", text("(component (core module))"), 422, "does not export cellar:policy/policy@1.0.0"),
        ("truncated", good[..good.len() / 2].to_vec(), 422, "not a WebAssembly component"),
        ("large", [good.clone(), vec![0; 20 << 20]].concat(), 413, "at most"),
    ];
    let status = world.cellctl.status().unwrap();
    let (admin, key) = (&status["regions"][0]["admin_url"], status["operator_key"].as_str().unwrap());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (name, component, expected, reason) in hostile {
        let policy = PolicyName::new(name).unwrap();
        let upload = world.signed(&policy, "6.6.6".parse().unwrap(), component.clone());
        let url = format!("{}/admin/v1/policies/{name}/6.6.6", admin.as_str().unwrap());
        // Also who sends far too much reads why it is refused.
        let answer = http.put(url).bearer_auth(key).json(&upload).send().await.unwrap();
        let (status, said): (u16, Value) = (answer.status().as_u16(), answer.json().await.unwrap());
        assert!(status == expected && said["detail"].as_str().unwrap().contains(reason), "{name}: {status} {said}");
    }
    let policies = world.admin.policies().await.unwrap();
    assert!(policies.iter().all(|policy| policy.version != "6.6.6"), "{policies:?}");
}

//! Routers without their directory: what they remember, and what they do without it.

use crate::machine;
use crate::support::{World, known, sign_up_body, tokens};
use cellar_model::UserId;
use cellar_model::wire::{Device, LogInBody, SignUpBody};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) fn routers(world: &World) -> Vec<String> {
    let status = world.cellctl.status().unwrap();
    let processes = status["processes"].as_array().unwrap();
    let routers = processes.iter().filter(|process| process["role"] == "router");
    routers.map(|process| process["name"].as_str().unwrap().to_owned()).collect()
}

/// A router's data folder, by its configuration.
pub(crate) fn folder_of(world: &World, router: &str) -> PathBuf {
    let config = world.cellctl.stack().join("config").join(router).join("router.toml");
    let text = std::fs::read_to_string(&config).unwrap_or_else(|error| panic!("{}: {error}", config.display()));
    let folder = text.lines().find_map(|line| line.strip_prefix("data_dir = ")).unwrap();
    PathBuf::from(folder.trim_matches('"'))
}

fn log_of(world: &World, router: &str) -> String {
    world.cellctl.ok(&["logs", router]).unwrap()
}

/// Changes the last byte.
fn spoil(folder: &std::path::Path, copy: &str) {
    let file = folder.join(format!("{copy}.copy"));
    let mut bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
}

fn person(n: usize, region: &str) -> SignUpBody {
    SignUpBody {
        password: Some("correct horse battery staple".into()),
        region: Some(region.parse().unwrap()),
        ..sign_up_body(&format!("person-{n}@example.org"), "enterprise")
    }
}

/// The status of a log-in by e-mail at one router.
async fn log_in(url: &str, n: usize) -> u16 {
    let body = LogInBody {
        email: Some(format!("person-{n}@example.org")),
        password: Some("correct horse battery staple".into()),
        user_id: None,
        device: Device { name: "laptop".into(), platform: "linux".into() },
    };
    let request = reqwest::Client::new().post(format!("{url}/v1/sessions")).json(&body);
    request.send().await.unwrap().status().as_u16()
}

/// The status of a check at one router, which need not be of the user's region.
async fn check(world: &World, url: &str, user: &UserId) -> u16 {
    let body = tokens(user, 1, None).body;
    let request = reqwest::Client::new().post(format!("{url}/v1/internal/quota/consume"));
    request.bearer_auth(&world.service_key).json(&body).send().await.unwrap().status().as_u16()
}

pub(crate) async fn all_served(world: &World, users: &[UserId]) {
    for url in &world.urls {
        for user in users {
            assert_eq!(check(world, url, user).await, 200, "{user:?} at {url}");
        }
    }
}

/// Goal: with the directory dead and the routers started again, every user is served at every router, whichever
/// region is his. What answers 503 is a sign-up and a log-in by an e-mail that this router has not seen. A copy
/// that is broken costs what it held, and a router without a folder says that it is not ready until the
/// directory is there.
#[tokio::test(flavor = "multi_thread")]
async fn routers_started_again_without_the_directory_serve_every_user() {
    let world = World::two_regions();
    let mut users = Vec::new();
    for n in 0..10 {
        users.push(world.client.sign_up(&person(n, ["eu", "us"][n % 2]), None).await.unwrap().user_id);
    }
    let url = world.urls[0].clone();
    assert_eq!(log_in(&url, 0).await, 201);
    let names = routers(&world);
    let folder = folder_of(&world, &names[0]);
    let restart = |router: &str| world.cellctl.ok(&["restart", router]).unwrap();
    let stop = |router: &str| world.cellctl.ok(&["stop", router]).unwrap();

    stop("directory");
    stop("router");
    restart("router");
    all_served(&world, &users).await;
    assert_eq!((log_in(&url, 0).await, log_in(&url, 1).await), (201, 503));
    assert_eq!(world.client.sign_up(&person(99, "eu"), None).await.unwrap_err().status(), Some(503));

    // The e-mails are gone with their copy, and nothing else is.
    stop(&names[0]);
    spoil(&folder, "emails");
    restart(&names[0]);
    all_served(&world, &users).await;
    assert_eq!(log_in(&url, 0).await, 503);
    let refused = log_of(&world, &names[0]).matches("emails.copy is not believed").count();
    assert_eq!(refused, 1, "it is said once");

    // Without a topology they serve nobody, say so, and ask the directory until it is there.
    stop("router");
    spoil(&folder, "topology");
    std::fs::remove_dir_all(folder_of(&world, &names[1])).unwrap();
    let restarted = world.cellctl.run(&["restart", "router"]).unwrap();
    assert!(!restarted.status.success(), "a router is not ready without a topology");
    assert_eq!(log_of(&world, &names[0]).matches("topology.copy is not believed").count(), 1);
    assert_eq!(check(&world, &url, &users[0]).await, 503);
    restart("directory");
    let until = Instant::now() + Duration::from_secs(30);
    for url in &world.urls {
        while check(&world, url, &users[0]).await != 200 {
            assert!(Instant::now() < until, "{url} does not find its directory again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    all_served(&world, &users).await;
}

/// Goal: a router that is told to stop takes no new requests, says so, and answers those that it has. Callers
/// who know of another router notice nothing.
/// Method: a check waits for a Redis that stands still while its router gets the signal.
#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_stops_answers_what_is_under_way_and_callers_go_to_the_next() {
    let world = World::two_regions();
    let user = world.client.sign_up(&person(0, "eu"), None).await.unwrap().user_id;
    let status = world.cellctl.status().unwrap();
    assert_eq!(status["global_url"], status["regions"][0]["router_url"]);
    let ready = format!("{}/readyz", status["regions"][0]["admin_url"].as_str().unwrap());
    let stopping = || async {
        let answer = reqwest::get(&ready).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    };
    assert_eq!(stopping().await.unwrap().0, 200);
    let redises = machine::paused(&world.cellctl, "redis-quota");
    let under_way = {
        let body = tokens(&user, 1, None).body;
        let request = reqwest::Client::new().post(format!("{}/v1/internal/quota/consume", world.urls[0]));
        tokio::spawn(request.bearer_auth(&world.service_key).header("cellar-deadline-ms", "5000").json(&body).send())
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    let router = routers(&world).remove(0);
    let stopped = std::thread::scope(|scope| {
        let stop = scope.spawn(|| world.cellctl.ok(&["stop", &router]));
        let said = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let until = Instant::now() + Duration::from_secs(3);
                loop {
                    let said = stopping().await;
                    if said.as_ref().is_none_or(|(status, _)| *status == 503) || Instant::now() > until {
                        break said;
                    }
                }
            })
        });
        drop(redises);
        stop.join().unwrap().unwrap();
        said
    });
    let (status, said) = stopped.expect("it is there while something is under way");
    assert!(status == 503 && said.contains("stopping"), "{status} {said}");
    assert_eq!(under_way.await.unwrap().unwrap().status(), 200);
    // The first address refuses: nothing was sent, so the next router is asked.
    for n in 0..5 {
        assert!(world.client.consume(&tokens(&user, 1, Some(&format!("k{n}")))).await.unwrap().is_allowed());
    }
}

#[test]
fn a_configuration_is_checked_with_its_secrets_and_nothing_is_started() {
    let world = World::two_regions();
    let router = routers(&world).remove(0);
    let config = world.cellctl.stack().join("config").join(&router).join("router.toml");
    let check = || {
        let mut command = std::process::Command::new(world.cellctl.program().with_file_name("cellar-router"));
        let output = command.arg("--check-config").arg("--config").arg(&config).output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("would serve as") && said.contains("is good"), "{said}");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\nlissten = 1\n")).unwrap();
    let (code, said) = check();
    assert!(code == Some(2) && said.contains("lissten"), "{said}");
    let pepper = text.lines().find(|line| line.starts_with("pepper_file")).unwrap();
    std::fs::write(&config, text.replace(pepper, "pepper_file = \"nowhere\"")).unwrap();
    let (code, said) = check();
    assert!(code == Some(2) && said.contains("nowhere"), "{said}");
}

/// Goal: ten minutes of trace, played in virtual time while the directory is dead and after the routers were
/// started again, are answered for every user, and the books agree.
/// Method: while every quota Redis stands still the users of the play sign up and none of its checks can be
/// admitted; then the directory dies, the routers are started again, and the Redises go on.
#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_of_trace_are_served_by_routers_started_without_a_directory() {
    let world = World::two_regions();
    let file = ten_minutes(&world);
    let requests = std::fs::read_to_string(&file).unwrap().lines().count() as u64 - 1;
    let old = world.user("before@example.org", "enterprise").await;
    let redises = machine::paused(&world.cellctl, "redis-quota");
    let play = std::thread::scope(|scope| {
        let file = file.to_str().unwrap();
        let play = scope.spawn(|| world.cellctl.ok(&["trace", "play", file, "--users", "100", "--json"]));
        let until = Instant::now() + Duration::from_secs(60);
        while crate::world::put_off(&world) == 0 {
            assert!(!play.is_finished() && Instant::now() < until, "the play does not begin");
            std::thread::sleep(Duration::from_millis(20));
        }
        for command in [["stop", "directory"], ["stop", "router"], ["restart", "router"]] {
            world.cellctl.ok(&command).unwrap();
        }
        drop(redises);
        play.join().unwrap()
    });
    let report: Value = serde_json::from_str(&play.unwrap()).unwrap();
    assert_eq!(report["total"]["requests"], requests, "every request of every user was answered");
    assert_eq!(report["books"]["mismatches"], serde_json::json!([]));
    assert!(known(&world.client, &tokens(&old, 1, Some("after"))).await.is_allowed());
    assert_eq!(world.client.sign_up(&person(0, "eu"), None).await.unwrap_err().status(), Some(503));
    assert_eq!(log_in(&world.urls[0], 0).await, 503);
    println!("{requests} requests of ten minutes, all answered");
}

/// The first ten minutes of a trace of the usual shape.
fn ten_minutes(world: &World) -> PathBuf {
    let whole = world.cellctl.folder().join("whole.csv");
    let requests = ["--requests", "6000"];
    world.cellctl.ok(&[&["trace", "generate", "--out", whole.to_str().unwrap()][..], &requests].concat()).unwrap();
    let text = std::fs::read_to_string(&whole).unwrap();
    let mut lines = text.lines();
    let head = lines.next().unwrap();
    let at = |line: &str| -> i64 {
        let time = line.split(',').next().unwrap();
        time.replace(' ', "T").parse::<Clock>().unwrap().0
    };
    let lines: Vec<&str> = lines.collect();
    let first = at(lines[0]);
    let inside: Vec<&str> = lines.iter().copied().take_while(|line| at(line) < first + 600).collect();
    assert!(inside.len() > 1_000, "{} requests in ten minutes", inside.len());
    let file = world.cellctl.folder().join("ten-minutes.csv");
    std::fs::write(&file, format!("{head}\n{}\n", inside.join("\n"))).unwrap();
    file
}

/// Seconds of a day: no trace of a test crosses midnight.
struct Clock(i64);

impl std::str::FromStr for Clock {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time = text.split('T').nth(1).unwrap_or(text);
        let mut parts = time.split([':', '.', 'Z', '+']).map(str::parse::<i64>);
        let mut next = || parts.next().unwrap_or(Ok(0));
        Ok(Self(next()? * 3_600 + next()? * 60 + next()?))
    }
}

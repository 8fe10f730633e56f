//! A revocation is in force for every request that starts after its answer, whatever fails meanwhile.

use crate::machine::{self, Paused};
use crate::support::{World, sign_up_body};
use cellar_client::{Client, ClientError, Credential};
use cellar_devstack::Stack;
use cellar_model::UserId;
use cellar_model::wire::{AdmitBody, Device, LogInBody};
use futures::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// People whose sessions end again and again.
const PEOPLE: usize = 6;
/// For how long a session is tried after its end: a fault or two.
const WATCHED: Duration = Duration::from_millis(900);

/// How a session comes to its end.
#[derive(Clone, Copy, Debug)]
enum End {
    Revoked,
    LoggedOutEverywhere,
    Blocked,
    NewPassword,
}

const ENDS: [End; 4] = [End::Revoked, End::LoggedOutEverywhere, End::Blocked, End::NewPassword];

/// What the campaign came to.
#[derive(Default)]
struct Tally {
    ended: AtomicUsize,
    after: AtomicUsize,
    before: AtomicUsize,
    over: AtomicBool,
}

/// Half a minute, or five with the long tests.
fn campaign() -> Duration {
    let long = std::env::var_os("CELLAR_TEST_FULL").is_some();
    Duration::from_secs(if long { 300 } else { 30 })
}

/// Goal: I7, zero requests served after the answer.
/// Method: people log in, use their sessions through both routers without pause, and have them revoked, logged out,
/// blocked, and their passwords changed, while their cell's cache, Redis, Postgres and processes, and a router, are
/// killed, paused and started again. Every request that started after the answer has to fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_that_starts_after_a_revocations_answer_is_served() {
    let world = World::up(&["up", "--regions", "2", "--cells", "1", "--instances", "2"]);
    let tally = Arc::new(Tally::default());
    let mut people = Vec::new();
    for n in 0..PEOPLE {
        let mut body = sign_up_body(&format!("person-{n}@example.org"), "enterprise");
        body.region = Some("eu".parse().unwrap());
        body.password = Some("correct horse battery".into());
        let user = world.client.sign_up(&body, Some(&format!("person-{n}"))).await.unwrap().user_id;
        people.push(Person { urls: world.urls.clone(), key: world.client.clone(), user, tally: tally.clone() });
    }
    let until = Instant::now() + campaign();
    let lives = join_all(people.iter().enumerate().map(|(n, person)| person.live(n, until)));
    let (faults, ()) = tokio::join!(trouble(&world, &tally), async {
        lives.await;
        tally.over.store(true, Ordering::SeqCst);
    });
    let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    println!(
        "{} sessions ended through {faults} faults; {} requests served before, {} that started after refused or failed",
        count(&tally.ended),
        count(&tally.before),
        count(&tally.after)
    );
    assert!(count(&tally.after) > count(&tally.ended), "hardly anything was asked after the answers");
    assert!(
        faults >= 6 && count(&tally.ended) >= PEOPLE && count(&tally.before) > 50,
        "the campaign did not take place"
    );
}

/// One fault after the other, each healed again, until the campaign is over. How many there were.
async fn trouble(world: &World, tally: &Tally) -> usize {
    let names: Vec<(String, &str)> = {
        let stack = Stack::open(world.cellctl.stack()).unwrap();
        let of_cell = |role: &str| {
            let found = stack.state().processes.iter().find(|process| {
                process.role.label() == role && process.region.as_deref().is_none_or(|region| region == "eu")
            });
            found.unwrap_or_else(|| panic!("no {role}")).name.clone()
        };
        let kills = ["redis-cache", "cell", "redis-quota", "postgres", "router"].map(|role| (of_cell(role), "kill"));
        let pauses = ["redis-cache", "cell", "redis-quota"].map(|role| (of_cell(role), "pause"));
        kills.into_iter().zip(pauses.into_iter().cycle()).flat_map(|(kill, pause)| [kill, pause]).collect()
    };
    let mut faults = 0;
    for (name, fault) in names.iter().cycle() {
        if tally.over.load(Ordering::SeqCst) {
            return faults;
        }
        faults += 1;
        match *fault {
            "kill" => {
                machine::kill9(&world.cellctl, name).await;
                tokio::time::sleep(Duration::from_millis(400)).await;
                machine::restart(&world.cellctl, name);
            }
            _ => {
                let paused = Paused::new(&world.cellctl, name);
                tokio::time::sleep(Duration::from_millis(1_200)).await;
                drop(paused);
            }
        }
        // Sessions are filled into caches between two faults.
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    faults
}

struct Person {
    urls: Vec<String>,
    key: Client,
    user: UserId,
    tally: Arc<Tally>,
}

/// A request of a session: when it started, and whether it was served.
struct Request {
    started: Instant,
    what: &'static str,
    served: bool,
}

impl Person {
    async fn live(&self, n: usize, until: Instant) {
        for end in ENDS.iter().cycle().skip(n) {
            if Instant::now() >= until {
                return;
            }
            self.one_session(*end).await;
        }
    }

    async fn one_session(&self, end: End) {
        let log_in = LogInBody {
            user_id: Some(self.user.clone()),
            email: None,
            password: None,
            device: Device { name: "phone".into(), platform: "x".into() },
        };
        let session = until_known(|| self.key.log_in(&log_in)).await;
        let token = session.session_token;
        let doors: Vec<Client> =
            self.urls.iter().map(|url| Client::new([url.clone()], Credential::new(token.clone())).unwrap()).collect();
        let over = Arc::new(AtomicBool::new(false));
        let readers = doors.iter().map(|door| {
            let (door, key, token, over, user) =
                (door.clone(), self.key.clone(), token.clone(), over.clone(), self.user.clone());
            tokio::spawn(async move { read(&door, &key, &token, &user, &over).await })
        });
        let readers: Vec<_> = readers.collect();
        until_known(|| doors[0].sessions()).await;
        match end {
            End::Revoked => until_gone(|| doors[0].revoke_session(&session.session_id)).await,
            End::LoggedOutEverywhere => until_gone(|| doors[0].revoke_all_sessions(false)).await,
            End::Blocked => until_known(|| self.key.set_blocked(self.user.as_str(), true)).await,
            End::NewPassword => {
                until_known(|| self.key.set_password(self.user.as_str(), "another horse battery".into())).await;
            }
        }
        let answered = Instant::now();
        // Through the faults that come.
        tokio::time::sleep_until(answered + WATCHED).await;
        over.store(true, Ordering::SeqCst);
        let mut after = 0;
        for reader in readers {
            for request in reader.await.unwrap() {
                if request.started <= answered {
                    self.tally.before.fetch_add(usize::from(request.served), Ordering::SeqCst);
                    continue;
                }
                after += 1;
                assert!(!request.served, "{end:?}: a {} that started after the answer was served", request.what);
            }
        }
        self.tally.after.fetch_add(after, Ordering::SeqCst);
        self.tally.ended.fetch_add(1, Ordering::SeqCst);
        if matches!(end, End::Blocked) {
            until_known(|| self.key.set_blocked(self.user.as_str(), false)).await;
        }
    }
}

/// Asks with the session, one thing after another, without pause.
async fn read(door: &Client, key: &Client, token: &str, user: &UserId, over: &AtomicBool) -> Vec<Request> {
    let mut requests = Vec::new();
    while !over.load(Ordering::SeqCst) {
        for what in ["list of sessions", "profile", "admit"] {
            let started = Instant::now();
            let served = match what {
                "list of sessions" => door.sessions().await.is_ok(),
                "profile" => door.profile(user).await.is_ok(),
                _ => {
                    let body = AdmitBody { session_token: Some(token.to_owned()), ..AdmitBody::default() };
                    key.admit(&body, None).await.is_ok()
                }
            };
            requests.push(Request { started, what, served });
        }
        tokio::task::yield_now().await;
    }
    requests
}

/// Repeats what is answered with 503, or not at all.
async fn until_known<T, F: Future<Output = Result<T, ClientError>>>(ask: impl Fn() -> F) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(error.is_unknown() && Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The same of a session's own end: a repeat may find it over, which is an answer as well.
async fn until_gone<F: Future<Output = Result<(), ClientError>>>(ask: impl Fn() -> F) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match ask().await {
            Ok(()) => return,
            Err(error) if error.status() == Some(401) => return,
            Err(error) => assert!(error.is_unknown() && Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

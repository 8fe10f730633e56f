//! Playing: one call in flight a user, every request answered for good.

use super::PlayArguments;
use super::file::TraceRequest;
use super::people::Person;
use super::report::{Played, Report, Verdicts};
use crate::books;
use crate::stack::Target;
use anyhow::Context;
use cellar_client::{Client, ClientError, Consume, Decision};
use cellar_devstack::Clock;
use cellar_model::wire::{ConsumeBody, SignUpBody};
use cellar_model::{Amount, Cost, TierName, UserId};
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Users whose calls are in flight at once.
const USERS_AT_ONCE: usize = 64;
/// A request whose answer is unknown is repeated under its key this often before the play gives up:
/// a store that is restarted is back within seconds.
const TRIES: u32 = 200;
const RETRY: Duration = Duration::from_millis(250);

/// A signed-up user and what he is to send, in order.
struct Player {
    number: usize,
    user: UserId,
    client: Client,
    requests: Vec<(usize, TraceRequest)>,
}

/// Plays `requests` through the stack in `folder` and prints what came of it.
pub(crate) async fn play(
    folder: &Path,
    arguments: PlayArguments,
    requests: Vec<TraceRequest>,
) -> anyhow::Result<ExitCode> {
    let target = Target::find(folder)?;
    let is_virtual = target.local.as_ref().is_some_and(|state| state.world.clock == Clock::Virtual);
    anyhow::ensure!(
        is_virtual || arguments.how.wall.is_some(),
        "this stack's clock is the wall: start it with --clock virtual, or play with --wall MULTIPLE"
    );
    let doors = target.doors()?;
    let (people, senders) = arguments.crowd()?.assign(&requests)?;
    let play = format!("{:08x}", rand::random::<u32>());
    let users = sign_up(&people, &doors, &play).await?;
    let players = players(&users, &doors, requests, &senders);
    let total = senders.len();
    let pace = arguments.how.wall.map(|multiple| Pace::new(&players, multiple)).transpose()?;

    let bar = progress(total as u64, "requests");
    let began = Instant::now();
    let played: Vec<Vec<Played>> = futures::stream::iter(players)
        .map(|player| {
            let (bar, play, pace) = (bar.clone(), play.clone(), pace.clone());
            async move { send_all(player, &play, pace.as_ref(), &bar).await }
        })
        .buffer_unordered(if pace.is_some() { usize::MAX } else { USERS_AT_ONCE })
        .collect::<Vec<anyhow::Result<_>>>()
        .await
        .into_iter()
        .collect::<anyhow::Result<_>>()?;
    let elapsed = began.elapsed();
    bar.finish_and_clear();

    let homes = homes(&target, &users).await;
    let played: Vec<Played> = played.into_iter().flatten().collect();
    let audited = books::read(&target).await?;
    let report = Report::new(&people, &users, &homes, played, elapsed, audited);
    if arguments.how.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(if report.books.mismatches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// New users, spread over the regions in turn.
async fn sign_up(people: &[Person], doors: &[(String, Client)], play: &str) -> anyhow::Result<Vec<UserId>> {
    let bar = progress(people.len() as u64, "sign-ups");
    let users = futures::stream::iter(people.iter().enumerate())
        .map(|(number, person)| {
            let (bar, (region, client)) = (bar.clone(), &doors[number % doors.len()]);
            async move {
                let body = SignUpBody {
                    email: format!("play-{play}-{number}@example.org"),
                    name: None,
                    password: None,
                    tier: person.tier.clone(),
                    region: Some(region.parse()?),
                    user_id: None,
                };
                let key = format!("{play}-{number}");
                let signed_up = repeated(|| client.sign_up(&body, Some(&key))).await;
                bar.inc(1);
                Ok(signed_up.context("a user of the play could not be signed up")?.user_id)
            }
        })
        .buffered(USERS_AT_ONCE / 2)
        .collect::<Vec<anyhow::Result<UserId>>>()
        .await;
    bar.finish_and_clear();
    users.into_iter().collect()
}

fn players(
    users: &[UserId],
    doors: &[(String, Client)],
    requests: Vec<TraceRequest>,
    senders: &[usize],
) -> Vec<Player> {
    let mut players: Vec<Player> = users
        .iter()
        .enumerate()
        .map(|(number, user)| Player {
            number,
            user: user.clone(),
            client: doors[number % doors.len()].1.clone(),
            requests: Vec::new(),
        })
        .collect();
    for (place, (request, sender)) in requests.into_iter().zip(senders).enumerate() {
        players[*sender].requests.push((place, request));
    }
    // The busiest first: they take longest.
    players.sort_by_key(|player| std::cmp::Reverse(player.requests.len()));
    players
}

/// When a request is due in wall time.
#[derive(Clone)]
struct Pace {
    began: tokio::time::Instant,
    first_us: u64,
    multiple: f64,
}

impl Pace {
    fn new(players: &[Player], multiple: f64) -> anyhow::Result<Self> {
        anyhow::ensure!(multiple > 0.0 && multiple.is_finite(), "--wall must be above 0");
        let times = players.iter().flat_map(|player| player.requests.first()).map(|(_, request)| request.at.0);
        Ok(Self { began: tokio::time::Instant::now(), first_us: times.min().unwrap_or(0), multiple })
    }

    async fn wait_for(&self, request: &TraceRequest) {
        let after_us = request.at.0.saturating_sub(self.first_us) as f64 / self.multiple;
        tokio::time::sleep_until(self.began + Duration::from_micros(after_us as u64)).await;
    }
}

async fn send_all(player: Player, play: &str, pace: Option<&Pace>, bar: &ProgressBar) -> anyhow::Result<Vec<Played>> {
    let mut played = Vec::with_capacity(player.requests.len());
    for (place, request) in &player.requests {
        if let Some(pace) = pace {
            pace.wait_for(request).await;
        }
        let check = Consume {
            body: ConsumeBody {
                user_id: Some(player.user.clone()),
                cost: Some(Cost::tokens(Amount::new(request.tokens)?)),
                at_us: pace.is_none().then_some(request.at.0),
                ..ConsumeBody::default()
            },
            idempotency_key: Some(format!("{play}-r{place}")),
        };
        let began = Instant::now();
        let verdict = match repeated(|| player.client.consume(&check)).await {
            Ok(Decision::Allowed(_)) => Verdicts::Allowed,
            Ok(Decision::Denied(denied)) => {
                Verdicts::Denied(denied.violated_policies.iter().map(ToString::to_string).collect())
            }
            // More than the tier can ever admit: the caller's to mend, and nothing was charged.
            Err(ClientError::Refused(problem)) if problem.status == 422 => Verdicts::TooLarge,
            Err(error) => return Err(error).context("the play was given up"),
        };
        played.push(Played { person: player.number, tokens: request.tokens, verdict, took: began.elapsed() });
        bar.inc(1);
    }
    Ok(played)
}

/// Repeats a call under its key while its answer is unknown.
async fn repeated<T, F>(call: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    for _ in 1..TRIES {
        match call().await {
            Err(error) if error.is_unknown() => tokio::time::sleep(RETRY).await,
            result => return result,
        }
    }
    call().await
}

/// The home cell of each user, by the ring: nobody of a play has been moved.
async fn homes(target: &Target, users: &[UserId]) -> Vec<String> {
    let topology = target.admin.topology().await.ok();
    let home = |user: &UserId| -> Option<String> {
        let region = topology.as_ref()?.region(&user.minted_by()?)?;
        Some(region.ring().ok()?.owner(user.placement_key()).to_string())
    };
    users.iter().map(|user| home(user).unwrap_or_else(|| "-".into())).collect()
}

fn progress(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("  {msg} {wide_bar} {pos}/{len} {per_sec} eta {eta}");
    let bar = ProgressBar::new(length).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The name of a tier, for those who count by it.
pub(super) fn tier_of(people: &[Person], number: usize) -> &TierName {
    &people[number].tier
}

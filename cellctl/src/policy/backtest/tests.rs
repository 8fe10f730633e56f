//! Backtests of generated traces, held against a model of a few lines, and against themselves.

use super::requests::{Act, Closing, Gathering, Request, Requests};
use super::tally::{CANDIDATE, CURRENT, Tally};
use super::{BacktestArguments, Sides, Source, page, replay, report::Report};
use cellar_model::{ChargeId, Epoch, Fence, Micros, Unit, Version};
use clap::Parser;
use indicatif::ProgressBar;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::PathBuf;
use std::time::Duration;

/// 2023-11-14T22:13:20Z
const T0: u64 = 1_700_000_000_000_000;
const SECOND_US: u64 = 1_000_000;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    backtest: BacktestArguments,
}

/// The folder of the built components.
fn policies() -> PathBuf {
    let running = std::env::current_exe().unwrap();
    let mut folders = running.ancestors().map(|folder| folder.join("policies"));
    folders.find(|folder| folder.join("gcra.wasm").is_file()).expect("the components are built by: make policies")
}

fn rate(limit: u64, period_s: u64, burst: u64) -> String {
    format!(
        "name = \"t\"\n[[policy]]\nslot = \"rate\"\nuse = \"gcra@1\"\nunit = \"requests\"\n\
         settings = {{ limit = {limit}, period_s = {period_s}, burst = {burst} }}\n"
    )
}

fn bucket(slot: &str, limit: u64) -> String {
    format!(
        "[[policy]]\nslot = \"{slot}\"\nuse = \"monthly-bucket@1\"\nunit = \"tokens\"\nsettings = {{ limit = {limit} }}\n"
    )
}

async fn opened(current: &str, candidate: &str) -> anyhow::Result<Sides> {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (current, candidate) = (file("current.toml", current), file("candidate.toml", candidate));
    let policies = policies().display().to_string();
    let line = ["x", "--trace", "x", "--current", &current, "--candidate", &candidate, "--policies", &policies];
    Line::try_parse_from(line).unwrap().backtest.sides.open(None).await
}

fn replayed(sides: &Sides, requests: &Requests) -> Tally {
    replay::replay(sides, requests, &ProgressBar::hidden())
}

fn charge(n: usize) -> ChargeId {
    ChargeId { epoch: Epoch(1), fence: Fence(7), version: Version(n as u64), place: 0 }
}

struct Writing {
    gathering: Gathering,
    n: usize,
}

impl Writing {
    fn of(users: usize) -> Self {
        let mut gathering = Gathering::default();
        (0..users).for_each(|n| _ = gathering.user(&format!("local_{n:026}")));
        Self { gathering, n: 0 }
    }

    fn ask(&mut self, user: u32, at: u64, tokens: u64, act: Act) -> ChargeId {
        let cost = self.gathering.cost(vec![(Unit::requests(), 1), (Unit::tokens(), tokens)]).unwrap();
        self.n += 1;
        let charge = charge(self.n);
        self.gathering.requests.push(Request { at: Micros(at), user, cost, charge, act });
        charge
    }

    fn close(&mut self, user: u32, at: u64, of: ChargeId, tokens: i64, act: fn(Box<Closing>) -> Act) {
        let moved = vec![(Unit::tokens(), tokens)];
        self.ask(user, at, 0, act(Box::new(Closing { of, moved })));
    }

    fn done(self) -> Requests {
        self.gathering.finish(Micros(0))
    }
}

/// A rate as its definition has it, in whole numbers: time is counted in microseconds times the limit.
struct Model {
    limit: u128,
    period_us: u128,
    burst: u128,
    tat: Vec<u128>,
}

impl Model {
    fn admits(&mut self, user: usize, at: u64) -> bool {
        let now = u128::from(at) * self.limit;
        let next = self.tat[user].max(now) + self.period_us;
        let admits = next <= now + self.burst * self.period_us;
        if admits {
            self.tat[user] = next;
        }
        admits
    }
}

/// Goal: who is denied, by each side and newly, is what a rate of a few lines says, request by request.
#[tokio::test]
async fn a_trace_is_decided_as_a_model_of_its_rate_decides_it() {
    const USERS: usize = 20;
    // Tokens have to be metered by something.
    let [current, candidate] = [rate(7, 60, 5), rate(3, 60, 2)].map(|tier| tier + &bucket("all", 1 << 40));
    let sides = opened(&current, &candidate).await.unwrap();
    let model = |limit, burst| Model { limit, period_us: 60_000_000, burst, tat: vec![0; USERS] };
    let mut models = [model(7, 5), model(3, 2)];
    let (mut writing, mut rng, mut at) = (Writing::of(USERS), ChaCha8Rng::seed_from_u64(5), T0);
    let (mut denied, mut newly) = ([0, 0], [[0, 0]; USERS]);
    for _ in 0..5_000 {
        at += rng.random_range(0..2_000_000);
        // The first ask far more often than the last.
        let most = rng.random_range(0..USERS);
        let user = rng.random_range(0..=most);
        writing.ask(user as u32, at, 10, Act::Consume);
        let admits = [CURRENT, CANDIDATE].map(|side| models[side].admits(user, at));
        (0..2).for_each(|side| denied[side] += u64::from(!admits[side]));
        newly[user][0] += u64::from(admits == [true, false]);
        newly[user][1] += u64::from(admits == [false, true]);
    }
    let requests = writing.done();
    let tally = replayed(&sides, &requests);
    assert!(denied[CURRENT] > 100 && denied[CANDIDATE] > denied[CURRENT], "{denied:?}");
    assert_eq!([CURRENT, CANDIDATE].map(|side| tally.sides[side].by_slot["rate"]), denied);
    assert_eq!(tally.newly_denied.requests, newly.iter().map(|user| user[0]).sum::<u64>());
    assert_eq!(tally.newly_admitted.requests, newly.iter().map(|user| user[1]).sum::<u64>());
    for hit in &tally.worst {
        assert_eq!(hit.newly_denied, newly[hit.user as usize][0], "of user {}", hit.user);
    }
    let hours = tally.hours.values().fold([0, 0], |sum, hour| [sum[0] + hour.denied[0], sum[1] + hour.denied[1]]);
    assert_eq!(hours, denied);
    assert_eq!(tally.newly_denied.amounts, [1, 10].map(|n: i128| n * i128::from(tally.newly_denied.requests)));
    // However the work was shared out.
    let again = replayed(&sides, &requests);
    let plain = |mut tally: Tally| {
        // What a call burns depends on what its instance was asked before.
        tally.sides.iter_mut().for_each(|side| (side.fuel, side.fuel_most) = (0, 0));
        tally
    };
    assert_eq!(plain(again), plain(tally));
}

/// Goal: a candidate that is the present tier changes nothing, whatever was asked, closed, and left to expire.
#[tokio::test]
async fn a_candidate_that_is_the_present_tier_differs_in_nothing() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for on_expiry in ["charge", "release"] {
        let limits = [rng.random_range(1..40), rng.random_range(1..60), rng.random_range(1..10)];
        let tier = format!("{}{}", rate(limits[0], limits[1], limits[2]), bucket("monthly", 4_000));
        let tier = tier.replacen('\n', &format!("\non_expiry = \"{on_expiry}\"\n"), 1);
        let sides = opened(&tier, &tier).await.unwrap();
        let (mut writing, mut at) = (Writing::of(5), T0);
        for _ in 0..2_000 {
            at += rng.random_range(0..20 * SECOND_US);
            let (user, tokens) = (rng.random_range(0..5), rng.random_range(0..200));
            match rng.random_range(0..4) {
                0 => {
                    let of = writing.ask(user, at, tokens, Act::Reserve);
                    let later = at + rng.random_range(0..100 * SECOND_US);
                    let used = rng.random_range(0..200) - tokens as i64;
                    match rng.random_range(0..4) {
                        0 => writing.close(user, later, of, used, Act::Settle),
                        1 => writing.close(user, later, of, 0, Act::Refund),
                        2 => {
                            writing.close(user, later, of, 0, Act::Expire);
                            writing.close(user, later + 1, of, used.max(0), Act::Settle);
                        }
                        _ => {}
                    }
                }
                _ => _ = writing.ask(user, at, tokens, Act::Consume),
            }
        }
        let tally = replayed(&sides, &writing.done());
        assert!(tally.sides[CURRENT].denied > 0 && tally.sides[CURRENT].skipped > 0, "{tally:?}");
        assert_eq!((tally.newly_denied.requests, tally.newly_admitted.requests), (0, 0));
        let [current, candidate] = tally.sides;
        assert_eq!(
            (current.admitted, current.by_slot, current.charged),
            (candidate.admitted, candidate.by_slot, candidate.charged)
        );
        assert!(tally.worst.is_empty());
    }
}

/// Goal: a reservation is settled by what was used, released or kept by each side's own tier, and what a side has
/// denied is not corrected on it.
#[tokio::test]
async fn reservations_end_on_each_side_by_its_own_tier() {
    let tier = |lines: &str, limit: u64| format!("name = \"t\"\n{lines}{}", bucket("monthly", limit));
    let sides = opened(&tier("", 100), &tier("on_expiry = \"release\"\n", 70)).await.unwrap();
    let mut writing = Writing::of(3);
    // 60 of 80 were used; the candidate has no room for the 80.
    let of = writing.ask(0, T0, 80, Act::Reserve);
    writing.close(0, T0 + 1, of, -20, Act::Settle);
    // Nobody settles it: 50 stay charged, or come back before 60 more are asked.
    let of = writing.ask(1, T0, 50, Act::Reserve);
    writing.close(1, T0 + 30 * SECOND_US, of, 0, Act::Expire);
    writing.ask(1, T0 + 31 * SECOND_US, 60, Act::Consume);
    // Of a charge from before.
    writing.close(2, T0, charge(900), -5, Act::Refund);
    let tally = replayed(&sides, &writing.done());
    let [current, candidate] = &tally.sides;
    assert_eq!((current.admitted, candidate.admitted), (2, 2));
    assert_eq!((tally.newly_denied.requests, tally.newly_admitted.requests), (1, 1));
    // Requests, then tokens: a reservation that is released gives its request back, too.
    assert_eq!((&current.charged[..], &candidate.charged[..]), (&[2, 110][..], &[1, 60][..]));
    assert_eq!((current.skipped, candidate.skipped, tally.unmatched), (0, 1, 1));
}

/// Goal: what was asked before the time that counts is charged and not counted.
#[tokio::test]
async fn a_warm_up_is_charged_and_not_counted() {
    let tier = format!("name = \"t\"\n{}", bucket("monthly", 100));
    let sides = opened(&tier, &tier).await.unwrap();
    let mut writing = Writing::of(1);
    writing.ask(0, T0, 90, Act::Consume);
    writing.ask(0, T0 + 10, 20, Act::Consume);
    let requests = writing.gathering.finish(Micros(T0 + 5));
    let tally = replayed(&sides, &requests);
    assert_eq!((tally.requests, tally.sides[CURRENT].denied, tally.sides[CURRENT].admitted), (1, 1, 0));
    assert_eq!(tally.decisions, 4);
}

#[tokio::test]
async fn a_candidate_that_is_not_fit_is_refused_by_pointer() {
    let tier = rate(1, 60, 1);
    let refused = |text: String| async move {
        let error = opened(&rate(1, 60, 1), &text).await.err().unwrap();
        format!("{error:#}")
    };
    let said = refused(tier.replace("limit = 1", "limit = 0")).await;
    assert!(said.contains("the candidate is not fit") && said.contains("/policy/0/settings/limit"), "{said}");
    let said = refused(tier.replace("gcra@1", "gcra@9")).await;
    assert!(said.contains("/policy/0/use") && said.contains("no policy gcra@9"), "{said}");
    let said = refused(tier.replace("slot", "slto")).await;
    assert!(said.contains("candidate.toml is no tier") && said.contains("slto"), "{said}");
}

/// Goal: nothing in a page is markup that came from a file, and nobody is in it by a whole id.
#[tokio::test]
async fn a_page_carries_text_of_others_as_text_and_nobodys_id() {
    let tier = |limit| format!("name = \"t\"\n{}", bucket("monthly", limit));
    let sides = opened(&tier(100), &tier(10)).await.unwrap();
    let mut writing = Writing::of(2);
    (0..4).for_each(|n| _ = writing.ask(n % 2, T0 + u64::from(n) * 7_200 * SECOND_US, 9, Act::Consume));
    let requests = writing.done();
    let tally = replayed(&sides, &requests);
    let source = Source { said: "of the trace <script>alert(1)</script>.csv".into(), notes: vec!["a < b".into()] };
    let mut report = Report::new(&sides, &requests, source, tally, Duration::from_secs(1));
    report.tier = "<script>alert(2)</script>".into();
    for side in [&mut report.current, &mut report.candidate] {
        side.charged.insert("\"><script>alert(3)</script>".into(), 5);
        side.slots[0].slot = "<img src=x onerror=alert(4)>".into();
    }
    for hour in &mut report.hours {
        hour.current.charged.insert("\"><script>alert(3)</script>".into(), 5);
    }
    let page = page::page(&report);
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(2)") && page.contains("a &lt; b"));
    assert!(page.contains("…00000001") && !page.contains(&format!("{:026}", 1)));
    for outside in ["http://", "https://", "url(", "@import", "src="] {
        assert!(!page.replace("src=x", "").contains(outside), "{outside}");
    }
    let text = report.to_string();
    assert!(text.contains("…00000001") && !text.contains("local_"), "{text}");
    assert!(!serde_json::to_string(&report).unwrap().contains("local_"));
}

//! One failure under load: a world, its users and senders, and afterwards what became of every key.

use super::caller::{Answer, Caller, Keyed, Said};
use super::load::{Load, Sent};
use super::row::{OpenRow, Row};
use crate::support::World;
use cellar_model::UserId;
use futures::StreamExt;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

pub(super) const SENDERS: usize = 8;
/// Users whose limit is far, and those who reach theirs about when the failure comes.
const WIDE_USERS: usize = 8;
const NARROW_USERS: usize = 2;
const WIDE: u64 = 1_000_000;
const NARROW: u64 = 60;
/// Good answers to each user before the failure, and once all is well again.
const ANSWERS: usize = 20;
/// Keys sent again at once.
const AGAIN_AT_ONCE: usize = 16;
/// For a key to get its answer, once all is well again.
const AGAIN_MAX: Duration = Duration::from_secs(60);
const AGAIN_PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Trial {
    pub(super) world: World,
    pub(super) caller: Caller,
    pub(super) load: Load,
    name: &'static str,
    row: OpenRow,
    /// Each with its limit, and the cell whose books he is in (none: the only one).
    users: HashMap<UserId, (u64, Option<String>)>,
    pub(super) beside: Vec<Load>,
    failed_at: Option<Instant>,
    refusals_wrote_nothing: bool,
}

impl Trial {
    /// A public cell, its users, and senders who have been answered for a while.
    pub(super) async fn on_a_cell(name: &'static str) -> Self {
        let row = OpenRow::new(name);
        let world = World::cell();
        let users = sign_up(&world, WIDE_USERS, NARROW_USERS).await;
        let ids: Vec<UserId> = users.iter().map(|(user, _)| user.clone()).collect();
        let users = users.into_iter().map(|(user, limit)| (user, (limit, None))).collect();
        Self::under_load(name, row, world, users, &ids).await
    }

    /// Routers and cells; `chosen`, of all users by their cells, are those whose requests make the row.
    pub(super) async fn on_a_world(name: &'static str, up: &[&str], chosen: impl Fn(&str) -> bool) -> Self {
        let row = OpenRow::new(name);
        let world = World::up(up);
        let signed_up = sign_up(&world, 3 * WIDE_USERS, NARROW_USERS).await;
        let mut users = HashMap::new();
        for cell in cells(&world) {
            let page = world.admin.audit(Some(&cell.parse().unwrap()), None).await.unwrap();
            let here = |user: &&(UserId, u64)| page.users.iter().any(|audited| audited.user_id == user.0);
            for (user, limit) in signed_up.iter().filter(here) {
                users.insert(user.clone(), (*limit, Some(cell.clone())));
            }
        }
        let of_chosen = |user: &&UserId| users[*user].1.as_deref().is_some_and(&chosen);
        let ids: Vec<UserId> = users.keys().filter(of_chosen).cloned().collect();
        assert!(!ids.is_empty(), "nobody lives there");
        Self::under_load(name, row, world, users, &ids).await
    }

    async fn under_load(
        name: &'static str,
        row: OpenRow,
        world: World,
        users: HashMap<UserId, (u64, Option<String>)>,
        ids: &[UserId],
    ) -> Self {
        let caller = Caller::new(&world.urls, &world.service_key);
        let load = Load::start("load", &caller, ids, SENDERS);
        load.answers(Instant::now(), ANSWERS).await;
        let (beside, failed_at) = (Vec::new(), None);
        Self { world, caller, load, name, row, users, beside, failed_at, refusals_wrote_nothing: false }
    }

    /// Users of a wide limit who have never been asked for.
    pub(super) async fn strangers(&mut self, number: usize) -> Vec<UserId> {
        let mut strangers = Vec::with_capacity(number);
        for n in 0..number {
            let user = self.world.user(&format!("stranger-{n}@example.org"), "wide").await;
            self.users.insert(user.clone(), (WIDE, None));
            strangers.push(user);
        }
        strangers
    }

    /// The users whose requests do not make the row.
    pub(super) fn others(&self, chosen: impl Fn(&str) -> bool) -> Vec<UserId> {
        let others = self.users.iter().filter(|(_, (_, cell))| !cell.as_deref().is_some_and(&chosen));
        others.map(|(user, _)| user.clone()).collect()
    }

    /// Senders whose requests are not counted in the row.
    pub(super) fn beside(&mut self, name: &str, users: &[UserId], senders: usize) -> &Load {
        self.beside.push(Load::start(name, &self.caller, users, senders));
        &self.beside[self.beside.len() - 1]
    }

    /// The failure is complete: from now on answers count as "again".
    pub(super) fn failed(&mut self) -> Instant {
        *self.failed_at.insert(Instant::now())
    }

    /// Of this failure it is known that what was not answered was not written either.
    pub(super) fn refusals_wrote_nothing(&mut self) {
        self.refusals_wrote_nothing = true;
    }

    /// Waits until everybody is served again, none is degraded, and it has gone on so for a while.
    pub(super) async fn served_as_ever(&self) {
        self.load.served_by(Instant::now(), None).await;
        self.load.answers(Instant::now(), ANSWERS).await;
    }

    /// Ends the load, sends every key again, compares the books, and prints the row.
    pub(super) async fn end(self) -> Vec<Vec<Sent>> {
        let Self { world, caller, load, name, row: open, users, beside, failed_at, refusals_wrote_nothing } = self;
        let caller = &caller;
        let mut logs = vec![load.stop().await];
        for load in beside {
            logs.push(load.stop().await);
        }
        let mut row = seen(&logs[0], failed_at.unwrap());
        for (n, log) in logs.iter().enumerate() {
            println!("{name}: {} answers of load {n}: {}", log.len(), tally(log));
        }
        let all = || logs.iter().flatten();
        if refusals_wrote_nothing {
            for (user, (_, cell)) in &users {
                let acknowledged =
                    all().filter(|sent| sent.check.user == *user && matches!(sent.answer.said, Said::Admitted(_)));
                let tokens: u64 = acknowledged.map(|sent| sent.check.tokens).sum();
                let books = world.books(cell.as_deref(), user, "tokens").await;
                assert_eq!(books, (tokens, tokens, tokens), "a refusal was charged to {user:?}");
            }
        }
        let again = futures::stream::iter(all()).map(|sent| async move { (sent, known(caller, &sent.check).await) });
        let again: Vec<(&Sent, Answer)> = again.buffer_unordered(AGAIN_AT_ONCE).collect().await;
        let mut admitted: HashMap<&UserId, (u64, u64)> = HashMap::new();
        for (sent, second) in &again {
            let was_admitted = matches!(sent.answer.said, Said::Admitted(_));
            if was_admitted && second.said != sent.answer.said {
                row.lost += 1;
                println!("{name}: LOST {:?}: first {:?}, then {:?}", sent.check, sent.answer, second);
            }
            if matches!(second.said, Said::Admitted(_)) {
                let (keys, tokens) = admitted.entry(&sent.check.user).or_default();
                (*keys, *tokens) = (*keys + 1, *tokens + sent.check.tokens);
            }
        }
        for (user, (limit, cell)) in &users {
            let (keys, tokens) = admitted.get(user).copied().unwrap_or_default();
            row.over_admitted += tokens.saturating_sub(*limit);
            row.over_admitted += spends_the_rest(caller, name, user, limit.saturating_sub(tokens)).await;
            let rest = u64::from(tokens < *limit);
            let books = world.books(cell.as_deref(), user, "tokens").await;
            assert_eq!(books, (*limit, *limit, *limit), "{name}: the books of {user:?}, {tokens} by {keys} keys");
            let page = world.admin.audit(cell.as_ref().map(|cell| cell.parse().unwrap()).as_ref(), None).await.unwrap();
            let audited = page.users.iter().find(|audited| audited.user_id == *user).unwrap();
            assert_eq!(audited.admitted, keys + rest, "{name}: keys charged to {user:?}");
        }
        open.close(&row);
        assert_eq!((row.lost, row.over_admitted), (0, 0), "{name}");
        logs
    }
}

/// What is left of a limit is admitted, to the last token, and not one more. Returns what was.
async fn spends_the_rest(caller: &Caller, name: &str, user: &UserId, rest: u64) -> u64 {
    if rest > 0 {
        let last = known(caller, &Keyed::new(user, rest, format!("rest-{}", user.as_str()))).await;
        assert!(matches!(last.said, Said::Admitted(_)), "{name}: {user:?} is denied the last {rest}: {last:?}");
    }
    let more = known(caller, &Keyed::new(user, 1, format!("more-{}", user.as_str()))).await;
    u64::from(more.said != Said::Denied)
}

/// Sends `check` again until it gets an answer.
async fn known(caller: &Caller, check: &Keyed) -> Answer {
    let until = Instant::now() + AGAIN_MAX;
    loop {
        let answer = caller.ask(check).await;
        if answer.is_good() {
            return answer;
        }
        assert!(Instant::now() < until, "no answer to {check:?}: {answer:?}");
        tokio::time::sleep(AGAIN_PAUSE).await;
    }
}

/// What the callers of `log` saw of a failure at `failed_at`.
fn seen(log: &[Sent], failed_at: Instant) -> Row {
    let mut row = Row::default();
    let mut last: HashMap<&UserId, Instant> = HashMap::new();
    let mut again: HashMap<&UserId, Instant> = HashMap::new();
    for sent in log {
        if !sent.answer.is_good() {
            row.failed += 1;
            continue;
        }
        row.answered += 1;
        row.degraded += usize::from(sent.answer.degraded.is_some());
        if let Some(before) = last.insert(&sent.check.user, sent.answered) {
            row.longest_gap = row.longest_gap.max(sent.answered.saturating_duration_since(before));
        }
        if sent.asked >= failed_at {
            again.entry(&sent.check.user).or_insert(sent.answered);
        }
    }
    let slowest = again.values().max().copied().unwrap_or(failed_at);
    row.served_after = slowest.saturating_duration_since(failed_at);
    row
}

/// How often each kind of answer was given.
fn tally(log: &[Sent]) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for sent in log {
        let kind = match &sent.answer.said {
            Said::Admitted(_) => "200",
            Said::Denied => "429",
            Said::Unknown(why) => why,
        };
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    kinds.into_iter().map(|(kind, number)| format!("{kind} × {number}")).collect::<Vec<_>>().join(", ")
}

fn cells(world: &World) -> Vec<String> {
    let stack = cellar_devstack::Stack::open(world.cellctl.stack()).unwrap();
    let cells = stack.state().processes.iter().filter(|process| process.role.label() == "cell");
    cells.filter_map(|process| process.cell.clone()).collect()
}

async fn sign_up(world: &World, wide: usize, narrow: usize) -> Vec<(UserId, u64)> {
    tokio::join!(world.bucket_tier("wide", WIDE), world.bucket_tier("narrow", NARROW));
    let tiers = (0..wide).map(|_| ("wide", WIDE)).chain((0..narrow).map(|_| ("narrow", NARROW)));
    let mut users = Vec::with_capacity(wide + narrow);
    for (n, (tier, limit)) in tiers.enumerate() {
        users.push((world.user(&format!("user-{n}@example.org"), tier).await, limit));
    }
    users
}

//! The serving loop of an open shard: checks in, batches out, the tail drained behind.

use super::Shard;
use super::calls::{CallDone, InFlight};
use super::drains::DrainDone;
use super::expiry::Expiring;
use super::loads::LoadDone;
use super::replicas::ReplicaDone;
use super::turn::{Open, OpenStore};
use super::users::Users;
use crate::clock::boot_clock;
use crate::error::StoreError;
use crate::store::audit::{Recall, sums};
use cellar_model::UserId;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// How often an idle shard asks Postgres whether it still is the writer, and housekeeping is done.
const TICK: Duration = Duration::from_secs(1);
/// The same while the cell has other processes: reads need the fence confirmed within a second.
const LEASE_TICK: Duration = Duration::from_millis(400);
/// And while members say that the shard is another's: how soon one notices that it has been taken.
const TAKEN_TICK: Duration = Duration::from_millis(20);
/// For how long a stopping shard drains before it leaves the rest to its successor.
const STOP_DRAIN: Duration = Duration::from_secs(5);

/// Everything that lives as long as one opening of the shard.
pub(super) struct Serving {
    pub(super) open: Open,
    pub(super) users: Users,
    pub(super) calls: FuturesUnordered<BoxFuture<'static, CallDone>>,
    /// What is in them, by their number.
    pub(super) in_flight: HashMap<u64, InFlight>,
    pub(super) next_call: u64,
    pub(super) loads: FuturesUnordered<BoxFuture<'static, LoadDone>>,
    /// Loads that Postgres has to answer.
    pub(super) look_ups: FuturesUnordered<BoxFuture<'static, LoadDone>>,
    pub(super) drain: Option<BoxFuture<'static, DrainDone>>,
    pub(super) expiring: Expiring,
    pub(super) expiry: Option<BoxFuture<'static, Result<(), StoreError>>>,
    /// Whether a replica has what is committed.
    pub(super) replica: Option<BoxFuture<'static, ReplicaDone>>,
    /// When what has gathered in the tail is due.
    pub(super) drain_at: Option<Instant>,
    /// When Postgres was asked what it has not answered yet.
    pub(super) asked_postgres: Option<Instant>,
    /// Whether Postgres answered the last time it was asked.
    pub(super) postgres_answers: bool,
    /// Whether Redis can be gone back to.
    pub(super) probe: Option<BoxFuture<'static, bool>>,
    /// It can: what is under way is finished first, for nothing is wrong with it.
    pub(super) returning: bool,
    stopping: Option<Instant>,
    /// By the members. If not, the shard is served until its next owner has taken it.
    mine: bool,
    housekept: Instant,
}

impl Serving {
    /// Who is busy is left out: what he has is not committed yet.
    fn recall(&self, recall: Recall) {
        let known = |user: UserId| {
            let record = self.users.peek(&user)?;
            Some((user, record.head, sums(record)))
        };
        // An audit that has given up is gone.
        let _ = recall.reply.send(recall.users.into_iter().filter_map(known).collect());
    }

    fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.loads.is_empty() && self.look_ups.is_empty()
    }
}

impl Shard {
    /// Serves until a turn is due (its cause), or until told to stop and drained (`None`).
    pub(super) async fn serve(&mut self, mut open: Open) -> Option<&'static str> {
        let mut serving = Serving {
            users: Users::new(self.parts.config.users_max),
            calls: FuturesUnordered::new(),
            in_flight: HashMap::new(),
            next_call: 0,
            probe: None,
            returning: false,
            loads: FuturesUnordered::new(),
            look_ups: FuturesUnordered::new(),
            drain: None,
            expiring: std::mem::take(&mut open.expiring),
            expiry: None,
            replica: None,
            drain_at: None,
            asked_postgres: None,
            postgres_answers: true,
            stopping: None,
            mine: true,
            housekept: Instant::now(),
            open,
        };
        let membership = self.parts.membership.clone();
        let mut members = membership.subscribe();
        serving.mine = membership.is_mine(self.parts.id);
        let mut tick = tokio::time::interval(if membership.is_on() { LEASE_TICK } else { TICK });
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stop = self.parts.stop.clone();
        loop {
            self.start_calls(&mut serving);
            self.start_drain(&mut serving);
            self.ask_replicas(&mut serving);
            if serving.stopping.is_some_and(|since| self.tail_is_empty() || since.elapsed() > STOP_DRAIN)
                && serving.calls.is_empty()
                && serving.replica.is_none()
            {
                return None;
            }
            if serving.returning && serving.is_idle() {
                self.abandon_calls(&mut serving);
                return Some("back");
            }
            let drain_at = serving.drain_at.unwrap_or_else(Instant::now);
            let patience = Self::patience_ends(&serving);
            let cause = tokio::select! {
                biased;
                Some(done) = serving.calls.next() => self.finish_call(&mut serving, done),
                Some(done) = serving.loads.next() => self.finish_load(&mut serving, done),
                Some(done) = serving.look_ups.next() => self.finish_load(&mut serving, done),
                done = async { serving.drain.as_mut().expect("guarded").await }, if serving.drain.is_some() => {
                    self.finish_drain(&mut serving, done)
                }
                done = async { serving.expiry.as_mut().expect("guarded").await }, if serving.expiry.is_some() => {
                    self.finish_expiry(&mut serving, done)
                }
                done = async { serving.replica.as_mut().expect("guarded").await }, if serving.replica.is_some() => {
                    self.replicas_answered(&mut serving, done);
                    None
                }
                back = async { serving.probe.as_mut().expect("guarded").await }, if serving.probe.is_some() => {
                    serving.probe = None;
                    serving.returning = back;
                    None
                }
                ask = self.inbox.recv(), if self.ready.len() < self.parts.config.batch_max => match ask {
                    Some(ask) => { self.ready.push_back(ask); None }
                    None => { serving.stopping.get_or_insert_with(Instant::now); None }
                },
                () = tokio::time::sleep_until(drain_at), if serving.drain_at.is_some() && serving.drain.is_none() => None,
                () = tokio::time::sleep_until(patience.unwrap_or(drain_at)), if patience.is_some() => {
                    self.without_postgres(&mut serving);
                    None
                }
                () = stop.cancelled(), if serving.stopping.is_none() => {
                    serving.stopping = Some(Instant::now());
                    None
                }
                Some(recall) = self.recalls.recv() => { serving.recall(recall); None }
                Ok(()) = members.changed() => { serving.mine = membership.is_mine(self.parts.id); None }
                () = tokio::time::sleep(TAKEN_TICK), if !serving.mine && serving.drain.is_none() => {
                    self.confirm_fence(&mut serving);
                    None
                }
                _ = tick.tick() => self.tick(&mut serving),
            };
            if cause.is_some() {
                if cause == Some("fenced") {
                    self.finish_fenced(&mut serving).await;
                }
                self.abandon_calls(&mut serving);
                return cause;
            }
            self.gather().await;
        }
    }

    /// Another has the shard, or one's own unanswered statement. Calls on their way to the store have its
    /// answer within moments; who waits behind them and behind loads has been promised nothing, and waits
    /// on for whoever decides next.
    async fn finish_fenced(&mut self, serving: &mut Serving) {
        let until = Instant::now() + self.parts.config.store_timeout;
        while let Ok(Some(done)) = tokio::time::timeout_at(until, serving.calls.next()).await {
            self.finish_call(serving, done);
        }
        self.ready.extend(serving.users.take_waiting());
        // Others may commit keys before they are decided.
        self.ready.iter_mut().for_each(|ask| ask.looked_up = false);
    }

    fn look_at_memory(&self, serving: &Serving) {
        let nearly_full = self.nearly_full.clone();
        let OpenStore::Redis { redis, .. } = &serving.open.store else {
            return nearly_full.store(false, Ordering::Relaxed);
        };
        let mut redis = redis.clone();
        tokio::spawn(async move {
            // One that does not answer is for the next call to find.
            if let Ok(is) = redis.is_nearly_full().await {
                nearly_full.store(is, Ordering::Relaxed);
            }
        });
    }

    /// With Postgres away, Redis's word keeps reads going.
    fn confirm_on_redis(&self, serving: &Serving) {
        let OpenStore::Redis { redis, key, .. } = &serving.open.store else { return };
        // Beyond autonomy another may have opened the shard without Redis.
        if !self.is_autonomous(serving) {
            return;
        }
        let (mut redis, key, standing) = (redis.clone(), key.clone(), self.parts.standing.clone());
        let fence = serving.open.fence;
        tokio::spawn(async move {
            let asked = boot_clock();
            if redis.fence_stands(&key).await.unwrap_or(false) {
                standing.confirm(fence, asked);
            }
        });
    }

    /// Lets callers that are about to ask do so, then takes what waits: a batch costs one call
    /// however many share it.
    async fn gather(&mut self) {
        tokio::task::yield_now().await;
        while self.ready.len() < self.parts.config.batch_max {
            match self.inbox.try_recv() {
                Ok(ask) => self.ready.push_back(ask),
                Err(_) => break,
            }
        }
    }

    /// Once a second: what an idle shard would otherwise never notice. `Some`: a turn is due.
    fn tick(&mut self, serving: &mut Serving) -> Option<&'static str> {
        self.confirm_fence(serving);
        if self.parts.membership.is_on() {
            self.confirm_on_redis(serving);
            // The rest as often as ever.
            if serving.housekept.elapsed() < TICK {
                return None;
            }
            serving.housekept = Instant::now();
        }
        // Beyond autonomy it takes nothing more, until Postgres answers.
        self.gauges.open.set(i64::from(self.is_autonomous(serving)));
        self.count_undrained();
        self.gauges.users.set(serving.users.in_memory() as i64);
        self.drop_late_acks();
        self.start_expiry(serving);
        self.sweep();
        self.start_probe(serving);
        self.look_at_memory(serving);
        match &serving.open.store {
            OpenStore::Redis { redis, .. } => self.parts.servers.has_moved(&redis.url).then_some("moved"),
            OpenStore::Postgres => None,
        }
    }
}

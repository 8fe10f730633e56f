//! Senders of keyed checks, who go on whatever happens, and the log of what they were answered.

use super::caller::{Answer, Caller, Keyed};
use cellar_model::UserId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Keys of one sender: far more than the longest row sends.
const KEYS_MAX: usize = 10_000;
/// Between two checks of a sender: the machine also runs every server.
const PAUSE: Duration = Duration::from_millis(3);
/// After a 503 or a broken connection.
const BACK_OFF: Duration = Duration::from_millis(20);
/// For something that is waited for to come true, at the most: the longest are a return to Redis and a
/// slow machine.
const WAIT_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(10);

pub(super) struct Sent {
    pub(super) check: Keyed,
    pub(super) asked: Instant,
    pub(super) answered: Instant,
    pub(super) answer: Answer,
}

/// Senders over some users.
pub(super) struct Load {
    users: Vec<UserId>,
    log: Arc<Mutex<Vec<Sent>>>,
    stop: Arc<AtomicBool>,
    senders: Vec<JoinHandle<()>>,
}

impl Load {
    pub(super) fn start(name: &str, caller: &Caller, users: &[UserId], senders: usize) -> Self {
        let (log, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let sender = |n: usize| {
            let (name, caller, users) = (name.to_owned(), caller.clone(), users.to_vec());
            let (log, stop) = (log.clone(), stop.clone());
            tokio::spawn(async move {
                for key in 0..KEYS_MAX {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // Each round another order, so that no two senders stay in step.
                    let user = &users[(n + key * (1 + key / users.len() % 7)) % users.len()];
                    let check = Keyed::new(user, 1 + key as u64 % 3, format!("{name}-{n}-{key}"));
                    let asked = Instant::now();
                    let answer = caller.ask(&check).await;
                    let pause = if answer.is_good() { PAUSE } else { BACK_OFF };
                    log.lock().unwrap().push(Sent { check, asked, answered: Instant::now(), answer });
                    tokio::time::sleep(pause).await;
                }
            })
        };
        let senders = (0..senders).map(sender).collect();
        Self { users: users.to_vec(), log, stop, senders }
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Vec<Sent>> {
        self.log.lock().unwrap()
    }

    /// Until each user has had so many good answers to checks sent after `since`.
    pub(super) async fn answers(&self, since: Instant, each: usize) {
        let good = |log: &[Sent], user: &UserId| {
            let his = log.iter().filter(|sent| sent.check.user == *user && sent.asked >= since);
            his.filter(|sent| sent.answer.is_good()).count()
        };
        self.until("hardly anything is answered", |log| self.users.iter().all(|user| good(log, user) >= each)).await;
    }

    /// Until each user has had a good answer to a check sent after `since`.
    pub(super) async fn served(&self, since: Instant) {
        self.until("not all are served", |log| self.each(log, |sent| sent.asked >= since && sent.answer.is_good()))
            .await;
    }

    /// The same, and the answer says of its store what is expected.
    pub(super) async fn served_by(&self, since: Instant, degraded: Option<&str>) {
        let by =
            |sent: &Sent| sent.asked >= since && sent.answer.is_good() && sent.answer.degraded.as_deref() == degraded;
        self.until(&format!("not all are served by {degraded:?}"), |log| self.each(log, by)).await;
    }

    /// Until so many checks sent after `since` have failed for this reason.
    pub(super) async fn failed(&self, since: Instant, reason: &str, number: usize) {
        let why = super::caller::Said::Unknown(reason.to_owned());
        let failed = |sent: &&Sent| sent.asked >= since && sent.answer.said == why;
        self.until(&format!("nothing is answered {reason:?}"), |log| log.iter().filter(failed).count() >= number).await;
    }

    fn each(&self, log: &[Sent], is: impl Fn(&Sent) -> bool) -> bool {
        self.users.iter().all(|user| log.iter().rev().any(|sent| sent.check.user == *user && is(sent)))
    }

    async fn until(&self, otherwise: &str, seen: impl Fn(&[Sent]) -> bool) {
        let until = Instant::now() + WAIT_MAX;
        while !seen(&self.log()) {
            if Instant::now() > until {
                let last = self.last_answers();
                panic!("{otherwise}; the last answers: {last:?}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn last_answers(&self) -> Vec<(UserId, Answer)> {
        self.log().iter().rev().take(20).map(|sent| (sent.check.user.clone(), sent.answer.clone())).collect()
    }

    /// Ends the senders, each after its answer, and hands out the log.
    pub(super) async fn stop(self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.await.unwrap();
        }
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

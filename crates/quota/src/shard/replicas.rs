//! What waits for a replica: admissions of tiers with `ack = "replica"`, after their commit.
//!
//! One question is under way at a time and is about everything that was committed before it, so what comes
//! meanwhile waits for the next one.

use super::serve::Serving;
use super::turn::OpenStore;
use super::{Ask, Shard};
use crate::error::QuotaError;
use crate::store::replicated::ReplicaQuestion;
use cellar_model::{Ack, Seq, TryAgain, Verdict};
use tokio::time::Instant;

/// Admissions that may wait at once: a replica that hangs for a whole wait must not fill the memory.
const WAITING_MAX: usize = 65_536;

/// An admission that is answered when a replica has it.
pub(super) struct Unreplicated {
    /// Its batch, or a later one.
    pub(super) seq: Seq,
    pub(super) ask: Ask,
    pub(super) verdict: Verdict,
}

#[derive(Default)]
pub(super) struct Replicas {
    waiting: Vec<Unreplicated>,
    /// Those whom the question under way is about.
    asked_about: Vec<Unreplicated>,
    /// Of this opening's server; none until the first is needed.
    question: Option<ReplicaQuestion>,
    /// The last question was not answered with a replica, and that has been said.
    missing: bool,
}

pub(super) struct ReplicaDone {
    /// Goes on being used, unless it failed.
    question: Option<ReplicaQuestion>,
    result: Result<bool, QuotaError>,
    sent: Instant,
}

impl Replicas {
    pub(super) fn wait(&mut self, admission: Unreplicated) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push(admission);
        } else {
            admission.ask.answer(Verdict::try_again(TryAgain::Unknown));
        }
    }

    /// The opening is over: what is not known of its server will not be known any more.
    pub(super) fn abandon(&mut self) {
        self.question = None;
        for waiting in self.waiting.drain(..).chain(self.asked_about.drain(..)) {
            waiting.ask.answer(Verdict::try_again(TryAgain::Unknown));
        }
    }
}

impl Shard {
    /// Asks about all that wait, unless a question is under way.
    pub(super) fn ask_replicas(&mut self, serving: &mut Serving) {
        let OpenStore::Redis { redis, .. } = &serving.open.store else { return };
        if serving.replica.is_some() || self.replicas.waiting.is_empty() {
            return;
        }
        self.replicas.asked_about = std::mem::take(&mut self.replicas.waiting);
        let (question, redis) = (self.replicas.question.take(), redis.clone());
        let wait = self.parts.config.replica_wait;
        serving.replica = Some(Box::pin(async move {
            let sent = Instant::now();
            let asked = async {
                let mut question = match question {
                    Some(question) => question,
                    None => ReplicaQuestion::connect(&redis, wait).await?,
                };
                let replicated = question.ask().await?;
                Ok((question, replicated))
            };
            match asked.await {
                Ok((question, replicated)) => ReplicaDone { question: Some(question), result: Ok(replicated), sent },
                Err(error) => ReplicaDone { question: None, result: Err(error), sent },
            }
        }));
    }

    /// A charge that no replica has in time stands all the same: whether it will be remembered is unknown,
    /// and a repeat of its key asks again.
    pub(super) fn replicas_answered(&mut self, serving: &mut Serving, done: ReplicaDone) {
        serving.replica = None;
        self.replicas.question = done.question;
        self.parts.metrics.replica_seconds.observe(done.sent.elapsed().as_secs_f64());
        let asked_about = std::mem::take(&mut self.replicas.asked_about);
        let replicated = matches!(done.result, Ok(true));
        match (done.result, self.replicas.missing) {
            (Err(error), false) => {
                tracing::warn!(shard = %self.parts.id, error = &error as &dyn std::error::Error, "no replica can be asked for; tiers with ack = \"replica\" are answered 503");
            }
            (Ok(false), false) => {
                tracing::warn!(shard = %self.parts.id, "no replica of the quota Redis has a commit in time, or none is attached; tiers with ack = \"replica\" are answered 503");
            }
            (Ok(true), true) => tracing::info!(shard = %self.parts.id, "a replica has the commits again"),
            _ => {}
        }
        self.replicas.missing = !replicated;
        if !replicated {
            self.parts.metrics.unreplicated.inc_by(asked_about.len() as u64);
        }
        let reach = self.reach(serving);
        for Unreplicated { seq, ask, verdict } in asked_about {
            if replicated {
                // As any other commit, a tail over its bounds may want it in Postgres as well.
                self.answer_one(reach, seq, Some(Ack::Redis), ask, verdict);
            } else {
                ask.answer(Verdict::try_again(TryAgain::Unknown));
            }
        }
    }
}

//! Requests of a trace, with its users or made-up ones.

use super::requests::{Act, Gathering, Request, Requests};
use crate::trace;
use anyhow::ensure;
use cellar_model::{ChargeId, Epoch, Fence, Micros, Unit, Version};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A user who is not known yet.
const NOBODY: u32 = u32::MAX;

#[derive(Debug, clap::Args)]
pub(super) struct TraceArguments {
    /// Ask again what a trace has, csv or csv.gz: columns as of `trace play`
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Made-up users, when the trace has none
    #[arg(long, default_value_t = 1_000)]
    users: usize,
    /// Exponent of the Zipf law by which they ask
    #[arg(long, default_value_t = 1.1)]
    zipf: f64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A trace as it was read.
pub(super) struct Traced {
    pub(super) requests: Requests,
    /// Lines with an earlier time than the one before.
    pub(super) out_of_order: usize,
    pub(super) made_up: bool,
}

impl TraceArguments {
    pub(super) fn path(&self) -> Option<&Path> {
        self.trace.as_deref()
    }

    pub(super) fn read(&self, path: &Path) -> anyhow::Result<Traced> {
        ensure!((1..=1_000_000).contains(&self.users), "--users must be 1 to 1,000,000");
        let (mut gathering, mut users, mut costs) = (Gathering::default(), HashMap::new(), HashMap::new());
        let (mut latest, mut out_of_order, mut odd) = (Micros(0), 0, None);
        trace::each(path, |line| {
            out_of_order += usize::from(line.at < latest);
            latest = line.at;
            let user = match line.user {
                Some(label) => *users.entry(label).or_insert_with_key(|label| gathering.user(label)),
                None => NOBODY,
            };
            let cost = *costs.entry(line.tokens).or_insert_with(|| {
                let units = vec![(Unit::requests(), 1), (Unit::tokens(), line.tokens)];
                gathering.cost(units).unwrap_or_else(|message| {
                    odd = Some(message);
                    0
                })
            });
            let version = Version(gathering.requests.len() as u64);
            let charge = ChargeId { epoch: Epoch(0), fence: Fence(0), version, place: 0 };
            gathering.requests.push(Request { at: line.at, user, cost, charge, act: Act::Consume });
        })?;
        if let Some(message) = odd {
            anyhow::bail!("{}: {message}", path.display());
        }
        let made_up = users.is_empty();
        drop((users, costs));
        if made_up {
            self.make_up_users(&mut gathering)?;
        }
        Ok(Traced { requests: gathering.finish(Micros(0)), out_of_order, made_up })
    }

    /// The same as in a play: drawn in the order of time.
    fn make_up_users(&self, gathering: &mut Gathering) -> anyhow::Result<()> {
        gathering.requests.sort_unstable_by_key(|request| (request.at, request.charge.version));
        (1..=self.users).for_each(|n| _ = gathering.user(&n.to_string()));
        let senders = trace::zipf_senders_of(self.users, self.zipf, self.seed)?;
        for (request, sender) in gathering.requests.iter_mut().zip(senders) {
            request.user = sender as u32;
        }
        Ok(())
    }
}

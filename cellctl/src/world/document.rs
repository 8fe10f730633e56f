//! The topology as a stack's routers hold it, and put in force through them.

use anyhow::{Context, bail};
use cellar_client::{Admin, ClientError, Credential};
use cellar_devstack::{RegionEntry, Role, StackState};
use cellar_model::{Revision, Topology};
use std::time::Duration;
use tokio::time::Instant;

/// Routers look every two seconds; one that has just started a new look, or is asked by many, takes longer.
const FOLLOW_MAX: Duration = Duration::from_secs(30);
const FOLLOW_POLL: Duration = Duration::from_millis(100);
/// How often a document is made anew because another one was in force, or a router did not know it yet.
const TRIES: u32 = 6;
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// The routers of a stack that were there before the change.
pub(super) struct Routers {
    by_region: Vec<(String, Admin)>,
}

impl Routers {
    pub(super) fn of(state: &StackState) -> anyhow::Result<Self> {
        let key = state.operator_key.clone().context("the stack has not come up yet")?;
        let admin = |url: &String| Admin::new([url.clone()], Credential::new(key.clone()));
        // One that was planned and never started, by a change that was cut short, follows nothing yet.
        let started = |entry: &&RegionEntry| {
            let mut routers = state.processes.iter().filter(|process| process.role == Role::Router);
            routers.any(|process| process.life.is_some() && process.region.as_deref() == Some(entry.name.as_str()))
        };
        let regions = state.regions.iter().filter(started);
        let by_region = regions.map(|region| anyhow::Ok((region.name.clone(), admin(&region.admin_url)?)));
        Ok(Self { by_region: by_region.collect::<Result<_, _>>()? })
    }

    /// The newest topology that any of them holds.
    pub(super) async fn newest(&self) -> anyhow::Result<Topology> {
        self.held_by_any().await.map(|(_, held)| held)
    }

    /// The same, and the router that has it.
    async fn held_by_any(&self) -> anyhow::Result<(&Admin, Topology)> {
        let mut newest: Option<(&Admin, Topology)> = None;
        let mut silent = None;
        for (_, admin) in &self.by_region {
            match admin.topology().await {
                Ok(held) if newest.as_ref().is_some_and(|(_, newest)| newest.revision >= held.revision) => {}
                Ok(held) => newest = Some((admin, held)),
                Err(error) => silent = Some(error),
            }
        }
        match (newest, silent) {
            (Some(newest), _) => Ok(newest),
            (None, Some(error)) => Err(error).context("no router says which topology is in force"),
            (None, None) => bail!("the stack has no router"),
        }
    }

    /// Whether `wanted` differs from what is in force; an error, if it may not follow.
    pub(super) async fn judge(&self, wanted: &Topology) -> anyhow::Result<bool> {
        let judge = async |admin: &Admin, next: &Topology| admin.judge_topology(next).await;
        Ok(self.as_successor(wanted, judge).await?.1)
    }

    /// The revision under which `wanted` is in force now, and whether it is another one than before.
    pub(super) async fn put_in_force(
        &self,
        wanted: &Topology,
        say: &mut impl FnMut(&str),
    ) -> anyhow::Result<(Revision, bool)> {
        let mut said = false;
        let put = async |admin: &Admin, next: &Topology| {
            if !std::mem::replace(&mut said, true) {
                say("putting the topology in force");
            }
            admin.put_topology(next).await
        };
        self.as_successor(wanted, put).await
    }

    /// Hands `wanted` on as the successor of what is in force. A write that was not answered, or that came
    /// after another one, is followed by another look.
    async fn as_successor(
        &self,
        wanted: &Topology,
        mut hand_on: impl AsyncFnMut(&Admin, &Topology) -> Result<(), ClientError>,
    ) -> anyhow::Result<(Revision, bool)> {
        let mut tries = 1;
        loop {
            let (admin, held) = self.held_by_any().await?;
            if same(&held, wanted) {
                return Ok((held.revision, tries > 1));
            }
            let next = Topology { revision: held.revision.next(), predecessor: held.revision, ..wanted.clone() };
            match hand_on(admin, &next).await {
                Ok(()) => return Ok((next.revision, true)),
                Err(error) if tries < TRIES && (error.is_unknown() || error.status() == Some(409)) => tries += 1,
                Err(error) => return Err(error).context("the topology may not become this one"),
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    /// Waits until every router of the regions that stay goes by `revision` or a later one.
    pub(super) async fn follow(&self, revision: Revision, stays: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let until = Instant::now() + FOLLOW_MAX;
        for (region, admin) in self.by_region.iter().filter(|(region, _)| stays(region)) {
            while !admin.topology().await.is_ok_and(|held| held.revision >= revision) {
                if Instant::now() > until {
                    bail!("the router of {region} does not go by revision {revision}; its log says why");
                }
                tokio::time::sleep(FOLLOW_POLL).await;
            }
        }
        Ok(())
    }
}

/// Whether they say the same of regions and cells. A plan is a word about one step, and alone changes nothing.
fn same(held: &Topology, wanted: &Topology) -> bool {
    let Topology { revision, predecessor, plan, .. } = held.clone();
    *held == Topology { revision, predecessor, plan, ..wanted.clone() }
}

//! The topology: shown, counted before it changes, changed.

use super::{AdminState, DryRun, failed};
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cellar_directory::{Documents, HomeCursor, HomePage, HomeState, Homes, PAGE_MAX, Written};
use cellar_model::{CellName, Problem, ProblemType, Topology, TopologyChange, TopologyCount, TopologyError};
use cellar_server::{HttpProblem, JsonBody};
use http::{StatusCode, header};

/// Pages of homes behind one line of a count: some ten lines a second.
const PAGES_A_LINE: usize = 20;

/// The topology this router goes by.
pub(super) async fn show(State(state): State<AdminState>) -> Result<Response, HttpProblem> {
    let map = state.routing.map().ok_or(ProblemType::TryAgain)?;
    Ok(axum::Json(&map.topology).into_response())
}

/// Puts a topology in force, if it is made of the one that is; with `dry_run` says only whether it may be.
pub(super) async fn put(
    State(state): State<AdminState>,
    Query(query): Query<DryRun>,
    JsonBody(new): JsonBody<Topology>,
) -> Result<Response, HttpProblem> {
    let held = held(&state).await?;
    if held != new {
        judge(&held, &new)?;
        nobody_is_left_behind(&state, &held, &new).await?;
    }
    if query.dry_run || held == new {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    match state.directory.put_topology(&new, Some(held.revision)).await.map_err(failed)? {
        Written::Applied => {}
        Written::Refused(_) => return Err(stale(&self::held(&state).await?).into()),
        // It may have been written all the same.
        Written::Unknown(_) if self::held(&state).await? == new => {}
        Written::Unknown(cause) => return Err(failed(cause)),
    }
    tracing::info!(revision = %new.revision, plan = new.plan, "an operator has put a topology in force");
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn held(state: &AdminState) -> Result<Topology, HttpProblem> {
    let held = state.directory.read_topology().await.map_err(failed)?;
    let none = || Problem::new(ProblemType::TryAgain).detail("the directory has no topology yet");
    Ok(held.ok_or_else(none)?)
}

fn judge(held: &Topology, new: &Topology) -> Result<(), Problem> {
    if new.predecessor != held.revision {
        return Err(stale(held));
    }
    held.may_become(new).map_err(|error| Problem::new(ProblemType::Invalid).detail(error.to_string()))
}

fn stale(held: &Topology) -> Problem {
    let revision = held.revision;
    Problem::new(ProblemType::Conflict).detail(format!(
        "revision {revision} is in force: read it, change it, and give it the predecessor {revision} and a higher \
         revision"
    ))
}

/// A cell that leaves has no users: it is draining, or pending without weight, and takes no new ones. A pending cell
/// joins the ring once everybody whom the ring will place there lives there.
async fn nobody_is_left_behind(state: &AdminState, held: &Topology, new: &Topology) -> Result<(), HttpProblem> {
    let leaves = |cell: &CellName| new.cell(cell).is_none();
    let joining = held.joining(new);
    if joining.is_empty() && !held.cells().any(|(_, cell)| leaves(&cell.name)) {
        return Ok(());
    }
    let invalid = |error: TopologyError| Problem::new(ProblemType::Invalid).detail(error.to_string());
    let mut change = TopologyChange::new(held, new.clone()).map_err(invalid)?;
    let mut from = None;
    loop {
        let HomePage { homes, next } = state.directory.homes(from.as_ref(), PAGE_MAX).await.map_err(failed)?;
        for home in homes.iter().filter(|home| home.state != HomeState::Erased) {
            if leaves(&home.home) {
                let detail = format!("cell {} still has users: move them before it leaves the topology", home.home);
                return Err(Problem::new(ProblemType::Conflict).detail(detail).into());
            }
            // A sign-up that stopped half way is nobody yet, and may never be.
            if !matches!(home.state, HomeState::Creating { .. }) {
                change.see(&home.user, &home.home);
            }
        }
        // There are as many pages as there are users.
        match next {
            Some(next) => from = Some(next),
            None => break,
        }
    }
    for cell in joining {
        let users = change.count().moving_to(&cell);
        if users > 0 {
            let detail = format!(
                "{users} users whom the ring would place in {cell} live in other cells, and users cannot be moved yet: \
                 leave {cell} pending, where it takes its share of new users"
            );
            return Err(Problem::new(ProblemType::Conflict).detail(detail).into());
        }
    }
    Ok(())
}

/// Counts whom a topology would move, home by home: JSON lines, each with all that was counted so far. The
/// last one is `whole`; without it the count broke off.
pub(super) async fn count(
    State(state): State<AdminState>,
    JsonBody(new): JsonBody<Topology>,
) -> Result<Response, HttpProblem> {
    let held = held(&state).await?;
    let change = TopologyChange::new(&held, new)
        .map_err(|error| Problem::new(ProblemType::Invalid).detail(error.to_string()))?;
    let counting = Counting { state, change, from: None };
    let lines = futures::stream::try_unfold(Some(counting), |counting| async {
        match counting {
            Some(counting) => counting.line().await.map(Some),
            None => Ok(None),
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], Body::from_stream(lines)).into_response())
}

struct Counting {
    state: AdminState,
    change: TopologyChange,
    from: Option<HomeCursor>,
}

impl Counting {
    /// The next line, and what is to be counted after it.
    async fn line(mut self) -> Result<(Bytes, Option<Self>), axum::Error> {
        for _ in 0..PAGES_A_LINE {
            let page = self.state.directory.homes(self.from.as_ref(), PAGE_MAX).await;
            let page = page.map_err(|error| {
                tracing::warn!(error = &error as &dyn std::error::Error, "a count of homes broke off");
                axum::Error::new(error)
            })?;
            for home in page.homes.iter().filter(|home| home.state != HomeState::Erased) {
                self.change.see(&home.user, &home.home);
            }
            match page.next {
                Some(next) => self.from = Some(next),
                None => return Ok((written(&self.change.finish())?, None)),
            }
        }
        Ok((written(self.change.count())?, Some(self)))
    }
}

fn written(count: &TopologyCount) -> Result<Bytes, axum::Error> {
    let mut line = serde_json::to_vec(count).map_err(axum::Error::new)?;
    line.push(b'\n');
    Ok(line.into())
}

//! What the cells say of a change before it is made.
//!
//! All of them are asked, for they need not be alike: one of another build may not compile what the others do, and one
//! whose file of keys lacks an author does not believe him. A cell that does not answer holds up no change, or a lost
//! region would; it is named beside the answer.

use super::{AdminState, cells};
use crate::cells::Cell;
use axum::response::Response;
use bytes::Bytes;
use cellar_model::{CellName, Problem, ProblemType, SettingProblem};
use cellar_server::HttpProblem;
use futures::stream::{self, StreamExt};
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most bytes of a cell's judgement.
const JUDGEMENT_BYTES_MAX: usize = 256 * 1024;
/// Cells that are asked at the same time: each is sent the whole component.
const ASKED_AT_ONCE: usize = 16;
/// Who has not answered by then is one who does not. An operator waits for it.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// What is told of problems, and of cells beside each.
const PROBLEMS_MAX: usize = 100;
const CELLS_NAMED_MAX: usize = 3;

/// What all cells together say.
pub(super) struct Judgement {
    pub(super) problems: Vec<SettingProblem>,
    /// Cells that did not say, and why: `us-1: refused`.
    pub(super) silent: Vec<String>,
}

enum Said {
    Fit,
    Unfit(Vec<SettingProblem>),
    Nothing(HttpProblem),
}

/// Asks every cell what is wrong with `body`. An error if none of them says.
pub(super) async fn of_cells(
    state: &AdminState,
    headers: &HeaderMap,
    path: &str,
    body: Vec<u8>,
) -> Result<Judgement, HttpProblem> {
    let map = state.routing.map().ok_or(ProblemType::TryAgain)?;
    let body = Bytes::from(body);
    let asked: Vec<_> = map.cells().map(|cell| ask(cell, headers, path, body.clone())).collect();
    let mut answers = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE);
    let mut said: BTreeMap<CellName, Said> = BTreeMap::new();
    let gather = async {
        while let Some((cell, one)) = answers.next().await {
            said.insert(cell, one);
        }
    };
    // What has been said until then counts.
    let _ = tokio::time::timeout(ANSWERS_WITHIN, gather).await;
    for cell in map.cells() {
        let late = || Said::Nothing(ProblemType::TryAgain.into());
        said.entry(cell.name().clone()).or_insert_with(late);
    }
    gathered(said)
}

async fn ask(cell: &Cell, headers: &HeaderMap, path: &str, body: Bytes) -> (CellName, Said) {
    let said = match cells::send(cell, Method::POST, path, headers, body).await {
        Ok(response) if response.status() == StatusCode::NO_CONTENT => Said::Fit,
        Ok(response) if response.status() == StatusCode::UNPROCESSABLE_ENTITY => {
            unfit(response).await.map_or_else(Said::Nothing, Said::Unfit)
        }
        Ok(response) => {
            let detail = format!("cell {} answers {} to {path}", cell.name(), response.status().as_u16());
            Said::Nothing(Problem::new(ProblemType::TryAgain).detail(detail).into())
        }
        Err(problem) => Said::Nothing(problem),
    };
    (cell.name().clone(), said)
}

async fn unfit(response: Response) -> Result<Vec<SettingProblem>, HttpProblem> {
    #[derive(Deserialize)]
    struct Refusal {
        detail: Option<String>,
        #[serde(default)]
        errors: Vec<SettingProblem>,
    }
    let body = axum::body::to_bytes(response.into_body(), JUDGEMENT_BYTES_MAX).await;
    let body = body.map_err(|_| ProblemType::TryAgain)?;
    let said: Refusal = serde_json::from_slice(&body).map_err(|_| ProblemType::Internal)?;
    if said.errors.is_empty() {
        // A refusal without a place is one all the same.
        let message = said.detail.unwrap_or_else(|| "the cell refuses it".to_owned());
        return Ok(vec![SettingProblem::new("", &message)]);
    }
    Ok(said.errors)
}

/// What only some of the cells say is told with their names.
fn gathered(said: BTreeMap<CellName, Said>) -> Result<Judgement, HttpProblem> {
    let (mut silent, mut nothing, mut answered) = (Vec::new(), None, 0);
    let mut against: Vec<(SettingProblem, Vec<CellName>)> = Vec::new();
    for (cell, one) in said {
        answered += usize::from(!matches!(one, Said::Nothing(_)));
        match one {
            Said::Fit => {}
            Said::Unfit(problems) => {
                for problem in problems {
                    match against.iter().position(|(held, _)| *held == problem) {
                        Some(place) => against[place].1.push(cell.clone()),
                        None if against.len() < PROBLEMS_MAX => against.push((problem, vec![cell.clone()])),
                        None => {}
                    }
                }
            }
            Said::Nothing(problem) => {
                let why = problem.0.detail.clone().unwrap_or_else(|| format!("cell {cell} does not answer"));
                tracing::warn!(%cell, why, "a change is judged without this cell");
                silent.push(why);
                nothing = Some(problem);
            }
        }
    }
    if answered == 0 {
        return Err(nothing.unwrap_or_else(|| ProblemType::TryAgain.into()));
    }
    let problems = against.into_iter().map(|(problem, cells)| named(problem, &cells, answered)).collect();
    Ok(Judgement { problems, silent })
}

fn named(problem: SettingProblem, cells: &[CellName], answered: usize) -> SettingProblem {
    if cells.len() == answered {
        return problem;
    }
    let mut names = cells.iter().take(CELLS_NAMED_MAX).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if cells.len() > CELLS_NAMED_MAX {
        names.push_str(&format!(" and {} more", cells.len() - CELLS_NAMED_MAX));
    }
    let SettingProblem { pointer, message } = problem;
    SettingProblem { pointer, message: format!("{names} of {answered} cells: {message}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(cells: Vec<(&str, Said)>) -> BTreeMap<CellName, Said> {
        cells.into_iter().map(|(cell, said)| (CellName::new(cell).unwrap(), said)).collect()
    }

    fn unfit(message: &str) -> Said {
        Said::Unfit(vec![SettingProblem::new("/policy/0/use", message)])
    }

    fn silent() -> Said {
        Said::Nothing(Problem::new(ProblemType::TryAgain).detail("cell eu-2: refused").into())
    }

    #[test]
    fn what_one_cell_cannot_is_refused_with_its_name_and_what_none_can_without() {
        let judged = gathered(said(vec![("eu-1", Said::Fit), ("us-1", unfit("does not compile"))])).ok().unwrap();
        assert_eq!(judged.problems[0].message, "us-1 of 2 cells: does not compile");
        let judged = gathered(said(vec![("eu-1", unfit("no")), ("us-1", unfit("no"))])).ok().unwrap();
        assert_eq!(judged.problems, [SettingProblem::new("/policy/0/use", "no")]);
        let many = ["a", "b", "c", "d", "e"].map(|cell| (cell, unfit("no")));
        let judged = gathered(said(many.into_iter().chain([("f", Said::Fit)]).collect())).ok().unwrap();
        assert_eq!(judged.problems[0].message, "a, b, c and 2 more of 6 cells: no");
    }

    #[test]
    fn a_silent_cell_holds_up_nothing_and_is_named_unless_all_are() {
        let judged = gathered(said(vec![("eu-1", Said::Fit), ("eu-2", silent())])).ok().unwrap();
        assert!(judged.problems.is_empty());
        assert_eq!(judged.silent, ["cell eu-2: refused"]);
        assert!(gathered(said(vec![("eu-2", silent())])).is_err());
        assert!(gathered(BTreeMap::new()).is_err());
    }
}

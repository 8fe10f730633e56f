//! A search of a model's states, and what it came to.

use stateright::{Checker, Expectation, HasDiscoveries, Model};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Far more than the largest space takes on two busy cores.
const PATIENCE: Duration = Duration::from_secs(1_800);

pub struct Search {
    pub unique: usize,
    pub depth: usize,
    pub seconds: f64,
    /// Every state was seen, or a violation.
    pub ended: bool,
    pub violated: Vec<&'static str>,
    pub never: Vec<&'static str>,
    /// The shortest way to the first violation.
    pub trace: Vec<String>,
}

/// Breadth first, so that what is found is found by the shortest way.
pub fn search<M>(world: M, describe: impl Fn(&M::State, M::Action) -> String) -> Search
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static,
    M::Action: Copy + PartialEq + std::fmt::Debug,
{
    let began = Instant::now();
    let checker = world.checker().threads(2).timeout(PATIENCE).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    let found = checker.discoveries();
    let names = |expectation: Expectation, discovered: bool| -> Vec<&'static str> {
        let properties = checker.model().properties().into_iter();
        let properties = properties.filter(|property| property.expectation == expectation);
        properties.map(|property| property.name).filter(|name| found.contains_key(name) == discovered).collect()
    };
    let violated = names(Expectation::Always, true);
    let trace = violated.first().map_or(Vec::new(), |name| {
        let steps = found[name].clone().into_vec();
        steps.iter().filter_map(|(state, action)| Some(describe(state, (*action)?))).collect()
    });
    Search {
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        seconds: began.elapsed().as_secs_f64(),
        ended: checker.is_done() && began.elapsed() < PATIENCE,
        never: if violated.is_empty() { names(Expectation::Sometimes, false) } else { Vec::new() },
        violated,
        trace,
    }
}

pub fn all_of_it() -> bool {
    std::env::var_os("CELLAR_TEST_FULL").is_some()
}

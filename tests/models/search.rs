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

impl Search {
    /// Every promise is kept in every state there is, and nothing that the environment is for stays away.
    pub fn holds(&self, environment: &str) {
        let Self { unique, depth, seconds, .. } = self;
        println!("{environment:<36} {unique:>9} states {depth:>4} deep {seconds:>6.1} s");
        assert!(self.violated.is_empty(), "{:?} after\n{}", self.violated, self.trace.join("\n"));
        assert!(self.ended, "{environment} was not searched to its end");
        assert!(self.never.is_empty(), "{environment} never shows that {:?}", self.never);
    }

    /// Whether a promise is broken without `rule`.
    pub fn misses(&self, rule: &str, environment: &str) -> bool {
        let Self { violated, trace, seconds, .. } = self;
        println!("{rule:<38} {environment:<36} {:>3} steps {seconds:>6.1} s: not so: {violated:?}", trace.len());
        !violated.is_empty()
    }
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

//! A desired world as a file: regions, and cells with their places in the topology. Where they listen is the
//! stack's to say, and which revision it becomes the directory's.

use anyhow::Context;
use cellar_devstack::{CellShape, RegionShape, StackState, World};
use cellar_model::{CellEntry, CellName, CellState, Incarnation, RegionEntry, RegionName, Revision, Topology};
use serde::Deserialize;
use std::io::Read;
use std::path::Path;

/// Read from the standard input.
const STDIN: &str = "-";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorldFile {
    pub(super) default_region: RegionName,
    /// An operator's word that places on a ring may move.
    #[serde(default)]
    pub(super) plan: Option<String>,
    #[serde(default)]
    witness: Option<String>,
    regions: Vec<RegionFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegionFile {
    name: RegionName,
    /// The region's name, if it is not said.
    residency: Option<String>,
    cells: Vec<CellFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CellFile {
    name: CellName,
    #[serde(default = "open")]
    state: CellState,
    #[serde(default = "weight")]
    weight: u32,
    /// As many as its processes need, if it is not said.
    shards: Option<u16>,
}

fn open() -> CellState {
    CellState::Open
}

fn weight() -> u32 {
    128
}

impl WorldFile {
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = if file == Path::new(STDIN) {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read the standard input")?;
            text
        } else {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        };
        serde_json::from_str(&text).with_context(|| format!("{} is no world", file.display()))
    }

    pub(super) fn regions(&self) -> Vec<RegionShape> {
        let cell = |cell: &CellFile| CellShape { name: cell.name.to_string(), shards: cell.shards };
        let region = |region: &RegionFile| RegionShape {
            name: region.name.to_string(),
            cells: region.cells.iter().map(cell).collect(),
        };
        self.regions.iter().map(region).collect()
    }

    /// The document of this world. Of what `state` does not have yet nobody knows where it listens.
    pub(super) fn topology(&self, world: &World, state: Option<&StackState>) -> Topology {
        let cell = |cell: &CellFile| CellEntry {
            name: cell.name.clone(),
            state: cell.state,
            weight: cell.weight,
            shards: world.shards_of(&CellShape { name: cell.name.to_string(), shards: cell.shards }),
            incarnation: Incarnation(1),
            endpoints: state.map(|state| state.endpoints(cell.name.as_str())).unwrap_or_default(),
        };
        let region = |region: &RegionFile| RegionEntry {
            name: region.name.clone(),
            residency: region.residency.clone().unwrap_or_else(|| region.name.to_string()),
            routers: state.map(|state| state.routers(region.name.as_str())).unwrap_or_default(),
            cells: region.cells.iter().map(cell).collect(),
        };
        Topology {
            revision: Revision(1),
            predecessor: Revision(0),
            plan: self.plan.clone(),
            witness: self.witness.clone(),
            default_region: self.default_region.clone(),
            regions: self.regions.iter().map(region).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"default_region":"eu","plan":"eu-2 comes","regions":[
        {"name":"eu","residency":"europe","cells":[{"name":"eu-1","shards":8},{"name":"eu-2","state":"pending","weight":64}]}]}"#;

    #[test]
    fn what_is_not_said_is_filled_in() {
        let file: WorldFile = serde_json::from_str(FILE).unwrap();
        let world = World { instances: 2, ..World::of_regions(file.regions()) };
        let topology = file.topology(&world, None);
        assert_eq!(topology.validate(), Ok(()));
        let said = |cell: &CellEntry| (cell.name.to_string(), cell.state, cell.weight, cell.shards);
        let cells: Vec<_> = topology.cells().map(|(_, cell)| said(cell)).collect();
        let pending = ("eu-2".into(), CellState::Pending, 64, 16);
        assert_eq!(cells, [("eu-1".into(), CellState::Open, 128, 8), pending]);
        assert_eq!((topology.plan.as_deref(), topology.regions[0].residency.as_str()), (Some("eu-2 comes"), "europe"));
    }

    #[test]
    fn a_key_that_nobody_reads_is_refused() {
        let odd = FILE.replace("shards", "shads");
        assert!(serde_json::from_str::<WorldFile>(&odd).unwrap_err().to_string().contains("shads"));
    }
}

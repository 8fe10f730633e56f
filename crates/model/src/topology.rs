//! Which regions and cells there are: one document for routers, terraform and local stacks.

use crate::{CellName, Incarnation, RegionName, Revision, Ring};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    pub revision: Revision,
    pub predecessor: Revision,
    /// An operator's word that weight of cells with users may move with this revision.
    pub plan: Option<String>,
    pub witness: Option<String>,
    /// Where foreign ids are placed: the same at every router.
    pub default_region: RegionName,
    pub regions: Vec<RegionEntry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionEntry {
    pub name: RegionName,
    pub residency: String,
    pub routers: Vec<String>,
    pub cells: Vec<CellEntry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellEntry {
    pub name: CellName,
    pub state: CellState,
    /// Virtual nodes on the ring.
    pub weight: u32,
    /// Fixed when the cell is made: it decides which Redis slot and which ledger a user is in.
    pub shards: u16,
    pub incarnation: Incarnation,
    pub endpoints: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellState {
    /// Not on the ring yet.
    Pending,
    Open,
    /// On the ring, takes no new users.
    Full,
    /// On the ring, takes no new users, and its users are being moved.
    Draining,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    #[error("the topology names {0} twice")]
    Twice(String),
    #[error("default_region {0} is not among the regions")]
    NoDefaultRegion(RegionName),
    #[error("region {0} has no cell with weight on its ring")]
    NoRing(RegionName),
    #[error("cell {0}: {1}")]
    Cell(CellName, &'static str),
    #[error("revision {new} does not follow {held}: it goes back")]
    GoesBack { held: Revision, new: Revision },
    #[error("revision {0} names another document than the one already held")]
    SameRevision(Revision),
    #[error("weight of cell {0}, which may have users, moves without a plan")]
    WeightMoved(CellName),
}

/// More cells than this in a region would make a ring of a million virtual nodes.
const WEIGHT_MAX: u32 = 4_096;

impl Topology {
    pub fn cells(&self) -> impl Iterator<Item = (&RegionEntry, &CellEntry)> {
        self.regions.iter().flat_map(|region| region.cells.iter().map(move |cell| (region, cell)))
    }

    pub fn cell(&self, name: &CellName) -> Option<(&RegionEntry, &CellEntry)> {
        self.cells().find(|(_, cell)| cell.name == *name)
    }

    pub fn region(&self, name: &RegionName) -> Option<&RegionEntry> {
        self.regions.iter().find(|region| region.name == *name)
    }

    /// What types cannot say, of the document alone.
    pub fn validate(&self) -> Result<(), TopologyError> {
        for (n, region) in self.regions.iter().enumerate() {
            if self.regions[..n].iter().any(|earlier| earlier.name == region.name) {
                return Err(TopologyError::Twice(format!("region {}", region.name)));
            }
        }
        let cells: Vec<_> = self.cells().map(|(_, cell)| cell).collect();
        for (n, cell) in cells.iter().enumerate() {
            if cells[..n].iter().any(|earlier| earlier.name == cell.name) {
                return Err(TopologyError::Twice(format!("cell {}", cell.name)));
            }
            if cell.weight > WEIGHT_MAX {
                return Err(TopologyError::Cell(cell.name.clone(), "weight is at most 4096"));
            }
            if !(1..=1024).contains(&cell.shards) {
                return Err(TopologyError::Cell(cell.name.clone(), "shards must be 1 to 1024"));
            }
        }
        if self.region(&self.default_region).is_none() {
            return Err(TopologyError::NoDefaultRegion(self.default_region.clone()));
        }
        for region in &self.regions {
            region.ring().map_err(|_| TopologyError::NoRing(region.name.clone()))?;
        }
        Ok(())
    }

    /// Whether a router that holds `self` may go on with `new`: never back, and no weight of cells
    /// with users moves unless an operator planned it.
    pub fn may_become(&self, new: &Topology) -> Result<(), TopologyError> {
        new.validate()?;
        if new.revision < self.revision {
            return Err(TopologyError::GoesBack { held: self.revision, new: new.revision });
        }
        if new.revision == self.revision {
            return if new == self { Ok(()) } else { Err(TopologyError::SameRevision(new.revision)) };
        }
        if new.plan.is_some() {
            return Ok(());
        }
        for region in &self.regions {
            for cell in region.cells.iter().filter(|cell| cell.state != CellState::Pending) {
                let after = new.cell(&cell.name).filter(|(home, _)| home.name == region.name);
                if after.is_none_or(|(_, after)| after.weight != cell.weight || after.state == CellState::Pending) {
                    return Err(TopologyError::WeightMoved(cell.name.clone()));
                }
            }
            let joined = new.region(&region.name).into_iter().flat_map(|r| &r.cells);
            for cell in joined.filter(|cell| cell.state != CellState::Pending) {
                let before = self.cell(&cell.name);
                if before.is_none_or(|(_, before)| before.state == CellState::Pending) {
                    return Err(TopologyError::WeightMoved(cell.name.clone()));
                }
            }
        }
        Ok(())
    }
}

impl RegionEntry {
    /// The ring over all cells of this region that may have users.
    pub fn ring(&self) -> Result<Ring, crate::RingError> {
        let on_ring = self.cells.iter().filter(|cell| cell.state != CellState::Pending);
        Ring::new(&on_ring.map(|cell| (cell.name.clone(), cell.weight)).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Topology {
        serde_json::from_str(
            r#"{"revision":7,"predecessor":6,"plan":null,"witness":null,"default_region":"eu","regions":[
                {"name":"eu","residency":"eu","routers":["http://a"],"cells":[
                 {"name":"eu-1","state":"open","weight":128,"shards":4,"incarnation":1,"endpoints":["http://b"]},
                 {"name":"eu-2","state":"full","weight":128,"shards":4,"incarnation":1,"endpoints":["http://c"]}]}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn the_document_of_the_design_is_valid() {
        assert_eq!(document().validate(), Ok(()));
    }

    #[test]
    fn a_doubled_cell_and_a_missing_default_region_are_refused() {
        let mut doubled = document();
        let copy = doubled.regions[0].cells[0].clone();
        doubled.regions[0].cells.push(copy);
        assert!(matches!(doubled.validate(), Err(TopologyError::Twice(_))));
        let mut homeless = document();
        homeless.default_region = RegionName::new("us").unwrap();
        assert!(matches!(homeless.validate(), Err(TopologyError::NoDefaultRegion(_))));
    }

    #[test]
    fn weight_moves_only_by_plan_and_revisions_never_go_back() {
        let held = document();
        let mut new = document();
        new.revision = Revision(8);
        new.regions[0].cells[0].weight = 64;
        assert!(matches!(held.may_become(&new), Err(TopologyError::WeightMoved(_))));
        new.plan = Some("rebalance".into());
        assert_eq!(held.may_become(&new), Ok(()));
        new.revision = Revision(6);
        assert!(matches!(held.may_become(&new), Err(TopologyError::GoesBack { .. })));
    }

    #[test]
    fn new_endpoints_under_a_higher_incarnation_move_no_weight() {
        let held = document();
        let mut new = document();
        new.revision = Revision(8);
        new.regions[0].cells[0].incarnation = Incarnation(2);
        new.regions[0].cells[0].endpoints = vec!["http://d".into()];
        assert_eq!(held.may_become(&new), Ok(()));
    }
}

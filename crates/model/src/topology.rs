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
    /// Not on the ring yet. Takes new users, by the ring as it will be once this cell is on it.
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
    #[error("revision {revision} names {predecessor} as its predecessor, which is not below it")]
    NoPredecessor { revision: Revision, predecessor: Revision },
    #[error("the topology follows revision {predecessor} and not {held}, which is newer: make it of that one")]
    Forked { held: Revision, predecessor: Revision },
    #[error("weight of cell {0}, which may have users, moves without a plan")]
    WeightMoved(CellName),
    #[error("default_region, where foreign ids are placed, changes without a plan")]
    DefaultRegionMoved,
    #[error(
        "cell {0} leaves the topology while it is open, full or pending: let it drain first, or, if it is pending, \
         give it the weight 0"
    )]
    LeavesInUse(CellName),
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
        if self.predecessor >= self.revision {
            let (revision, predecessor) = (self.revision, self.predecessor);
            return Err(TopologyError::NoPredecessor { revision, predecessor });
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

    /// Whether whoever holds `self` may go on with `new`: never back and never aside, a cell keeps what is
    /// fixed, and nobody's place on the ring moves unless an operator planned it.
    ///
    /// Who has missed revisions cannot judge where weight moved: `new` says only whether the step to itself
    /// was planned. Each was judged when it was written, and a stale route costs a hop.
    pub fn may_become(&self, new: &Topology) -> Result<(), TopologyError> {
        new.validate()?;
        if new.revision < self.revision {
            return Err(TopologyError::GoesBack { held: self.revision, new: new.revision });
        }
        if new.revision == self.revision {
            return if new == self { Ok(()) } else { Err(TopologyError::SameRevision(new.revision)) };
        }
        if new.predecessor < self.revision {
            return Err(TopologyError::Forked { held: self.revision, predecessor: new.predecessor });
        }
        self.keeps_what_is_fixed(new)?;
        if new.predecessor != self.revision {
            return Ok(());
        }
        self.keeps_cells_in_use(new)?;
        if new.plan.is_some() { Ok(()) } else { self.moves_no_weight(new) }
    }

    /// Cells that are on the ring of `new`, and have been pending.
    pub fn joining(&self, new: &Topology) -> Vec<CellName> {
        let pending = |state| state == CellState::Pending;
        let joins = |cell: &&CellEntry| {
            pending(cell.state) && new.cell(&cell.name).is_some_and(|(_, after)| !pending(after.state))
        };
        self.cells().map(|(_, cell)| cell).filter(joins).map(|cell| cell.name.clone()).collect()
    }

    /// Users and ledgers lie by shard, and what a later life of a cell did is not undone by an earlier one.
    fn keeps_what_is_fixed(&self, new: &Topology) -> Result<(), TopologyError> {
        for (region, cell) in self.cells() {
            let Some((home, after)) = new.cell(&cell.name) else { continue };
            let wrong = if home.name != region.name {
                "a cell stays in its region"
            } else if after.shards != cell.shards {
                "shards are fixed when the cell is made"
            } else if after.incarnation < cell.incarnation {
                "an incarnation only grows"
            } else {
                continue;
            };
            return Err(TopologyError::Cell(cell.name.clone(), wrong));
        }
        Ok(())
    }

    /// No plan makes users homeless: while a cell takes users or keeps them, it is there.
    fn keeps_cells_in_use(&self, new: &Topology) -> Result<(), TopologyError> {
        let in_use = |cell: &CellEntry| match cell.state {
            CellState::Open | CellState::Full => true,
            // With no weight it is on no ring, and takes nobody.
            CellState::Pending => cell.weight > 0,
            CellState::Draining => false,
        };
        let gone = self.cells().map(|(_, cell)| cell).find(|cell| in_use(cell) && new.cell(&cell.name).is_none());
        gone.map_or(Ok(()), |cell| Err(TopologyError::LeavesInUse(cell.name.clone())))
    }

    fn moves_no_weight(&self, new: &Topology) -> Result<(), TopologyError> {
        if new.default_region != self.default_region {
            return Err(TopologyError::DefaultRegionMoved);
        }
        let on_ring = |cell: &&CellEntry| cell.state != CellState::Pending;
        for region in &self.regions {
            for cell in region.cells.iter().filter(on_ring) {
                let after = new.cell(&cell.name).map(|(_, after)| after).filter(on_ring);
                if after.is_none_or(|after| after.weight != cell.weight) {
                    return Err(TopologyError::WeightMoved(cell.name.clone()));
                }
            }
            // A region that is new moves nobody: it has a ring of its own.
            let cells = new.region(&region.name).into_iter().flat_map(|region| &region.cells);
            for cell in cells.filter(on_ring) {
                let before = self.cell(&cell.name).map(|(_, before)| before).filter(on_ring);
                if before.is_none() && cell.weight > 0 {
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

    /// The ring as it will be once every cell is on it; none if none is to join.
    pub fn pending_ring(&self) -> Option<Ring> {
        let joins = |cell: &CellEntry| cell.state == CellState::Pending && cell.weight > 0;
        let cells = self.cells.iter().map(|cell| (cell.name.clone(), cell.weight));
        self.cells.iter().any(joins).then(|| Ring::new(&cells.collect::<Vec<_>>()).ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rings, UserId};

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

    /// The next revision, changed.
    fn next(held: &Topology, change: impl FnOnce(&mut Topology)) -> Topology {
        let mut new =
            Topology { revision: held.revision.next(), predecessor: held.revision, plan: None, ..held.clone() };
        change(&mut new);
        new
    }

    #[test]
    fn weight_moves_only_by_plan_and_revisions_never_go_back() {
        let held = document();
        let mut new = next(&held, |new| new.regions[0].cells[0].weight = 64);
        assert!(matches!(held.may_become(&new), Err(TopologyError::WeightMoved(_))));
        new.plan = Some("rebalance".into());
        assert_eq!(held.may_become(&new), Ok(()));
        (new.revision, new.predecessor) = (Revision(6), Revision(5));
        assert!(matches!(held.may_become(&new), Err(TopologyError::GoesBack { .. })));
        new.predecessor = Revision(6);
        assert!(matches!(held.may_become(&new), Err(TopologyError::NoPredecessor { .. })));
    }

    /// Goal: a fork is refused, and a router that was away while weight moved goes on all the same.
    #[test]
    fn one_beside_the_held_one_is_refused_and_one_behind_a_gap_is_not() {
        let held = document();
        let mut new = next(&held, |new| new.regions[0].cells[0].weight = 64);
        (new.revision, new.predecessor) = (Revision(9), Revision(6));
        assert!(matches!(held.may_become(&new), Err(TopologyError::Forked { .. })));
        new.predecessor = Revision(8);
        assert_eq!(held.may_become(&new), Ok(()));
    }

    #[test]
    fn a_cell_keeps_its_shards_its_region_and_its_incarnation_even_by_plan() {
        let mut held = document();
        held.regions.push(RegionEntry { name: RegionName::new("us").unwrap(), ..held.regions[0].clone() });
        held.regions[1].cells.truncate(1);
        held.regions[1].cells[0].name = CellName::new("us-1").unwrap();
        let planned = |change: &dyn Fn(&mut Topology)| {
            let mut new = next(&held, |new| change(new));
            new.plan = Some("whatever".into());
            held.may_become(&new)
        };
        assert_eq!(planned(&|_| {}), Ok(()));
        let cell = |new: &mut Topology| new.regions[0].cells[0].clone();
        for change in [
            &|new: &mut Topology| new.regions[0].cells[0].shards = 8,
            &|new: &mut Topology| new.regions[0].cells[0].incarnation = Incarnation(0),
            &|new: &mut Topology| {
                let cell = cell(new);
                new.regions[0].cells.remove(0);
                new.regions[1].cells.push(cell);
            },
        ] as [&dyn Fn(&mut Topology); 3]
        {
            assert!(matches!(planned(change), Err(TopologyError::Cell(..))));
        }
        let gone = planned(&|new| drop(new.regions[0].cells.remove(0)));
        assert!(matches!(gone, Err(TopologyError::LeavesInUse(_))));
    }

    /// Goal: a cell that may have users by now is not lost sight of before it is on a ring.
    #[test]
    fn a_pending_cell_keeps_what_is_fixed_and_leaves_once_it_takes_nobody() {
        let with =
            |held: &Topology, change: &dyn Fn(&mut CellEntry)| next(held, |new| change(&mut new.regions[0].cells[0]));
        let mut held = document();
        held.regions[0].cells[0].state = CellState::Pending;
        assert!(matches!(held.may_become(&with(&held, &|cell| cell.shards = 8)), Err(TopologyError::Cell(..))));
        let gone = |held: &Topology| next(held, |new| drop(new.regions[0].cells.remove(0)));
        assert!(matches!(held.may_become(&gone(&held)), Err(TopologyError::LeavesInUse(_))));
        let weightless = with(&held, &|cell| cell.weight = 0);
        assert_eq!(held.may_become(&weightless), Ok(()));
        assert!(weightless.regions[0].pending_ring().is_none());
        assert_eq!(weightless.may_become(&gone(&weightless)), Ok(()));

        // To join the ring takes a plan.
        let mut joined = with(&held, &|cell| cell.state = CellState::Open);
        assert_eq!(held.joining(&joined), [held.regions[0].cells[0].name.clone()]);
        assert!(matches!(held.may_become(&joined), Err(TopologyError::WeightMoved(_))));
        joined.plan = Some("eu-1 joins".into());
        assert_eq!(held.may_become(&joined), Ok(()));
    }

    #[test]
    fn new_endpoints_under_a_higher_incarnation_move_no_weight() {
        let held = document();
        let new = next(&held, |new| {
            new.regions[0].cells[0].incarnation = Incarnation(2);
            new.regions[0].cells[0].endpoints = vec!["http://d".into()];
        });
        assert_eq!(held.may_become(&new), Ok(()));
    }

    /// Anything an operator might write over `document`, and a little more.
    fn written(held: &Topology, dice: &[u32]) -> Topology {
        let mut dice = dice.iter().copied().cycle();
        let mut roll = move |sides: u32| dice.next().unwrap_or(0) % sides;
        let mut new = held.clone();
        new.revision = Revision(held.revision.0 + u64::from(roll(4)) - 1);
        new.predecessor = Revision(new.revision.0 - 1 - u64::from(roll(5) == 0));
        new.plan = (roll(4) == 0).then(|| "planned".into());
        for n in 0..roll(3) {
            let region = roll(2) as usize;
            let cells = &mut new.regions[region].cells;
            let at = roll(cells.len() as u32) as usize;
            match roll(6) {
                0 => cells[at].weight = roll(200),
                1 => cells[at].state = [CellState::Pending, CellState::Open, CellState::Full][roll(3) as usize],
                2 => cells[at].shards = 4 + roll(2) as u16,
                3 if cells.len() > 1 => drop(cells.remove(at)),
                4 => {
                    let name = CellName::new(&format!("new-{n}")).unwrap();
                    let state = [CellState::Pending, CellState::Open][roll(2) as usize];
                    cells.push(CellEntry { name, state, ..cells[at].clone() });
                }
                _ => new.default_region = new.regions[region].name.clone(),
            }
        }
        new
    }

    proptest::proptest! {
        /// Goal: whatever is written, a router that goes on to the next revision without a plan routes every
        /// user as before, and none goes back, aside, or to a cell with other shards.
        #[test]
        fn without_a_plan_the_next_revision_moves_nobody(dice in proptest::collection::vec(0u32..1_000, 24)) {
            let mut held = document();
            held.regions.push(RegionEntry { name: RegionName::new("us").unwrap(), ..held.regions[0].clone() });
            for (n, cell) in held.regions[1].cells.iter_mut().enumerate() {
                cell.name = CellName::new(&format!("us-{n}")).unwrap();
            }
            let new = written(&held, &dice);
            if held.may_become(&new).is_err() {
                return Ok(());
            }
            proptest::prop_assert!(new.revision >= held.revision && new.predecessor.0 + 1 >= held.revision.0);
            for (_, cell) in held.cells() {
                if let Some((_, after)) = new.cell(&cell.name) {
                    proptest::prop_assert_eq!(after.shards, cell.shards);
                }
            }
            if new.plan.is_some() || new.predecessor > held.revision {
                return Ok(());
            }
            let (before, after) = (Rings::new(&held).unwrap(), Rings::new(&new).unwrap());
            let minted = (0..100u128).map(|n| UserId::mint(&held.regions[(n % 2) as usize].name, n << 70));
            for user in minted.chain((0..100).map(|n| UserId::new(&format!("user-{n}")).unwrap())) {
                proptest::prop_assert_eq!(before.owner(&user), after.owner(&user));
            }
        }
    }
}

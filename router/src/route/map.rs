//! The topology made ready: rings and cells.

use crate::cells::Cell;
use crate::metrics::RouterMetrics;
use cellar_model::{CellName, CellState, RegionName, Ring, Topology, TopologyError, UserId};
use std::collections::HashMap;
use std::sync::Arc;

/// One topology. A new one is a new map, which takes over the cells that stay where they are.
pub(crate) struct Map {
    pub(crate) topology: Topology,
    rings: HashMap<RegionName, Ring>,
    cells: HashMap<CellName, Arc<Cell>>,
}

impl Map {
    /// Makes `topology` ready. Cells of `before` whose endpoints did not change keep their connections.
    pub(crate) fn new(
        topology: Topology,
        before: Option<&Map>,
        metrics: &RouterMetrics,
    ) -> Result<Self, TopologyError> {
        topology.validate()?;
        let mut rings = HashMap::new();
        for region in &topology.regions {
            let ring = region.ring().map_err(|_| TopologyError::NoRing(region.name.clone()))?;
            rings.insert(region.name.clone(), ring);
        }
        let cell = |entry: &cellar_model::CellEntry| {
            let held = before.and_then(|before| before.cells.get(&entry.name));
            let held = held.filter(|held| held.entry.endpoints == entry.endpoints);
            held.cloned().unwrap_or_else(|| Cell::new(entry, metrics))
        };
        let cells = topology.cells().map(|(_, entry)| (entry.name.clone(), cell(entry))).collect();
        Ok(Self { rings, cells, topology })
    }

    /// On whose ring a user is: minted ids name their region, all others are the default region's.
    pub(crate) fn region_of(&self, user: &UserId) -> RegionName {
        let minted = user.minted_by().filter(|region| self.rings.contains_key(region));
        minted.unwrap_or_else(|| self.topology.default_region.clone())
    }

    /// The cell a user falls on when nobody has moved him.
    pub(crate) fn ring_owner(&self, user: &UserId) -> &CellName {
        let minted = user.minted_by().and_then(|region| self.rings.get(&region));
        let ring = minted.or_else(|| self.rings.get(&self.topology.default_region));
        // A valid topology has its default region, and every region a ring.
        ring.expect("the default region has a ring").owner(user.placement_key())
    }

    pub(crate) fn cell(&self, name: &CellName) -> Option<&Arc<Cell>> {
        self.cells.get(name)
    }

    pub(crate) fn cells(&self) -> impl Iterator<Item = &Arc<Cell>> {
        self.cells.values()
    }

    /// Whether new users are placed in this cell.
    pub(crate) fn is_open(&self, name: &CellName) -> bool {
        self.topology.cell(name).is_some_and(|(_, cell)| cell.state == CellState::Open)
    }
}

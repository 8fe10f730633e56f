//! The topology made ready: rings and cells.

use crate::cells::Cell;
use crate::metrics::RouterMetrics;
use cellar_model::{CellName, CellState, RegionName, Rings, Topology, TopologyError, UserId};
use std::collections::HashMap;
use std::sync::Arc;

/// One topology. A new one is a new map, which takes over the cells that stay where they are.
pub(crate) struct Map {
    pub(crate) topology: Topology,
    rings: Rings,
    cells: HashMap<CellName, Arc<Cell>>,
}

impl Map {
    /// Makes `topology` ready. Cells of `before` whose endpoints did not change keep their connections.
    pub(crate) fn new(
        topology: Topology,
        before: Option<&Map>,
        metrics: &RouterMetrics,
    ) -> Result<Self, TopologyError> {
        let rings = Rings::new(&topology)?;
        let cell = |entry: &cellar_model::CellEntry| {
            let held = before.and_then(|before| before.cells.get(&entry.name));
            let held = held.filter(|held| held.entry.endpoints == entry.endpoints);
            held.cloned().unwrap_or_else(|| Cell::new(entry, metrics))
        };
        let cells = topology.cells().map(|(_, entry)| (entry.name.clone(), cell(entry))).collect();
        Ok(Self { rings, cells, topology })
    }

    /// The region a user belongs to.
    pub(crate) fn region_of(&self, user: &UserId) -> RegionName {
        self.rings.region_of(user)
    }

    /// The cell a user falls on when nobody has moved him.
    pub(crate) fn ring_owner(&self, user: &UserId) -> &CellName {
        self.rings.owner(user)
    }

    /// Whether this id has the form of those that sign-ups of this topology draw.
    pub(crate) fn mints(&self, user: &UserId) -> bool {
        user.minted_by().is_some_and(|region| self.topology.region(&region).is_some())
    }

    pub(crate) fn cell(&self, name: &CellName) -> Option<&Arc<Cell>> {
        self.cells.get(name)
    }

    pub(crate) fn cells(&self) -> impl Iterator<Item = &Arc<Cell>> {
        self.cells.values()
    }

    /// The cell where a new user of this id is to live, in that region. None: there is no such region, or the
    /// cell takes nobody now.
    pub(crate) fn place(&self, region: &RegionName, user: &UserId) -> Option<&CellName> {
        self.rings.place(region, user).filter(|cell| self.takes_users(cell))
    }

    /// Whether that cell would take a new user now, as far as this router knows.
    pub(crate) fn welcomes(&self, name: &CellName) -> bool {
        self.cells.get(name).is_some_and(|cell| cell.takes_new_users())
    }

    fn takes_users(&self, name: &CellName) -> bool {
        let state = self.topology.cell(name).map(|(_, cell)| cell.state);
        matches!(state, Some(CellState::Open | CellState::Pending))
    }
}

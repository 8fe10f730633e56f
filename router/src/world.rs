//! The topology in use: rings to find cells by, and the cells themselves.

use crate::cell::Cell;
use crate::metrics::CallMetrics;
use cellar_model::{CellName, CellState, RegionName, Ring, Topology, TopologyError, UserId};
use std::collections::HashMap;
use std::sync::Arc;

/// Never changed: a newer topology is another world.
pub(crate) struct World {
    pub(crate) topology: Topology,
    rings: HashMap<RegionName, Ring>,
    cells: HashMap<CellName, Arc<Cell>>,
}

impl World {
    /// What `topology` describes, if a router that lives in `before` may go there. Cells that stay
    /// where they are keep their connections.
    pub(crate) fn new(
        topology: Topology,
        before: Option<&World>,
        metrics: &CallMetrics,
    ) -> Result<Self, TopologyError> {
        topology.validate()?;
        if let Some(before) = before {
            before.topology.may_become(&topology)?;
        }
        let mut rings = HashMap::new();
        for region in &topology.regions {
            let ring = region.ring().map_err(|_| TopologyError::NoRing(region.name.clone()))?;
            rings.insert(region.name.clone(), ring);
        }
        let cells = topology.cells().map(|(_, entry)| {
            let known = before.and_then(|before| before.cells.get(&entry.name));
            let cell = known.map_or_else(|| Cell::new(entry, metrics), |cell| cell.renew(entry, metrics));
            (entry.name.clone(), Arc::new(cell))
        });
        let cells = cells.collect();
        Ok(Self { topology, rings, cells })
    }

    pub(crate) fn cell(&self, name: &CellName) -> Option<&Arc<Cell>> {
        self.cells.get(name)
    }

    pub(crate) fn cells(&self) -> impl Iterator<Item = &Arc<Cell>> {
        self.cells.values()
    }

    /// Where a user lives whom nobody has moved: on the ring of the region that minted the id, or, of a
    /// foreign id, of the default region.
    pub(crate) fn ring_cell(&self, user: &UserId) -> &CellName {
        let minted = user.minted_by().and_then(|region| self.rings.get(&region));
        let ring = minted.or_else(|| self.rings.get(&self.topology.default_region));
        // `validate` has seen that the default region is there, and has a ring.
        ring.expect("the default region has a ring").owner(user.placement_key())
    }

    /// The region whose ring places this user.
    pub(crate) fn region_of(&self, user: &UserId) -> &RegionName {
        let minted = user.minted_by().and_then(|region| self.topology.region(&region));
        minted.map_or(&self.topology.default_region, |region| &region.name)
    }

    pub(crate) fn takes_new_users(&self, cell: &CellName) -> bool {
        self.cells.get(cell).is_some_and(|cell| cell.state == CellState::Open)
    }
}

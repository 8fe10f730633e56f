//! The rings of all regions: which cell any user falls on when nobody has moved him.

use crate::{CellName, RegionName, Ring, Topology, TopologyError, UserId};
use std::collections::HashMap;

/// The rings of one topology.
///
/// **Invariant:** the default region has one: a valid topology names it, and every region has a ring.
pub struct Rings {
    rings: HashMap<RegionName, Ring>,
    default_region: RegionName,
}

impl Rings {
    pub fn new(topology: &Topology) -> Result<Self, TopologyError> {
        topology.validate()?;
        let ring = |region: &crate::RegionEntry| {
            let ring = region.ring().map_err(|_| TopologyError::NoRing(region.name.clone()))?;
            Ok((region.name.clone(), ring))
        };
        let rings = topology.regions.iter().map(ring).collect::<Result<_, TopologyError>>()?;
        Ok(Self { rings, default_region: topology.default_region.clone() })
    }

    /// On whose ring a user is: minted ids name their region, all others are the default region's.
    pub fn region_of(&self, user: &UserId) -> RegionName {
        let minted = user.minted_by().filter(|region| self.rings.contains_key(region));
        minted.unwrap_or_else(|| self.default_region.clone())
    }

    /// The cell a user falls on.
    pub fn owner(&self, user: &UserId) -> &CellName {
        let minted = user.minted_by().and_then(|region| self.rings.get(&region));
        let ring = minted.or_else(|| self.rings.get(&self.default_region));
        // By the invariant.
        ring.expect("the default region has a ring").owner(user.placement_key())
    }
}

//! The rings of all regions: which cell any user falls on when nobody has moved him.

use crate::{CellName, CellState, RegionName, Ring, Topology, TopologyError, UserId};
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_64;

/// The rings of one topology.
///
/// **Invariant:** the default region has one: a valid topology names it, and every region has a ring.
pub struct Rings {
    rings: HashMap<RegionName, Ring>,
    /// Of regions with cells that are to join: the ring as it will be.
    pending: HashMap<RegionName, Ring>,
    default_region: RegionName,
    digest: String,
}

impl Rings {
    pub fn new(topology: &Topology) -> Result<Self, TopologyError> {
        topology.validate()?;
        let ring = |region: &crate::RegionEntry| {
            let ring = region.ring().map_err(|_| TopologyError::NoRing(region.name.clone()))?;
            Ok((region.name.clone(), ring))
        };
        let rings = topology.regions.iter().map(ring).collect::<Result<_, TopologyError>>()?;
        let pending = topology.regions.iter().filter_map(|region| Some((region.name.clone(), region.pending_ring()?)));
        let (pending, digest) = (pending.collect(), digest(topology));
        Ok(Self { rings, pending, default_region: topology.default_region.clone(), digest })
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

    /// Where a new user is to live in `region`: by the ring that is to be, so that a cell fills before it joins.
    pub fn place(&self, region: &RegionName, user: &UserId) -> Option<&CellName> {
        let ring = self.pending.get(region).or_else(|| self.rings.get(region))?;
        Some(ring.owner(user.placement_key()))
    }

    /// The cells that have to know where a user lives whose home is `home`: those that the ring of now and the one
    /// that is to be name for him, but for the home itself.
    pub fn forwards(&self, user: &UserId, home: &CellName) -> Vec<&CellName> {
        let (now, then) = (self.owner(user), self.place(&self.region_of(user), user));
        let mut cells: Vec<_> = std::iter::once(now).chain(then).filter(|cell| *cell != home).collect();
        cells.dedup();
        cells
    }

    /// Of all that decides who falls where: two topologies with the same digest place everybody alike.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

fn digest(topology: &Topology) -> String {
    let mut cells: Vec<String> = topology
        .cells()
        .filter(|(_, cell)| cell.weight > 0)
        .map(|(region, cell)| {
            let joins = if cell.state == CellState::Pending { "joins" } else { "is on" };
            format!("{} {} {joins} {}\n", cell.name, cell.weight, region.name)
        })
        .collect();
    // The order in a document places nobody.
    cells.sort_unstable();
    format!("{:016x}", xxh3_64(format!("{}\n{}", topology.default_region, cells.concat()).as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CellEntry, Incarnation, RegionEntry, Revision};

    fn topology(cells: &[(&str, &str, CellState)]) -> Topology {
        let mut regions: Vec<RegionEntry> = Vec::new();
        for (region, name, state) in cells {
            let region = RegionName::new(region).unwrap();
            if regions.last().is_none_or(|last| last.name != region) {
                let routers = Vec::new();
                regions.push(RegionEntry { name: region.clone(), residency: "x".into(), routers, cells: Vec::new() });
            }
            regions.last_mut().unwrap().cells.push(CellEntry {
                name: CellName::new(name).unwrap(),
                state: *state,
                weight: 128,
                shards: 4,
                incarnation: Incarnation(1),
                endpoints: Vec::new(),
            });
        }
        let default_region = regions[0].name.clone();
        Topology { revision: Revision(1), predecessor: Revision(0), plan: None, witness: None, default_region, regions }
    }

    /// Goal: while a cell is pending, whoever lives where the ring that is to be says is known at both rings' cells,
    /// and once it has joined nobody else has to be.
    #[test]
    fn who_has_to_know_a_user_is_the_ring_of_now_and_the_one_that_is_to_be() {
        let [open, pending] = [CellState::Open, CellState::Pending];
        let before = [("eu", "eu-1", open), ("eu", "eu-2", open), ("us", "us-1", open)];
        let mut cells = before.to_vec();
        cells.insert(2, ("eu", "eu-3", pending));
        let now = Rings::new(&topology(&cells)).unwrap();
        cells[2].2 = open;
        let then = Rings::new(&topology(&cells)).unwrap();
        let (eu, us_1) = (RegionName::new("eu").unwrap(), CellName::new("us-1").unwrap());
        let mut filled = 0;
        for user in (0..1_000).map(|n| UserId::new(&format!("user-{n}")).unwrap()) {
            let place = now.place(&eu, &user).unwrap().clone();
            assert_eq!(place, *then.owner(&user));
            assert_eq!(then.forwards(&user, &place), Vec::<&CellName>::new());
            // Only those of the cell that joins are off the ring of now.
            let elsewhere = now.owner(&user) != &place;
            assert_eq!(elsewhere, place.as_str() == "eu-3");
            assert_eq!(now.forwards(&user, &place).len(), usize::from(elsewhere));
            // In another region, both rings' cells have to know.
            assert_eq!(now.forwards(&user, &us_1).len(), 1 + usize::from(elsewhere));
            filled += usize::from(elsewhere);
        }
        assert!((200..500).contains(&filled), "{filled}");
        assert_ne!(now.digest(), then.digest());
        cells.swap(0, 2);
        assert_eq!(then.digest(), Rings::new(&topology(&cells)).unwrap().digest());
    }
}

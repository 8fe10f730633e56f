//! Which cell a user falls on when nobody has moved him.

use crate::{CellName, PlacementKey, Point};
use hashring::HashRing;
use std::hash::{BuildHasher, Hash, Hasher};
use xxhash_rust::xxh3::xxh3_64;

/// A frozen view of which cell owns which arc of a region's ring.
///
/// **Invariant:** never empty (`Ring::new` refuses that) and never changed: a new topology is a new
/// ring. Every router must build the same one, so cells go in sorted by name, in one `batch_add`
/// (its sort is stable: equal points stay in name order), and all hashing goes through `Bytes`.
#[derive(Clone)]
pub struct Ring {
    nodes: HashRing<VirtualNode, Xxh3>,
    cells: Vec<CellName>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    #[error("a ring needs at least one cell of weight 1 or more")]
    Empty,
}

impl Ring {
    /// Builds the ring of `cells` with their weights (virtual nodes a cell).
    pub fn new(cells: &[(CellName, u32)]) -> Result<Self, RingError> {
        let mut sorted: Vec<_> = cells.iter().filter(|(_, weight)| *weight > 0).collect();
        sorted.sort();
        if sorted.is_empty() {
            return Err(RingError::Empty);
        }
        let mut nodes = HashRing::with_hasher(Xxh3);
        nodes.batch_add(
            sorted
                .iter()
                .enumerate()
                .flat_map(|(cell, (name, weight))| {
                    (0..*weight)
                        .map(move |n| VirtualNode { point: Point(xxh3_64(format!("{name}#{n}").as_bytes())), cell })
                })
                .collect(),
        );
        Ok(Self { nodes, cells: sorted.into_iter().map(|(name, _)| name.clone()).collect() })
    }

    /// The cell on whose arc `key` falls: the first virtual node at or after its point.
    pub fn owner(&self, key: PlacementKey<'_>) -> &CellName {
        let node = self.nodes.get(&OnRing(key.point()));
        // Not empty, by the invariant.
        let node = node.expect("a ring has at least one node");
        &self.cells[node.cell]
    }

    /// The cells on this ring, by name.
    pub fn cells(&self) -> &[CellName] {
        &self.cells
    }
}

/// `<cell>#<n>`, already hashed.
#[derive(Clone, Copy, Debug)]
struct VirtualNode {
    point: Point,
    cell: usize,
}

impl Hash for VirtualNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.point.0);
    }
}

/// A user's point, which is a hash already: written as it is.
struct OnRing(Point);

impl Hash for OnRing {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.0);
    }
}

/// Hands through the one `u64` written to it: both sides of the ring hash their bytes by xxh3-64
/// themselves, so that no hasher of a library or of a Rust version has a say in placement.
#[derive(Clone, Copy)]
struct Xxh3;

impl BuildHasher for Xxh3 {
    type Hasher = PointHasher;
    fn build_hasher(&self) -> PointHasher {
        PointHasher(0)
    }
}

struct PointHasher(u64);

impl Hasher for PointHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("ring nodes and keys write one u64 point");
    }
    fn write_u64(&mut self, point: u64) {
        self.0 = point;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(names: &[&str]) -> Ring {
        let cells: Vec<_> = names.iter().map(|n| (CellName::new(n).unwrap(), 128)).collect();
        Ring::new(&cells).unwrap()
    }

    #[test]
    fn owners_stand_as_the_vectors_file_has_them() {
        let ring = ring(&["eu-1", "eu-2", "eu-3", "eu-4"]);
        let vectors = include_str!("../vectors/ring.txt");
        let mut seen = 0;
        for line in vectors.lines().filter(|line| !line.starts_with('#')) {
            let (id, owner) = line.split_once(' ').unwrap();
            assert_eq!(ring.owner(PlacementKey::new(id)).as_str(), owner, "owner of {id}");
            seen += 1;
        }
        assert_eq!(seen, 1000);
    }

    #[test]
    fn the_order_cells_are_named_in_does_not_matter() {
        let (a, b) = (ring(&["eu-1", "eu-2", "eu-3"]), ring(&["eu-3", "eu-1", "eu-2"]));
        for n in 0..1000 {
            let id = format!("user-{n}");
            assert_eq!(a.owner(PlacementKey::new(&id)), b.owner(PlacementKey::new(&id)));
        }
    }

    #[test]
    fn a_fourth_cell_takes_about_a_quarter_and_moves_nobody_else() {
        let (three, four) = (ring(&["a", "b", "c"]), ring(&["a", "b", "c", "d"]));
        let ids: Vec<_> = (0..20_000).map(|n| format!("u{n}")).collect();
        let mut moved = 0;
        for id in &ids {
            let (before, after) = (three.owner(PlacementKey::new(id)), four.owner(PlacementKey::new(id)));
            if before != after {
                assert_eq!(after.as_str(), "d");
                moved += 1;
            }
        }
        assert!((3_000..7_500).contains(&moved), "{moved} of 20,000 moved");
    }

    #[test]
    fn an_empty_ring_is_refused() {
        assert_eq!(Ring::new(&[]).err(), Some(RingError::Empty));
        assert_eq!(Ring::new(&[(CellName::new("a").unwrap(), 0)]).err(), Some(RingError::Empty));
    }
}

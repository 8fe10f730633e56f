//! What another topology would mean for users, counted home by home.

use crate::{CellName, Rings, Topology, TopologyError, UserId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Two topologies, and who lives where between them.
pub struct TopologyChange {
    before: Rings,
    after: Rings,
    new: Topology,
    count: TopologyCount,
}

/// How far the count is, and what it has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyCount {
    /// All homes have been looked at.
    pub whole: bool,
    pub users: u64,
    /// By the cell that is their home.
    pub cells: BTreeMap<CellName, CellCount>,
}

/// Users of one cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellCount {
    pub users: u64,
    /// Whom the ring places here now and in another cell then.
    pub moving_to: BTreeMap<CellName, u64>,
    /// Whose home the new topology does not have.
    pub orphaned: u64,
}

impl TopologyChange {
    pub fn new(held: &Topology, new: Topology) -> Result<Self, TopologyError> {
        Ok(Self { before: Rings::new(held)?, after: Rings::new(&new)?, new, count: TopologyCount::default() })
    }

    /// Counts a user who lives in `home`.
    pub fn see(&mut self, user: &UserId, home: &CellName) {
        self.count.users += 1;
        let cell = self.count.cells.entry(home.clone()).or_default();
        cell.users += 1;
        if self.new.cell(home).is_none() {
            cell.orphaned += 1;
            return;
        }
        let then = self.after.owner(user);
        if self.before.owner(user) == home && then != home {
            *cell.moving_to.entry(then.clone()).or_default() += 1;
        }
    }

    pub fn count(&self) -> &TopologyCount {
        &self.count
    }

    /// All homes have been seen.
    pub fn finish(mut self) -> TopologyCount {
        self.count.whole = true;
        self.count
    }
}

impl TopologyCount {
    pub fn moving(&self) -> u64 {
        self.cells.values().flat_map(|cell| cell.moving_to.values()).sum()
    }

    /// Those whom the ring would place in `cell` and places elsewhere now.
    pub fn moving_to(&self, cell: &CellName) -> u64 {
        self.cells.values().filter_map(|from| from.moving_to.get(cell)).sum()
    }

    pub fn orphaned(&self) -> u64 {
        self.cells.values().map(|cell| cell.orphaned).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_is_counted_where_he_lives_and_who_moves_by_where_to() {
        let held: Topology = serde_json::from_str(
            r#"{"revision":1,"predecessor":0,"plan":null,"witness":null,"default_region":"eu","regions":[
                {"name":"eu","residency":"eu","routers":[],"cells":[
                 {"name":"eu-1","state":"open","weight":128,"shards":4,"incarnation":1,"endpoints":[]},
                 {"name":"eu-2","state":"draining","weight":128,"shards":4,"incarnation":1,"endpoints":[]}]}]}"#,
        )
        .unwrap();
        let mut new = held.clone();
        let gone = new.regions[0].cells.pop().unwrap().name;
        let (rings, mut change) = (Rings::new(&held).unwrap(), TopologyChange::new(&held, new.clone()).unwrap());
        let users: Vec<_> = (0..1_000).map(|n| UserId::new(&format!("user-{n}")).unwrap()).collect();
        users.iter().for_each(|user| change.see(user, rings.owner(user)));
        let count = change.finish();
        let of_gone = users.iter().filter(|user| *rings.owner(user) == gone).count() as u64;
        assert_eq!((count.users, count.orphaned(), count.moving()), (1_000, of_gone, 0));

        // The other way round it is a cell that joins: about half of the users move to it.
        let mut change = TopologyChange::new(&new, held.clone()).unwrap();
        let home = &new.regions[0].cells[0].name;
        users.iter().for_each(|user| change.see(user, home));
        let count = change.finish();
        assert_eq!((count.moving(), count.orphaned()), (of_gone, 0));
        assert_eq!((count.cells[home].moving_to[&gone], count.moving_to(&gone)), (of_gone, of_gone));
    }
}

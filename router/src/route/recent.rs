//! A map of so many entries at most, which forgets those that nobody asks for.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroUsize;

/// Entries stand in one row, and who is to be forgotten is found by a hand that goes round: it passes over
/// whoever has been asked for since it last came by. An order of use in links would cost each entry an
/// allocation and two pointers, half as much again as what it remembers.
///
/// **Invariant:** `index` holds the key of every place in `entries`, and nothing else.
pub(super) struct Recent<K, V> {
    index: HashMap<K, u32>,
    entries: Vec<(K, V)>,
    asked: Vec<bool>,
    hand: usize,
    max: usize,
}

impl<K: Eq + Hash + Clone, V> Recent<K, V> {
    pub(super) fn new(max: NonZeroUsize) -> Self {
        // Memory that nothing was written to is not there; a row that grows is there twice.
        let (entries, asked) = (Vec::with_capacity(max.get()), Vec::with_capacity(max.get()));
        Self { index: HashMap::new(), entries, asked, hand: 0, max: max.get() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        let place = *self.index.get(key)? as usize;
        self.asked[place] = true;
        Some(&self.entries[place].1)
    }

    /// What stood there before under this key.
    pub(super) fn put(&mut self, key: K, value: V) -> Option<V> {
        if let Some(place) = self.index.get(&key) {
            let place = *place as usize;
            self.asked[place] = true;
            return Some(std::mem::replace(&mut self.entries[place].1, value));
        }
        let place = if self.entries.len() < self.max {
            self.entries.push((key.clone(), value));
            self.asked.push(false);
            self.entries.len() - 1
        } else {
            let place = self.free();
            self.entries[place] = (key.clone(), value);
            place
        };
        // At most `max` places, which are far fewer than 2^32.
        self.index.insert(key, place as u32);
        None
    }

    pub(super) fn pop(&mut self, key: &K) -> Option<V> {
        let place = self.index.remove(key)? as usize;
        let (_, value) = self.entries.swap_remove(place);
        self.asked.swap_remove(place);
        if let Some((moved, _)) = self.entries.get(place) {
            self.index.insert(moved.clone(), place as u32);
        }
        Some(value)
    }

    /// Who is forgotten next comes first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        let (later, sooner) = self.entries.split_at(self.hand.min(self.entries.len()));
        sooner.iter().chain(later)
    }

    /// The place of one that nobody has asked for lately: found within two rounds, as the first leaves no one
    /// asked for.
    fn free(&mut self) -> usize {
        loop {
            let place = self.hand % self.entries.len();
            self.hand = (place + 1) % self.entries.len();
            if !std::mem::take(&mut self.asked[place]) {
                self.index.remove(&self.entries[place].0);
                return place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(max: usize) -> Recent<u32, u32> {
        Recent::new(NonZeroUsize::new(max).unwrap())
    }

    #[test]
    fn who_is_asked_for_stays_and_the_others_go_in_turn() {
        let mut recent = of(4);
        (0..4).for_each(|n| assert_eq!(recent.put(n, n), None));
        for n in 4..100 {
            assert_eq!(recent.get(&0), Some(&0));
            assert_eq!(recent.put(n, n), None);
            assert_eq!((recent.len(), recent.get(&(n - 3))), (4, None), "{n}");
        }
        assert_eq!(recent.put(0, 7), Some(0));
        for n in 0..4 {
            recent.put(200 + n, n);
        }
        assert_eq!(recent.get(&99), None);
    }

    #[test]
    fn whatever_goes_the_rest_is_found() {
        let mut recent = of(8);
        for n in 0..1_000u32 {
            recent.put(n % 13, n);
            if n % 3 == 0 {
                recent.pop(&(n % 7));
            }
            let there: Vec<(u32, u32)> = recent.iter().copied().collect();
            assert_eq!(there.len(), recent.len());
            assert!(recent.len() <= 8);
            for (key, value) in there {
                assert_eq!(recent.get(&key), Some(&value));
            }
        }
    }
}

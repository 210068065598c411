//! Whose turn it is: entities whose work goes to other shards are served in the order of their names, round and round.
//!
//! Work for a shard that has no majority holds its place until its deadline. Were it looked for from the first name each
//! time, a few such entities would have all the places for as long as that lasts, and those behind them none.

use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;
use std::ops::Bound;

/// Where the round has got to.
pub(super) struct Rounds<K> {
    last: Option<K>,
}

impl<K> Default for Rounds<K> {
    fn default() -> Self {
        Self { last: None }
    }
}

impl<K: Ord + Clone + Hash> Rounds<K> {
    /// At most `room` of those who wait and are not under way: the next behind the one who was taken last.
    pub(super) fn next(&mut self, waiting: &BTreeSet<K>, under_way: &HashSet<K>, room: usize) -> Vec<K> {
        let behind = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let again = self.last.iter().flat_map(|last| waiting.range::<K, _>(..=last));
        let round = waiting.range::<K, _>((behind, Bound::Unbounded)).chain(again);
        let taken: Vec<K> = round.filter(|name| !under_way.contains(*name)).take(room).cloned().collect();
        if let Some(last) = taken.last() {
            self.last = Some(last.clone());
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_before_anybody_has_another() {
        let waiting: BTreeSet<u32> = (1..=5).collect();
        let (mut rounds, nobody) = (Rounds::default(), HashSet::new());
        assert_eq!(rounds.next(&waiting, &nobody, 2), [1, 2]);
        assert_eq!(
            rounds.next(&waiting, &HashSet::from([1]), 2),
            [3, 4],
            "2 is free again, and has had its turn"
        );
        assert_eq!(rounds.next(&waiting, &HashSet::from([1]), 2), [5, 2]);
        assert_eq!(rounds.next(&waiting, &nobody, 9), [3, 4, 5, 1, 2]);
        assert_eq!(rounds.next(&waiting, &nobody, 0), [0; 0]);
        assert_eq!(rounds.next(&BTreeSet::from([2]), &nobody, 1), [2], "one alone is served again and again");
        assert_eq!(rounds.next(&BTreeSet::from([2]), &nobody, 1), [2]);
        assert_eq!(rounds.next(&BTreeSet::new(), &nobody, 1), [0; 0]);
    }
}

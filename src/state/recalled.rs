//! The index of messages that were recalled or have expired, by their running counts. They still stand in the counts of
//! later records; how many there are above a count is what unread leaves out, and is found by halving.

/// Running counts, ascending, each with the seq of its message.
#[derive(Debug, Default)]
pub(super) struct Recalled(Vec<(u64, u64)>);

impl Recalled {
    /// From rows, which are in the order of counts.
    pub(super) fn loaded(lines: Vec<(u64, u64)>) -> Self {
        Self(lines)
    }

    pub(super) fn insert(&mut self, count: u64, seq: u64) {
        match self.place(count) {
            Ok(at) => self.0[at].1 = seq,
            Err(at) => self.0.insert(at, (count, seq)),
        }
    }

    /// The message with this running count, if it was recalled.
    pub(super) fn seq(&self, count: u64) -> Option<u64> {
        self.place(count).ok().map(|at| self.0[at].1)
    }

    /// How many have a running count above this one.
    pub(super) fn after(&self, count: u64) -> u64 {
        (self.0.len() - self.0.partition_point(|(known, _)| *known <= count)) as u64
    }

    /// Takes away those with a running count up to this one, and gives their counts.
    pub(super) fn trim(&mut self, count: u64) -> impl Iterator<Item = u64> + '_ {
        let gone = self.0.partition_point(|(known, _)| *known <= count);
        self.0.drain(..gone).map(|(count, _)| count)
    }

    fn place(&self, count: u64) -> Result<usize, usize> {
        self.0.binary_search_by_key(&count, |(known, _)| *known)
    }
}

//! The system group: the cluster's own facts.

/// Which nodes hold a replica of each shard. Replicated data, never computed from a configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Nodes of shard `i + 1`, preferred leader first.
    pub shards: Vec<Vec<u16>>,
}

impl Placement {
    /// Number of shards.
    pub fn count(&self) -> u32 {
        self.shards.len() as u32
    }
    /// Nodes that hold a replica of `shard` (1-based).
    pub fn nodes(&self, shard: u32) -> &[u16] {
        shard.checked_sub(1).and_then(|at| self.shards.get(at as usize)).map_or(&[], Vec::as_slice)
    }
}

//! What the system group knows: cluster id, format, nodes and their folders, placement of shards.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use rookery_raft::RaftId;

use super::audit::AuditCommand;

/// Which nodes hold a replica of each shard. Replicated data, never computed from a configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Placement {
    /// Nodes of shard `i + 1`, preferred leader first.
    pub shards: Vec<Vec<u16>>,
}

impl Placement {
    /// Spreads `shards` over `nodes`, `replication` replicas each, preferred leaders in turn.
    pub fn spread(shards: u32, nodes: &[u16], replication: usize) -> Self {
        let replicas = |shard: usize| {
            let turn = nodes.iter().cycle().skip(shard % nodes.len().max(1));
            turn.take(replication.min(nodes.len())).copied().collect()
        };
        Self { shards: (0..shards as usize).map(replicas).collect() }
    }
    /// Makes a replica's node the preferred leader.
    fn prefer(&mut self, shard: u32, node: u16) -> Result<(), String> {
        let nodes = shard.checked_sub(1).and_then(|at| self.shards.get_mut(at as usize));
        let nodes = nodes.ok_or_else(|| format!("there is no shard {shard}"))?;
        let at = nodes.iter().position(|known| *known == node);
        let at = at.ok_or_else(|| format!("node {node} has no replica of shard {shard}"))?;
        nodes[..=at].rotate_right(1);
        Ok(())
    }
    /// The node that is to lead a shard whenever it can.
    pub fn preferred(&self, shard: u32) -> Option<u16> {
        self.nodes(shard).first().copied()
    }
    /// Number of shards.
    pub fn count(&self) -> u32 {
        self.shards.len() as u32
    }
    /// Nodes that hold a replica of `shard` (1-based).
    pub fn nodes(&self, shard: u32) -> &[u16] {
        shard.checked_sub(1).and_then(|at| self.shards.get(at as usize)).map_or(&[], Vec::as_slice)
    }
    /// Shards of which `node` holds a replica.
    pub fn of_node(&self, node: u16) -> impl Iterator<Item = u32> + '_ {
        (1..=self.count()).filter(move |shard| self.nodes(*shard).contains(&node))
    }
}

/// One node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeFacts {
    /// The folder its votes and logs live in; replaced together with the folder (R4).
    pub store: u64,
    /// How often its folder has been replaced, and 1.
    pub incarnation: u32,
    /// The folders it had before, the newest last, at most [`RETIRED`]. They never take part again.
    pub retired: Vec<u64>,
}

/// Replaced folders that a node is known to have had.
const RETIRED: usize = 64;

/// The state of the system group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Facts {
    /// Drawn when the cluster was formed; none before.
    pub cluster: Option<[u8; 16]>,
    /// Format version everything is written in.
    pub format: u32,
    /// Nodes by number.
    pub nodes: BTreeMap<u16, NodeFacts>,
    /// Where shards live.
    pub placement: Placement,
}

/// A change of the facts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum FactsCommand {
    /// The cluster comes into being; only the first one counts.
    Form {
        /// Drawn by the proposer.
        cluster: [u8; 16],
        /// Format version.
        format: u32,
        /// Node number and store id.
        nodes: Vec<(u16, u64)>,
        /// Where shards live.
        placement: Placement,
    },
    /// A node comes back with another folder: the old identity never votes again.
    Replace {
        /// The node.
        node: u16,
        /// Its new folder.
        store: u64,
    },
    /// Lines for the audit, which is none of the facts: [`super::machine`] has it.
    Audit(AuditCommand),
    /// A node is to lead a shard from now on, whenever it can.
    Prefer {
        /// The shard, from 1.
        shard: u32,
        /// The node; it must hold a replica.
        node: u16,
    },
}

impl Facts {
    /// Applies a command.
    ///
    /// # Errors
    /// A refusal, the same on every node.
    pub fn apply(&mut self, command: FactsCommand) -> Result<(), String> {
        match command {
            FactsCommand::Form { .. } if self.cluster.is_some() => Ok(()),
            FactsCommand::Form { cluster, format, nodes, placement } => {
                self.cluster = Some(cluster);
                self.format = format;
                self.placement = placement;
                let facts = |(node, store)| (node, NodeFacts { store, incarnation: 1, retired: Vec::new() });
                self.nodes = nodes.into_iter().map(facts).collect();
                Ok(())
            }
            FactsCommand::Replace { node, store } => match self.nodes.get_mut(&node) {
                None => Err(format!("the cluster has no node {node}")),
                Some(known) if known.store == store => Ok(()),
                Some(known) if known.retired.contains(&store) => Err(retired(node, store)),
                Some(known) => {
                    known.retired.push(std::mem::replace(&mut known.store, store));
                    if known.retired.len() > RETIRED {
                        known.retired.remove(0);
                    }
                    known.incarnation += 1;
                    Ok(())
                }
            },
            FactsCommand::Audit(_) => Ok(()),
            FactsCommand::Prefer { shard, node } => self.placement.prefer(shard, node),
        }
    }

    /// The Raft identity of a node now.
    pub fn raft_id(&self, node: u16) -> Option<RaftId> {
        self.nodes.get(&node).map(|facts| RaftId { node, store: facts.store })
    }

    /// Whether a folder may link: not one that was replaced. One that nobody knows may, for it has to ask to be taken.
    ///
    /// # Errors
    /// What to do with the folder.
    pub fn admit(&self, node: u16, store: u64) -> Result<(), String> {
        let replaced = self.nodes.get(&node).is_some_and(|known| known.retired.contains(&store));
        if replaced { Err(retired(node, store)) } else { Ok(()) }
    }

    /// Whether a node still has the folder the cluster was formed with: only such a one may initialise a group (R4).
    pub fn is_founder(&self, node: u16) -> bool {
        self.nodes.get(&node).is_some_and(|known| known.incarnation == 1)
    }

    /// The voters of a shard's group.
    pub fn voters(&self, shard: u32) -> Vec<RaftId> {
        self.placement.nodes(shard).iter().filter_map(|node| self.raft_id(*node)).collect()
    }

    /// The voters of the system group.
    pub fn system_voters(&self) -> Vec<RaftId> {
        self.nodes.keys().filter_map(|node| self.raft_id(*node)).collect()
    }
}

fn retired(node: u16, store: u64) -> String {
    format!(
        "the data folder of node {node} (store {store:016x}) was replaced by another and never takes part again: \
         give the path of the newer folder in cluster.toml, or move this one away and start with --replace"
    )
}

/// A cluster id as people see it.
pub fn cluster_text(cluster: &[u8; 16]) -> String {
    cluster.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_and_leaders_are_spread_evenly() {
        let placement = Placement::spread(16, &[1, 2, 3, 4, 5], 3);
        for node in 1..=5u16 {
            let replicas = placement.of_node(node).count();
            let leads = placement.shards.iter().filter(|nodes| nodes[0] == node).count();
            assert!((9..=10).contains(&replicas), "node {node} holds {replicas}");
            assert!((3..=4).contains(&leads), "node {node} leads {leads}");
        }
        assert!(placement.shards.iter().all(|nodes| nodes.len() == 3));
    }

    #[test]
    fn a_preferred_leader_is_chosen_among_the_replicas_and_nothing_else_changes() {
        let placement = Placement::spread(5, &[1, 2, 3, 4, 5], 3);
        let mut facts = Facts { placement: placement.clone(), ..Facts::default() };
        let mut prefer =
            |shard, node| facts.apply(FactsCommand::Prefer { shard, node }).map(|()| facts.clone());
        assert_eq!(placement.nodes(2), [2, 3, 4]);
        // Again is the same; and each of them can be it.
        for (node, now) in [(4, [4, 2, 3]), (4, [4, 2, 3]), (2, [2, 4, 3]), (3, [3, 2, 4]), (2, [2, 3, 4])] {
            let known = prefer(2, node).expect("it has a replica");
            assert_eq!((known.placement.nodes(2), known.placement.preferred(2)), (&now[..], Some(node)));
        }
        for (shard, node) in [(2, 1), (2, 9), (0, 1), (6, 1), (u32::MAX, 1)] {
            prefer(shard, node).expect_err("no such shard, or no replica");
        }
        assert_eq!(facts.placement, placement);
    }

    #[test]
    fn a_cluster_forms_once_and_a_replaced_folder_gets_a_new_identity() {
        let mut facts = Facts::default();
        let placement = Placement::spread(4, &[1, 2, 3], 3);
        let form = |id| FactsCommand::Form {
            cluster: [id; 16],
            format: 1,
            nodes: vec![(1, 10), (2, 20), (3, 30)],
            placement: placement.clone(),
        };
        facts.apply(form(1)).expect("forms");
        facts.apply(form(2)).expect("a second one changes nothing");
        assert_eq!(facts.cluster, Some([1; 16]));
        facts.apply(FactsCommand::Replace { node: 2, store: 21 }).expect("replaces");
        assert_eq!(facts.raft_id(2), Some(RaftId { node: 2, store: 21 }));
        assert!(facts.apply(FactsCommand::Replace { node: 9, store: 1 }).is_err());
        assert!(facts.is_founder(1) && !facts.is_founder(2));
        assert!(
            facts.apply(FactsCommand::Replace { node: 2, store: 20 }).is_err(),
            "a replaced one is not taken back"
        );
        assert!(facts.admit(2, 20).is_err() && facts.admit(2, 21).is_ok() && facts.admit(2, 22).is_ok());
        for store in 100..300 {
            facts.apply(FactsCommand::Replace { node: 2, store }).expect("replaces");
        }
        assert_eq!(facts.nodes[&2].retired.len(), RETIRED);
    }
}

//! The errors of groups and peers. (Those of the store are its own.)

use crate::machine::Fault;
use crate::types::{GroupId, RaftId};

/// What a group could not do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RaftError {
    /// Ask the leader.
    #[error("group {group}: not the leader{}", leader.map(|l| format!(", which is {l}")).unwrap_or_default())]
    NotLeader {
        /// The group.
        group: GroupId,
        /// Who leads, as far as this node knows.
        leader: Option<RaftId>,
    },
    /// Took longer than it may.
    #[error("group {group}: {what} took more than {ms} ms")]
    Timeout {
        /// The group.
        group: GroupId,
        /// What was waited for.
        what: &'static str,
        /// The limit.
        ms: u64,
    },
    /// The request contradicts what the group is.
    #[error("group {group}: {what}")]
    Refused {
        /// The group.
        group: GroupId,
        /// Why.
        what: String,
    },
    /// The group cannot run on this node.
    #[error("group {group} cannot run: {fault}")]
    Broken {
        /// The group.
        group: GroupId,
        /// What broke.
        #[source]
        fault: Fault,
    },
    /// The machine lacks what its log was purged of: its checkpoints are gone, or older than they must be.
    #[error(
        "group {group}: the log is purged up to {purged}, but the `state` database holds {}: it was lost, moved away or \
         damaged, and the log alone cannot rebuild it; stop the node, move its whole data folder away and start it once \
         with `serve --replace`: it learns everything from its peers, and nothing is lost while a majority of them lives",
        checkpoint.map_or_else(|| "no checkpoint of it".to_owned(), |index| format!("its checkpoint at {index} only"))
    )]
    StateLost {
        /// The group.
        group: GroupId,
        /// Index up to which the log is purged.
        purged: u64,
        /// Index of the machine's checkpoint, if it has one.
        checkpoint: Option<u64>,
    },
    /// The group is stopped.
    #[error("group {group} is stopped")]
    Stopped {
        /// The group.
        group: GroupId,
    },
}

/// Why a linearizable read has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Ask the leader.
    #[error("not the leader of this group{}", leader.map(|l| format!(", which is {l}")).unwrap_or_default())]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<RaftId>,
    },
    /// No majority confirmed in time: perhaps this node was deposed and does not know it yet.
    #[error("no majority confirmed this leader within the deadline")]
    NoQuorum,
    /// Too many readers wait already.
    #[error("busy: too many reads wait")]
    Busy,
    /// The group or the node stops.
    #[error("this node is stopping")]
    Stopped,
}

/// What the links between nodes could not do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// There is no such node in the configuration.
    #[error("node {node} is not among the configured peers")]
    Unknown {
        /// The node number.
        node: u16,
    },
    /// The link is down.
    #[error("no link to node {node}")]
    Down {
        /// The node number.
        node: u16,
    },
    /// The queue to that node is full.
    #[error("queue to node {node} is full")]
    Full {
        /// The node number.
        node: u16,
    },
    /// No answer in time, or the link went down while it was awaited: the call may have had its effect.
    #[error("no answer from node {node} within {ms} ms")]
    Timeout {
        /// The node number.
        node: u16,
        /// The deadline.
        ms: u64,
    },
    /// The link went down while the answer was awaited: the call may have had its effect.
    #[error("the link to node {node} went down while an answer was awaited")]
    Lost {
        /// The node number.
        node: u16,
    },
    /// The peer has no handler, or too many calls at once.
    #[error("node {node} did not take the call: {why}")]
    NotTaken {
        /// The node number.
        node: u16,
        /// What it said.
        why: String,
    },
    /// A message larger than a frame may be.
    #[error("message of {len} bytes is larger than the {max} bytes a frame may have")]
    TooLong {
        /// Its length.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// Could not listen.
    #[error(
        "cannot listen for peers on {addr}: {why}; change this node's `peer` address in cluster.toml, or stop what uses it"
    )]
    Listen {
        /// The configured address.
        addr: String,
        /// What the operating system said.
        why: String,
    },
    /// The configuration makes no sense.
    #[error("peer configuration: {0}")]
    Config(String),
    /// This node is stopping.
    #[error("this node is stopping")]
    Stopped,
}

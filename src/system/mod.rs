//! The system group: the cluster's own facts, replicated like everything else.
//!
//! [`facts`] is the plain state and its commands, [`machine`] keeps it in the node's store, [`forming`] brings a
//! cluster into being and decides who may take part in it.

pub mod facts;
pub mod forming;
pub mod machine;

pub use facts::{Facts, FactsCommand, NodeFacts, Placement};
pub use machine::{SystemMachine, SystemWaiter};

/// Group id of the system group.
pub const SYSTEM_GROUP: rookery_raft::GroupId = 0;
/// Version of everything this program writes to disk and to peers.
pub const FORMAT: u32 = 1;

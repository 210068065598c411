//! The system group: the cluster's own facts, replicated like everything else.
//!
//! [`facts`] is the plain state and its commands, [`audit`] the lines that tell what backends asked for, [`machine`] keeps
//! both in the node's store, [`forming`] brings a cluster into being and decides who may take part in it, `preferring`
//! has the facts say who is to lead a shard, [`trail`] takes lines for the audit to whoever leads the group.

pub mod audit;
mod audit_rows;
pub mod facts;
pub mod forming;
pub mod machine;
mod preferring;
pub mod trail;

pub use facts::{Facts, FactsCommand, NodeFacts, Placement};
pub use machine::{NotDone, SystemMachine, SystemWaiter};
pub use trail::{AuditTrail, Times, Trail, TrailOptions};

#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod trail_tests;

/// Group id of the system group.
pub const SYSTEM_GROUP: rookery_raft::GroupId = 0;
/// Version of everything this program writes to disk and to peers.
pub const FORMAT: u32 = 1;

//! The types with which openraft is instantiated, and the identities everybody shares.
//!
//! Owns: `TypeConfig`, node and group ids, the entry payload, the reply hook that carries a waiter from propose to
//! apply. Must never do IO, and must never let an entry's payload be copied: a payload is `Bytes` from the proposer's
//! hand to the journal, the wire and the state machine.

use std::fmt;

use bytes::Bytes;
use openraft::OptionalSend;
use serde::{Deserialize, Serialize};

/// Group 0 is the system group, shards are 1..=n.
pub type GroupId = u32;

/// A Raft identity (R4): the configured node number together with the id of the folder in which its log lives. A node
/// that lost its folder comes back with another store id and is therefore another voter. Default = 0.0 is nobody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RaftId {
    /// The node number from `cluster.toml`, 1..=65535.
    pub node: u16,
    /// Drawn when the folder was made, never used again.
    pub store: u64,
}

impl RaftId {
    /// The identity of `node` with the folder `store`.
    pub const fn new(node: u16, store: u64) -> Self {
        Self { node, store }
    }
}

/// `2.5f3a`: the node number and the last 16 bits of the store id. For people; two ids may print alike.
impl fmt::Display for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:04x}", self.node, self.store & 0xffff)
    }
}

/// The application's bytes in a log entry. Cloning shares them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payload(pub(crate) Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What openraft calls when a proposal ends. It owns a closure, called at most once; a reply that is dropped uncalled
/// drops the closure, and what the closure captured (a guarded waiter) answers by its own `Drop`.
pub(crate) struct Reply<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Reply<T> {
    /// `done` must not block: it runs on openraft's tasks.
    pub(crate) fn new(done: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(done))
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

impl<T: OptionalSend + 'static> openraft::raft::responder::Responder<TypeConfig, T> for Reply<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// openraft's configuration. `leader_id_adv` (a leader is a term *and* a node) because two candidates of one term then
/// need no second round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Payload;
    type R = ();
    type NodeId = RaftId;
    type Node = openraft::EmptyNode;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = openraft::impls::Vote<LeaderId>;
    type Payload = openraft::EntryPayload<Payload, RaftId, openraft::EmptyNode>;
    type Entry = openraft::Entry<LeaderId, Self::Payload>;
    type AsyncRuntime = crate::runtime::Runtime;
    type Responder<T>
        = Reply<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// (term, node), totally ordered.
pub(crate) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, RaftId>;
/// (leader, index): names one entry of one group for ever.
pub(crate) type LogId = openraft::LogId<LeaderId>;
/// A vote with its committed flag.
pub(crate) type Vote = openraft::impls::Vote<LeaderId>;
/// What an entry carries: nothing, application bytes, or a membership.
pub(crate) type EntryPayload = openraft::EntryPayload<Payload, RaftId, openraft::EmptyNode>;
/// One log entry.
pub(crate) type Entry = openraft::Entry<LeaderId, EntryPayload>;
/// The last membership together with the entry that set it.
pub(crate) type StoredMembership = openraft::StoredMembership<LeaderId, RaftId, openraft::EmptyNode>;
/// Voters (perhaps joint) and learners.
pub(crate) type Membership = openraft::Membership<RaftId, openraft::EmptyNode>;
/// What a snapshot reflects.
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<LeaderId, RaftId, openraft::EmptyNode>;

//! What the router asks of its neighbours, as small traits: replicas of this node, links to the others, and those who
//! wait for answers. Tests put their own in place.

use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use bytes::Bytes;
use futures::future::BoxFuture;
use rookery_raft::{LinkState, PeerError, PeerNet};
use rookery_wire::{DeviceId, SessionId, UserId};
use tokio::sync::watch;

use crate::delivery::{Receiver, Topic};
use crate::shard::{Answer, Freshness, Read, ReadRefusal, ReadReply, ShardHandle, Submission, Turn};

/// Who waits for answers; usually a connection.
pub trait Waiter: Send + Sync + 'static {
    /// Final answers (never `Again`) with the ticket each request was given, in the order in which they came to be.
    /// Called on arbiter threads too: must not block.
    fn complete(&self, answers: Vec<(u64, Answer)>);
}

/// Whose sends must keep their order: a hash of (session, user, device, epoch), and the device's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The numbered series.
    pub sender: u64,
    /// The `client_seq`.
    pub number: u64,
}

/// One command on its way to its shard.
pub struct Request {
    /// An encoded [`crate::state::Command`].
    pub command: Bytes,
    /// Its place among the sends of its device, if it is one.
    pub order: Option<Order>,
    /// Who waits.
    pub waiter: Arc<dyn Waiter>,
    /// What the waiter knows it by.
    pub ticket: u64,
    /// One shard's word to another, bounded by whoever carries it. It always has room: what fills the lane may be
    /// waiting for this very word (R12).
    pub carried: bool,
}

/// A replica of a shard on this node.
pub trait Replica: Send + Sync + 'static {
    /// Proposes commands in order. Never blocks; each is answered once through [`crate::shard::Answers`].
    fn submit(&self, batch: Vec<Submission>);
    /// Who leads, as far as this replica knows.
    fn leader(&self) -> Option<u16>;
    /// Changes of the leader.
    fn watch_leader(&self) -> watch::Receiver<Option<u16>>;
    /// Reads.
    fn read(
        &self,
        read: Read,
        freshness: Freshness,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<ReadReply, ReadRefusal>>;
    /// Attaches a receiver to topics, in step with apply; returns `live_from` of each. Judges no membership.
    fn attach(
        &self,
        receiver: Arc<dyn Receiver>,
        topics: Vec<Topic>,
    ) -> BoxFuture<'static, Vec<(Topic, u64)>>;
}

impl Replica for ShardHandle {
    fn submit(&self, batch: Vec<Submission>) {
        ShardHandle::submit(self, batch);
    }

    fn leader(&self) -> Option<u16> {
        ShardHandle::leader(self)
    }

    fn watch_leader(&self) -> watch::Receiver<Option<u16>> {
        ShardHandle::watch_leader(self)
    }

    fn read(
        &self,
        read: Read,
        freshness: Freshness,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<ReadReply, ReadRefusal>> {
        let shard = self.clone();
        Box::pin(async move { ShardHandle::read(&shard, read, freshness, deadline).await })
    }

    fn attach(
        &self,
        receiver: Arc<dyn Receiver>,
        topics: Vec<Topic>,
    ) -> BoxFuture<'static, Vec<(Topic, u64)>> {
        let shard = self.clone();
        Box::pin(async move { ShardHandle::attach(&shard, receiver, topics).await })
    }
}

/// The links to the other nodes.
pub trait Peers: Send + Sync + 'static {
    /// Asks and waits.
    fn call(
        &self,
        node: u16,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>>;
    /// Sends one way.
    fn cast(&self, node: u16, body: Bytes) -> Result<(), PeerError>;
    /// The state of a link.
    fn link(&self, node: u16) -> watch::Receiver<LinkState>;
    /// The other nodes.
    fn nodes(&self) -> Vec<u16>;
}

/// A device that has connected to a node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Arrival {
    /// Whose.
    pub user: UserId,
    /// Which device.
    pub device: DeviceId,
    /// When, in the order of this device's arrivals.
    pub turn: Turn,
}

/// What a node's connections are to the others: places that devices have taken.
pub trait Places: Send + Sync + 'static {
    /// Devices have connected to another node: those that came here before them go. Returns those that came here
    /// after them. Must not block.
    fn taken(&self, arrivals: &[Arrival]) -> Vec<Arrival>;
    /// Every device that is connected here.
    fn here(&self) -> Vec<Arrival>;
    /// Whether a device of this user is connected here. Must not block.
    fn online(&self, user: &UserId) -> bool;
    /// These users, whom connections here watch, have come to another node or gone. Must not block.
    fn moved(&self, users: &[UserId]);
    /// In these sessions, which connections here watch, somebody may have come or gone, here or elsewhere. Must not block.
    fn companies_moved(&self, sessions: &[SessionId]);
}

impl Peers for PeerNet {
    fn call(
        &self,
        node: u16,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let net = self.clone();
        Box::pin(async move { PeerNet::call(&net, node, body, deadline).await })
    }

    fn cast(&self, node: u16, body: Bytes) -> Result<(), PeerError> {
        PeerNet::cast(self, node, body)
    }

    fn link(&self, node: u16) -> watch::Receiver<LinkState> {
        PeerNet::link(self, node)
    }

    fn nodes(&self) -> Vec<u16> {
        PeerNet::nodes(self)
    }
}

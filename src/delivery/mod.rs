//! Delivery: who on this node is to be pushed what.
//!
//! Owns the subscriptions of one node: topics (a session, or a user's own news), the receivers attached to them,
//! and for each of these pairs the last seq that was pushed and whether it lags. Apply publishes into it, the
//! gateway's connections and other nodes take from it; it knows neither of them, only [`Receiver`].
//!
//! It must never block, never wait and never drop silently: a push that finds no room marks the subscription as
//! lagging and says so, and what follows is skipped until the receiver asks to [`Delivery::resume`]. On one
//! receiver a seq of a session is pushed at most once and in increasing order.
//!
//! The cost of a publish is bound to the receivers attached on this node, not to the members of a session.

mod company;
mod registry;
mod stats;
mod topic;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bincode::{Decode, Encode};
use bytes::Bytes;
use rookery_wire::{DeviceId, SessionId, UserId};

pub use company::Company;
pub use registry::{Delivery, DeliveryLimits};
pub use stats::DeliveryStats;

/// What can be subscribed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub enum Topic {
    /// The records of a session, numbered by seq without a gap.
    Session(SessionId),
    /// News of one user (read marks, sessions joined and left), not numbered.
    User(UserId),
}

/// Who sent a record, with the epoch of the device: it is not pushed it, its ACK stands for it. The same device registered
/// anew is another, to which no ACK comes.
pub type Sender = Arc<(UserId, DeviceId, u32)>;

/// One thing to push: a whole encoded frame, shared by all who get it.
#[derive(Clone, Debug)]
pub struct Push {
    /// Position in the session; 0 in user topics.
    pub seq: u64,
    /// A whole frame with request id 0.
    pub frame: Bytes,
    /// The sending device, which is passed over.
    pub from: Option<Sender>,
    /// The seq of an earlier record that this one changes, and that record's frame as it is now: it takes the place of
    /// the one that may still wait to be written somewhere (G7).
    pub replaces: Option<Arc<(u64, Bytes)>>,
}

/// Something for whoever is there now, of which nothing is kept: it has no seq, and one that finds no room is gone.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "rookery_wire::codec::Source")]
pub struct Passing {
    /// To whom: the devices attached to this session and known as members'.
    pub session: SessionId,
    /// A whole frame with request id 0.
    pub frame: rookery_wire::Blob,
    /// Who is passed over: this user, or only this device of it and its epoch.
    pub except: (UserId, Option<(DeviceId, u32)>),
}

/// `live_from` of a subscription that could not be made (the receiver is gone, or a bound is reached): nothing
/// will be pushed.
pub const NOT_LIVE: u64 = u64::MAX;

/// A fresh number for a [`Receiver`] of this process.
pub fn next_receiver_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Something that takes pushes: a connection of this node, or another node that has no replica of the shard.
///
/// Its methods are called under the topic's lock, on threads that apply the log: they must not block and must not
/// call back into [`Delivery`].
pub trait Receiver: Send + Sync + 'static {
    /// Unique among the receivers of this process.
    fn id(&self) -> u64;
    /// The device behind it and its epoch; `None` for a node.
    fn origin(&self) -> Option<(&UserId, &DeviceId, u32)>;
    /// Takes all of the items, in order, or none of them. `false` = no room: the subscription lags from here on.
    fn push(&self, topic: &Topic, items: &[Push]) -> bool;
    /// A record has changed (G7): where its frame still waits, this one takes its place. Said also to a subscription that
    /// lags, or is not pushed the change itself.
    fn replace(&self, topic: &Topic, replaced: &(u64, Bytes)) {
        let _ = (topic, replaced);
    }
    /// The same where its user may be no member any more: only what the record has lost is taken from it.
    fn withdraw(&self, topic: &Topic, replaced: &(u64, Bytes)) {
        let _ = (topic, replaced);
    }
    /// What waits of this topic is not to be written any more: what was skipped may have changed it (G7). It is told to sync.
    fn discard(&self, topic: &Topic) {
        let _ = topic;
    }
    /// Asked where its subscription ends: whether something of the topic may still wait. If so it hears what is withdrawn
    /// until it calls [`Delivery::resume`], which it is to do once nothing waits.
    fn holds(&self, topic: &Topic) -> bool {
        let _ = topic;
        false
    }
    /// Takes something that is worth nothing later, if there is room to spare. Says whether it did.
    fn pass(&self, frame: &Bytes) -> bool {
        let _ = frame;
        false
    }
    /// Said once each time a topic begins to lag for it. It is to call [`Delivery::resume`] later, from elsewhere.
    fn lagged(&self, topic: &Topic);
}

#[cfg(test)]
mod tests;

//! One Raft group, as its users see it.
//!
//! Owns: the way of a waiter from propose to apply, shared linearizable reads, membership changes. Must never interpret
//! a payload, and must never answer a waiter twice or not at all.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::error::{RaftError, ReadError};
use crate::machine::{Mark, ProposeError, Waiter};
use crate::types::{GroupId, RaftId};

/// Where a group stands, as this node knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// Who leads.
    pub leader: Option<RaftId>,
    /// This node leads.
    pub leading: bool,
    /// The current term.
    pub term: u64,
    /// Index of the last entry in the local log.
    pub last_log: u64,
    /// Index up to which entries are known to be committed.
    pub committed: u64,
    /// Index up to which entries are applied here.
    pub applied: u64,
    /// Voting members (both sets, while a change is under way).
    pub voters: Vec<RaftId>,
    /// Members that only follow.
    pub learners: Vec<RaftId>,
    /// Index of the last durable checkpoint.
    pub snapshot: u64,
    /// Index up to which the log is purged.
    pub purged: u64,
}

/// A group that runs on this node. Cheap to clone.
pub struct Group<W: Waiter> {
    id: GroupId,
    status: watch::Receiver<GroupStatus>,
    _waiter: PhantomData<fn(W)>,
}

impl<W: Waiter> Clone for Group<W> {
    fn clone(&self) -> Self {
        Self { id: self.id, status: self.status.clone(), _waiter: PhantomData }
    }
}

impl<W: Waiter> fmt::Debug for Group<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group({})", self.id)
    }
}

impl<W: Waiter> Group<W> {
    /// Which group this is.
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// Makes a new group of these voters. Ok also if it was made before with the same ones.
    pub async fn initialize(&self, voters: &[RaftId]) -> Result<(), RaftError> {
        let _ = voters;
        Err(RaftError::Stopped { group: self.id })
    }

    /// Proposes an entry. Waits for queue space only; the outcome comes through the waiter. Proposals of one caller that
    /// awaits each in turn keep their order.
    pub async fn propose(&self, payload: Bytes, waiter: W) {
        let _ = payload;
        waiter.dropped(ProposeError::Stopped);
    }

    /// The index that a linearizable read must reflect: a majority confirmed this leader after the call began, and it is
    /// applied here. Callers at the same time share one round.
    pub async fn read_index(&self, deadline: Duration) -> Result<u64, ReadError> {
        let _ = deadline;
        Err(ReadError::Stopped)
    }

    /// Where the group stands now. Cheap.
    pub fn status(&self) -> GroupStatus {
        self.status.borrow().clone()
    }

    /// Changes of leader, term and membership; coalesced. The indices in it may be old: `status` has the current ones.
    pub fn watch(&self) -> watch::Receiver<GroupStatus> {
        self.status.clone()
    }

    /// A checkpoint at `mark` is durable: it is the snapshot from now on, and the log is purged behind it but for
    /// `log_keep` entries.
    pub async fn checkpointed(&self, mark: Mark) {
        let _ = mark;
    }

    /// Purges up to the last checkpoint and keeps nothing: for content that must leave the log. Followers that lag
    /// will get a snapshot.
    pub async fn purge_all(&self) {}

    /// Hands leadership to a voter; returns when it leads.
    pub async fn transfer_leader(&self, to: RaftId) -> Result<(), RaftError> {
        let _ = to;
        Err(RaftError::Stopped { group: self.id })
    }

    /// Makes these the voters: adds the new ones as learners, waits until they caught up, changes the membership, drops
    /// the others. Only on the leader. Ok if they are the voters already.
    pub async fn set_voters(&self, voters: &[RaftId]) -> Result<(), RaftError> {
        let _ = voters;
        Err(RaftError::Stopped { group: self.id })
    }

    /// Stops the group on this node. Waiters that are still out are dropped with `Stopped`.
    pub async fn stop(&self) {}
}

//! What a group does with what was agreed: the state machine's contract, and the errors of proposing.
//!
//! Owns: `StateMachine`, `Waiter`, `Committed`, `Mark`, `Fault`. Must never know what the bytes mean.
//!
//! # The rules of a state machine
//! - **Determinism.** The state after entry n is a function of the entries 1..=n alone: no clock, no randomness, no
//!   node number, no iteration over a hash map. Every replica runs the same entries in the same order.
//! - **Replay.** After a restart, and after a snapshot was installed, entries from `mark + 1` on come again, also such as
//!   the state already reflects (checkpoints are fuzzy). An entity skips what it has; nothing is answered twice,
//!   because a replayed entry has no waiter.
//! - **R5.** `apply` returns only when the whole batch is executed: reads and snapshots rest on it.
//! - **Panics and faults.** A panic that leaves `apply`, or a `Fault`, stops the node. A panic that is the fault of one
//!   entity is the machine's own to catch (R9). A refusal is not a fault but an answer.

use std::fmt;
use std::future::Future;

use bytes::{Bytes, BytesMut};

use crate::codec::Sink;

use crate::snapshot::{SnapshotReader, SnapshotWriter};
use crate::types::{LogId, RaftId, StoredMembership};

/// What a proposer leaves behind to be answered. Exactly one of two things happens to it: it is handed to
/// [`StateMachine::apply`] on the node that proposed, or it is `dropped`.
pub trait Waiter: Send + 'static {
    /// The entry will not be answered from apply, for this reason. Must not block.
    fn dropped(self, why: ProposeError);
}

/// Nobody waits.
impl Waiter for () {
    fn dropped(self, _why: ProposeError) {}
}

/// Why a proposal got no answer from apply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// A definite no: the entry was never appended. Also while an election or a hand-over runs (`leader` is then empty).
    #[error("not the leader of this group{}", leader.map(|l| format!(", which is {l}")).unwrap_or_default())]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<RaftId>,
    },
    /// A definite no: never appended, for want of room. Retry after a moment.
    #[error("busy: {what}")]
    Busy {
        /// What is full.
        what: &'static str,
    },
    /// A definite no: never appended, for little disk space is free. It passes when somebody makes room.
    #[error("little disk space is free on this node")]
    LowDisk,
    /// The entry was appended and leadership was lost: it may or may not come to be applied.
    #[error("outcome unknown: the entry was appended and then leadership was lost")]
    Unknown,
    /// The group or the node stops. Like `Unknown` for an entry that had been appended.
    #[error("this node is stopping")]
    Stopped,
}

/// One committed entry. Raft's own entries (blank, membership) are not handed over, so indices may have gaps.
#[derive(Debug)]
pub struct Committed<W> {
    /// Position in the group's log.
    pub index: u64,
    /// The term in which the entry was proposed.
    pub term: u64,
    /// The proposer's bytes, shared with log and wire.
    pub payload: Bytes,
    /// The proposer's waiter: present on the node that proposed, in the life in which it proposed.
    pub waiter: Option<W>,
}

/// A position in a group's log together with the membership there. A machine stores it with a checkpoint and gives it
/// back when the group is opened. Opaque but for its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub(crate) applied: LogId,
    pub(crate) membership: StoredMembership,
}

/// First byte of a stored mark.
const MARK_FORMAT: u8 = 1;

impl Mark {
    pub(crate) fn new(applied: LogId, membership: StoredMembership) -> Self {
        Self { applied, membership }
    }

    /// The log index up to which everything is applied.
    pub fn index(&self) -> u64 {
        self.applied.index
    }

    /// The term of the entry at that index.
    pub fn term(&self) -> u64 {
        self.applied.leader_id.term
    }

    /// For storing. Stable within a format version.
    pub fn bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        out.put_u8(MARK_FORMAT);
        crate::codec::put_log_id(&mut out, &self.applied);
        crate::codec::put_stored_membership(&mut out, &self.membership);
        out.freeze()
    }

    /// Reads what `bytes` wrote. An error is damage, or a newer version's mark.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Fault> {
        let mut rest = crate::codec::Take::new(bytes);
        let read = |rest: &mut crate::codec::Take<'_>| {
            if rest.u8()? != MARK_FORMAT {
                return None;
            }
            let applied = rest.log_id()?;
            let membership = rest.stored_membership()?;
            rest.is_empty().then_some(Self { applied, membership })
        };
        read(&mut rest).ok_or_else(|| Fault::new(format!("unreadable mark of {} bytes", bytes.len())))
    }
}

/// A state machine, owned by one group.
pub trait StateMachine: Send + Sync + 'static {
    /// What its proposers leave behind.
    type Waiter: Waiter;

    /// As of the last durable checkpoint; asked once, when the group is opened. `None` for a machine that never had one.
    fn mark(&self) -> Option<Mark>;

    /// Executes a batch of consecutive committed entries and answers their waiters; returns only then (R5). The batch may
    /// be empty (raft's own entries move the mark anyway). Never called concurrently, nor beside `install_snapshot`.
    fn apply(
        &self,
        entries: Vec<Committed<Self::Waiter>>,
        mark: Mark,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Streams the whole machine, entity by entity, each at one index (R8). What it writes reflects at least the mark of
    /// the last checkpoint and may be newer. Runs beside `apply`. A write error means that the receiver went away.
    fn write_snapshot(&self, out: SnapshotWriter) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Replaces everything by the stream: new generation, flush, flip one pointer, return (R8). When it is interrupted
    /// or fails the old state is whole.
    fn install_snapshot(
        &self,
        mark: Mark,
        input: SnapshotReader,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// This node began to lead in a term, or ceased to (`None`). Told on change, in order; must not block.
    fn leadership(&self, leading: Option<u64>) {
        let _ = leading;
    }
}

/// Something after which this node must not go on: storage trouble, an entry it cannot execute. Never a refusal.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Fault {
    what: String,
    #[source]
    source: Option<std::sync::Arc<dyn std::error::Error + Send + Sync>>,
}

impl Fault {
    /// A fault with its story: name the thing and the remedy.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    /// A fault that another error caused.
    pub fn with_source(
        what: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self { what: what.into(), source: Some(std::sync::Arc::new(source)) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{}: {source}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

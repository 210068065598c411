//! The host of a node's groups: starts them, feeds them from the peer links, stops the node when one breaks.
//!
//! Owns: timing, the table of groups, the way from a fault to `fatal`. Must never decide what a group contains.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::RaftError;
use crate::group::Group;
use crate::machine::{Fault, StateMachine};
use crate::peer::PeerNet;
use crate::seam::{Clock, Entropy};
use crate::store::Store;
use crate::types::{GroupId, RaftId};

/// What is called, once, when this node must not go on.
pub type Fatal = Arc<dyn Fn(Fault) + Send + Sync>;

/// How the groups of this node behave.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// This node's identity in every group.
    pub me: RaftId,
    /// A leader speaks at least this often. Default 50 ms.
    pub heartbeat: Duration,
    /// A follower that heard nothing for a time drawn from this range asks for votes. A leader whose majority was silent
    /// for the upper bound refuses to propose. Default 150..300 ms.
    pub election: (Duration, Duration),
    /// Entries kept behind a checkpoint, for followers that lag. Default 4,096.
    pub log_keep: u64,
    /// Proposals of one group that may wait for their end. Default 1,024.
    pub proposals: usize,
    /// Their bytes. Default 64 MiB.
    pub proposal_bytes: usize,
    /// How long `propose` waits for room before it answers `Busy`. Default 1 s.
    pub propose_wait: Duration,
}

impl HostOptions {
    /// The defaults for this identity.
    pub fn new(me: RaftId) -> Self {
        Self {
            me,
            heartbeat: Duration::from_millis(50),
            election: (Duration::from_millis(150), Duration::from_millis(300)),
            log_keep: 4096,
            proposals: 1024,
            proposal_bytes: 64 << 20,
            propose_wait: Duration::from_secs(1),
        }
    }
}

/// Runs groups. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    options: HostOptions,
    _store: Store,
    _peers: PeerNet,
    _fatal: Fatal,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.options.me)
    }
}

impl Host {
    /// A host without groups. `fatal` is called once, from any thread, and must not block; afterwards the groups refuse.
    pub fn start(
        options: HostOptions,
        store: Store,
        peers: PeerNet,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        fatal: Fatal,
    ) -> Self {
        let _ = (clock, entropy);
        Self { options, _store: store, _peers: peers, _fatal: fatal }
    }

    /// Opens a group: replays what was committed behind the machine's mark, then takes part.
    pub async fn open_group<S: StateMachine>(
        &self,
        id: GroupId,
        machine: Arc<S>,
    ) -> Result<Group<S::Waiter>, RaftError> {
        let _ = machine;
        Err(RaftError::Stopped { group: id })
    }

    /// Stops every group. Waiters that are still out are dropped with `Stopped`.
    pub async fn stop(&self) {}
}

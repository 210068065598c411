//! The host of a node's groups: what they share, and the way from a fault to the node's end.
//!
//! Owns: timing, the list of groups, `FatalOnce`. Must never decide what a group contains, and spawns no threads: groups
//! run on whatever tokio runtime is current when they are opened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use crate::error::RaftError;
use crate::group::{self, Group, Guarded, Inner, Machine};
use crate::machine::{Fault, ProposeError, StateMachine};
use crate::peer::PeerNet;
use crate::runtime::keep_beat;
use crate::snapshot::clear_spools;
use crate::store::Store;
use crate::types::{GroupId, RaftId};

/// What is called, once, when this node must not go on.
pub type Fatal = Arc<dyn Fn(Fault) + Send + Sync>;

/// Snapshots that one node receives at once.
const SNAPSHOTS_AT_ONCE: usize = 4;

/// How the groups of this node behave.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// This node's identity in every group.
    pub me: RaftId,
    /// A leader speaks this often, and so often every group is asked whether an election is due: all at one moment (the beat
    /// of `runtime`). One that looks late, for want of a core, may leave out a beat. Default 50 ms.
    pub heartbeat: Duration,
    /// A follower that heard nothing for a time drawn from this range, after the lease of the upper bound has run out,
    /// asks for votes. A leader whose majority was silent for the upper bound refuses to propose. Default 100..200 ms: with
    /// 17 groups under load on two busy cores a killed leader was replaced within 450 ms (p99 490 ms), and no election came
    /// without a cause (tests/groups_failover.rs). 150..300 ms cost 150 ms more.
    pub election: (Duration, Duration),
    /// Entries kept behind a checkpoint, for followers that lag. Default 4,096.
    pub log_keep: u64,
    /// Bytes of entries kept behind a checkpoint, all groups together (default 64 MiB): what is older than the newest of
    /// so many is purged, but for a 64th of it in each group.
    pub log_keep_bytes: u64,
    /// Largest payload of an entry in bytes; more is refused as `Busy`. Default 4 MiB. Must fit a frame of the peer link.
    pub max_entry: usize,
    /// Proposals of one group that may wait for their end. Default 1,024.
    pub proposals: usize,
    /// Their bytes. Default 16 MiB.
    pub proposal_bytes: usize,
    /// How long `propose` waits for room before it answers `Busy`. Default 1 s.
    pub propose_wait: Duration,
    /// How long `set_voters` waits for new voters to catch up. Default 10 min.
    pub catch_up: Duration,
    /// Folder for snapshots that come in, emptied at start; `None` keeps them in memory (stores without a disk).
    pub incoming: Option<PathBuf>,
}

impl HostOptions {
    /// The defaults for this identity.
    pub fn new(me: RaftId) -> Self {
        Self {
            me,
            heartbeat: Duration::from_millis(50),
            election: (Duration::from_millis(100), Duration::from_millis(200)),
            log_keep: 4096,
            log_keep_bytes: 64 << 20,
            max_entry: 4 << 20,
            proposals: 1024,
            proposal_bytes: 16 << 20,
            propose_wait: Duration::from_secs(1),
            catch_up: Duration::from_secs(600),
            incoming: None,
        }
    }
}

/// Calls the hook for the first fault; the others are only logged.
pub(crate) struct FatalOnce {
    called: AtomicBool,
    hook: Fatal,
}

impl FatalOnce {
    pub(crate) fn stop(&self, fault: Fault) {
        tracing::error!(%fault, "this node must not go on");
        if !self.called.swap(true, Ordering::AcqRel) {
            (self.hook)(fault);
        }
    }
}

/// What all groups of a node share.
pub(crate) struct HostCore {
    pub(crate) options: HostOptions,
    pub(crate) store: Store,
    pub(crate) peers: PeerNet,
    pub(crate) fatal: Arc<FatalOnce>,
    pub(crate) incoming: Option<PathBuf>,
    pub(crate) receiving: Arc<Semaphore>,
}

impl HostCore {
    /// What is full, if anything: nothing new is appended then.
    pub(crate) fn full(&self) -> Option<ProposeError> {
        let health = self.store.health();
        if health.journal_full {
            return Some(ProposeError::Busy { what: "the journal is full; sled is being flushed" });
        }
        health.low_disk.then_some(ProposeError::LowDisk)
    }
}

/// Runs groups. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    core: Arc<HostCore>,
    groups: Arc<Mutex<Vec<Arc<Inner>>>>,
    /// What an earlier life of the process left in `incoming` is gone.
    cleared: Arc<OnceCell<()>>,
}

async fn clear(incoming: Option<&Path>) {
    if let Some(dir) = incoming
        && let Err(error) = clear_spools(dir).await
    {
        tracing::warn!(dir = %dir.display(), %error, "cannot clear old snapshots");
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.core.options.me)
    }
}

impl Host {
    /// A host without groups. `fatal` is called once, from any task, and must not block.
    pub fn start(options: HostOptions, store: Store, peers: PeerNet, fatal: Fatal) -> Self {
        keep_beat(options.heartbeat);
        let core = HostCore {
            incoming: options.incoming.clone(),
            options,
            store,
            peers,
            fatal: Arc::new(FatalOnce { called: AtomicBool::new(false), hook: fatal }),
            receiving: Arc::new(Semaphore::new(SNAPSHOTS_AT_ONCE)),
        };
        Self { core: Arc::new(core), groups: Arc::default(), cleared: Arc::default() }
    }

    /// Opens a group: replays what was committed behind the machine's mark, then takes part. A group is opened once in
    /// the life of a host.
    pub async fn open_group<S: StateMachine>(
        &self,
        id: GroupId,
        machine: Arc<S>,
    ) -> Result<Group<S::Waiter>, RaftError> {
        Ok(Group::of(self.open(id, Arc::new(Guarded(machine))).await?))
    }

    async fn open(&self, id: GroupId, machine: Arc<dyn Machine>) -> Result<Arc<Inner>, RaftError> {
        self.cleared.get_or_init(|| clear(self.core.incoming.as_deref())).await;
        let log = self
            .core
            .store
            .group_log(id)
            .map_err(|e| RaftError::Broken { group: id, fault: Fault::with_source("opening its log", e) })?;
        let group = group::open(self.core.clone(), id, machine, log).await?;
        self.groups.lock().push(group.clone());
        Ok(group)
    }

    /// Stops every group. Waiters that are still out are dropped with `Stopped`.
    pub async fn stop(&self) {
        let groups = std::mem::take(&mut *self.groups.lock());
        futures::future::join_all(groups.iter().map(|group| group.stop())).await;
    }
}

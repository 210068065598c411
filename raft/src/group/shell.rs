//! The state machine as openraft sees it: batches, marks, snapshots.
//!
//! Owns: the running mark (last applied entry and membership), the hand-over of waiters, the checkpoint that counts as the
//! snapshot. Must never return from `apply` before the machine did (R5), and turns every fault into the node's end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{Stream, TryStreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use parking_lot::Mutex;

use super::erased::{AnyWaiter, Machine};
use crate::host::FatalOnce;
use crate::machine::{Committed, Fault, Mark};
use crate::snapshot::SnapshotData;
use crate::types::{
    Entry, EntryPayload, GroupId, LeaderId, LogId, Payload, RaftId, SnapshotMeta, StoredMembership,
    TypeConfig,
};

/// Entries in one call of `StateMachine::apply`.
const BATCH_ENTRIES: usize = 256;
/// Their bytes, roughly.
const BATCH_BYTES: usize = 8 << 20;

pub(crate) type LiveSnapshot = Snapshot<LeaderId, RaftId, openraft::EmptyNode, SnapshotData>;

/// Where a waiter lies for the moment in which openraft hands it over: its reply runs inside `ApplyResponder::send`, on
/// the task that applies.
pub(super) type Hand = Arc<Mutex<Option<AnyWaiter>>>;

/// What the group and its shell share about snapshots.
pub(crate) struct Checkpoints {
    last: Mutex<Option<Mark>>,
    /// Transfers that stream the machine now. While there are any the log is not purged further, so that what they
    /// deliver can be continued from the log.
    transfers: AtomicUsize,
}

impl Checkpoints {
    pub(super) fn new(last: Option<Mark>) -> Arc<Self> {
        Arc::new(Self { last: Mutex::new(last), transfers: AtomicUsize::new(0) })
    }

    /// A newer checkpoint is durable. False if it is not newer.
    pub(super) fn advance(&self, mark: Mark) -> bool {
        let mut last = self.last.lock();
        let newer = last.as_ref().is_none_or(|old| old.applied < mark.applied);
        if newer {
            *last = Some(mark);
        }
        newer
    }

    pub(super) fn last(&self) -> Option<Mark> {
        self.last.lock().clone()
    }

    /// A transfer begins; it ends when the guard goes.
    pub(super) fn transfer(self: &Arc<Self>) -> TransferGuard {
        self.transfers.fetch_add(1, Ordering::AcqRel);
        TransferGuard(self.clone())
    }

    /// Whether a transfer is under way.
    pub(super) fn transferring(&self) -> bool {
        self.transfers.load(Ordering::Acquire) > 0
    }

    fn snapshot(&self) -> Option<LiveSnapshot> {
        let mark = self.last.lock().clone()?;
        let meta = SnapshotMeta { last_log_id: Some(mark.applied), last_membership: mark.membership };
        Some(Snapshot { meta, snapshot: SnapshotData::Live })
    }
}

/// A transfer under way.
pub(super) struct TransferGuard(Arc<Checkpoints>);

impl Drop for TransferGuard {
    fn drop(&mut self) {
        self.0.transfers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// openraft's state machine.
pub(crate) struct Shell {
    pub(super) group: GroupId,
    pub(super) machine: Arc<dyn Machine>,
    pub(super) checkpoints: Arc<Checkpoints>,
    pub(super) hand: Hand,
    pub(super) applied: Option<LogId>,
    pub(super) membership: StoredMembership,
    pub(super) fatal: Arc<FatalOnce>,
}

/// Entries on their way into the machine.
#[derive(Default)]
struct Batch {
    entries: Vec<Committed<AnyWaiter>>,
    /// Callers of membership changes, answered after the machine applied.
    responders: Vec<ApplyResponder<TypeConfig>>,
    count: usize,
    bytes: usize,
}

impl Shell {
    fn fail(&self, fault: Fault) -> io::Error {
        let error = io::Error::other(format!("group {}: {fault}", self.group));
        self.fatal.stop(Fault::with_source(format!("group {}", self.group), fault));
        error
    }

    fn take(&mut self, batch: &mut Batch, entry: Entry, responder: Option<ApplyResponder<TypeConfig>>) {
        let Entry { log_id, payload } = entry;
        self.applied = Some(log_id);
        batch.count += 1;
        match payload {
            EntryPayload::Blank => batch.responders.extend(responder),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(log_id), membership);
                batch.responders.extend(responder);
            }
            EntryPayload::Normal(Payload(payload)) => {
                let waiter = responder.and_then(|responder| {
                    responder.send(());
                    self.hand.lock().take()
                });
                batch.bytes += payload.len();
                let (index, term) = (log_id.index, log_id.leader_id.term);
                batch.entries.push(Committed { index, term, payload, waiter });
            }
        }
    }

    async fn run(&mut self, batch: Batch) -> Result<(), io::Error> {
        let Some(applied) = self.applied else { return Ok(()) };
        let mark = Mark::new(applied, self.membership.clone());
        self.machine.apply(batch.entries, mark).await.map_err(|fault| self.fail(fault))?;
        for responder in batch.responders {
            responder.send(());
        }
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for Shell {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        let mut batch = Batch::default();
        while let Some((entry, responder)) = entries.try_next().await? {
            self.take(&mut batch, entry, responder);
            if batch.count >= BATCH_ENTRIES || batch.bytes >= BATCH_BYTES {
                self.run(std::mem::take(&mut batch)).await?;
            }
        }
        if batch.count > 0 {
            self.run(batch).await?;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        if self.checkpoints.transferring() && !force {
            return None;
        }
        let snapshot = self.checkpoints.snapshot();
        // Not forced: there is nothing to build before the first checkpoint. Forced: the builder says so.
        (force || snapshot.is_some()).then(|| Builder { group: self.group, snapshot })
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { group: self.group, snapshot: self.checkpoints.snapshot() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: SnapshotData) -> Result<(), io::Error> {
        let (SnapshotData::Received(spool), Some(applied)) = (data, meta.last_log_id) else {
            return Err(self.fail(Fault::new("a snapshot to install that was not received from a peer")));
        };
        let mark = Mark::new(applied, meta.last_membership.clone());
        let reader = spool.reader().await.map_err(|fault| self.fail(fault))?;
        self.machine.install_snapshot(mark.clone(), reader).await.map_err(|fault| self.fail(fault))?;
        self.applied = Some(applied);
        self.membership = meta.last_membership.clone();
        self.checkpoints.advance(mark);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<LiveSnapshot>, io::Error> {
        Ok(self.checkpoints.snapshot())
    }
}

/// "Builds" a snapshot: the last checkpoint is one already.
pub(crate) struct Builder {
    group: GroupId,
    snapshot: Option<LiveSnapshot>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<LiveSnapshot, io::Error> {
        self.snapshot.take().ok_or_else(|| {
            io::Error::other(format!(
                "group {}: a snapshot was wanted before its first checkpoint; please report this with the node's log",
                self.group
            ))
        })
    }
}

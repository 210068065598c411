//! One Raft group, as its users see it.
//!
//! Owns: the way of a waiter from propose to apply, shared linearizable reads, membership changes. Must never interpret
//! a payload, and must never answer a waiter twice or not at all.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::Raft;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

mod envelope;
mod erased;
mod members;
mod network;
mod open;
mod proposal;
mod reads;
mod replicate;
mod rpc;
mod send_snapshot;
mod serve;
mod shell;
mod status;

pub use envelope::Envelope;
pub(crate) use erased::{Guarded, Machine};
pub(crate) use open::open;
pub use status::GroupStatus;

use crate::error::{RaftError, ReadError};
use crate::host::HostCore;
use crate::machine::{Mark, ProposeError, Waiter};
use crate::store::GroupLog;
use crate::types::{GroupId, Payload, RaftId, TypeConfig};
use erased::AnyWaiter;
use proposal::Room;
pub use reads::ReadPoint;
use reads::Readers;
use shell::{Checkpoints, Hand, Shell};

/// Bytes that one permit of the byte budget stands for.
const BYTES_PER_PERMIT: usize = 1024;
/// How long a purge may take once it is asked for.
const PURGE: Duration = Duration::from_secs(10);
/// How long a checkpoint may take until openraft takes it for its snapshot, before the purge behind it is left to the next.
const COUNTS: Duration = Duration::from_secs(1);

/// How many times `log_keep_bytes` a leader keeps for a follower that is behind: as much as the journal and the database
/// bear, and far less than a snapshot of a shard with history.
const PATIENT: u64 = 4;

/// How long the end of a group may take.
const STOP: Duration = Duration::from_secs(10);

/// A group that runs on this node. Cheap to clone.
pub struct Group<W: Waiter>(Arc<Inner>, PhantomData<fn(W)>);

/// The group with its waiter's type forgotten (see `erased`).
pub(crate) struct Inner {
    id: GroupId,
    host: Arc<HostCore>,
    raft: Raft<TypeConfig, Shell>,
    hand: Hand,
    checkpoints: Arc<Checkpoints>,
    log: GroupLog,
    readers: Readers,
    status: watch::Receiver<GroupStatus>,
    room_entries: Arc<Semaphore>,
    room_bytes: Arc<Semaphore>,
    tasks: Mutex<JoinSet<()>>,
    stopped: CancellationToken,
}

impl<W: Waiter> Clone for Group<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<W: Waiter> fmt::Debug for Group<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group({})", self.0.id)
    }
}

impl<W: Waiter> Group<W> {
    /// `inner` was opened for a machine with this waiter.
    pub(crate) fn of(inner: Arc<Inner>) -> Self {
        Self(inner, PhantomData)
    }

    /// Which group this is.
    pub fn id(&self) -> GroupId {
        self.0.id
    }

    /// Makes a new group of these voters. Ok also if it was made before with the same ones.
    pub async fn initialize(&self, voters: &[RaftId]) -> Result<(), RaftError> {
        members::initialize(&self.0, voters).await
    }

    /// Proposes an entry. Waits for room only; the outcome comes through the waiter. Proposals of one caller that awaits
    /// each in turn keep their order.
    ///
    /// A leader that is cut off from the others answers nothing until it learns what became of the entry: who cannot
    /// wait so long keeps a deadline of his own and treats it as `Unknown`.
    pub async fn propose(&self, payload: Bytes, waiter: W) {
        self.0.propose(payload, Box::new(waiter)).await;
    }

    /// The index that a linearizable read must reflect: a majority confirmed this leader after the call began, and it is
    /// applied here. Callers at the same time share one round.
    pub async fn read_index(&self, deadline: Duration) -> Result<ReadPoint, ReadError> {
        self.0.readers.read_index(deadline).await
    }

    /// Where the group stands now. Cheap.
    pub fn status(&self) -> GroupStatus {
        status::current(&self.0.raft, &self.0.status)
    }

    /// Changes of leader, term and members; coalesced. The indices in it are as old as the last change: `status` has the
    /// current ones.
    pub fn watch(&self) -> watch::Receiver<GroupStatus> {
        self.0.status.clone()
    }

    /// A checkpoint at `mark` is durable: it is the snapshot from now on, and the log is purged behind it but for
    /// `log_keep` entries, and behind the checkpoint before it but for `log_keep_bytes`. While a snapshot is being sent
    /// the purge waits for the next checkpoint after it.
    pub async fn checkpointed(&self, mark: Mark) {
        let (before, index) = (self.0.checkpoints.last(), mark.index());
        if self.0.checkpoints.advance(mark) {
            // An error means that the core is gone.
            let _ = self.0.raft.trigger().snapshot().await;
            self.0.purge_behind(index, before.map(|mark| mark.index())).await;
        }
    }

    /// Purges up to the last checkpoint and keeps nothing: for content that must leave the log. Ok with the index up to
    /// which the log is purged. A follower that still needs the entries delays it; a follower that lags more gets a
    /// snapshot.
    pub async fn purge_all(&self) -> Result<u64, RaftError> {
        self.0.purge_all().await
    }

    /// Hands leadership to a voter; returns when it leads.
    pub async fn transfer_leader(&self, to: RaftId) -> Result<(), RaftError> {
        members::transfer_leader(&self.0, to).await
    }

    /// Who could lead in this node's place, if it leads: the voters that are reachable, with the number of entries each
    /// lacks as far as is known here, the fewest first. One that lacks more than a few is not made leader.
    pub fn heirs(&self) -> Vec<(RaftId, u64)> {
        members::heirs(&self.0)
    }

    /// False if this node leads the group and there is no majority that is reachable and up to date without `node`: were
    /// `node` to go now, nothing could be committed for a while. A group of one or two has no such majority ever, and is
    /// not waited for.
    pub fn stands_without(&self, node: u16) -> bool {
        members::stands_without(&self.0, node)
    }

    /// Makes these the voters: adds the new ones as learners, waits until they caught up, changes the membership, drops
    /// the others. Only on the leader. Ok if they are the voters already.
    pub async fn set_voters(&self, voters: &[RaftId]) -> Result<(), RaftError> {
        let voters: BTreeSet<RaftId> = voters.iter().copied().collect();
        members::set_voters(&self.0, voters).await
    }

    /// Stops the group on this node. Waiters that are still out are dropped with `Stopped`.
    pub async fn stop(&self) {
        self.0.stop().await;
    }
}

impl Inner {
    async fn propose(&self, payload: Bytes, waiter: AnyWaiter) {
        if self.stopped.is_cancelled() {
            return waiter.dropped(ProposeError::Stopped);
        }
        let room = match self.room(payload.len()).await {
            Ok(room) => room,
            Err(why) => return waiter.dropped(why),
        };
        let reply = proposal::reply(waiter, room, self.hand.clone());
        // An error means that the core is gone; the reply was dropped with the message and the waiter with the reply.
        let _ = self.raft.client_write_ff(Payload(payload), Some(reply)).await;
    }

    /// Room for a proposal, or a definite no.
    async fn room(&self, bytes: usize) -> Result<Room, ProposeError> {
        if let Some(full) = self.host.full() {
            return Err(full);
        }
        if bytes > self.host.options.max_entry {
            return Err(ProposeError::Busy { what: "an entry larger than the bound" });
        }
        let permits = u32::try_from(bytes.div_ceil(BYTES_PER_PERMIT)).unwrap_or(u32::MAX);
        let acquire = async {
            let entry = self.room_entries.clone().acquire_owned().await;
            let bytes = self.room_bytes.clone().acquire_many_owned(permits).await;
            Some(Room { _entry: entry.ok()?, _bytes: bytes.ok()? })
        };
        match timeout(self.host.options.propose_wait, acquire).await {
            Ok(Some(room)) => Ok(room),
            Ok(None) => Err(ProposeError::Stopped),
            Err(_) => Err(ProposeError::Busy { what: "too many proposals wait in this group" }),
        }
    }

    /// Purges what the checkpoint at `covered` and the one before it make superfluous. Openraft passes over a purge of less
    /// than it has been asked for already.
    async fn purge_behind(&self, covered: u64, before: Option<u64>) {
        if self.checkpoints.transferring() {
            return;
        }
        let kept = covered.saturating_sub(self.host.options.log_keep);
        let upto = kept.max(before.and_then(|before| self.too_much(before)).unwrap_or(0));
        // Openraft purges no more than what it knows the snapshot to cover. If that takes long, the next checkpoint does it.
        let counts =
            self.until("the checkpoint to count", COUNTS, |m| m.snapshot.is_some_and(|id| id.index >= upto));
        if upto > 0 && counts.await.is_ok() {
            // An error means that the core is gone.
            let _ = self.raft.trigger().purge_log(upto).await;
        }
    }

    /// Up to where the log is purged for its bytes, if it holds too many; never beyond `covered`. A leader keeps
    /// [`PATIENT`] times as much for a follower that does not have it yet.
    fn too_much(&self, covered: u64) -> Option<u64> {
        if self.checkpoints.transferring() {
            return None;
        }
        let all = self.host.options.log_keep_bytes;
        let own = all / 64;
        let beyond = |all, own| self.log.beyond(usize::try_from(own).unwrap_or(usize::MAX), all);
        let upto = match (beyond(all, own)?, self.slowest()) {
            (upto, Some(slowest)) if slowest < upto => {
                beyond(all.saturating_mul(PATIENT), own * PATIENT).unwrap_or(0).max(slowest)
            }
            (upto, _) => upto,
        };
        Some(upto.min(covered)).filter(|upto| *upto > 0)
    }

    /// The index that every follower has, if this node leads.
    fn slowest(&self) -> Option<u64> {
        use openraft::async_runtime::watch::WatchReceiver;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let followers = metrics.replication.as_ref()?;
        followers.values().map(|at| at.as_ref().map_or(0, |at| at.index)).min()
    }

    async fn purge_all(&self) -> Result<u64, RaftError> {
        let Some(mark) = self.checkpoints.last() else { return Ok(0) };
        let upto = mark.index();
        self.until("the checkpoint to count", PURGE, |m| m.snapshot.is_some_and(|id| id.index >= upto))
            .await?;
        let stopped = |_| RaftError::Stopped { group: self.id };
        self.raft.trigger().purge_log(upto).await.map_err(stopped)?;
        self.until("the purge", PURGE, |m| m.purged.is_some_and(|id| id.index >= upto)).await?;
        match timeout(PURGE, self.log.settle_all()).await {
            Ok(Ok(())) => Ok(upto),
            Ok(Err(_closed)) => Err(RaftError::Stopped { group: self.id }),
            Err(_late) => Err(RaftError::Timeout {
                group: self.id,
                what: "the purge in the database",
                ms: u64::try_from(PURGE.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    /// How many entries a follower is behind, if this node leads.
    fn behind(&self, id: RaftId) -> u64 {
        use openraft::async_runtime::watch::WatchReceiver;
        members::entries_behind(&self.raft.metrics().borrow_watched(), id)
    }

    /// Waits until openraft's metrics show something.
    async fn until(
        &self,
        what: &'static str,
        limit: Duration,
        shown: impl Fn(&openraft::RaftMetrics<TypeConfig>) -> bool + Send,
    ) -> Result<(), RaftError> {
        use openraft::metrics::WaitError;
        let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        match self.raft.wait(Some(limit)).metrics(shown, what).await {
            Ok(_) => Ok(()),
            Err(WaitError::Timeout(..)) => Err(RaftError::Timeout { group: self.id, what, ms }),
            Err(WaitError::ShuttingDown) => Err(RaftError::Stopped { group: self.id }),
        }
    }

    pub(crate) async fn stop(&self) {
        if self.stopped.is_cancelled() {
            return;
        }
        self.stopped.cancel();
        self.host.peers.serve(self.id, None);
        self.room_entries.close();
        self.room_bytes.close();
        match timeout(STOP, self.raft.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(group = self.id, %error, "the group's core did not end well"),
            Err(_) => tracing::error!(group = self.id, "the group's core did not end within {STOP:?}"),
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
    }
}

/// A group that is opened but not told to stop must not live on without an owner.
impl Drop for Inner {
    fn drop(&mut self) {
        if !self.stopped.is_cancelled() {
            self.stopped.cancel();
            self.host.peers.serve(self.id, None);
        }
    }
}

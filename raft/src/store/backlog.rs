//! Durable batches on their way to sled.
//!
//! Owns the batches that the journal holds and sled does not, bounded in bytes: a writer that is too far ahead waits.
//! The keeper takes the oldest and leaves `lag` bytes behind, so that entries have time to be purged and never reach
//! sled: a batch of which nothing is left in any log stays as a few numbers. Once nothing has come for a while the keeper takes
//! the rest as well: an idle node holds no log in memory. Must never drop one: until sled has flushed
//! it, it exists here and in the journal.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::types::GroupId;

use super::journal::format::Sealed;
use super::meta::{GroupMeta, index_after};
use super::tail::Group;

/// A durable batch.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    /// Bytes that it has in the journal.
    pub(crate) length: usize,
    /// None once nothing in it is part of a log any more: the metas are all that is left to settle.
    pub(crate) sealed: Option<Arc<Sealed>>,
    /// Every group it has a record of, as of it.
    pub(crate) metas: Vec<(GroupId, GroupMeta)>,
    /// The groups of which an operation ends in it, and their last one.
    pub(crate) ended: Vec<(Arc<Group>, u64)>,
    /// A truncation is settled from the batch itself.
    pub(crate) truncates: bool,
}

/// What the keeper takes.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// The oldest batches, in order.
    pub(crate) batches: Vec<Batch>,
    /// First index behind each group's purge point as of the newest durable batch, which is not among these as a rule.
    pub(crate) floors: BTreeMap<GroupId, u64>,
    /// Whose wait is over once these are settled.
    pub(crate) waiting: Vec<oneshot::Sender<()>>,
    /// Nothing has come for a while, and nothing is left.
    pub(crate) at_rest: bool,
}

impl Batch {
    /// Lets go of the bytes if every entry in them has been purged.
    pub(super) fn shed(&mut self, floors: &BTreeMap<GroupId, u64>) {
        let purged = |(group, meta): &(GroupId, GroupMeta)| {
            floors.get(group).is_some_and(|floor| index_after(meta.last) <= *floor)
        };
        if self.sealed.is_some() && !self.truncates && self.metas.iter().all(purged) {
            self.sealed = None;
        }
    }
}

/// Bounds and the thread-safe queue.
#[derive(Debug)]
pub(crate) struct Backlog {
    most: usize,
    /// Bytes of the newest batches that the keeper leaves here …
    lag: usize,
    /// … unless nothing has come for so long.
    rest: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    batches: VecDeque<Batch>,
    floors: BTreeMap<GroupId, u64>,
    bytes: usize,
    /// Bytes of the batches that the keeper has taken and not settled yet.
    taken: usize,
    kicked: bool,
    closed: bool,
    abandoned: bool,
    /// Number of the newest batch that is durable. The writer tells what is in it before it pushes it.
    durable: u64,
    /// Number of the newest batch that was pushed.
    pushed: u64,
    /// When that was, or when this began.
    pushed_at: Instant,
    /// Who waits until the batch of this number is settled, and with it all before it.
    waiting: Vec<(u64, oneshot::Sender<()>)>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            batches: VecDeque::new(),
            floors: BTreeMap::new(),
            bytes: 0,
            taken: 0,
            kicked: false,
            closed: false,
            abandoned: false,
            durable: 0,
            pushed: 0,
            pushed_at: Instant::now(),
            waiting: Vec::new(),
        }
    }
}

impl Backlog {
    /// At most `most` bytes, of which the keeper leaves `lag` alone until nothing has come for `rest`; `lag` is held below half
    /// of `most`.
    pub(crate) fn new(most: usize, lag: usize, rest: Duration) -> Self {
        Self { most, lag: lag.min(most / 2), rest, state: Mutex::default(), changed: Condvar::new() }
    }

    /// From so many bytes on the keeper does not wait for its time: half as much again as it leaves, so that it works
    /// seldom and on much.
    fn due(&self) -> usize {
        (self.lag + self.lag / 2).clamp(self.most / 4, self.most / 4 * 3)
    }

    /// Batch `number` is durable. To be called before anybody is told: who acts on what he was told, and asks for
    /// everything to be settled, means this batch too, though it may be long until there is room for it here.
    pub(crate) fn durable(&self, number: u64) {
        self.state.lock().durable = number;
    }

    /// Adds a batch, waiting for room. False when the store has stopped.
    pub(crate) fn push(&self, batch: Batch) -> bool {
        let mut state = self.state.lock();
        while state.bytes + state.taken >= self.most && !state.abandoned {
            state.kicked = true;
            self.changed.notify_all();
            self.changed.wait(&mut state);
        }
        if state.abandoned {
            return false;
        }
        state.bytes += batch.length;
        for (group, meta) in &batch.metas {
            if meta.purged.is_some() {
                state.floors.insert(*group, index_after(meta.purged));
            }
        }
        (state.pushed, state.pushed_at) = (batch.number, Instant::now());
        state.batches.push_back(batch);
        if state.bytes >= self.due() {
            self.changed.notify_all();
        }
        true
    }

    /// Waits until `pause` is over, the backlog is large, or somebody hurries; then what is older than the newest `lag`
    /// bytes, if that has become enough to be worth it, and everything once closed, at rest, if somebody waits for that, or if
    /// the journal is `pressed`: it can be full of less than is left alone here. None once closed and empty.
    ///
    /// Who waits for a batch that is not here yet goes on waiting: without its floors, what it purges would be settled.
    pub(crate) fn take(&self, pause: Duration, pressed: impl FnOnce() -> bool) -> Option<Taken> {
        let deadline = Instant::now() + pause;
        let mut state = self.state.lock();
        while !state.kicked && !state.closed && state.bytes < self.due() {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.kicked = false;
        if state.abandoned || (state.closed && state.batches.is_empty()) {
            return None;
        }
        let (pushed, waiting) = (state.pushed, std::mem::take(&mut state.waiting));
        let (ready, early): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(number, _)| *number <= pushed);
        state.waiting = early;
        let waiting: Vec<_> = ready.into_iter().map(|(_, settled)| settled).collect();
        let at_rest = state.pushed_at.elapsed() >= self.rest;
        let leave = match state.closed || at_rest || !waiting.is_empty() || pressed() {
            true => 0,
            false if self.lag > 0 && state.bytes < self.due() => state.bytes,
            false => self.lag,
        };
        let mut taken = Taken { batches: Vec::new(), floors: state.floors.clone(), waiting, at_rest };
        while state.bytes > leave
            && let Some(batch) = state.batches.pop_front()
        {
            state.bytes -= batch.length;
            state.taken += batch.length;
            taken.batches.push(batch);
        }
        state.batches.iter_mut().for_each(|batch| batch.shed(&taken.floors));
        if at_rest {
            state.batches.shrink_to_fit();
        }
        Some(taken)
    }

    /// The batches of the last `take` are in sled.
    pub(crate) fn settled(&self) {
        self.state.lock().taken = 0;
        self.changed.notify_all();
    }

    /// Resolves when everything that is durable now has been settled, with the keeper's next look after it was pushed; an
    /// error when the store has stopped.
    pub(crate) fn settle_all(&self) -> oneshot::Receiver<()> {
        let (settled, wait) = oneshot::channel();
        let mut state = self.state.lock();
        // Dropped, and so told, when nobody looks any more.
        if !state.closed {
            let durable = state.durable;
            state.waiting.push((durable, settled));
        }
        wait
    }

    /// Asks the keeper not to wait.
    pub(crate) fn hurry(&self) {
        self.state.lock().kicked = true;
        self.changed.notify_all();
    }

    /// No more batches come.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// After a fault.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        (state.closed, state.abandoned) = (true, true);
        state.waiting.clear();
        drop(state);
        self.changed.notify_all();
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.state.lock().abandoned
    }

    /// Whether hardly anything is left of the bound: well above what the keeper leaves here.
    pub(crate) fn nearly_full(&self) -> bool {
        self.bytes() >= (self.most / 16 * 15) as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        let state = self.state.lock();
        (state.bytes + state.taken) as u64
    }
}

#[cfg(test)]
#[path = "backlog_tests.rs"]
mod tests;

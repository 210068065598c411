//! Durable batches on their way to sled.
//!
//! Owns the batches that the journal holds and sled does not, bounded in bytes: a writer that is too far ahead waits.
//! The keeper takes them all at once. Must never drop one: until sled has flushed it, it exists here and in the journal.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::journal::format::Sealed;
use super::tail::Group;

/// A durable batch, with each group's last operation in it.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) sealed: Arc<Sealed>,
    pub(crate) groups: Vec<(Arc<Group>, u64)>,
}

impl AsRef<Sealed> for Batch {
    fn as_ref(&self) -> &Sealed {
        &self.sealed
    }
}

/// Bounds and the thread-safe queue.
#[derive(Debug)]
pub(crate) struct Backlog {
    most: usize,
    /// From here on the keeper does not wait for its time.
    hurry: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    batches: Vec<Batch>,
    bytes: usize,
    /// Bytes of the batches that the keeper has taken and not settled yet.
    taken: usize,
    kicked: bool,
    closed: bool,
    abandoned: bool,
}

impl Backlog {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, hurry: most / 4, state: Mutex::default(), changed: Condvar::new() }
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
        state.bytes += batch.sealed.bytes.len();
        state.batches.push(batch);
        if state.bytes >= self.hurry {
            self.changed.notify_all();
        }
        true
    }

    /// Waits until `pause` is over, the backlog is large, or somebody hurries; then everything there is. None once
    /// closed and empty.
    pub(crate) fn take(&self, pause: Duration) -> Option<Vec<Batch>> {
        let deadline = std::time::Instant::now() + pause;
        let mut state = self.state.lock();
        while !state.kicked && !state.closed && state.bytes < self.hurry {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.kicked = false;
        if state.abandoned || (state.closed && state.batches.is_empty()) {
            return None;
        }
        state.taken = std::mem::take(&mut state.bytes);
        Some(std::mem::take(&mut state.batches))
    }

    /// The batches of the last `take` are in sled.
    pub(crate) fn settled(&self) {
        self.state.lock().taken = 0;
        self.changed.notify_all();
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
        drop(state);
        self.changed.notify_all();
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.state.lock().abandoned
    }

    /// Whether three quarters of the bound are taken.
    pub(crate) fn nearly_full(&self) -> bool {
        self.bytes() >= (self.most / 4 * 3) as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        let state = self.state.lock();
        (state.bytes + state.taken) as u64
    }
}

//! What waits to be written to one connection: whole frames in order, bounded in bytes.
//!
//! Answers always find room, for there are never more of them than the window; large ones wait for [`Outbox::room`]
//! before they are even made. Pushes beyond the bound are refused, which makes their topic lag.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The queue of one connection.
pub(super) struct Outbox {
    frames: Mutex<Vec<Bytes>>,
    /// Bytes put in and not yet written to the socket.
    bytes: AtomicUsize,
    limit: usize,
    wake: Notify,
    written: Notify,
}

impl Outbox {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            frames: Mutex::default(),
            bytes: AtomicUsize::new(0),
            limit,
            wake: Notify::new(),
            written: Notify::new(),
        }
    }

    /// Puts an answer in; there is always room.
    pub(super) fn answer(&self, frame: Bytes) {
        self.bytes.fetch_add(frame.len(), Ordering::AcqRel);
        self.frames.lock().push(frame);
        self.wake.notify_one();
    }

    /// Puts pushes in, all or none.
    pub(super) fn push<'a>(&self, total: usize, frames: impl Iterator<Item = &'a Bytes>) -> bool {
        let mut queue = self.frames.lock();
        // Decided under the lock, so that two who push do not exceed the bound together.
        if self.bytes.load(Ordering::Acquire) + total > self.limit {
            return false;
        }
        self.bytes.fetch_add(total, Ordering::AcqRel);
        queue.extend(frames.cloned());
        drop(queue);
        self.wake.notify_one();
        true
    }

    /// Takes everything, for the writer.
    pub(super) fn take(&self) -> Vec<Bytes> {
        std::mem::take(&mut *self.frames.lock())
    }

    /// The writer has written so many bytes.
    pub(super) fn written(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.written.notify_waiters();
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// More waits than may: no further request is read from this connection.
    pub(super) fn is_full(&self) -> bool {
        self.bytes() > self.limit
    }

    /// Waits until at most half of the bound is taken.
    pub(super) async fn room(&self) {
        loop {
            let written = self.written.notified();
            tokio::pin!(written);
            written.as_mut().enable();
            if self.bytes() <= self.limit / 2 {
                return;
            }
            written.await;
        }
    }

    /// Something has been put in, or [`Outbox::wake`] was called.
    pub(super) async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Makes the writer look again.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }
}

//! What waits to be written to one connection: whole frames in order, bounded in bytes.
//!
//! Answers always find room, for there are never more of them than the window; large ones wait for [`Outbox::room`]
//! before they are even made. Pushes beyond the bound are refused, which makes their topic lag.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rookery_wire::{HEADER_BYTES, Kind};
use tokio::sync::Notify;

/// Where a frame's kind stands, and where its body begins.
pub(super) const KIND_AT: usize = 5;
pub(super) const FRAME_HEADER: usize = 4 + HEADER_BYTES;

/// How much longer than a short message its tombstone may be, bytes.
const TOMBSTONE: usize = 256;

/// The queue of one connection.
pub struct Outbox {
    frames: Mutex<VecDeque<Bytes>>,
    /// Bytes put in and not yet written to the socket.
    bytes: AtomicUsize,
    limit: usize,
    wake: Notify,
    written: Notify,
}

impl Outbox {
    /// Empty; pushes that would make it hold more than `limit` bytes are refused.
    pub fn new(limit: usize) -> Self {
        Self {
            frames: Mutex::default(),
            bytes: AtomicUsize::new(0),
            limit,
            wake: Notify::new(),
            written: Notify::new(),
        }
    }

    /// Puts an answer in; there is always room.
    pub fn answer(&self, frame: Bytes) {
        self.bytes.fetch_add(frame.len(), Ordering::AcqRel);
        self.frames.lock().push_back(frame);
        self.wake.notify_one();
    }

    /// Puts pushes in, all or none.
    pub fn push<'a>(&self, total: usize, frames: impl Iterator<Item = &'a Bytes>) -> bool {
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

    /// Puts something in that is worth nothing later, if at most half of the bound is taken by then: it crowds out no push.
    pub(super) fn spare(&self, frame: &Bytes) -> bool {
        self.bytes() + frame.len() <= self.limit / 2 && self.push(frame.len(), std::iter::once(frame))
    }

    /// Puts a frame in the place of one that waits and says the same up to `known` bytes behind the header: which session
    /// and which seq.
    pub(super) fn replace(&self, frame: &Bytes, known: usize) {
        let same = KIND_AT..FRAME_HEADER;
        let names = FRAME_HEADER..FRAME_HEADER + known;
        for waiting in self.frames.lock().iter_mut() {
            // A tombstone is as long as a few names; what was edited at length takes no room that is not there, and its
            // signal makes the client pull it.
            let longer = frame.len().saturating_sub(waiting.len());
            let fits = longer <= TOMBSTONE || self.bytes() + longer <= self.limit;
            if fits
                && waiting.get(same.clone()) == frame.get(same.clone())
                && waiting.get(names.clone()) == frame.get(names.clone())
            {
                self.bytes.fetch_add(frame.len(), Ordering::AcqRel);
                self.bytes.fetch_sub(waiting.len(), Ordering::AcqRel);
                *waiting = frame.clone();
            }
        }
    }

    /// Lets go the frames of a kind that wait and whose body begins with `names`.
    pub(super) fn discard(&self, kind: Kind, names: &[u8]) {
        let mut freed = 0;
        self.frames.lock().retain(|waiting| {
            let body = waiting.get(FRAME_HEADER..).unwrap_or_default();
            let goes = waiting.get(KIND_AT) == Some(&(kind as u8)) && body.starts_with(names);
            freed += if goes { waiting.len() } else { 0 };
            !goes
        });
        if freed > 0 {
            self.written(freed);
        }
    }

    /// Takes what comes next, about `most` bytes of it, for the writer. What it has taken cannot be replaced any more, so it
    /// is to take no more than it writes at once.
    pub fn take(&self, most: usize) -> Vec<Bytes> {
        let mut frames = self.frames.lock();
        let mut bytes = 0;
        let fits = |frame: &&Bytes| {
            let more = bytes < most;
            bytes += frame.len();
            more
        };
        let count = frames.iter().take_while(fits).count();
        frames.drain(..count).collect()
    }

    /// Nothing waits for the writer.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.lock().is_empty()
    }

    /// The writer has written so many bytes.
    pub fn written(&self, bytes: usize) {
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

#[cfg(test)]
mod tests {
    use rookery_wire::frame::frame_bytes;
    use rookery_wire::{GroupId, SessionId};

    use super::*;

    fn frame(group: &str, seq: u64, content: &str) -> (Bytes, usize) {
        let session = SessionId::group(GroupId::new(group).unwrap());
        let known = rookery_wire::encode(&(&session, seq)).len();
        (frame_bytes(Kind::Message, 0, &(session, seq, rookery_wire::Blob::from(content))), known)
    }

    #[test]
    fn what_waits_is_replaced_where_session_and_seq_are_the_same_and_nowhere_else() {
        let outbox = Outbox::new(1 << 20);
        let waiting = [("team", 7), ("team", 8), ("teams", 8), ("team", 80)]
            .map(|(group, seq)| frame(group, seq, "a secret"));
        assert!(outbox.push(0, waiting.iter().map(|(frame, _)| frame)));
        outbox.bytes.store(waiting.iter().map(|(frame, _)| frame.len()).sum(), Ordering::Release);
        let (tombstone, known) = frame("team", 8, "");
        outbox.replace(&tombstone, known);
        let left = outbox.bytes();
        let first = outbox.take(1);
        assert_eq!(first, waiting[..1].iter().map(|(frame, _)| frame.clone()).collect::<Vec<_>>());
        let frames = [first, outbox.take(usize::MAX)].concat();
        assert_eq!(frames[1], tombstone);
        for at in [0, 2, 3] {
            assert_eq!(frames[at], waiting[at].0);
        }
        assert_eq!(left, frames.iter().map(Bytes::len).sum::<usize>());
    }

    #[test]
    fn what_is_let_go_is_of_one_session_and_one_kind() {
        let outbox = Outbox::new(1 << 20);
        let waiting = [("team", 7), ("teams", 8), ("tea", 8), ("team", 9)]
            .map(|(group, seq)| frame(group, seq, "a secret").0);
        let session = SessionId::group(GroupId::new("team").unwrap());
        let answer = frame_bytes(Kind::Ack, 3, &session);
        assert!(outbox.push(waiting.iter().map(Bytes::len).sum(), waiting.iter()));
        outbox.answer(answer.clone());
        outbox.discard(Kind::Message, &rookery_wire::encode(&session));
        let [_, teams, tea, _] = waiting;
        let left = outbox.bytes();
        assert_eq!(outbox.take(usize::MAX), [teams.clone(), tea.clone(), answer.clone()]);
        assert_eq!(left, teams.len() + tea.len() + answer.len());
    }
}

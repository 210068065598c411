//! A state machine that keeps what was applied, in order, and skips what it has.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use rookery_raft::{Committed, Fault, Mark, SnapshotReader, SnapshotWriter, StateMachine};

use super::Answer;

#[derive(Default)]
struct State {
    entries: Vec<(u64, Bytes)>,
    mark: Option<Mark>,
}

/// The machine. Entries are the whole state; a checkpoint is kept in `saved`.
#[derive(Default)]
pub(crate) struct ListMachine {
    state: Mutex<State>,
    at_open: Option<Mark>,
    pub(crate) leadership: Mutex<Vec<Option<u64>>>,
    /// Batches applied.
    pub(crate) batches: AtomicUsize,
    pub(crate) installs: AtomicUsize,
    pub(crate) snapshots_written: AtomicUsize,
    /// `apply` returns a fault.
    pub(crate) broken: AtomicBool,
    /// `apply` panics.
    pub(crate) panics: AtomicBool,
    /// Payload bytes per snapshot chunk are padded with this many.
    pub(crate) padding: AtomicUsize,
    /// Installations begun.
    pub(crate) installing: AtomicUsize,
    /// `install_snapshot` waits while set.
    pub(crate) stall_install: AtomicBool,
}

impl ListMachine {
    /// What a machine looks like that finds a checkpoint of an earlier life.
    pub(crate) fn restored(entries: Vec<(u64, Bytes)>, mark: Option<Mark>) -> Self {
        let state = State { entries, mark: mark.clone() };
        Self { state: Mutex::new(state), at_open: mark, ..Self::default() }
    }

    /// A checkpoint: everything, and the mark.
    pub(crate) fn checkpoint(&self) -> (Vec<(u64, Bytes)>, Option<Mark>) {
        let state = self.state.lock();
        (state.entries.clone(), state.mark.clone())
    }

    pub(crate) fn payloads(&self) -> Vec<Bytes> {
        self.state.lock().entries.iter().map(|(_, payload)| payload.clone()).collect()
    }

    pub(crate) fn indices(&self) -> Vec<u64> {
        self.state.lock().entries.iter().map(|(index, _)| *index).collect()
    }

    pub(crate) fn mark_now(&self) -> Option<Mark> {
        self.state.lock().mark.clone()
    }
}

impl StateMachine for ListMachine {
    type Waiter = Answer;

    fn mark(&self) -> Option<Mark> {
        self.at_open.clone()
    }

    async fn apply(&self, entries: Vec<Committed<Answer>>, mark: Mark) -> Result<(), Fault> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(Fault::new("broken on purpose"));
        }
        assert!(!self.panics.load(Ordering::Relaxed), "panics on purpose");
        self.batches.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        for Committed { index, payload, waiter, .. } in entries {
            if state.entries.last().is_none_or(|(last, _)| *last < index) {
                state.entries.push((index, payload));
            }
            if let Some(Answer(tx)) = waiter {
                let _ = tx.send(Ok(index));
            }
        }
        assert!(state.mark.as_ref().is_none_or(|old| old.index() < mark.index()), "marks move forward");
        state.mark = Some(mark);
        Ok(())
    }

    async fn write_snapshot(&self, out: SnapshotWriter) -> Result<(), Fault> {
        self.snapshots_written.fetch_add(1, Ordering::Relaxed);
        let entries = self.state.lock().entries.clone();
        let padding = self.padding.load(Ordering::Relaxed);
        for (index, payload) in entries {
            let mut chunk = BytesMut::new();
            chunk.put_u64(index);
            chunk.put_u32(payload.len() as u32);
            chunk.extend_from_slice(&payload);
            chunk.put_bytes(0, padding);
            out.chunk(chunk.freeze()).await?;
        }
        Ok(())
    }

    async fn install_snapshot(&self, mark: Mark, mut input: SnapshotReader) -> Result<(), Fault> {
        self.installing.fetch_add(1, Ordering::Relaxed);
        while self.stall_install.load(Ordering::Relaxed) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let mut fresh = VecDeque::new();
        while let Some(mut chunk) = input.next().await? {
            let index = chunk.get_u64();
            let len = chunk.get_u32() as usize;
            fresh.push_back((index, chunk.split_to(len)));
        }
        *self.state.lock() = State { entries: fresh.into(), mark: Some(mark) };
        self.installs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn leadership(&self, leading: Option<u64>) {
        self.leadership.lock().push(leading);
    }
}

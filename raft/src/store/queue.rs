//! The way from the groups to the writer.
//!
//! Owns the operations that wait for the journal, bounded in bytes by a semaphore whose permits travel with them until
//! they are durable. Order in is order on disk. Must never lose or reorder an operation: votes and entries of one group
//! stay as they were given.

use std::sync::Arc;
use std::time::Duration;

use openraft::storage::IOFlushed;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::types::{Entry, LogId, TypeConfig, Vote};

use super::error::StoreError;
use super::record::{HEAD, entry_size};
use super::tail::Group;

/// Bytes that may wait for the journal, in KiB (the unit of the permits).
const WAITING_KIB: u32 = 64 * 1024;
/// How long an append waits for room before the group is told that the disk stands still.
const ROOM_DEADLINE: Duration = Duration::from_secs(60);

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Work {
    Append(Vec<Entry>),
    Vote(Vote),
    Truncate(Option<LogId>),
    Purge(LogId),
    /// Only carry the group's commit note.
    Note,
}

/// Whom to tell once it is durable.
pub(crate) enum Done {
    Flushed(IOFlushed<TypeConfig>),
    Reply(oneshot::Sender<()>),
    Nobody,
}

impl Done {
    pub(crate) fn tell(self) {
        match self {
            Self::Flushed(callback) => callback.io_completed(Ok(())),
            // Nobody waits any more: the group was stopped meanwhile.
            Self::Reply(reply) => drop(reply.send(())),
            Self::Nobody => {}
        }
    }
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Done")
    }
}

/// One operation of one group.
#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) group: Arc<Group>,
    pub(crate) work: Work,
    /// The commit point that travels with it, in front of it. Taken when the operation is made: every entry that it covers is in
    /// an operation before this one then, and in no later batch.
    pub(crate) committed: Option<LogId>,
    /// The group's own number of this operation.
    pub(crate) number: u64,
    pub(crate) done: Done,
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

impl Op {
    /// Bytes of its records, but for a commit note that may travel with it.
    pub(crate) fn bytes(&self) -> usize {
        match &self.work {
            Work::Append(entries) => entries.iter().map(entry_size).sum(),
            Work::Vote(_) | Work::Truncate(_) | Work::Purge(_) | Work::Note => HEAD,
        }
    }
}

/// Bounded, many in, one out.
#[derive(Debug)]
pub(crate) struct Queue {
    room: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    ops: Vec<Op>,
    closed: bool,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            room: Arc::new(Semaphore::new(WAITING_KIB as usize)),
            waiting: Mutex::default(),
            arrived: Condvar::new(),
        }
    }

    /// Waits for room for `bytes`, before anything of the operation is visible.
    pub(crate) async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, StoreError> {
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(WAITING_KIB);
        match tokio::time::timeout(ROOM_DEADLINE, self.room.clone().acquire_many_owned(kib)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_closed)) => Err(StoreError::Closed),
            Err(_late) => Err(StoreError::Busy("the journal's queue")),
        }
    }

    /// Adds an operation. After `close` it is given back.
    pub(crate) fn push(&self, op: Op) -> Result<(), Box<Op>> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(Box::new(op));
        }
        let idle = waiting.ops.is_empty();
        waiting.ops.push(op);
        drop(waiting);
        if idle {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Everything that waits, in order; blocks for the first. False when closed and empty.
    pub(crate) fn take(&self, out: &mut Vec<Op>) -> bool {
        let mut waiting = self.waiting.lock();
        while waiting.ops.is_empty() && !waiting.closed {
            self.arrived.wait(&mut waiting);
        }
        std::mem::swap(&mut waiting.ops, out);
        !out.is_empty()
    }

    /// No more operations; what waits is still done.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.room.close();
        self.arrived.notify_all();
    }

    /// After a fault: what waits is dropped untold (its callers see a closed store).
    pub(crate) fn abandon(&self) {
        self.close();
        self.waiting.lock().ops.clear();
    }

    /// Whether three quarters of the bound are taken.
    pub(crate) fn nearly_full(&self) -> bool {
        self.waiting_bytes() >= u64::from(WAITING_KIB) * 1024 / 4 * 3
    }

    /// Bytes waiting, about.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        (WAITING_KIB as usize).saturating_sub(self.room.available_permits()) as u64 * 1024
    }
}

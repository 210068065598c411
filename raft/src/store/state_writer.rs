//! The thread that alone writes `state` (R3).
//!
//! Owns the queue of batches, syncs and drops, in the order given. Syncs that wait together share one flush, which
//! follows every batch given before them. Must never answer a sync before the flush has returned, and never go on after
//! one that failed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::fault::{FaultPolicy, Step, StepHook};
use super::state_db::StateDb;

/// Commands that may wait; each holds one permit of the semaphore in front of the channel.
pub(crate) const WAITING: usize = 4096;
/// Commands taken between two looks at the syncs.
const TURN: usize = 1024;
/// Unflushed bytes after which the writer flushes unasked.
const DIRTY_BYTES: usize = 32 << 20;
/// An unasked flush of what little is dirty.
const IDLE_FLUSH: Duration = Duration::from_secs(5);
/// A database at rest is opened anew once this part of what makes a busy one do so was written.
pub(crate) const REST_PART: usize = 16;

/// One thing to do.
pub(crate) enum Command {
    Apply { map: Arc<str>, changes: Vec<(Bytes, Option<Bytes>)>, bytes: usize, done: oneshot::Sender<()> },
    Make { map: Arc<str>, done: crossbeam_channel::Sender<()> },
    Drop { map: Arc<str>, done: oneshot::Sender<()> },
    Sync { done: oneshot::Sender<()> },
}

/// A command with its place in the bounded queue.
pub(crate) type Queued = (Command, Option<OwnedSemaphorePermit>);

/// The thread's state.
pub(crate) struct StateWriter {
    pub(crate) db: Arc<StateDb>,
    pub(crate) commands: Receiver<Queued>,
    /// Bytes written after which the database is opened anew.
    pub(crate) reopen_after: usize,
    /// Nobody wrote for so long: the database is at rest.
    pub(crate) rest: Duration,
    pub(crate) policy: FaultPolicy,
    pub(crate) steps: StepHook,
    pub(crate) dirty: usize,
    pub(crate) written: usize,
    pub(crate) syncs: Vec<oneshot::Sender<()>>,
    pub(crate) drops: VecDeque<(Arc<str>, oneshot::Sender<()>)>,
}

impl StateWriter {
    /// Runs until every sender is gone, then flushes; or until a fault.
    pub(crate) fn run(mut self) {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work()));
        let reason = match ended {
            Ok(Ok(())) => return self.db.close(),
            Ok(Err(e)) => format!("writing the state database failed: {e}"),
            Err(_panic) => "the writer of the state database panicked".to_owned(),
        };
        self.policy.fault(&reason);
    }

    fn work(&mut self) -> std::io::Result<()> {
        let mut heard = Instant::now();
        loop {
            let first = if self.drops.is_empty() {
                match self.commands.recv_timeout(IDLE_FLUSH.min(self.rest)) {
                    Ok(command) => Some(command),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            } else {
                self.commands.try_recv().ok()
            };
            let idle = first.is_none() && self.drops.is_empty();
            let more = first.into_iter().chain(self.commands.try_iter().take(TURN)).collect::<Vec<_>>();
            for (command, _room) in more {
                self.execute(command)?;
            }
            self.drop_some()?;
            if !self.syncs.is_empty() || self.dirty >= DIRTY_BYTES || (idle && self.dirty > 0) {
                self.flush()?;
            }
            if !idle {
                heard = Instant::now();
            } else if heard.elapsed() >= self.rest {
                self.reopen_beyond(self.reopen_after / REST_PART)?;
            }
        }
        self.flush()
    }

    fn execute(&mut self, command: Command) -> std::io::Result<()> {
        match command {
            Command::Apply { map, changes, bytes, done } => {
                self.db.apply(&map, &changes)?;
                self.dirty += bytes;
                let _ = done.send(());
            }
            Command::Make { map, done } => {
                self.db.make_map(&map)?;
                self.dirty += 1;
                let _ = done.send(());
            }
            Command::Drop { map, done } => self.drops.push_back((map, done)),
            Command::Sync { done } => self.syncs.push(done),
        }
        Ok(())
    }

    fn drop_some(&mut self) -> std::io::Result<()> {
        let Some((map, done)) = self.drops.pop_front() else { return Ok(()) };
        self.dirty += 1;
        if self.db.drop_slice(&map)? {
            let _ = done.send(());
        } else {
            self.drops.push_front((map, done));
        }
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.dirty > 0 {
            self.db.flush()?;
            self.steps.at(Step::StateFlushed);
        }
        self.written += std::mem::take(&mut self.dirty);
        for sync in self.syncs.drain(..) {
            let _ = sync.send(());
        }
        self.reopen_beyond(self.reopen_after)
    }

    /// Gets memory back if so many bytes were written since that was done.
    fn reopen_beyond(&mut self, bytes: usize) -> std::io::Result<()> {
        if self.written >= bytes {
            self.written = 0;
            self.db.reopen()?;
            self.steps.at(Step::StateReopened);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use crate::store::fault::{Step, StepHook};
    use crate::store::{Batch, Store, StoreOptions};

    /// For what must happen.
    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_database_at_rest_gives_back_the_memory_of_what_was_written() {
        let temp = tempfile::tempdir().unwrap();
        let (told, mut reopened) = tokio::sync::mpsc::channel(1);
        let mut options = StoreOptions::new(temp.path());
        // Opened anew after 16 MiB, or after 1 when it is at rest.
        options.sled_cache_bytes = 4 << 20;
        options.rest = Duration::from_millis(200);
        options.steps = StepHook::new(move |step| {
            if step == Step::StateReopened {
                let _ = told.try_send(());
            }
        });
        let store = Store::open(options).unwrap();
        let map = store.map("m").unwrap();
        for key in 0..20u8 {
            let mut batch = Batch::default();
            batch.put(Bytes::from(vec![key]), Bytes::from(vec![key; 100 << 10]));
            map.apply(batch).await.unwrap();
        }
        tokio::time::timeout(LIMIT, reopened.recv()).await.expect("it is opened anew").unwrap();
        let last = map.read(|view| view.get(&[19])).await.unwrap().unwrap();
        assert_eq!(last, vec![19; 100 << 10]);
        store.close().await;
    }
}

//! Proposing: whatever waits becomes one log entry. No timer: under load entries grow, at rest they hold one command.

use std::sync::Arc;

use rookery_raft::Group;
use tokio::sync::{Semaphore, mpsc};

use super::api::{Answer, Origin, Submission};
use super::machine::{BUSY_HINT_MS, EntryWaiter};
use super::shared::Shared;
use crate::state::{At, Entry};

/// Batches of submissions that may wait; each holds what one lane had at one moment.
const QUEUE_BATCHES: usize = 1024;

/// Takes submissions for a shard.
#[derive(Clone)]
pub struct Proposer {
    queue: mpsc::Sender<Vec<Submission>>,
    waiting: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl Proposer {
    /// Starts the proposing task; it ends when the last `Proposer` is dropped.
    pub fn start(shared: Arc<Shared>, group: Group<EntryWaiter>) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, batches) = mpsc::channel(QUEUE_BATCHES);
        let waiting = Arc::new(Semaphore::new(shared.options.queue));
        let proposals = Proposals { queue: queue.downgrade(), waiting: waiting.clone() };
        // A shard has one proposer; were there a second, the first would go on.
        let _ = shared.proposals.set(proposals);
        let task = Task { shared: shared.clone(), group, batches, waiting: waiting.clone() };
        (Self { queue, waiting, shared }, tokio::spawn(task.run()))
    }

    /// Queues submissions, or answers them at once when there is no room (BUSY). Never blocks.
    pub fn submit(&self, mut batch: Vec<Submission>) {
        let room = self.waiting.available_permits().min(batch.len());
        let refused = batch.split_off(room);
        if batch.is_empty() {
            return self.refuse(refused);
        }
        if let Ok(permits) = self.waiting.try_acquire_many(room as u32) {
            match self.queue.try_send(batch) {
                // The task gives the permits back, one per command, when it takes the batch.
                Ok(()) => permits.forget(),
                Err(mpsc::error::TrySendError::Full(batch) | mpsc::error::TrySendError::Closed(batch)) => {
                    self.refuse(batch);
                }
            }
        } else {
            self.refuse(batch);
        }
        self.refuse(refused);
    }

    fn refuse(&self, batch: Vec<Submission>) {
        if batch.is_empty() {
            return;
        }
        let busy = |submission: Submission| {
            (submission.origin, Answer::Again { leader: None, after_ms: BUSY_HINT_MS })
        };
        self.shared.answers.answer(self.shared.shard, batch.into_iter().map(busy).collect());
    }
}

/// A way to the proposer that does not keep it alive.
pub struct Proposals {
    queue: mpsc::WeakSender<Vec<Submission>>,
    waiting: Arc<Semaphore>,
}

impl Proposals {
    /// Queues submissions like [`Proposer::submit`]; nothing happens when the shard is stopping.
    pub fn submit(&self, shared: &Arc<Shared>, batch: Vec<Submission>) {
        if let Some(queue) = self.queue.upgrade() {
            Proposer { queue, waiting: self.waiting.clone(), shared: shared.clone() }.submit(batch);
        }
    }
}

struct Task {
    shared: Arc<Shared>,
    group: Group<EntryWaiter>,
    batches: mpsc::Receiver<Vec<Submission>>,
    waiting: Arc<Semaphore>,
}

impl Task {
    async fn run(mut self) {
        let in_flight = Arc::new(Semaphore::new(self.shared.options.entries_in_flight));
        let mut left: std::collections::VecDeque<Submission> = std::collections::VecDeque::new();
        loop {
            while left.is_empty() {
                match self.batches.recv().await {
                    Some(batch) => self.take(batch, &mut left),
                    None => return,
                }
            }
            // While this waits for the entries before, more submissions gather.
            let Ok(permit) = in_flight.clone().acquire_owned().await else { return };
            while left.len() < At::MAX_COMMANDS {
                match self.batches.try_recv() {
                    Ok(batch) => self.take(batch, &mut left),
                    Err(_) => break,
                }
            }
            let (payload, origins) = self.entry(&mut left);
            let waiter = EntryWaiter {
                origins,
                shard: self.shared.shard,
                answers: self.shared.answers.clone(),
                permit,
            };
            self.group.propose(payload, waiter).await;
        }
    }

    fn take(&self, batch: Vec<Submission>, left: &mut std::collections::VecDeque<Submission>) {
        self.waiting.add_permits(batch.len());
        left.extend(batch);
    }

    /// One entry from the front of what waits, within the bounds of bytes and commands; at least one command.
    fn entry(&self, left: &mut std::collections::VecDeque<Submission>) -> (bytes::Bytes, Vec<Origin>) {
        let mut bytes = 0;
        let fits = |submission: &Submission| {
            bytes += submission.command.len() + 4;
            bytes <= self.shared.options.entry_bytes
        };
        let count = left.iter().take(At::MAX_COMMANDS).map(fits).take_while(|fits| *fits).count().max(1);
        let capacity = left.iter().take(count).map(|submission| submission.command.len() + 4).sum();
        // Drawn before the proposal, so that all replicas salt alike (R10).
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&self.shared.entropy.u64().to_le_bytes());
        secret[8..].copy_from_slice(&self.shared.entropy.u64().to_le_bytes());
        // Asked after the clock was read: who finds it set meanwhile says no.
        let time_ms = self.shared.clock.unix_ms();
        let mut payload = Entry::begin(time_ms, (self.shared.time_agrees)(), secret, capacity);
        let mut origins = Vec::with_capacity(count);
        for submission in left.drain(..count) {
            Entry::push(&mut payload, &submission.command);
            origins.push(submission.origin);
        }
        (payload.freeze(), origins)
    }
}

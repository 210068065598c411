//! Proposing: whatever waits becomes one log entry. No timer: under load entries grow, at rest they hold one command. Only
//! sessions of which very much waits are made to pause ([`super::queue`]), and only beside others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rookery_raft::Group;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::api::{Answer, Origin, Submission};
use super::machine::{BUSY_HINT_MS, EntryWaiter};
use super::queue::Queue;
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
                // The task gives the permits back, one per command, when it proposes it.
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
        let mut queue = Queue::default();
        let mut gate = Gate::default();
        loop {
            while !self.look(&mut queue, &mut gate) {
                tokio::select! {
                    batch = self.batches.recv() => match batch {
                        Some(batch) => queue.take(batch, Instant::now()),
                        None => return self.give_back(queue.drain()),
                    },
                    () = gate.moves(), if gate.is_under_way() || queue.apart() > 0 => {}
                }
            }
            // While this waits for the entries before, more submissions gather.
            let Ok(permit) = in_flight.clone().acquire_owned().await else { return };
            while queue.len() < At::MAX_COMMANDS {
                match self.batches.try_recv() {
                    Ok(batch) => queue.take(batch, Instant::now()),
                    Err(_) => break,
                }
            }
            let picked = queue.pick(self.shared.options.entry_bytes, gate.is_open());
            if picked.submissions.is_empty() {
                // All that had waited is loud with what came since.
                continue;
            }
            self.shared.paced.fetch_add(picked.loud as u64, Ordering::Relaxed);
            let loud = (picked.loud > 0).then(|| gate.shut());
            // Only what leaves makes room: what is held back here stays within the bound on what waits.
            self.waiting.add_permits(picked.submissions.len());
            let (payload, origins) = self.entry(picked.submissions);
            let waiter = EntryWaiter {
                origins,
                shard: self.shared.shard,
                answers: self.shared.answers.clone(),
                flight: Flight { _permit: permit, _loud: loud },
            };
            self.group.propose(payload, waiter).await;
        }
    }

    /// Whether there is something to propose.
    fn look(&self, queue: &mut Queue, gate: &mut Gate) -> bool {
        let now = Instant::now();
        // Who does not lead holds nothing back: it has but to say so.
        let yields = self.shared.is_leading() && self.shared.traffic.others(now);
        queue.yields(yields, now);
        queue.is_ready(gate.is_open())
    }

    /// The shard stops: whoever waits is to ask elsewhere.
    fn give_back(&self, rest: Vec<Submission>) {
        let again = |submission: Submission| (submission.origin, Answer::Again { leader: None, after_ms: 0 });
        self.shared.answers.answer(self.shared.shard, rest.into_iter().map(again).collect());
    }

    /// One entry of these commands.
    fn entry(&self, submissions: Vec<Submission>) -> (bytes::Bytes, Vec<Origin>) {
        let capacity = submissions.iter().map(|submission| submission.command.len() + 4).sum();
        // Drawn before the proposal, so that all replicas salt alike (R10).
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&self.shared.entropy.u64().to_le_bytes());
        secret[8..].copy_from_slice(&self.shared.entropy.u64().to_le_bytes());
        // Asked after the clock was read: who finds it set meanwhile says no.
        let time_ms = self.shared.clock.unix_ms();
        let mut payload = Entry::begin(time_ms, (self.shared.time_agrees)(), secret, capacity);
        let mut origins = Vec::with_capacity(submissions.len());
        for submission in submissions {
            Entry::push(&mut payload, &submission.command);
            origins.push(submission.origin);
        }
        (payload.freeze(), origins)
    }
}

/// One entry under way; dropped when it is answered.
pub struct Flight {
    /// One of the entries in flight.
    pub _permit: OwnedSemaphorePermit,
    /// It holds commands of those who yield.
    pub _loud: Option<oneshot::Sender<()>>,
}

/// When the next commands of those who yield may go: one entry of them at a time, and after each a pause as long as it took. So
/// they leave half of the time to others, and what they take of it goes by how much the machine has to do.
#[derive(Default)]
struct Gate {
    under_way: Option<(Instant, oneshot::Receiver<()>)>,
    opens_at: Option<Instant>,
}

impl Gate {
    /// The pause at most, so that those who yield go on while a disk or a link is slow.
    const LONGEST: Duration = Duration::from_millis(50);

    fn is_open(&mut self) -> bool {
        if let Some((began, done)) = &mut self.under_way
            && matches!(done.try_recv(), Err(oneshot::error::TryRecvError::Closed))
        {
            let began = *began;
            self.ended(began);
        }
        self.under_way.is_none() && self.opens_at.is_none_or(|at| at <= Instant::now())
    }

    fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    fn ended(&mut self, began: Instant) {
        let now = Instant::now();
        self.opens_at = Some(now + (now - began).min(Self::LONGEST));
        self.under_way = None;
    }

    /// Until what is returned is dropped, and as long again.
    fn shut(&mut self) -> oneshot::Sender<()> {
        let (loud, done) = oneshot::channel();
        self.under_way = Some((Instant::now(), done));
        loud
    }

    /// Waits for the next change.
    async fn moves(&mut self) {
        if let Some((began, done)) = &mut self.under_way {
            // It is never sent to.
            let _ = done.await;
            let began = *began;
            self.ended(began);
        } else if let Some(at) = self.opens_at {
            sleep_until(at).await;
        }
    }
}

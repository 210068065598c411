//! The shard as Raft's state machine: decodes entries, has the actors execute them, streams and installs snapshots.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::Addr;
use parking_lot::Mutex;
use rookery_raft::{
    Committed, Fault, Mark, ProposeError, SnapshotReader, SnapshotWriter, StateMachine, Store, Waiter,
};
use rookery_wire::{ErrorBody, ErrorCode, Retry};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::actor::{Execute, ShardActor};
use super::api::{Answer, Answers, Origin};
use super::proposer::Flight;
use super::shared::Shared;
use super::traffic::Loudness;
use crate::plant::planted;
use crate::state::{At, Entry};

/// Who waits for the commands of an entry this node proposed, in their order.
pub struct EntryWaiter {
    /// One per command.
    pub origins: Vec<Origin>,
    /// The shard.
    pub shard: u32,
    /// Where answers go.
    pub answers: Arc<dyn Answers>,
    /// Freed when the entry is answered.
    pub flight: Flight,
}

impl Waiter for EntryWaiter {
    fn dropped(self, why: ProposeError) {
        let answer = match why {
            ProposeError::NotLeader { leader } => {
                Answer::Again { leader: leader.map(|leader| leader.node), after_ms: 0 }
            }
            ProposeError::LowDisk => Answer::Refused(ErrorBody::new(
                ErrorCode::DiskLow,
                "the node that leads this shard has less free disk space than storage.low_water_mib; nothing was stored",
            )),
            ProposeError::Busy { .. } => Answer::Refused(
                ErrorBody::new(
                    ErrorCode::Busy,
                    "the journal of the node that leads this shard is full until its databases have caught up; nothing was \
                     stored",
                )
                .with_retry(Retry::After(FULL_HINT_MS)),
            ),
            ProposeError::Unknown | ProposeError::Stopped => Answer::Again { leader: None, after_ms: 0 },
        };
        let answers = self.origins.into_iter().map(|origin| (origin, answer.clone())).collect();
        self.answers.answer(self.shard, answers);
    }
}

/// When a router comes back to a shard whose queue of proposals is full, milliseconds.
pub const BUSY_HINT_MS: u32 = 100;
/// When a client comes back whose request found a journal full, and for a while: milliseconds.
const FULL_HINT_MS: u32 = 250;

/// See the module's words.
pub struct Machine {
    pub(super) shared: Arc<Shared>,
    pub(super) actor: Addr<ShardActor>,
    pub(super) store: Store,
    /// The applied mark of the last durable checkpoint, at open.
    pub(super) opened_at: Option<Mark>,
    /// The mark of the last executed batch, for the next checkpoint.
    pub(super) applied: Mutex<Option<Mark>>,
    /// Generation of the map in use.
    pub(super) generation: Mutex<u64>,
    /// Held while a checkpoint is written, and while an installed snapshot takes the shard over: so a checkpoint finds
    /// mark, map and actors of one generation, and nobody writes to a map that is being dropped. Apply may wait for a
    /// checkpoint, and never runs beside an installation, so neither waits for the other.
    pub(super) turnover: tokio::sync::Mutex<()>,
    /// Whether one session of the shard is loud.
    loudness: Mutex<Loudness>,
}

impl Machine {
    /// Over what a shard shares, whose rows are those of `generation` and reflect the log up to `opened_at`.
    pub(super) fn new(
        shared: Arc<Shared>,
        actor: Addr<ShardActor>,
        store: Store,
        opened_at: Option<Mark>,
        generation: u64,
    ) -> Self {
        Self {
            shared,
            actor,
            store,
            applied: Mutex::new(opened_at.clone()),
            opened_at,
            generation: Mutex::new(generation),
            turnover: tokio::sync::Mutex::new(()),
            loudness: Mutex::default(),
        }
    }

    /// Waits until the map has caught up with what was applied: memory stays bounded when the disk is slow.
    async fn wait_for_room(&self) {
        while self.shared.unwritten.load(Ordering::Acquire) > self.shared.options.unwritten_bytes {
            let done = self.shared.checkpoint_done.notified();
            self.shared.checkpoint_wanted.notify_one();
            // The time-out only guards against a notice missed between the look and the wait.
            let _ = tokio::time::timeout(Duration::from_millis(100), done).await;
        }
    }
}

impl StateMachine for Machine {
    type Waiter = EntryWaiter;

    fn mark(&self) -> Option<Mark> {
        self.opened_at.clone()
    }

    async fn apply(&self, entries: Vec<Committed<EntryWaiter>>, mark: Mark) -> Result<(), Fault> {
        self.wait_for_room().await;
        let mut commands = Vec::new();
        let mut flights = Vec::with_capacity(entries.len());
        let now = Instant::now();
        for committed in entries {
            let entry = Entry::decode(committed.payload).map_err(|fault| {
                let what = format!(
                    "log entry {} of shard {} cannot be read: another version wrote it, or memory is bad; \
                     start the version that wrote it",
                    committed.index, self.shared.shard
                );
                Fault::with_source(what, fault)
            })?;
            if planted("apply-skips") && self.shared.node == 2 && committed.index.is_multiple_of(23) {
                continue;
            }
            let mut origins = committed.waiter.map(|waiter| {
                flights.push(waiter.flight);
                waiter.origins.into_iter()
            });
            if self.loudness.lock().is_quiet(entry.commands.len(), now) {
                self.shared.traffic.quiet(&entry.commands, now);
            }
            commands.reserve(entry.commands.len());
            for (position, command) in (0u32..).zip(entry.commands) {
                #[cfg(feature = "planted-bugs")]
                let command = super::plant::flipped(&self.shared, committed.index, command);
                let at = At {
                    shard: self.shared.shard,
                    index: committed.index,
                    position,
                    time_ms: entry.time_ms,
                    time_agrees: entry.time_agrees,
                    secret: entry.secret,
                };
                #[cfg(feature = "planted-bugs")]
                let at = super::plant::salted(&self.shared, at);
                commands.push((at, command, origins.as_mut().and_then(Iterator::next)));
            }
        }
        if !commands.is_empty() {
            let (done, executed) = oneshot::channel();
            self.actor.do_send(Execute { commands, done });
            executed
                .await
                .map_err(|_| Fault::new(format!("the actors of shard {} are gone", self.shared.shard)))?;
        }
        *self.applied.lock() = Some(mark);
        Ok(())
    }

    async fn write_snapshot(&self, out: SnapshotWriter) -> Result<(), Fault> {
        super::snapshot::write(&self.shared, out).await
    }

    async fn install_snapshot(&self, mark: Mark, input: SnapshotReader) -> Result<(), Fault> {
        super::snapshot::install(self, mark, input).await
    }

    fn leadership(&self, leading: Option<u64>) {
        if let Some(term) = leading {
            self.shared.leads_in(term);
        }
        self.shared.leading.store(leading.is_some(), Ordering::Release);
        self.shared.intents_moved.notify_one();
        self.shared.errands_moved.notify_one();
        tracing::info!(
            shard = self.shared.shard,
            term = leading,
            "{}",
            match leading {
                Some(_) => "leads",
                None => "follows",
            }
        );
    }
}

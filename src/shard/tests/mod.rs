//! A shard without a group around it: the test is the log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod batches;
mod carried;
mod cold;
mod compare;
mod ended;
mod expiry;
mod freed;
mod frozen;
mod idle;
mod over;
mod purged;
mod purging;
mod scattered;
mod tables;
mod turnover;
mod unread;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use parking_lot::Mutex;
use rookery_raft::{Committed, Fault, StateMachine, Store, SystemClock, probe};
use rookery_wire::{DeviceId, UserId};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::actor::ShardActor;
use super::api::{Answer, Answers, Origin};
use super::entity::open_map;
use super::handle::Surroundings;
use super::machine::{EntryWaiter, Machine};
use super::proposer::Flight;
use super::shared::{ShardOptions, Shared};
use super::tables::read_tables;
use crate::delivery::{Delivery, DeliveryLimits};
use crate::state::{Command, Entry, Introduction, SessionLimits};

/// What nothing here takes as long as.
const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps the answers, in the order in which they came.
#[derive(Default)]
struct Heard(Mutex<Vec<(Origin, Answer)>>);

impl Answers for Heard {
    fn answer(&self, _: u32, mut answers: Vec<(Origin, Answer)>) {
        self.0.lock().append(&mut answers);
    }
}

/// Bounds of a small shard that writes checkpoints when it is told to.
fn options() -> ShardOptions {
    ShardOptions {
        limits: SessionLimits { ring: 8, ring_bytes: 64 << 10 },
        checkpoint_every: PATIENCE,
        unwritten_bytes: 4 << 20,
        resident_idle: Duration::ZERO,
        resident_sessions: 16,
        resident_users: 16,
        entries_in_flight: 4,
        entry_bytes: 64 << 10,
        queue: 16,
        page_cache_bytes: 1 << 20,
        retention: crate::shard::retention::Defaults::default(),
        sweep_every: Duration::from_secs(1),
        compare_every: Duration::ZERO,
        sessions_per_user: 16,
        left_per_user: 16,
        users_only: false,
        relations_per_user: 16,
        requests_per_user: 16,
    }
}

/// The only shard of its cluster.
struct Shard {
    shared: Arc<Shared>,
    machine: Arc<Machine>,
    actor: Addr<ShardActor>,
    store: Store,
    heard: Arc<Heard>,
    faults: Arc<Mutex<Vec<Fault>>>,
}

impl Shard {
    /// Over the rows that the store has.
    async fn over(store: Store) -> Self {
        let faults = Arc::new(Mutex::new(Vec::new()));
        let told = faults.clone();
        let heard = Arc::new(Heard::default());
        let around = Surroundings {
            node: 1,
            shards: 1,
            store: store.clone(),
            delivery: Arc::new(Delivery::new(DeliveryLimits::default())),
            answers: heard.clone(),
            traffic: Arc::default(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(rookery_raft::OsEntropy),
            time_agrees: Arc::new(|| true),
            scattered: Arc::new(Semaphore::new(1)),
            stop: Arc::new(move |fault| told.lock().push(fault)),
        };
        let map = open_map(&store, 1, 0).expect("a map");
        let tables = read_tables(&map).await.expect("tables");
        let shared = Arc::new(Shared::new(1, options(), &around, map, tables));
        let actor = ShardActor::new(shared.clone()).start();
        let machine = Arc::new(Machine::new(shared.clone(), actor.clone(), store.clone(), None, 0));
        Self { shared, machine, actor, store, heard, faults }
    }

    /// Applies the entry `index` with this one command; returns the answer, if there was one at once.
    async fn apply(&self, index: u64, command: Command) -> Option<Answer> {
        self.apply_all(index, vec![command]).await.pop().flatten()
    }

    /// Applies entries from `first` on with a command each, as one batch; returns the answers that there were at once.
    async fn apply_all(&self, first: u64, commands: Vec<Command>) -> Vec<Option<Answer>> {
        let indices = first..first + commands.len() as u64;
        self.offer(first, commands).await.expect("applied");
        let mut heard = self.heard.0.lock();
        let answer = |index| {
            let at = heard.iter().position(|(to, _)| *to == Origin { node: 1, request: index })?;
            Some(heard.remove(at).1)
        };
        indices.map(answer).collect()
    }

    /// The same; the answers stay where they are heard.
    async fn offer(&self, first: u64, commands: Vec<Command>) -> Result<(), Fault> {
        let indices = first..first + commands.len() as u64;
        let origin = |index| Origin { node: 1, request: index };
        let committed = indices.clone().zip(commands).map(|(index, command)| {
            let mut entry = Entry::begin(1, true, [1; 16], 64);
            Entry::push(&mut entry, &command.encode());
            let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a permit");
            let (origins, answers) = (vec![origin(index)], self.heard.clone());
            let waiter =
                EntryWaiter { origins, shard: 1, answers, flight: Flight { _permit: permit, _loud: None } };
            Committed { index, term: 1, payload: entry.freeze(), waiter: Some(waiter) }
        });
        let mark = probe::mark((1, indices.end - 1));
        self.machine.apply(committed.collect(), mark).await
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a name")
}

fn says(nonce: u64) -> Introduction {
    Introduction { nonce, agent: "test".into(), platform: "".into(), issued_ms: None }
}

fn device() -> DeviceId {
    DeviceId::new("phone").expect("a name")
}

fn in_system(test: impl Future<Output = ()>) {
    actix::System::new().block_on(async { timeout(PATIENCE, test).await.expect("in time") });
}

//! A snapshot takes a shard over while others are at work on its rows: a checkpoint, and an actor that is being loaded.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::{Actor, Addr};
use dashmap::DashMap;
use parking_lot::{Mutex, RwLock};
use rookery_raft::{
    Committed, Fault, Mark, MemoryDisk, SnapshotReader, StateMachine, Store, StoreOptions, SystemClock, probe,
};
use rookery_wire::codec::Blob;
use rookery_wire::{DeviceId, UserId};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::actor::{FindUser, Reset, ShardActor};
use super::api::{Answer, Answers, Origin};
use super::checkpoint::{self, APPLIED_KEY};
use super::entity::{Look, map_name, open_map};
use super::machine::Machine;
use super::shared::{ShardOptions, Shared};
use crate::delivery::{Delivery, DeliveryLimits};
use crate::state::{Command, Entry, SessionLimits, User};

/// What nothing here takes as long as.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one is watched who must not be done.
const WATCHED: Duration = Duration::from_millis(200);

struct Nobody;

impl Answers for Nobody {
    fn answer(&self, _: u32, _: Vec<(Origin, Answer)>) {}
}

/// A shard without a group around it.
struct Shard {
    shared: Arc<Shared>,
    machine: Arc<Machine>,
    actor: Addr<ShardActor>,
    store: Store,
    faults: Arc<Mutex<Vec<Fault>>>,
}

impl Shard {
    fn over(store: Store) -> Self {
        let faults = Arc::new(Mutex::new(Vec::new()));
        let told = faults.clone();
        let options = ShardOptions {
            limits: SessionLimits { ring: 8, ring_bytes: 64 << 10 },
            checkpoint_every: PATIENCE,
            unwritten_bytes: 4 << 20,
            resident_sessions: 16,
            resident_users: 16,
            entries_in_flight: 4,
            entry_bytes: 64 << 10,
            queue: 16,
            page_cache_bytes: 1 << 20,
            sessions_per_user: 16,
        };
        let shared = Arc::new(Shared {
            node: 1,
            shard: 1,
            shards: 1,
            options,
            map: RwLock::new(open_map(&store, 1, 0).expect("a map")),
            rows_lock: tokio::sync::RwLock::new(()),
            table: DashMap::new(),
            sessions: DashMap::new(),
            users: DashMap::new(),
            dirty: Mutex::new(HashSet::new()),
            intents: Mutex::new(BTreeSet::new()),
            intents_moved: Notify::new(),
            unwritten: AtomicUsize::new(0),
            checkpoint_wanted: Notify::new(),
            checkpoint_done: Notify::new(),
            leading: AtomicBool::new(false),
            term: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            delivery: Arc::new(Delivery::new(DeliveryLimits::default())),
            answers: Arc::new(Nobody),
            proposals: OnceLock::new(),
            outbound: OnceLock::new(),
            clock: Arc::new(SystemClock),
            stop: Arc::new(move |fault| told.lock().push(fault)),
        });
        let actor = ShardActor::new(shared.clone()).start();
        let machine = Arc::new(Machine {
            shared: shared.clone(),
            actor: actor.clone(),
            store: store.clone(),
            opened_at: None,
            applied: Mutex::new(None),
            generation: Mutex::new(0),
            turnover: tokio::sync::Mutex::new(()),
        });
        Self { shared, machine, actor, store, faults }
    }

    /// Registers a device of `ann`, so that a checkpoint has something to write.
    async fn apply(&self, index: u64) {
        let command = Command::Register {
            user: ann(),
            device: DeviceId::new("phone").expect("a name"),
            nonce: index,
            agent: Blob::from("test"),
        };
        let mut entry = Entry::begin(1, 64);
        Entry::push(&mut entry, &command.encode());
        let committed = Committed { index, term: 1, payload: entry.freeze(), waiter: None };
        self.machine.apply(vec![committed], probe::mark((1, index))).await.expect("applied");
    }
}

fn ann() -> UserId {
    UserId::new("ann").expect("a name")
}

fn in_system(test: impl Future<Output = ()>) {
    actix::System::new().block_on(async { timeout(PATIENCE, test).await.expect("in time") });
}

#[test]
fn an_installation_waits_for_the_checkpoint_under_way() {
    in_system(async {
        let shard = Shard::over(Store::in_memory(MemoryDisk::new(1)));
        shard.apply(5).await;
        // Someone reads an entity at one index: the checkpoint has taken its map and the rows, and cannot write them.
        let reader = shard.shared.rows_lock.read().await;
        let machine = shard.machine.clone();
        let mut checkpoint = tokio::task::spawn_local(async move { checkpoint::write(&machine, None).await });
        while !shard.shared.dirty.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        let machine = shard.machine.clone();
        let mut install = tokio::task::spawn_local(async move {
            machine.install_snapshot(probe::mark((1, 9)), SnapshotReader::of([])).await
        });
        let early = timeout(WATCHED, &mut install).await;
        assert!(early.is_err(), "installed under a checkpoint that still writes: {early:?}");
        assert_eq!(shard.machine.applied.lock().as_ref().map(Mark::index), Some(5), "not half of it either");
        drop(reader);
        let written = (&mut checkpoint).await.expect("no panic").expect("it had its map to the end");
        assert_eq!(written.as_ref().map(Mark::index), Some(5));
        install.await.expect("no panic").expect("installed");

        let map = shard.shared.map();
        assert_eq!(map.name(), map_name(1, 1));
        let mark = map.read(|view| view.get(&APPLIED_KEY)).await.expect("readable").expect("a mark");
        assert_eq!(Mark::from_bytes(&mark).expect("a mark").index(), 9, "no older one came after it");
        // And the next one goes on from there, in the new map.
        shard.apply(11).await;
        let next = checkpoint::write(&shard.machine, written.as_ref()).await.expect("written");
        assert_eq!(next.map(|mark| mark.index()), Some(11));
        assert!(shard.faults.lock().is_empty());
    });
}

#[test]
fn a_snapshot_under_the_load_of_an_entity_ends_the_actor_and_not_the_node() {
    in_system(async {
        let dir = tempfile::tempdir().expect("a folder");
        let mut options = StoreOptions::new(dir.path());
        options.read_threads = 1;
        options.free_disk_low_water = 0;
        let shard = Shard::over(Store::open(options).expect("a store"));
        let new = open_map(&shard.store, 1, 1).expect("a map");

        // The one thread that reads is held, so the load waits with the old map in hand.
        let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
        let map = shard.shared.map();
        let holding = tokio::task::spawn_local(async move {
            // An end of the channel releases it as well.
            map.read(move |_| Ok(held.recv().is_ok())).await
        });
        let address = shard.actor.send(FindUser(ann())).await.expect("an actor");
        let mut reader = tokio::task::spawn_local(address.send(Look::new(|user: &User| user.index())));
        // All on this thread, in turn: when the reader was watched for a while the actor has begun to load.
        assert!(timeout(WATCHED, &mut reader).await.is_err(), "it cannot be loaded yet");

        let reset = Reset { map: new, table: Vec::new(), intents: Vec::new() };
        shard.actor.send(reset).await.expect("reset");
        shard.store.drop_map(&map_name(1, 0)).await.expect("dropped");
        release.send(()).expect("somebody is held");
        assert!(holding.await.expect("no panic").expect("read"));

        let answer = reader.await.expect("no panic");
        assert!(answer.is_err(), "what is left of the old rows is no answer: {answer:?}");
        assert!(shard.faults.lock().is_empty(), "the node is well: {:?}", shard.faults.lock());
        // Whoever asks again is answered from the new rows.
        let address = shard.actor.send(FindUser(ann())).await.expect("an actor");
        let index = address.send(Look::new(|user: &User| user.index())).await;
        assert_eq!(index.expect("loaded"), 0);
        shard.store.close().await;
    });
}

//! A snapshot takes a shard over while others are at work on its rows: a checkpoint, and an actor that is being loaded. What
//! it replaced goes.

use std::time::Duration;

use rookery_raft::{Mark, MemoryDisk, SnapshotReader, StateMachine, Store, StoreOptions, probe};
use tokio::time::timeout;

use super::{Shard, device, in_system, says, user};
use crate::shard::actor::{FindUser, Reset};
use crate::shard::checkpoint::{self, APPLIED_KEY};
use crate::shard::entity::{Look, map_name, open_map};
use crate::shard::handle::drop_replaced;
use crate::shard::tables::Tables;
use crate::state::{Command, DeviceBounds, User};

/// How long one is watched who must not be done.
const WATCHED: Duration = Duration::from_millis(200);

/// Registers a device of `ann`, so that a checkpoint has something to write.
fn registration(nonce: u64) -> Command {
    Command::Register {
        user: user("ann"),
        device: device(),
        says: says(nonce),
        bounds: DeviceBounds::default(),
    }
}

#[test]
fn an_installation_waits_for_the_checkpoint_under_way() {
    in_system(async {
        let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
        shard.apply(5, registration(5)).await;
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
        shard.apply(11, registration(11)).await;
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
        let shard = Shard::over(Store::open(options).expect("a store")).await;
        let new = open_map(&shard.store, 1, 1).expect("a map");

        // The one thread that reads is held, so the load waits with the old map in hand.
        let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
        let map = shard.shared.map();
        let holding = tokio::task::spawn_local(async move {
            // An end of the channel releases it as well.
            map.read(move |_| Ok(held.recv().is_ok())).await
        });
        let address = shard.actor.send(FindUser(user("ann"))).await.expect("an actor");
        let mut reader = tokio::task::spawn_local(address.send(Look::new(|user: &User| user.index())));
        // All on this thread, in turn: when the reader was watched for a while the actor has begun to load.
        assert!(timeout(WATCHED, &mut reader).await.is_err(), "it cannot be loaded yet");

        let reset = Reset { map: new, tables: Tables::default() };
        shard.actor.send(reset).await.expect("reset");
        let store = shard.store.clone();
        let mut dropping = tokio::task::spawn_local(async move { store.drop_map(&map_name(1, 0)).await });
        assert!(timeout(WATCHED, &mut dropping).await.is_err(), "its tree is still read as the old map's");
        release.send(()).expect("somebody is held");
        dropping.await.expect("no panic").expect("dropped");
        assert!(holding.await.expect("no panic").expect("read"));

        let answer = reader.await.expect("no panic");
        assert!(answer.is_err(), "what is left of the old rows is no answer: {answer:?}");
        assert!(shard.faults.lock().is_empty(), "the node is well: {:?}", shard.faults.lock());
        // Whoever asks again is answered from the new rows.
        let address = shard.actor.send(FindUser(user("ann"))).await.expect("an actor");
        let index = address.send(Look::new(|user: &User| user.index())).await;
        assert_eq!(index.expect("loaded"), 0);
        shard.store.close().await;
    });
}

#[test]
fn the_generation_before_the_one_in_use_is_emptied() {
    in_system(async {
        let store = Store::in_memory(MemoryDisk::new(1));
        let rows = async |generation| {
            let map = open_map(&store, 1, generation).expect("a map");
            map.read(|view| view.range(&[], &[], 10, 1 << 10, false)).await.expect("rows").len()
        };
        for generation in 0..=2 {
            let mut batch = rookery_raft::Batch::default();
            batch.put(&b"key"[..], &b"value"[..]);
            open_map(&store, 1, generation).expect("a map").apply(batch).await.expect("applied");
        }
        drop_replaced(store.clone(), 1, 2).await;
        assert_eq!((rows(0).await, rows(1).await, rows(2).await), (0, 0, 1));
    });
}

//! The log against a plain model, through reopenings; small caches, so that sled serves most reads.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what went wrong by panicking"
)]

mod store_history;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_raft::probe::LogProbe;
use rookery_raft::{Batch, MemoryDisk, Store, StoreError};
use std::time::{Duration, Instant};
use store_history::{Act, Model, options, read_back};

#[test]
fn child() {
    store_history::child();
}

fn seed() -> u64 {
    let seed = std::env::var("ROOKERY_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("replay with ROOKERY_SEED={seed}");
    seed
}

async fn perform(log: &mut LogProbe, act: Act) {
    match act {
        Act::Append { term, first, payloads } => {
            log.append(term, first, payloads).await.unwrap().await.unwrap();
        }
        Act::Vote(term, node, committed) => log.vote((term, node, committed)).await.unwrap(),
        Act::Truncate(after) => log.truncate_after(after).await.unwrap(),
        Act::Purge(term, index) => log.purge((term, index)).await.unwrap(),
    }
}

/// A random part of the log, read in the bounded way.
async fn compare_a_part(log: &mut LogProbe, model: &Model, rng: &mut StdRng) {
    let Some((_, last)) = model.state.last else { return };
    let from = rng.random_range(0..last + 2);
    let to = rng.random_range(from..last + 3);
    let read = log.read_some(from, to).await.unwrap();
    let wanted: Vec<_> =
        model.as_entries().into_iter().filter(|(_, i, _)| (from..to).contains(i)).take(read.len()).collect();
    assert_eq!(read, wanted);
    let any = model.entries.range(from..to).next().is_some();
    assert_eq!(any, !read.is_empty(), "a bounded read of {from}..{to} must not be empty");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_on_disk_is_the_model() {
    let mut rng = StdRng::seed_from_u64(seed());
    let temp = tempfile::tempdir().unwrap();
    let mut models = [Model::default(), Model::default(), Model::default()];
    for life in 0..8 {
        let mut options = options(temp.path());
        options.entry_cache_bytes = [0, 20_000, 1 << 20][life % 3];
        options.keeper_pause = Duration::from_millis([1, 30, 3_600_000][life % 3]);
        options.settle_lag_bytes = [0, 60_000, 200_000][life / 3 % 3];
        let store = Store::open(options).unwrap();
        for (group, model) in (1..).zip(&models) {
            assert_eq!(&read_back(&store, group).await, model, "life {life}, group {group}");
        }
        for _ in 0..250 {
            let at = rng.random_range(0..models.len());
            let mut log = LogProbe::open(&store, at as u32 + 1).unwrap();
            let act = models[at].draw(&mut rng, 6000);
            models[at].apply(&act);
            perform(&mut log, act).await;
            compare_a_part(&mut log, &models[at], &mut rng).await;
        }
        for (group, model) in (1..).zip(&models) {
            assert_eq!(&read_back(&store, group).await, model, "life {life}, group {group}");
        }
        store.close().await;
    }
}

#[tokio::test]
async fn the_log_in_memory_is_the_model_and_a_crash_keeps_a_prefix() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let disk = MemoryDisk::new(9).with_latency(Duration::from_millis(1));
    let mut model = Model::default();
    for life in 0..30 {
        let store = Store::in_memory(disk.clone());
        assert_eq!(store.was_created(), life == 0);
        let mut log = LogProbe::open(&store, 1).unwrap();
        assert_eq!(read_back(&store, 1).await, model, "life {life}, seed {seed}");
        for _ in 0..20 {
            let act = model.draw(&mut rng, 300);
            model.apply(&act);
            perform(&mut log, act).await;
        }
        // A few appends that nobody waited for: any prefix of them may survive.
        let mut possible = vec![model.clone()];
        let mut acks = Vec::new();
        for _ in 0..rng.random_range(0..4) {
            let first = model.state.last.map_or(0, |(_, i)| i + 1);
            let term = model.state.last.map_or(1, |(t, _)| t);
            let act = Act::Append { term, first, payloads: vec![Bytes::from_static(b"unsynced")] };
            model.apply(&act);
            acks.push(log.append(term, first, vec![Bytes::from_static(b"unsynced")]).await.unwrap());
            possible.push(model.clone());
        }
        assert_eq!(disk.unsynced(), acks.len());
        let kept = rng.random_range(0..possible.len());
        disk.crash_keeping(kept);
        model = possible.swap_remove(kept);
        assert!(log.vote((1, 1, false)).await.is_err(), "a store from before the crash still writes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maps_are_ordered_checked_and_synced_alike_on_disk_and_in_memory() {
    let temp = tempfile::tempdir().unwrap();
    let disk = MemoryDisk::new(3);
    for round in 0..3 {
        let stores = [Store::open(options(temp.path())).unwrap(), Store::in_memory(disk.clone())];
        for store in &stores {
            let map = store.map("m").unwrap();
            if round == 0 {
                let mut batch = Batch::new();
                (0..300_u32).for_each(|n| batch.put(n.to_be_bytes().to_vec(), format!("value {n}")));
                assert_eq!((batch.len(), batch.is_empty()), (300, false));
                map.apply(batch).await.unwrap();
                let mut batch = Batch::new();
                batch.delete(7_u32.to_be_bytes().to_vec());
                batch.put(8_u32.to_be_bytes().to_vec(), "");
                map.apply(batch).await.unwrap();
                store.sync().await.unwrap();
                store.set_identity(Bytes::from_static(b"me")).await.unwrap();
            }
            assert_eq!(store.identity().unwrap(), b"me".as_slice());
            map.read(|view| {
                assert_eq!(view.get(&7_u32.to_be_bytes())?, None);
                assert_eq!(view.get(&8_u32.to_be_bytes())?.unwrap(), b"".as_slice());
                let up = view.range(&5_u32.to_be_bytes(), &290_u32.to_be_bytes(), 4, usize::MAX, false)?;
                let keys: Vec<_> =
                    up.iter().map(|(k, _)| u32::from_be_bytes(k.as_ref().try_into().unwrap())).collect();
                assert_eq!(keys, [5, 6, 8, 9]);
                let down = view.range(&5_u32.to_be_bytes(), &290_u32.to_be_bytes(), 3, usize::MAX, true)?;
                let keys: Vec<_> =
                    down.iter().map(|(k, _)| u32::from_be_bytes(k.as_ref().try_into().unwrap())).collect();
                assert_eq!(keys, [289, 288, 287]);
                assert_eq!(view.range(b"", b"", usize::MAX, 1, false)?.len(), 1, "the first always fits");
                assert_eq!(view.range(b"z", b"a", 9, 9, false)?.len(), 0);
                let mut seen = 0;
                view.for_each(b"", b"", &mut |_, _| {
                    seen += 1;
                    if seen == 10 {
                        std::ops::ControlFlow::Break(())
                    } else {
                        std::ops::ControlFlow::Continue(())
                    }
                })?;
                assert_eq!(seen, 10);
                Ok(())
            })
            .await
            .unwrap();
            store.map("old").unwrap();
            store.drop_map("old").await.unwrap();
            let mut batch = Batch::new();
            batch.put(vec![0; 1 << 20], "");
            assert!(matches!(map.apply(batch).await, Err(StoreError::TooLarge { .. })));
            store.close().await;
            assert!(matches!(map.apply(Batch::new()).await, Err(StoreError::Closed)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_map_is_empty_when_it_is_made_again_also_after_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let store = Store::open(options(temp.path())).unwrap();
        let other = store.map("other").unwrap();
        let map = store.map("generation 1").unwrap();
        assert_eq!(map.read(|view| view.range(b"", b"", 9, 9999, false)).await.unwrap(), []);
        for part in 0..10_u32 {
            let mut batch = Batch::new();
            (0..300_u32).for_each(|n| batch.put((part * 300 + n).to_be_bytes().to_vec(), vec![1; 50]));
            map.apply(batch).await.unwrap();
        }
        let mut batch = Batch::new();
        batch.put(vec![round], vec![round]);
        other.apply(batch).await.unwrap();
        store.sync().await.unwrap();
        store.drop_map("generation 1").await.unwrap();
        assert!(map.read(|view| view.get(b"x")).await.is_err(), "a handle of a dropped map still reads");
        let again = store.map("generation 1").unwrap();
        assert_eq!(again.read(|view| view.range(b"", b"", 9, 9999, false)).await.unwrap(), []);
        store.drop_map("generation 1").await.unwrap();
        // A map made now takes the tree that the dropped one left.
        assert_eq!(store.map("generation 2").unwrap().read(|view| view.get(b"x")).await.unwrap(), None);
        store.sync().await.unwrap();
        assert_eq!(
            other.read(|view| view.range(b"", b"", 9, 9999, false)).await.unwrap().len(),
            round as usize + 1
        );
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_go_round_and_memory_stays_bounded() {
    let temp = tempfile::tempdir().unwrap();
    let mut options = options(temp.path());
    options.entry_cache_bytes = 64 * 1024;
    let store = Store::open(options).unwrap();
    let mut log = LogProbe::open(&store, 1).unwrap();
    // Ten times the journal, purged as it goes.
    for n in 0..1000_u64 {
        log.append(1, n, vec![Bytes::from(vec![n as u8; 10_000])]).await.unwrap().await.unwrap();
        if n % 50 == 49 {
            log.purge((1, n - 30)).await.unwrap();
        }
    }
    let files = std::fs::read_dir(temp.path().join("journal")).unwrap().count();
    assert!((2..=4).contains(&files), "{files} segments");
    let deadline = Instant::now() + Duration::from_secs(5);
    while store.health().pending_bytes > 0 || store.health().cached_bytes > 64 * 1024 {
        assert!(Instant::now() < deadline, "{:?}", store.health());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let health = store.health();
    assert!(!health.journal_full && !health.low_disk && health.journal_total == 4 * 256 * 1024, "{health:?}");
    assert_eq!(log.read(0, u64::MAX).await.unwrap().len(), 30);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_journal_says_so_blocks_and_loses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let gate = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let mut options = options(temp.path());
    // The keeper stands still before its flush for as long as the gate is shut.
    let shut = gate.clone();
    options.steps = rookery_raft::StepHook::new(move |step| {
        while step == rookery_raft::Step::Applied && shut.load(std::sync::atomic::Ordering::SeqCst) {
            std::thread::yield_now();
        }
    });
    /// The keeper must be let go also when the test fails, or closing the store would wait for it.
    struct Open(std::sync::Arc<std::sync::atomic::AtomicBool>);
    impl Drop for Open {
        fn drop(&mut self) {
            self.0.store(false, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let store = Store::open(options).unwrap();
    let _open = Open(gate.clone());
    let mut log = LogProbe::open(&store, 1).unwrap();
    let mut acks = Vec::new();
    for n in 0..200_u64 {
        acks.push(tokio::spawn(log.append(1, n, vec![Bytes::from(vec![n as u8; 10_000])]).await.unwrap()));
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while !store.health().journal_full {
        assert!(Instant::now() < deadline, "{:?}", store.health());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(acks.iter().any(|ack| !ack.is_finished()), "more was acknowledged than the journal holds");
    gate.store(false, std::sync::atomic::Ordering::SeqCst);
    for ack in acks {
        tokio::time::timeout(Duration::from_secs(10), ack).await.unwrap().unwrap().unwrap();
    }
    assert_eq!(log.read(0, u64::MAX).await.unwrap().len(), 200);
    store.close().await;
    let again = Store::open(store_history::options(temp.path())).unwrap();
    assert_eq!(read_back(&again, 1).await.entries.len(), 200);
    again.close().await;
}

#[test]
fn two_openers_of_one_folder() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(options(temp.path())).unwrap();
    let error = Store::open(options(temp.path())).unwrap_err().to_string();
    assert!(error.contains("is in use by a running node"), "{error}");
    let id = store.store_id();
    drop(store);
    let again = Store::open(options(temp.path())).unwrap();
    assert!(!again.was_created() && again.store_id() == id && id != 0);
}

/// Two segments, and batches of which hardly two fit into one: the journal is full of less than the keeper leaves alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_of_few_large_batches_goes_round() {
    let temp = tempfile::tempdir().unwrap();
    let mut options = options(temp.path());
    options.journal_segments = 2;
    options.settle_lag_bytes = 128 << 10;
    let store = Store::open(options).unwrap();
    let mut log = LogProbe::open(&store, 1).unwrap();
    // A segment has room for 188 KiB. The third begins the second segment, the fourth needs the first again: its last
    // batch is the second, which nobody has had a reason to settle.
    for (index, kib) in (1..).zip([150, 8, 60, 150, 60, 150, 8, 60, 150, 60, 150]) {
        let durable = log.append(1, index, vec![Bytes::from(vec![7; kib << 10])]).await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), durable)
            .await
            .expect("the journal stands still")
            .unwrap();
    }
    store.close().await;
}

/// An append of several batches: until its last one it is nobody's operation, and still part of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_of_several_batches_stays_whole() {
    let temp = tempfile::tempdir().unwrap();
    let mut options = options(temp.path());
    options.journal_segments = 16;
    options.settle_lag_bytes = 1 << 20;
    let store = Store::open(options.clone()).unwrap();
    let mut log = LogProbe::open(&store, 1).unwrap();
    let payloads: Vec<Bytes> = (0..10).map(|n| Bytes::from(vec![n; 40 << 10])).collect();
    log.append(1, 1, payloads.clone()).await.unwrap().await.unwrap();
    // The keeper looks every 20 ms, and finds that of another group nothing is left.
    let mut other = LogProbe::open(&store, 2).unwrap();
    let end = Instant::now() + Duration::from_millis(200);
    let mut index = 0;
    while Instant::now() < end {
        index += 1;
        other.append(1, index, vec![Bytes::from_static(b"x")]).await.unwrap().await.unwrap();
        other.purge((1, index)).await.unwrap();
    }
    store.close().await;
    let store = Store::open(options).unwrap();
    let found = read_back(&store, 1).await.entries;
    let wanted = (1..).zip(payloads.into_iter().map(|payload| (1, payload))).collect();
    assert_eq!(found, wanted);
    store.close().await;
}

/// What a log needs no longer when the keeper comes to it is not written a second time, and the store says of how much that
/// was not so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_purged_in_time_is_never_settled_and_what_is_kept_is_counted() {
    let temp = tempfile::tempdir().unwrap();
    let mut options = options(temp.path());
    options.journal_segments = 64;
    options.settle_lag_bytes = 1 << 20;
    let store = Store::open(options).unwrap();
    let mut log = LogProbe::open(&store, 1).unwrap();
    let entry = || vec![Bytes::from(vec![7; 64 << 10])];
    for index in 1..=128 {
        log.append(1, index, entry()).await.unwrap().await.unwrap();
        if index % 4 == 0 {
            log.purge((1, index)).await.unwrap();
        }
    }
    assert_eq!(store.health().settled_bytes, 0, "of 8 MiB never more than 256 KiB were kept");
    for index in 129..=192 {
        log.append(1, index, entry()).await.unwrap().await.unwrap();
    }
    let end = Instant::now() + Duration::from_secs(20);
    while store.health().settled_bytes < 1 << 20 {
        assert!(Instant::now() < end, "{} of 4 MiB are settled", store.health().settled_bytes);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(store.health().settled_bytes < 5 << 20);
    store.close().await;
}

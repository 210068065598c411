//! Killed processes: at every step of a write, and at random moments. What was acknowledged is there, whole (G1).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what went wrong by panicking"
)]

mod store_history;

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::sync::{Mutex, mpsc::Receiver};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_raft::probe::LogProbe;
use rookery_raft::{Step, StepHook, Store};
use store_history::{Judge, Life, STEPS, listen, options, spawn};

/// Not a test of its own: the process that the others kill.
#[test]
fn child() {
    store_history::child();
}

fn seed() -> u64 {
    let seed = std::env::var("ROOKERY_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("replay with ROOKERY_SEED={seed}");
    seed
}

#[test]
fn killed_at_every_step_of_a_write() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let temp = tempfile::tempdir().unwrap();
    let mut judge = Judge::default();
    let mut stopped = 0;
    for nth in [1, 2, 7] {
        for (step, name) in STEPS.into_iter().enumerate() {
            let life = Life { seed: rng.random(), stop: Some((step, nth)), acts: 120, most: 12_000 };
            let (said, status) = listen(spawn(temp.path(), &life), |_| {});
            stopped += u32::from(!status.success());
            let at = format!("{:?} for the {nth}. time, seed {seed}", name);
            assert!(said.done == status.success(), "{at}: ended by itself: {}", said.stderr);
            judge.judge(temp.path(), &life, &said).unwrap_or_else(|e| panic!("{at}: {e}\n{}", said.stderr));
        }
    }
    assert!(stopped >= 25, "only {stopped} lives were cut short: the workload does not reach its steps");
}

/// An append that takes more than one batch, and a process that ends between two: what is there is its beginning. Nobody was told
/// that it is durable, and of a log that is allowed.
#[test]
fn an_append_cut_between_two_batches_leaves_its_beginning() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let temp = tempfile::tempdir().unwrap();
    let mut judge = Judge::default();
    let told = STEPS.into_iter().position(|step| step == Step::Told).unwrap();
    for nth in (1..20).cycle().take(60) {
        // Of five payloads some may be so long that no batch takes all.
        let life = Life { seed: rng.random(), stop: Some((told, nth)), acts: 60, most: 150_000 };
        let (said, _) = listen(spawn(temp.path(), &life), |_| {});
        let at = format!("told for the {nth}. time, seed {seed}");
        judge.judge(temp.path(), &life, &said).unwrap_or_else(|e| panic!("{at}: {e}\n{}", said.stderr));
        if judge.cut >= 2 {
            return;
        }
    }
    panic!("no append was cut between two batches, seed {seed}");
}

#[test]
fn killed_at_random_moments() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let temp = tempfile::tempdir().unwrap();
    let mut judge = Judge::default();
    for round in 0..12 {
        let life = Life { seed: rng.random(), stop: None, acts: 100_000, most: 20_000 };
        let pause = Duration::from_millis(rng.random_range(20..400));
        let (said, _) = listen(spawn(temp.path(), &life), |child| {
            // Not a wait for something to happen: the moment of the kill is the test's input.
            let end = Instant::now() + pause;
            while Instant::now() < end {
                std::thread::park_timeout(end - Instant::now());
            }
            child.kill().unwrap();
        });
        judge.judge(temp.path(), &life, &said).unwrap_or_else(|e| panic!("round {round}, seed {seed}: {e}"));
    }
    let entries: usize = judge.groups.values().map(|g| g.entries.len()).sum();
    println!("stood 12 kills, {entries} entries left");
}

const NOTES: &str = "ROOKERY_STORE_NOTES";

/// Not a test of its own: appends more than one batch holds while the batch before is written, notes all of it as committed, and
/// dies as soon as the first part of it is durable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noting_child() {
    let Ok(dir) = std::env::var(NOTES) else { return };
    let ((entered, held), (release, released)) = (mpsc::sync_channel(1), mpsc::sync_channel::<()>(1));
    let (armed, released) = (std::sync::Arc::new(AtomicU32::new(0)), Mutex::new(released));
    let arm = armed.clone();
    let mut options = options(dir.as_ref());
    options.steps = StepHook::new(move |step| {
        if step != Step::Synced || armed.load(Ordering::SeqCst) == 0 {
            return;
        }
        match armed.fetch_add(1, Ordering::SeqCst) {
            1 => {
                entered.send(()).unwrap();
                let released: &Receiver<()> = &released.lock().unwrap();
                released.recv().unwrap();
            }
            _ => std::process::abort(),
        }
    });
    let store = tokio::task::spawn_blocking(move || Store::open(options).unwrap()).await.unwrap();
    let mut log = LogProbe::open(&store, 1).unwrap();
    arm.store(1, Ordering::SeqCst);
    let first = log.append(1, 0, vec![vec![0; 10].into()]).await.unwrap();
    tokio::task::spawn_blocking(move || held.recv().unwrap()).await.unwrap();
    let mut durable = Vec::new();
    for index in 1..=5 {
        durable.push(log.append(1, index, vec![vec![1; 100_000].into()]).await.unwrap());
        log.commit((1, index)).await.unwrap();
    }
    release.send(()).unwrap();
    first.await.unwrap();
    for durable in durable {
        durable.await.unwrap();
    }
}

#[tokio::test]
async fn what_is_noted_as_committed_is_there_after_a_crash() {
    let temp = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["noting_child", "--exact", "--test-threads=1"]).env(NOTES, temp.path());
    let ended = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    assert!(!ended.status.success(), "it did not write in parts: {}", String::from_utf8_lossy(&ended.stdout));
    let open = || {
        let options = options(temp.path());
        tokio::task::spawn_blocking(move || Store::open(options).unwrap())
    };
    let store = open().await.unwrap();
    let mut log = LogProbe::open(&store, 1).unwrap();
    let last = log.state().await.unwrap().last;
    assert!(last > Some((1, 0)) && last < Some((1, 5)), "part of it: {last:?}");
    assert!(log.noted() <= last, "noted {:?}, there is {last:?}", log.noted());
    // A folder that an older build left so can be opened all the same.
    log.commit((1, 1000)).await.unwrap();
    log.vote((2, 1, false)).await.unwrap();
    drop(log);
    store.close().await;
    let store = open().await.unwrap();
    let mut log = LogProbe::open(&store, 1).unwrap();
    assert_eq!((log.noted(), log.committed().await.unwrap()), (Some((1, 1000)), last));
    store.close().await;
}

//! Killed processes: at every step of a write, and at random moments. What was acknowledged is there, whole (G1).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what went wrong by panicking"
)]

mod store_history;

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store_history::{Judge, Life, STEPS, listen, spawn};

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

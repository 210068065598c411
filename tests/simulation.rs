//! Three whole nodes in one thread and in simulated time, over a network and disks that fail as a seed says.
//!
//! Each node is the real [`rookery::node::Node`], started as `serve` starts it, but with other seams: turmoil's network,
//! the in-memory disk, a skewed clock, actors on the current thread. Three devices of the real client library
//! talk in a group and in direct sessions while nodes are killed, disks lose what was not synced, and links go silent,
//! one way or both. Then everything heals, and every promise is judged: see `sim/verdict.rs`.
//!
//! Another run sets one clock far off and looks who leads (R10).
//!
//! `ROOKERY_SEED=n cargo test --test simulation` repeats a run: faults, latencies, clocks and what the devices say are
//! drawn from the seed. What is not: openraft draws election timeouts from the thread's own generator, and tables with
//! hashed keys are walked in their own order. So a seed repeats the weather, not every step;
//! a rare failure may need several runs of its seed. `ROOKERY_RUNS=n` runs n seeds in a row, `ROOKERY_LOG=info` shows logs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking and says why on the terminal"
)]

mod sim;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use sim::plan::{self, Act};
use sim::{Stage, World};

/// Simulated time in which the cluster must have formed, all devices be connected and the group exist.
const CURTAIN: Duration = Duration::from_secs(30);
/// Simulated time of faults.
const STORM: Duration = Duration::from_secs(8);
/// Simulated time after the last fault in which everything must be acknowledged, pushed and equal everywhere.
const CALM: Duration = Duration::from_secs(60);
/// Wall time of one run. It takes about five seconds of a core; this much is reached only when something spins.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn promises_hold_while_nodes_disks_and_links_fail() {
    sim::logs();
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let first = number("ROOKERY_SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    for seed in (0..number("ROOKERY_RUNS").unwrap_or(1)).map(|run| first + run) {
        println!("ROOKERY_SEED={seed} cargo test --test simulation");
        run(seed);
    }
}

fn run(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let begun = Instant::now();
    let stage = Stage::new();
    let mut world = World::new(&mut random, &stage, None);
    let elapsed = |world: &World<'_>, until: Duration, what: &str| {
        assert!(
            begun.elapsed() < PATIENCE,
            "seed {seed}: {what}: a run takes seconds, this one does not end"
        );
        assert!(world.sim.elapsed() < until, "seed {seed}: {what}: not in time; {}", stage.describe());
    };
    while !stage.ready() {
        elapsed(&world, CURTAIN, "the cluster forms");
        world.step(seed);
    }
    let start = world.sim.elapsed();
    for (at, act) in plan::draw(&mut random, STORM) {
        while world.sim.elapsed() < start + at {
            elapsed(&world, start + STORM + CALM, "the storm passes");
            world.step(seed);
        }
        println!("{:>6} ms  {act}", at.as_millis());
        world.perform(&act);
    }
    (1..=sim::NODES).for_each(|node| world.perform(&Act::Start(node)));
    world.mend_all();
    stage.calm();
    let calm = world.sim.elapsed();
    while !world.step(seed) {
        elapsed(&world, calm + CALM, "everything heals");
    }
    println!(
        "seed {seed}: {}; {:.1} simulated seconds in {:.1}",
        stage.describe(),
        world.sim.elapsed().as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    assert!(stage.acked() > 100, "seed {seed}: hardly anything was acknowledged: {}", stage.describe());
}

/// How far ahead the clock is that is off: four times what a leader's may be.
const FAR_AHEAD_MS: u64 = 2_000;
/// Simulated time in which leads are where they belong: a clock is compared every five seconds, and a lead is given back
/// to the first choice after five looks.
const SETTLED: Duration = Duration::from_secs(30);
/// Messages said before that.
const TALK: usize = 200;
/// Simulated time for which they must stay there.
const WATCHED: Duration = Duration::from_secs(15);

#[test]
fn a_node_whose_clock_is_off_leads_nothing() {
    sim::logs();
    let seed = std::env::var("ROOKERY_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    println!("ROOKERY_SEED={seed} cargo test --test simulation");
    let node = (seed % u64::from(sim::NODES)) as u16 + 1;
    let all: BTreeSet<u32> = (1..=sim::SHARDS).collect();

    // Without this the other half would prove nothing: with a clock that is right it is given a lead.
    let (its, others) = leads(seed, node, 0);
    assert!(!its.is_empty(), "seed {seed}: node {node} leads nothing although its clock is right");
    assert_eq!(&its | &others, all, "seed {seed}: shards without a leader");

    let (its, others) = leads(seed, node, FAR_AHEAD_MS);
    assert_eq!(its, BTreeSet::new(), "seed {seed}: node {node} leads although its clock is off");
    assert_eq!(others, all, "seed {seed}: the others lead what it must not");
}

/// The shards that a node whose clock is so far ahead led at any moment once leads had settled, and those that the
/// others led in the end.
fn leads(seed: u64, node: u16, ahead_ms: u64) -> (BTreeSet<u32>, BTreeSet<u32>) {
    let begun = Instant::now();
    let stage = Stage::new();
    let mut world = World::new(&mut StdRng::seed_from_u64(seed), &stage, Some((node, ahead_ms)));
    let step = |world: &mut World<'_>| {
        assert!(begun.elapsed() < PATIENCE, "seed {seed}: a run takes seconds, this one does not end");
        world.step(seed);
    };
    // A little talk, so that the judge of the promises has something to judge; then nobody need talk for this.
    while !stage.ready() || stage.acked() < TALK {
        assert!(world.sim.elapsed() < CURTAIN, "seed {seed}: {}", stage.describe());
        step(&mut world);
    }
    stage.calm();
    let settled = world.sim.elapsed() + SETTLED;
    let mut its = BTreeSet::new();
    while world.sim.elapsed() < settled + WATCHED {
        step(&mut world);
        if world.sim.elapsed() > settled {
            its.extend(world.leads(node));
        }
    }
    let others = (1..=sim::NODES).filter(|other| *other != node);
    (its, others.flat_map(|other| world.leads(other)).collect())
}

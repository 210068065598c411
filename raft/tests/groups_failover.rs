//! How long a group stands still when a node dies, with as many groups as a small cluster has; and how much it carries.
//!
//! The long runs are ignored by default: `cargo test -p rookery-raft --test groups_failover -- --ignored --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panic"
)]

mod kit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kit::{Answer, Cuts, ListMachine, SECRET, eventually, id, propose_somewhere};
use rookery_raft::{
    Group, Host, HostOptions, MemoryDisk, OsEntropy, PeerNet, PeerOptions, Store, StoreOptions,
};
use tokio::runtime::Runtime;
use tokio::time::Instant;

const GROUPS: u32 = 17;
const WARM: Duration = Duration::from_millis(500);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// The defaults, but for what the environment says.
fn host_options(me: rookery_raft::RaftId) -> HostOptions {
    let mut options = HostOptions::new(me);
    let ms = |name, default: Duration| Duration::from_millis(number(name, default.as_millis() as u64));
    options.heartbeat = ms("HEARTBEAT", options.heartbeat);
    options.election = (ms("ELECTION_MIN", options.election.0), ms("ELECTION_MAX", options.election.1));
    options
}

/// A node with a runtime and a folder of its own, so that it can be killed as a whole.
struct Solo {
    runtime: Option<Runtime>,
    peers: PeerNet,
    _host: Host,
    groups: BTreeMap<u32, Group<Answer>>,
    _dir: tempfile::TempDir,
}

impl Solo {
    fn start(node: u16, cuts: &Cuts) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let me = id(node);
        let store = if std::env::var_os("MEMORY").is_some() {
            Store::in_memory(MemoryDisk::new(me.store))
        } else {
            Store::open(StoreOptions::new(dir.path())).unwrap()
        };
        let (peers, host, groups) = runtime.block_on(async {
            let options = PeerOptions::new(node, me.store, "127.0.0.1:0", BTreeMap::new(), SECRET.to_vec());
            let peers =
                PeerNet::start(options, Arc::new(cuts.network(node)), Arc::new(OsEntropy)).await.unwrap();
            let host = Host::start(host_options(me), store, peers.clone(), Arc::new(|f| panic!("{f}")));
            let mut groups = BTreeMap::new();
            for group in 0..GROUPS {
                groups.insert(group, host.open_group(group, Arc::new(ListMachine::default())).await.unwrap());
            }
            (peers, host, groups)
        });
        Self { runtime: Some(runtime), peers, _host: host, groups, _dir: dir }
    }

    /// As abrupt as it gets within a process: every task ends where it stands.
    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn introduce(nodes: &[Solo], cuts: &Cuts) {
    for (n, node) in (1u16..).zip(nodes) {
        cuts.knows(n, node.peers.local_addr().unwrap());
    }
    for node in nodes {
        let _inside = node.runtime.as_ref().unwrap().enter();
        for (n, other) in (1u16..).zip(nodes) {
            node.peers.set_peer(n, other.peers.local_addr().unwrap().to_string());
        }
    }
}

fn three() -> (Vec<Solo>, Cuts) {
    // With RUST_LOG=info the elections can be followed; a second call finds it set already.
    let filter = tracing_subscriber::EnvFilter::new(std::env::var("RUST_LOG").as_deref().unwrap_or("off"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).try_init();
    let cuts = Cuts::default();
    let nodes: Vec<Solo> = (1..=3).map(|n| Solo::start(n, &cuts)).collect();
    introduce(&nodes, &cuts);
    (nodes, cuts)
}

/// Forms all groups and spreads their leaders.
async fn form(nodes: &[Solo]) {
    let voters = [id(1), id(2), id(3)];
    for group in 0..GROUPS {
        nodes[group as usize % 3].groups[&group].initialize(&voters).await.unwrap();
    }
    for group in 0..GROUPS {
        let groups: Vec<_> = nodes.iter().map(|n| n.groups[&group].clone()).collect();
        eventually("leaders", || groups.iter().any(|g| g.status().leading).then_some(())).await;
    }
}

/// What one writer saw: the longest time between two acknowledgements, before and after the mark was set.
#[derive(Default, Clone, Copy)]
struct Seen {
    calm_gap: Duration,
    kill_gap: Duration,
    calm_acked: u64,
}

/// Writes to one group in a loop until stopped.
async fn write(
    groups: Vec<Group<Answer>>,
    payload: Bytes,
    killed: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
) -> Seen {
    let mut seen = Seen::default();
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let after = killed.load(Ordering::Relaxed);
        if propose_somewhere(&groups, &payload).await.is_ok() {
            let gap = last.elapsed();
            let longest =
                if after || killed.load(Ordering::Relaxed) { &mut seen.kill_gap } else { &mut seen.calm_gap };
            *longest = gap.max(*longest);
            last = Instant::now();
            seen.calm_acked += u64::from(!after);
        }
    }
    seen
}

struct Load {
    writers_per_group: usize,
    payload: usize,
    calm: Duration,
    after: Duration,
}

struct Report {
    /// Acknowledged entries per second while nothing happened.
    rate: f64,
    calm_gap: Duration,
    /// Longest gap of each group that the victim led.
    kill_gaps: Vec<Duration>,
    /// Changes of term that nothing explains.
    spurious: u64,
}

fn terms(nodes: &[Solo]) -> BTreeMap<u32, u64> {
    let term = |group: &u32| nodes.iter().map(|n| n.groups[group].status().term).max().unwrap_or(0);
    (0..GROUPS).map(|group| (group, term(&group))).collect()
}

/// Three nodes under load, of which one is killed.
fn trial(load: &Load, victim: usize) -> Report {
    let (mut nodes, _cuts) = three();
    let driver = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    driver.block_on(form(&nodes));
    let (killed, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let mut writers = Vec::new();
    for group in 0..GROUPS {
        let groups: Vec<_> = nodes.iter().map(|n| n.groups[&group].clone()).collect();
        for _ in 0..load.writers_per_group {
            let payload = Bytes::from(vec![7; load.payload]);
            let task = driver.spawn(write(groups.clone(), payload, killed.clone(), stop.clone()));
            writers.push((group, task));
        }
    }
    std::thread::sleep(WARM);
    let before = terms(&nodes);
    std::thread::sleep(load.calm);
    let led: Vec<u32> = (0..GROUPS).filter(|g| nodes[victim].groups[g].status().leading).collect();
    let calm = terms(&nodes);
    killed.store(true, Ordering::Relaxed);
    tracing::info!(victim = victim + 1, ?led, "KILL");
    nodes[victim].kill();
    std::thread::sleep(load.after);
    let end = terms(&nodes);
    stop.store(true, Ordering::Relaxed);
    let mut report = Report { rate: 0.0, calm_gap: Duration::ZERO, kill_gaps: Vec::new(), spurious: 0 };
    let mut gaps = BTreeMap::<u32, Duration>::new();
    let mut acked = 0;
    for (group, writer) in writers {
        let seen = driver.block_on(writer).unwrap();
        acked += seen.calm_acked;
        report.calm_gap = report.calm_gap.max(seen.calm_gap);
        let gap = gaps.entry(group).or_default();
        *gap = seen.kill_gap.max(*gap);
    }
    report.rate = acked as f64 / (load.calm + WARM).as_secs_f64();
    report.kill_gaps = led.iter().map(|g| gaps[g]).collect();
    report.spurious = (0..GROUPS)
        .map(|g| calm[&g] - before[&g] + if led.contains(&g) { 0 } else { end[&g] - calm[&g] })
        .sum();
    for node in &mut nodes {
        node.kill();
    }
    report
}

fn quantile(sorted: &[Duration], q: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * q) as usize]
}

#[test]
fn a_killed_node_stops_nobody_for_long() {
    let load = Load {
        writers_per_group: 1,
        payload: 1000,
        calm: Duration::from_secs(1),
        after: Duration::from_secs(4),
    };
    let report = trial(&load, 1);
    assert!(!report.kill_gaps.is_empty(), "the victim led something");
    let longest = report.kill_gaps.iter().max().unwrap();
    println!("{:.0} entries/s, gaps {:?}", report.rate, report.kill_gaps);
    // Generous: other tests use the same two cores. The figures that count come from the long run below.
    assert!(*longest < Duration::from_secs(3), "a group stood still for {longest:?}");
}

#[test]
#[ignore = "minutes of load; prints figures"]
fn figures_of_failover() {
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let load = Load {
        writers_per_group: number("WRITERS", 2) as usize,
        payload: number("PAYLOAD", 16_000) as usize,
        calm: Duration::from_secs(2),
        after: Duration::from_secs(3),
    };
    let (mut gaps, mut spurious, mut calm) = (Vec::new(), 0, Duration::ZERO);
    for n in 0..number("TRIALS", 10) {
        let report = trial(&load, n as usize % 3);
        println!(
            "trial {n}: {:.0} entries/s, calm gap {:?}, longest gap {:?}, spurious elections {}",
            report.rate,
            report.calm_gap,
            report.kill_gaps.iter().max(),
            report.spurious
        );
        gaps.extend(report.kill_gaps);
        spurious += report.spurious;
        calm = calm.max(report.calm_gap);
    }
    gaps.sort();
    println!(
        "{} groups lost their leader: gap p50 {:?} p90 {:?} p99 {:?} max {:?}; calm gap at most {calm:?}; {spurious} \
         spurious elections",
        gaps.len(),
        quantile(&gaps, 0.5),
        quantile(&gaps, 0.9),
        quantile(&gaps, 0.99),
        quantile(&gaps, 1.0),
    );
}

//! The trail before a system group that has no leader, and one that has: who waits, for how long, and with how much.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rookery_raft::{
    Clock, Group, Host, HostOptions, MemoryDisk, OsEntropy, PeerNet, PeerOptions, RaftId, Store,
    StoreOptions, SystemClock, TcpNetwork,
};
use rookery_wire::{ErrorBody, ErrorCode};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::machine_tests::wanted;
use super::{AuditTrail, SYSTEM_GROUP, SystemMachine, SystemWaiter, Times, Trail, TrailOptions};

/// Bytes that may wait.
const BYTES: usize = 1_000;

fn code(outcome: Result<u64, ErrorBody>) -> Option<ErrorCode> {
    outcome.err().map(|refusal| refusal.code)
}

/// A node with the system group, and a trail into it.
struct Bench {
    store: Store,
    peers: PeerNet,
    me: RaftId,
    host: Host,
    group: Group<SystemWaiter>,
    trail: Trail,
    task: JoinHandle<()>,
    /// What the node's clock is believed.
    right: Arc<AtomicBool>,
}

impl Bench {
    async fn over(store: Store) -> Self {
        Self::keeping(store, 4_096).await
    }

    /// The log keeps so many entries behind a checkpoint.
    async fn keeping(store: Store, log_keep: u64) -> Self {
        let address = crate::fleet::free_addresses(1).unwrap().remove(0);
        let addresses = BTreeMap::from([(1, address.clone())]);
        let secret = b"a secret of 16 bytes".to_vec();
        let options = PeerOptions::new(1, store.store_id(), &address, addresses, secret);
        let peers = PeerNet::start(options, Arc::new(TcpNetwork), Arc::new(OsEntropy)).await.unwrap();
        let me = RaftId { node: 1, store: store.store_id() };
        let mut options = HostOptions::new(me);
        options.log_keep = log_keep;
        let host = Host::start(options, store.clone(), peers.clone(), Arc::new(|_| {}));
        let machine = Arc::new(SystemMachine::open(&store).await.unwrap());
        let group = host.open_group(SYSTEM_GROUP, machine.clone()).await.unwrap();
        machine.set_group(group.clone());
        let right = Arc::new(AtomicBool::new(true));
        let agrees = right.clone();
        let times =
            Times { clock: Arc::new(SystemClock), agrees: Arc::new(move || agrees.load(Ordering::Relaxed)) };
        let deadline = Duration::from_secs(5);
        let options = TrailOptions { node: 1, keep: 1_000, age_ms: 1 << 40, deadline, bytes: BYTES };
        let (trail, task) = Trail::new(options, group.clone(), machine, peers.clone(), times);
        let task = tokio::spawn(task);
        Self { store, peers, me, host, group, trail, task, right }
    }

    /// Begins to lead.
    async fn lead(&self) {
        self.group.initialize(&[self.me]).await.unwrap();
        let mut status = self.group.watch();
        let led = status.wait_for(|status| status.leading);
        timeout(Duration::from_secs(20), led).await.expect("a leader").unwrap();
    }

    async fn stop(self) {
        self.task.abort();
        self.group.stop().await;
        self.host.stop().await;
        self.peers.stop().await;
        self.store.close().await;
    }
}

fn after_ms(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_line_is_bounded_in_time_and_bytes_and_no_wild_clock_stamps_it() {
    let bench = Bench::over(Store::in_memory(MemoryDisk::new(1))).await;
    let trail = &bench.trail;
    // Nobody leads.
    let waiting = tokio::spawn(trail.append(wanted(1), 600, after_ms(400)));
    while trail.has_room_for(BYTES) {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        code(trail.append(wanted(2), 600, after_ms(400)).await),
        Some(ErrorCode::Busy),
        "too many bytes"
    );
    let late = timeout(Duration::from_secs(5), waiting).await.expect("by its deadline").unwrap();
    assert_eq!(code(late), Some(ErrorCode::Unavailable));
    assert!(trail.has_room_for(BYTES), "who waits no more holds nothing");

    // Somebody leads whose clock is not to be believed.
    bench.right.store(false, Ordering::Relaxed);
    bench.lead().await;
    assert_eq!(code(trail.append(wanted(3), 9_999, after_ms(400)).await), Some(ErrorCode::Unavailable));
    assert!(trail.page(0, 9).await.unwrap().lines.is_empty());
    bench.right.store(true, Ordering::Relaxed);
    let outcome = trail.append(wanted(3), 9_999, after_ms(20_000)).await;
    assert_eq!(outcome.unwrap(), 1, "one alone has room, however large");
    assert_eq!(trail.append(wanted(3), 9_999, after_ms(20_000)).await.unwrap(), 1, "once");
    let page = trail.page(0, 9).await.unwrap();
    let now = SystemClock.unix_ms();
    assert!(page.lines.len() == 1 && now.abs_diff(page.lines[0].time_ms) < 60_000, "{page:?}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_disk_space_is_waited_for_a_while_and_then_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = StoreOptions::new(dir.path());
    options.free_disk_low_water = u64::MAX;
    let bench = Bench::over(Store::open(options).unwrap()).await;
    bench.lead().await;
    let refused = bench.trail.append(wanted(1), 9, after_ms(20_000)).await;
    assert_eq!(code(refused), Some(ErrorCode::DiskLow));
    let again = Instant::now();
    let refused = bench.trail.append(wanted(2), 9, after_ms(20_000)).await;
    assert_eq!(code(refused), Some(ErrorCode::DiskLow));
    assert!(again.elapsed() < Duration::from_secs(3), "not each waits for it: {:?}", again.elapsed());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_keeps_nothing_is_purged_and_no_line_waits_for_that() {
    let bench = Bench::keeping(Store::in_memory(MemoryDisk::new(1)), 0).await;
    bench.lead().await;
    let mut longest = Duration::ZERO;
    // Each is an entry: enough for two checkpoints.
    for mark in 0..2_200 {
        let begun = Instant::now();
        bench.trail.append(wanted(mark), 9, after_ms(20_000)).await.unwrap();
        longest = longest.max(begun.elapsed());
    }
    let purged = async {
        while bench.group.status().purged < 2_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let status = || bench.group.status();
    timeout(Duration::from_secs(10), purged).await.unwrap_or_else(|_| panic!("not purged: {:?}", status()));
    assert!(longest < Duration::from_millis(800), "a line waited {longest:?}");
    bench.stop().await;
}

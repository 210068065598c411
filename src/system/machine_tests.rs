//! The system group's machine: a snapshot takes its place whole, or not at all; and no sender calls half of one whole.

use std::time::Duration;

use bytes::Bytes;
use rookery_raft::{Committed, MemoryDisk, SnapshotReader, SnapshotWriter, StateMachine, Store, probe};
use rookery_wire::admin::AuditPage;
use rookery_wire::{AuditEntity, AuditLine};
use tokio::time::timeout;

use super::audit::{AuditCommand, Wanted};
use super::{FactsCommand, Placement, SystemMachine};

/// How long one is watched who must not end.
const WATCHED: Duration = Duration::from_millis(200);

/// A line that a backend asks for.
pub(super) fn wanted(mark: u128) -> Wanted {
    let line = AuditLine {
        number: 0,
        time_ms: 0,
        service: "shop".parse().unwrap(),
        device: "backend".parse().unwrap(),
        on_behalf_of: None,
        action: 8,
        part: 0,
        entity: AuditEntity::User("ann".parse().unwrap()),
        key: format!("key-{mark}").parse().unwrap(),
    };
    Wanted { line, mark }
}

/// A machine and what it writes to.
struct Replica {
    store: Store,
    machine: SystemMachine,
}

impl Replica {
    async fn new(disk: u64) -> Self {
        let store = Store::in_memory(MemoryDisk::new(disk));
        let machine = SystemMachine::open(&store).await.unwrap();
        Self { store, machine }
    }

    async fn apply(&self, index: u64, command: FactsCommand) {
        let payload = rookery_wire::encode(&command);
        let committed = Committed { index, term: 1, payload, waiter: None };
        self.machine.apply(vec![committed], probe::mark((1, index))).await.unwrap();
    }

    /// Adds so many lines as entry `index`.
    async fn add(&self, index: u64, count: u128) {
        let lines = (0..count).map(|n| wanted((u128::from(index) << 64) | n)).collect();
        let command = AuditCommand { time_ms: index, keep: 10_000, age_ms: 1 << 40, lines };
        self.apply(index, FactsCommand::Audit(command)).await;
    }

    async fn snapshot(&self) -> Vec<Bytes> {
        let (writer, mut chunks) = SnapshotWriter::channel();
        let mut all = Vec::new();
        let written = async {
            self.machine.write_snapshot(writer).await.unwrap();
        };
        let read = async {
            while let Some(chunk) = chunks.recv().await {
                all.push(chunk);
            }
        };
        timeout(Duration::from_secs(20), async { tokio::join!(written, read) }).await.expect("it ends");
        all
    }

    /// Rows of lines, of whichever generation.
    async fn rows(&self) -> usize {
        let map = self.store.map("system").unwrap();
        let (from, to) = (Bytes::from_static(b"line"), Bytes::from_static(b"linf"));
        map.read(move |view| view.range(&from, &to, 100_000, 64 << 20, false)).await.unwrap().len()
    }
}

async fn page(machine: &SystemMachine, after: u64) -> AuditPage {
    machine.audit_page(after, 500, 0).await.unwrap()
}

#[tokio::test]
async fn a_snapshot_takes_the_place_of_facts_and_audit() {
    let (one, other) = (Replica::new(1).await, Replica::new(2).await);
    let placement = Placement::spread(4, &[1, 2, 3], 3);
    let nodes = vec![(1, 10), (2, 20), (3, 30)];
    one.apply(1, FactsCommand::Form { cluster: [7; 16], format: 1, nodes, placement }).await;
    for index in 2..=4 {
        one.add(index, 200).await;
    }
    other.add(1, 7).await;
    let chunks = one.snapshot().await;
    assert!(chunks.len() > 4, "facts, head, entries and several parts of lines: {}", chunks.len());

    // One that is broken off, and one that is damaged, leave the old whole.
    let mut broken = chunks[..chunks.len() - 1].to_vec();
    broken.push(Bytes::from_static(&[0xff; 9]));
    assert!(other.machine.install_snapshot(probe::mark((1, 4)), SnapshotReader::of(broken)).await.is_err());
    assert_eq!(page(&other.machine, 0).await.lines.len(), 7);
    assert_eq!(other.machine.facts().borrow().cluster, None);
    let still = SystemMachine::open(&other.store).await.unwrap();
    assert_eq!((page(&still, 0).await.last, still.mark().map(|mark| mark.index())), (7, Some(1)));

    other.machine.install_snapshot(probe::mark((1, 4)), SnapshotReader::of(chunks)).await.unwrap();
    assert_eq!(*other.machine.facts().borrow(), *one.machine.facts().borrow());
    assert_eq!(other.rows().await, 600, "nothing is left of what was, nor of what was broken off");
    let back = SystemMachine::open(&other.store).await.unwrap();
    assert_eq!(back.mark().map(|mark| mark.index()), Some(4));
    assert_eq!(back.facts().borrow().cluster, Some([7; 16]));
    for after in [0, 450] {
        let there = page(&one.machine, after).await;
        assert_eq!(page(&other.machine, after).await, there);
        assert_eq!(page(&back, after).await, there, "as it is opened again");
    }
    // And both go on alike; who asks again is known by what came.
    for replica in [&one, &other] {
        replica.add(5, 3).await;
        let again = AuditCommand { time_ms: 9, keep: 10_000, age_ms: 1 << 40, lines: vec![wanted(4 << 64)] };
        replica.apply(6, FactsCommand::Audit(again)).await;
    }
    assert_eq!(page(&one.machine, 590).await, page(&other.machine, 590).await);
    assert_eq!(page(&other.machine, 590).await.last, 603);
}

#[tokio::test]
async fn a_sender_whose_rows_were_taken_out_never_says_that_it_is_done() {
    let (one, other) = (Replica::new(1).await, Replica::new(2).await);
    one.add(1, 5_000).await;
    other.add(1, 3).await;
    let small = other.snapshot().await;
    let (writer, mut chunks) = SnapshotWriter::channel();
    let one = std::sync::Arc::new(one);
    let sender = {
        let one = one.clone();
        tokio::spawn(async move { one.machine.write_snapshot(writer).await })
    };
    chunks.recv().await.expect("the facts");
    one.machine.install_snapshot(probe::mark((1, 9)), SnapshotReader::of(small)).await.unwrap();
    let drained = timeout(WATCHED, async { while chunks.recv().await.is_some() {} }).await;
    assert!(drained.is_err() && !sender.is_finished(), "the receiver would take what came for all there is");
    sender.abort();
}

#[tokio::test]
async fn lines_that_are_too_old_are_not_shown() {
    let one = Replica::new(1).await;
    for index in [1, 5, 9] {
        one.add(index, 2).await;
    }
    let shown = one.machine.audit_page(0, 500, 5).await.unwrap();
    assert_eq!((shown.first, shown.last), (3, 6));
    assert_eq!(shown.lines.iter().map(|line| line.number).collect::<Vec<_>>(), [3, 4, 5, 6]);
    let none = one.machine.audit_page(0, 500, 10).await.unwrap();
    assert_eq!((none.lines.len(), none.first, none.last), (0, 7, 6));
}

#[tokio::test]
async fn lines_that_make_room_before_they_are_too_old_are_counted() {
    let one = Replica::new(1).await;
    let pushed = one.machine.audit_pushed_out();
    let add = async |index: u64, time_ms: u64, count: u128| {
        let lines = (0..count).map(|n| wanted((u128::from(index) << 64) | n)).collect();
        let command = AuditCommand { time_ms, keep: 300, age_ms: 1_000, lines };
        one.apply(index, FactsCommand::Audit(command)).await;
        pushed.load(std::sync::atomic::Ordering::Relaxed)
    };
    assert_eq!((add(1, 1, 200).await, add(2, 2, 100).await), (0, 0));
    assert_eq!(add(3, 3, 50).await, 50);
    // What is too old goes for that, and is no loss.
    assert_eq!(add(4, 2_000, 100).await, 50);
    assert_eq!(page(&one.machine, 0).await.first, 315);
}

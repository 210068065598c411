//! What was recalled leaves the disk of every node: live log and rows within the time that docs/security.md states, the
//! journal's files once they are written over. The nodes' folders are searched for its bytes.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rookery_raft::probe::LogProbe;
use rookery_raft::{Store, StoreOptions};
use rookery_wire::request::Recall;
use rookery_wire::{ErrorCode, Kind, SessionId};

use super::fixture::{Cluster, Plan, play, until};
use super::people::{Wire, direct};

const SHARDS: u32 = 2;
/// `storage.checkpoint_ms` here: after so long the recall's checkpoint begins. Writing it and purging behind it takes a
/// moment more, of which a debug build on a busy machine is given much.
const CHECKPOINT: Duration = Duration::from_millis(100);
const MOMENT: Duration = Duration::from_secs(10);
/// Content that is written over the journal, per message and in all at most: several times what the journal holds.
const FILLER: usize = 60_000;
const ROUND: u64 = 40;
const MOST: u64 = 800;

fn plan() -> Plan {
    // The two segments that there are when a folder is made are those that there will be. Nothing but a recall purges.
    Plan::new(3, SHARDS)
        .with("storage", &format!("checkpoint_ms = {}", CHECKPOINT.as_millis()))
        .with("storage", "journal_segments = 2")
        .with("storage", "settle_lag_mib = 0")
        .with("storage", "log_keep = 1000000")
        .with("storage", "log_keep_mib = 1024")
}

#[test]
fn what_was_recalled_is_in_no_log_of_any_node_within_the_stated_time() {
    play(async {
        let mut cluster = Cluster::up(plan()).await;
        let session = direct("wystan", "zelda");
        let mut wystan = Wire::of(&cluster, 1, "wystan", "phone").await;
        let secret = format!("nobody-is-to-find-this-{:016x}-again", rand_id());
        for number in 1..=3 {
            wystan.send(&session, number, &format!("before {number}")).await.expect("stored");
        }
        let said = wystan.send(&session, 4, &secret).await.expect("stored");
        wystan.send(&session, 5, "after").await.expect("stored");
        let index = said.message_id >> 16 & ((1 << 38) - 1);
        cluster.level().await;
        // It is what is looked for: in every journal, and in the log of a node that crashes now.
        for node in cluster.ids() {
            assert!(!holding(&cluster.data(node).join("journal"), &secret).is_empty(), "node {node}");
            assert!(purged(&cluster, node, &session).await < index);
        }
        cluster.kill(3);
        assert!(
            live(&copied(&cluster, 3, "before"), &secret).await.log,
            "checkpoints alone keep it in the log"
        );
        cluster.start(3);
        cluster.serving().await;

        let recall = Recall { session: session.clone(), client_seq: 6, on_behalf_of: None, seq: said.seq };
        let ack: rookery_wire::reply::Ack = wystan.ask(Kind::Recall, &recall).await.expect("recalled");
        let (recalled, began) = (ack.message_id >> 16 & ((1 << 38) - 1), Instant::now());
        for node in cluster.ids() {
            until("its log is purged", async || purged(&cluster, node, &session).await >= recalled).await;
        }
        let took = began.elapsed();
        println!("every log was purged {took:?} after the recall, checkpoints are {CHECKPOINT:?} apart");
        assert!(took < CHECKPOINT + MOMENT, "{took:?}");
        // A crash now brings nothing back.
        for node in cluster.ids() {
            cluster.kill(node);
            let copy = copied(&cluster, node, "after");
            assert_eq!(live(&copy, &secret).await, Found { log: false, rows: false }, "node {node}");
            // What was not recalled is there, so it was looked at the right place.
            assert!(live(&copy, "before 3").await.rows, "node {node}");
        }

        cluster.start_all();
        cluster.serving().await;
        written_over(&cluster, &session, &secret).await;
    });
}

/// Unlike any other of this machine.
fn rand_id() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    now.as_nanos() as u64 ^ u64::from(std::process::id()) << 48
}

async fn purged(cluster: &Cluster, node: u16, session: &SessionId) -> u64 {
    cluster.replica(node, cluster.shard_of(session)).await.map_or(0, |shard| shard.purged)
}

/// Files below a folder that hold these bytes, and where.
fn holding(folder: &Path, bytes: &str) -> Vec<(PathBuf, usize)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(holding(&path, bytes));
            continue;
        }
        let content = fs::read(&path).unwrap_or_default();
        let at = content.windows(bytes.len()).position(|part| part == bytes.as_bytes());
        found.extend(at.map(|at| (path, at)));
    }
    found
}

/// A copy of what a node that runs no more has left.
fn copied(cluster: &Cluster, node: u16, name: &str) -> PathBuf {
    let to = cluster.folder().join(format!("copy-{node}-{name}"));
    copy(&cluster.data(node), &to);
    to
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("copied")),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Found {
    log: bool,
    rows: bool,
}

/// Whether some bytes stand in an entry of a log, or in a row, of those that the node itself would find.
async fn live(folder: &Path, bytes: &str) -> Found {
    let mut options = StoreOptions::new(folder);
    (options.journal_segment_bytes, options.free_disk_low_water) = (4 << 20, 0);
    let store = Store::open(options).expect("it opens");
    let holds = |part: &[u8]| part.windows(bytes.len()).any(|part| part == bytes.as_bytes());
    let mut found = Found { log: false, rows: false };
    for shard in 1..=SHARDS {
        let mut log = LogProbe::open(&store, shard).expect("a log");
        let state = log.state().await.expect("a state");
        let (purged, last) = (state.purged.map_or(0, |at| at.1), state.last.map_or(0, |at| at.1));
        for (_, _, payload) in log.read(purged + 1, last + 1).await.expect("entries") {
            found.log |= payload.is_some_and(|payload| holds(&payload));
        }
        // The first generation of its rows: nobody was sent a snapshot.
        let rows = store.map(&format!("shard-{shard}-0")).expect("a map");
        let words = bytes.to_owned();
        found.rows |= rows
            .read(move |view| {
                let mut holds = false;
                view.for_each(&[], &[], &mut |_, value| {
                    holds |= value.windows(words.len()).any(|part| part == words.as_bytes());
                    ControlFlow::Continue(())
                })?;
                Ok(holds)
            })
            .await
            .expect("rows");
    }
    store.close().await;
    found
}

/// The journal goes round, and nothing is left of it in any of its files.
async fn written_over(cluster: &Cluster, session: &SessionId, secret: &str) {
    let mut filler = Wire::of(cluster, 1, "zelda", "phone").await;
    let text = "filler ".repeat(FILLER / 7);
    let mut sent = 0;
    let left = |part: &str| -> Vec<PathBuf> {
        let folders = cluster.ids().into_iter().map(|node| cluster.data(node).join(part));
        folders.flat_map(|folder| holding(&folder, secret)).map(|(path, _)| path).collect()
    };
    while !left("journal").is_empty() {
        assert!(sent < MOST, "after {sent} messages of {FILLER} bytes: {:?}", left("journal"));
        for _ in 0..ROUND {
            sent += 1;
            while filler.send(session, sent, &text).await.is_err_and(|why| why.code == ErrorCode::Busy) {}
        }
    }
    println!("the journals were written over by {sent} messages of {FILLER} bytes");
    println!("what the databases' files keep: {:?}, {:?}", left("log"), left("state"));
}

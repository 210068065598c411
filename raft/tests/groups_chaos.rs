//! Writers against a cluster in which leaders are cut off and handed over at random: what was acknowledged is there once,
//! what was refused is not there, and every waiter is answered.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panic"
)]

mod kit;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kit::{Answer, Cluster, Outcome, PATIENCE, same_lists};
use rookery_raft::{Entropy, Group, ProposeError, SeededEntropy};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

const RUN: Duration = Duration::from_secs(8);

/// Proposes distinct payloads to whoever is next, one try each, and keeps every outcome.
async fn write(groups: Vec<Group<Answer>>, writer: usize, stop: Arc<AtomicBool>) -> Vec<(Bytes, Outcome)> {
    let mut outcomes = Vec::new();
    let mut at = writer;
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let payload = Bytes::from(format!("{writer}/{n}"));
        n += 1;
        let (tx, rx) = oneshot::channel();
        groups[at % groups.len()].propose(payload.clone(), Answer(tx)).await;
        let outcome = timeout(PATIENCE, rx).await.expect("answered in time").expect("answered");
        if outcome.is_err() {
            at += 1;
            sleep(Duration::from_millis(1)).await;
        }
        outcomes.push((payload, outcome));
    }
    outcomes
}

/// Cuts, heals and hands over for a while. Ends healed.
async fn disturb(cluster: &Cluster, seed: u64) -> u64 {
    let random = SeededEntropy::new(seed);
    let until = Instant::now() + RUN;
    let disturbed = AtomicU64::new(0);
    while Instant::now() < until {
        sleep(Duration::from_millis(150 + random.u64() % 300)).await;
        let Some(leader) = cluster.nodes.iter().find(|n| n.group.status().leading) else { continue };
        disturbed.fetch_add(1, Ordering::Relaxed);
        if random.u64().is_multiple_of(2) {
            let to = cluster.nodes[(random.u64() % 3) as usize].id;
            // A hand-over may fail for many reasons, all of them fine.
            let _ = leader.group.transfer_leader(to).await;
        } else {
            cluster.cuts.isolate(leader.id.node, &[1, 2, 3]);
            sleep(Duration::from_millis(100 + random.u64() % 900)).await;
            cluster.cuts.heal();
        }
    }
    cluster.cuts.heal();
    disturbed.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_tell_the_truth_whatever_happens_to_leaders() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(|| rookery_raft::OsEntropy.u64());
    println!("SEED={seed}");
    let cluster = Cluster::start(3).await;
    cluster.leader().await;
    let stop = Arc::new(AtomicBool::new(false));
    let groups: Vec<_> = cluster.nodes.iter().map(|n| n.group.clone()).collect();
    let writers: Vec<_> = (0..6).map(|w| tokio::spawn(write(groups.clone(), w, stop.clone()))).collect();
    let disturbed = disturb(&cluster, seed).await;
    stop.store(true, Ordering::Relaxed);

    let mut outcomes = HashMap::new();
    for writer in writers {
        outcomes.extend(writer.await.unwrap());
    }
    let acked = outcomes.values().filter(|o| o.is_ok()).count();
    let unknown = outcomes.values().filter(|o| matches!(o, Err(ProposeError::Unknown))).count();
    println!(
        "{disturbed} disturbances, {} proposals, {acked} acknowledged, {unknown} unknown",
        outcomes.len()
    );
    assert!(disturbed > 3 && acked > 100, "something happened");

    let nodes: Vec<_> = cluster.nodes.iter().collect();
    let list = same_lists(&nodes, acked).await;
    let mut seen = HashMap::new();
    for payload in &list {
        *seen.entry(payload.clone()).or_insert(0) += 1;
    }
    for (payload, outcome) in &outcomes {
        let times = seen.remove(payload).unwrap_or(0);
        let right = match outcome {
            Ok(_) => times == 1,
            Err(ProposeError::Unknown | ProposeError::Stopped) => times <= 1,
            Err(_) => times == 0,
        };
        assert!(right, "{payload:?} ended as {outcome:?} and is there {times} times");
    }
    assert!(seen.is_empty(), "entries that nobody proposed: {seen:?}");
    assert!(cluster.nodes.iter().all(|n| n.faults.lock().is_empty()));
    cluster.stop().await;
}

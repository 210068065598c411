//! Propose, commit, apply; failover; every waiter answered once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panic"
)]

mod kit;

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use kit::{Answer, Cluster, ListMachine, eventually, propose, propose_somewhere, same_lists};
use rookery_raft::{Group, ProposeError};
use tokio::time::Instant;

fn payload(writer: usize, n: usize) -> Bytes {
    Bytes::from(format!("{writer}/{n}"))
}

/// Writers over all nodes, each retrying where the outcome is a definite no. Returns what was acknowledged and what is
/// unknown.
async fn write(groups: Vec<Group<Answer>>, writer: usize, count: usize) -> (Vec<Bytes>, Vec<Bytes>) {
    let (mut acked, mut unknown) = (Vec::new(), Vec::new());
    for n in 0..count {
        let payload = payload(writer, n);
        match propose_somewhere(&groups, &payload).await {
            Ok(_) => acked.push(payload),
            Err(_) => unknown.push(payload),
        }
    }
    (acked, unknown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_applies_the_same_in_the_same_order() {
    let cluster = Cluster::start(3).await;
    cluster.leader().await;
    let groups: Vec<_> = cluster.nodes.iter().map(|n| n.group.clone()).collect();
    let writers: Vec<_> = (0..8).map(|w| tokio::spawn(write(groups.clone(), w, 50))).collect();
    for writer in writers {
        let (acked, unknown) = writer.await.unwrap();
        assert_eq!((acked.len(), unknown.len()), (50, 0), "nothing disturbs this cluster");
    }
    let nodes: Vec<_> = cluster.nodes.iter().collect();
    let list = same_lists(&nodes, 400).await;
    assert_eq!(list.len(), 400);
    assert_eq!(cluster.cuts.dialled.load(std::sync::atomic::Ordering::Relaxed), 3, "one connection per pair");
    for writer in 0..8 {
        let mine: Vec<_> =
            list.iter().filter(|p| p.starts_with(format!("{writer}/").as_bytes())).cloned().collect();
        assert_eq!(mine, (0..50).map(|n| payload(writer, n)).collect::<Vec<_>>(), "a writer's order is kept");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let rest: Vec<_> = cluster.nodes.iter().filter(|n| n.id != leader.id).collect();
    let groups: Vec<_> = cluster.nodes.iter().map(|n| n.group.clone()).collect();
    let writers: Vec<_> = (0..4).map(|w| tokio::spawn(write(groups.clone(), w, 200))).collect();
    eventually("progress", || (leader.machine.payloads().len() > 100).then_some(())).await;
    let began = Instant::now();
    leader.stop().await;
    let others: Vec<u16> = rest.iter().map(|n| n.id.node).collect();
    let next = cluster.leader_of(&others).await;
    let gap = began.elapsed();
    println!("failover took {gap:?}");
    assert!(gap < Duration::from_secs(3), "a new leader after {gap:?}");

    let (mut acked, mut unknown) = (HashSet::new(), HashSet::new());
    for writer in writers {
        let (a, u) = writer.await.unwrap();
        acked.extend(a);
        unknown.extend(u);
    }
    let list = same_lists(&rest, acked.len()).await;
    let distinct: HashSet<_> = list.iter().cloned().collect();
    assert!(acked.is_subset(&distinct), "every acknowledged entry is there");
    assert!(distinct.iter().all(|p| acked.contains(p) || unknown.contains(p)), "nothing refused is there");
    // `propose_somewhere` tries again after `Stopped`, whose entry may have been appended: those may be there twice.
    assert!(next.machine.leadership.lock().last().unwrap().is_some(), "the machine was told that it leads");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_refuses_and_names_the_leader() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.nodes.iter().find(|n| n.id != leader.id).unwrap();
    let refused = propose(&follower.group, "x").await.unwrap_err();
    assert_eq!(refused, ProposeError::NotLeader { leader: Some(leader.id) });
    assert_eq!(
        follower.group.initialize(&[kit::id(1), kit::id(2), kit::id(3)]).await.ok(),
        Some(()),
        "idempotent"
    );
    assert!(follower.group.initialize(&[kit::id(1)]).await.is_err(), "but not with others");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_group_answers_every_waiter() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    // Nothing commits any more, so all of these are still out when the group stops.
    cluster.cuts.isolate(leader.id.node, &[1, 2, 3]);
    let proposals: Vec<_> = (0..20)
        .map(|n| {
            let group = leader.group.clone();
            tokio::spawn(async move { propose(&group, payload(0, n)).await })
        })
        .collect();
    eventually("appended entries", || (leader.group.status().last_log > 5).then_some(())).await;
    leader.stop().await;
    for proposal in proposals {
        let outcome = proposal.await.unwrap();
        assert!(
            matches!(outcome, Err(ProposeError::Stopped | ProposeError::NotLeader { .. })),
            "unexpected {outcome:?}"
        );
    }
    assert_eq!(propose(&leader.group, "late").await, Err(ProposeError::Stopped));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_and_a_panic_stop_the_node() {
    for panics in [false, true] {
        let cluster = Cluster::start(1).await;
        let node = cluster.leader().await;
        let ListMachine { broken, panics: flag, .. } = &*node.machine;
        let flag = if panics { flag } else { broken };
        flag.store(true, std::sync::atomic::Ordering::Relaxed);
        let (tx, _rx) = tokio::sync::oneshot::channel();
        node.group.propose(Bytes::from_static(b"poison"), Answer(tx)).await;
        let fault = eventually("a fault", || node.faults.lock().first().cloned()).await;
        assert!(fault.to_string().contains("on purpose"), "{fault}");
        cluster.stop().await;
        assert_eq!(node.faults.lock().len(), 1, "told once");
    }
}

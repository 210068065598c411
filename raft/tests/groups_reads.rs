//! Linearizable reads, against leaders that are deposed and do not know it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panic"
)]

mod kit;

use std::time::Duration;

use kit::{Cluster, eventually, propose};
use rookery_raft::ReadError;
use tokio::time::Instant;

const DEADLINE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_reflects_what_was_acknowledged_before_it() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    for n in 0..50 {
        let index = propose(&leader.group, format!("{n}")).await.unwrap();
        let read = leader.group.read_index(DEADLINE).await.unwrap().index;
        assert!(read >= index, "read {read} after {index} was acknowledged");
        assert!(leader.machine.indices().last().is_some_and(|last| *last >= index), "and it is applied");
    }
    let follower = cluster.nodes.iter().find(|n| n.id != leader.id).unwrap();
    let refused = follower.group.read_index(DEADLINE).await.unwrap_err();
    assert_eq!(refused, ReadError::NotLeader { leader: Some(leader.id) });
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_share_their_rounds() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let began = Instant::now();
    let readers: Vec<_> = (0..2000)
        .map(|_| {
            let group = leader.group.clone();
            tokio::spawn(async move { group.read_index(DEADLINE).await })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap().unwrap();
    }
    println!("2000 readers: {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(2), "they cannot have had a round each");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_leader_answers_no_reads() {
    let cluster = Cluster::start(3).await;
    let old = cluster.leader().await;
    propose(&old.group, "before").await.unwrap();
    cluster.cuts.isolate(old.id.node, &[1, 2, 3]);
    // It still believes that it leads, and readers keep asking it while the others move on.
    let asked = old.group.clone();
    let reader = tokio::spawn(async move {
        let mut answers = Vec::new();
        for _ in 0..4 {
            answers.push(asked.read_index(Duration::from_millis(700)).await);
        }
        answers
    });
    let others: Vec<u16> = [1, 2, 3].into_iter().filter(|n| *n != old.id.node).collect();
    let new = cluster.leader_of(&others).await;
    let index = propose(&new.group, "after").await.unwrap();
    let read = new.group.read_index(DEADLINE).await.unwrap();
    assert!(read.index >= index);
    assert_eq!(read.term, new.group.status().term, "confirmed in the term in which it leads");
    for (n, answer) in reader.await.unwrap().into_iter().enumerate() {
        // The first may have been confirmed by an acknowledgement that was under way when the cut came.
        let stale = answer.as_ref().is_ok_and(|read| read.index < index);
        assert!(answer.is_err() || (n == 0 && stale), "read {n} of a deposed leader gave {answer:?}");
    }
    cluster.cuts.heal();
    eventually("the old leader to follow", || (old.group.status().leader == Some(new.id)).then_some(()))
        .await;
    cluster.stop().await;
}

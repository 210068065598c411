//! Requests reach the leader wherever it is, in order, and their answers come home.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rookery_wire::request::ListMembers;
use rookery_wire::{ErrorCode, GroupId, SessionId};

use super::*;

fn acks(notes: &Notes) -> Vec<u64> {
    notes
        .take()
        .into_iter()
        .map(|(ticket, answer)| {
            assert_eq!(answer, Answer::Epoch(ticket as u32));
            ticket
        })
        .collect()
}

fn error(answer: &Answer) -> Option<ErrorCode> {
    match answer {
        Answer::Refused(error) => Some(error.code),
        _ => None,
    }
}

fn some_read() -> Read {
    let session = SessionId::group(GroupId::new("g").unwrap());
    Read::Members { user: None, list: ListMembers { session, after: None, limit: 1 } }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_from_every_node() {
    let cluster = cluster(4, 3);
    for (node, at) in &cluster.nodes {
        let notes = Arc::new(Notes::default());
        at.router.submit(SHARD, (1..=50).map(|number| request(u64::from(*node), number, &notes)));
        until("answered", || notes.len() == 50).await;
        assert_eq!(acks(&notes), (1..=50).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn an_election_is_a_slow_answer_and_not_an_error() {
    let cluster = cluster(4, 3);
    cluster.group.lead(None);
    let all: Vec<_> = cluster
        .nodes
        .iter()
        .map(|(node, at)| {
            let notes = Arc::new(Notes::default());
            at.router.submit(SHARD, (1..=10).map(|number| request(u64::from(*node), number, &notes)));
            notes
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(all.iter().all(|notes| notes.len() == 0));
    cluster.group.lead(Some(3));
    for notes in &all {
        until("answered", || notes.len() == 10).await;
        assert_eq!(acks(notes), (1..=10).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_is_found_soon() {
    let cluster = cluster(4, 3);
    for (node, at) in &cluster.nodes {
        let notes = Arc::new(Notes::default());
        for (number, leader) in [(1, 1), (2, 2), (3, 3), (4, 1)] {
            cluster.group.lead(Some(leader));
            let start = tokio::time::Instant::now();
            at.router.submit(SHARD, [request(u64::from(*node), number, &notes)]);
            until("answered", || notes.len() == 1).await;
            acks(&notes);
            let took = start.elapsed();
            assert!(took < Duration::from_millis(150), "node {node} found {leader} after {took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_broken_link_lost_is_sent_again_in_order() {
    let cluster = cluster(2, 2);
    let notes = Arc::new(Notes::default());
    cluster.group.mute.store(true, Ordering::Relaxed);
    cluster.nodes[&2].router.submit(SHARD, (1..=20).map(|number| request(5, number, &notes)));
    tokio::time::sleep(Duration::from_millis(50)).await;
    cluster.net.cut(1, 2);
    cluster.group.mute.store(false, Ordering::Relaxed);
    cluster.nodes[&2].router.submit(SHARD, (21..=30).map(|number| request(5, number, &notes)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(notes.len(), 0);
    cluster.net.heal(1, 2);
    until("answered", || notes.len() == 30).await;
    assert_eq!(acks(&notes), (1..=30).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn answers_lost_on_a_living_link_are_asked_for_again() {
    let cluster = cluster(2, 2);
    let notes = Arc::new(Notes::default());
    cluster.group.mute.store(true, Ordering::Relaxed);
    cluster.nodes[&2].router.submit(SHARD, (1..=3).map(|number| request(5, number, &notes)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.group.mute.store(false, Ordering::Relaxed);
    until("answered", || notes.len() == 3).await;
    assert_eq!(cluster.nodes[&2].router.stats().resent, 3);
}

#[tokio::test(start_paused = true)]
async fn nobody_to_ask_is_unavailable_at_the_deadline_and_not_before() {
    let cluster = cluster(2, 1);
    cluster.net.cut(1, 2);
    let notes = Arc::new(Notes::default());
    cluster.nodes[&2].router.submit(SHARD, [request(5, 1, &notes)]);
    tokio::time::sleep(Duration::from_millis(9_900)).await;
    assert_eq!(notes.len(), 0);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(error(&notes.take()[0].1), Some(ErrorCode::Unavailable));
    assert_eq!(cluster.nodes[&2].router.stats().expired, 1);
}

#[tokio::test(start_paused = true)]
async fn reads_go_to_the_leader_or_stay_here_when_that_is_enough() {
    let cluster = cluster(3, 2);
    let read = |node: u16, freshness| {
        let router = cluster.nodes[&node].router.clone();
        async move {
            match router.read(SHARD, some_read(), freshness).await {
                Ok(ReadReply::Count(node)) => Ok(node),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.code),
            }
        }
    };
    for node in 1..=3 {
        assert_eq!(read(node, Freshness::Linearizable).await, Ok(1));
    }
    cluster.group.lead(Some(2));
    for node in 1..=3 {
        assert_eq!(read(node, Freshness::Linearizable).await, Ok(2));
    }
    cluster.nodes[&1].replica.as_ref().unwrap().head.store(10, Ordering::Relaxed);
    assert_eq!(read(1, Freshness::AtLeast(10)).await, Ok(1), "this replica has it");
    assert_eq!(read(1, Freshness::AtLeast(11)).await, Ok(2), "it has not: the leader");
    assert_eq!(read(1, Freshness::Replica).await, Ok(1));
    assert_eq!(read(3, Freshness::Replica).await, Err(ErrorCode::NoReplica));
    cluster.group.lead(None);
    assert_eq!(read(1, Freshness::Linearizable).await, Err(ErrorCode::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn reads_are_bounded() {
    let cluster = cluster(1, 1);
    cluster.group.lead(None);
    let reads =
        (0..65).map(|_| {
            let router = cluster.nodes[&1].router.clone();
            async move {
                router.read(SHARD, some_read(), Freshness::Linearizable).await.map_err(|error| error.code)
            }
        });
    let results = futures::future::join_all(reads).await;
    let count = |code| results.iter().filter(|result| result.as_ref().err() == Some(&code)).count();
    assert_eq!((count(ErrorCode::Busy), count(ErrorCode::Unavailable)), (1, 64));
}

#[tokio::test(start_paused = true)]
async fn stopping_answers_what_waits_and_what_comes() {
    let cluster = cluster(1, 1);
    cluster.group.lead(None);
    let notes = Arc::new(Notes::default());
    let router = &cluster.nodes[&1].router;
    router.submit(SHARD, [request(1, 1, &notes)]);
    router.stop().await;
    router.submit(SHARD, [request(1, 2, &notes)]);
    let codes: Vec<_> = notes.take().iter().map(|(_, answer)| error(answer)).collect();
    assert_eq!(codes, [Some(ErrorCode::ShuttingDown); 2]);
}

/// Leaders move, links break, batches are refused, answers are lost; every send of every device is stored once, in
/// order, and is acknowledged once.
#[tokio::test(start_paused = true)]
async fn in_all_troubles_order_and_once_hold() {
    const SENDERS: u64 = 6;
    const EACH: u64 = 400;
    let cluster = cluster(4, 3);
    cluster.group.trouble.store(12, Ordering::Relaxed);
    let draws = SeededEntropy::new(11);
    let notes: Vec<_> = (0..SENDERS).map(|_| Arc::new(Notes::default())).collect();
    for number in 1..=EACH {
        for sender in 0..SENDERS {
            let node = &cluster.nodes[&(1 + (sender % 4) as u16)];
            node.router.submit(SHARD, [request(sender, number, &notes[sender as usize])]);
        }
        match draws.u64() % 20 {
            0 => cluster.group.lead(None),
            1..=3 => cluster.group.lead(Some(1 + (draws.u64() % 3) as u16)),
            4 => cluster.net.cut(1, 1 + (draws.u64() % 4) as u16),
            5 | 6 => (2..=4).for_each(|node| cluster.net.heal(1, node)),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(draws.u64() % 8)).await;
    }
    cluster.group.trouble.store(0, Ordering::Relaxed);
    (2..=4).for_each(|node| cluster.net.heal(1, node));
    cluster.group.lead(Some(2));
    for (sender, notes) in notes.iter().enumerate() {
        until("everything answered", || notes.len() as u64 == EACH).await;
        let mut tickets = acks(notes);
        tickets.sort_unstable();
        assert_eq!(tickets, (1..=EACH).collect::<Vec<_>>(), "sender {sender}: each once");
    }
    let resent: u64 = cluster.nodes.values().map(|node| node.router.stats().resent).sum();
    assert!(resent > 0, "there was no trouble");
}

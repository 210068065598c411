//! Hand-overs and changes of members.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panic"
)]

mod kit;

use std::time::Duration;

use kit::{Cluster, ListMachine, Node, eventually, id, introduce, propose, propose_somewhere, same_lists};
use rookery_raft::{HostOptions, MemoryDisk, RaftError, RaftId};
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_quickly_and_to_whom_was_asked() {
    let cluster = Cluster::start(3).await;
    for round in 0..6 {
        let leader = cluster.leader().await;
        let to = cluster.nodes.iter().find(|n| n.id.node == leader.id.node % 3 + 1).unwrap();
        propose_somewhere(std::slice::from_ref(&leader.group), &format!("round {round}").into())
            .await
            .unwrap();
        let began = Instant::now();
        leader.group.transfer_leader(to.id).await.unwrap();
        eventually("the new leader to take entries", || to.group.status().leading.then_some(())).await;
        // A new leader refuses until a majority answered it once, so this is tried again.
        let groups = [to.group.clone()];
        propose_somewhere(&groups, &format!("after {round}").into()).await.unwrap();
        let took = began.elapsed();
        println!("hand-over {round} took {took:?}");
        assert!(took < Duration::from_secs(1), "a hand-over took {took:?}");
    }
    let leader = cluster.leader().await;
    let follower = cluster.nodes.iter().find(|n| n.id != leader.id).unwrap();
    assert!(matches!(follower.group.transfer_leader(leader.id).await, Err(RaftError::NotLeader { .. })));
    assert!(matches!(leader.group.transfer_leader(id(9)).await, Err(RaftError::Refused { .. })));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_folder_comes_back_as_another_voter() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await.id;
    for n in 0..20 {
        propose(&cluster.leader().await.group, format!("{n}")).await.unwrap();
    }
    let lost = cluster.nodes.iter().position(|n| n.id != leader).unwrap();
    let gone = cluster.nodes.remove(lost);
    gone.stop().await;
    let new = RaftId::new(gone.id.node, 0xbeef);
    let disk = MemoryDisk::new(new.store);
    let fresh = Node::start(new, disk, &cluster.cuts, HostOptions::new(new), ListMachine::default()).await;
    cluster.nodes.push(fresh);
    introduce(&cluster.nodes, &cluster.cuts);

    let leader = cluster.nodes.iter().find(|n| n.id == leader).unwrap();
    let voters: Vec<RaftId> = cluster.nodes.iter().map(|n| n.id).collect();
    leader.group.set_voters(&voters).await.unwrap();
    let mut want = voters.clone();
    want.sort();
    eventually("the new voters", || (leader.group.status().voters == want).then_some(())).await;
    let nodes: Vec<_> = cluster.nodes.iter().collect();
    same_lists(&nodes, 20).await;

    // Only with the new voter is there a majority now.
    let other = cluster.nodes.iter().find(|n| n.id != leader.id && n.id != new).unwrap();
    other.stop().await;
    propose(&leader.group, "with the new voter").await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_can_vote_itself_out() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    propose(&leader.group, "one").await.unwrap();
    let rest: Vec<RaftId> = cluster.nodes.iter().map(|n| n.id).filter(|id| *id != leader.id).collect();
    leader.group.set_voters(&rest).await.unwrap();
    let others: Vec<u16> = rest.iter().map(|id| id.node).collect();
    let next = cluster.leader_of(&others).await;
    assert_ne!(next.id, leader.id);
    propose(&next.group, "two").await.unwrap();
    assert_eq!(next.group.status().voters, rest);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_needed_while_another_is_behind_and_the_nearest_heir_comes_first() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let others: Vec<_> = cluster.nodes.iter().filter(|n| n.id != leader.id).collect();
    let [near, far] = others[..] else { panic!("two others") };
    propose(&leader.group, "before").await.unwrap();
    let free = || [near, far].iter().all(|n| leader.group.stands_without(n.id.node)).then_some(());
    eventually("both others are up to date", free).await;
    assert!(near.group.stands_without(leader.id.node), "who does not lead is not asked");
    assert!(near.group.heirs().is_empty(), "and has nothing to leave");
    cluster.cuts.isolate(far.id.node, &[1, 2, 3]);
    for n in 0..20 {
        propose(&leader.group, format!("{n}")).await.unwrap();
    }
    assert!(!leader.group.stands_without(near.id.node), "without it nothing could be committed");
    assert!(leader.group.stands_without(far.id.node), "it is not missed");
    let first = leader.group.heirs().first().copied();
    assert!(first.is_some_and(|(heir, behind)| heir == near.id && behind < 20), "{first:?}");
    cluster.cuts.heal();
    eventually("both others are up to date again", free).await;
    cluster.stop().await;
}

//! Purging behind checkpoints, and snapshots to those who then lack entries.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panic"
)]

mod kit;

use std::sync::atomic::Ordering;

use bytes::Bytes;
use kit::{Cluster, ListMachine, Node, eventually, id, introduce, propose, same_lists};
use rookery_raft::{HostOptions, MemoryDisk, RaftError};

async fn fill(leader: &Node, count: usize) {
    for n in 0..count {
        propose(&leader.group, format!("entry {n}")).await.unwrap();
    }
}

/// Checkpoints the node's machine as it is, and waits until the log behind it is gone.
async fn checkpoint_and_purge(node: &Node) -> u64 {
    let (_, mark) = node.machine.checkpoint();
    let mark = mark.unwrap();
    let upto = mark.index();
    node.group.checkpointed(mark).await;
    eventually("a purge", || (node.group.status().purged >= upto).then_some(())).await;
    upto
}

fn keep_nothing(options: HostOptions) -> HostOptions {
    HostOptions { log_keep: 0, ..options }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_purged_behind_a_checkpoint_but_for_what_is_kept() {
    let cluster = Cluster::with(3, |options| HostOptions { log_keep: 10, ..options }).await;
    let leader = cluster.leader().await;
    fill(leader, 50).await;
    let mark = leader.machine.mark_now().unwrap();
    leader.group.checkpointed(mark.clone()).await;
    let purged = eventually("a purge", || {
        let purged = leader.group.status().purged;
        (purged > 0).then_some(purged)
    })
    .await;
    assert_eq!(purged, mark.index() - 10);
    assert_eq!(leader.group.purge_all().await.unwrap(), mark.index(), "all of it, when it must go");
    assert_eq!(leader.group.status().purged, mark.index());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_behind_the_purge_gets_a_snapshot() {
    let cluster = Cluster::with(3, keep_nothing).await;
    let leader = cluster.leader().await;
    let lagging = cluster.nodes.iter().find(|n| n.id != leader.id).unwrap();
    fill(leader, 10).await;
    cluster.cuts.isolate(lagging.id.node, &[1, 2, 3]);
    fill(leader, 40).await;
    checkpoint_and_purge(leader).await;
    fill(leader, 5).await;
    cluster.cuts.heal();
    let nodes: Vec<_> = cluster.nodes.iter().collect();
    same_lists(&nodes, 55).await;
    assert_eq!(lagging.machine.installs.load(Ordering::Relaxed), 1);
    fill(cluster.leader().await, 5).await;
    same_lists(&nodes, 60).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_was_interrupted_comes_again() {
    let cluster = Cluster::with(3, keep_nothing).await;
    let leader = cluster.leader().await;
    let lagging = cluster.nodes.iter().find(|n| n.id != leader.id).unwrap();
    cluster.cuts.isolate(lagging.id.node, &[1, 2, 3]);
    fill(leader, 100).await;
    checkpoint_and_purge(leader).await;
    // Some 20 MB, so that it is under way for a while.
    leader.machine.padding.store(200_000, Ordering::Relaxed);
    cluster.cuts.heal();
    eventually("a transfer", || {
        (leader.machine.snapshots_written.load(Ordering::Relaxed) == 1).then_some(())
    })
    .await;
    cluster.cuts.isolate(lagging.id.node, &[1, 2, 3]);
    let link = leader.peers.link(lagging.id.node);
    eventually("the end of the link", || (!link.borrow().up).then_some(())).await;
    assert_eq!(lagging.machine.installs.load(Ordering::Relaxed), 0, "cut in the middle");
    cluster.cuts.heal();
    let nodes: Vec<_> = cluster.nodes.iter().collect();
    same_lists(&nodes, 100).await;
    assert!(leader.machine.snapshots_written.load(Ordering::Relaxed) >= 2, "it began anew");
    assert_eq!(lagging.machine.installs.load(Ordering::Relaxed), 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_voter_is_brought_up_by_a_snapshot_through_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let incoming = dir.path().join("incoming");
    let mut cluster = Cluster::with(3, keep_nothing).await;
    let leader = cluster.leader().await.id;
    {
        let leader = cluster.leader().await;
        fill(leader, 30).await;
        checkpoint_and_purge(leader).await;
    }
    let options = HostOptions { incoming: Some(incoming.clone()), ..keep_nothing(HostOptions::new(id(4))) };
    let fresh =
        Node::start(id(4), MemoryDisk::new(id(4).store), &cluster.cuts, options, ListMachine::default())
            .await;
    fresh.machine.stall_install.store(true, Ordering::Relaxed);
    cluster.nodes.push(fresh);
    introduce(&cluster.nodes, &cluster.cuts);

    let node = cluster.nodes.iter().find(|n| n.id == leader).unwrap();
    let group = node.group.clone();
    let replaced = cluster.nodes.iter().find(|n| n.id != leader && n.id.node != 4).unwrap().id;
    let voters: Vec<_> = cluster.nodes.iter().map(|n| n.id).filter(|id| *id != replaced).collect();
    let wanted = voters.clone();
    let change = tokio::spawn(async move { group.set_voters(&wanted).await });
    let spooled = || std::fs::read_dir(&incoming).map(Iterator::count).unwrap_or(0);
    eventually("a spooled snapshot", || (spooled() == 1).then_some(())).await;
    cluster.nodes[3].machine.stall_install.store(false, Ordering::Relaxed);
    change.await.unwrap().unwrap();
    eventually("an emptied spool", || (spooled() == 0).then_some(())).await;

    assert_eq!(cluster.nodes[3].machine.installs.load(Ordering::Relaxed), 1);
    let status = node.group.status();
    assert_eq!((status.voters, status.learners), (voters.clone(), vec![]));
    let members: Vec<_> = cluster.nodes.iter().filter(|n| n.id != replaced).collect();
    fill(node, 5).await;
    same_lists(&members, 35).await;
    node.group.set_voters(&voters).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_begins_at_the_checkpoint_and_replays_the_rest() {
    let mut cluster = Cluster::with(1, keep_nothing).await;
    fill(cluster.leader().await, 20).await;
    let node = cluster.nodes.remove(0);
    let (entries, mark) = node.machine.checkpoint();
    checkpoint_and_purge(&node).await;
    fill(&node, 15).await;
    let before = node.machine.payloads();
    node.stop().await;
    let (disk, faults) = (node.disk.clone(), node.faults.clone());
    drop(node);
    disk.crash();

    let stored = mark.map(|mark| rookery_raft::Mark::from_bytes(&mark.bytes()).unwrap());
    let machine = ListMachine::restored(entries, stored);
    let again = Node::start(id(1), disk, &cluster.cuts, keep_nothing(HostOptions::new(id(1))), machine).await;
    eventually("a leader", || again.group.status().leading.then_some(())).await;
    eventually("what was acknowledged", || (again.machine.payloads() == before).then_some(())).await;
    propose(&again.group, Bytes::from_static(b"more")).await.unwrap();
    assert!(faults.lock().is_empty() && again.faults.lock().is_empty());
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_lost_what_its_log_was_purged_of_is_refused_with_the_remedy() {
    let mut cluster = Cluster::with(1, keep_nothing).await;
    fill(cluster.leader().await, 20).await;
    let node = cluster.nodes.remove(0);
    let (entries, old) = node.machine.checkpoint();
    fill(&node, 10).await;
    let purged = checkpoint_and_purge(&node).await;
    fill(&node, 5).await;
    node.stop().await;
    let disk = node.disk.clone();
    drop(node);

    let behind = old.as_ref().map(rookery_raft::Mark::index);
    for (machine, held) in [(ListMachine::default(), None), (ListMachine::restored(entries, old), behind)] {
        let options = keep_nothing(HostOptions::new(id(1)));
        let opened = Node::try_start(id(1), disk.clone(), &cluster.cuts, options, machine).await;
        let refusal = opened.err().expect("a machine behind the purge point is refused");
        let text = refusal.to_string();
        match refusal {
            RaftError::StateLost { group: 1, purged: at, checkpoint } => {
                assert_eq!((at, checkpoint), (purged, held));
            }
            other => panic!("refused, but not for its state: {other}"),
        }
        assert!(text.contains("whole data folder") && text.contains("--replace"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_sent_while_entries_come_is_no_hole() {
    let cluster = Cluster::with(3, keep_nothing).await;
    let leader = cluster.leader().await;
    let lagging = cluster.nodes.iter().find(|n| n.id != leader.id).unwrap();
    cluster.cuts.isolate(lagging.id.node, &[1, 2, 3]);
    fill(leader, 60).await;
    checkpoint_and_purge(leader).await;
    leader.machine.padding.store(100_000, Ordering::Relaxed);
    cluster.cuts.heal();
    // Entries and checkpoints go on beside the transfer; its purges wait for its end.
    for n in 0..200 {
        propose(&leader.group, format!("beside {n}")).await.unwrap();
        if n % 20 == 0 {
            leader.group.checkpointed(leader.machine.mark_now().unwrap()).await;
        }
    }
    let nodes: Vec<_> = cluster.nodes.iter().collect();
    same_lists(&nodes, 260).await;
    assert!(lagging.machine.installs.load(Ordering::Relaxed) >= 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_that_does_not_hold_what_was_received_is_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let folder = |node: u16| dir.path().join(node.to_string());
    let cluster = Cluster::with(3, |options| {
        let incoming = Some(folder(options.me.node));
        HostOptions { incoming, ..keep_nothing(options) }
    })
    .await;
    let leader = cluster.leader().await;
    let lagging = cluster.nodes.iter().find(|n| n.id != leader.id).unwrap();
    fill(leader, 10).await;
    cluster.cuts.isolate(lagging.id.node, &[1, 2, 3]);
    fill(leader, 40).await;
    let index = checkpoint_and_purge(leader).await;
    // What is written here is gone: every write succeeds and nothing can be read. The link is removed with the spool,
    // so the next one is a file.
    let incoming = folder(lagging.id.node);
    std::fs::create_dir_all(&incoming).unwrap();
    let spool = incoming.join(format!("group-1-{index}.snapshot"));
    std::os::unix::fs::symlink("/dev/null", &spool).unwrap();
    cluster.cuts.heal();
    let nodes: Vec<_> = cluster.nodes.iter().collect();
    same_lists(&nodes, 50).await;
    assert!(!spool.exists());
    assert!(leader.machine.snapshots_written.load(Ordering::Relaxed) >= 2, "it came again");
    assert_eq!(lagging.machine.installs.load(Ordering::Relaxed), 1);
    assert!(lagging.faults.lock().is_empty(), "the node goes on");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_breaks_during_the_installation_does_not_disturb_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = |node: u16| dir.path().join(node.to_string());
    let cluster = Cluster::with(3, |options| {
        let incoming = Some(folder(options.me.node));
        HostOptions { incoming, ..keep_nothing(options) }
    })
    .await;
    let leader = cluster.leader().await;
    let lagging = cluster.nodes.iter().find(|n| n.id != leader.id).unwrap();
    cluster.cuts.isolate(lagging.id.node, &[1, 2, 3]);
    fill(leader, 50).await;
    let index = checkpoint_and_purge(leader).await;
    lagging.machine.stall_install.store(true, Ordering::Relaxed);
    cluster.cuts.heal();
    eventually("an installation", || (lagging.machine.installing.load(Ordering::Relaxed) == 1).then_some(()))
        .await;
    let spool = folder(lagging.id.node).join(format!("group-1-{index}.snapshot"));
    let written = || std::fs::metadata(&spool).and_then(|spool| spool.modified()).unwrap();
    let whole = written();

    let link = leader.peers.link(lagging.id.node);
    cluster.cuts.isolate(lagging.id.node, &[1, 2, 3]);
    eventually("the end of the link", || (!link.borrow().up).then_some(())).await;
    cluster.cuts.heal();
    // The same snapshot is sent again, and again, as long as the first one is at work.
    eventually("a third transfer", || {
        assert_eq!(written(), whole, "the file that is being installed was written anew");
        (leader.machine.snapshots_written.load(Ordering::Relaxed) >= 3).then_some(())
    })
    .await;
    lagging.machine.stall_install.store(false, Ordering::Relaxed);
    let nodes: Vec<_> = cluster.nodes.iter().collect();
    same_lists(&nodes, 50).await;
    fill(cluster.leader().await, 5).await;
    same_lists(&nodes, 55).await;
    assert!(lagging.faults.lock().is_empty(), "the node goes on: {:?}", lagging.faults.lock());
    cluster.stop().await;
}

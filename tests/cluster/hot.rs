//! A hot group beside quiet sessions: it is held back, and for that nothing is lost, doubled or out of order, also when its
//! leader dies while much of it waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rookery_client::{Client, Outgoing};
use rookery_wire::{GroupId, SessionId};
use tokio::task::JoinSet;

use super::fixture::{Cluster, Plan, play, until};
use super::people::{app, contents, direct, group, replicas, say, texts, user};

/// Messages of one hot sender at most, so that the test ends.
const MANY: usize = 20_000;

/// Sends as fast as it may until it is told to stop; every message must be acknowledged. Says how many there were.
async fn flood(client: Client, session: SessionId, label: String, stop: Arc<AtomicBool>) -> usize {
    let mut acks = Vec::new();
    while !stop.load(Ordering::Acquire) && acks.len() < MANY {
        let text = format!("{label} {}", acks.len() + 1);
        acks.push(client.send_pipelined(&session, Outgoing::text(&text)).await.expect("a place"));
    }
    let count = acks.len();
    for ack in acks {
        ack.await.expect("what is held back is not given up");
    }
    count
}

#[test]
fn a_hot_group_is_held_back_for_quiet_sessions_and_keeps_everything_through_the_death_of_its_leader() {
    play(async {
        // So soon no answer comes on three nodes beside such a load.
        let mut cluster = Cluster::up(Plan::new(3, 4).with("timing", "late_ms = 1")).await;
        let starlings = group("starlings");
        let mut draining = JoinSet::new();
        let mut hot = Vec::new();
        for node in 1..=3_u16 {
            let nodes = [node, node % 3 + 1, (node + 1) % 3 + 1];
            let (client, inbox) = app(&cluster, &nodes, &format!("starling{node}"), "phone").await;
            draining.spawn(inbox.drain());
            hot.push(client);
        }
        let others = [user("starling2"), user("starling3")];
        hot[0].create_group(GroupId::new("starlings").expect("a name"), &others).await.expect("created");
        let stop = Arc::new(AtomicBool::new(false));
        let mut flooding = JoinSet::new();
        for (at, client) in hot.iter().enumerate() {
            let label = format!("starling{}", at + 1);
            flooding.spawn({
                let flood = flood(client.clone(), starlings.clone(), label.clone(), stop.clone());
                async move { (label, flood.await) }
            });
        }
        let mut quiet = Vec::new();
        for node in 1..=3_u16 {
            let nodes = [node, node % 3 + 1, (node + 1) % 3 + 1];
            let (client, inbox) = app(&cluster, &nodes, &format!("dunnock{node}"), "phone").await;
            draining.spawn(inbox.drain());
            quiet.push((client, direct(&format!("dunnock{node}"), "firecrest")));
        }
        until("something is held back", async || {
            let mut held = 0;
            for (client, session) in &quiet {
                say(client, session, texts("psst", 2)).await;
            }
            for id in cluster.ids() {
                held += cluster.status(id).await.map_or(0, |status| status.requests.held);
            }
            held > 0
        })
        .await;
        let leader = cluster.leader_of(&starlings).await;
        cluster.kill(leader);
        for (client, session) in &quiet {
            say(client, session, texts("still", 5)).await;
        }
        cluster.start(leader);
        cluster.serving().await;
        stop.store(true, Ordering::Release);
        let mut sent = Vec::new();
        while let Some(flooded) = flooding.join_next().await {
            sent.push(flooded.expect("it ran"));
        }
        let kept = contents(&replicas(&cluster, &[1, 2, 3], &starlings).await);
        for (label, count) in &sent {
            let prefix = format!("{label} ");
            let its: Vec<&String> = kept.iter().filter(|text| text.starts_with(&prefix)).collect();
            assert!(its.iter().copied().eq(texts(label, *count).iter()), "{label}: {} of {count}", its.len());
        }
        assert_eq!(kept.len(), sent.iter().map(|(_, count)| count).sum::<usize>());
        until("nothing is held back", async || {
            let mut held = 0;
            for id in cluster.ids() {
                held += cluster.status(id).await.map_or(1, |status| status.requests.held);
            }
            held == 0
        })
        .await;
        println!("{} messages of the hot group, none lost", kept.len());
    });
}

//! A loud session beside quiet conversations: it is made to go at a pace, and keeps its order, also when its leader dies.

use rookery_client::{Client, Outgoing};
use rookery_wire::SessionId;

use super::fixture::{Cluster, Plan, find, play};
use super::people::{app, contents, direct, replicas, say, texts};

/// Messages of the loud session after which it must have been paced.
const MANY: usize = 20_000;
/// Of these so many are under way at once.
const BURST: usize = 1_000;

/// Commands that were proposed at a pace, on all nodes that answer.
async fn paced(cluster: &Cluster) -> u64 {
    let mut sum = 0;
    for id in cluster.ids() {
        let shards = cluster.status(id).await.map(|status| status.shards).unwrap_or_default();
        sum += shards.iter().map(|shard| shard.paced).sum::<u64>();
    }
    sum
}

/// Sends many at once; each is acknowledged with the seq behind the one before.
async fn burst(from: &Client, session: &SessionId, label: &str, sent: &mut Vec<String>) {
    let mut waiting = Vec::new();
    for text in texts(label, BURST) {
        waiting.push(from.send_pipelined(session, Outgoing::text(&text)).await.expect("a place"));
        sent.push(text);
    }
    for (ack, at) in waiting.into_iter().zip(sent.len() - BURST + 1..) {
        assert_eq!(ack.await.expect("acknowledged").seq, at as u64);
    }
}

/// Alone it goes as fast as it can. Beside others it is paced, and while what it has to say waits, its leader is killed; every
/// message has its place, once, in the order in which its sender made it, on every replica and in every push.
#[test]
fn a_loud_session_goes_at_a_pace_beside_others_and_keeps_its_order() {
    play(async {
        let mut cluster = Cluster::up(Plan::new(3, 4)).await;
        let loud = direct("carl", "dora");
        let others = |number| direct("ann", &format!("friend{number}"));
        let quiet = find(others, |session| cluster.shard_of(session) != cluster.shard_of(&loud));
        let leader = cluster.leader_of(&loud).await;
        let away: Vec<u16> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
        let (ann, _) = app(&cluster, &away, "ann", "phone").await;
        let (carl, _) = app(&cluster, &away, "carl", "phone").await;
        let (_dora, mut doras) = app(&cluster, &away, "dora", "phone").await;
        let mut sent = texts("first", 1);
        say(&carl, &loud, sent.clone()).await;
        doras.up_to(&loud, "first 1").await;
        burst(&carl, &loud, "alone", &mut sent).await;
        assert_eq!(paced(&cluster).await, 0, "there was nobody to yield to");

        let mut said = 0;
        while paced(&cluster).await == 0 {
            assert!(sent.len() < MANY, "{MANY} messages beside {said} of others, and none was paced");
            let label = format!("at {}", sent.len());
            let talk = async {
                for _ in 0..60 {
                    said += 1;
                    say(&ann, &quiet, [format!("hello {said}")]).await;
                }
            };
            tokio::join!(burst(&carl, &loud, &label, &mut sent), talk);
        }
        let kill = async {
            say(&ann, &quiet, ["the last before".to_owned()]).await;
            cluster.kill(leader);
        };
        tokio::join!(burst(&carl, &loud, "through it", &mut sent), kill);

        let last = sent.last().expect("some").clone();
        assert_eq!(doras.up_to(&loud, &last).await, sent, "the other user was pushed all of it");
        cluster.start(leader);
        cluster.serving().await;
        let records = replicas(&cluster, &[1, 2, 3], &loud).await;
        assert_eq!(contents(&records), sent, "and every replica has it");
    });
}

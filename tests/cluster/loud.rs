//! A loud group beside quiet conversations: it is made to go at a pace, and keeps its order.

use rookery_client::Outgoing;
use rookery_wire::SessionId;

use super::fixture::{Cluster, Plan, play};
use super::people::{app, contents, direct, replicas, say, texts};

/// Messages of the loud session after which it must have been paced.
const MANY: usize = 20_000;
const SHARDS: u32 = 4;

/// Commands that were proposed at a pace, on all nodes.
async fn paced(cluster: &Cluster) -> u64 {
    let mut sum = 0;
    for id in cluster.ids() {
        let status = cluster.status(id).await.expect("it answers");
        sum += status.shards.iter().map(|shard| shard.paced).sum::<u64>();
    }
    sum
}

fn shard(session: &SessionId) -> u64 {
    session.hash64() % u64::from(SHARDS)
}

/// A conversation of `ann` with somebody, in another shard than `loud`.
fn elsewhere(loud: &SessionId) -> SessionId {
    let with = (0..).map(|at| direct("ann", &format!("friend{at}")));
    with.into_iter().find(|session| shard(session) != shard(loud)).expect("there are more shards")
}

/// Alone it goes as fast as it can; beside others it is paced, and every message has its place, once, in the order in which its
/// sender made it, on every replica and in every push.
#[test]
fn a_loud_session_goes_at_a_pace_beside_others_and_keeps_its_order() {
    play(async {
        let cluster = Cluster::up(Plan::new(3, SHARDS)).await;
        let loud = direct("carl", "dora");
        let quiet = elsewhere(&loud);
        let (ann, _) = app(&cluster, &[1], "ann", "phone").await;
        let (carl, _) = app(&cluster, &[2], "carl", "phone").await;
        let (_dora, mut doras) = app(&cluster, &[3], "dora", "phone").await;
        say(&carl, &loud, texts("first", 1)).await;
        doras.up_to(&loud, "first 1").await;
        let mut sent = texts("first", 1);
        let burst = async |label: &str, sent: &mut Vec<String>| {
            let mut waiting = Vec::new();
            for text in texts(label, 1_000) {
                waiting.push(carl.send_pipelined(&loud, Outgoing::text(&text)).await.expect("a place"));
                sent.push(text);
            }
            for (ack, at) in waiting.into_iter().zip(sent.len() - 999..) {
                assert_eq!(ack.await.expect("acknowledged").seq, at as u64);
            }
        };
        burst("alone", &mut sent).await;
        assert_eq!(paced(&cluster).await, 0, "there was nobody to yield to");
        let mut said = 0;
        while paced(&cluster).await == 0 {
            assert!(sent.len() < MANY, "{MANY} messages beside {said} of others, and none was paced");
            let label = format!("at {}", sent.len());
            let others = async {
                for _ in 0..60 {
                    said += 1;
                    say(&ann, &quiet, [format!("hello {said}")]).await;
                }
            };
            tokio::join!(burst(&label, &mut sent), others);
        }
        let last = sent.last().expect("some").clone();
        assert_eq!(doras.up_to(&loud, &last).await, sent, "the other user was pushed all of it");
        let records = replicas(&cluster, &[1, 2, 3], &loud).await;
        assert_eq!(contents(&records), sent, "and every replica has it");
    });
}

//! Two users write to each other for the first time at the same moment, through different nodes: one session comes of it.

use std::sync::Arc;

use rookery_wire::RecordKind;
use rookery_wire::request::Consistency;
use tokio::sync::Barrier;

use super::fixture::{Cluster, Plan, play};
use super::people::{Wire, direct, replicas, text_of};

const PAIRS: u16 = 24;

/// A device of each of the two, at nodes of their own.
struct Pair {
    names: [String; 2],
    nodes: [u16; 2],
}

impl Pair {
    /// The lesser and the greater name each write through every node, and each with every other one at the other side.
    fn of(number: u16) -> Self {
        let names = [format!("alva-{number}"), format!("bram-{number}")];
        let one = number % 3 + 1;
        let other = (number + 1 + number / 3 % 2) % 3 + 1;
        Self { names, nodes: [one, other] }
    }
}

#[test]
fn two_first_messages_at_the_same_moment_through_two_nodes_make_one_session() {
    play(async {
        let cluster = Arc::new(Cluster::up(Plan::new(3, 4)).await);
        let mut firsts = [0, 0];
        for number in 0..PAIRS {
            let pair = Pair::of(number);
            assert_ne!(pair.nodes[0], pair.nodes[1]);
            firsts[both(&cluster, &pair).await] += 1;
        }
        println!("the lesser name was first {} times, the greater one {} times", firsts[0], firsts[1]);
    });
}

/// Says who was first.
async fn both(cluster: &Arc<Cluster>, pair: &Pair) -> usize {
    let session = direct(&pair.names[0], &pair.names[1]);
    let together = Arc::new(Barrier::new(2));
    let sides: Vec<_> = (0..2)
        .map(|side| {
            let (cluster, together, session) = (cluster.clone(), together.clone(), session.clone());
            let (name, node) = (pair.names[side].clone(), pair.nodes[side]);
            tokio::spawn(async move {
                let mut wire = Wire::of(&cluster, node, &name, "phone").await;
                together.wait().await;
                let ack = wire.send(&session, 1, &format!("from {name}")).await;
                (wire, ack.unwrap_or_else(|why| panic!("{name}: {why}")))
            })
        })
        .collect();
    let mut wires = Vec::new();
    let mut acks = Vec::new();
    for side in sides {
        let (wire, ack) = side.await.expect("it does not fail");
        wires.push(wire);
        acks.push(ack);
    }
    let mut seqs: Vec<u64> = acks.iter().map(|ack| ack.seq).collect();
    let first = usize::from(seqs[1] < seqs[0]);
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 2], "{session}");
    assert_ne!(acks[0].message_id, acks[1].message_id);
    let mut expected = pair.names.clone().map(|name| format!("from {name}"));
    expected.rotate_left(first);
    for (name, (wire, ack)) in pair.names.iter().zip(wires.iter_mut().zip(&acks)) {
        let list = wire.sync().await;
        assert_eq!((list.sessions.len(), list.unresolved.len(), list.total), (1, 0, 1), "{list:?}");
        let line = &list.sessions[0];
        assert_eq!((&line.session, line.last_seq, line.count, line.members), (&session, 2, 2, 2));
        // Of the two messages one is the user's own: unread is the other one's if it came later.
        assert_eq!((line.unread, line.last_client_seq), (2 - ack.seq, 1));
        let records = wire.pull(&session, Consistency::Linearizable).await.expect("a page");
        assert!(records.iter().all(|record| record.kind == RecordKind::CONTENT));
        assert_eq!(records.iter().map(text_of).collect::<Vec<_>>(), expected);
        // And a retry is told the same.
        assert_eq!(wire.send(&session, 1, &format!("from {name}")).await.expect("known").seq, ack.seq);
    }
    let held = replicas(cluster, &[1, 2, 3], &session).await;
    assert_eq!(held.iter().map(text_of).collect::<Vec<_>>(), expected);
    first
}

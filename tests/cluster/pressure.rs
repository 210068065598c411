//! More than there is room for: a reader who does not read, more requests than a lane holds, too many connections.

use std::collections::BTreeSet;
use std::time::Instant;

use rookery::check::link::body;
use rookery_client::Outgoing;
use rookery_wire::reply::{Lagged, Message, SyncPage};
use rookery_wire::request::{Consistency, Sync};
use rookery_wire::{Blob, ErrorCode, Kind, Retry, SessionId};

use super::fixture::{Cluster, Plan, play, until};
use super::people::{
    Raw, Wire, app, contents, direct, error_of, hello, message, read, replicas, say, texts, turned_away,
};

/// Sends at once over a lane of 64.
const BURST: u64 = 600;
/// Sends of 4 KiB after which the slowest reader must lag: what kernels hold for two sockets is a few MiB.
const MANY: u64 = 6000;

#[test]
fn pressure_is_answered_and_hurts_only_who_makes_it() {
    play(async {
        let plan = Plan::new(3, 2)
            .with("limits", "frame = 16384")
            .with("limits", "content = 8192")
            .with("limits", "queue_bytes = 65536")
            .with("limits", "lane_requests = 64")
            .with("limits", "connections = 8");
        let cluster = Cluster::up(plan).await;
        a_slow_reader(&cluster).await;
        more_than_a_lane_holds(&cluster).await;
        in_the_end(&cluster, true).await;
        in_the_end(&cluster, false).await;
        more_connections_than_may(&cluster).await;
    });
}

async fn lags(cluster: &Cluster, node: u16) -> u64 {
    cluster.status(node).await.expect("it answers").delivery.lags
}

async fn a_slow_reader(cluster: &Cluster) {
    let session = direct("ann", "bob");
    let (ann, _) = app(cluster, &[1], "ann", "phone").await;
    let (_bob, mut quick) = app(cluster, &[2], "bob", "laptop").await;
    let mut sent = texts("first", 1);
    say(&ann, &session, texts("first", 1)).await;

    let mut slow = Raw::narrow(&cluster.client(2)).await;
    slow.greet(&hello("bob", "phone")).await;
    slow.write(&rookery_wire::frame::frame_bytes(
        Kind::Sync,
        2,
        &Sync { after: Blob::default(), limit: 10, since: Blob::default() },
    ))
    .await;
    let list: SyncPage = read(&slow.answer(2).await).expect("a list");
    assert_eq!(list.sessions[0].live_from, 2, "from here on it is pushed");
    // From here on it does not read.
    let before = lags(cluster, 2).await;
    let padding = "x".repeat(4000);
    let mut waiting = Vec::new();
    let mut told = false;
    while !told {
        assert!((sent.len() as u64) < MANY, "{MANY} messages and nobody lags");
        for _ in 0..100 {
            let text = format!("{padding} {}", sent.len());
            waiting.push(ann.send_pipelined(&session, Outgoing::text(&text)).await.expect("a place"));
            sent.push(text);
        }
        for ack in waiting.drain(..) {
            ack.await.expect("a slow reader slows only itself");
        }
        told = lags(cluster, 2).await > before;
    }
    println!("a reader that does not read lags after {} messages of 4 kB", sent.len());
    sent.push("the last".to_owned());
    say(&ann, &session, ["the last".to_owned()]).await;
    assert_eq!(quick.up_to(&session, "the last").await, sent, "the other device had every push");

    // It reads again: pushes in order, LAGGED with the seq from which they go on, and the rest by pull.
    let (pushed, live_from) = read_on(&mut slow, &session, sent.len() as u64).await;
    let missed = (2..live_from).filter(|seq| !pushed.contains(seq)).count();
    assert!(missed > 0, "nothing was skipped although it was told to lag");
    drop(slow);
    let mut again = Wire::of(cluster, 2, "bob", "phone").await;
    let records = again.pull(&session, Consistency::Linearizable).await.expect("pages");
    assert_eq!(contents(&records), sent, "and nothing is lost");
}

/// Reads until pushes are whole again; the seqs that were pushed, and the last `live_from`.
async fn read_on(slow: &mut Raw, session: &SessionId, last: u64) -> (BTreeSet<u64>, u64) {
    let mut pushed = BTreeSet::new();
    let mut live_from = 0;
    loop {
        let frame = slow.next().await.expect("the connection lives");
        if frame.kind == Kind::Message as u8 {
            let message: Message = body(&frame).expect("a message");
            let seq = message.record.seq;
            assert!(pushed.last().is_none_or(|known| *known < seq), "pushes only increase");
            assert!(live_from == 0 || seq >= live_from, "nothing below live_from is pushed");
            pushed.insert(seq);
        } else if frame.kind == Kind::Lagged as u8 {
            let lagged: Lagged = body(&frame).expect("a lag");
            let named =
                lagged.sessions.iter().find(|(named, _)| named == session).expect("the session is named");
            assert!(pushed.last().is_none_or(|known| *known < named.1), "the gap is before live_from");
            live_from = named.1;
        }
        if live_from > 0 && (live_from > last || pushed.contains(&last)) {
            return (pushed, live_from);
        }
    }
}

async fn more_than_a_lane_holds(cluster: &Cluster) {
    let session = direct("carl", "dora");
    let mut carl = Raw::welcome(&cluster.client(1), &hello("carl", "phone")).await;
    let frames: Vec<_> = (1..=BURST)
        .map(|number| {
            let request = number as u32 + 10;
            rookery_wire::frame::frame_bytes(
                Kind::Send,
                request,
                &message(&session, number, &format!("burst {number}")),
            )
        })
        .collect();
    carl.write(&frames.concat()).await;
    let (mut acked, mut busy) = (BTreeSet::new(), 0);
    for request in 1..=BURST {
        let frame = loop {
            let frame = carl.next().await.unwrap_or_else(|| panic!("{request} answers of {BURST}"));
            // The session is new: JOINED is pushed in between.
            if frame.request_id > 0 {
                break frame;
            }
        };
        if frame.kind == Kind::Ack as u8 {
            let ack: rookery_wire::reply::Ack = read(&frame).expect("an ack");
            acked.insert(ack.client_seq);
            continue;
        }
        let error = error_of(&frame);
        match error.code {
            ErrorCode::Busy => {
                assert!(matches!(error.retry, Retry::After(1..=1000)), "a hint when to come back: {error:?}");
                busy += 1;
            }
            // What came behind a number that was turned away.
            ErrorCode::ClientSeqGap => {}
            _ => panic!("{error}"),
        }
    }
    println!("a burst of {BURST} over a lane of 64: {} acknowledged, {busy} BUSY", acked.len());
    assert!(busy > 0, "a lane of 64 held {BURST}");
    assert_eq!(
        acked.len() as u64,
        *acked.last().expect("some"),
        "acknowledged from the first on, without a gap"
    );
    drop(carl);
}

/// The client library waits and repeats: everything is stored once and in order. The session is a new one, so that what
/// opens it must find its way through the very lane that waits for it, on the node that leads and on another.
async fn in_the_end(cluster: &Cluster, here: bool) {
    let (client, _) = app(cluster, &[1], "carl", if here { "laptop" } else { "tablet" }).await;
    let mut number = 0;
    let session = loop {
        number += 1;
        let session = direct("carl", &format!("friend-{here}-{number}"));
        if (cluster.leader_of(&session).await == 1) == here {
            break session;
        }
        assert!(number < 100, "leaders are spread");
    };
    let began = Instant::now();
    let mut waiting = Vec::new();
    for text in texts("patient", BURST as usize) {
        waiting.push(client.send_pipelined(&session, Outgoing::text(&text)).await.expect("a place"));
    }
    for ack in waiting {
        ack.await.expect("in the end");
    }
    let (took, retries) = (began.elapsed(), client.stats().retries);
    println!("led here: {here}: {took:?} and {retries} repeats for {BURST}");
    // Each round of its window (256) brings about a lane (64) through. Far more would mean that room goes to numbers that
    // cannot be taken yet, or to nobody.
    assert!(retries < BURST * 20, "{retries} repeats in {took:?}");
    let records = replicas(cluster, &[1, 2, 3], &session).await;
    assert_eq!(contents(&records), texts("patient", BURST as usize));
}

async fn more_connections_than_may(cluster: &Cluster) {
    until("node 3 is alone", async || cluster.status(3).await.is_some_and(|status| status.connections == 0))
        .await;
    let mut held = Vec::new();
    for number in 0..8 {
        held.push(Wire::of(cluster, 3, &format!("user-{number}"), "phone").await);
    }
    let said =
        turned_away(&cluster.client(3), &hello("one-more", "phone"), ErrorCode::TooManyConnections).await;
    assert!(said.contains("(8)"), "{said}");
    held.pop();
    until("a place is free again", async || {
        Wire::open(&cluster.client(3), &hello("one-more", "phone")).await.is_ok()
    })
    .await;
    for wire in &mut held {
        let id = wire.put(Kind::Ping, &());
        wire.flush().await.expect("written");
        assert_eq!(wire.answer(id).await.kind, Kind::Pong as u8, "those who are in stay in");
    }
}

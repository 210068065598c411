//! What comes in: order, gaps, repeats, lag, joining, leaving, a slow application.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use std::time::Duration;

use rookery_client::wire::reply::{Joined, Lagged, Left, Message, Page, ReadMark, SyncPage};
use rookery_client::wire::request::{self, Consistency, Delivered, Pull};
use rookery_client::wire::{Blob, ErrorCode, Kind, Retry, SessionId};
use rookery_client::{Event, Outgoing, StartAt};
use support::{Fake, next, nothing, page, record, room, summary, texts, within};

#[tokio::test]
async fn what_was_missed_is_pulled_before_what_is_pushed() {
    let fake = Fake::start().await;
    let (client, mut events, mut peer) = fake.client(fake.options(), vec![summary(5, 2)]).await;
    peer.push(6).await;
    let pull = peer.serve_pull(3..=4, 6).await;
    assert_eq!((pull.from_seq, pull.consistency), (3, Consistency::AtLeast(5)));
    // A short page: it goes on where that ended.
    let pull = peer.serve_pull(5..=5, 6).await;
    assert_eq!((pull.from_seq, pull.max_count), (5, 1));
    texts(&mut events, &["3", "4", "5", "6"]).await;
    assert_eq!((client.stats().pulls_for_gaps, client.stats().pushes), (2, 1));
}

#[tokio::test]
async fn repeats_are_dropped() {
    let fake = Fake::start().await;
    let (client, mut events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    for seq in [1, 2, 1, 2, 3] {
        peer.push(seq).await;
    }
    texts(&mut events, &["1", "2", "3"]).await;
    nothing(&mut events, Duration::from_millis(50)).await;
    assert_eq!(client.stats().repeats_dropped, 2);
}

#[tokio::test]
async fn lag_is_made_up_for() {
    let fake = Fake::start().await;
    let (_client, mut events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    peer.push(1).await;
    peer.lagged(4).await;
    peer.push(4).await;
    let pull = peer.serve_pull(2..=3, 4).await;
    assert_eq!((pull.from_seq, pull.max_count), (2, 2));
    texts(&mut events, &["1", "2", "3", "4"]).await;
    // All lag: the list is read again, and says from where pushes are whole.
    peer.send(Kind::Lagged, 0, &Lagged { sessions: vec![] }).await;
    peer.sync(vec![summary(6, 0)]).await;
    peer.serve_pull(5..=6, 6).await;
    texts(&mut events, &["5", "6"]).await;
}

#[tokio::test]
async fn a_lag_that_is_told_before_the_list_is_made_up_for() {
    let fake = Fake::start().await;
    let connecting = support::connect(fake.options());
    let mut peer = fake.accept().await;
    peer.welcome(support::welcome()).await;
    let (id, _) = peer.expect::<request::Sync>(Kind::Sync).await;
    peer.lagged(6).await;
    let page = page(vec![summary(3, 3)]);
    peer.send(Kind::SyncPage, id, &page).await;
    let (_client, mut events) = within("connect", connecting).await.unwrap().unwrap();
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    assert_eq!(peer.serve_pull(4..=5, 5).await.from_seq, 4);
    texts(&mut events, &["4", "5"]).await;
}

#[tokio::test]
async fn a_busy_pull_is_made_again() {
    let fake = Fake::start().await;
    let (_client, mut events, mut peer) = fake.client(fake.options(), vec![summary(1, 0)]).await;
    let (id, _) = peer.expect::<Pull>(Kind::Pull).await;
    peer.error(id, ErrorCode::Busy, Retry::After(50), 0).await;
    peer.serve_pull(1..=1, 1).await;
    texts(&mut events, &["1"]).await;
}

#[tokio::test]
async fn a_replica_that_falls_short_is_not_asked_again() {
    let fake = Fake::start().await;
    let (_client, mut events, mut peer) = fake.client(fake.options(), vec![summary(2, 0)]).await;
    let (id, pull) = peer.expect::<Pull>(Kind::Pull).await;
    assert_eq!(pull.consistency, Consistency::AtLeast(2));
    let page = Page { session: room(), first_seq: 1, last_seq: 0, records: vec![] };
    peer.send(Kind::Page, id, &page).await;
    let pull = peer.serve_pull(1..=2, 2).await;
    assert_eq!(pull.consistency, Consistency::Linearizable);
    texts(&mut events, &["1", "2"]).await;
}

#[tokio::test]
async fn trimmed_history_is_told() {
    let fake = Fake::start().await;
    let (_client, mut events, mut peer) = fake.client(fake.options(), vec![summary(9, 3)]).await;
    let (id, _) = peer.expect::<Pull>(Kind::Pull).await;
    let records = (7..=9).map(record).collect();
    peer.send(Kind::Page, id, &Page { session: room(), first_seq: 7, last_seq: 9, records }).await;
    assert_eq!(next(&mut events).await, Event::Skipped { session: room(), from: 4, to: 6 });
    texts(&mut events, &["7", "8", "9"]).await;
}

#[tokio::test]
async fn now_gives_only_what_is_new() {
    let fake = Fake::start().await;
    let mut options = fake.options();
    options.start = StartAt::Now;
    let (_client, mut events, mut peer) = fake.client(options, vec![summary(500, 0)]).await;
    peer.push(501).await;
    texts(&mut events, &["501"]).await;
}

#[tokio::test]
async fn a_joined_group_begins_with_the_membership() {
    let fake = Fake::start().await;
    let mut options = fake.options();
    options.start = StartAt::Now;
    let (_client, mut events, mut peer) = fake.client(options, vec![]).await;
    // A push may come between the subscription and the JOINED that tells of it.
    peer.push(8).await;
    peer.joined(room(), 8).await;
    assert_eq!(next(&mut events).await, Event::Joined(room()));
    let mut line = summary(8, 0);
    (line.joined_seq, line.live_from) = (6, 8);
    peer.sync(vec![line]).await;
    let pull = peer.serve_pull(6..=7, 8).await;
    assert_eq!((pull.from_seq, pull.max_count), (6, 2));
    texts(&mut events, &["6", "7", "8"]).await;
}

#[tokio::test]
async fn a_new_direct_session_is_given_from_its_first_message() {
    let fake = Fake::start().await;
    let mut options = fake.options();
    options.start = StartAt::Now;
    let (_client, mut events, mut peer) = fake.client(options, vec![]).await;
    let direct = SessionId::direct(&"ann".parse().unwrap(), &"bob".parse().unwrap()).unwrap();
    peer.joined(direct.clone(), 2).await;
    assert_eq!(next(&mut events).await, Event::Joined(direct.clone()));
    let pull = peer.serve_pull(1..=1, 1).await;
    assert_eq!(pull.session, direct);
    texts(&mut events, &["1"]).await;
}

#[tokio::test]
async fn what_changed_while_away_is_told() {
    let fake = Fake::start().await;
    let (_client, mut events, peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    drop(peer);
    assert!(matches!(next(&mut events).await, Event::Disconnected { .. }));
    let other = SessionId::group("other".parse().unwrap());
    let mut line = summary(3, 0);
    (line.session, line.joined_seq) = (other.clone(), 3);
    let mut peer = fake.accept_ready(vec![line]).await;
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    assert_eq!(next(&mut events).await, Event::Joined(other));
    assert_eq!(next(&mut events).await, Event::Left(room()));
    let pull = peer.serve_pull(3..=3, 3).await;
    assert_eq!(pull.from_seq, 3);
    texts(&mut events, &["3"]).await;
}

#[tokio::test]
async fn a_list_that_is_short_of_names_makes_nobody_leave() {
    let fake = Fake::start().await;
    let (_client, mut events, peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    drop(peer);
    assert!(matches!(next(&mut events).await, Event::Disconnected { .. }));
    let mut peer = fake.accept().await;
    peer.welcome(support::welcome()).await;
    let (id, _) = peer.expect::<request::Sync>(Kind::Sync).await;
    let page = SyncPage { total: 1, ..page(vec![]) };
    peer.send(Kind::SyncPage, id, &page).await;
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    peer.sync(vec![summary(1, 0)]).await;
    peer.serve_pull(1..=1, 1).await;
    texts(&mut events, &["1"]).await;
}

#[tokio::test]
async fn unresolved_sessions_are_asked_for_again() {
    let fake = Fake::start().await;
    let connecting = support::connect(fake.options());
    let mut peer = fake.accept().await;
    peer.welcome(support::welcome()).await;
    let (id, _) = peer.expect::<request::Sync>(Kind::Sync).await;
    let unresolved = vec![(room(), ErrorCode::Unavailable)];
    let page = SyncPage { total: 1, unresolved, ..page(vec![]) };
    peer.send(Kind::SyncPage, id, &page).await;
    let (_client, mut events) = within("connect", connecting).await.unwrap().unwrap();
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    peer.sync(vec![summary(2, 1)]).await;
    peer.serve_pull(2..=2, 2).await;
    texts(&mut events, &["2"]).await;
}

#[tokio::test]
async fn a_session_that_is_not_live_is_read_from_the_list_again_and_again() {
    let fake = Fake::start().await;
    let mut line = summary(1, 1);
    line.live_from = u64::MAX;
    let (_client, mut events, mut peer) = fake.client(fake.options(), vec![line.clone()]).await;
    line.last_seq = 2;
    peer.sync(vec![line]).await;
    peer.serve_pull(2..=2, 2).await;
    texts(&mut events, &["2"]).await;
    peer.sync(vec![summary(3, 1)]).await;
    peer.serve_pull(3..=3, 3).await;
    peer.push(4).await;
    texts(&mut events, &["3", "4"]).await;
}

#[tokio::test]
async fn leaving_ends_a_session_and_joining_again_goes_on() {
    let fake = Fake::start().await;
    let (_client, mut events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    peer.push(1).await;
    peer.send(Kind::Left, 0, &Left { session: room() }).await;
    texts(&mut events, &["1"]).await;
    assert_eq!(next(&mut events).await, Event::Left(room()));
    peer.send(Kind::Joined, 0, &Joined { session: room(), live_from: 10 }).await;
    assert_eq!(next(&mut events).await, Event::Joined(room()));
    let mut line = summary(9, 1);
    line.joined_seq = 9;
    peer.sync(vec![line]).await;
    assert_eq!(peer.serve_pull(9..=9, 9).await.from_seq, 9);
    texts(&mut events, &["9"]).await;
}

#[tokio::test]
async fn a_list_that_is_older_than_a_left_brings_nothing_back() {
    let fake = Fake::start().await;
    let (_client, mut events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let other = SessionId::group("other".parse().unwrap());
    peer.joined(other.clone(), 1).await;
    assert_eq!(next(&mut events).await, Event::Joined(other.clone()));
    let (id, _) = peer.expect::<request::Sync>(Kind::Sync).await;
    peer.send(Kind::Left, 0, &Left { session: room() }).await;
    let mut line = summary(0, 0);
    line.session = other.clone();
    let page = page(vec![summary(0, 0), line]);
    peer.send(Kind::SyncPage, id, &page).await;
    peer.send(Kind::Left, 0, &Left { session: other.clone() }).await;
    assert_eq!(next(&mut events).await, Event::Left(room()));
    assert_eq!(next(&mut events).await, Event::Left(other));
}

#[tokio::test]
async fn read_marks_and_delivered_cursors() {
    let fake = Fake::start().await;
    let (client, mut events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let mark = ReadMark { session: room(), seq: 4, count: 4 };
    peer.send(Kind::ReadMark, 0, &mark).await;
    assert_eq!(next(&mut events).await, Event::ReadMark(mark.clone()));
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.read(&room(), 4).await }
    });
    let (id, read) = peer.expect::<request::Read>(Kind::Read).await;
    assert_eq!(read.seq, 4);
    peer.send(Kind::ReadMark, id, &mark).await;
    assert_eq!(within("the mark", asking).await.unwrap().unwrap(), mark);
    peer.skip_delivered = false;
    for seq in 1..=3 {
        peer.push(seq).await;
    }
    texts(&mut events, &["1", "2", "3"]).await;
    // The third is not handled before the next is asked for.
    nothing(&mut events, Duration::from_millis(1)).await;
    let mut reported = 0;
    while reported < 3 {
        let (id, delivered) = peer.expect::<Delivered>(Kind::Delivered).await;
        assert_eq!((id, delivered.cursors.len()), (0, 1));
        assert!(delivered.cursors[0].1 > reported, "only news is told");
        reported = delivered.cursors[0].1;
    }
}

#[tokio::test]
async fn a_slow_application_loses_nothing_and_stops_the_reading() {
    const MANY: u64 = 10_000;
    let fake = Fake::start().await;
    let mut options = fake.options();
    options.event_queue = 4;
    let (client, mut events, mut peer) = fake.client(options, vec![summary(0, 0)]).await;
    // 40 MB, more than the queue and the sockets' buffers take: the server is stopped in the middle.
    let pushing = tokio::spawn(async move {
        for seq in 1..=MANY {
            let mut record = record(seq);
            record.content = Blob::from("x".repeat(4000).as_str());
            peer.send(Kind::Message, 0, &Message { session: room(), record }).await;
        }
        peer
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!pushing.is_finished(), "the client reads on without bound");
    for seq in 1..=MANY {
        match next(&mut events).await {
            Event::Message { record, .. } => assert_eq!(record.seq, seq),
            other => panic!("{other:?}"),
        }
    }
    let _peer = within("the pushes", pushing).await.unwrap();
    assert_eq!((client.stats().pulls_for_gaps, client.stats().reconnects), (0, 0));
}

#[tokio::test]
async fn answers_come_through_even_if_the_application_takes_no_events() {
    let fake = Fake::start().await;
    let mut options = fake.options();
    options.event_queue = 2;
    let (client, mut events, mut peer) = fake.client(options, vec![summary(0, 0)]).await;
    let send = client.send_pipelined(&room(), Outgoing::text("own")).await.unwrap();
    let id = peer.take(1, "own").await;
    // Two thousand pushes before the answer: more than is held, so that the rest is let go and pulled later.
    for seq in 1..=2000 {
        peer.push(seq).await;
    }
    peer.ack(id, 1, 2001).await;
    assert_eq!(within("the ACK", send).await.unwrap().seq, 2001);
    let serving = tokio::spawn(async move {
        loop {
            let (id, pull) = peer.expect::<Pull>(Kind::Pull).await;
            let to = (pull.from_seq + u64::from(pull.max_count) - 1).min(2000);
            let records = (pull.from_seq..=to).map(record).collect();
            peer.send(Kind::Page, id, &Page { session: room(), first_seq: 1, last_seq: 2001, records }).await;
            if to == 2000 {
                return peer;
            }
        }
    });
    for seq in 1..=2000 {
        match next(&mut events).await {
            Event::Message { record, .. } => assert_eq!(record.seq, seq),
            other => panic!("{other:?}"),
        }
    }
    let mut peer = within("the pulls", serving).await.unwrap();
    // The own message was let go too and is asked for like any other.
    peer.serve_pull(2001..=2001, 2001).await;
    texts(&mut events, &["2001"]).await;
}

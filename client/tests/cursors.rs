//! Cursors that the application keeps, against a scripted server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a failing script must fail the test"
)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use rookery_client::wire::reply::{Summary, Welcome};
use rookery_client::wire::{Kind, SessionId, request};
use rookery_client::{Client, Event, Events, Memory, Options, StartAt};

use support::{Fake, Peer, connect, next, nothing, room, summary, texts, welcome, within};

type Cursors = BTreeMap<SessionId, u64>;

fn keeping(fake: &Fake, cursors: &Cursors) -> Options {
    let mut options = fake.options();
    options.memory = Memory::Cursors(cursors.clone());
    options.random_seed = None;
    options
}

fn attic() -> SessionId {
    SessionId::group("attic".parse().unwrap())
}

/// The next life of the device, over what the application has kept.
async fn again(fake: &Fake, options: Options, epoch: u32, list: Vec<Summary>) -> (Client, Events, Peer) {
    let connecting = connect(options);
    let mut peer = fake.accept().await;
    peer.welcome(Welcome { epoch, ..welcome() }).await;
    peer.sync(list).await;
    let (client, mut events) = within("connect", connecting).await.unwrap().unwrap();
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    (client, events, peer)
}

/// The application was given three messages and had put two of them away when it died; the cluster had been told of all
/// three, and of one in another session.
#[tokio::test]
async fn a_device_that_died_begins_where_the_application_says() {
    let fake = Fake::start().await;
    let mut kept = Cursors::new();
    let (client, mut events, mut peer) = again(&fake, keeping(&fake, &kept), 1, vec![summary(0, 0)]).await;
    peer.skip_delivered = false;
    for seq in 1..=3 {
        peer.push(seq).await;
    }
    for _ in 0..3 {
        let Event::Message { session, record } = next(&mut events).await else { panic!("a message") };
        if record.seq <= 2 {
            kept.insert(session, record.seq);
        }
    }
    // It asks for more, so it counts as done with the third.
    nothing(&mut events, Duration::from_millis(20)).await;
    let (_, told) = peer.expect::<request::Delivered>(Kind::Delivered).await;
    assert_eq!(told.cursors, [(room(), 3)]);
    let first = peer.hello.clone().unwrap();
    drop((client, events, peer));

    let elsewhere = Summary { session: attic(), ..summary(1, 1) };
    let (_client, mut events, mut peer) =
        again(&fake, keeping(&fake, &kept), 2, vec![summary(4, 3), elsewhere]).await;
    let hello = peer.hello.clone().unwrap();
    assert!(hello.epoch == 0 && hello.nonce != first.nonce, "its numbers begin anew");
    let mut pulled = BTreeMap::new();
    for _ in 0..2 {
        let (id, pull) = peer.expect::<request::Pull>(Kind::Pull).await;
        let last_seq = if pull.session == room() { 4 } else { 1 };
        let records = (pull.from_seq..=last_seq).map(support::record).collect();
        pulled.insert(pull.session.clone(), pull.from_seq);
        let session = pull.session;
        let page = rookery_client::wire::reply::Page { session, first_seq: 1, last_seq, records };
        peer.send(Kind::Page, id, &page).await;
    }
    assert_eq!(pulled, BTreeMap::from([(room(), 3), (attic(), 1)]));
    let mut given = Vec::new();
    for _ in 0..3 {
        let Event::Message { session, record } = next(&mut events).await else { panic!("a message") };
        given.push((session, record.seq));
    }
    given.sort();
    assert_eq!(given, [(attic(), 1), (room(), 3), (room(), 4)]);
    peer.push(5).await;
    texts(&mut events, &["5"]).await;
}

#[tokio::test]
async fn what_is_no_longer_kept_is_told_and_what_never_was_is_not_waited_for() {
    let fake = Fake::start().await;
    let trimmed = Summary { first_seq: 6, ..summary(6, 6) };
    let kept = Cursors::from([(room(), 2)]);
    let (client, mut events, mut peer) = again(&fake, keeping(&fake, &kept), 1, vec![trimmed]).await;
    assert_eq!(next(&mut events).await, Event::Skipped { session: room(), from: 3, to: 5 });
    assert_eq!(peer.serve_pull(6..=6, 6).await.from_seq, 6);
    texts(&mut events, &["6"]).await;
    drop((client, events, peer));

    // A cursor of another cluster, perhaps, or of a backup that is newer than this one's.
    let kept = Cursors::from([(room(), 1_000)]);
    let (_client, mut events, mut peer) = again(&fake, keeping(&fake, &kept), 2, vec![summary(6, 0)]).await;
    peer.push(7).await;
    texts(&mut events, &["7"]).await;
}

/// Where to begin is asked of the cursors only by who resumes.
#[tokio::test]
async fn who_begins_now_passes_over_the_cursors() {
    let fake = Fake::start().await;
    let mut options = keeping(&fake, &Cursors::from([(room(), 2)]));
    options.start = StartAt::Now;
    let (_client, mut events, mut peer) = again(&fake, options, 1, vec![summary(6, 0)]).await;
    peer.push(7).await;
    texts(&mut events, &["7"]).await;
}

/// The node had taken a cursor and not told anybody when it died. Nothing is said in the session any more.
#[tokio::test]
async fn what_a_dead_node_was_told_is_told_again_until_it_is_kept() {
    let fake = Fake::start().await;
    let (_client, mut events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    peer.skip_delivered = false;
    peer.push(1).await;
    texts(&mut events, &["1"]).await;
    nothing(&mut events, Duration::from_millis(20)).await;
    let (id, told) = peer.expect::<request::Delivered>(Kind::Delivered).await;
    assert_eq!((id, told.cursors), (0, vec![(room(), 1)]));
    drop(peer);

    // This one dies as well, before it has answered; the next one does not.
    for dies in [true, false] {
        let mut peer = fake.accept_ready(vec![summary(1, 0)]).await;
        peer.skip_delivered = false;
        let (id, told) = peer.expect::<request::Delivered>(Kind::Delivered).await;
        assert_eq!(told.cursors, [(room(), 1)]);
        assert_ne!(id, 0, "the answer says that it is kept");
        if !dies {
            peer.send(Kind::Ok, id, &()).await;
            peer.push(2).await;
            for _ in 0..3 {
                next(&mut events).await;
            }
            nothing(&mut events, Duration::from_millis(20)).await;
            let (id, told) = peer.expect::<request::Delivered>(Kind::Delivered).await;
            assert_eq!((id, told.cursors), (0, vec![(room(), 2)]));
        }
        if dies {
            assert!(matches!(next(&mut events).await, Event::Disconnected { .. }));
            assert!(matches!(next(&mut events).await, Event::Connected { .. }));
        }
    }
    // What the list has is kept.
    let mut peer = fake.accept_ready(vec![summary(2, 2)]).await;
    peer.skip_delivered = false;
    peer.silence(Duration::from_millis(700)).await;
}

//! The session list since a mark, against a scripted server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a failing script must fail the test"
)]

mod support;

use rookery_client::wire::reply::{Lagged, Summary, SyncPage};
use rookery_client::wire::request::Sync;
use rookery_client::wire::{Blob, ErrorCode, Kind, Retry, SessionId};
use rookery_client::{Client, ClientError, Event, Events, Mark, Memory};

use support::{Fake, Peer, connect, next, room, summary, texts, welcome, within};

/// A page that is the whole list.
fn whole(sessions: Vec<Summary>, mark: &str) -> SyncPage {
    SyncPage {
        total: sessions.len() as u32,
        sessions,
        unresolved: Vec::new(),
        next: Blob::default(),
        badge: None,
        left: Vec::new(),
        mark: Blob::from(mark),
        full: true,
    }
}

/// One that says what changed.
fn changes(sessions: Vec<Summary>, left: Vec<SessionId>, total: u32, mark: &str) -> SyncPage {
    SyncPage { total, left, full: false, ..whole(sessions, mark) }
}

/// Answers a SYNC, which must give this mark.
async fn answer(peer: &mut Peer, since: &str, page: &SyncPage) {
    let (id, sync) = peer.expect::<Sync>(Kind::Sync).await;
    assert_eq!((sync.after, sync.since), (Blob::default(), Blob::from(since)));
    peer.send(Kind::SyncPage, id, page).await;
}

/// A connection that is welcomed and has its list answered.
async fn accept(fake: &Fake, since: &str, page: &SyncPage) -> Peer {
    let mut peer = fake.accept().await;
    peer.welcome(welcome()).await;
    answer(&mut peer, since, page).await;
    peer
}

/// A client whose first list is this, at the mark m1.
async fn begun_with(fake: &Fake, sessions: Vec<Summary>) -> (Client, Events, Peer) {
    let connecting = connect(fake.options());
    let peer = accept(fake, "", &whole(sessions, "m1")).await;
    let (client, mut events) = within("connect", connecting).await.unwrap().unwrap();
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    (client, events, peer)
}

/// The connection goes, and the client says so.
async fn cut_off(peer: Peer, events: &mut Events) {
    drop(peer);
    assert!(matches!(next(events).await, Event::Disconnected { .. }));
}

fn other(last_seq: u64) -> Summary {
    Summary { session: SessionId::group("other".parse().unwrap()), ..summary(last_seq, 0) }
}

#[tokio::test]
async fn what_a_list_has_named_is_pulled_though_the_next_one_does_not_name_it() {
    let fake = Fake::start().await;
    let (_client, mut events, peer) = begun_with(&fake, vec![summary(3, 0)]).await;
    // Before anything is pulled.
    cut_off(peer, &mut events).await;
    let mut peer = accept(&fake, "m1", &changes(vec![], vec![], 1, "m2")).await;
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    assert_eq!(peer.serve_pull(1..=3, 3).await.from_seq, 1);
    peer.push(4).await;
    texts(&mut events, &["1", "2", "3", "4"]).await;
    cut_off(peer, &mut events).await;
    accept(&fake, "m2", &changes(vec![], vec![], 1, "m3")).await;
}

/// The list is of the leader, pushes come from the node: one that was behind skips what it had promised and says so.
#[tokio::test]
async fn what_was_promised_and_skipped_is_pulled_though_no_list_names_it_again() {
    let fake = Fake::start().await;
    let promised = Summary { live_from: 1, ..summary(3, 0) };
    let (_client, mut events, mut peer) = begun_with(&fake, vec![promised.clone(), other(0)]).await;
    peer.push(1).await;
    texts(&mut events, &["1"]).await;
    peer.send(Kind::Lagged, 0, &Lagged { sessions: Vec::new() }).await;
    answer(&mut peer, "m1", &changes(vec![], vec![], 2, "m2")).await;
    assert_eq!(peer.serve_pull(2..=3, 3).await.from_seq, 2);
    texts(&mut events, &["2", "3"]).await;
    // The same when the connection breaks before the promised comes.
    let later = Summary { live_from: 4, ..summary(5, 0) };
    peer.send(Kind::Lagged, 0, &Lagged { sessions: Vec::new() }).await;
    answer(&mut peer, "m2", &changes(vec![later], vec![], 2, "m3")).await;
    cut_off(peer, &mut events).await;
    let mut peer = accept(&fake, "m3", &changes(vec![], vec![], 2, "m4")).await;
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    assert_eq!(peer.serve_pull(4..=5, 5).await.from_seq, 4);
    texts(&mut events, &["4", "5"]).await;
}

#[tokio::test]
async fn left_sessions_are_told_and_a_list_that_does_not_fit_is_read_anew() {
    let fake = Fake::start().await;
    let (_client, mut events, peer) = begun_with(&fake, vec![summary(0, 0), other(0)]).await;
    cut_off(peer, &mut events).await;
    let peer = accept(&fake, "m1", &changes(vec![], vec![room()], 1, "m2")).await;
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    assert_eq!(next(&mut events).await, Event::Left(room()));
    cut_off(peer, &mut events).await;
    // Two sessions, it says, and this client knows one: something was missed, whatever it was.
    let mut peer = accept(&fake, "m2", &changes(vec![], vec![], 2, "m3")).await;
    answer(&mut peer, "", &whole(vec![other(0), summary(0, 0)], "m4")).await;
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    assert_eq!(next(&mut events).await, Event::Joined(room()));
}

#[tokio::test]
async fn a_mark_that_is_refused_is_given_up() {
    let fake = Fake::start().await;
    let (_client, mut events, peer) = begun_with(&fake, vec![summary(0, 0)]).await;
    cut_off(peer, &mut events).await;
    let mut peer = fake.accept().await;
    peer.welcome(welcome()).await;
    let (id, _) = peer.expect::<Sync>(Kind::Sync).await;
    peer.error(id, ErrorCode::BadRequest, Retry::Never, 0).await;
    answer(&mut peer, "", &whole(vec![summary(1, 0)], "m2")).await;
    peer.serve_pull(1..=1, 1).await;
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    texts(&mut events, &["1"]).await;
}

#[tokio::test]
async fn the_memory_keeps_the_mark_with_what_it_stands_for() {
    let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
    let mut options = fake.options();
    options.memory = Memory::File(folder.path().join("memory.json"));
    let connecting = connect(options.clone());
    let mut peer = accept(&fake, "", &whole(vec![summary(2, 0), other(5)], "m1")).await;
    let (client, mut events) = within("connect", connecting).await.unwrap().unwrap();
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    // One session is had in part, of the other nothing.
    peer.serve_pull(1..=1, 2).await;
    texts(&mut events, &["1"]).await;
    drop(events);
    within("close", client.close()).await;

    let connecting = connect(options);
    let mut peer = accept(&fake, "m1", &changes(vec![], vec![], 2, "m2")).await;
    let (_client, mut events) = within("connect", connecting).await.unwrap().unwrap();
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    let mut pulled = Vec::new();
    for _ in 0..2 {
        let (id, pull) = peer.expect::<rookery_client::wire::request::Pull>(Kind::Pull).await;
        pulled.push((pull.session.clone(), pull.from_seq));
        let last_seq = if pull.session == room() { 2 } else { 5 };
        let records = (pull.from_seq..=last_seq).map(support::record).collect();
        let page =
            rookery_client::wire::reply::Page { session: pull.session, first_seq: 1, last_seq, records };
        peer.send(Kind::Page, id, &page).await;
    }
    pulled.sort();
    assert_eq!(pulled, [(other(5).session, 1), (room(), 2)]);
    let mut given = Vec::new();
    for _ in 0..6 {
        match next(&mut events).await {
            Event::Message { session, record } => given.push((session, record.seq)),
            event => panic!("{event:?}"),
        }
    }
    given.sort();
    let of_other = (1..=5).map(|seq| (other(5).session, seq));
    assert_eq!(given, of_other.chain([(room(), 2)]).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_application_may_keep_the_list_itself() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let mark: Mark = "00ff7a".parse().unwrap();
    assert_eq!(mark.to_string(), "00ff7a");
    assert!(matches!("0g".parse::<Mark>(), Err(ClientError::Invalid(_))));
    let asking = tokio::spawn({
        let (client, mark) = (client.clone(), mark.clone());
        async move { client.sync_since(&mark).await }
    });
    let (id, sync) = peer.expect::<Sync>(Kind::Sync).await;
    assert_eq!(sync.since.as_ref(), [0, 0xff, 0x7a]);
    let mut page = changes(vec![summary(1, 0)], vec![other(0).session], 3, "");
    page.next = Blob::from("more");
    peer.send(Kind::SyncPage, id, &page).await;
    let (id, sync) = peer.expect::<Sync>(Kind::Sync).await;
    assert_eq!((sync.after, sync.since), (Blob::from("more"), Blob::default()));
    peer.send(Kind::SyncPage, id, &changes(vec![other(2)], vec![], 3, "m2")).await;
    let told = within("the changes", asking).await.unwrap().unwrap();
    assert_eq!(told.sessions, [summary(1, 0), other(2)]);
    assert_eq!((told.left, told.full, told.total), (vec![other(0).session], false, 3));
    assert_eq!(told.mark.to_string(), "6d32");
}

/// A first page of which there is more.
fn begun(sessions: Vec<Summary>, total: u32) -> SyncPage {
    SyncPage { next: Blob::from("more"), ..changes(sessions, vec![], total, "") }
}

/// Takes the SYNC for the next page and refuses it: another reading over the connection has taken its place.
async fn refuse_more(peer: &mut Peer) {
    let (id, sync) = peer.expect::<Sync>(Kind::Sync).await;
    assert_eq!((sync.after, sync.since), (Blob::from("more"), Blob::default()));
    peer.error(id, ErrorCode::BadRequest, Retry::Never, 0).await;
}

#[tokio::test]
async fn a_later_page_that_is_refused_says_nothing_of_the_mark() {
    let fake = Fake::start().await;
    let (_client, mut events, peer) = begun_with(&fake, vec![summary(0, 0), other(0)]).await;
    cut_off(peer, &mut events).await;
    let mut peer = accept(&fake, "m1", &begun(vec![summary(0, 0)], 2)).await;
    refuse_more(&mut peer).await;
    answer(&mut peer, "m1", &begun(vec![summary(0, 0)], 2)).await;
    refuse_more(&mut peer).await;
    answer(&mut peer, "m1", &changes(vec![summary(0, 0)], vec![], 2, "m2")).await;
    drop(peer);
    accept(&fake, "m2", &changes(vec![], vec![], 2, "m3")).await;
}

#[tokio::test]
async fn the_first_list_of_a_client_is_begun_again_too() {
    let fake = Fake::start().await;
    let connecting = connect(fake.options());
    let mut peer = accept(&fake, "", &SyncPage { full: true, ..begun(vec![summary(0, 0)], 2) }).await;
    refuse_more(&mut peer).await;
    answer(&mut peer, "", &whole(vec![summary(0, 0), other(0)], "m1")).await;
    let (_client, mut events) = within("connect", connecting).await.unwrap().unwrap();
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
}

#[tokio::test]
async fn an_application_that_keeps_the_list_begins_again_and_not_for_ever() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let mark: Mark = "6d".parse().unwrap();
    let asking = tokio::spawn({
        let (client, mark) = (client.clone(), mark.clone());
        async move { client.sync_since(&mark).await }
    });
    for _ in 0..4 {
        answer(&mut peer, "m", &begun(vec![summary(1, 0)], 1)).await;
        refuse_more(&mut peer).await;
    }
    answer(&mut peer, "m", &changes(vec![summary(2, 0)], vec![], 1, "n")).await;
    let told = within("the changes", asking).await.unwrap().unwrap();
    assert_eq!((told.sessions, told.mark.to_string()), (vec![summary(2, 0)], "6e".to_owned()));

    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.sync_since(&mark).await }
    });
    for _ in 0..5 {
        answer(&mut peer, "m", &begun(vec![summary(1, 0)], 1)).await;
        refuse_more(&mut peer).await;
    }
    let refused = within("an end", asking).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::BadRequest));

    // A first page that is refused is the mark's fault: once is enough.
    let asking = tokio::spawn(async move { client.sync_since(&"6d".parse().unwrap()).await });
    let (id, _) = peer.expect::<Sync>(Kind::Sync).await;
    peer.error(id, ErrorCode::BadRequest, Retry::Never, 0).await;
    let refused = within("an end", asking).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::BadRequest));
}

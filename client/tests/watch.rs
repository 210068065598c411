//! Whom the application watches, when requests are refused, cut off and asked again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use rookery_client::wire::live::{PresencePage, SessionPresence, Watch, WatchMode, WatchSession};
use rookery_client::wire::{ErrorCode, GroupId, Kind, Retry, SessionId, UserId};
use rookery_client::{Client, ClientError, Event, Options};
use support::{Fake, Peer, next, summary, within};
use tokio::task::JoinHandle;

fn users(names: &[&str]) -> Vec<UserId> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// Who waits for no answer sends no PING in between.
fn patient(fake: &Fake) -> Options {
    let mut options = fake.options();
    options.silence = Duration::from_secs(60);
    options
}

async fn asked(peer: &mut Peer) -> (u32, WatchMode, Vec<UserId>) {
    let (id, Watch { mode, users }) = peer.expect::<Watch>(Kind::Watch).await;
    (id, mode, users)
}

async fn grant(peer: &mut Peer, id: u32) {
    peer.send(Kind::PresencePage, id, &PresencePage { users: vec![], refused: vec![] }).await;
}

type Asking = JoinHandle<Result<PresencePage, ClientError>>;

fn watch(client: &Arc<Client>, mode: WatchMode, names: &[&str]) -> Asking {
    let (client, users) = (Arc::clone(client), users(names));
    tokio::spawn(async move { client.watch(mode, &users).await })
}

#[tokio::test]
async fn a_refused_watch_changes_nothing_and_one_is_asked_at_a_time() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(patient(&fake), vec![summary(0, 0)]).await;
    let client = Arc::new(client);
    let granted = watch(&client, WatchMode::Replace, &["bob", "cid"]);
    let (id, ..) = asked(&mut peer).await;
    let refused = watch(&client, WatchMode::Add, &["dan", "eve"]);
    peer.silence(Duration::from_millis(100)).await;
    grant(&mut peer, id).await;
    within("the answer", granted).await.unwrap().unwrap();
    let (id, mode, named) = asked(&mut peer).await;
    assert_eq!((mode, named), (WatchMode::Add, users(&["dan", "eve"])));
    peer.error(id, ErrorCode::TooMany, Retry::Never, 3).await;
    let error = within("the refusal", refused).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TooMany));
    drop(peer);

    let mut peer = fake.accept_ready(vec![summary(0, 0)]).await;
    let (_, mode, named) = asked(&mut peer).await;
    assert_eq!((mode, named), (WatchMode::Replace, users(&["bob", "cid"])), "as it was before the refusal");
}

#[tokio::test]
async fn a_node_that_takes_fewer_is_asked_for_as_many_and_the_application_hears_of_the_others() {
    let fake = Fake::start().await;
    let (client, mut events, mut peer) = fake.client(patient(&fake), vec![summary(0, 0)]).await;
    let client = Arc::new(client);
    let granted = watch(&client, WatchMode::Replace, &["bob", "cid", "dan"]);
    let (id, ..) = asked(&mut peer).await;
    grant(&mut peer, id).await;
    within("the answer", granted).await.unwrap().unwrap();
    drop(peer);

    let bounds = [
        (ErrorCode::TooMany, 2, &["bob", "cid"][..], &["dan"][..]),
        (ErrorCode::WatchTooLarge, 1, &["bob"][..], &["cid"][..]),
    ];
    for (code, most, left, lost) in bounds {
        let mut peer = fake.accept_ready(vec![summary(0, 0)]).await;
        let (id, ..) = asked(&mut peer).await;
        peer.error(id, code, Retry::Never, most).await;
        let (id, mode, named) = asked(&mut peer).await;
        assert_eq!((mode, named), (WatchMode::Replace, users(left)));
        grant(&mut peer, id).await;
        let told = within("the word", async {
            loop {
                if let Event::Unwatched { users, error } = next(&mut events).await {
                    return (users, error.code);
                }
            }
        });
        assert_eq!(told.await, (users(lost), code));
    }
}

/// It was not answered in time, so the application is told that it did not come to be; the node may have carried it out.
#[tokio::test]
async fn a_watch_that_was_given_up_is_taken_back() {
    let fake = Fake::start().await;
    let mut options = patient(&fake);
    options.request_deadline = Duration::from_millis(500);
    let (client, _events, mut peer) = fake.client(options, vec![summary(0, 0)]).await;
    let client = Arc::new(client);
    let given_up = watch(&client, WatchMode::Add, &["bob"]);
    let (late, ..) = asked(&mut peer).await;
    let error = within("the deadline", given_up).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Deadline { .. }), "{error}");
    let (id, mode, named) = asked(&mut peer).await;
    assert_eq!((mode, named), (WatchMode::Replace, vec![]), "and it is as it was");
    grant(&mut peer, id).await;
    // The answer comes after all: which of the two was carried out last nobody knows.
    grant(&mut peer, late).await;
    let (_, mode, named) = asked(&mut peer).await;
    assert_eq!((mode, named), (WatchMode::Replace, vec![]));
}

async fn asked_groups(peer: &mut Peer, count: usize) -> Vec<(u32, SessionId)> {
    let mut asked = Vec::new();
    for _ in 0..count {
        let (id, WatchSession { session, on }) = peer.expect::<WatchSession>(Kind::WatchSession).await;
        assert!(on, "{session}");
        asked.push((id, session));
    }
    asked.sort_by(|a, b| a.1.cmp(&b.1));
    asked
}

async fn grant_group(peer: &mut Peer, id: u32, session: &SessionId) {
    let page = SessionPresence { session: session.clone(), whole: true, users: vec![], others: 0 };
    peer.send(Kind::SessionPresence, id, &page).await;
}

#[tokio::test]
async fn groups_that_are_watched_are_asked_for_again_until_one_is_refused_for_good() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(patient(&fake), vec![summary(0, 0)]).await;
    let client = Arc::new(client);
    let groups = ["a", "b", "c"].map(|name| SessionId::group(GroupId::new(name).unwrap()));
    for group in &groups {
        let (client, of) = (Arc::clone(&client), group.clone());
        let granted = tokio::spawn(async move { client.watch_session(&of, true).await });
        let (id, _) = asked_groups(&mut peer, 1).await.remove(0);
        grant_group(&mut peer, id, group).await;
        within("the answer", granted).await.unwrap().unwrap();
    }
    drop(peer);

    let mut peer = fake.accept_ready(vec![summary(0, 0)]).await;
    let asked = asked_groups(&mut peer, 3).await;
    grant_group(&mut peer, asked[0].0, &groups[0]).await;
    peer.error(asked[1].0, ErrorCode::NotMember, Retry::Never, 0).await;
    peer.error(asked[2].0, ErrorCode::Busy, Retry::After(20), 0).await;
    let again = asked_groups(&mut peer, 2).await;
    assert_eq!([&again[0].1, &again[1].1], [&groups[0], &groups[2]], "who is no member does not ask again");
    drop(peer);

    let mut peer = fake.accept_ready(vec![summary(0, 0)]).await;
    let again = asked_groups(&mut peer, 2).await;
    assert_eq!([&again[0].1, &again[1].1], [&groups[0], &groups[2]]);
}

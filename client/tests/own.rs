//! What is the user's own: acts keep their number until they are answered, one at a time, and pushes become events.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use std::time::Duration;

use rookery_client::wire::own::{ManageSelf, Relation, SelfAck, SessionSettings, Settings};
use rookery_client::wire::reply::{GoAway, Welcome};
use rookery_client::wire::{Blob, ErrorCode, Kind, RelationState, Retry, UserAction, UserId};
use rookery_client::{Client, ClientError, Event};
use support::{Fake, Peer, connect, next, room, summary, welcome, within};
use tokio::task::JoinHandle;

fn bob() -> UserId {
    "bob".parse().unwrap()
}

fn block(client: &Client) -> JoinHandle<Result<RelationState, ClientError>> {
    let client = client.clone();
    tokio::spawn(async move { client.block(bob()).await })
}

async fn ack(peer: &mut Peer, id: u32, number: u64) {
    peer.send(Kind::SelfAck, id, &SelfAck { number, time_ms: 1, value: 0 }).await;
}

/// A connection whose device has used numbers before.
async fn returning(fake: &Fake, last_number: u64) -> Peer {
    let mut peer = fake.accept().await;
    peer.welcome(Welcome { last_number, ..welcome() }).await;
    peer.sync(vec![summary(0, 0)]).await;
    peer
}

#[tokio::test]
async fn an_act_keeps_its_number_over_a_cut_and_the_next_one_waits_for_it() {
    let fake = Fake::start().await;
    let connecting = connect(fake.options());
    let mut peer = returning(&fake, 6).await;
    let (client, _events) = within("connect", connecting).await.unwrap().unwrap();
    let first = block(&client);
    let (_, sent) = peer.expect::<ManageSelf>(Kind::ManageSelf).await;
    assert_eq!((sent.number, sent.action.clone()), (7, UserAction::Block { user: bob() }));
    let second = block(&client);
    peer.silence(Duration::from_millis(50)).await;
    drop(peer);
    // It was carried out before the connection went: WELCOME says so, and it is asked again for its answer.
    let mut peer = returning(&fake, 7).await;
    let (id, again) = peer.expect::<ManageSelf>(Kind::ManageSelf).await;
    assert_eq!(again, sent);
    ack(&mut peer, id, 7).await;
    assert_eq!(within("the answer", first).await.unwrap().unwrap(), RelationState::None);
    let (id, sent) = peer.expect::<ManageSelf>(Kind::ManageSelf).await;
    assert_eq!(sent.number, 8);
    peer.error(id, ErrorCode::RelationsFull, Retry::Never, 9).await;
    let refused = within("the refusal", second).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::RelationsFull));
    let third = block(&client);
    let (id, sent) = peer.expect::<ManageSelf>(Kind::ManageSelf).await;
    assert_eq!(sent.number, 9, "the refusal took its number");
    peer.error(id, ErrorCode::BadRequest, Retry::Never, 0).await;
    within("the refusal", third).await.unwrap().unwrap_err();
    let fourth = block(&client);
    let (id, sent) = peer.expect::<ManageSelf>(Kind::ManageSelf).await;
    assert_eq!(sent.number, 9, "that one took none");
    ack(&mut peer, id, 9).await;
    within("the answer", fourth).await.unwrap().unwrap();
}

#[tokio::test]
async fn pushes_are_told_and_an_ended_device_does_not_come_back() {
    let fake = Fake::start().await;
    let (client, mut events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let settings = Settings { pinned: Some(3), ..Settings::default() };
    let set = SessionSettings { session: room(), settings };
    peer.send(Kind::SessionSettings, 0, &set).await;
    assert_eq!(next(&mut events).await, Event::Settings(set));
    let line = Relation {
        user: bob(),
        state: RelationState::Friends,
        blocked: false,
        remark: Blob::default(),
        text: Blob::default(),
        since_ms: 5,
    };
    peer.send(Kind::Relation, 0, &line).await;
    assert_eq!(next(&mut events).await, Event::Relation(line));
    let away = GoAway { code: ErrorCode::DeviceEnded, text: Blob::default(), after_ms: 0 };
    peer.send(Kind::GoAway, 0, &away).await;
    within("the end", async { while events.recv().await.is_some() {} }).await;
    match client.ping().await {
        Err(ClientError::Closed(why)) => assert!(why.contains("DEVICE_ENDED"), "{why}"),
        other => panic!("{other:?}"),
    }
}

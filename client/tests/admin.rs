//! The business's side: what is asked under a key is asked again as it is, whatever connection there is by then.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use rookery_client::ClientError;
use rookery_client::wire::admin::{Admin, AdminOutcome, AdminReply, Audit, AuditPage};
use rookery_client::wire::{AdminAction, Blob, ErrorCode, GroupId, Kind, RequestKey, Retry, UserId};
use support::{Fake, room, summary, welcome, within};

fn key(name: &str) -> RequestKey {
    RequestKey::new(name).unwrap()
}

fn say(text: &str) -> AdminAction {
    let (content_type, content) = (Blob::from("text/plain"), Blob::from(text));
    AdminAction::Send { session: room(), content_type, content, extensions: Vec::new() }
}

#[tokio::test]
async fn a_request_is_repeated_under_its_key_until_it_is_answered() {
    let fake = Fake::start().await;
    let (client, _events, mut peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let asked = tokio::spawn({
        let client = client.clone();
        async move { client.admin(key("order-7"), None, say("hi")).await }
    });
    let (id, sent) = peer.expect::<Admin>(Kind::Admin).await;
    assert_eq!((sent.key.as_str(), sent.on_behalf_of.clone()), ("order-7", None));
    peer.error(id, ErrorCode::Unavailable, Retry::After(1), 0).await;
    let (_, again) = peer.expect::<Admin>(Kind::Admin).await;
    assert_eq!(again, sent);
    drop(peer);
    let mut peer = fake.accept().await;
    peer.welcome(welcome()).await;
    peer.sync(vec![summary(0, 0)]).await;
    let (id, again) = peer.expect::<Admin>(Kind::Admin).await;
    assert_eq!(again, sent, "over another connection too");
    let outcome = AdminOutcome::Done { time_ms: 5, value: 1 };
    let reply = AdminReply { key: key("order-7"), audit: 3, outcome };
    peer.send(Kind::AdminReply, id, &reply).await;
    assert_eq!(within("the answer", asked).await.unwrap().unwrap(), reply);

    let refused = tokio::spawn({
        let client = client.clone();
        async move { client.admin(key("order-7"), None, say("else")).await }
    });
    let (id, _) = peer.expect::<Admin>(Kind::Admin).await;
    peer.error(id, ErrorCode::KeyReused, Retry::Never, 0).await;
    let refused = within("the refusal", refused).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::KeyReused));

    let page = AuditPage { lines: Vec::new(), first: 4, last: 3 };
    let read = tokio::spawn(async move { client.audit(3, 10).await });
    let (id, audit) = peer.expect::<Audit>(Kind::Audit).await;
    assert_eq!(audit, Audit { after: 3, limit: 10 });
    peer.send(Kind::AuditPage, id, &page).await;
    assert_eq!(within("the page", read).await.unwrap().unwrap(), page);
}

#[tokio::test]
async fn what_is_too_large_is_not_asked() {
    let fake = Fake::start().await;
    let (client, _events, _peer) = fake.client(fake.options(), vec![summary(0, 0)]).await;
    let users: Vec<UserId> = (0..1001).map(|n| format!("u{n}").parse().unwrap()).collect();
    let group: GroupId = "team".parse().unwrap();
    let many = client.admin(key("k"), None, AdminAction::AddMembers { group, users }).await;
    assert!(matches!(many, Err(ClientError::Invalid(_))), "{many:?}");
    let large = client.admin(key("k"), None, say(&"x".repeat(10 << 20))).await;
    assert!(matches!(large, Err(ClientError::TooLarge { .. })), "{large:?}");
}

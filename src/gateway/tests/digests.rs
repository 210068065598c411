//! DIGEST at the door, and what a user has deleted: it keeps its hash.

use rookery_wire::digest::{DigestAt, DigestReply};
use rookery_wire::own::Settings;
use rookery_wire::request::Consistency;
use rookery_wire::{ContentHash, Digest};

use super::*;

#[tokio::test]
async fn digests_are_told_like_pages() {
    let bench = bench(|_, _| {}).await;
    let mut ada = bench.client("ada", "phone").await;
    let ask = |session: SessionId, consistency| DigestAt { session, seq: 7, consistency };
    ada.send(Kind::Digest, 5, &ask(group("team"), Consistency::Linearizable)).await;
    let (frame, reply) = ada.expect::<DigestReply>(Kind::DigestReply).await;
    assert_eq!((frame.request_id, reply.seq), (5, 7));
    assert_eq!(reply.digest, Digest::begin(&group("team")));
    let theirs = SessionId::direct(&user("bob"), &user("cid")).unwrap();
    ada.send(Kind::Digest, 6, &ask(theirs, Consistency::Linearizable)).await;
    ada.refused(6, ErrorCode::Forbidden).await;
    ada.send(Kind::Digest, 7, &ask(group("team"), Consistency::Replica)).await;
    ada.refused(7, ErrorCode::Forbidden).await;
    ada.alive().await;
    bench.stop().await;
}

#[test]
fn what_is_left_of_a_deleted_message_has_its_digest() {
    let session = group("team");
    let whole = Record {
        seq: 4,
        message_id: 9,
        time_ms: 1000,
        count: 4,
        sender: user("bob"),
        device: DeviceId::new("phone").unwrap(),
        epoch: 1,
        client_seq: 1,
        kind: RecordKind::CONTENT,
        content_type: Blob::from("text/plain"),
        content: Blob::from("what ada does not want to see"),
        extensions: vec![rookery_wire::Salt([7; 16]).extension()],
    };
    let settings = Settings { deleted: vec![(3, 5)], ..Settings::default() };
    let page = Page { session: session.clone(), first_seq: 1, last_seq: 9, records: vec![whole.clone()] };
    let left = crate::gateway::mask::page(&settings, page).records.remove(0);
    assert!(left.content.is_empty() && left.kind == RecordKind::DELETED);
    assert_eq!(ContentHash::of(&left), ContentHash::of(&whole));
    let begin = Digest::begin(&session);
    assert_eq!(begin.then_record(&left), begin.then_record(&whole));
}

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

#[test]
fn signals_in_a_deleted_range_stay_what_they_are() {
    let session = group("team");
    let of_kind = |seq: u64, kind: RecordKind| Record {
        seq,
        message_id: seq,
        time_ms: 1000,
        count: seq,
        sender: user("bob"),
        device: DeviceId::new("phone").unwrap(),
        epoch: 1,
        client_seq: seq,
        kind,
        content_type: Blob::default(),
        content: Blob::from("what the signal says"),
        extensions: Vec::new(),
    };
    let kinds = (0..=9).map(RecordKind);
    let records: Vec<Record> = (1..).zip(kinds).map(|(seq, kind)| of_kind(seq, kind)).collect();
    let settings = Settings { deleted: vec![(1, 20)], ..Settings::default() };
    let page = Page { session: session.clone(), first_seq: 1, last_seq: 10, records: records.clone() };
    let seen = crate::gateway::mask::page(&settings, page).records;
    let digest = |records: &[Record]| {
        records.iter().fold(Digest::begin(&session), |digest, record| digest.then_record(record))
    };
    assert_eq!(digest(&seen), digest(&records), "whoever verifies is not told of a difference");
    for (seen, whole) in seen.iter().zip(&records) {
        let hidden = [RecordKind::CONTENT, RecordKind::RECALLED, RecordKind::EXPIRED].contains(&whole.kind);
        match hidden {
            true => assert!(seen.kind == RecordKind::DELETED && seen.content.is_empty(), "{whole:?}"),
            false => assert_eq!(seen, whole),
        }
    }
}

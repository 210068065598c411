//! DIGEST and its answer: their vectors, their notation, random ones; and a history with its digests, byte for byte.

use proptest::prelude::*;
use rookery_wire::digest::{DigestAt, DigestReply};
use rookery_wire::request::Consistency;
use rookery_wire::{
    Blob, ContentHash, DeviceId, Digest, Extension, Record, RecordKind, Rewritten, Salt, Signal, Target,
    encode,
};
use serde_json::{Value, json};

use crate::bodies::Body;
use crate::cases::{Case, case, pair, team, user as named};
use crate::json::{Json, structs, to_hex};
use crate::strategies::{blob, number, record as any_record, session};
use crate::vectors::file;

structs! {
    DigestAt { session, seq, consistency }
    DigestReply { session, seq, digest, first_seq, before }
}

impl Json for Digest {
    fn to_json(&self) -> Value {
        json!({ "hex": self.to_string() })
    }
    fn from_json(value: &Value) -> Self {
        value["hex"].as_str().unwrap().parse().unwrap()
    }
}

pub(crate) fn requests() -> Vec<Case> {
    let ask = |session, seq, consistency| Body::Digest(DigestAt { session, seq, consistency });
    vec![
        case("digest", "of the last record", 95, ask(team(), 0, Consistency::Linearizable)),
        case("digest at", "", 96, ask(pair(), 300, Consistency::AtLeast(300))),
    ]
}

pub(crate) fn replies() -> Vec<Case> {
    let digests = digests(&history());
    vec![case("digest reply", "of the history in digests.json", 95, {
        Body::DigestReply(DigestReply {
            session: team(),
            seq: 3,
            digest: digests[2],
            first_seq: 1,
            before: Digest::begin(&team()),
        })
    })]
}

fn record(seq: u64, kind: RecordKind, content: Blob) -> Record {
    Record {
        seq,
        message_id: 18_014_398_509_500_000 + seq,
        time_ms: 1_790_000_000_000 + seq,
        count: u64::from(seq > 1),
        sender: named("bob"),
        device: DeviceId::new("phone").unwrap(),
        epoch: 1,
        client_seq: seq,
        kind,
        content_type: Blob::default(),
        content,
        extensions: Vec::new(),
    }
}

/// What bob says.
fn said() -> Record {
    let extensions =
        vec![Extension { tag: 1024, data: Blob::from("thread 7") }, Salt(*b"sixteen of these").extension()];
    let text = record(2, RecordKind::CONTENT, Blob::from("see you at 8"));
    Record { content_type: Blob::from("text/plain"), extensions, ..text }
}

/// A group comes to be, bob says something and takes it back: as it is stored in the end.
fn history() -> Vec<Record> {
    let mark = encode(&Rewritten { by: named("bob"), time_ms: 1_790_000_000_003, seq: 3 });
    let mark = Extension { tag: Rewritten::TAG, data: Blob(mark) };
    let extensions = vec![mark, ContentHash::of(&said()).extension()];
    vec![
        record(1, RecordKind::CREATED, Blob(encode(&Signal { users: vec![named("bob")] }))),
        Record { extensions, ..record(2, RecordKind::RECALLED, Blob::default()) },
        record(3, RecordKind::RECALL, Blob(encode(&Target { seq: 2 }))),
    ]
}

/// The digest after each of these records.
fn digests(records: &[Record]) -> Vec<Digest> {
    let mut digest = Digest::begin(&team());
    let step = |record: &Record| {
        digest = digest.then_record(record);
        digest
    };
    records.iter().map(step).collect()
}

#[test]
fn vectors_of_digests() {
    let line = |record: &Record| json!({ "hex": to_hex(&encode(record)), "content_hash": to_hex(&ContentHash::of(record).0) });
    let stored = history();
    let told = [stored[0].clone(), said(), stored[2].clone()];
    assert_eq!(digests(&stored), digests(&told), "a recall changes nothing");
    let mut vectors = json!({
        "session": to_hex(&encode(&team())),
        "begin": Digest::begin(&team()).to_string(),
        "records": stored.iter().map(line).collect::<Vec<_>>(),
        "digests": digests(&stored).iter().map(Digest::to_string).collect::<Vec<_>>(),
    });
    vectors["before the recall"] = line(&told[1]);
    file("digests.json", &json!([vectors]));
}

/// Any body of these.
pub(crate) fn body() -> impl Strategy<Value = Body> {
    let digest = || any::<[u8; 32]>().prop_map(Digest);
    let consistency = prop_oneof![
        Just(Consistency::Linearizable),
        number().prop_map(Consistency::AtLeast),
        Just(Consistency::Replica)
    ];
    prop_oneof![
        (session(), number(), consistency).prop_map(|(session, seq, consistency)| Body::Digest(DigestAt {
            session,
            seq,
            consistency
        })),
        (session(), number(), digest(), number(), digest()).prop_map(
            |(session, seq, digest, first_seq, before)| {
                Body::DigestReply(DigestReply { session, seq, digest, first_seq, before })
            }
        ),
    ]
}

/// What never changes of a record, as one of these fields with another value.
fn changed(record: &Record, which: usize, by: u64) -> Record {
    let mut other = record.clone();
    let more = |number: &mut u64| *number = number.wrapping_add(by);
    match which {
        0 => more(&mut other.seq),
        1 => more(&mut other.message_id),
        2 => more(&mut other.time_ms),
        3 => more(&mut other.count),
        4 => more(&mut other.client_seq),
        5 => other.epoch = other.epoch.wrapping_add(by as u32 | 1),
        6 => other.sender = named(if record.sender == named("x") { "y" } else { "x" }),
        7 => other.device = DeviceId::new(if record.device.as_str() == "x" { "y" } else { "x" }).unwrap(),
        8 => other.kind = RecordKind(if record.kind.0 == 4 { 5 } else { 4 }),
        9 => other.content = Blob([record.content.as_ref(), &[0]].concat().into()),
        10 => other.content_type = Blob([&[0], record.content_type.as_ref()].concat().into()),
        _ => other.extensions.insert(0, Extension { tag: 2000, data: Blob::default() }),
    }
    other
}

fn without_own(mut record: Record) -> Record {
    record.extensions.retain(|extension| extension.tag >= 1024);
    record
}

proptest! {
    #[test]
    fn any_change_of_an_unchanging_field_is_another_digest(
        record in any_record(), which in 0..12usize, by in 1..u64::MAX, salt in any::<[u8; 16]>(),
    ) {
        let mut record = without_own(record);
        record.extensions.push(Salt(salt).extension());
        let begin = Digest::begin(&team());
        prop_assert_ne!(begin.then_record(&record), begin.then_record(&changed(&record, which, by)));
        // And so is everything after it.
        let (one, other) = (begin.then_record(&record), begin.then_record(&changed(&record, which, by)));
        prop_assert_ne!(one.then_record(&said()), other.then_record(&said()));
    }

    #[test]
    fn what_is_left_of_any_content_is_the_same_digest(record in any_record(), mark in blob(), salt in any::<[u8; 16]>()) {
        let mut record = Record { kind: RecordKind::CONTENT, ..without_own(record) };
        record.extensions.push(Salt(salt).extension());
        let mark = Extension { tag: Rewritten::TAG, data: mark };
        let hash = ContentHash::of(&record).extension();
        let begin = Digest::begin(&team());
        for (kind, content) in [(RecordKind::RECALLED, ""), (RecordKind::EXPIRED, ""), (RecordKind::CONTENT, "other")] {
            let left = Record {
                kind,
                content_type: Blob::default(),
                content: Blob::from(content),
                extensions: vec![mark.clone(), hash.clone()],
                ..record.clone()
            };
            prop_assert_eq!(begin.then_record(&left), begin.then_record(&record));
        }
    }

    #[test]
    fn bytes_that_may_be_anything_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Digest::begin(&team()).then(&bytes);
    }
}

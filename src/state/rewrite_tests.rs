//! Recall and edit: wherever a message stands, what was taken back is nowhere any more (G7), and nothing else moved.

use bytes::Bytes;
use rookery_wire::codec::{Blob, decode};
use rookery_wire::{Digest, ErrorCode, Record, RecordKind, Rewritten};

use super::command::Act;
use super::session_rows::read_recalled_after;
use super::tests::{Disk, LIMITS, actor, apply, at, code_of, group, new_group, seq_of, text, user};
use super::{Actor, RowReader, Session, VersionBounds, key, records};

const SECRET: &str = "the secret that must go";

fn recall(seq: u64) -> Act {
    Act::Recall { seq, window_ms: 1_000_000 }
}

fn edit(seq: u64, content: &str) -> Act {
    let (content_type, content) = (Blob::from("text/plain"), Blob::from(content));
    Act::Edit {
        seq,
        window_ms: 1_000_000,
        versions: VersionBounds::default(),
        content_type,
        content,
        extensions: Vec::new(),
    }
}

fn checkpoint(session: &mut Session, disk: &mut Disk) {
    disk.write(session.collect());
    session.written(&LIMITS);
}

/// What a reader finds at `seq`: memory, else the rows with what the session says of them.
fn shown(session: &Session, disk: &Disk, seq: u64) -> Record {
    let patched = session.patches(seq, seq).pop().map(|(_, record)| record);
    let from_rows = || records::read_one(disk, session.id(), seq).expect("rows").expect("a record");
    let bytes = session.record(seq).cloned().or(patched).unwrap_or_else(from_rows);
    decode(&bytes).expect("a record")
}

fn says(bytes: &[u8], what: &str) -> bool {
    bytes.windows(what.len()).any(|window| window == what.as_bytes())
}

fn rows_say(disk: &Disk, what: &str) -> bool {
    let mut found = false;
    let all = disk.scan(&[], &mut |_, value| {
        found |= says(value, what);
        Ok(true)
    });
    all.expect("rows");
    found
}

/// A group in which Ann has said the secret as record 2 and then so many other things.
fn with_secret(disk: &Disk, more: u64) -> Session {
    let mut session = new_group(disk);
    apply(&mut session, disk, &at(2), &actor("ann"), 2, &text(SECRET));
    for number in 3..3 + more {
        apply(&mut session, disk, &at(number), &actor("ann"), number, &text("chatter"));
    }
    session
}

/// Ann recalls record 2 and everything is checked, now and after two checkpoints and a load.
fn recalled_everywhere(
    mut session: Session,
    mut disk: Disk,
    mut between: impl FnMut(&mut Session, &mut Disk),
) {
    let (last, count) = (session.last_seq(), session.count());
    let acked = apply(&mut session, &disk, &at(100), &actor("ann"), last + 1, &recall(2));
    assert_eq!(seq_of(&acked), last + 1);
    let (seq, replacing) = acked.rewritten.clone().expect("a record that changed");
    assert!(seq == 2 && !says(&replacing, SECRET));
    let look = |session: &Session, disk: &Disk| {
        let record = shown(session, disk, 2);
        assert_eq!((record.kind, record.content.len(), record.count), (RecordKind::RECALLED, 0, 1));
        let mark: Rewritten = decode(&record.extensions[0].data.0).expect("a mark");
        assert_eq!((mark.by, mark.seq), (user("ann"), last + 1));
        assert_eq!((session.last_seq(), session.count()), (last + 1, count), "counts never go back");
        assert_eq!((session.recalled_after(0), session.recalled_after(1)), (1, 0));
        for seq in 3..=last {
            assert_eq!(shown(session, disk, seq).content.as_ref(), b"chatter");
        }
    };
    look(&session, &disk);
    between(&mut session, &mut disk);
    look(&session, &disk);
    checkpoint(&mut session, &mut disk);
    look(&session, &disk);
    assert!(!rows_say(&disk, SECRET), "rows still say it");
    assert!(session.is_clean() && session.patches(0, u64::MAX).is_empty());
    let loaded = Session::load(&disk, &group()).expect("rows");
    look(&loaded, &disk);
    assert_eq!(read_recalled_after(&disk, &group(), &[1, 0, 5]).expect("rows"), [0, 1, 0]);
    // The recall again, to a session that knows it from its rows only.
    let mut loaded = loaded;
    let again = apply(&mut loaded, &disk, &at(101), &actor("ann"), last + 1, &recall(2));
    assert_eq!(seq_of(&again), last + 1, "its first answer");
    let twice = apply(&mut loaded, &disk, &at(102), &actor("ann"), last + 2, &recall(2));
    assert_eq!(code_of(&twice), ErrorCode::Recalled);
}

#[test]
fn in_a_users_name_a_service_edits_what_that_user_may() {
    let disk = Disk::default();
    let mut session = with_secret(&disk, 0);
    let named =
        |name: &str, of: Option<&str>| Actor { service: true, on_behalf_of: of.map(user), ..actor(name) };
    let not_hers =
        apply(&mut session, &disk, &at(10), &named("shop", Some("bob")), 1, &edit(2, "bob puts it so"));
    assert_eq!(code_of(&not_hers), ErrorCode::NotAllowed, "ann has said it");
    let late = Act::Edit {
        seq: 2,
        window_ms: 1,
        versions: VersionBounds::default(),
        content_type: Blob::default(),
        content: Blob::default(),
        extensions: Vec::new(),
    };
    let too_late = apply(&mut session, &disk, &at(5_000), &named("shop", Some("ann")), 2, &late);
    assert_eq!(code_of(&too_late), ErrorCode::TooLate);
    let hers = apply(&mut session, &disk, &at(5_001), &named("shop", Some("ann")), 3, &edit(2, "so"));
    assert_eq!(seq_of(&hers), 3);
    let own_name = apply(&mut session, &disk, &at(5_002), &named("shop", None), 4, &late);
    assert_eq!(seq_of(&own_name), 4, "in its own name it may edit all");
}

#[test]
fn a_message_that_no_row_holds_yet() {
    let disk = Disk::default();
    recalled_everywhere(with_secret(&disk, 3), disk, |_, _| {});
}

#[test]
fn a_message_on_its_way_into_rows() {
    let mut disk = Disk::default();
    let mut session = with_secret(&disk, 3);
    let on_their_way = session.collect();
    let mut on_their_way = Some(on_their_way);
    let arrive = |session: &mut Session, disk: &mut Disk| {
        disk.write(on_their_way.take().expect("once"));
        session.written(&LIMITS);
    };
    disk.write(super::RowWrites::default());
    recalled_everywhere(session, disk, arrive);
}

#[test]
fn a_message_in_rows_that_memory_has_let_go() {
    let mut disk = Disk::default();
    let mut session = with_secret(&disk, 30);
    checkpoint(&mut session, &mut disk);
    assert!(session.record(2).is_none(), "the ring of {} is past it", LIMITS.ring);
    assert!(rows_say(&disk, SECRET));
    recalled_everywhere(session, disk, |_, _| {});
}

#[test]
fn a_message_in_rows_and_in_the_ring() {
    let mut disk = Disk::default();
    let mut session = with_secret(&disk, 1);
    checkpoint(&mut session, &mut disk);
    assert!(session.record(2).is_some());
    recalled_everywhere(session, disk, |_, _| {});
}

#[test]
fn a_message_in_runs_that_overlap() {
    // After a snapshot a replay may cut runs elsewhere: the older run stays below the newer one.
    let mut disk = Disk::default();
    let mut session = with_secret(&disk, 20);
    let record = |seq: u64| session.record(seq).cloned().expect("in memory");
    let all: Vec<Bytes> = (1..=22).map(record).collect();
    let mut rows = super::RowWrites::default();
    let begin = Digest::begin(&group());
    rows.put(key::record(&group(), 1), records::pack(begin, &all));
    rows.put(key::record(&group(), 2), records::pack(begin.then(&all[0]).expect("a record"), &all[1..]));
    checkpoint(&mut session, &mut disk);
    disk.write(rows);
    recalled_everywhere(session, disk, |_, _| {});
}

#[test]
fn an_edit_says_something_else_and_a_recall_of_it_takes_both_away() {
    let mut disk = Disk::default();
    let mut session = with_secret(&disk, 30);
    checkpoint(&mut session, &mut disk);
    let edited = apply(&mut session, &disk, &at(100), &actor("ann"), 33, &edit(2, "something else"));
    assert_eq!(seq_of(&edited), 33);
    assert_eq!(shown(&session, &disk, 2).content.as_ref(), b"something else");
    assert_eq!(shown(&session, &disk, 2).kind, RecordKind::CONTENT);
    assert_eq!(session.recalled_after(0), 0, "it still counts");
    let again = apply(&mut session, &disk, &at(101), &actor("ann"), 34, &edit(2, "once more"));
    assert_eq!(seq_of(&again), 34);
    checkpoint(&mut session, &mut disk);
    assert!(!rows_say(&disk, SECRET) && !rows_say(&disk, "something else") && rows_say(&disk, "once more"));
    apply(&mut session, &disk, &at(102), &actor("ann"), 35, &recall(2));
    checkpoint(&mut session, &mut disk);
    assert!(!rows_say(&disk, "once more"));
    let late = apply(&mut session, &disk, &at(103), &actor("ann"), 36, &edit(2, "no more"));
    assert_eq!(code_of(&late), ErrorCode::Recalled);
}

#[test]
fn a_run_that_edits_have_made_large_is_cut_again() {
    let mut disk = Disk::default();
    let mut session = with_secret(&disk, 40);
    checkpoint(&mut session, &mut disk);
    let long = "x".repeat(60 << 10);
    for (number, seq) in (43..).zip(2..=40) {
        apply(&mut session, &disk, &at(100 + seq), &actor("ann"), number, &edit(seq, &long));
    }
    let mut rows = session.collect();
    rows.seal().expect("records");
    let largest = rows.ahead.iter().filter_map(|(_, value)| value.as_ref()).map(Bytes::len).max();
    assert!(largest.is_some_and(|bytes| bytes < 128 << 10), "{largest:?} bytes in one row");
    disk.write(rows);
    session.written(&LIMITS);
    let mut loaded = Session::load(&disk, &group()).expect("rows");
    for seq in 2..=40 {
        assert_eq!(shown(&loaded, &disk, seq).content.len(), long.len());
    }
    apply(&mut loaded, &disk, &at(200), &actor("ann"), 82, &recall(30));
    checkpoint(&mut loaded, &mut disk);
    assert_eq!(shown(&loaded, &disk, 30).kind, RecordKind::RECALLED);
    assert_eq!(shown(&loaded, &disk, 31).content.len(), long.len());
    let kept = records::read(&disk, &group(), 1, 100).expect("rows");
    assert_eq!(kept.len() as u64, loaded.last_seq(), "every record can be read");
}

#[test]
fn a_crash_between_the_pieces_of_a_run_that_is_cut_again_loses_no_record() {
    let mut disk = Disk::default();
    let mut session = with_secret(&disk, 40);
    checkpoint(&mut session, &mut disk);
    let long = "x".repeat(20 << 10);
    let edits: Vec<(u64, u64)> = (43..).zip(2..=40).collect();
    for (number, seq) in &edits {
        apply(&mut session, &disk, &at(100 + seq), &actor("ann"), *number, &edit(*seq, &long));
    }
    let mut rows = session.collect();
    rows.seal().expect("records");
    let pieces = rows.ahead.len();
    assert!(pieces > 10, "{pieces} pieces");
    for written in 0..=pieces {
        let mut disk = disk.clone();
        let mut part = super::RowWrites::default();
        part.rows.extend_from_slice(&rows.ahead[..written]);
        disk.write(part);
        let kept = records::read(&disk, &group(), 1, 100).expect("rows");
        assert_eq!(kept.len(), 42, "{written} of {pieces} pieces are rows: no record is missing");
        // The log before the head's index is purged; what is after it comes again, and finds its messages.
        let mut loaded = Session::load(&disk, &group()).expect("rows");
        for (number, seq) in &edits {
            let again = apply(&mut loaded, &disk, &at(100 + seq), &actor("ann"), *number, &edit(*seq, &long));
            assert_eq!(seq_of(&again), *number, "{written} of {pieces} pieces are rows");
        }
        checkpoint(&mut loaded, &mut disk);
        for seq in 1..=loaded.last_seq() {
            assert_eq!(
                shown(&loaded, &disk, seq),
                shown(&session, &disk, seq),
                "seq {seq}, {written} pieces"
            );
        }
    }
}

#[test]
fn a_run_that_is_cut_again_while_it_is_on_its_way_into_rows() {
    let mut disk = Disk::default();
    let mut session = with_secret(&disk, 40);
    checkpoint(&mut session, &mut disk);
    let long = "x".repeat(20 << 10);
    let mut number = 42;
    let mut act = |session: &mut Session, disk: &Disk, act: &Act| {
        number += 1;
        let acked = apply(session, disk, &at(100 + number), &actor("ann"), number, act);
        assert_eq!(seq_of(&acked), number);
    };
    for seq in 2..=40 {
        act(&mut session, &disk, &edit(seq, &long));
    }
    let on_their_way = session.collect();
    // What is shorter now would be cut elsewhere.
    for seq in 2..=10 {
        act(&mut session, &disk, &recall(seq));
    }
    act(&mut session, &disk, &edit(30, "short"));
    let look = |session: &Session, disk: &Disk, recalled: &[u64], short: &[u64]| {
        for seq in 2..=42 {
            let record = shown(session, disk, seq);
            let length = match seq {
                _ if recalled.contains(&seq) => 0,
                _ if short.contains(&seq) => 5,
                41.. => 7,
                _ => long.len(),
            };
            assert_eq!(record.content.len(), length, "seq {seq}");
        }
    };
    let mut recalled: Vec<u64> = (2..=10).collect();
    look(&session, &disk, &recalled, &[30]);
    disk.write(on_their_way);
    look(&session, &disk, &recalled, &[30]);
    // The pieces are rows, and older than what memory knows of their messages.
    for seq in [29, 31] {
        act(&mut session, &disk, &edit(seq, "brief"));
    }
    act(&mut session, &disk, &recall(11));
    recalled.push(11);
    look(&session, &disk, &recalled, &[29, 30, 31]);
    session.written(&LIMITS);
    look(&session, &disk, &recalled, &[29, 30, 31]);
    checkpoint(&mut session, &mut disk);
    assert!(session.patches(0, u64::MAX).is_empty());
    look(&session, &disk, &recalled, &[29, 30, 31]);
    let loaded = Session::load(&disk, &group()).expect("rows");
    look(&loaded, &disk, &recalled, &[29, 30, 31]);
}

fn rows_hold(disk: &Disk, plain: u64) -> bool {
    let mut found = false;
    let all = disk.scan(&[], &mut |_, value| {
        found |= value.windows(8).any(|window| window == plain.to_le_bytes());
        Ok(true)
    });
    all.expect("rows");
    found
}

#[test]
fn what_is_gone_is_not_found_by_what_its_number_keeps_and_a_retry_has_its_first_answer() {
    for written_before in [false, true] {
        let mut disk = Disk::default();
        let mut session = with_secret(&disk, 3);
        if written_before {
            checkpoint(&mut session, &mut disk);
        }
        let index = std::cell::Cell::new(100);
        let tries = |session: &mut Session, disk: &Disk, number: u64, act: &Act| {
            index.set(index.get() + 1);
            apply(session, disk, &at(index.get()), &actor("ann"), number, act)
        };
        assert_eq!(code_of(&tries(&mut session, &disk, 2, &text("other"))), ErrorCode::ClientSeqReused);
        assert_eq!(seq_of(&tries(&mut session, &disk, 6, &recall(2))), 6);
        let look = |session: &mut Session, disk: &Disk| {
            for said in [SECRET, "other"] {
                assert_eq!(seq_of(&tries(session, disk, 2, &text(said))), 2, "by the number alone");
            }
            assert_eq!(seq_of(&tries(session, disk, 3, &text("chatter"))), 3);
            assert_eq!(code_of(&tries(session, disk, 3, &text("other"))), ErrorCode::ClientSeqReused);
            assert_eq!(code_of(&tries(session, disk, 6, &recall(3))), ErrorCode::ClientSeqReused);
            assert_eq!(session.last_seq(), 6);
        };
        look(&mut session, &disk);
        // Known from older rows, and its message recalled since.
        checkpoint(&mut session, &mut disk);
        look(&mut session, &disk);
        let mut loaded = Session::load(&disk, &group()).expect("rows");
        look(&mut loaded, &disk);
        assert_eq!(seq_of(&tries(&mut loaded, &disk, 7, &recall(3))), 7);
        assert_eq!(seq_of(&tries(&mut loaded, &disk, 3, &text("other"))), 3, "rows do not know yet");
        checkpoint(&mut loaded, &mut disk);
        for said in [text(SECRET), text("chatter")] {
            assert!(!rows_hold(&disk, said.fingerprint(None)), "without the salt nobody can try");
        }
        assert!(rows_hold(&disk, recall(2).fingerprint(None)), "the search finds what there is");
    }
}

#[test]
fn a_request_key_forgets_what_was_said_when_it_is_taken_back() {
    let mut disk = Disk::default();
    let mut session = new_group(&disk);
    let shop = Actor::keyed(user("shop"), None).expect("a service");
    let key = rookery_wire::RequestKey::new("k1").expect("a key");
    let other_key = rookery_wire::RequestKey::new("k2").expect("a key");
    session.apply_keyed(&at(2), &LIMITS, &shop, &key, &text(SECRET));
    session.apply_keyed(&at(3), &LIMITS, &shop, &other_key, &text("chatter"));
    checkpoint(&mut session, &mut disk);
    apply(&mut session, &disk, &at(4), &actor("ann"), 2, &recall(2));
    checkpoint(&mut session, &mut disk);
    assert!(!rows_hold(&disk, text(SECRET).fingerprint(None)));
    assert!(rows_hold(&disk, text("chatter").fingerprint(None)), "its content is there as well");
    let mut loaded = Session::load(&disk, &group()).expect("rows");
    for session in [&mut session, &mut loaded] {
        assert_eq!(seq_of(&session.apply_keyed(&at(5), &LIMITS, &shop, &key, &text(SECRET))), 2);
        let reused = session.apply_keyed(&at(6), &LIMITS, &shop, &other_key, &text("else"));
        assert_eq!(code_of(&reused), ErrorCode::KeyReused);
    }
}

#[test]
fn the_number_of_an_edit_keeps_nothing_of_what_it_says() {
    assert_eq!(edit(2, "this").fingerprint(None), edit(2, "that").fingerprint(None));
    assert_ne!(edit(2, "this").fingerprint(None), edit(3, "this").fingerprint(None));
    assert_ne!(edit(2, "this").fingerprint(None), recall(2).fingerprint(None));
}

#[test]
fn who_may_and_when() {
    let disk = Disk::default();
    let mut session = with_secret(&disk, 3);
    let bob = actor("bob");
    apply(&mut session, &disk, &at(10), &bob, 1, &text("mine"));
    let bobs = session.last_seq();
    let mut refusal = |actor: &Actor, number: u64, index: u64, act: &Act| {
        code_of(&apply(&mut session, &disk, &at(index), actor, number, act))
    };
    assert_eq!(refusal(&bob, 2, 11, &recall(2)), ErrorCode::NotAllowed, "it is Ann's");
    assert_eq!(refusal(&bob, 3, 12, &edit(2, "x")), ErrorCode::NotAllowed);
    assert_eq!(refusal(&bob, 4, 13, &recall(1)), ErrorCode::NoSuchMessage, "a signal");
    assert_eq!(refusal(&bob, 5, 14, &recall(999)), ErrorCode::NoSuchMessage, "beyond the end");
    assert_eq!(refusal(&bob, 6, 15, &recall(0)), ErrorCode::NoSuchMessage);
    let late = Act::Recall { seq: bobs, window_ms: 5 };
    assert_eq!(refusal(&bob, 7, 40, &late), ErrorCode::TooLate, "30 ms old");
    assert_eq!(refusal(&actor("eve"), 1, 41, &recall(2)), ErrorCode::NotMember);
    assert_eq!(refusal(&actor("ann"), 6, 42, &edit(bobs, "x")), ErrorCode::NotAllowed, "owners do not edit");
    // The owner recalls what others said, however old; each refusal above took its number.
    let owner =
        apply(&mut session, &disk, &at(43), &actor("ann"), 7, &Act::Recall { seq: bobs, window_ms: 0 });
    assert_eq!(seq_of(&owner), bobs + 1);
    let next = apply(&mut session, &disk, &at(44), &bob, 8, &text("still here"));
    assert_eq!(seq_of(&next), bobs + 2);
}

#[test]
fn a_snapshot_whose_records_are_newer_than_its_session() {
    let mut disk = Disk::default();
    let mut session = with_secret(&disk, 30);
    checkpoint(&mut session, &mut disk);
    let mut mixed = disk.clone();
    let acts = [edit(2, "something else"), recall(2), recall(3)];
    for (act, index) in acts.iter().zip(100..) {
        apply(&mut session, &disk, &at(index), &actor("ann"), index - 67, act);
    }
    checkpoint(&mut session, &mut disk);
    mixed.take_newer(&disk, super::key::letter::RECORD);
    let mut loaded = Session::load(&mixed, &group()).expect("rows");
    for (act, index) in acts.iter().zip(100..) {
        let replayed = apply(&mut loaded, &mixed, &at(index), &actor("ann"), index - 67, act);
        assert_eq!(seq_of(&replayed), index - 67);
    }
    checkpoint(&mut loaded, &mut mixed);
    for seq in 1..=session.last_seq() {
        assert_eq!(shown(&loaded, &mixed, seq), shown(&session, &disk, seq), "seq {seq}");
    }
    assert_eq!(loaded.recalled_after(0), 2);
}

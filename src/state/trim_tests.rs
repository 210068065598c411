//! Trimming and expiry against a plain model: random acts, with checkpoints, crashes and replays, and snapshots whose records
//! are newer than their session, end as the model says.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::codec::{Blob, decode, encode};
use rookery_wire::{
    Burns, ErrorCode, Expires, Extension, GroupAction, Record, RecordKind, Retention, SessionId,
};

use super::command::Act;
use super::key::letter;
use super::records::{self, runs_with};
use super::session_rows::needless_numbers;
use super::tables::{EXPIRIES, note_expiry};
use super::tests::{Disk, LIMITS, actor, all_of, apply, at, code_of, group, new_group, seq_of, text};
use super::trim::{Expiries, Expiry, MAX_EXPIRING};
use super::{Answer, At, Outcome, RowReader, Session, VersionBounds};

const NONE: Retention = Retention { age_ms: 0, count: 0 };

pub(super) fn lasting(content: &str, after_ms: u64) -> Act {
    let extensions = vec![Extension { tag: Expires::TAG, data: Blob(encode(&Expires { after_ms })) }];
    Act::Send { content_type: Blob::from("text/plain"), content: Blob::from(content), extensions }
}

pub(super) fn recall(seq: u64) -> Act {
    Act::Recall { seq, window_ms: u64::MAX }
}

pub(super) fn edit(seq: u64, content: &str) -> Act {
    let (content_type, content) = (Blob::from("text/plain"), Blob::from(content));
    Act::Edit {
        seq,
        window_ms: u64::MAX,
        versions: VersionBounds::default(),
        content_type,
        content,
        extensions: Vec::new(),
    }
}

/// As the shell does: what is wanted of rows is read first; what is in already is passed over.
fn expire(session: &mut Session, disk: &Disk, at: &At, seqs: &[u64]) -> Outcome {
    if at.index <= session.index() {
        return Outcome::default();
    }
    let wanted: Vec<u64> = session.expiring_in_rows(seqs).collect();
    for seq in wanted {
        session.give_runs(runs_with(disk, session.id(), seq).expect("rows"));
    }
    let outcome = session.expire(at, seqs);
    session.reflect(at.index);
    session.forget_recalled();
    outcome
}

fn trim(session: &mut Session, at: &At, upto: u64, count: u64, by: Retention) {
    if at.index > session.index() {
        session.trim(upto, count, by);
        session.reflect(at.index);
    }
}

/// Everything that changed becomes rows; then, as after the flush, the rows of what is trimmed go.
pub(super) fn checkpoint(session: &mut Session, disk: &mut Disk, frees: bool) {
    let rows = session.collect();
    let freed = rows.freed.clone();
    disk.write(rows);
    session.written(&LIMITS);
    if let (Some((id, moved)), true) = (freed, frees) {
        free(disk, &id, moved.first);
    }
}

fn free(disk: &mut Disk, id: &rookery_wire::SessionId, first: u64) {
    loop {
        let keys = records::before(disk, id, first, 2).expect("rows");
        if keys.is_empty() {
            break;
        }
        delete(disk, keys);
    }
    let mut from = None;
    loop {
        let (keys, next) = needless_numbers(disk, id, first, from, 2).expect("rows");
        delete(disk, keys);
        from = next;
        if from.is_none() {
            return;
        }
    }
}

fn delete(disk: &mut Disk, keys: Vec<Bytes>) {
    let mut gone = super::RowWrites::default();
    keys.into_iter().for_each(|key| gone.delete(key.to_vec()));
    disk.write(gone);
}

fn shown(session: &Session, disk: &Disk, seq: u64) -> Record {
    let patched = session.patches(seq, seq).pop().map(|(_, record)| record);
    let from_rows = || records::read_one(disk, session.id(), seq).expect("rows").expect("a record");
    decode(&session.record(seq).cloned().or(patched).unwrap_or_else(from_rows)).expect("a record")
}

fn unread(session: &Session, read_count: u64) -> u64 {
    let seen = read_count.max(session.first_count());
    session.count() - seen - session.recalled_after(seen)
}

#[test]
fn what_is_trimmed_is_gone_for_readers_counts_and_retries_and_its_rows_are_deleted() {
    let mut disk = Disk::default();
    let mut session = new_group(&disk);
    for number in 2..=200 {
        apply(&mut session, &disk, &at(number), &actor("ann"), number, &text("chatter"));
        if number.is_multiple_of(40) {
            checkpoint(&mut session, &mut disk, true);
        }
    }
    let rows = |disk: &Disk, letter| {
        let mut keys = 0;
        disk.scan(&super::key::session(letter, &group()), &mut |_, _| {
            keys += 1;
            Ok(true)
        })
        .expect("rows");
        keys
    };
    let runs = |disk: &Disk| rows(disk, letter::RECORD);
    assert_eq!((runs(&disk), rows(&disk, letter::NUMBERS)), (5, 5));
    trim(&mut session, &at(300), 130, 129, NONE);
    assert_eq!((session.first_seq(), session.first_count(), session.last_seq()), (131, 129, 200));
    assert_eq!((unread(&session, 0), unread(&session, 150)), (70, 49), "what is trimmed is not unread");
    let other = Retention { age_ms: 1, count: 0 };
    trim(&mut session, &at(301), 150, 149, other);
    assert_eq!(session.first_seq(), 131, "decided by a setting that does not hold any more");
    trim(&mut session, &at(302), 90, 89, NONE);
    assert_eq!(session.first_seq(), 131, "never back");
    checkpoint(&mut session, &mut disk, true);
    assert_eq!(runs(&disk), 2, "only the runs from the one that holds record 131 on are left");
    assert_eq!(rows(&disk, letter::NUMBERS), 2, "and the numbers that lead to them");
    let mut loaded = Session::load(&disk, &group()).expect("rows");
    assert_eq!((loaded.first_seq(), loaded.first_count(), unread(&loaded, 0)), (131, 129, 70));
    let (first, page) = records::read_page(&disk, &group(), 65, 64).expect("rows");
    assert_eq!((first, page.len()), (121, 8), "a page that begins in what is gone");
    let late = apply(&mut loaded, &disk, &at(303), &actor("ann"), 130, &text("chatter"));
    assert_eq!(code_of(&late), ErrorCode::AlreadyTrimmed);
    let late = apply(&mut session, &disk, &at(303), &actor("ann"), 130, &text("chatter"));
    assert_eq!(code_of(&late), ErrorCode::AlreadyTrimmed);
    assert_eq!(seq_of(&apply(&mut loaded, &disk, &at(304), &actor("ann"), 131, &text("chatter"))), 131);
    assert_eq!(
        code_of(&apply(&mut loaded, &disk, &at(305), &actor("bob"), 1, &recall(130))),
        ErrorCode::NoSuchMessage
    );
    // All of it, and it goes on.
    let all = loaded.count();
    trim(&mut loaded, &at(310), u64::MAX, all, NONE);
    checkpoint(&mut loaded, &mut disk, true);
    assert_eq!((loaded.first_seq(), runs(&disk), unread(&loaded, 0)), (201, 0, 0));
    assert_eq!(
        rows(&disk, letter::NUMBERS),
        0,
        "no number leads to anything, and bob's refusal is with his last one"
    );
    let mut empty = Session::load(&disk, &group()).expect("rows");
    assert_eq!(seq_of(&apply(&mut empty, &disk, &at(311), &actor("ann"), 201, &text("again"))), 201);
    assert_eq!((empty.first_seq(), unread(&empty, 0)), (201, 1));
}

fn next_expiries(disk: &Disk) -> BTreeMap<SessionId, u64> {
    let mut next = BTreeMap::new();
    all_of(&EXPIRIES, disk).into_iter().flatten().for_each(|at| note_expiry(&mut next, at));
    next
}

#[test]
fn a_message_that_lasts_for_a_time_goes_and_is_not_unread() {
    let mut disk = Disk::default();
    let mut session = new_group(&disk);
    apply(&mut session, &disk, &at(2), &actor("ann"), 2, &lasting("gone soon", 50));
    apply(&mut session, &disk, &at(3), &actor("ann"), 3, &text("stays"));
    assert_eq!(session.next_expiry(), Some(1052));
    checkpoint(&mut session, &mut disk, true);
    assert_eq!(next_expiries(&disk).get(&group()), Some(&1052));
    let mut session = Session::load(&disk, &group()).expect("rows");
    assert_eq!((session.expired_by(1051, 9), session.expired_by(1052, 9)), (vec![], vec![2]));
    // What it says by then goes too.
    assert_eq!(seq_of(&apply(&mut session, &disk, &at(4), &actor("ann"), 4, &edit(2, "gone as well"))), 4);
    let outcome = expire(&mut session, &disk, &at(60), &[2, 3]);
    assert_eq!((outcome.expired, outcome.timers_moved), (vec![2], true), "3 says nothing of an end");
    let gone = shown(&session, &disk, 2);
    assert_eq!((gone.kind, gone.content.len(), gone.count), (RecordKind::EXPIRED, 0, 1));
    assert_eq!((unread(&session, 0), session.next_expiry()), (1, None));
    checkpoint(&mut session, &mut disk, true);
    assert!(!disk.says("gone as well") && !disk.says("gone soon"));
    let mut session = Session::load(&disk, &group()).expect("rows");
    assert_eq!((unread(&session, 0), session.next_expiry()), (1, None));
    let code = |session: &mut Session, number, act: &Act| {
        code_of(&apply(session, &disk, &at(60 + number), &actor("ann"), number, act))
    };
    assert_eq!(code(&mut session, 5, &recall(2)), ErrorCode::NoSuchMessage);
    assert_eq!(code(&mut session, 6, &edit(2, "x")), ErrorCode::NoSuchMessage);
    // A recall is the end of it before its time.
    apply(&mut session, &disk, &at(70), &actor("ann"), 7, &lasting("x", 5));
    let seq = session.last_seq();
    apply(&mut session, &disk, &at(71), &actor("ann"), 8, &recall(seq));
    assert_eq!(session.next_expiry(), None);
}

#[test]
fn what_burns_waits_for_the_other_one_to_read() {
    let mut disk = Disk::default();
    let mut session = new_group(&disk);
    let extensions = vec![Extension { tag: Burns::TAG, data: Blob(encode(&Burns { after_ms: 10 })) }];
    let burns = Act::Send { content_type: Blob::default(), content: Blob::from("read me"), extensions };
    apply(&mut session, &disk, &at(2), &actor("ann"), 2, &burns);
    apply(&mut session, &disk, &at(3), &actor("bob"), 1, &burns);
    let (ann, bob) = (actor("ann").user, actor("bob").user);
    checkpoint(&mut session, &mut disk, true);
    assert!(next_expiries(&disk).is_empty());
    let mut session = Session::load(&disk, &group()).expect("rows");
    assert_eq!((session.next_expiry(), session.expired_by(u64::MAX, 9)), (None, vec![]));
    assert!(!session.burns_for(&ann, 2) && session.burns_for(&ann, 3), "not her own");
    assert!(!session.burns_for(&bob, 1) && session.burns_for(&bob, 2));
    assert!(!session.burn(&at(4), &ann, 2).timers_moved);
    assert!(session.burn(&at(5), &bob, 9).timers_moved);
    assert_eq!((session.next_expiry(), session.expired_by(1015, 9)), (Some(1015), vec![2]));
    assert!(!session.burn(&at(6), &bob, 9).timers_moved, "once");
    session.reflect(6);
    checkpoint(&mut session, &mut disk, true);
    let mut session = Session::load(&disk, &group()).expect("rows");
    assert_eq!(expire(&mut session, &disk, &at(20), &[2]).expired, [2]);
    let gone = shown(&session, &disk, 2);
    assert_eq!((gone.kind, gone.extensions[0].tag), (RecordKind::EXPIRED, Burns::TAG));
    assert!(session.burns_for(&ann, 3), "the other one still waits");
    // A recall before it is read is the end of it.
    apply(&mut session, &disk, &at(21), &actor("bob"), 2, &recall(3));
    assert!(!session.burns_for(&ann, 3));
}

#[derive(Clone)]
enum Op {
    Act(u64, Act),
    Trim(u64, u64, Retention),
    Expire(Vec<u64>),
}

#[derive(Clone, PartialEq, Debug)]
enum Said {
    Signal,
    Text(String),
    Gone(RecordKind),
}

/// What the session must be: nothing but a list.
#[derive(Clone)]
struct Model {
    records: Vec<(Said, u64, Option<u64>)>,
    first: u64,
    retention: Retention,
    /// First answers by number: a seq, or a code.
    answers: Vec<Result<u64, ErrorCode>>,
    acts: Vec<Act>,
}

impl Model {
    fn count(&self) -> u64 {
        self.records.last().map_or(0, |(_, count, _)| *count)
    }

    fn said(&self, seq: u64) -> Option<&Said> {
        let kept = seq >= self.first && seq >= 1;
        self.records.get(seq.checked_sub(1)? as usize).map(|(said, ..)| said).filter(|_| kept)
    }

    fn unread(&self, read_count: u64) -> u64 {
        let kept = self.records.iter().skip(self.first as usize - 1);
        kept.filter(|(said, count, _)| matches!(said, Said::Text(_)) && *count > read_count).count() as u64
    }

    fn due(&self, time_ms: u64) -> Vec<u64> {
        let at = |(at, (said, _, ends)): (usize, &(Said, u64, Option<u64>))| {
            let is_due = matches!(said, Said::Text(_)) && ends.is_some_and(|ends| ends <= time_ms);
            (is_due && at as u64 + 1 >= self.first).then_some(at as u64 + 1)
        };
        self.records.iter().enumerate().filter_map(at).collect()
    }

    fn signal(&mut self) -> u64 {
        self.records.push((Said::Signal, self.count(), None));
        self.records.len() as u64
    }

    fn act(&mut self, time_ms: u64, act: &Act) {
        let answer = match act {
            Act::Send { content, extensions, .. } => {
                let ends = super::trim::expiry_in(extensions).map(|after| time_ms + after);
                let content = String::from_utf8_lossy(content.as_ref()).into_owned();
                self.records.push((Said::Text(content), self.count() + 1, ends));
                Ok(self.records.len() as u64)
            }
            Act::Recall { seq, .. } | Act::Edit { seq, .. } => match self.said(*seq) {
                Some(Said::Text(_)) => {
                    let now = match act {
                        Act::Edit { content, .. } => {
                            Said::Text(String::from_utf8_lossy(content.as_ref()).into_owned())
                        }
                        _ => Said::Gone(RecordKind::RECALLED),
                    };
                    self.records[*seq as usize - 1].0 = now;
                    Ok(self.signal())
                }
                Some(Said::Gone(RecordKind::RECALLED)) => Err(ErrorCode::Recalled),
                _ => Err(ErrorCode::NoSuchMessage),
            },
            Act::Manage { action: GroupAction::SetRetention(retention) } => {
                self.retention = *retention;
                Ok(self.signal())
            }
            other => panic!("not part of this: {other:?}"),
        };
        self.answers.push(answer);
        self.acts.push(act.clone());
    }
}

fn play(session: &mut Session, disk: &Disk, log: &[Op]) {
    for (index, op) in (2..).zip(log) {
        let at = at(index);
        match op {
            Op::Act(number, act) => drop(apply(session, disk, &at, &actor("ann"), *number, act)),
            Op::Trim(upto, count, by) => trim(session, &at, *upto, *count, *by),
            Op::Expire(seqs) => drop(expire(session, disk, &at, seqs)),
        }
    }
}

fn random_op(rng: &mut StdRng, model: &Model, time_ms: u64) -> Op {
    let number = model.answers.len() as u64 + 2;
    let last = model.records.len() as u64;
    let seq = rng.random_range(model.first.saturating_sub(3)..=last + 1);
    let act = |act| Op::Act(number, act);
    match rng.random_range(0..100) {
        0..35 => act(text(&format!("text {number}"))),
        35..55 => act(lasting(&format!("lasts {number}"), rng.random_range(1..60))),
        55..64 => act(recall(seq)),
        64..74 => act(edit(seq, &format!("edit {number}"))),
        74..78 => {
            let retention = Retention { age_ms: 0, count: rng.random_range(0..3) };
            act(Act::Manage { action: GroupAction::SetRetention(retention) })
        }
        78..86 => {
            let count =
                model.records.get(seq.max(1).min(last) as usize - 1).map_or(0, |(_, count, _)| *count);
            let by = if rng.random_bool(0.8) { model.retention } else { Retention { age_ms: 7, count: 7 } };
            Op::Trim(seq.max(1), count, by)
        }
        _ => {
            let mut due = model.due(time_ms);
            due.truncate(rng.random_range(1..5));
            Op::Expire(due)
        }
    }
}

fn agree(session: &Session, disk: &Disk, model: &Model, what: &str) {
    let last = model.records.len() as u64;
    let ours = (session.first_seq(), session.last_seq(), session.count());
    assert_eq!(ours, (model.first, last, model.count()), "{what}");
    for seq in model.first..=last {
        let record = shown(session, disk, seq);
        let (said, count, _) = &model.records[seq as usize - 1];
        let shows = match record.kind {
            RecordKind::CONTENT => Said::Text(String::from_utf8_lossy(record.content.as_ref()).into_owned()),
            RecordKind::RECALLED | RecordKind::EXPIRED => Said::Gone(record.kind),
            _ => Said::Signal,
        };
        assert_eq!((shows, record.count), (said.clone(), *count), "{what}: seq {seq}");
    }
    for read_count in [0, model.count() / 2, model.count()] {
        assert_eq!(
            unread(session, read_count),
            model.unread(read_count),
            "{what}: unread after {read_count}"
        );
    }
    let mut due = session.expired_by(u64::MAX, 10_000);
    due.sort_unstable();
    assert_eq!(due, model.due(u64::MAX), "{what}: what is to go");
    let next = due.iter().filter_map(|seq| model.records[*seq as usize - 1].2).min();
    assert_eq!(session.next_expiry(), next, "{what}: when the next one is to go");
}

/// A retry of any number gets its first answer, or is told that its message is trimmed.
fn retried(session: &mut Session, disk: &Disk, model: &Model, index: u64, at_random: usize) {
    let number = at_random as u64 + 2;
    let again = apply(session, disk, &at(index), &actor("ann"), number, &model.acts[at_random]);
    match (&model.answers[at_random], &again.answer) {
        (Ok(seq), Some(Answer::Refused(error))) if *seq < model.first => {
            assert_eq!(error.code, ErrorCode::AlreadyTrimmed);
        }
        (Ok(seq), Some(Answer::Ack(ack))) if *seq >= model.first => assert_eq!(ack.seq, *seq),
        (Err(code), Some(Answer::Refused(error))) => assert_eq!(error.code, *code),
        (first, now) => panic!("number {number}: first {first:?}, now {now:?}"),
    }
}

#[test]
fn no_more_may_wait_to_go_than_is_allowed_and_what_stays_is_not_concerned() {
    let disk = Disk::default();
    let mut session = new_group(&disk);
    let forever = |seq: u64| (seq, Expiry::at(u64::MAX - 1));
    session.expiries = Expiries::loaded((10..10 + MAX_EXPIRING as u64).map(forever).collect());
    let full = apply(&mut session, &disk, &at(50), &actor("ann"), 2, &lasting("a moment", 5));
    assert_eq!(code_of(&full), ErrorCode::TooManyExpiring);
    let again = apply(&mut session, &disk, &at(51), &actor("ann"), 2, &lasting("a moment", 5));
    assert_eq!(code_of(&again), ErrorCode::TooManyExpiring, "the refusal took the number");
    seq_of(&apply(&mut session, &disk, &at(52), &actor("ann"), 3, &text("it stays")));
    session.expiries.remove(10);
    seq_of(&apply(&mut session, &disk, &at(53), &actor("ann"), 4, &lasting("a moment", 5)));
}

#[test]
fn random_trims_and_expiries_with_checkpoints_crashes_and_snapshots_go_as_the_model_says() {
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut disk = Disk::default();
        let mut session = new_group(&disk);
        let records = vec![(Said::Signal, 0, None)];
        let mut model = Model { records, first: 1, retention: NONE, answers: Vec::new(), acts: Vec::new() };
        let mut log: Vec<Op> = Vec::new();
        checkpoint(&mut session, &mut disk, true);
        // Small rows of an earlier moment, with which a snapshot may have begun: from then on nothing is freed.
        let mut begun: Option<Disk> = None;
        let mut deferred = false;
        for step in 0..rng.random_range(50..250u64) {
            let index = log.len() as u64 + 2;
            let op = random_op(&mut rng, &model, 1000 + index);
            match &op {
                Op::Act(_, act) => model.act(1000 + index, act),
                Op::Trim(upto, _, by) if *by == model.retention => {
                    model.first = model.first.max(upto.min(&(model.records.len() as u64)) + 1);
                }
                Op::Trim(..) => {}
                Op::Expire(seqs) => {
                    for seq in seqs {
                        model.records[*seq as usize - 1].0 = Said::Gone(RecordKind::EXPIRED);
                    }
                }
            }
            log.push(op);
            play(&mut session, &disk, &log);
            let what = format!("seed {seed}, step {step}");
            agree(&session, &disk, &model, &what);
            match rng.random_range(0..12) {
                0..3 => checkpoint(&mut session, &mut disk, begun.is_none()),
                3 => {
                    // A crash: what is not in rows is played again.
                    session = Session::load(&disk, &group()).expect("rows");
                    play(&mut session, &disk, &log);
                    agree(&session, &disk, &model, &format!("{what}, after a crash"));
                }
                4 if begun.is_none() => {
                    checkpoint(&mut session, &mut disk, true);
                    begun = Some(disk.clone());
                    // What is trimmed from here on may be left to the next trim after it.
                    deferred = true;
                }
                5 => {
                    if let Some(mut mixed) = begun.take() {
                        checkpoint(&mut session, &mut disk, false);
                        mixed.take_newer(&disk, letter::RECORD);
                        let mut installed = Session::load(&mixed, &group()).expect("rows");
                        play(&mut installed, &mixed, &log);
                        agree(&installed, &mixed, &model, &format!("{what}, from a snapshot"));
                        checkpoint(&mut installed, &mut mixed, true);
                        agree(&installed, &mixed, &model, &format!("{what}, from a snapshot, written"));
                    }
                }
                6 if !model.acts.is_empty() => {
                    let which = rng.random_range(0..model.acts.len());
                    retried(&mut session, &disk, &model, 1_000_000, which);
                    // A retry stores nothing; the index it was given is not the log's.
                    session = Session::load(&disk, &group()).expect("rows");
                    play(&mut session, &disk, &log);
                    agree(&session, &disk, &model, &format!("{what}, after a retry"));
                }
                _ => {}
            }
        }
        checkpoint(&mut session, &mut disk, true);
        let keys = records::before(&disk, &group(), model.first, 10).expect("rows");
        assert!(keys.is_empty() || deferred, "seed {seed}: rows of what is trimmed are left");
        let _: Bytes = disk.get(&super::key::session(letter::HEAD, &group())).expect("rows").expect("a head");
    }
}

//! One planted fault for each rule of digests, of what lasts for a time only, of retention and of request keys.

use rookery_wire::{Digest, ErrorCode, RecordKind};

use super::play::{ANN1, BOB, GROUP, PAIR, good, print_of};
use super::tests::{dumps, expect};
use super::{GONE_WITHIN, Harm, Rule, Standing, judge};
use crate::check::history::{
    Act, Entry, Fresh, History, Line, Micros, Outcome, Page, Parts, Print, Retry, Seal, Sync, UserIx, Witness,
};
use crate::check::print::{Parts as Print4, content_hash};

fn seal(witness: Witness, seq: u64, byte: u8) -> Seal {
    Seal { witness, session: GROUP, seq, digest: Digest([byte; 32]), at: 0 }
}

#[test]
fn a_copy_or_a_replica_that_proves_to_be_another() {
    let mut history = good();
    history.setup.parts = Parts { digests: true, ..Parts::default() };
    assert_eq!(judge(&history).standing(), Standing::Inconclusive, "nothing was proved");
    history.seals = vec![
        seal(Witness::Told(BOB), 40, 1),
        seal(Witness::Replica(1), 40, 1),
        seal(Witness::Copy(ANN1), 40, 1),
    ];
    let verdict = judge(&history);
    assert_eq!((verdict.standing(), verdict.totals.proved), (Standing::Good, 1));
    for (witness, word) in [
        (Witness::Copy(ANN1), "copy of ann/phone"),
        (Witness::Replica(3), "replica of node 3"),
        (Witness::Records(2), "records of node 2"),
    ] {
        let mut history = history.clone();
        history.seals.push(seal(witness, 41, 2));
        assert_eq!(judge(&history).violations, vec![], "elsewhere it is another");
        history.seals.push(seal(witness, 40, 2));
        expect(&history, Rule::Digest, Harm::Wrong, &["group:rooks", "digest at seq 40", word]);
    }
}

const LASTS_MS: u64 = 100;

/// Ann's message of the group in the middle lasts for a tenth of a second: its seq and its hash when it has gone, and when it
/// was sent.
fn lasting(history: &mut History) -> (u64, Print, Micros) {
    let is = |entry: &&Entry| entry.seq > 300 && entry.device == Some(ANN1) && entry.kind == 0;
    let entry = dumps(history, GROUP).next().unwrap().entries.iter().find(is).unwrap().clone();
    let (seq, hash) = (entry.seq, content_hash(b"", b"", &[]));
    let kind = RecordKind::EXPIRED.0;
    let gone = Print4 { stem: entry.stem, kind, hash, mark: 0 }.print();
    for dump in history.dumps.iter_mut().filter(|dump| dump.session == GROUP) {
        let entry = &mut dump.entries[seq as usize - 1];
        (entry.kind, entry.hash, entry.lasts_ms, entry.print) = (kind, hash, LASTS_MS, gone);
        dump.at = 100_000_000;
    }
    let send = history.sends.iter_mut().find(|send| {
        send.session == GROUP && matches!(send.outcome, Outcome::Acked { seq: at, .. } if at == seq)
    });
    let send = send.unwrap();
    send.lasts_ms = LASTS_MS;
    (seq, gone, send.invoke)
}

fn page(seq: u64, print: Print, invoke: Micros) -> Page {
    Page {
        device: BOB,
        session: GROUP,
        from: seq,
        backward: false,
        max: 1,
        fresh: Fresh::AtLeast(seq),
        invoke,
        done: invoke + 10,
        first_seq: 1,
        last_seq: seq,
        records: vec![(seq, print)],
    }
}

#[test]
fn content_that_has_gone_is_gone_and_was_there_before() {
    let mut history = good();
    history.setup.parts = Parts { lasting: true, ..Parts::default() };
    assert_eq!(judge(&history).standing(), Standing::Inconclusive, "nothing has gone");
    let (seq, gone, sent) = lasting(&mut history);
    let (early, late) = (sent + LASTS_MS * 1000, sent + LASTS_MS * 1000 + GONE_WITHIN + 600);
    let there = print_of(GROUP, seq);
    history.pages.extend([
        page(seq, there, early - 20),
        page(seq, gone, early),
        page(seq, there, late - 10_000),
    ]);
    let verdict = judge(&history);
    assert_eq!((verdict.violations, verdict.totals.expired), (vec![], 1));

    let mut soon = history.clone();
    soon.pages.push(page(seq, gone, early - 20));
    expect(&soon, Rule::Expiry, Harm::Wrong, &[&format!("seq {seq} gone"), "before its time"]);
    let mut long = history.clone();
    // A fault held things up until then.
    (long.rounds[0].fault_at, long.rounds[0].healed) = (early, early + 1_000_000);
    long.pages.push(page(seq, there, late + 900_000));
    assert_eq!(judge(&long).violations, vec![]);
    long.pages.push(page(seq, there, late + 1_100_000));
    expect(
        &long,
        Rule::Expiry,
        Harm::Wrong,
        &["a page pulled by bob/phone", "with its content", "after its time"],
    );
    let mut kept = history.clone();
    let entry = &mut dumps(&mut kept, GROUP).nth(1).unwrap().entries[seq as usize - 1];
    (entry.kind, entry.print) = (0, there);
    expect(&kept, Rule::Expiry, Harm::Wrong, &["the replica of node 2", "with its content"]);
    // What was to stay has gone, on all of them.
    dumps(&mut history, PAIR).for_each(|dump| dump.entries[9].kind = RecordKind::EXPIRED.0);
    expect(&history, Rule::Expiry, Harm::Wrong, &["seq 10 has gone by itself, and was to stay"]);
}

#[test]
fn what_has_gone_is_not_unread_and_what_may_have_is_either() {
    let mut history = good();
    let (seq, _, sent) = lasting(&mut history);
    let (early, late) = (sent + LASTS_MS * 1000, sent + LASTS_MS * 1000 + GONE_WITHIN + 200_000);
    // The last list of ann's, as if she had read up to just before it, and sent nothing since.
    let log = history.dumps.iter().find(|dump| dump.session == GROUP).unwrap().entries.clone();
    let mut line =
        history.syncs.last().unwrap().lines.iter().find(|line| line.session == GROUP).unwrap().clone();
    let upto = &log[seq as usize - 1];
    (line.last_seq, line.count, line.last) = (seq, upto.count, Some((seq, 0)));
    let sync = history.syncs.last().unwrap().clone();
    // Bob's: his own last message is before it.
    let own = log[..seq as usize]
        .iter()
        .rev()
        .find(|entry| entry.sender == Some(UserIx(1)) && entry.kind == 0)
        .unwrap();
    let after = upto.count - own.count;
    (line.read_seq, line.joined_seq, line.last_client_seq, line.carried) = (0, 1, 0, true);
    let list = |unread: u64, at: Micros| {
        let mut history = history.clone();
        let line = Line { unread, invoke: at, done: at + 10, ..line.clone() };
        history.syncs.push(Sync {
            device: BOB,
            invoke: at,
            done: at + 10,
            lines: vec![line],
            ..sync.clone()
        });
        let unread = judge(&history).violations.into_iter().filter(|found| found.rule == Rule::Unread);
        unread.map(|found| found.text).collect::<Vec<_>>()
    };
    assert_eq!(list(after, early - 20), Vec::<String>::new());
    assert_eq!(list(after - 1, early - 20).len(), 1, "it is there");
    assert_eq!([list(after, early).len(), list(after - 1, early).len()], [0, 0], "nobody knows");
    assert_eq!(list(after - 1, late), Vec::<String>::new());
    assert!(list(after, late)[0].contains("bob: unread"), "it has gone");
}

/// The group keeps its last 300 records: what is before them was read before it was trimmed.
fn trimmed(history: &mut History) -> (u64, u64) {
    let last = dumps(history, GROUP).next().unwrap().entries.len() as u64;
    let first = last - 299;
    let before = dumps(history, GROUP).next().unwrap().entries[..first as usize - 1].to_vec();
    history.trimmed.push((GROUP, before));
    dumps(history, GROUP).for_each(|dump| drop(dump.entries.drain(..first as usize - 1)));
    let keep = history.sends.iter_mut().find(|send| matches!(send.act, Act::Keep(_))).unwrap();
    keep.act = Act::Keep(300);
    (first, last)
}

#[test]
fn what_is_kept_is_kept_and_what_is_trimmed_is_told() {
    let mut history = good();
    history.setup.parts = Parts { keep: 300, ..Parts::default() };
    assert_eq!(judge(&history).standing(), Standing::Inconclusive, "nothing was trimmed");
    let (first, last) = trimmed(&mut history);
    let verdict = judge(&history);
    assert_eq!((verdict.violations, verdict.totals.trimmed), (vec![], first - 1));
    assert_eq!(verdict.inconclusive, Vec::<String>::new());

    let end = history.rounds[0].ended;
    let of = |first_seq: u64, last_seq: u64, seq: u64| {
        let print = history.dumps.iter().find(|dump| dump.session == GROUP).unwrap().entries
            [(seq - first) as usize]
            .print;
        Page { first_seq, last_seq, fresh: Fresh::Linear, ..page(seq, print, end) }
    };
    let mut more = history.clone();
    more.pages.push(Page { from: 1, ..of(first + 1, last, first + 1) });
    let words = [&format!("begins at seq {} of {last}", first + 1), "though 300 are kept"];
    expect(&more, Rule::Trimmed, Harm::Lost, &words);
    let mut back = history.clone();
    back.pages.push(Page { from: 1, ..of(first, last, first) });
    assert_eq!(judge(&back).violations, vec![]);
    back.pages.push(Page { invoke: end + 100, done: end + 200, from: first, ..of(first - 1, last, first) });
    expect(&back, Rule::Trimmed, Harm::Wrong, &[&format!("told that it begins at seq {first}")]);
    let mut untold = history.clone();
    untold.pages.push(Page { from: 1, ..of(1, last, first) });
    expect(&untold, Rule::Pages, Harm::Lost, &[&format!("begins at seq {first}, not 1")]);
    let mut more_kept = history.clone();
    let keep = more_kept.sends.iter_mut().find(|send| matches!(send.act, Act::Keep(_))).unwrap();
    keep.act = Act::Keep(299);
    expect(&more_kept, Rule::Trimmed, Harm::Wrong, &["still has 300 records, 299 are to be kept"]);
    // A send that is kept is said to be trimmed.
    let mut answers = history.clone();
    let kept = |send: &&crate::check::history::Send| send.session == PAIR;
    let send = answers.sends.iter().find(kept).unwrap();
    let (device, client_seq, epoch) = (send.device, send.client_seq, send.epoch);
    let outcome = Outcome::Refused(ErrorCode::AlreadyTrimmed.number());
    answers.retries.push(Retry { device, epoch, session: PAIR, client_seq, node: 2, at: end, outcome });
    expect(&answers, Rule::Trimmed, Harm::Wrong, &["is said to be trimmed; it is at seq"]);
    // A hole in what was read: nothing can be said.
    history.trimmed[0].1.remove(40);
    let verdict = judge(&history);
    assert_eq!((verdict.standing(), verdict.violations), (Standing::Inconclusive, vec![]));
    assert!(verdict.inconclusive[0].contains("group:rooks was trimmed before it was read"));
}

#[test]
fn a_line_that_is_carried_on_is_held_against_the_log() {
    let mut history = good();
    history.setup.parts = Parts { since: true, ..Parts::default() };
    assert_eq!(judge(&history).standing(), Standing::Inconclusive, "no list was put together");
    // Ann's last list once more, a moment later: nothing has happened since.
    let mut again = history.syncs.last().unwrap().clone();
    (again.invoke, again.done, again.since) = (again.done + 10, again.done + 20, true);
    for line in &mut again.lines {
        (line.carried, line.invoke, line.done) = (true, again.invoke, again.done);
        line.last_client_seq = 0; // a device knows its own numbers from itself
    }
    history.syncs.push(again);
    let verdict = judge(&history);
    assert_eq!((verdict.standing(), verdict.violations, verdict.totals.carried), (Standing::Good, vec![], 2));
    // A list of long ago stands for now.
    let early = history.syncs[1].clone();
    let late = history.syncs.last_mut().unwrap();
    for line in &mut late.lines {
        let old = early.lines.iter().find(|old| old.session == line.session).unwrap();
        let (invoke, done) = (line.invoke, line.done);
        *line = Line { carried: true, invoke, done, ..old.clone() };
    }
    expect(&history, Rule::Linear, Harm::Wrong, &["a session list that saw last seq"]);
}

#[test]
fn a_key_has_one_effect_one_answer_and_one_line() {
    let mut history = good();
    history.setup.parts = Parts { keys: true, ..Parts::default() };
    let verdict = judge(&history);
    assert_eq!((verdict.violations, verdict.totals.keyed), (vec![], 1));
    let other =
        |history: &mut History, change: fn(&mut Outcome)| change(&mut history.keyed[0].asked[1].outcome);

    let mut answers = history.clone();
    other(&mut answers, |outcome| {
        if let Outcome::Acked { seq, .. } = outcome {
            *seq += 1;
        }
    });
    expect(&answers, Rule::Keys, Harm::Doubled, &["key 0 was answered with seq", "at node 2"]);
    let mut refused = history.clone();
    other(&mut refused, |outcome| *outcome = Outcome::Refused(ErrorCode::NoSuchSession.number()));
    expect(&refused, Rule::Keys, Harm::Wrong, &["key 0", "and refused with", "at node 2"]);
    let mut lines = history.clone();
    lines.audit.push((9, 0));
    expect(&lines, Rule::Keys, Harm::Doubled, &["two lines in the audit, 7 and 9"]);
    lines.audit.clear();
    expect(&lines, Rule::Keys, Harm::Lost, &["has no line in the audit"]);
    lines.audit.push((8, 0));
    expect(&lines, Rule::Keys, Harm::Wrong, &["has line 8 in the audit, and was told 7"]);
    let mut name = history.clone();
    name.keyed[0].name = Some(UserIx(2));
    expect(&name, Rule::Keys, Harm::Wrong, &["in another name"]);
    let mut lost = history.clone();
    lost.keyed[0].hash ^= 1;
    expect(&lost, Rule::Keys, Harm::Lost, &["is in no log"]);
    // The same once more, at the end of the log.
    dumps(&mut history, GROUP).for_each(|dump| {
        let of_key = dump.entries.iter().find(|entry| entry.client_seq == 0).unwrap().clone();
        let last = dump.entries.last().unwrap();
        let (seq, count, time_ms) = (last.seq + 1, last.count + 1, last.time_ms);
        dump.entries.push(Entry { seq, count, time_ms, message_id: 5, print: 9, ..of_key });
    });
    expect(&history, Rule::Keys, Harm::Doubled, &["is stored at seq", "and again at seq"]);
}

//! Read cursors as max-registers (rule 6, G6) and unread counts recounted from the log.

use std::collections::BTreeMap;

use super::book::{Book, Log};
use super::linear::{Placed, sweep};
use super::lists;
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{DeviceIx, Line, Micros, Seen, SessionIx, UserIx};

type Register = (UserIx, SessionIx);

/// What touched a cursor, for messages.
#[derive(Clone, Copy)]
enum What {
    Write(DeviceIx, u64),
    Answer(DeviceIx, u64),
    List(DeviceIx, u64),
    Push(DeviceIx, u64),
}

pub(super) fn judge(book: &Book<'_>, verdict: &mut Verdict) {
    let mut registers: BTreeMap<Register, Vec<Placed<What>>> = BTreeMap::new();
    // Begin and value of every READ: what a cursor may stand at.
    let mut written: BTreeMap<Register, Vec<(Micros, u64)>> = BTreeMap::new();
    for mark in book.history.marks.iter().filter(|mark| !mark.refused) {
        let Some(user) = book.history.user_of(mark.device) else { continue };
        let register = (user, mark.session);
        written.entry(register).or_default().push((mark.invoke, mark.seq));
        let ops = registers.entry(register).or_default();
        let op = |place, judged, what| Placed { place, invoke: mark.invoke, done: mark.done, judged, what };
        ops.push(op(2 * mark.seq, false, What::Write(mark.device, mark.seq)));
        let Some((seq, count)) = mark.answer else { continue };
        ops.push(op(2 * seq + 1, true, What::Answer(mark.device, seq)));
        if seq < mark.seq {
            verdict.add(Rule::Cursors, Harm::Wrong, || {
                let place = place(book, register);
                format!("{place}: READ {} was answered with the lesser seq {seq}", mark.seq)
            });
        }
        let log = book.log(mark.session);
        let real = log.map_or(0, |log| log.count(seq));
        // Of what is gone it counts all as read.
        let most = log.filter(|log| seq < log.first).map_or(real, |log| log.count(log.first - 1));
        if !(real..=most).contains(&count) {
            verdict.add(Rule::Unread, Harm::Wrong, || {
                format!("{}: READ_MARK at seq {seq} counts {count}, the log {real}", place(book, register))
            });
        }
    }
    for sync in &book.history.syncs {
        let Some(user) = book.history.user_of(sync.device) else { continue };
        for line in sync.lines.iter().filter(|line| lists::holds(book, sync, line)) {
            let what = What::List(sync.device, line.read_seq);
            registers.entry((user, line.session)).or_default().push(Placed {
                place: 2 * line.read_seq + 1,
                invoke: line.invoke,
                done: line.done,
                judged: true,
                what,
            });
            unread(book, user, line, verdict);
        }
    }
    for stream in &book.history.streams {
        let Some(user) = book.history.user_of(stream.device) else { continue };
        for (at, session, seen) in &stream.events {
            // A push may be late, but what it says has come to be: nobody may be told less who asks after it.
            let Seen::Mark(seq) = seen else { continue };
            let (invoke, done, what) = (stream.opened, *at, What::Push(stream.device, *seq));
            let place = 2 * seq + 1;
            let ops = registers.entry((user, *session)).or_default();
            ops.push(Placed { place, invoke, done, judged: false, what });
        }
    }
    for (register, ops) in registers {
        let values = written.get(&register).map_or(&[][..], Vec::as_slice);
        from_nowhere(book, register, &ops, values, verdict);
        for (late, early) in sweep(ops) {
            verdict.add(Rule::Cursors, Harm::Wrong, || {
                let (late, early) = (text(book, late.what), text(book, early));
                format!("{}: the cursor went back: {late}, after {early}", place(book, register))
            });
        }
    }
}

fn place(book: &Book<'_>, (user, session): Register) -> String {
    format!("{}: {}", book.history.session_text(session), book.history.user_text(user))
}

fn text(book: &Book<'_>, what: What) -> String {
    match what {
        What::Write(device, seq) => format!("READ {seq} by {}", book.history.device_text(device)),
        What::Answer(device, seq) => {
            format!("READ of {} answered with {seq}", book.history.device_text(device))
        }
        What::Push(device, seq) => {
            format!("READ_MARK {seq} pushed to {}", book.history.device_text(device))
        }
        What::List(device, seq) => format!("SYNC of {} showed {seq}", book.history.device_text(device)),
    }
}

/// A cursor at a value that nobody had asked for by then.
fn from_nowhere(
    book: &Book<'_>,
    register: Register,
    ops: &[Placed<What>],
    values: &[(Micros, u64)],
    verdict: &mut Verdict,
) {
    let told = |op: &&Placed<What>| !matches!(op.what, What::Write(..));
    for op in ops.iter().filter(told) {
        let seq = op.place / 2;
        let known = seq == 0 || values.iter().any(|(invoke, value)| *value == seq && *invoke <= op.done);
        if !known {
            verdict.add(Rule::Cursors, Harm::Wrong, || {
                format!("{}: {}, which nobody had read to", place(book, register), text(book, op.what))
            });
        }
    }
}

fn unread(book: &Book<'_>, user: UserIx, line: &Line, verdict: &mut Verdict) {
    let Some(log) = book.log(line.session) else { return };
    if line.last_seq > log.last() {
        return; // judged as a lost record by the session list's rules
    }
    let (least, most) = recount(log, user, line);
    if !(least..=most).contains(&line.unread) {
        verdict.add(Rule::Unread, Harm::Wrong, || {
            let place = place(book, (user, line.session));
            let (read, last) = (line.read_seq, line.last_seq);
            let real = if least == most { most.to_string() } else { format!("{least} to {most}") };
            format!("{place}: unread {} at last seq {last} and read {read}, the log says {real}", line.unread)
        });
    }
}

/// Countable messages after max(read, own last sent, joined − 1) that are kept, less those that were recalled by then, and
/// those that went by themselves: of some nobody can say whether they just had.
fn recount(log: &Log<'_>, user: UserIx, line: &Line) -> (u64, u64) {
    let own = log.own_last(user, line.last_seq);
    let floor =
        line.read_seq.max(own).max(line.joined_seq.saturating_sub(1)).max(line.first_seq.saturating_sub(1));
    let recalled = log.recalled(floor, line.last_seq);
    let all = log.count(line.last_seq).saturating_sub(log.count(floor) + recalled);
    let (surely, maybe) = log.expired((floor, line.last_seq), (line.invoke, line.done));
    (all.saturating_sub(maybe), all.saturating_sub(surely))
}

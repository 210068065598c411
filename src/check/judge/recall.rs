//! Recall and edit (G7): each signal was one its sender might give, every replica made of the message what the signals
//! say, in their order, and who reads after a signal is not shown what was before it.

use std::collections::BTreeMap;

use rookery_wire::{ErrorCode, RecordKind};

use super::book::{Book, Log, born_as, told};
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{
    Act, Entry, Fresh, Micros, Outcome, Page, Seen, Send, SessionIx, Stream, UserIx,
};

pub(super) fn judge(book: &Book<'_>, verdict: &mut Verdict) {
    for (at, log) in book.logs.iter().enumerate() {
        let session = SessionIx(at as u32);
        for signal in log.entries.iter().filter(|entry| entry.target.is_some()) {
            if let Some(fault) = signal_fault(log, signal) {
                verdict.add(Rule::Recall, Harm::Wrong, || {
                    format!("{} seq {}: {fault}", book.history.session_text(session), signal.seq)
                });
            }
        }
    }
    replicas(book, verdict);
    for send in &book.history.sends {
        if let Some(fault) = refusal_fault(book, send) {
            let key = (send.session, send.device, send.epoch, send.client_seq);
            verdict.add(Rule::Recall, Harm::Wrong, || format!("{} {fault}", told(book.history, key)));
        }
    }
    for page in &book.history.pages {
        shown(book, page, verdict);
    }
    pushes(book, verdict);
}

/// Why a signal should not be there.
fn signal_fault(log: &Log<'_>, signal: &Entry) -> Option<String> {
    let target = signal.target?;
    let recall = signal.kind == RecordKind::RECALL.0;
    let Some(of) = log.at(target).filter(|of| of.seq < signal.seq && born_as(of.kind).is_countable()) else {
        return Some(format!("it names seq {target}, which is no message before it"));
    };
    if let Some(first) = log.recalls.get(&target).filter(|first| **first < signal.seq) {
        return Some(format!("it names seq {target}, which was recalled at seq {first}"));
    }
    let may = of.sender == signal.sender || (recall && is_owner(log, signal.sender, signal.seq));
    (!may).then(|| format!("it names seq {target}, which is another's"))
}

/// Whether a user owns the group at a seq: whoever made it does, as long as he is in it.
fn is_owner(log: &Log<'_>, user: Option<UserIx>, seq: u64) -> bool {
    let Some(first) = log.at(1).filter(|first| first.kind == RecordKind::CREATED.0) else { return false };
    let founder = first.sender.filter(|founder| Some(*founder) == user);
    founder.and_then(|founder| log.span_at(founder, seq)).is_some_and(|(from, _)| from == 1)
}

/// Every replica holds of each message the last version.
fn replicas(book: &Book<'_>, verdict: &mut Verdict) {
    for dump in &book.history.dumps {
        let Some(log) = book.log(dump.session) else { continue };
        for entry in &dump.entries {
            let changed = born_as(entry.kind).0 != entry.kind || entry.mark != 0;
            let last = log.versions(entry.seq).last();
            let fault = match last {
                // That is judged with what lasts for a time only.
                _ if entry.kind == RecordKind::EXPIRED.0 => continue,
                Some(last) if last.print == entry.print => continue,
                Some(last) if last.kind == RecordKind::RECALLED && entry.kind == RecordKind::CONTENT.0 => {
                    format!("was recalled at seq {}, and its content is kept", last.from)
                }
                Some(last) => format!("is not what the signal at seq {} made of it", last.from),
                None if changed => "was changed, and no signal says so".to_owned(),
                None => continue,
            };
            verdict.add(Rule::Recall, Harm::Wrong, || {
                let name = book.history.session_text(dump.session);
                format!("{name} seq {} on node {} {fault}", entry.seq, dump.node)
            });
        }
    }
}

/// Why a recall or an edit should not have been refused as it was.
fn refusal_fault(book: &Book<'_>, send: &Send) -> Option<String> {
    let (target, recall) = match send.act {
        Act::Recall(target) => (target, true),
        Act::Edit(target) => (target, false),
        _ => return None,
    };
    let Outcome::Refused(code) = send.outcome else { return None };
    let log = book.log(send.session)?;
    let of = log.at(target).filter(|of| born_as(of.kind).is_countable());
    let code = ErrorCode::from_number(code);
    let gone =
        target < log.first || log.lasting.get(&target).is_some_and(|lasting| lasting.early <= send.done);
    if code == ErrorCode::NoSuchMessage && gone {
        return None;
    }
    if code == ErrorCode::NoSuchMessage && of.is_some() {
        return Some(format!("is refused, for there is no message {target}; there is one"));
    }
    if code == ErrorCode::Recalled {
        let signal = log.recalls.get(&target).and_then(|signal| log.at(*signal));
        let begun = signal.and_then(|signal| book.window(send.session, signal)).map(|(invoke, _)| invoke);
        let so = begun.is_some_and(|invoke| invoke <= send.done);
        return (!so).then(|| format!("is refused, for {target} was recalled; nobody had by then"));
    }
    let user = book.history.user_of(send.device);
    // Owners stay: who owned the group in the beginning does in the end.
    let may = of.is_some_and(|of| of.sender == user) || (recall && is_owner(log, user, log.last()));
    let wrong = code == ErrorCode::NotAllowed && may;
    wrong.then(|| format!("is refused, for {target} is another's; it is not"))
}

/// A page shows no version that a signal had ended which its reader knew or must have known of, and none from later.
fn shown(book: &Book<'_>, page: &Page, verdict: &mut Verdict) {
    let Some(log) = book.log(page.session) else { return };
    let moment = |seq: u64| log.at(seq).and_then(|entry| book.window(page.session, entry));
    for (seq, print) in &page.records {
        if log.versions(*seq).is_empty() {
            continue;
        }
        let Some((from, until)) = log.version(*seq, *print) else { continue };
        let acked = moment(until).is_some_and(|(_, done)| done < page.invoke);
        let early = from > *seq && moment(from).is_some_and(|(invoke, _)| invoke > page.done);
        let fault = if until <= page.last_seq {
            format!("as it was before seq {until}, though it knows the log up to {}", page.last_seq)
        } else if page.fresh == Fresh::Linear && acked {
            format!("as it was before seq {until}, which was acknowledged before the page was asked for")
        } else if early {
            format!("as it is since seq {from}, which nobody had asked for")
        } else {
            continue;
        };
        verdict.add(Rule::Recall, Harm::Wrong, || {
            let (name, who) =
                (book.history.session_text(page.session), book.history.device_text(page.device));
            format!("{name}: a page pulled by {who} at {} µs shows seq {seq} {fault}", page.invoke)
        });
    }
}

/// When each signal was first pushed by a node, by session: the node had applied it by then.
type Applied = BTreeMap<(u16, SessionIx, u64), Vec<Micros>>;

/// A push shows no version that a signal had ended which the node had applied before it answered something on the same
/// connection, earlier than the push: what is written after that answer was written after the signal.
fn pushes(book: &Book<'_>, verdict: &mut Verdict) {
    let mut applied = Applied::new();
    for stream in &book.history.streams {
        for (at, session, seen) in &stream.events {
            let Seen::Push(seq, _) = seen else { continue };
            let signal = book.log(*session).and_then(|log| log.at(*seq)).is_some_and(|e| e.target.is_some());
            if signal {
                applied.entry((stream.node, *session, *seq)).or_default().push(*at);
            }
        }
    }
    for stream in &book.history.streams {
        late_pushes(book, stream, &applied, verdict);
    }
}

fn late_pushes(book: &Book<'_>, stream: &Stream, applied: &Applied, verdict: &mut Verdict) {
    let mut answered = 0;
    for (_, session, seen) in &stream.events {
        let (seq, print) = match seen {
            Seen::Answered(asked) => {
                answered = (*asked).max(answered);
                continue;
            }
            Seen::Push(seq, print) => (*seq, *print),
            Seen::Live(_) | Seen::Joined(_) | Seen::Lagged(_) => continue,
            Seen::Mark(_) | Seen::Left | Seen::Unlisted | Seen::Behind => continue,
        };
        let Some(log) = book.log(*session).filter(|log| !log.versions(seq).is_empty()) else { continue };
        let Some((_, until)) = log.version(seq, print) else { continue };
        // Of the life of the process that this connection belongs to.
        let times = applied.get(&(stream.node, *session, until)).map_or(&[][..], Vec::as_slice);
        if times.iter().any(|at| stream.opened < *at && *at < answered) {
            verdict.add(Rule::Recall, Harm::Wrong, || {
                let (name, who) = (book.history.session_text(*session), book.history.device_text(stream.device));
                format!("{name}: {who} was pushed seq {seq} as it was before seq {until}, which its node {} had applied", stream.node)
            });
        }
    }
}

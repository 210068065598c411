//! Session lists (G5): every session the user is in is named, none he is not in, and every line was true at some
//! instant within its request.

use std::collections::BTreeSet;

use super::book::{Book, Log, Span, born_as};
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{Line, Micros, NEVER, Outcome, SessionIx, Sync, UserIx};

pub(super) fn judge(book: &Book<'_>, verdict: &mut Verdict) {
    for sync in &book.history.syncs {
        let Some(user) = book.history.user_of(sync.device) else { continue };
        let unresolved = sync.unresolved.iter().map(|(session, _)| *session);
        let listed = sync.lines.iter().map(|line| line.session);
        let mut named = BTreeSet::new();
        for session in listed.chain(unresolved) {
            if !named.insert(session) {
                say(book, sync, session, Harm::Doubled, "is named twice", verdict);
            }
        }
        let (mut least, mut most) = (0, 0);
        for at in 0..book.logs.len() as u32 {
            let session = SessionIx(at);
            let owed = owed(book, user, session, sync);
            least += u32::from(matches!(owed, Owed::Must));
            most += u32::from(!matches!(owed, Owed::MustNot));
            match (owed, named.contains(&session)) {
                (Owed::Must, false) => say(book, sync, session, Harm::Lost, "is missing", verdict),
                (Owed::MustNot, true) => {
                    say(book, sync, session, Harm::Wrong, "is named though not the user's", verdict);
                }
                _ => {}
            }
        }
        if sync.total < least || sync.total > most {
            verdict.add(Rule::Lists, Harm::Wrong, || {
                let (who, total) = (book.history.device_text(sync.device), sync.total);
                format!("SYNC of {who} says {total} sessions in all, between {least} and {most} is true")
            });
        }
        for line in sync.lines.iter().filter(|line| holds(book, sync, line)) {
            if let Some((harm, fault)) = line_fault(book, user, sync, line) {
                say(book, sync, line.session, harm, &fault, verdict);
            }
        }
    }
}

/// Whether a line stands for what it says. One that is known from an earlier list does not when the user's membership may
/// have ended by then: the session has let the user go, and the list, which says so, is about to.
pub(super) fn holds(book: &Book<'_>, sync: &Sync, line: &Line) -> bool {
    if !line.carried {
        return true;
    }
    let Some(user) = book.history.user_of(sync.device) else { return true };
    matches!(owed(book, user, line.session, sync), Owed::Must)
}

fn say(book: &Book<'_>, sync: &Sync, session: SessionIx, harm: Harm, what: &str, verdict: &mut Verdict) {
    verdict.add(Rule::Lists, harm, || {
        let (name, who) = (book.history.session_text(session), book.history.device_text(sync.device));
        format!("{name} {what} in the SYNC of {who} from {} to {} µs", sync.invoke, sync.done)
    });
}

enum Owed {
    Must,
    MayBe,
    MustNot,
}

/// Whether the list must name the session: by the stretches of membership and when their requests began and ended.
fn owed(book: &Book<'_>, user: UserIx, session: SessionIx, sync: &Sync) -> Owed {
    let Some(log) = book.log(session) else { return Owed::MayBe };
    let spans = log.spans.get(&user).map_or(&[][..], Vec::as_slice);
    if log.last() == 0 {
        return Owed::MayBe;
    }
    let mut owed = Owed::MustNot;
    for span in spans {
        let ((join_invoke, join_done), left) = moments(book, session, *span);
        let lasts = left.is_none_or(|(invoke, _)| invoke > sync.done);
        let over = left.is_some_and(|(_, done)| done < sync.invoke);
        if join_done < sync.invoke && lasts {
            return Owed::Must;
        }
        if join_invoke <= sync.done && !over {
            owed = Owed::MayBe;
        }
    }
    owed
}

type Moment = (Micros, Micros);

/// When a stretch of membership may have begun and ended. A session stands in the lists of its founders before its first
/// record is stored, and the request that opened it need not be the one whose record came first.
fn moments(book: &Book<'_>, session: SessionIx, (from, to): Span) -> (Moment, Option<Moment>) {
    let window = |seq| {
        let entry = book.log(session).and_then(|log| log.at(seq));
        entry.and_then(|entry| book.window(session, entry)).unwrap_or((0, NEVER))
    };
    let mut joined = window(from);
    if from == 1 {
        joined.0 = book.first_asked.get(&session).map_or(joined.0, |first| joined.0.min(*first));
    }
    (joined, (to != u64::MAX).then(|| window(to)))
}

fn line_fault(book: &Book<'_>, user: UserIx, sync: &Sync, line: &Line) -> Option<(Harm, String)> {
    let log = book.log(line.session)?;
    if line.last_seq > log.last() {
        let (said, is) = (line.last_seq, log.last());
        return Some((Harm::Lost, format!("(last seq {said}, the log ends at {is})")));
    }
    let count = log.count(line.last_seq);
    if count != line.count {
        let fault = format!("(count {} at seq {}, the log has {count})", line.count, line.last_seq);
        return Some((Harm::Wrong, fault));
    }
    let members = log.members_at(line.last_seq);
    // Before its first record a session has its founders, of whom the log says nothing yet.
    if line.last_seq > 0 && u64::from(line.members) != members {
        let fault = format!("({} members at seq {}, the log has {members})", line.members, line.last_seq);
        return Some((Harm::Wrong, fault));
    }
    if line.delivered_seq > line.last_seq {
        return Some((Harm::Wrong, format!("(delivered {} beyond the end)", line.delivered_seq)));
    }
    preview_fault(log, line)
        .or_else(|| joined_fault(book, user, line))
        .or_else(|| if line.carried { None } else { number_fault(book, sync, line) })
}

/// The preview is of the last record. No signal comes after it, so all that can have become of it is that it went by itself.
fn preview_fault(log: &Log<'_>, line: &Line) -> Option<(Harm, String)> {
    let (seq, kind) = line.last?;
    let is = log.at(line.last_seq).map(|entry| born_as(entry.kind).0);
    let wrong = seq != line.last_seq || is != Some(born_as(kind).0);
    wrong.then(|| {
        let last = line.last_seq;
        (
            Harm::Wrong,
            format!("(previews a record of kind {kind} at seq {seq}; last is {last}, of kind {is:?})"),
        )
    })
}

fn joined_fault(book: &Book<'_>, user: UserIx, line: &Line) -> Option<(Harm, String)> {
    let spans = book.log(line.session)?.spans.get(&user)?;
    let known = spans.iter().any(|(from, _)| *from == line.joined_seq);
    (!known).then(|| (Harm::Wrong, format!("(joined at seq {}, where nobody joined)", line.joined_seq)))
}

/// `last_client_seq` lies between what was acknowledged before the request and what was tried until its end.
fn number_fault(book: &Book<'_>, sync: &Sync, line: &Line) -> Option<(Harm, String)> {
    let mine = book.by_device.get(&(line.session, sync.device)).map_or(&[][..], Vec::as_slice);
    let (mut least, mut most) = (0, 0);
    for send in mine.iter().filter(|send| send.epoch == sync.epoch) {
        let acked = matches!(send.outcome, Outcome::Acked { seq, .. } if seq <= line.last_seq);
        if acked && send.done < line.invoke {
            least = least.max(send.client_seq);
        }
        if send.invoke <= line.done {
            most = most.max(send.client_seq);
        }
    }
    let said = line.last_client_seq;
    let wrong = said < least || said > most;
    wrong.then(|| (Harm::Wrong, format!("(last client_seq {said}, between {least} and {most} is true)")))
}

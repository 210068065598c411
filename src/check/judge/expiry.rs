//! Messages that last for a time only: their content is there until then and gone after it, on every replica, in every
//! page and every push.
//!
//! A message's time begins when its leader stamps it, which is while it is sent. So its content has not gone before the
//! first attempt is that old, and it is to be gone once the first answer is: within [`GONE_WITHIN`], which a fault
//! suspends, for without a leader whose clock agrees with its peers' nothing goes.

use rookery_wire::RecordKind;

use super::book::{Book, Lasting, Log};
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{Act, History, Micros, NEVER, Print, Seen, SessionIx};

/// How much later than its time content may still be shown, microseconds: leaders look four times a second and propose
/// what they find. On a machine under load that takes its time, a leader that was kept waiting may be another in the
/// middle of it, and that one proposes nothing before its clock was compared, which is done every few seconds.
pub const GONE_WITHIN: Micros = 6_000_000;

impl Lasting {
    /// Whether it must have gone before this time.
    pub(super) fn gone_by(&self, log: &Log<'_>, at: Micros) -> bool {
        log.deadline(self.due) < at
    }
}

/// From when to when a fault held things up, of all rounds in their order.
pub(super) fn faults(history: &History) -> Vec<(Micros, Micros)> {
    history.rounds.iter().map(|round| (round.fault_at, round.healed)).collect()
}

/// When something must have happened that has so long from `due` on, and from the end of any fault that came between.
pub(super) fn suspended(faults: &[(Micros, Micros)], due: Micros, within: Micros) -> Micros {
    let mut deadline = due.saturating_add(within);
    for (from, to) in faults {
        if *from <= deadline && due <= *to {
            deadline = deadline.max(to.saturating_add(within));
        }
    }
    deadline
}

impl Log<'_> {
    /// When what is due then must have gone.
    pub(super) fn deadline(&self, due: Micros) -> Micros {
        suspended(&self.faults, due, GONE_WITHIN)
    }
}

pub(super) fn judge(book: &Book<'_>, verdict: &mut Verdict) {
    for page in &book.history.pages {
        for (seq, print) in &page.records {
            let what = || format!("a page pulled by {}", book.history.device_text(page.device));
            shown(book, page.session, (*seq, *print), (page.invoke, page.done), what, verdict);
        }
    }
    for stream in &book.history.streams {
        for (at, session, seen) in &stream.events {
            let Seen::Push(seq, print) = seen else { continue };
            let what = || format!("a push to {}", book.history.device_text(stream.device));
            shown(book, *session, (*seq, *print), (*at, *at), what, verdict);
        }
    }
    for dump in &book.history.dumps {
        for entry in &dump.entries {
            let what = || format!("the replica of node {}", dump.node);
            shown(book, dump.session, (entry.seq, entry.print), (dump.at, NEVER), what, verdict);
        }
    }
    for (at, log) in book.logs.iter().enumerate() {
        entries(book, SessionIx(at as u32), log, verdict);
    }
}

/// Whoever was shown a message, between two times, was shown it as it then was.
fn shown(
    book: &Book<'_>,
    session: SessionIx,
    (seq, print): (u64, Print),
    (invoke, done): (Micros, Micros),
    what: impl Fn() -> String,
    verdict: &mut Verdict,
) {
    let Some(log) = book.log(session) else { return };
    let (lasting, recalled) = match (log.lasting.get(&seq), log.overdue.get(&seq)) {
        (Some(lasting), _) => (lasting, false),
        (None, Some((lasting, _))) => (lasting, true),
        (None, None) => return,
    };
    let fault = if print == lasting.print {
        (done < lasting.early).then(|| format!("gone, {} µs before its time", lasting.early - done))
    } else {
        let late = invoke.saturating_sub(lasting.due);
        let kept = !recalled && lasting.gone_by(log, invoke);
        kept.then(|| format!("with its content, {late} µs after its time"))
    };
    if let Some(fault) = fault {
        verdict.add(Rule::Expiry, Harm::Wrong, || {
            let name = book.history.session_text(session);
            format!("{name}: {} from {invoke} µs shows seq {seq} {fault}", what())
        });
    }
}

/// Messages last as long as they were sent to, and what has gone is neither changed nor taken back.
fn entries(book: &Book<'_>, session: SessionIx, log: &Log<'_>, verdict: &mut Verdict) {
    for entry in log.entries.iter() {
        let send = book.send_of(session, entry);
        let lasts_ms = send.map_or(0, |send| send.lasts_ms);
        let gone = entry.kind == RecordKind::EXPIRED.0;
        let fault = if gone && lasts_ms == 0 {
            Some("has gone by itself, and was to stay".to_owned())
        } else if gone && log.recalls.contains_key(&entry.seq) {
            Some("was recalled, and has gone by itself".to_owned())
        } else if entry.lasts_ms != lasts_ms && entry.kind != RecordKind::RECALLED.0 {
            Some(format!("lasts for {} ms; it was sent to last for {lasts_ms} ms", entry.lasts_ms))
        } else {
            late_signal(book, session, log, entry.seq)
        };
        if let Some(fault) = fault {
            verdict.add(Rule::Expiry, Harm::Wrong, || {
                format!("{} seq {} {fault}", book.history.session_text(session), entry.seq)
            });
        }
    }
}

/// An edit of what had gone. (What was recalled is not among those that go.)
fn late_signal(book: &Book<'_>, session: SessionIx, log: &Log<'_>, signal: u64) -> Option<String> {
    let entry = log.at(signal)?;
    let lasting = log.lasting.get(&entry.target?)?;
    let send = book.send_of(session, entry).filter(|send| matches!(send.act, Act::Edit(_)))?;
    lasting
        .gone_by(log, send.invoke)
        .then(|| format!("edits seq {:?}, which had gone by itself", entry.target))
}

//! Retention: a session lets go of what is too much and of nothing else, never takes it back, and says from where on it
//! has everything.

use rookery_wire::RecordKind;

use super::book::{Book, Log};
use super::linear::{Placed, sweep};
use super::lists;
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{DeviceIx, Fresh, Micros, SessionIx};

/// What said from where on there is everything.
#[derive(Clone, Copy)]
struct Said {
    device: DeviceIx,
    first: u64,
}

pub(super) fn judge(book: &Book<'_>, verdict: &mut Verdict) {
    let mut said: Vec<Vec<Placed<Said>>> = book.logs.iter().map(|_| Vec::new()).collect();
    let mut note = |session: SessionIx, device, first, (invoke, done)| {
        if let Some(said) = said.get_mut(session.0 as usize) {
            let what = Said { device, first };
            said.push(Placed { place: 2 * first + 1, invoke, done, judged: true, what });
        }
    };
    for page in &book.history.pages {
        let Some(log) = book.log(page.session) else { continue };
        let what = || format!("a page pulled by {}", book.history.device_text(page.device));
        told(book, page.session, log, (page.first_seq, page.last_seq), page.done, what, verdict);
        if page.fresh == Fresh::Linear {
            note(page.session, page.device, page.first_seq, (page.invoke, page.done));
        }
    }
    for sync in &book.history.syncs {
        for line in sync.lines.iter().filter(|line| lists::holds(book, sync, line)) {
            let Some(log) = book.log(line.session) else { continue };
            let what = || format!("a list of {}", book.history.device_text(sync.device));
            told(book, line.session, log, (line.first_seq, line.last_seq), line.done, what, verdict);
            note(line.session, sync.device, line.first_seq, (line.invoke, line.done));
        }
    }
    for (at, said) in said.into_iter().enumerate() {
        for (late, early) in sweep(said) {
            verdict.add(Rule::Trimmed, Harm::Wrong, || {
                let name = book.history.session_text(SessionIx(at as u32));
                let (late, early) = (late.what, early);
                let (one, other) =
                    (book.history.device_text(early.device), book.history.device_text(late.device));
                let (first, then) = (early.first, late.first);
                format!(
                    "{name}: {one} was told that it begins at seq {first}, and {other} after that at {then}"
                )
            });
        }
    }
    replicas(book, verdict);
}

/// Whoever is told of a session up to some seq is told that it has at least as much as it keeps.
fn told(
    book: &Book<'_>,
    session: SessionIx,
    log: &Log<'_>,
    (first, last): (u64, u64),
    done: Micros,
    what: impl Fn() -> String,
    verdict: &mut Verdict,
) {
    let keep = log.keep.filter(|(_, asked)| *asked <= done);
    let most = keep.map_or(1, |(count, _)| (last + 1).saturating_sub(count).max(1));
    if first > most {
        verdict.add(Rule::Trimmed, Harm::Lost, || {
            let name = book.history.session_text(session);
            let kept = keep.map_or_else(|| "all".to_owned(), |(count, _)| count.to_string());
            format!("{name}: {} begins at seq {first} of {last}, though {kept} are kept", what())
        });
    }
}

/// In the end every replica keeps as much as it is to keep, and no more.
fn replicas(book: &Book<'_>, verdict: &mut Verdict) {
    for dump in &book.history.dumps {
        let Some(log) = book.log(dump.session) else { continue };
        let first = dump.entries.first().map_or(1, |entry| entry.seq);
        let last = dump.entries.last().map_or(0, |entry| entry.seq);
        let what = || format!("the replica of node {}", dump.node);
        told(book, dump.session, log, (first, last), Micros::MAX, what, verdict);
        let Some((count, _)) = log.keep else { continue };
        let set = log.entries.iter().any(|entry| entry.kind == RecordKind::GROUP_CHANGED.0);
        if set && dump.entries.len() as u64 > count {
            verdict.add(Rule::Trimmed, Harm::Wrong, || {
                let (name, has) = (book.history.session_text(dump.session), dump.entries.len());
                format!("{name}: node {} still has {has} records, {count} are to be kept", dump.node)
            });
        }
    }
}

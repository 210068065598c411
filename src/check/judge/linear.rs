//! Linearizability of a totally ordered log by one sort and one sweep (rule 4), and the sweep itself.

use super::book::Book;
use super::lists;
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{Fresh, Micros, NEVER, SessionIx};

/// An operation at its place in the order.
#[derive(Clone, Debug)]
pub(super) struct Placed<T> {
    /// Twice the position: an append at seq k has 2k, a read that saw last seq k has 2k + 1.
    pub(super) place: u64,
    /// Begin.
    pub(super) invoke: Micros,
    /// End, or [`NEVER`].
    pub(super) done: Micros,
    /// Whether it may be found at fault (else it only bears witness).
    pub(super) judged: bool,
    /// What it is.
    pub(super) what: T,
}

/// Pairs (late, early): `late` began after `early` had returned, yet stands before it in the order.
pub(super) fn sweep<T>(mut placed: Vec<Placed<T>>) -> Vec<(Placed<T>, T)>
where
    T: Clone,
{
    placed.sort_by_key(|op| std::cmp::Reverse(op.place));
    let mut faults = Vec::new();
    // The least return among strictly later places, and among those of the place at hand.
    let mut least: (Micros, Option<T>) = (NEVER, None);
    let mut here: (Micros, Option<T>) = (NEVER, None);
    let mut place = u64::MAX;
    for op in placed {
        if op.place != place {
            place = op.place;
            if here.0 < least.0 {
                least = here.clone();
            }
        }
        if op.done < here.0 {
            here = (op.done, Some(op.what.clone()));
        }
        if op.judged
            && op.invoke > least.0
            && let Some(early) = &least.1
        {
            let early = early.clone();
            faults.push((op, early));
        }
    }
    faults
}

#[derive(Clone, Copy)]
enum What {
    Append(u64),
    Page(usize),
    Line(usize),
}

pub(super) fn judge(book: &Book<'_>, verdict: &mut Verdict) {
    let mut placed: Vec<Vec<Placed<What>>> = book.logs.iter().map(|_| Vec::new()).collect();
    for (at, log) in book.logs.iter().enumerate() {
        let Some(ops) = placed.get_mut(at) else { continue };
        for entry in log.entries.iter() {
            let Some((invoke, done)) = book.window(SessionIx(at as u32), entry) else { continue };
            ops.push(Placed {
                place: 2 * entry.seq,
                invoke,
                done,
                judged: true,
                what: What::Append(entry.seq),
            });
        }
    }
    let mut read = |session: SessionIx, seq: u64, invoke, done, what| {
        if let Some(ops) = placed.get_mut(session.0 as usize) {
            ops.push(Placed { place: 2 * seq + 1, invoke, done, judged: true, what });
        }
    };
    for (at, page) in book.history.pages.iter().enumerate() {
        if page.fresh == Fresh::Linear {
            read(page.session, page.last_seq, page.invoke, page.done, What::Page(at));
        }
    }
    for (at, sync) in book.history.syncs.iter().enumerate() {
        for line in sync.lines.iter().filter(|line| lists::holds(book, sync, line)) {
            read(line.session, line.last_seq, line.invoke, line.done, What::Line(at));
        }
    }
    for (at, ops) in placed.into_iter().enumerate() {
        for (late, early) in sweep(ops) {
            report(book, SessionIx(at as u32), &late, early, verdict);
        }
    }
}

fn report(book: &Book<'_>, session: SessionIx, late: &Placed<What>, early: What, verdict: &mut Verdict) {
    let harm = match late.what {
        What::Append(_) => Harm::Reordered,
        What::Page(_) | What::Line(_) => Harm::Wrong,
    };
    verdict.add(Rule::Linear, harm, || {
        let name = book.history.session_text(session);
        let (late_text, early_text) = (text(book, late.what, late.place), text(book, early, 0));
        format!("{name}: {late_text} began at {} µs, after {early_text} had returned", late.invoke)
    });
}

fn text(book: &Book<'_>, what: What, place: u64) -> String {
    let saw = if place == 0 { String::new() } else { format!(" that saw last seq {}", place / 2) };
    match what {
        What::Append(seq) => format!("the send at seq {seq}"),
        What::Page(at) => {
            let device = book.history.pages.get(at).map(|page| book.history.device_text(page.device));
            format!("a pull{saw} by {}", device.unwrap_or_default())
        }
        What::Line(at) => {
            let device = book.history.syncs.get(at).map(|sync| book.history.device_text(sync.device));
            format!("a session list{saw} for {}", device.unwrap_or_default())
        }
    }
}

//! Blocks (rule 7, G8): while a block is surely in force nothing of the blocked user enters the direct session, and who is
//! refused for one was refused while one may have been in force.

use std::collections::BTreeMap;

use rookery_wire::{ErrorCode, RecordKind};

use super::book::{Book, Log, born_as, told};
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{Bar, Micros, NEVER, Outcome, Send, SessionIx, Told, UserIx};

/// Who blocks whom.
type Pair = (UserIx, UserIx);

pub(super) fn judge(book: &Book<'_>, verdict: &mut Verdict) {
    let mut bars: BTreeMap<Pair, Vec<&Bar>> = BTreeMap::new();
    for bar in book.history.bars.iter().filter(|bar| !matches!(bar.answer, Told::Refused(_))) {
        if let Some(user) = book.history.user_of(bar.device) {
            bars.entry((user, bar.other)).or_default().push(bar);
        }
    }
    for (at, log) in book.logs.iter().enumerate() {
        let session = SessionIx(at as u32);
        let Some([a, b]) = book.history.pair_of(session) else { continue };
        let moments = book.moments(session, &log.entries);
        for pair in [(a, b), (b, a)] {
            let known = bars.get(&pair).map_or(&[][..], Vec::as_slice);
            for (from, to) in in_force(known) {
                entered(book, session, log, &moments, pair, (from, to), verdict);
            }
        }
    }
    for send in &book.history.sends {
        if send.outcome == Outcome::Refused(ErrorCode::RefusedByPeer.number())
            && !explained(book, &bars, send)
        {
            verdict.add(Rule::Blocks, Harm::Wrong, || {
                let key = (send.session, send.device, send.epoch, send.client_seq);
                format!("{} is refused by the other user, who blocks nobody", told(book.history, key))
            });
        }
    }
}

/// When blocks are surely in force: from their answer until the first attempt at an end that may have come after them.
fn in_force(bars: &[&Bar]) -> Vec<(Micros, Micros)> {
    let blocks = bars.iter().filter(|bar| bar.on && bar.answer == Told::Acked);
    let ends = |block: &Bar| {
        let later = bars.iter().filter(|bar| !bar.on && bar.done > block.invoke);
        later.map(|bar| bar.invoke).min().unwrap_or(NEVER)
    };
    blocks.map(|block| (block.done, ends(block))).filter(|(from, to)| from < to).collect()
}

fn entered(
    book: &Book<'_>,
    session: SessionIx,
    log: &Log<'_>,
    moments: &[(Micros, Micros)],
    (by, other): Pair,
    (from, to): (Micros, Micros),
    verdict: &mut Verdict,
) {
    let first = moments.partition_point(|(begun, _)| *begun <= from);
    let inside = log.entries.iter().zip(moments).skip(first).take_while(|(_, (_, done))| *done < to);
    for (entry, _) in inside.filter(|(entry, _)| entry.sender == Some(other)) {
        // Who is blocked may still take back what it wrote.
        if matches!(born_as(entry.kind), RecordKind::CONTENT | RecordKind::EDIT) {
            verdict.add(Rule::Blocks, Harm::Wrong, || {
                let name = book.history.session_text(session);
                let (by, other) = (book.history.user_text(by), book.history.user_text(other));
                format!(
                    "{name} seq {}: {other} wrote it, whom {by} blocked from {from} to {to} µs",
                    entry.seq
                )
            });
        }
    }
}

/// Whether a block of the other user may have been in force at some instant of a send.
fn explained(book: &Book<'_>, bars: &BTreeMap<Pair, Vec<&Bar>>, send: &Send) -> bool {
    let (Some(user), Some(pair)) = (book.history.user_of(send.device), book.history.pair_of(send.session))
    else {
        return false;
    };
    let Some(other) = pair.iter().copied().find(|of| *of != user) else { return false };
    let known = bars.get(&(other, user)).map_or(&[][..], Vec::as_slice);
    let over = |block: &Bar| {
        let later =
            known.iter().filter(|bar| !bar.on && bar.answer == Told::Acked && bar.invoke > block.done);
        later.map(|bar| bar.done).any(|done| done < send.invoke)
    };
    known.iter().any(|bar| bar.on && bar.invoke <= send.done && !over(bar))
}

//! The judge: a pure function from a [`History`] to a [`Verdict`], exact, by sorting and one sweep, never by search.
//!
//! It implements the project's rules for judging a history, one file per idea: [`book`] reads the replicas into
//! one log per session (rule 1), [`entries`] compares log and sends (2, 3, order, membership), [`linear`] holds
//! the sweep (4), [`pages`] and [`pushes`] what readers got (5), [`cursors`] and [`marks`] how far users have read and
//! what is unread (6), [`recall`] and [`blocks`] what may be seen and said (7), [`expiry`] and [`trims`] what is kept and
//! for how long, [`keys`] what a backend does under request keys, [`digests`] the proofs that copies and replicas are one
//! history, [`lists`] session lists, [`news`] what devices are told of memberships, [`unanswered`] requests that nobody
//! answers, [`rosters`] who is in a group at the end, [`gaps`] how long clients waited and whether the run proves anything.
//! It must never forgive: what a rule does not excuse in words is a violation.

mod blocks;
mod book;
mod cursors;
mod digests;
mod entries;
mod expiry;
mod gaps;
mod keys;
mod linear;
mod lists;
mod marks;
mod news;
mod pages;
#[cfg(test)]
mod parts_tests;
#[cfg(test)]
mod play;
mod pushes;
mod recall;
#[cfg(test)]
mod rewrite_tests;
mod rosters;
#[cfg(test)]
mod silence_tests;
#[cfg(test)]
mod tests;
mod trims;
mod unanswered;
mod verdict;

pub use expiry::GONE_WITHIN;
pub use gaps::{MIN_ACKED, RoundReport};
pub use verdict::{Harm, Rule, Standing, Totals, Verdict, Violation};

use std::collections::BTreeSet;

use rookery_wire::RecordKind;

use super::history::{Act, History, Keyed, Outcome, Seen, SessionIx, Told, Witness};

/// Judges a whole history.
pub fn judge(history: &History) -> Verdict {
    let mut verdict = Verdict { totals: totals(history), ..Verdict::default() };
    let book = book::Book::open(history, &mut verdict);
    digests::judge(&book, &mut verdict);
    unanswered::judge(history, &mut verdict);
    if !book.holes.is_empty() {
        // Without a whole log next to nothing can be said of the others.
        gaps::judge(history, &mut verdict);
        return verdict;
    }
    entries::judge(&book, &mut verdict);
    linear::judge(&book, &mut verdict);
    pages::judge(&book, &mut verdict);
    pushes::judge(&book, &mut verdict);
    recall::judge(&book, &mut verdict);
    expiry::judge(&book, &mut verdict);
    trims::judge(&book, &mut verdict);
    keys::judge(&book, &mut verdict);
    blocks::judge(&book, &mut verdict);
    cursors::judge(&book, &mut verdict);
    marks::judge(&book, &mut verdict);
    lists::judge(&book, &mut verdict);
    news::judge(&book, &mut verdict);
    rosters::judge(&book, &mut verdict);
    for (at, device, what) in &history.faults {
        let text = || format!("{} at {at} µs: {what}", history.device_text(*device));
        verdict.add(Rule::Protocol, Harm::Wrong, text);
    }
    gaps::judge(history, &mut verdict);
    gaps::coverage(history.setup.parts, &mut verdict);
    verdict
}

fn is_answered_twice(act: &Keyed) -> bool {
    act.asked.iter().filter(|asking| matches!(asking.outcome, Outcome::Acked { .. })).count() > 1
}

fn totals(history: &History) -> Totals {
    let mut totals = Totals {
        sent: history.sends.len() as u64,
        retried: history.retries.len() as u64,
        pulled: history.pages.iter().map(|page| page.records.len() as u64).sum(),
        snapshots: history.rounds.iter().map(|round| round.snapshots).sum(),
        replicas: history.dumps.len() as u64,
        sessions: history.names.sessions.len() as u64,
        barred: history.bars.iter().filter(|bar| bar.answer == Told::Acked).count() as u64,
        read: history.marks.iter().filter(|mark| mark.answer.is_some()).count() as u64,
        proved: history.seals.iter().filter(|seal| matches!(seal.witness, Witness::Copy(_))).count() as u64,
        keyed: history.keyed.iter().filter(|act| is_answered_twice(act)).count() as u64,
        since: history.syncs.iter().filter(|sync| sync.since).count() as u64,
        carried: history.syncs.iter().flat_map(|sync| &sync.lines).filter(|line| line.carried).count() as u64,
        trimmed: history.trimmed.iter().map(|(_, entries)| entries.len() as u64).sum(),
        ..Totals::default()
    };
    let last: BTreeSet<(SessionIx, u64)> = history
        .dumps
        .iter()
        .flat_map(|dump| dump.entries.iter().map(|entry| (dump.session, entry)))
        .filter(|(_, entry)| entry.kind == RecordKind::EXPIRED.0)
        .map(|(session, entry)| (session, entry.seq))
        .collect();
    totals.expired = last.len() as u64;
    for send in &history.sends {
        match send.outcome {
            Outcome::Acked { .. } => {
                totals.acked += 1;
                totals.recalled += u64::from(matches!(send.act, Act::Recall(_)));
                totals.edited += u64::from(matches!(send.act, Act::Edit(_)));
            }
            Outcome::Refused(_) => totals.refused += 1,
            Outcome::Unknown => totals.unknown += 1,
        }
    }
    let pushed = history.streams.iter().flat_map(|stream| &stream.events);
    totals.delivered = pushed.filter(|(_, _, seen)| matches!(seen, Seen::Push(..))).count() as u64;
    totals.delivered += history.handed.iter().map(|handed| handed.records.len() as u64).sum::<u64>();
    totals
}

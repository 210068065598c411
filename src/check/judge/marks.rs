//! READ_MARK pushes (G6): of one connection they never go back, and each of a user's devices that is there learns how far
//! the user has read.

use std::collections::{BTreeMap, HashMap};

use super::book::Book;
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{DeviceIx, Mark, Micros, Seen, SessionIx, Stream, Sync, UserIx};

pub(super) fn judge(book: &Book<'_>, verdict: &mut Verdict) {
    let mut syncs: HashMap<DeviceIx, Vec<&Sync>> = HashMap::new();
    for sync in &book.history.syncs {
        syncs.entry(sync.device).or_default().push(sync);
    }
    let mut marks: HashMap<UserIx, Vec<&Mark>> = HashMap::new();
    for mark in book.history.marks.iter().filter(|mark| mark.answer.is_some()) {
        if let Some(user) = book.history.user_of(mark.device) {
            marks.entry(user).or_default().push(mark);
        }
    }
    for stream in &book.history.streams {
        ascending(book, stream, verdict);
        let Some(user) = book.history.user_of(stream.device) else { continue };
        let of_user = marks.get(&user).map_or(&[][..], Vec::as_slice);
        let of_device = syncs.get(&stream.device).map_or(&[][..], Vec::as_slice);
        // Of one that was cut nobody knows what was still on its way; one that was told it is behind may have lost any.
        let behind = stream.events.iter().any(|(_, _, seen)| matches!(seen, Seen::Behind));
        if stream.closed.is_none() && !behind {
            untold(book, stream, of_user, of_device, verdict);
        }
    }
}

fn ascending(book: &Book<'_>, stream: &Stream, verdict: &mut Verdict) {
    let mut last: BTreeMap<SessionIx, u64> = BTreeMap::new();
    for (_, session, seen) in &stream.events {
        let Seen::Mark(seq) = seen else { continue };
        let before = last.insert(*session, *seq).unwrap_or(0);
        if before > *seq {
            verdict.add(Rule::Cursors, Harm::Wrong, || {
                let who = book.history.device_text(stream.device);
                let name = book.history.session_text(*session);
                format!("{name}: {who} was pushed READ_MARK {seq} after {before}")
            });
        }
    }
}

/// A READ by any device of the user, begun after the connection had its first list: where the cursor came to stand is
/// known to the connection, by that list or a later one that began before the READ, or by a push.
fn untold(book: &Book<'_>, stream: &Stream, marks: &[&Mark], syncs: &[&Sync], verdict: &mut Verdict) {
    let here: Vec<&&Sync> = syncs.iter().filter(|sync| sync.invoke >= stream.opened).collect();
    let Some(first) = here.iter().map(|sync| sync.done).min() else { return };
    let mut listed: BTreeMap<SessionIx, Vec<(Micros, u64)>> = BTreeMap::new();
    for line in here.iter().flat_map(|sync| &sync.lines) {
        listed.entry(line.session).or_default().push((line.invoke, line.read_seq));
    }
    let mut pushed: BTreeMap<SessionIx, u64> = BTreeMap::new();
    for (_, session, seen) in &stream.events {
        if let Seen::Mark(seq) = seen {
            let most = pushed.entry(*session).or_default();
            *most = (*most).max(*seq);
        }
    }
    for mark in marks.iter().filter(|mark| mark.device != stream.device && mark.invoke > first) {
        let Some((seq, _)) = mark.answer else { continue };
        let lines = listed.get(&mark.session).map_or(&[][..], Vec::as_slice);
        let before = lines.iter().filter(|(invoke, _)| *invoke < mark.invoke).map(|(_, seq)| *seq).max();
        let known = before.unwrap_or(0).max(pushed.get(&mark.session).copied().unwrap_or(0));
        if known < seq {
            verdict.add(Rule::Cursors, Harm::Lost, || {
                let (name, by) =
                    (book.history.session_text(mark.session), book.history.device_text(mark.device));
                let (who, node) = (book.history.device_text(stream.device), stream.node);
                format!(
                    "{name}: {by} read up to {seq}, and {who} at node {node} was told of no more than {known}"
                )
            });
        }
    }
}

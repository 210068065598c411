//! News of memberships (LEFT, JOINED): a device that is connected and has its list when its user comes into a session or is let
//! go is told so, by push or by a list that it asks for meanwhile.
//!
//! What is overtaken by the next change needs not be told. So it is the last change that is held against what the connection
//! had heard in the end, if it had the time to hear it. The lists which devices ask for in the end, to be sure, are no excuse.

use std::collections::HashMap;

use super::book::{Book, Log};
use super::expiry::{faults, suspended};
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{DeviceIx, Micros, NEVER, Seen, SessionIx, Stream, Sync, UserIx};

/// A change of one user's membership.
struct Change {
    inside: bool,
    /// The record that says so.
    seq: u64,
    begun: Micros,
    /// When it was answered.
    done: Micros,
}

pub(super) fn judge(book: &Book<'_>, verdict: &mut Verdict) {
    let Some(drain) = book.history.setup.drain else { return };
    let faults = faults(book.history);
    let mut syncs: HashMap<DeviceIx, Vec<&Sync>> = HashMap::new();
    for sync in &book.history.syncs {
        syncs.entry(sync.device).or_default().push(sync);
    }
    // Of a connection that was cut nobody knows what was still on its way.
    for stream in book.history.streams.iter().filter(|stream| stream.closed.is_none()) {
        let Some(user) = book.history.user_of(stream.device) else { continue };
        let of_device = syncs.get(&stream.device).map_or(&[][..], Vec::as_slice);
        let here = || of_device.iter().filter(|sync| sync.invoke >= stream.opened);
        let Some(synced) = here().map(|sync| sync.done).min() else { continue };
        for (at, log) in book.logs.iter().enumerate() {
            let session = SessionIx(at as u32);
            let Some(change) = last_change(book, session, log, user) else { continue };
            let open = here().any(|sync| sync.unresolved.iter().any(|(known, _)| *known == session));
            // Where anything may have been skipped a list follows.
            let due = behind(stream).max(change.done);
            let deadline = suspended(&faults, due, book.history.setup.grace);
            if open || change.begun <= synced || deadline > drain.quiet {
                continue;
            }
            verdict.totals.told += 1;
            if told(stream, session, drain.quiet) != change.inside {
                untold(book, stream, session, &change, verdict);
            }
        }
    }
}

/// The last change of a user's membership; none if he never had one.
fn last_change(book: &Book<'_>, session: SessionIx, log: &Log<'_>, user: UserIx) -> Option<Change> {
    let (from, to) = log.spans.get(&user)?.last().copied()?;
    let inside = to == u64::MAX;
    let seq = if inside { from } else { to };
    let (begun, done) = book.window(session, log.at(seq)?)?;
    (done != NEVER).then_some(Change { inside, seq, begun, done })
}

/// When the connection was told last that it may have missed something.
fn behind(stream: &Stream) -> Micros {
    let told = stream.events.iter().filter(|(_, _, seen)| matches!(seen, Seen::Behind));
    told.map(|(at, _, _)| *at).max().unwrap_or(0)
}

/// Whether the connection knows in the end that its user is in the session: by pushes, whenever they came, and by the lists
/// that were given before `quiet`.
fn told(stream: &Stream, session: SessionIx, quiet: Micros) -> bool {
    let of_session = stream.events.iter().filter(|(_, of, _)| *of == session);
    let mut said = of_session.filter_map(|(at, _, seen)| match seen {
        Seen::Joined(_) => Some(true),
        Seen::Left => Some(false),
        Seen::Live(_) if *at <= quiet => Some(true),
        Seen::Unlisted if *at <= quiet => Some(false),
        _ => None,
    });
    said.next_back().unwrap_or(false)
}

fn untold(book: &Book<'_>, stream: &Stream, session: SessionIx, change: &Change, verdict: &mut Verdict) {
    verdict.add(Rule::News, Harm::Lost, || {
        let (name, who) = (book.history.session_text(session), book.history.device_text(stream.device));
        let (what, word) = if change.inside { ("came into it", "JOINED") } else { ("was let go", "LEFT") };
        let (seq, node) = (change.seq, stream.node);
        format!("{name}: the user {what} at seq {seq}, and {who} at node {node} had no {word} nor a list that says so")
    });
}

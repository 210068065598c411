//! Live delivery (rule 5, G4): pushes strictly increase, hold what the log holds and go to members only; what a
//! push skipped was told before, and every device has every message in the end.

use std::collections::BTreeMap;

use super::book::{Book, Log};
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{DeviceIx, Handed, Print, Seen, SessionIx, Stream, UserIx};

/// What one connection saw of one session.
#[derive(Default)]
struct View {
    pushes: Vec<(u64, Print)>,
    lives: Vec<u64>,
}

/// Who saw it, for messages and excuses.
#[derive(Clone, Copy)]
struct Eye {
    device: DeviceIx,
    user: UserIx,
    session: SessionIx,
    node: u16,
    /// The connection outlived the load: its end is judged too.
    whole: bool,
    /// What is before it was trimmed, and whoever was away may have missed it.
    kept: u64,
}

pub(super) fn judge(book: &Book<'_>, verdict: &mut Verdict) {
    let mut got: BTreeMap<(DeviceIx, SessionIx), Vec<u64>> = BTreeMap::new();
    for stream in &book.history.streams {
        let Some(user) = book.history.user_of(stream.device) else { continue };
        let views = views(stream);
        for (session, view) in &views {
            let Some(log) = book.log(*session) else { continue };
            let eye = Eye {
                device: stream.device,
                user,
                session: *session,
                node: stream.node,
                whole: stream.closed.is_none(),
                kept: 1,
            };
            ascending(book, eye, view, verdict);
            contents(book, eye, &view.pushes, log, verdict);
            silent_gaps(book, eye, view, log, verdict);
            let seqs = view.pushes.iter().map(|(seq, _)| *seq);
            got.entry((stream.device, *session)).or_default().extend(seqs);
        }
        if stream.closed.is_none() {
            untold(book, stream, user, &views, verdict);
        }
    }
    for page in &book.history.pages {
        let seqs = page.records.iter().map(|(seq, _)| *seq);
        got.entry((page.device, page.session)).or_default().extend(seqs);
    }
    complete(book, &got, verdict);
    for handed in &book.history.handed {
        application(book, handed, verdict);
    }
}

fn views(stream: &Stream) -> BTreeMap<SessionIx, View> {
    let mut views: BTreeMap<SessionIx, View> = BTreeMap::new();
    for (_, session, seen) in &stream.events {
        let view = views.entry(*session).or_default();
        match seen {
            Seen::Live(from) | Seen::Joined(from) | Seen::Lagged(from) => view.lives.push(*from),
            Seen::Push(seq, print) => view.pushes.push((*seq, *print)),
            Seen::Mark(_) | Seen::Left | Seen::Unlisted | Seen::Answered(_) | Seen::Behind => {}
        }
    }
    views.retain(|_, view| !view.pushes.is_empty() || !view.lives.is_empty());
    views
}

fn place(book: &Book<'_>, eye: Eye) -> String {
    let (name, who) = (book.history.session_text(eye.session), book.history.device_text(eye.device));
    format!("{name}: {who} at node {}", eye.node)
}

fn ascending(book: &Book<'_>, eye: Eye, view: &View, verdict: &mut Verdict) {
    for pair in view.pushes.windows(2) {
        let [(a, _), (b, _)] = pair else { continue };
        if b <= a {
            let harm = if a == b { Harm::Doubled } else { Harm::Reordered };
            verdict
                .add(Rule::Pushes, harm, || format!("{} was pushed seq {b} after seq {a}", place(book, eye)));
        }
    }
}

fn contents(book: &Book<'_>, eye: Eye, pushes: &[(u64, Print)], log: &Log<'_>, verdict: &mut Verdict) {
    for (seq, print) in pushes {
        if log.version(*seq, *print).is_none() {
            let harm = if *seq > log.last() { Harm::Lost } else { Harm::Wrong };
            verdict.add(Rule::Pushes, harm, || {
                format!("{} was pushed something as seq {seq} that no replica holds there", place(book, eye))
            });
        } else if log.span_at(eye.user, *seq).is_none() {
            verdict.add(Rule::Pushes, Harm::Wrong, || {
                format!("{} was pushed seq {seq}, though no member there", place(book, eye))
            });
        }
    }
}

/// A seq that should have been pushed was not, and nothing said so: no LIVE point lies between it and the next
/// push. Own sends are answered, not pushed; seqs before the first LIVE point were never promised.
fn silent_gaps(book: &Book<'_>, eye: Eye, view: &View, log: &Log<'_>, verdict: &mut Verdict) {
    let Some(first_live) = view.lives.iter().min().copied() else { return };
    let mut seqs: Vec<u64> = view.pushes.iter().map(|(seq, _)| *seq).collect();
    seqs.sort_unstable();
    seqs.dedup();
    let end = if eye.whole { log.last() + 1 } else { seqs.last().copied().unwrap_or(0) };
    let mut next = seqs.iter().copied().peekable();
    let mut seq = first_live;
    while seq < end {
        while next.peek().is_some_and(|push| *push < seq) {
            next.next();
        }
        let push = next.peek().copied();
        let until = push.unwrap_or(end).min(end);
        let told =
            view.lives.iter().copied().filter(|live| push.is_none() || *live <= until).max().unwrap_or(0);
        let missing = (seq.max(told)..until).find(|seq| owed(log, eye, *seq));
        if let Some(missing) = missing {
            verdict.add(Rule::Delivery, Harm::Lost, || {
                format!("{} was not pushed seq {missing} and not told that it lags", place(book, eye))
            });
        }
        seq = until + 1;
    }
}

/// Whether the device is owed a push of this seq.
fn owed(log: &Log<'_>, eye: Eye, seq: u64) -> bool {
    let own = log.at(seq).is_some_and(|entry| entry.device == Some(eye.device));
    !own && seq >= eye.kept && log.span_at(eye.user, seq).is_some()
}

/// A connection that lived to the end heard nothing at all of a session its user is in.
fn untold(
    book: &Book<'_>,
    stream: &Stream,
    user: UserIx,
    views: &BTreeMap<SessionIx, View>,
    verdict: &mut Verdict,
) {
    for (at, log) in book.logs.iter().enumerate() {
        let session = SessionIx(at as u32);
        let member = log.last() > 0 && log.span_at(user, log.last() + 1).is_some();
        let told = views.get(&session).is_some_and(|view| !view.lives.is_empty());
        if member && !told {
            verdict.add(Rule::Delivery, Harm::Lost, || {
                let (name, who) =
                    (book.history.session_text(session), book.history.device_text(stream.device));
                format!("{name}: {who} is in it, and neither SYNC nor JOINED said so at node {}", stream.node)
            });
        }
    }
}

/// Every device has, by push or by pull, every message since its user joined. Of a membership that has ended only
/// the pushes are judged: who was away when he was removed may not pull any more.
fn complete(book: &Book<'_>, got: &BTreeMap<(DeviceIx, SessionIx), Vec<u64>>, verdict: &mut Verdict) {
    let mut devices: Vec<DeviceIx> = book.history.streams.iter().map(|stream| stream.device).collect();
    devices.sort_unstable();
    devices.dedup();
    for device in devices {
        let Some(user) = book.history.user_of(device) else { continue };
        for (at, log) in book.logs.iter().enumerate() {
            let session = SessionIx(at as u32);
            let mut has = vec![false; log.entries.len() + 1];
            for seq in got.get(&(device, session)).into_iter().flatten() {
                if let Some(slot) = has.get_mut(*seq as usize) {
                    *slot = true;
                }
            }
            let eye = Eye { device, user, session, node: 0, whole: true, kept: log.first };
            let Some((joined, _)) = log.span_at(user, log.last() + 1) else { continue };
            let missing: Vec<u64> = (joined..=log.last())
                .filter(|seq| !has.get(*seq as usize).copied().unwrap_or(false) && owed(log, eye, *seq))
                .collect();
            if let Some(first) = missing.first() {
                verdict.add(Rule::Delivery, Harm::Lost, || {
                    let (name, who) = (book.history.session_text(session), book.history.device_text(device));
                    format!("{name}: {who} never got {} messages, the first is seq {first}", missing.len())
                });
            }
        }
    }
}

/// What the client library handed over: strictly ascending, as stored, and of sessions the user is still in
/// everything since he joined.
fn application(book: &Book<'_>, handed: &Handed, verdict: &mut Verdict) {
    let Some(user) = book.history.user_of(handed.device) else { return };
    let mut by_session: BTreeMap<SessionIx, Vec<(u64, Print)>> = BTreeMap::new();
    for (session, seq, print) in &handed.records {
        by_session.entry(*session).or_default().push((*seq, *print));
    }
    for (at, log) in book.logs.iter().enumerate() {
        let session = SessionIx(at as u32);
        let pushes = by_session.remove(&session).unwrap_or_default();
        let lasting = log.span_at(user, log.last() + 1).filter(|_| log.last() > 0);
        let (device, whole) = (handed.device, lasting.is_some());
        let eye = Eye { device, user, session, node: 0, whole, kept: log.first };
        for (seq, print) in &pushes {
            if log.version(*seq, *print).is_none() {
                verdict.add(Rule::Pushes, Harm::Wrong, || {
                    format!("{}: the library handed over a seq {seq} that no replica holds", place(book, eye))
                });
            }
        }
        let view = View { pushes, lives: lasting.map(|(joined, _)| joined).into_iter().collect() };
        ascending(book, eye, &view, verdict);
        silent_gaps(book, eye, &view, log, verdict);
    }
}

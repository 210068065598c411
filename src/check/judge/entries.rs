//! The log against the sends: every entry was sent once (rule 2), every answer was true (rule 3), what one device
//! sent kept its order (G2), only members sent (G8).

use std::collections::{BTreeMap, HashMap, HashSet};

use rookery_wire::{ErrorCode, RecordKind};

use super::book::{Book, Key, born_as, kind_of, told};
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{Act, DeviceIx, Entry, Outcome, Retry, Send, SessionIx};

/// Whether a refusal says that it was stored once.
fn is_trimmed(code: u16) -> bool {
    ErrorCode::from_number(code) == ErrorCode::AlreadyTrimmed
}

pub(super) fn judge(book: &Book<'_>, verdict: &mut Verdict) {
    let mut places: HashMap<Key, u64> = HashMap::with_capacity(book.history.sends.len());
    let mut ids = HashSet::new();
    for (at, log) in book.logs.iter().enumerate() {
        let session = SessionIx(at as u32);
        for entry in log.entries.iter() {
            origin(book, session, entry, &mut places, verdict);
            if !ids.insert(entry.message_id) {
                let name = book.history.session_text(session);
                verdict.add(Rule::Entries, Harm::Doubled, || {
                    format!("{name} seq {}: message id {:x} is used twice", entry.seq, entry.message_id)
                });
            }
        }
        contents(book, session, verdict);
        device_order(book, session, verdict);
        membership(book, session, verdict);
    }
    for send in &book.history.sends {
        answer(book, send, &places, verdict);
    }
    for retry in &book.history.retries {
        repeated(book, retry, &places, verdict);
    }
}

/// Rule 2: the entry is one invoked send, and the only entry of it.
fn origin(
    book: &Book<'_>,
    session: SessionIx,
    entry: &Entry,
    places: &mut HashMap<Key, u64>,
    verdict: &mut Verdict,
) {
    let name = book.history.session_text(session);
    if book.keyed_of(session, entry).is_some() {
        return; // judged with the request keys
    }
    let Some(send) = book.send_of(session, entry) else {
        return verdict.add(Rule::Entries, Harm::Wrong, || {
            let number = entry.client_seq;
            format!("{name} seq {}: nobody sent this record (client_seq {number})", entry.seq)
        });
    };
    let key = (session, send.device, send.epoch, send.client_seq);
    if let Some(first) = places.insert(key, entry.seq) {
        verdict.add(Rule::Entries, Harm::Doubled, || {
            format!("{} is stored at seq {first} and again at seq {}", told(book.history, key), entry.seq)
        });
    }
    // What an edit says stands in the message it names, and is held against that by the rules of recall.
    let changed = book.log(session).is_some_and(|log| !log.versions(entry.seq).is_empty())
        || entry.kind == RecordKind::EXPIRED.0;
    let same = match send.act {
        Act::Content => changed || send.hash == entry.hash,
        Act::Recall(target) | Act::Edit(target) => entry.target == Some(target),
        Act::Create(_) | Act::Add(_) | Act::Remove(_) | Act::Keep(_) => true,
    };
    if kind_of(&send.act) != born_as(entry.kind) || !same {
        verdict.add(Rule::Entries, Harm::Wrong, || {
            format!("{} is stored at seq {} with other content", told(book.history, key), entry.seq)
        });
    }
}

/// The same content under two numbers: a client or server that renumbered a send that had been stored.
fn contents(book: &Book<'_>, session: SessionIx, verdict: &mut Verdict) {
    let Some(log) = book.log(session) else { return };
    let mut seen: HashMap<u64, u64> = HashMap::with_capacity(log.entries.len());
    let content = log.entries.iter().filter(|entry| entry.kind == RecordKind::CONTENT.0);
    for entry in content {
        let Some(first) = seen.insert(entry.hash, entry.seq) else { continue };
        verdict.add(Rule::Entries, Harm::Doubled, || {
            let name = book.history.session_text(session);
            format!("{name}: one content, made once, is stored at seq {first} and at seq {}", entry.seq)
        });
    }
}

fn device_order(book: &Book<'_>, session: SessionIx, verdict: &mut Verdict) {
    let Some(log) = book.log(session) else { return };
    let mut last: BTreeMap<(DeviceIx, u32), (u64, u64)> = BTreeMap::new();
    for entry in log.entries.iter() {
        let Some(device) = entry.device else { continue };
        let before = last.insert((device, entry.epoch), (entry.client_seq, entry.seq));
        if let Some((number, seq)) = before
            && number > entry.client_seq
        {
            verdict.add(Rule::DeviceOrder, Harm::Reordered, || {
                let (name, who) = (book.history.session_text(session), book.history.device_text(device));
                let later = entry.client_seq;
                format!("{name}: {who}'s send #{number} is at seq {seq}, #{later} after it at {}", entry.seq)
            });
        }
    }
}

/// A record of someone who was no member where it stands.
fn membership(book: &Book<'_>, session: SessionIx, verdict: &mut Verdict) {
    let Some(log) = book.log(session) else { return };
    for entry in log.entries.iter() {
        let Some(user) = entry.sender else { continue };
        // The business's backend is in no session.
        let as_system = book.keyed_of(session, entry).is_some_and(|act| act.name.is_none());
        let before =
            as_system || entry.kind == RecordKind::CREATED.0 || log.span_at(user, entry.seq).is_some();
        if !before {
            verdict.add(Rule::Membership, Harm::Wrong, || {
                let (name, who) = (book.history.session_text(session), book.history.user_text(user));
                format!("{name} seq {}: {who} was no member and sent it", entry.seq)
            });
        }
    }
}

/// Rule 3: the answer a send got is what the log holds.
fn answer(book: &Book<'_>, send: &Send, places: &HashMap<Key, u64>, verdict: &mut Verdict) {
    let key = (send.session, send.device, send.epoch, send.client_seq);
    let place = places.get(&key).copied();
    let text = || told(book.history, key);
    match (send.outcome, place) {
        (Outcome::Acked { seq, .. }, None) => verdict.add(Rule::Answers, Harm::Lost, || {
            format!("{} was acknowledged at seq {seq} and is in no log", text())
        }),
        (Outcome::Acked { seq, .. }, Some(place)) if seq != place => {
            verdict.add(Rule::Answers, Harm::Reordered, || {
                format!("{} was acknowledged at seq {seq} and is at seq {place}", text())
            });
        }
        (Outcome::Acked { seq, message_id, count }, Some(_)) => {
            let entry = book.log(send.session).and_then(|log| log.at(seq));
            if entry.is_some_and(|entry| entry.message_id != message_id || entry.count != count) {
                verdict.add(Rule::Answers, Harm::Wrong, || {
                    format!("{}: the answer's id or count is not the stored one's (seq {seq})", text())
                });
            }
        }
        (Outcome::Refused(code), place) if is_trimmed(code) => {
            trimmed(book, send.session, place, text, verdict)
        }
        (Outcome::Refused(code), Some(place)) => verdict.add(Rule::Answers, Harm::Wrong, || {
            format!("{} was refused with code {code} and is stored at seq {place}", text())
        }),
        (Outcome::Refused(_), None) | (Outcome::Unknown, _) => {}
    }
}

/// A send is answered with ALREADY_TRIMMED: it was stored, and what was stored there is kept no more.
fn trimmed(
    book: &Book<'_>,
    session: SessionIx,
    place: Option<u64>,
    text: impl Fn() -> String,
    verdict: &mut Verdict,
) {
    let first = book.log(session).map_or(1, |log| log.first);
    if place.is_some_and(|place| place < first) {
        return;
    }
    verdict.add(Rule::Trimmed, Harm::Wrong, || match place {
        Some(place) => {
            format!("{} is said to be trimmed; it is at seq {place}, the first kept is {first}", text())
        }
        None => format!("{} is said to be trimmed; it is in no log", text()),
    });
}

/// Rule 3 for further attempts: the same answer as ever.
fn repeated(book: &Book<'_>, retry: &Retry, places: &HashMap<Key, u64>, verdict: &mut Verdict) {
    let key = (retry.session, retry.device, retry.epoch, retry.client_seq);
    let place = places.get(&key).copied();
    let first = book.sends.get(&key).map(|send| send.outcome);
    let text = || format!("{}, repeated at node {}", told(book.history, key), retry.node);
    match (retry.outcome, place, first) {
        (Outcome::Acked { seq, .. }, Some(place), _) if seq != place => {
            verdict.add(Rule::Answers, Harm::Doubled, || {
                format!("{} got seq {seq}, but is stored at seq {place}", text())
            });
        }
        (Outcome::Acked { seq, .. }, None, _) => {
            verdict.add(Rule::Answers, Harm::Lost, || format!("{} got seq {seq} and is in no log", text()))
        }
        (Outcome::Refused(code), place, _) if is_trimmed(code) => {
            trimmed(book, retry.session, place, text, verdict);
        }
        (Outcome::Refused(code), Some(place), _) => verdict.add(Rule::Answers, Harm::Wrong, || {
            format!("{} was refused with code {code}, but is stored at seq {place}", text())
        }),
        _ => {}
    }
}

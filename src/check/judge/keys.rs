//! Request keys (R11): however often and wherever something is asked for under a key, there is one effect, one answer, and
//! one line of the audit.

use std::collections::{BTreeMap, HashMap};

use rookery_wire::ErrorCode;

use super::book::Book;
use super::verdict::{Harm, Rule, Verdict};
use crate::check::history::{Asking, Entry, Keyed, Outcome, SessionIx};

pub(super) fn judge(book: &Book<'_>, verdict: &mut Verdict) {
    let mut stored: HashMap<(SessionIx, u64), Vec<&Entry>> = HashMap::new();
    for (at, log) in book.logs.iter().enumerate() {
        let session = SessionIx(at as u32);
        for entry in log.entries.iter() {
            if let Some(act) = book.keyed_of(session, entry) {
                stored.entry((session, act.key)).or_default().push(entry);
            }
        }
    }
    let mut lines: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (number, key) in &book.history.audit {
        lines.entry(*key).or_default().push(*number);
    }
    for act in &book.history.keyed {
        let stored = stored.get(&(act.session, act.key)).map_or(&[][..], Vec::as_slice);
        let lines = lines.get(&act.key).map_or(&[][..], Vec::as_slice);
        let faults = [answers(act), effect(book, act, stored), audit(act, lines)];
        for (harm, fault) in faults.into_iter().flatten() {
            verdict.add(Rule::Keys, harm, || {
                format!("{}: key {} {fault}", book.history.session_text(act.session), act.key)
            });
        }
    }
}

/// What was stored, in the order in which it was answered.
fn acked(act: &Keyed) -> impl Iterator<Item = (&Asking, (u64, u64, u64))> {
    act.asked.iter().filter_map(|asking| match asking.outcome {
        Outcome::Acked { seq, message_id, count } => Some((asking, (seq, message_id, count))),
        Outcome::Refused(_) | Outcome::Unknown => None,
    })
}

type Fault = Option<(Harm, String)>;

/// Every answer is the first one; while there is no group the key stays free.
fn answers(act: &Keyed) -> Fault {
    let (first, answer) = acked(act).next()?;
    for (asking, other) in acked(act) {
        if other != answer {
            let (one, other, nodes) = (answer.0, other.0, (first.node, asking.node));
            let text =
                format!("was answered with seq {one} at node {}, with {other} at node {}", nodes.0, nodes.1);
            return Some((Harm::Doubled, text));
        }
    }
    let stored_by = acked(act).map(|(asking, _)| asking.done).min()?;
    act.asked.iter().find_map(|asking| {
        let Outcome::Refused(code) = asking.outcome else { return None };
        let too_early = code == ErrorCode::NoSuchSession.number() && asking.invoke < stored_by;
        let text =
            || format!("was answered with seq {}, and refused with {code} at node {}", answer.0, asking.node);
        (!too_early).then(|| (Harm::Wrong, text()))
    })
}

/// It is stored once if it was answered so, in the name it was asked for in, and at most once if nobody knows.
fn effect(book: &Book<'_>, act: &Keyed, stored: &[&Entry]) -> Fault {
    if let [one, other, ..] = stored {
        return Some((Harm::Doubled, format!("is stored at seq {} and again at seq {}", one.seq, other.seq)));
    }
    let answer = acked(act).next().map(|(_, answer)| answer);
    let unknown = act.asked.iter().any(|asking| asking.outcome == Outcome::Unknown);
    match (stored.first(), answer) {
        (None, Some((seq, ..))) => {
            Some((Harm::Lost, format!("was answered with seq {seq} and is in no log")))
        }
        (Some(entry), Some((seq, id, count))) => {
            let is = (entry.seq, entry.message_id, entry.count);
            let text = || format!("was answered with seq {seq}, id {id:x} and count {count}, and is {is:x?}");
            if is != (seq, id, count) {
                return Some((Harm::Wrong, text()));
            }
            let name = act.name.or_else(|| Some(book.history.backend()));
            (entry.sender != name).then(|| (Harm::Wrong, "is stored in another name".to_owned()))
        }
        (Some(entry), None) if !unknown => {
            Some((Harm::Wrong, format!("was always refused and is stored at seq {}", entry.seq)))
        }
        _ => None,
    }
}

/// One line, which every answer names.
fn audit(act: &Keyed, lines: &[u64]) -> Fault {
    if let [one, other, ..] = lines {
        return Some((Harm::Doubled, format!("has two lines in the audit, {one} and {other}")));
    }
    acked(act).find_map(|(asking, _)| match lines.first() {
        None => Some((Harm::Lost, "was answered and has no line in the audit".to_owned())),
        Some(line) if *line != asking.audit => {
            let text = format!(
                "has line {line} in the audit, and was told {} at node {}",
                asking.audit, asking.node
            );
            Some((Harm::Wrong, text))
        }
        Some(_) => None,
    })
}

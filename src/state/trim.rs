//! What a session lets go of: messages that retention trims, and messages that were sent to last for a time only.
//!
//! When that is, the leader decides by its clock before it proposes (R10); what an entry names goes, whatever the time is
//! when it is applied, so every replica lets go alike.
//!
//! **Trimming** moves the first kept seq; what stands before it is gone for every reader from that entry on, and its rows
//! are deleted behind the checkpoint that says so. The head keeps the running count before the first kept seq, so unread
//! counts stay differences of counts (R15): what was trimmed is not unread. **Expiry** puts a tombstone in the place of one
//! record, as a recall does, without a signal: the record has said all along when it would go. Which records are to go is
//! an index of its own, one row each.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bincode::{Decode, Encode};
use bytes::Bytes;
use rookery_wire::codec::{Blob, decode};
use rookery_wire::{
    Burns, ContentHash, ErrorBody, ErrorCode, Expires, Extension, Record, RecordKind, Retention, SessionId,
    UserId,
};

use super::command::Act;
use super::key;
use super::outcome::{Answer, Outcome};
use super::placing::encode_record;
use super::rewrite::Rewriting;
use super::rows::{RowFault, RowReader};
use super::session::{At, Session};
use super::session_rows::row;
use super::versions::Shift;
use crate::plant::planted;

/// When a message is to go.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Expiry {
    /// At this time, unix milliseconds; [`UNREAD`] while that is not known.
    pub(super) at_ms: u64,
    /// Of one that is to go once it is read: who sent it, and for how long it lasts after that.
    burns: Option<(UserId, u64)>,
}

impl Expiry {
    /// At that time.
    pub(super) fn at(at_ms: u64) -> Self {
        Self { at_ms, burns: None }
    }
    /// Whether that time has come.
    fn is_over(&self, time_ms: u64) -> bool {
        self.at_ms != UNREAD && self.at_ms <= time_ms
    }
    /// For how long the message lasts once this user has read it, if it waits for that.
    pub(super) fn waits_for(&self, user: &UserId) -> Option<u64> {
        match &self.burns {
            Some((sender, after_ms)) if self.at_ms == UNREAD && sender != user => Some(*after_ms),
            _ => None,
        }
    }
}

/// Stands for the time of a message that has to be read first.
pub(super) const UNREAD: u64 = u64::MAX;

/// Messages of a session that may wait to go at a time; part of what apply decides.
pub(super) const MAX_EXPIRING: usize = 100_000;

/// Messages that are to go, with the time of each, by seq and by that time.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    times: BTreeMap<u64, Expiry>,
    by_time: BTreeSet<(u64, u64)>,
    dirty: BTreeSet<u64>,
}

impl Expiries {
    /// As rows have it.
    pub(super) fn loaded(times: BTreeMap<u64, Expiry>) -> Self {
        let by_time = times.iter().map(|(seq, expiry)| (expiry.at_ms, *seq)).collect();
        Self { times, by_time, dirty: BTreeSet::new() }
    }
    pub(super) fn contains(&self, seq: u64) -> bool {
        self.times.contains_key(&seq)
    }
    /// Whether no more may be added.
    pub(super) fn is_full(&self) -> bool {
        self.times.len() >= MAX_EXPIRING
    }
    fn set(&mut self, seq: u64, expiry: Expiry) {
        let at_ms = expiry.at_ms;
        if let Some(before) = self.times.insert(seq, expiry) {
            self.by_time.remove(&(before.at_ms, seq));
        }
        self.by_time.insert((at_ms, seq));
        self.dirty.insert(seq);
    }
    /// When the next one goes.
    fn next(&self) -> Option<u64> {
        self.by_time.first().map(|(at_ms, _)| *at_ms).filter(|at_ms| *at_ms != UNREAD)
    }
    /// Those that are to go by this time, the earliest first.
    fn due(&self, time_ms: u64) -> impl Iterator<Item = u64> + '_ {
        let due = self.by_time.iter().take_while(move |(at_ms, _)| *at_ms <= time_ms && *at_ms != UNREAD);
        due.map(|(_, seq)| *seq)
    }
    pub(super) fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }
    /// Seqs that changed since this was last asked, with what is known of them; none for those that go no more.
    pub(super) fn collect(&mut self) -> Vec<(u64, Option<Expiry>)> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().map(|seq| (seq, self.times.get(&seq).cloned())).collect()
    }
    /// Says whether it was among them.
    pub(super) fn remove(&mut self, seq: u64) -> bool {
        let Some(known) = self.times.remove(&seq) else { return false };
        self.by_time.remove(&(known.at_ms, seq));
        self.dirty.insert(seq);
        true
    }
    /// Says whether there were any.
    fn remove_before(&mut self, first: u64) -> bool {
        let kept = self.times.split_off(&first);
        let gone = std::mem::replace(&mut self.times, kept);
        for (seq, expiry) in &gone {
            self.by_time.remove(&(expiry.at_ms, *seq));
            self.dirty.insert(*seq);
        }
        !gone.is_empty()
    }
    /// Messages up to `seq` that wait for this user to read them, and for how long each lasts after that.
    fn unread_by<'a>(&'a self, user: &'a UserId, seq: u64) -> impl Iterator<Item = (u64, u64)> + 'a {
        let waiting = self.by_time.range((UNREAD, 0)..=(UNREAD, seq)).map(|(_, seq)| *seq);
        waiting.filter_map(move |seq| Some((seq, self.times.get(&seq)?.waits_for(user)?)))
    }
}

/// Extensions that say when a message is to go.
pub(super) fn is_lasting(extension: &Extension) -> bool {
    [Expires::TAG, Burns::TAG].contains(&extension.tag)
}

/// For how long the extensions of a message say that it lasts from its time on.
pub(super) fn expiry_in(extensions: &[Extension]) -> Option<u64> {
    let found = extensions.iter().find(|extension| extension.tag == Expires::TAG)?;
    decode::<Expires>(&found.data.0).ok().map(|expires| expires.after_ms)
}

fn burning_in(extensions: &[Extension]) -> Option<u64> {
    let found = extensions.iter().find(|extension| extension.tag == Burns::TAG)?;
    decode::<Burns>(&found.data.0).ok().map(|burns| burns.after_ms)
}

/// What is left of a message whose time has come.
fn left_of(record: Record) -> Record {
    let hash = ContentHash::of(&record).extension();
    let extensions = record.extensions.into_iter().filter(is_lasting).chain([hash]).collect();
    let (content_type, content) = (Blob::default(), Blob::default());
    Record { kind: RecordKind::EXPIRED, content_type, content, extensions, ..record }
}

/// A record as it will be once it has expired; none if there is no content of it.
pub fn as_expired(record: &Bytes) -> Option<Bytes> {
    let record: Record = decode(record).ok()?;
    (record.kind == RecordKind::CONTENT).then(|| encode_record(&left_of(record)))
}

/// Whether rows say that this message, of which this is the record, was to go by that time; never by a time that nobody knows. Of
/// one that does not last for a time only, nothing is read.
///
/// # Errors
/// [`RowFault`].
pub fn is_overdue(
    rows: &dyn RowReader,
    id: &SessionId,
    record: &Bytes,
    time_ms: Option<u64>,
) -> Result<bool, RowFault> {
    let Some(time_ms) = time_ms else { return Ok(false) };
    // Bytes that are no record are noticed where they are shown.
    let Ok(Record { seq, extensions, .. }) = decode(record) else { return Ok(false) };
    if !extensions.iter().any(is_lasting) {
        return Ok(false);
    }
    let key = key::expiry(id, seq);
    let Some(value) = rows.get(&key)? else { return Ok(false) };
    Ok(row::<Expiry>(&key, value)?.is_over(time_ms))
}

impl Session {
    /// The running count before the first kept seq.
    pub fn first_count(&self) -> u64 {
        self.first_count
    }

    /// How long it keeps its messages, as it was set for this session.
    pub fn retention(&self) -> Retention {
        self.settings.retention
    }

    /// When the next message is to go. Of a frozen session none goes.
    pub fn next_expiry(&self) -> Option<u64> {
        if self.frozen {
            return None;
        }
        self.expiries.next()
    }

    /// Whether this message is to go some time, and has not.
    pub fn may_expire(&self, seq: u64) -> bool {
        self.expiries.contains(seq)
    }

    /// Those of these messages that were to go by that time, though they have not: the entry by which they go is to come.
    /// None by a time that nobody knows.
    pub fn overdue(&self, seqs: RangeInclusive<u64>, time_ms: Option<u64>) -> Vec<u64> {
        let Some(time_ms) = time_ms.filter(|_| !seqs.is_empty()) else { return Vec::new() };
        let over = self.expiries.times.range(seqs).filter(|(_, expiry)| expiry.is_over(time_ms));
        over.map(|(seq, _)| *seq).collect()
    }

    /// Messages that are to go by this time, the earliest first.
    pub fn expired_by(&self, time_ms: u64, most: usize) -> Vec<u64> {
        if self.frozen {
            return Vec::new();
        }
        self.expiries.due(time_ms).take(most).collect()
    }

    /// Those of these messages whose rows must be read before they can go.
    pub fn expiring_in_rows<'a>(&'a self, seqs: &'a [u64]) -> impl Iterator<Item = u64> + 'a {
        let in_rows = self.first_seq..=self.written_seq;
        seqs.iter().copied().filter(move |seq| in_rows.contains(seq) && self.expiries.contains(*seq))
    }

    /// A message that was just stored lasts for a time only, if it says so. Says whether it does.
    pub(super) fn note_expiry(&mut self, seq: u64, time_ms: u64, sender: &UserId, act: &Act) -> bool {
        let Act::Send { extensions, .. } = act else { return false };
        let expiry = match (expiry_in(extensions), burning_in(extensions)) {
            (Some(after_ms), _) if planted("expiry-early") => {
                Expiry::at(time_ms.saturating_add(after_ms / 3))
            }
            (Some(after_ms), _) => Expiry::at(time_ms.saturating_add(after_ms)),
            (None, Some(after_ms)) => Expiry { at_ms: UNREAD, burns: Some((sender.clone(), after_ms)) },
            (None, None) => return false,
        };
        self.expiries.set(seq, expiry);
        true
    }

    /// Whether one more message that lasts for a time only can be remembered, if the act is one.
    pub(super) fn has_room_to_expire(&self, act: &Act) -> Result<(), ErrorBody> {
        match act {
            Act::Send { extensions, .. } if self.expiries.is_full() && extensions.iter().any(is_lasting) => {
                let text =
                    format!("{MAX_EXPIRING} messages of {} wait to go, and there may be no more", self.id);
                Err(ErrorBody::new(ErrorCode::TooManyExpiring, text).with_detail(MAX_EXPIRING as u64))
            }
            _ => Ok(()),
        }
    }

    /// Whether messages up to `seq` wait for this user to read them.
    pub fn burns_for(&self, user: &UserId, seq: u64) -> bool {
        self.expiries.unread_by(user, seq).next().is_some()
    }

    /// This user has read up to `seq`: the messages that waited for that go in their time.
    pub fn burn(&mut self, at: &At, user: &UserId, seq: u64) -> Outcome {
        let mut outcome = Outcome::answer(Answer::Done);
        if self.frozen {
            return outcome;
        }
        let time_ms = self.time_ms.max(at.time_ms);
        let read: Vec<(u64, u64)> = self.expiries.unread_by(user, seq).collect();
        for (seq, after_ms) in read {
            if let Some(expiry) = self.expiries.times.get(&seq) {
                let at_ms = time_ms.saturating_add(after_ms).min(UNREAD - 1);
                self.expiries.set(seq, Expiry { at_ms, ..expiry.clone() });
                outcome.timers_moved = true;
            }
        }
        self.dirty.head |= outcome.timers_moved;
        outcome
    }

    /// Lets go of everything up to `upto`, where the running count is `count`: decided by the session's own retention as
    /// it then was, which must still be so.
    pub fn trim(&mut self, upto: u64, count: u64, by: Retention) -> Outcome {
        let mut outcome = Outcome::answer(Answer::Done);
        let first = upto.min(self.last_seq).saturating_add(1);
        if self.frozen || by != self.settings.retention || first <= self.first_seq {
            return outcome;
        }
        self.dirty.trimmed.get_or_insert(self.first_seq);
        self.first_seq = first;
        if !planted("unread-trimmed") {
            self.first_count = count.clamp(self.first_count, self.count);
        }
        self.rewrites.trim(first, self.first_count);
        self.versions.trim(first);
        outcome.timers_moved = self.expiries.remove_before(first);
        self.let_go_of_trimmed();
        self.dirty.head = true;
        outcome
    }

    /// Memory lets go of trimmed records; those that are on their way into rows stay until they are there.
    pub(super) fn let_go_of_trimmed(&mut self) {
        while self.tail_first() < self.first_seq.min(self.written_seq.saturating_add(1))
            && let Some(record) = self.tail.pop_front()
        {
            self.tail_bytes -= record.len();
        }
    }

    /// Lets go of the content of these messages, as far as they are to go and have not gone.
    pub fn expire(&mut self, at: &At, seqs: &[u64]) -> Outcome {
        let mut outcome = Outcome::answer(Answer::Done);
        if self.frozen {
            return outcome;
        }
        let due = seqs.iter().copied().filter(|seq| self.expiries.contains(*seq));
        let decided: Vec<(u64, Option<Rewriting>)> = due.map(|seq| (seq, self.decide_expiry(seq))).collect();
        for (seq, rewriting) in decided {
            self.expiries.remove(seq);
            outcome.timers_moved = true;
            if let Some(rewriting) = rewriting.filter(|_| !planted("expiry-kept")) {
                let (_, held_bytes) = self.rewrite(at, rewriting);
                outcome.held_bytes += held_bytes;
                outcome.expired.push(seq);
            }
        }
        if outcome.timers_moved {
            self.dirty.head = true;
        }
        outcome
    }

    /// A tombstone for a message; none if there is no content of it any more.
    fn decide_expiry(&self, seq: u64) -> Option<Rewriting> {
        let record = self.stored_record(seq)?;
        // Rows of a snapshot may be newer than the session they came with, and say already what comes now.
        if ![RecordKind::CONTENT, RecordKind::EXPIRED].contains(&record.kind) {
            return None;
        }
        let (count, versions) = (record.count, Shift::all_of(&record));
        let recalled = Some(count).filter(|_| !planted("unread-expired"));
        Some(Rewriting { seq, record: encode_record(&left_of(record)), recalled, versions })
    }
}

//! Recall and edit: putting another record in the place of one that is stored (G7).
//!
//! A record that changes keeps its seq, id, time, count and numbers; only its content goes or is replaced. It may stand in
//! memory, in rows, and in rows that are being written at this moment, so it is replaced in all three: in the ring at
//! once, in rows by writing the whole run anew with the next checkpoint. Until that is durable the new run stays in
//! memory, and readers take it from here. [`Session::rows_revision`] tells readers which pages of older rows are stale.
//!
//! A recalled message still stands in the running counts of later records, which are never rewritten. What is unread is
//! a difference of counts less the recalled ones between them: an ordered index of exceptions ([`super::recalled`]), one row
//! each.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rookery_wire::codec::{Blob, decode};
use rookery_wire::{
    ContentHash, Digest, ErrorBody, ErrorCode, Extension, MemberRole, Record, RecordKind, Rewritten, Target,
    UserId, encode,
};

use super::command::{Act, Actor};
use super::key::SenderKey;
use super::placing::encode_record;
use super::recalled::Recalled;
use super::records::{RUN_RECORDS, Run, Runs, cut_again, run_of};
use super::seal::Recut;
use super::session::{At, Session};
use super::trim::is_lasting;
use super::versions::Shift;
use crate::plant::planted;

/// Runs of records that were rewritten, and what the batch at hand has read of those that may be.
#[derive(Debug, Default)]
pub(super) struct Rewrites {
    /// Rewritten, and not known to be durable: whole runs by their first seq.
    pending: Runs,
    /// Those of them that changed since they were last collected.
    dirty: BTreeSet<u64>,
    /// Where pieces of those begin that were collected before they were durable.
    begins: BTreeMap<u64, Vec<u64>>,
    /// First seq and length of the runs that are being written for the first time.
    fresh: Vec<(u64, usize)>,
    /// Runs that hold what this batch wants to rewrite, as the rows have them.
    fetched: Runs,
    recalled: Recalled,
    dirty_recalled: BTreeSet<u64>,
    /// Log index of the last rewriting …
    revision: u64,
    /// … of the last one that was collected …
    collected: u64,
    /// … and of the last one that rows hold.
    written: u64,
}

/// A rewriting that is decided and not yet carried out.
pub(super) struct Rewriting {
    pub(super) seq: u64,
    pub(super) record: Bytes,
    /// The running count of a message whose content goes.
    pub(super) recalled: Option<u64>,
    pub(super) versions: Shift,
}

impl Rewrites {
    /// As rows have it: the last rewriting, and which messages were recalled.
    pub(super) fn loaded(revision: u64, recalled: Recalled) -> Self {
        Self { recalled, revision, collected: revision, written: revision, ..Self::default() }
    }
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }
    /// Runs to be written anew; they count as collected. `fresh` are the runs that are written for the first time.
    pub(super) fn collect(&mut self, fresh: Vec<(u64, usize)>) -> Vec<Recut> {
        self.fresh = fresh;
        self.collected = self.revision;
        let dirty = std::mem::take(&mut self.dirty);
        if planted("recall-forgotten") {
            return Vec::new();
        }
        let Self { pending, begins, .. } = self;
        let recut = |first: u64| {
            let run = pending.get(&first)?.clone();
            let begins = begins.entry(first).or_default();
            // Edits may have made it larger.
            let pieces = cut_again(first, &run.records, begins);
            *begins = pieces.iter().map(|(begin, _)| *begin).collect();
            Some(Recut { first, run, pieces })
        };
        dirty.into_iter().filter_map(recut).collect()
    }
    /// Counts and seqs of messages that were recalled since this was last asked; no seq where they are trimmed.
    pub(super) fn collect_recalled(&mut self) -> Vec<(u64, Option<u64>)> {
        let counts = std::mem::take(&mut self.dirty_recalled);
        counts.into_iter().map(|count| (count, self.recalled.seq(count))).collect()
    }
    /// Records before `first` are gone, and the running counts up to `first_count` with them.
    pub(super) fn trim(&mut self, first: u64, first_count: u64) {
        self.pending.retain(|begin, run| begin + run.records.len() as u64 > first);
        let Self { pending, dirty, begins, .. } = self;
        dirty.retain(|begin| pending.contains_key(begin));
        begins.retain(|begin, _| pending.contains_key(begin));
        self.dirty_recalled.extend(self.recalled.trim(first_count));
    }
    /// The digests before the runs that were written for the first time, which were not known when they were collected.
    pub(super) fn set_before(&mut self, before: &[(u64, Digest)]) {
        for (first, digest) in before {
            if let Some(run) = self.pending.get_mut(first) {
                run.before = *digest;
            }
        }
    }
    /// What was collected is in rows.
    pub(super) fn written(&mut self) {
        self.fresh.clear();
        self.written = self.collected;
        let Self { pending, dirty, begins, .. } = self;
        pending.retain(|first, _| dirty.contains(first));
        begins.retain(|first, _| pending.contains_key(first));
    }
    pub(super) fn is_clean(&self) -> bool {
        self.pending.is_empty() && self.dirty_recalled.is_empty() && self.written == self.revision
    }
    pub(super) fn forget_fetched(&mut self) {
        self.fetched.clear();
    }
}

impl Session {
    /// Log index of the last rewriting that rows hold: pages read from rows under another one may be stale.
    pub fn rows_revision(&self) -> u64 {
        self.rewrites.written
    }

    /// Log index of the last recall or edit.
    pub fn rewritten_at(&self) -> u64 {
        self.rewrites.revision
    }

    /// Rewritten records among `from..=to` that rows do not hold yet: they stand for what the rows say.
    pub fn patches(&self, from: u64, to: u64) -> Vec<(u64, Bytes)> {
        let mut patches = BTreeMap::new();
        for (first, run) in self.rewrites.pending.range(..=to) {
            let records = (*first..).zip(&run.records).filter(|(seq, _)| (from..=to).contains(seq));
            patches.extend(records.map(|(seq, record)| (seq, record.clone())));
        }
        patches.into_iter().collect()
    }

    /// Messages with a running count above `count` that were recalled.
    pub fn recalled_after(&self, count: u64) -> u64 {
        if planted("unread-recalled") {
            return 0;
        }
        self.rewrites.recalled.after(count)
    }

    /// The seq whose runs must be read before this act can be carried out; none when memory has all of it.
    pub(super) fn target_in_rows(&self, act: &Act) -> Option<u64> {
        target_of(act).filter(|seq| (self.first_seq..=self.written_seq).contains(seq))
    }

    /// Gives the runs that [`Session::target_in_rows`] asked for.
    pub fn give_runs(&mut self, runs: Runs) {
        self.rewrites.fetched.extend(runs);
    }

    /// A record, wherever it is; of those in rows only what this batch has asked for.
    pub(super) fn stored_record(&self, seq: u64) -> Option<Record> {
        self.stored_bytes(seq).and_then(|bytes| decode(bytes).ok())
    }

    fn stored_bytes(&self, seq: u64) -> Option<&Bytes> {
        if !(self.first_seq..=self.last_seq).contains(&seq) {
            return None;
        }
        let in_runs =
            |runs| run_of(runs, seq).and_then(|(first, run)| run.records.get((seq - first) as usize));
        let bytes = self.record(seq);
        let bytes = bytes.or_else(|| in_runs(&self.rewrites.pending));
        bytes.or_else(|| in_runs(&self.rewrites.fetched))
    }

    /// Whether the actor, who is a member or a service, may recall or edit that.
    pub(super) fn judge_rewrite(&self, at: &At, actor: &Actor, act: &Act) -> Result<(), ErrorBody> {
        let (seq, window_ms, recall) = match act {
            Act::Recall { seq, window_ms } => (*seq, *window_ms, true),
            Act::Edit { seq, window_ms, .. } => (*seq, *window_ms, false),
            _ => return Ok(()),
        };
        let none =
            || ErrorBody::new(ErrorCode::NoSuchMessage, format!("{} has no content at {seq}", self.id));
        let record = self.stored_record(seq).ok_or_else(none)?;
        match record.kind {
            RecordKind::CONTENT => {}
            // Rows of a snapshot may be newer than the session they came with: this replay has not got there yet.
            RecordKind::RECALLED if mark_of(&record).is_some_and(|mark| mark.seq > self.last_seq) => {}
            RecordKind::RECALLED => {
                let text = format!("message {seq} of {} was recalled", self.id);
                return Err(ErrorBody::new(ErrorCode::Recalled, text));
            }
            // The same of one that expires later.
            RecordKind::EXPIRED if self.expiries.contains(seq) => {}
            _ => return Err(none()),
        }
        let name = actor.name();
        // In a user's name a service puts no words into what others have said. It may take anything back.
        let any = actor.service && (recall || actor.on_behalf_of.is_none());
        if any || (recall && self.role_of(name).is_some_and(|role| role >= MemberRole::Admin)) {
            return Ok(());
        }
        if record.sender != *name {
            let text = format!("message {seq} of {} is not {name}'s", self.id);
            return Err(ErrorBody::new(ErrorCode::NotAllowed, text));
        }
        let age = self.time_ms.max(at.time_ms).saturating_sub(record.time_ms);
        if age > window_ms {
            let text =
                format!("message {seq} of {} is {age} ms old, at most {window_ms} are allowed", self.id);
            return Err(ErrorBody::new(ErrorCode::TooLate, text).with_detail(window_ms));
        }
        Ok(())
    }

    /// What a recall or edit does to its message, the signal of which takes `signal` as its seq; and the signal's content.
    pub(super) fn decide_rewrite(&self, at: &At, by: &UserId, act: &Act) -> Option<(Rewriting, Target)> {
        let seq = target_of(act)?;
        let bytes = self.stored_bytes(seq)?;
        let record: Record = decode(bytes).ok()?;
        let recalled = matches!(act, Act::Recall { .. }).then_some(record.count);
        if self.is_ahead(&record) {
            // What made it so comes later in this replay, or is this very act: it must not go back to what is gone.
            let (record, versions) = (bytes.clone(), Shift::default());
            return Some((Rewriting { seq, record, recalled, versions }, Target { seq }));
        }
        let time_ms = self.time_ms.max(at.time_ms);
        let mark = Rewritten { by: by.clone(), time_ms, seq: self.last_seq + 1 };
        let mark = Extension { tag: Rewritten::TAG, data: Blob(encode(&mark)) };
        // The digest stays as it was: the hash of the first content stays, and its salt goes.
        let hash = ContentHash::of(&record).extension();
        let (record, versions) = match act {
            Act::Edit { content_type, content, extensions, versions, .. } => {
                let (version, shift) = self.version_after(&record, bytes, *versions);
                let mut extensions = extensions.clone();
                // It goes when it was to go, whatever it says by then.
                let kept = record.extensions.iter().filter(|kept| is_lasting(kept));
                extensions.extend(kept.cloned());
                extensions.extend([mark, hash, version.extension()]);
                let (content_type, content) = (content_type.clone(), content.clone());
                (Record { kind: RecordKind::CONTENT, content_type, content, extensions, ..record }, shift)
            }
            _ => {
                let shift = Shift::all_of(&record);
                let tombstone = Record {
                    kind: RecordKind::RECALLED,
                    content_type: Blob::default(),
                    content: Blob::default(),
                    extensions: vec![mark, hash],
                    ..record
                };
                (tombstone, shift)
            }
        };
        Some((Rewriting { seq, record: encode_record(&record), recalled, versions }, Target { seq }))
    }

    /// Whether a record as rows have it is newer than this session: the replay has not got there yet.
    fn is_ahead(&self, record: &Record) -> bool {
        record.kind == RecordKind::EXPIRED || mark_of(record).is_some_and(|mark| mark.seq > self.last_seq)
    }

    /// Carries out what [`Session::decide_rewrite`] decided; gives the record as it is now, and how many bytes of records
    /// are held in memory for the next checkpoint on that account.
    pub(super) fn rewrite(&mut self, at: &At, rewriting: Rewriting) -> ((u64, Bytes), usize) {
        let Rewriting { seq, record, recalled, versions } = rewriting;
        if planted("recall-kept") && recalled.is_some() {
            return ((seq, record), 0);
        }
        let collected =
            self.rewrites.fresh.iter().find(|(first, len)| (*first..*first + *len as u64).contains(&seq));
        if seq > self.written_seq
            && let Some((first, len)) = collected.copied()
        {
            // On its way into rows: all that is not written is in memory, the whole run with it.
            let run = (first..first + len as u64).filter_map(|seq| self.record(seq).cloned());
            // The digest before it is told once it is sealed, and needed when it is written anew, which is after that.
            let run = Run { before: Digest([0; 32]), records: run.collect() };
            self.rewrites.pending.entry(first).or_insert(run);
        }
        let mut held = self.versions.shift(seq, versions);
        self.replace_in_memory(seq, record.clone());
        self.forget_fingerprint(&record);
        let Rewrites { pending, dirty, fetched, .. } = &mut self.rewrites;
        for (first, run) in runs_with(fetched, seq) {
            if pending.contains_key(&first) {
                continue;
            }
            let run = up_to_date(pending, first, run.clone());
            pending.insert(first, run);
        }
        for (first, run) in pending.range_mut(seq.saturating_sub(RUN_RECORDS as u64)..=seq) {
            if let Some(place) = run.records.get_mut((seq - first) as usize) {
                *place = record.clone();
                dirty.insert(*first);
                held += run.records.iter().map(Bytes::len).sum::<usize>();
            }
        }
        if let Some(count) = recalled {
            self.expiries.remove(seq);
            self.rewrites.recalled.insert(count, seq);
            self.rewrites.dirty_recalled.insert(count);
        }
        self.rewrites.revision = at.index;
        ((seq, record), held)
    }

    /// What a message said is not to be found by the fingerprint that its number or its request key has kept.
    fn forget_fingerprint(&mut self, rewritten: &Bytes) {
        // It was encoded just now.
        let Ok(Record { seq, sender: user, device, epoch, client_seq, .. }) = decode::<Record>(rewritten)
        else {
            return;
        };
        if client_seq == 0 {
            return self.keys.forget_content(|stored| stored.seq == seq);
        }
        let key = SenderKey { user, device, epoch };
        if self.senders.get_mut(&key).is_some_and(|sender| sender.forget(client_seq, seq)) {
            return;
        }
        // Or it was a service's that spoke in this user's name, or is known to rows alone, which have it keyed.
        let of_device = |other: &SenderKey| other.device == key.device && other.epoch == key.epoch;
        for (_, sender) in self.senders.iter_mut().filter(|(other, _)| of_device(other)) {
            if sender.forget(client_seq, seq) {
                return;
            }
        }
    }

    /// Puts a record into the ring in the place of the one with its seq, if that is there.
    fn replace_in_memory(&mut self, seq: u64, record: Bytes) {
        let Some(at) = seq.checked_sub(self.tail_first()).and_then(|at| usize::try_from(at).ok()) else {
            return;
        };
        if let Some(place) = self.tail.get_mut(at) {
            self.tail_bytes = self.tail_bytes + record.len() - place.len();
            *place = record;
        }
    }
}

/// How the record came to be as it is, if it was recalled or edited.
pub(super) fn mark_of(record: &Record) -> Option<Rewritten> {
    let mark = record.extensions.iter().find(|extension| extension.tag == Rewritten::TAG)?;
    decode(&mark.data.0).ok()
}

/// The message a recall or an edit is about.
fn target_of(act: &Act) -> Option<u64> {
    match act {
        Act::Recall { seq, .. } | Act::Edit { seq, .. } => Some(*seq),
        _ => None,
    }
}

/// A run as rows have it, with what was rewritten since: a piece of a larger one may have become a row while more of that was
/// rewritten.
fn up_to_date(pending: &Runs, first: u64, mut run: Run) -> Run {
    let last = first + run.records.len() as u64;
    for (begin, newer) in pending.range(first.saturating_sub(RUN_RECORDS as u64)..last) {
        for (seq, record) in (*begin..).zip(&newer.records) {
            let place = seq.checked_sub(first).and_then(|at| usize::try_from(at).ok());
            if let Some(place) = place.and_then(|at| run.records.get_mut(at)) {
                place.clone_from(record);
            }
        }
    }
    run
}

fn runs_with(runs: &Runs, seq: u64) -> impl Iterator<Item = (u64, &Run)> {
    let near = runs.range(seq.saturating_sub(RUN_RECORDS as u64)..=seq);
    near.filter(move |(first, run)| seq - **first < run.records.len() as u64)
        .map(|(first, run)| (*first, run))
}

//! What messages said before they were edited, where that is kept.
//!
//! The record that is edited holds the newest content; what it held before becomes a row of its own, by message and number.
//! So no value grows with the edits. The record says which version it is and how many before it are rows
//! ([`Version`]): an edit of version n makes row n of it and deletes those that are beyond the bound, and whatever takes the
//! content away deletes them all, without reading any.
//!
//! **Replay.** Rows of rewritten records are there before the head that says so, so a replay may find a record newer than it
//! is itself: its mark names a signal that has no seq yet. Such a record is left as it is, for the replay will get to what
//! made it so, and its versions are left alone. That is sound because of one order: rows of versions go before the record they
//! follow from (`RowWrites::ahead`, and snapshots after the records), so once the replay is at
//! its end every row is there that a record counts. Before that one may be missing (given up, or recalled, by what the replay
//! has not got to), so nothing but a linearizable read may look. If the record is not newer, the same row is made again from the
//! same bytes.
//!
//! **Turned off**, what was kept goes: it is shown to nobody from that entry on, and its rows, which say with which signal
//! they came to be, are deleted behind the checkpoint, as trimmed records are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bincode::{Decode, Encode};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rookery_wire::codec::decode;
use rookery_wire::record::FIRST_APPLICATION_TAG;
use rookery_wire::versions::{MAX_VERSIONS, VersionLine};
use rookery_wire::{ErrorBody, ErrorCode, Record, RecordKind, SessionId, UserId, Version};

use super::command::{Act, Actor};
use super::key::{self, letter};
use super::records;
use super::rewrite::mark_of;
use super::rows::{RowFault, RowReader, RowWrites};
use super::session::Session;
use super::session_rows::ROW_VERSION;

/// Bytes of a row before its record: its version, and the seq of the signal with which it came to be.
const HEAD_BYTES: usize = 1 + 8;
/// What a row that is to be deleted, or the place of one, costs in memory until the next checkpoint, about.
const PLACE_BYTES: usize = 64;
/// Bytes of rows that are looked at in one go for those that are to be deleted.
const LOOKED_AT: usize = 4 << 20;

/// What the configuration of the node that took an EDIT says of versions: carried along, so that nodes configured
/// differently still judge alike (G8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct VersionBounds {
    /// Versions before the present one that are kept of a message.
    pub most: u32,
    /// Whether they are kept where nobody has said so.
    pub kept: bool,
}

/// What was said about keeping versions. Part of the head row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Keeping {
    /// Of a group, if its owner has said so.
    group: Option<bool>,
    /// Of a direct session: the words of its users.
    users: Vec<(UserId, bool)>,
    /// What came to be a version by a signal up to this one is kept no more.
    gone: u64,
}

impl Keeping {
    /// Whether versions are kept; none if that is for the configuration to say. In a direct session the default stands for
    /// who has said nothing, and both must agree.
    fn said(&self, id: &SessionId) -> Option<bool> {
        if matches!(id, SessionId::Group(_)) {
            return self.group;
        }
        if self.users.iter().any(|(_, on)| !on) {
            return Some(false);
        }
        (self.users.len() == 2).then_some(true)
    }

    fn say(&mut self, id: &SessionId, user: &UserId, on: bool) {
        if matches!(id, SessionId::Group(_)) {
            self.group = Some(on);
            return;
        }
        self.users.retain(|(other, _)| other != user);
        self.users.push((user.clone(), on));
        self.users.sort();
    }

    /// Of the versions that a record counts, how many are still kept.
    fn kept_of(&self, record: &Record) -> u64 {
        let edited = mark_of(record).map_or(0, |mark| mark.seq);
        if edited > self.gone { Version::of(record).kept } else { 0 }
    }
}

/// Versions that are not rows yet, and rows that are to be deleted.
#[derive(Debug, Default)]
pub(super) struct Versions {
    pub(super) keeping: Keeping,
    /// By message and number: the row, or none if it goes. They stay until they are durable.
    pending: BTreeMap<(u64, u64), Option<Bytes>>,
    /// Those of them that were not collected yet.
    dirty: BTreeSet<(u64, u64)>,
    /// Versions were given up since rows were last collected.
    given_up: bool,
}

/// What a rewriting does to the versions of its message: decided with it.
#[derive(Debug, Default)]
pub(super) struct Shift {
    /// Its number and row.
    kept: Option<(u64, Bytes)>,
    /// Numbers of those that go.
    gone: Range<u64>,
}

impl Shift {
    /// All that a record counts go with its content.
    pub(super) fn all_of(record: &Record) -> Self {
        let Version { number, kept } = Version::of(record);
        Self { kept: None, gone: number.saturating_sub(kept)..number }
    }
}

impl Versions {
    pub(super) fn loaded(keeping: Keeping) -> Self {
        Self { keeping, ..Self::default() }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.pending.is_empty() && !self.given_up
    }

    /// Carries out what was decided of the versions of a message; says how many bytes memory holds for it.
    pub(super) fn shift(&mut self, seq: u64, shift: Shift) -> usize {
        let gone = shift.gone.map(|number| (number, None));
        let kept = shift.kept.map(|(number, row)| (number, Some(row)));
        let mut held = 0;
        for (number, row) in gone.chain(kept) {
            held += PLACE_BYTES + row.as_ref().map_or(0, Bytes::len);
            self.pending.insert((seq, number), row);
            self.dirty.insert((seq, number));
        }
        held
    }

    /// Messages before `first` are gone; what is left of their versions goes with the rows of the messages.
    pub(super) fn trim(&mut self, first: u64) {
        self.pending = self.pending.split_off(&(first, 0));
        self.dirty = self.dirty.split_off(&(first, 0));
    }

    /// Rows to be written and deleted, which count as collected: before those of the records they follow from.
    pub(super) fn collect(&mut self, id: &SessionId, rows: &mut RowWrites) {
        self.given_up = false;
        for at in std::mem::take(&mut self.dirty) {
            if let Some(row) = self.pending.get(&at) {
                rows.ahead.push((key::version(id, at.0, at.1).into(), row.clone()));
            }
        }
    }

    /// What was collected is in rows.
    pub(super) fn written(&mut self) {
        let Self { pending, dirty, .. } = self;
        pending.retain(|at, _| dirty.contains(at));
    }

    /// Up to which signal versions were given up since rows were last collected; 0 if none were. What was given up before that
    /// a row remembers until it is gone ([`Freed`](super::Freed)), so that nobody looks for it again at every trim.
    pub(super) fn given_up(&self) -> u64 {
        if self.given_up { self.keeping.gone } else { 0 }
    }
}

impl Session {
    /// Whether what an edit takes the place of is kept here; none if that is for the configuration to say.
    pub fn keeps_versions(&self) -> Option<bool> {
        self.versions.keeping.said(&self.id)
    }

    /// What an edit, whose signal takes the next seq, makes of the version that a record is, and of those before it.
    pub(super) fn version_after(
        &self,
        record: &Record,
        bytes: &Bytes,
        bounds: VersionBounds,
    ) -> (Version, Shift) {
        let keeping = &self.versions.keeping;
        let Version { number, kept } = Version::of(record);
        let keeps = keeping.said(&self.id).unwrap_or(bounds.kept);
        let most = if keeps { u64::from(bounds.most.min(MAX_VERSIONS)) } else { 0 };
        let now = keeping.kept_of(record).saturating_add(1).min(most);
        let next = number.saturating_add(1);
        let gone = number.saturating_sub(kept)..next.saturating_sub(now).min(number);
        let kept = (now > 0).then(|| (number, row_of(self.last_seq + 1, bytes)));
        (Version { number: next, kept: now }, Shift { kept, gone })
    }

    /// Carries out what somebody said about keeping versions, whose signal takes the next seq.
    pub(super) fn keep_versions(&mut self, user: &UserId, on: bool) {
        let Versions { keeping, pending, dirty, given_up } = &mut self.versions;
        keeping.say(&self.id, user, on);
        if !on {
            keeping.gone = self.last_seq + 1;
            *given_up = true;
            // Those that are on their way into rows go with the others there.
            pending.retain(|_, row| row.is_none());
            dirty.retain(|at| pending.contains_key(at));
        }
    }

    /// Whether somebody may say so in this direct session: as with what is kept of it.
    pub(super) fn may_keep_versions(&self, actor: &Actor, act: &Act) -> Result<(), ErrorBody> {
        self.may_wish(actor, act)
    }

    /// What memory knows of the versions of a message, if `user` may read that; none is a service.
    ///
    /// # Errors
    /// The refusal, where there is none with content.
    pub fn versions_of(&self, user: Option<&UserId>, seq: u64) -> Result<Remembered, ErrorBody> {
        if !(self.readable_from(user)..=self.last_seq).contains(&seq) {
            return Err(no_content(&self.id, seq));
        }
        let patched = || self.patches(seq, seq).pop().map(|(_, record)| record);
        let pending = self.versions.pending.range((seq, 0)..=(seq, u64::MAX));
        Ok(Remembered {
            seq,
            present: self.record(seq).cloned().or_else(patched),
            revision: self.rows_revision(),
            keeping: self.versions.keeping.clone(),
            pending: pending.map(|((_, number), row)| (*number, row.clone())).collect(),
        })
    }
}

/// What memory knew of a message and its versions at an instant.
#[derive(Debug)]
pub struct Remembered {
    seq: u64,
    /// As it is, unless that is for rows to say …
    present: Option<Bytes>,
    /// … of this revision.
    revision: u64,
    keeping: Keeping,
    pending: BTreeMap<u64, Option<Bytes>>,
}

/// Versions of a message as they are listed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The newest first.
    pub lines: Vec<VersionLine>,
    /// There are older ones.
    pub more: bool,
    /// Those of them that should have been there and were not: rows and memory are of different instants, or rows are damaged.
    /// A line says so in the place of each.
    pub lost: Vec<u64>,
    /// The message itself should have been there and was not.
    pub absent: bool,
}

impl Remembered {
    /// Whether the message and its versions are still what they were, by what memory knows later.
    pub fn is_still(&self, later: &Remembered) -> bool {
        let unchanged = self.present.is_some() || self.revision == later.revision;
        self.present == later.present && self.keeping == later.keeping && unchanged
    }

    /// The versions below the number `before` (0: with the present one), at most `most` and so many bytes of them, at
    /// least one; memory's word goes before that of rows.
    ///
    /// # Errors
    /// [`RowFault`]; the refusal inside, where the message has no content any more.
    pub fn list(
        &self,
        rows: &dyn RowReader,
        id: &SessionId,
        before: u64,
        most: usize,
        bytes: usize,
    ) -> Result<Result<Listed, ErrorBody>, RowFault> {
        let present = match &self.present {
            Some(present) => Some(present.clone()),
            None => records::read_one(rows, id, self.seq)?,
        };
        let Some(present) = present else {
            return Ok(Ok(Listed { absent: true, ..Listed::default() }));
        };
        let record = record_in(&present)?;
        match record.kind {
            RecordKind::CONTENT => {}
            RecordKind::RECALLED => {
                let text = format!("message {} of {id} was recalled", self.seq);
                return Ok(Err(ErrorBody::new(ErrorCode::Recalled, text)));
            }
            _ => return Ok(Err(no_content(id, self.seq))),
        }
        let number = Version::of(&record).number;
        let lowest = number.saturating_sub(self.keeping.kept_of(&record));
        let newest = if before == 0 { number } else { number.min(before - 1) };
        let mut listed = Listed::default();
        let mut left = bytes;
        let sender = record.sender.clone();
        let mut present = Some(record);
        for wanted in (lowest..=newest).rev() {
            let known = if wanted == number { present.take() } else { self.version(rows, id, wanted)? };
            let is_lost = known.is_none();
            let line = known
                .map_or_else(|| VersionLine::lost(wanted, sender.clone()), |record| line_of(wanted, record));
            let size = 128 + line.content.len() + line.content_type.len() + extension_bytes(&line);
            if !listed.lines.is_empty() && (listed.lines.len() >= most || size > left) {
                listed.more = true;
                break;
            }
            left = left.saturating_sub(size);
            listed.lost.extend(is_lost.then_some(wanted));
            listed.lines.push(line);
        }
        Ok(Ok(listed))
    }

    fn version(&self, rows: &dyn RowReader, id: &SessionId, number: u64) -> Result<Option<Record>, RowFault> {
        let row = match self.pending.get(&number) {
            Some(known) => known.clone(),
            None => rows.get(&key::version(id, self.seq, number))?,
        };
        row.map(|row| record_in(&unpacked(&key::version(id, self.seq, number), row)?.1)).transpose()
    }
}

/// Keys of rows of versions among those from the key `from` on (or from the first one) that nobody asks for any more: of
/// messages before `first_seq`, and those that came to be by a signal up to `given_up`; and the key to go on from, if there
/// are more.
///
/// # Errors
/// [`RowFault`].
pub fn needless_versions(
    rows: &dyn RowReader,
    id: &SessionId,
    first_seq: u64,
    given_up: u64,
    from: Option<Bytes>,
    most: usize,
) -> Result<(Vec<Bytes>, Option<Bytes>), RowFault> {
    let prefix = key::session(letter::VERSION, id);
    let from = from.unwrap_or_else(|| Bytes::from(prefix.clone()));
    let (mut needless, mut next, mut seen, mut bytes) = (Vec::new(), None, 0, 0);
    rows.scan_from(&prefix, &from, &mut |key, value| {
        let message = message_at(key)?;
        if message >= first_seq && given_up == 0 {
            return Ok(false);
        }
        if seen >= most || bytes >= LOOKED_AT {
            next = Some(Bytes::copy_from_slice(key));
            return Ok(false);
        }
        (seen, bytes) = (seen + 1, bytes + value.len());
        if message < first_seq || came_by(key, value)? <= given_up {
            needless.push(Bytes::copy_from_slice(key));
        }
        Ok(true)
    })?;
    Ok((needless, next))
}

fn row_of(signal: u64, record: &Bytes) -> Bytes {
    let mut row = BytesMut::with_capacity(HEAD_BYTES + record.len());
    row.put_u8(ROW_VERSION);
    row.put_u64(signal);
    row.put_slice(record);
    row.freeze()
}

fn unpacked(key: &[u8], mut row: Bytes) -> Result<(u64, Bytes), RowFault> {
    let signal = came_by(key, &row)?;
    row.advance(HEAD_BYTES);
    Ok((signal, row))
}

/// The signal by which a row came to be.
fn came_by(key: &[u8], mut row: &[u8]) -> Result<u64, RowFault> {
    if row.len() < HEAD_BYTES || row.get_u8() != ROW_VERSION {
        return Err(RowFault::damaged(key, "no version of a message that this program knows"));
    }
    Ok(row.get_u64())
}

fn message_at(key: &[u8]) -> Result<u64, RowFault> {
    let place = key.last_chunk::<16>().and_then(|place| place.first_chunk::<8>());
    let seq = place.map(|seq| u64::from_be_bytes(*seq));
    seq.ok_or_else(|| RowFault::damaged(key, "no message in the key"))
}

fn record_in(bytes: &Bytes) -> Result<Record, RowFault> {
    decode(bytes).map_err(|fault| RowFault::damaged(b"a version of a message", fault))
}

fn line_of(number: u64, record: Record) -> VersionLine {
    let (by, time_ms) = match mark_of(&record) {
        Some(mark) => (mark.by, mark.time_ms),
        None => (record.sender, record.time_ms),
    };
    let extensions = record.extensions.into_iter().filter(|one| one.tag >= FIRST_APPLICATION_TAG).collect();
    VersionLine {
        number,
        time_ms,
        by,
        content_type: record.content_type,
        content: record.content,
        extensions,
    }
}

fn extension_bytes(line: &VersionLine) -> usize {
    line.extensions.iter().map(|extension| 8 + extension.data.len()).sum()
}

fn no_content(id: &SessionId, seq: u64) -> ErrorBody {
    ErrorBody::new(ErrorCode::NoSuchMessage, format!("{id} has no content at {seq}"))
}

//! The redo journal: what every acknowledgement rests on.
//!
//! Batches of records go one after another into preallocated segments, each with one fdatasync. sled follows behind,
//! and a segment is used again only after sled's flush has covered it (R1, R2). `format` is the bytes, `segments` the
//! files, `recover` the reading at open; here is the writing. Must never write over a batch that sled has not flushed,
//! and never start a batch before the one before it is durable: that is what lets recovery tell a torn tail from damage.

pub(crate) mod format;
pub(crate) mod recover;
pub(crate) mod segments;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use crate::plant::{once_a_second, planted};

use super::fault::{Step, StepHook};
use super::meta::Metas;
use format::{Draft, HEADER_AREA, Sealed, SegmentHead};
use segments::{Segment, Segments};

/// The writing end. Lives on the writer's thread.
#[derive(Debug)]
pub(crate) struct Journal {
    segments: Arc<Segments>,
    active: Arc<Segment>,
    at: u64,
    place: Place,
    steps: StepHook,
}

/// Where the next batch stands in the order of all batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) store: u64,
    /// Generation of the newest segment.
    pub(crate) generation: u64,
    /// Number of the next batch; the first is 1.
    pub(crate) next: u64,
    /// Body checksum of the batch before.
    pub(crate) link: u32,
}

/// Why the writer must stop.
#[derive(Debug)]
pub(crate) enum JournalStop {
    /// The disk failed: a fault.
    Failed(io::Error),
    /// The store stopped while the writer waited for room.
    Stopped,
}

impl Journal {
    /// Takes a first segment into use. `place.generation` is the newest one found.
    pub(crate) fn start(
        segments: Arc<Segments>,
        place: Place,
        metas: &Metas,
        steps: StepHook,
    ) -> Result<Self, JournalStop> {
        let active = segments.take().ok_or(JournalStop::Stopped)?;
        let mut journal = Self { segments, active, at: 0, place, steps };
        journal.head_segment(metas)?;
        Ok(journal)
    }

    /// Largest body of one batch.
    pub(crate) fn body_max(segment_bytes: u64) -> usize {
        let room = segment_bytes.saturating_sub((HEADER_AREA + format::BLOCK) as u64);
        usize::try_from(room).unwrap_or(usize::MAX).saturating_sub(2 * format::SIDE)
    }

    /// Writes `draft` and syncs it. `metas` is every group as of the batch before.
    pub(crate) fn commit(&mut self, draft: Draft, metas: &Metas) -> Result<Sealed, JournalStop> {
        let length = format::batch_length(draft.body()) as u64;
        if self.at + length > self.segments.bytes {
            self.rotate(metas)?;
        }
        let Place { store, generation, next, link } = self.place;
        let sealed = draft.seal(store, generation, next, link);
        self.steps.at(Step::BeforeWrite);
        self.write(&sealed.bytes).map_err(JournalStop::Failed)?;
        self.steps.at(Step::Written);
        if !planted("late-fsync") || once_a_second() {
            self.active.sync().map_err(JournalStop::Failed)?;
        }
        self.steps.at(Step::Synced);
        self.at += length;
        self.segments.set_active(self.at);
        self.place.next += 1;
        self.place.link = sealed.head.body_crc;
        Ok(sealed)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if !self.steps.is_set() {
            return self.active.write(bytes, self.at);
        }
        let half = bytes.len() / 2;
        self.active.write(&bytes[..half], self.at)?;
        self.steps.at(Step::HalfWritten);
        self.active.write(&bytes[half..], self.at + half as u64)
    }

    fn rotate(&mut self, metas: &Metas) -> Result<(), JournalStop> {
        self.segments.fill(self.active.clone(), self.place.next - 1);
        self.active = self.segments.take().ok_or(JournalStop::Stopped)?;
        self.head_segment(metas)?;
        self.steps.at(Step::Rotated);
        Ok(())
    }

    /// The header is durable before the first batch is written: a batch behind an unreadable header is then damage.
    fn head_segment(&mut self, metas: &Metas) -> Result<(), JournalStop> {
        self.place.generation += 1;
        let Place { store, generation, next, link } = self.place;
        let files = self.segments.files();
        let head = SegmentHead { store, generation, first: next, link, files, metas: metas.clone() };
        self.active.write(&head.encode(), 0).map_err(JournalStop::Failed)?;
        self.steps.at(Step::SegmentHeader);
        self.active.sync().map_err(JournalStop::Failed)?;
        self.at = HEADER_AREA as u64;
        self.segments.set_active(self.at);
        Ok(())
    }
}

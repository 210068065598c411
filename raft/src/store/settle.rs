//! Bringing sled's `log` up to a batch of the journal.
//!
//! Owns what the keeper knows of sled's content, and the sum of a run of batches: entries that were truncated or purged
//! meanwhile never reach sled at all. Used by the keeper and by the opening for the batches sled missed.
//! Must leave sled at exactly one batch: all changes, the metas and the position go into one flush.
//!
//! A purge may be durable in the journal and stand in a later batch than those being settled. Its entries are left out
//! already, and the group's *floor* in sled says so: entries below it are not there, and the journal behind sled's
//! position purges them. Opening holds both against each other.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::types::GroupId;

use super::backlog::Batch;
use super::fault::{Step, StepHook};
use super::journal::format::Sealed;
use super::log_db::{Change, LogDb, encode_meta, encode_position, entry_key, meta_key, position_key};
use super::meta::{GroupMeta, Metas, index_after};
use super::record::{Kind, Record};
use super::state_writer::REST_PART;

/// Bytes of values in one sled batch: it locks every leaf it touches, and readers wait meanwhile.
const SLICE_BYTES: usize = 4 << 20;

/// sled's side of the log.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) db: Arc<LogDb>,
    store: u64,
    pub(crate) position: u64,
    pub(crate) metas: Metas,
    /// First index that sled has, by group, where that is behind its meta's purge point.
    floors: BTreeMap<GroupId, u64>,
    spans: BTreeMap<GroupId, Range<u64>>,
    /// Bytes per group written since the database was opened and not purged again, about: sled holds them in memory.
    resident: BTreeMap<GroupId, u64>,
    reopen_after: u64,
    /// Bytes of entries written since the store was opened, for whoever watches: each of them was written twice.
    pub(crate) bytes: Arc<AtomicU64>,
    steps: StepHook,
}

/// What a run of batches comes to for one group.
#[derive(Debug, Default)]
struct Net<'a> {
    entries: BTreeMap<u64, &'a [u8]>,
    /// sled's entries from here on are no longer part of the log.
    cut: Option<u64>,
}

impl<'a> Net<'a> {
    fn take(&mut self, record: &Record<'a>) {
        match record.kind {
            Kind::Entry => {
                let index = index_after(record.log_id()) - 1;
                self.entries.insert(index, record.bytes);
            }
            Kind::Truncate => {
                let from = index_after(record.log_id());
                self.entries.split_off(&from);
                self.cut = Some(self.cut.map_or(from, |cut| cut.min(from)));
            }
            Kind::Purge => self.entries = self.entries.split_off(&index_after(record.log_id())),
            Kind::Vote | Kind::Committed => {}
        }
    }
}

/// What can be settled.
pub(crate) trait Settling {
    /// Its number in the journal.
    fn number(&self) -> u64;
    /// The batch itself, unless nothing of it is left but its metas.
    fn sealed(&self) -> Option<&Sealed>;
    /// The groups it touches, as of it.
    fn metas(&self) -> impl Iterator<Item = (GroupId, &GroupMeta)>;
}

impl Settling for Batch {
    fn number(&self) -> u64 {
        self.number
    }
    fn sealed(&self) -> Option<&Sealed> {
        self.sealed.as_deref()
    }
    fn metas(&self) -> impl Iterator<Item = (GroupId, &GroupMeta)> {
        self.metas.iter().map(|(group, meta)| (*group, meta))
    }
}

/// One that the opening has read back.
impl Settling for Arc<Sealed> {
    fn number(&self) -> u64 {
        self.head.number
    }
    fn sealed(&self) -> Option<&Sealed> {
        Some(self)
    }
    fn metas(&self) -> impl Iterator<Item = (GroupId, &GroupMeta)> {
        std::iter::empty()
    }
}

impl Settled {
    pub(crate) fn new(db: Arc<LogDb>, store: u64, loaded: super::log_db::Loaded, steps: StepHook) -> Self {
        let super::log_db::Loaded { position, metas, floors, spans } = loaded;
        let (resident, bytes) = (BTreeMap::new(), Arc::default());
        Self { db, store, position, metas, floors, spans, resident, reopen_after: u64::MAX, bytes, steps }
    }

    /// Index of the first entry of `group`.
    pub(crate) fn first(&self, group: GroupId) -> Option<u64> {
        self.spans.get(&group).map(|span| span.start)
    }

    /// Applies consecutive `batches` and flushes. `floors` are the first indexes behind purge points that are durable in
    /// the journal, in these batches or in later ones.
    pub(crate) fn settle(
        &mut self,
        batches: &[impl Settling],
        floors: &BTreeMap<GroupId, u64>,
    ) -> io::Result<()> {
        let Some(last) = batches.last() else { return Ok(()) };
        let number = last.number();
        let nets = self.sum(batches, floors)?;
        self.write(&nets, number)?;
        self.steps.at(Step::Applied);
        self.db.flush()?;
        self.position = number;
        self.steps.at(Step::Flushed);
        self.reopen_beyond(self.reopen_after)
    }

    /// Nobody writes: the database is opened anew for a part of what makes a busy one do so.
    pub(crate) fn give_memory_back(&mut self) -> io::Result<()> {
        self.reopen_beyond(self.reopen_after / REST_PART as u64)
    }

    fn reopen_beyond(&mut self, bytes: u64) -> io::Result<()> {
        if self.resident.values().sum::<u64>() >= bytes {
            self.resident.clear();
            self.db.reopen()?;
        }
        Ok(())
    }

    /// Opens the database anew whenever about so many bytes of live entries fill its memory.
    pub(crate) fn reopen_after(&mut self, bytes: usize) {
        self.reopen_after = bytes as u64;
    }

    fn sum<'a>(
        &mut self,
        batches: &'a [impl Settling],
        floors: &BTreeMap<GroupId, u64>,
    ) -> io::Result<BTreeMap<GroupId, Net<'a>>> {
        let mut nets: BTreeMap<GroupId, Net<'a>> = BTreeMap::new();
        for batch in batches {
            let Some(sealed) = batch.sealed() else {
                for (group, meta) in batch.metas() {
                    self.metas.insert(group, meta.clone());
                    nets.entry(group).or_default();
                }
                continue;
            };
            for record in Record::iter_trusted(sealed.body()) {
                let meta = self.metas.entry(record.group).or_default();
                meta.fold(&record)
                    .map_err(|why| io::Error::other(format!("group {}: {why}", record.group)))?;
                nets.entry(record.group).or_default().take(&record);
            }
        }
        for (group, net) in &mut nets {
            let floor = self.floors.entry(*group).or_default();
            *floor = floors.get(group).copied().unwrap_or(0).max(*floor);
            net.entries = net.entries.split_off(floor);
        }
        Ok(nets)
    }

    fn write(&mut self, nets: &BTreeMap<GroupId, Net<'_>>, number: u64) -> io::Result<()> {
        for (group, net) in nets {
            self.write_entries(*group, net)?;
        }
        let mut heads: Vec<(Vec<u8>, Vec<u8>)> = Vec::with_capacity(nets.len() + 1);
        for group in nets.keys() {
            let meta = self.metas.entry(*group).or_default();
            let floor = self.floors.get(group).copied().unwrap_or(0);
            heads.push((meta_key(*group), encode_meta(*group, meta, floor)));
        }
        heads.push((position_key(), encode_position(self.store, number)));
        self.db.apply(heads.iter().map(|(key, value)| (key.clone(), Some(value.as_slice()))))
    }

    fn count(&mut self, group: GroupId, span: &Range<u64>, purged: u64, net: &Net<'_>) {
        let resident = self.resident.entry(group).or_default();
        let (gone, all) = (purged.clamp(span.start, span.end) - span.start, (span.end - span.start).max(1));
        *resident -= (u128::from(*resident) * u128::from(gone) / u128::from(all)) as u64;
        let written = net.entries.values().map(|record| record.len() as u64).sum::<u64>();
        *resident += written;
        self.bytes.fetch_add(written, Ordering::Relaxed);
    }

    fn write_entries(&mut self, group: GroupId, net: &Net<'_>) -> io::Result<()> {
        let purged = index_after(self.metas.get(&group).and_then(|m| m.purged));
        let purged = self.floors.get(&group).copied().unwrap_or(0).max(purged);
        let span = self.spans.remove(&group).unwrap_or(0..0);
        // First what a truncation took away and nothing replaced, then what was purged, then what is new.
        let cut = net.cut.unwrap_or(span.end).clamp(span.start, span.end);
        let gone =
            (cut..span.end).filter(|i| !net.entries.contains_key(i)).map(|i| (entry_key(group, i), None));
        self.db.apply(gone)?;
        self.count(group, &span, purged, net);
        let kept = span.start.max(purged).min(cut)..cut;
        self.db.remove(group, span.start..kept.start.min(span.end))?;
        let mut slice: Vec<Change<'_>> = Vec::new();
        let mut bytes = 0;
        for (index, record) in &net.entries {
            bytes += record.len();
            slice.push((entry_key(group, *index), Some(record)));
            if bytes >= SLICE_BYTES {
                self.db.apply(slice.drain(..))?;
                bytes = 0;
            }
        }
        self.db.apply(slice.drain(..))?;
        let span = match (net.entries.keys().next(), net.entries.keys().next_back()) {
            (Some(first), Some(last)) if kept.is_empty() => *first..last + 1,
            (Some(_), Some(last)) => kept.start..last + 1,
            _ => kept,
        };
        if !span.is_empty() {
            self.spans.insert(group, span);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;

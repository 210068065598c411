//! Bringing sled's `log` up to a batch of the journal.
//!
//! Owns what the keeper knows of sled's content, and the sum of a run of batches: entries that were truncated or purged
//! meanwhile never reach sled at all. Used by the keeper every second and by the opening for the batches sled missed.
//! Must leave sled at exactly one batch: all changes, the metas and the position go into one flush.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::types::GroupId;

use super::fault::{Step, StepHook};
use super::journal::format::Sealed;
use super::log_db::{Change, LogDb, encode_position, entry_key, meta_key, position_key};
use super::meta::{Metas, index_after};
use super::record::{Kind, Record};

/// Bytes of values in one sled batch: it locks every leaf it touches, and readers wait meanwhile.
const SLICE_BYTES: usize = 4 << 20;

/// sled's side of the log.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) db: Arc<LogDb>,
    store: u64,
    pub(crate) position: u64,
    pub(crate) metas: Metas,
    spans: BTreeMap<GroupId, Range<u64>>,
    /// Bytes per group written since the database was opened and not purged again, about: sled holds them in memory.
    resident: BTreeMap<GroupId, u64>,
    reopen_after: u64,
    steps: StepHook,
}

/// What a run of batches comes to for one group.
#[derive(Debug, Default)]
struct Net<'a> {
    entries: BTreeMap<u64, &'a [u8]>,
    /// sled's entries from here on are no longer part of the log.
    cut: Option<u64>,
}

impl Settled {
    pub(crate) fn new(db: Arc<LogDb>, store: u64, loaded: super::log_db::Loaded, steps: StepHook) -> Self {
        let super::log_db::Loaded { position, metas, spans } = loaded;
        Self { db, store, position, metas, spans, resident: BTreeMap::new(), reopen_after: u64::MAX, steps }
    }

    /// Index of the first entry of `group`.
    pub(crate) fn first(&self, group: GroupId) -> Option<u64> {
        self.spans.get(&group).map(|span| span.start)
    }

    /// Applies consecutive `batches` and flushes.
    pub(crate) fn settle(&mut self, batches: &[impl AsRef<Sealed>]) -> io::Result<()> {
        let Some(last) = batches.last() else { return Ok(()) };
        let number = last.as_ref().head.number;
        let nets = self.sum(batches)?;
        self.write(&nets, number)?;
        self.steps.at(Step::Applied);
        self.db.flush()?;
        self.position = number;
        self.steps.at(Step::Flushed);
        if self.resident.values().sum::<u64>() >= self.reopen_after {
            self.resident.clear();
            self.db.reopen()?;
        }
        Ok(())
    }

    /// Opens the database anew whenever about so many bytes of live entries fill its memory.
    pub(crate) fn reopen_after(&mut self, bytes: usize) {
        self.reopen_after = bytes as u64;
    }

    fn sum<'a>(&mut self, batches: &'a [impl AsRef<Sealed>]) -> io::Result<BTreeMap<GroupId, Net<'a>>> {
        let mut nets: BTreeMap<GroupId, Net<'a>> = BTreeMap::new();
        for record in batches.iter().flat_map(|b| Record::iter_trusted(b.as_ref().body())) {
            let meta = self.metas.entry(record.group).or_default();
            meta.fold(&record).map_err(|why| io::Error::other(format!("group {}: {why}", record.group)))?;
            let net = nets.entry(record.group).or_default();
            match record.kind {
                Kind::Entry => {
                    let index = index_after(record.log_id()) - 1;
                    net.entries.insert(index, record.bytes);
                }
                Kind::Truncate => {
                    let from = index_after(record.log_id());
                    net.entries.split_off(&from);
                    net.cut = Some(net.cut.map_or(from, |cut| cut.min(from)));
                }
                Kind::Purge => net.entries = net.entries.split_off(&index_after(record.log_id())),
                Kind::Vote | Kind::Committed => {}
            }
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
            heads.push((meta_key(*group), meta.encode(*group).to_vec()));
        }
        heads.push((position_key(), encode_position(self.store, number)));
        self.db.apply(heads.iter().map(|(key, value)| (key.clone(), Some(value.as_slice()))))
    }

    fn count(&mut self, group: GroupId, span: &Range<u64>, purged: u64, net: &Net<'_>) {
        let resident = self.resident.entry(group).or_default();
        let (gone, all) = (purged.clamp(span.start, span.end) - span.start, (span.end - span.start).max(1));
        *resident -= (u128::from(*resident) * u128::from(gone) / u128::from(all)) as u64;
        *resident += net.entries.values().map(|record| record.len() as u64).sum::<u64>();
    }

    fn write_entries(&mut self, group: GroupId, net: &Net<'_>) -> io::Result<()> {
        let purged = index_after(self.metas.get(&group).and_then(|m| m.purged));
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

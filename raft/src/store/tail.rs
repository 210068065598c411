//! The part of a group's log that is in memory, and the front every caller sees.
//!
//! Owns, per group: the meta as of the last call (ahead of the disk), and the newest entries. What sled does not hold
//! yet is pinned here; what it holds stays as a cache until [`Group::evict`]. Reads begin here and go to sled only for
//! indexes below `first_held`. Must never drop an entry that is not settled in sled: it would be unreadable.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::types::{Entry, GroupId, LogId, Vote};

use super::meta::{GroupMeta, index_after};
use super::record::entry_size;

/// Bytes of entries appended to the store since it was opened, all groups together.
pub(crate) type Meter = Arc<AtomicU64>;

/// One group's front. Shared by the group's log, its readers, the writer and the keeper.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    front: Mutex<Front>,
    meter: Meter,
}

#[derive(Debug)]
struct Front {
    meta: GroupMeta,
    /// Index of the first entry, if there is one: a log may begin anywhere behind its purge point.
    first: u64,
    held: VecDeque<Held>,
    bytes: usize,
    /// Counts the operations of this group; orders entries against what the keeper has settled.
    ops: u64,
    /// Moves whenever entries that a reader may be fetching from sled stop being part of the log.
    cuts: u64,
    committed_noted: bool,
    /// The meter when the newest entry was appended of those that memory let go; 0 for those of an earlier start.
    let_go_at: u64,
}

#[derive(Debug)]
struct Held {
    entry: Entry,
    bytes: usize,
    op: u64,
    /// The store's meter when it was appended.
    at: u64,
}

/// The part of a read that memory answered, and what is left for sled.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// Still to be read from sled; these come before `entries`.
    pub(crate) below: Range<u64>,
    pub(crate) entries: Vec<Entry>,
    /// Compare with [`Group::cuts`] after reading `below`.
    pub(crate) cuts: u64,
}

impl Group {
    /// `first` is the index of the first entry in sled, if there is one.
    pub(crate) fn new(id: GroupId, meta: GroupMeta, first: Option<u64>, meter: Meter) -> Self {
        let first = first.unwrap_or_else(|| index_after(meta.last));
        let front = Front {
            meta,
            first,
            held: VecDeque::new(),
            bytes: 0,
            ops: 0,
            cuts: 0,
            committed_noted: true,
            let_go_at: 0,
        };
        Self { id, front: Mutex::new(front), meter }
    }

    /// A front whose entries are all in memory.
    pub(crate) fn holding(id: GroupId, meta: GroupMeta, entries: Vec<Entry>, meter: Meter) -> Self {
        let group = Self::new(id, meta, entries.first().map(|e| e.log_id.index), meter);
        {
            let mut front = group.front.lock();
            for entry in entries {
                let bytes = entry_size(&entry);
                front.bytes += bytes;
                front.held.push_back(Held { entry, bytes, op: 0, at: 0 });
            }
        }
        group
    }

    pub(crate) fn meta(&self) -> GroupMeta {
        self.front.lock().meta.clone()
    }

    /// Takes entries in; they are readable when this returns. The number orders them for [`Self::evict`].
    pub(crate) fn append(&self, entries: &[Entry]) -> Result<u64, String> {
        let mut front = self.front.lock();
        let mut last = front.meta.last;
        for entry in entries {
            if last.is_some_and(|l| l.index + 1 != entry.log_id.index) {
                return Err(format!("group {}: {} does not follow {last:?}", self.id, entry.log_id));
            }
            last = Some(entry.log_id);
        }
        if let (true, Some(first)) = (front.is_empty(), entries.first()) {
            front.first = first.log_id.index;
        }
        front.meta.last = last;
        front.ops += 1;
        let op = front.ops;
        for entry in entries {
            let bytes = entry_size(entry);
            front.bytes += bytes;
            let at = self.meter.fetch_add(bytes as u64, Ordering::Relaxed);
            front.held.push_back(Held { entry: entry.clone(), bytes, op, at });
        }
        Ok(op)
    }

    pub(crate) fn vote(&self, vote: Vote) -> u64 {
        let mut front = self.front.lock();
        front.meta.vote = Some(vote);
        front.next_op()
    }

    pub(crate) fn truncate(&self, after: Option<LogId>) -> u64 {
        let mut front = self.front.lock();
        front.meta.truncate(after);
        front.cuts += 1;
        while front.held.back().is_some_and(|h| h.entry.log_id.index >= index_after(after)) {
            let gone = front.held.pop_back().map_or(0, |h| h.bytes);
            front.bytes -= gone;
        }
        front.next_op()
    }

    pub(crate) fn purge(&self, upto: LogId) -> u64 {
        let mut front = self.front.lock();
        front.meta.purge(upto);
        front.cuts += 1;
        while front.held.front().is_some_and(|h| h.entry.log_id.index <= upto.index) {
            front.pop_oldest();
        }
        front.next_op()
    }

    /// Remembers the commit point; it travels with the next batch.
    pub(crate) fn note_committed(&self, committed: Option<LogId>) {
        let mut front = self.front.lock();
        if front.meta.committed != committed {
            front.meta.committed = committed;
            front.committed_noted = false;
        }
    }

    /// The commit point if no operation carries it yet; the caller is about to submit one.
    pub(crate) fn take_committed(&self) -> Option<LogId> {
        let mut front = self.front.lock();
        if std::mem::replace(&mut front.committed_noted, true) { None } else { front.meta.committed }
    }

    /// Whether a commit point waits for a batch.
    pub(crate) fn committed_waits(&self) -> bool {
        !self.front.lock().committed_noted
    }

    /// The entries of `range`, at least one if there is one, at most about `max_bytes`.
    pub(crate) fn fetch(&self, range: Range<u64>, max_bytes: usize) -> Fetched {
        let front = self.front.lock();
        let start = range.start.max(index_after(front.meta.purged)).max(front.first);
        let end = range.end.min(index_after(front.meta.last));
        let mut out = Fetched { below: 0..0, entries: Vec::new(), cuts: front.cuts };
        if start >= end {
            return out;
        }
        let first_held = front.held.front().map_or(end, |h| h.entry.log_id.index);
        if start < first_held {
            out.below = start..end.min(first_held);
            // A bounded read takes what sled has and comes again for the rest.
            if max_bytes != usize::MAX {
                return out;
            }
        }
        let skip = usize::try_from(start.saturating_sub(first_held)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        for held in front.held.iter().skip(skip).take_while(|h| h.entry.log_id.index < end) {
            if bytes > 0 && bytes + held.bytes > max_bytes {
                break;
            }
            bytes += held.bytes;
            out.entries.push(held.entry.clone());
        }
        out
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.front.lock().cuts
    }

    /// The last entry behind which there are so many bytes of this group's (`own`) and so many of all groups' (`all`)
    /// entries: those after it are worth keeping for followers that lag. None when everything is.
    pub(crate) fn beyond(&self, own: usize, all: u64) -> Option<u64> {
        let front = self.front.lock();
        let now = self.meter.load(Ordering::Relaxed);
        let mut behind = 0;
        for held in front.held.iter().rev() {
            if behind >= own && held.at.saturating_add(all) <= now {
                return Some(held.entry.log_id.index);
            }
            behind += held.bytes;
        }
        // What memory has let go is older than all that, or was let go at rest: then so much has to have come since.
        let last = front.held.front().map_or_else(|| front.meta.last, |held| Some(held.entry.log_id))?;
        let gone = if front.held.is_empty() { last.index } else { last.index.saturating_sub(1) };
        let since = front.let_go_at.saturating_add(all) <= now;
        (gone >= front.first && (since || (behind >= own && now >= all))).then_some(gone)
    }

    /// Bytes held in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.front.lock().bytes
    }

    /// Gives up at least `wanted` bytes of the oldest entries if so many are settled: appended no later than operation
    /// `settled`. Returns what it gave up.
    pub(crate) fn evict(&self, wanted: usize, settled: u64) -> usize {
        let mut front = self.front.lock();
        let before = front.bytes;
        while before - front.bytes < wanted && front.held.front().is_some_and(|h| h.op <= settled) {
            front.pop_oldest();
        }
        if front.held.is_empty() {
            front.held.shrink_to_fit();
        }
        before - front.bytes
    }
}

impl Front {
    fn is_empty(&self) -> bool {
        index_after(self.meta.last) == index_after(self.meta.purged)
    }

    fn next_op(&mut self) -> u64 {
        self.ops += 1;
        self.ops
    }

    fn pop_oldest(&mut self) {
        if let Some(gone) = self.held.pop_front() {
            self.bytes -= gone.bytes;
            self.let_go_at = gone.at;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{EntryPayload, LeaderId, Payload, RaftId};

    fn entry(index: u64, bytes: usize) -> Entry {
        let leader_id = LeaderId { term: 1, node_id: RaftId::new(1, 1) };
        let payload = EntryPayload::Normal(Payload(Bytes::from(vec![0; bytes])));
        Entry { log_id: LogId { leader_id, index }, payload }
    }

    #[test]
    fn what_was_let_go_at_rest_counts_as_old_once_enough_came_since() {
        let meter = Meter::default();
        let quiet = Group::new(1, GroupMeta::default(), None, meter.clone());
        let other = Group::new(2, GroupMeta::default(), None, meter);
        let op = quiet.append(&[entry(1, 100), entry(2, 100)]).unwrap();
        assert!(quiet.evict(usize::MAX, op) > 0 && quiet.bytes() == 0);
        assert_eq!(quiet.beyond(1 << 20, 10_000), None, "nothing came since");
        other.append(&[entry(1, 10_000)]).unwrap();
        assert_eq!(quiet.beyond(1 << 20, 10_000), Some(2));
        quiet.append(&[entry(3, 100)]).unwrap();
        assert_eq!(quiet.beyond(1 << 20, 10_000), Some(2), "the newest is kept");
    }
}

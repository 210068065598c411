//! One group's log as openraft sees it.
//!
//! Owns no data: the front of the group is in `tail`, the disk behind `log` or `memory`. An append returns once its
//! entries can be read and is reported flushed from the writer's thread; votes, truncations and purges are awaited.
//! Must never change the front before there is room in the queue: what was refused has not happened.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::types::{Entry, LogId, TypeConfig, Vote};

use super::error::StoreError;
use super::log::DiskLog;
use super::memory::MemoryStore;
use super::queue::{Done, Op, Work};
use super::record::entry_size;
use super::tail::Group;

/// Bytes of entries that one bounded read returns, about: what one AppendEntries carries.
const READ_BYTES: usize = 1 << 20;
/// A read that finds the log changed under it begins again, so often at most.
const READ_TRIES: usize = 100;
/// Room asked for an operation that is not an append.
const SMALL: usize = 256;
/// How long a vote, truncation or purge may take to become durable before the group is told that the disk stands still.
const DURABLE_DEADLINE: Duration = Duration::from_secs(60);

/// The log of one group. Every writing call of a group goes through one value of this type, one at a time.
#[derive(Debug, Clone)]
pub(crate) struct GroupLog {
    group: Arc<Group>,
    home: Home,
}

#[derive(Debug, Clone)]
pub(crate) enum Home {
    Disk(Arc<DiskLog>),
    Memory(Arc<MemoryStore>),
}

impl GroupLog {
    pub(crate) fn new(group: Arc<Group>, home: Home) -> Self {
        Self { group, home }
    }

    async fn room(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, StoreError> {
        match &self.home {
            Home::Disk(log) => log.queue.room(bytes).await.map(Some),
            Home::Memory(_) => Ok(None),
        }
    }

    fn submit(&self, op: Op) -> Result<(), StoreError> {
        match &self.home {
            Home::Disk(log) => log.submit(op),
            Home::Memory(store) => store.submit(op),
        }
    }

    /// Changes the front by `change`, submits `work`, and waits until it is durable.
    async fn durably(&self, work: Work, change: impl FnOnce(&Group) -> u64) -> io::Result<()> {
        let room = self.room(SMALL).await?;
        let (reply, durable) = oneshot::channel();
        let number = change(&self.group);
        let (group, committed) = (self.group.clone(), self.group.take_committed());
        self.submit(Op { group, work, committed, number, done: Done::Reply(reply), _room: room })?;
        match tokio::time::timeout(DURABLE_DEADLINE, durable).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_stopped)) => Err(StoreError::Closed.into()),
            Err(_late) => Err(StoreError::Busy("the journal").into()),
        }
    }

    /// Up to where the log may be purged and still hold the last `all` bytes that the store's groups have appended, and
    /// of this group's `own` bytes at least. None for nothing.
    pub(crate) fn beyond(&self, own: usize, all: u64) -> Option<u64> {
        self.group.beyond(own, all)
    }

    /// The commit point as it was noted.
    pub(crate) fn noted(&self) -> Option<LogId> {
        self.group.meta().committed
    }

    /// Waits until everything that was purged has left the database too.
    pub(crate) async fn settle_all(&self) -> Result<(), StoreError> {
        match &self.home {
            Home::Disk(log) => log.settle_all().await,
            Home::Memory(_) => Ok(()),
        }
    }

    /// All of `range` that the log has (`max_bytes` of usize::MAX), or the first of it.
    async fn fetch(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
        for _ in 0..READ_TRIES {
            let fetched = self.group.fetch(range.clone(), max_bytes);
            if fetched.below.is_empty() {
                return Ok(fetched.entries);
            }
            let Home::Disk(log) = &self.home else {
                return Err(io::Error::other("a log in memory is always in memory"));
            };
            let wanted = fetched.below.clone();
            let read = log.read(self.group.id, wanted.clone(), max_bytes).await?;
            if self.group.cuts() != fetched.cuts {
                // A purge or truncation took entries from under the read.
                continue;
            }
            let mut entries = read.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
            let whole = entries.len() as u64 == wanted.end - wanted.start;
            if entries.is_empty() || (!whole && max_bytes == usize::MAX) {
                let why = format!("group {}: entries {wanted:?} are missing in sled", self.group.id);
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            entries.extend(fetched.entries);
            return Ok(entries);
        }
        Err(StoreError::Busy("a read of a log that changes all the time").into())
    }
}

/// `range` as a half-open one.
fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(at) => *at,
        Bound::Excluded(at) => at.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(at) => at.saturating_add(1),
        Bound::Excluded(at) => *at,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for GroupLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + openraft::OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.fetch(half_open(&range), usize::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.group.meta().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.fetch(start..end, READ_BYTES).await
    }

    /// In pieces, so that applying a long log after a restart holds a bounded part of it in memory.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + openraft::OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + openraft::OptionalSend,
    {
        let (log, range) = (self.clone(), half_open(&range));
        let pieces = futures::stream::try_unfold((log, range), |(log, range)| async move {
            let entries = log.fetch(range.clone(), READ_BYTES).await?;
            let Some(last) = entries.last() else { return Ok::<_, io::Error>(None) };
            let rest = last.log_id.index + 1..range.end;
            Ok(Some((futures::stream::iter(entries.into_iter().map(Ok)), (log, rest))))
        });
        Box::pin(futures::TryStreamExt::try_flatten(pieces))
    }
}

impl RaftLogStorage<TypeConfig> for GroupLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let meta = self.group.meta();
        Ok(LogState { last_purged_log_id: meta.purged, last_log_id: meta.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.durably(Work::Vote(*vote), |group| group.vote(*vote)).await
    }

    /// Not synced for its own sake: it travels with the next batch, at the latest with one that the keeper asks for.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.group.note_committed(committed);
        Ok(())
    }

    /// Never beyond the last entry: openraft reads up to it at a start. A folder of an older build may have a note that became
    /// durable before the entries it covers; what there is of these is committed.
    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let meta = self.group.meta();
        Ok(meta.committed.min(meta.last))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + openraft::OptionalSend,
        I::IntoIter: openraft::OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let sizes = entries.iter().map(entry_size);
        if let (Home::Disk(log), Some(bytes)) = (&self.home, sizes.clone().max())
            && bytes > log.entry_max
        {
            return Err(StoreError::TooLarge { what: "a log entry", bytes, max: log.entry_max }.into());
        }
        let room = self.room(sizes.sum()).await?;
        #[cfg(feature = "planted-bugs")]
        crate::plant::appended(self.group.id, &shown(&entries));
        let number =
            self.group.append(&entries).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        let (group, committed) = (self.group.clone(), self.group.take_committed());
        let (work, done) = (Work::Append(entries), Done::Flushed(callback));
        Ok(self.submit(Op { group, work, committed, number, done, _room: room })?)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.durably(Work::Truncate(last_log_id), |group| group.truncate(last_log_id)).await
    }

    /// Beyond the last entry too (R5): a checkpoint may be ahead of the log after a crash.
    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.durably(Work::Purge(log_id), |group| group.purge(log_id)).await
    }
}

/// Entries in plain terms, for a planted bug that looks at them too early.
#[cfg(feature = "planted-bugs")]
fn shown(entries: &[Entry]) -> Vec<(u64, bytes::Bytes)> {
    let plain = entries.iter().filter_map(|entry| match &entry.payload {
        crate::types::EntryPayload::Normal(crate::types::Payload(bytes)) => {
            Some((entry.log_id.index, bytes.clone()))
        }
        _ => None,
    });
    plain.collect()
}

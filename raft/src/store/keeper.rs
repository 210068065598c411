//! The keeper thread: sled's `log` follows the journal.
//!
//! When the backlog has grown enough it settles the older part of it in sled with one flush, gives the segments behind
//! it free, and lets memory go. What was purged meanwhile never reaches sled: under load that is nearly everything. Once nothing is
//! written any more, what is left follows, and memory holds no entry: who lags still reads them from sled. Owns the only writing handle of `log`. Must never
//! free a segment before the flush that covers it, and after a failed flush it forgets its handle undropped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::types::GroupId;

use super::backlog::{Backlog, Taken};
use super::fault::{FaultPolicy, Step, StepHook};
use super::journal::segments::Segments;
use super::queue::{Done, Op, Queue, Work};
use super::settle::Settled;
use super::tail::Group;

/// All groups of the store, by id.
pub(crate) type Groups = Mutex<BTreeMap<GroupId, Arc<Group>>>;

/// The keeper's state, moved onto its thread.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) settled: Settled,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) pause: Duration,
    pub(crate) cache_bytes: usize,
    pub(crate) free_disk: Arc<AtomicU64>,
    pub(crate) dir: PathBuf,
    pub(crate) policy: FaultPolicy,
    pub(crate) steps: StepHook,
    /// Last operation of each group that sled holds.
    pub(crate) covered: BTreeMap<GroupId, u64>,
    /// When commit points were carried last.
    pub(crate) last_noted: Instant,
}

impl Keeper {
    /// Runs until the backlog is closed and empty, or a fault.
    pub(crate) fn run(mut self) {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work()));
        let reason = match ended {
            Ok(Ok(())) => {
                self.segments.stop();
                // Everything is flushed; dropping flushes nothing more. After an abandon there may be more in sled's
                // memory than the journal vouches for, so then the handle is forgotten.
                if !self.backlog.is_abandoned() {
                    self.settled.db.close();
                }
                return;
            }
            Ok(Err(e)) => format!("flushing the log database failed: {e}"),
            Err(_panic) => "the keeper of the log database panicked".to_owned(),
        };
        self.policy.fault(&reason);
        self.queue.abandon();
        self.backlog.abandon();
        self.segments.stop();
    }

    fn work(&mut self) -> std::io::Result<()> {
        let segments = self.segments.clone();
        while let Some(Taken { batches, floors, waiting, at_rest }) =
            self.backlog.take(self.pause, || segments.is_pressed())
        {
            if self.last_noted.elapsed() >= self.pause {
                self.carry_commit_notes();
                self.last_noted = Instant::now();
            }
            if !batches.is_empty() {
                self.settled.settle(&batches, &floors)?;
                self.segments.recycle(self.settled.position);
                self.steps.at(Step::Recycled);
                for (group, op) in batches.iter().flat_map(|b| &b.ended) {
                    let covered = self.covered.entry(group.id).or_default();
                    *covered = (*op).max(*covered);
                }
            }
            drop(batches);
            // Nobody may be left who waits.
            for settled in waiting {
                let _ = settled.send(());
            }
            self.backlog.settled();
            self.segments.grow();
            self.evict(if at_rest { 0 } else { self.cache_bytes });
            if at_rest {
                self.settled.give_memory_back()?;
            }
            self.free_disk.store(free_disk(&self.dir), Ordering::Relaxed);
        }
        Ok(())
    }

    /// A quiet store writes its commit points once, so that a restart need not wait for the leader to learn them.
    fn carry_commit_notes(&self) {
        let waiting: Vec<_> = self.groups.lock().values().filter(|g| g.committed_waits()).cloned().collect();
        for group in waiting {
            // Number 0: covers no entry.
            let committed = group.take_committed();
            let op = Op { group, work: Work::Note, committed, number: 0, done: Done::Nobody, _room: None };
            drop(self.queue.push(op));
        }
    }

    /// Brings the cached entries of all groups to so many bytes, taking from the largest first.
    fn evict(&self, most: usize) {
        let groups: Vec<_> = self.groups.lock().values().cloned().collect();
        let mut held: Vec<_> = groups.iter().map(|g| (g.bytes(), g)).collect();
        let total: usize = held.iter().map(|(bytes, _)| bytes).sum();
        let mut excess = total.saturating_sub(most);
        held.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for (_, group) in held {
            if excess == 0 {
                break;
            }
            let settled = self.covered.get(&group.id).copied().unwrap_or(0);
            excess = excess.saturating_sub(group.evict(excess, settled));
        }
    }
}

/// Bytes free for us on the folder's file system; everything when it cannot be told.
pub(crate) fn free_disk(dir: &std::path::Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::probe::LogProbe;
    use crate::store::{Inner, Store, StoreOptions};

    const GROUP: u32 = 1;
    /// For what must happen.
    const LIMIT: Duration = Duration::from_secs(60);

    /// Waits until neither memory nor the backlog has anything of the log.
    async fn let_go(store: &Store) {
        let Inner::Disk(disk) = &*store.0 else { panic!("a store on disk") };
        let until = Instant::now() + LIMIT;
        while disk.log.cached() > 0 || disk.log.pending() > 0 {
            assert!(Instant::now() < until, "memory still holds the log");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_store_at_rest_holds_no_log_in_memory() {
        let temp = tempfile::tempdir().unwrap();
        let mut options = StoreOptions::new(temp.path());
        options.keeper_pause = Duration::from_millis(10);
        options.rest = Duration::from_millis(200);
        // Opened anew after 16 MiB, or after 1 when it is at rest.
        options.sled_cache_bytes = 4 << 20;
        let store = Store::open(options.clone()).unwrap();
        let mut log = LogProbe::open(&store, GROUP).unwrap();
        let content: Vec<_> = (0..40u8).map(|number| Bytes::from(vec![number; 100 << 10])).collect();
        log.append(1, 1, content).await.unwrap().await.unwrap();
        let_go(&store).await;
        // What it has let go of is still the log, and goes on.
        log.append(1, 41, vec![Bytes::from_static(b"after the rest")]).await.unwrap().await.unwrap();
        let whole = log.read(1, 42).await.unwrap();
        assert_eq!(whole.len(), 41);
        let expected = |index: u64| Some(Bytes::from(vec![index as u8 - 1; 100 << 10]));
        assert!(whole.iter().take(40).all(|(_, index, content)| *content == expected(*index)));
        let_go(&store).await;
        log.purge((1, 30)).await.unwrap();
        drop(log);
        store.close().await;
        let store = Store::open(options).unwrap();
        let mut log = LogProbe::open(&store, GROUP).unwrap();
        let left: Vec<u64> = log.read(31, 42).await.unwrap().iter().map(|entry| entry.1).collect();
        assert_eq!(left, (31..=41).collect::<Vec<_>>());
        drop(log);
        store.close().await;
    }
}

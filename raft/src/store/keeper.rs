//! The keeper thread: sled's `log` follows the journal.
//!
//! When the backlog has grown enough it settles the older part of it in sled with one flush, gives the segments behind
//! it free, and lets memory go. What was purged meanwhile never reaches sled: under load that is nearly everything. Owns the only writing handle of `log`. Must never
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
        while let Some(Taken { batches, floors, waiting }) =
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
            self.evict();
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

    /// Brings the cached entries of all groups below the bound, taking from the largest first.
    fn evict(&self) {
        let groups: Vec<_> = self.groups.lock().values().cloned().collect();
        let mut held: Vec<_> = groups.iter().map(|g| (g.bytes(), g)).collect();
        let total: usize = held.iter().map(|(bytes, _)| bytes).sum();
        let mut excess = total.saturating_sub(self.cache_bytes);
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

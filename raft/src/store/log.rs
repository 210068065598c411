//! The log of a store on disk: opening it, its threads, and the ways to them.
//!
//! Owns the journal's writer, the keeper of sled's `log`, and the fronts of all groups. Opening compares everything
//! (R1), brings sled up to the journal, and begins a new segment, so that a torn tail is never written over. Must never
//! open a log that disagrees with itself.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::Mutex;

use crate::types::{Entry, GroupId};

use super::StoreOptions;
use super::backlog::Backlog;
use super::error::StoreError;
use super::folder::Folder;
use super::journal::format::{Draft, GROUPS_MAX};
use super::journal::recover::{Found, recover};
use super::journal::segments::{Fill, Segment, Segments, list};
use super::journal::{Journal, JournalStop, Place};
use super::keeper::{Groups, Keeper, free_disk};
use super::log_db::{Loaded, LogDb};
use super::meta::{GroupMeta, Metas, index_after};
use super::queue::{Op, Queue};
use super::read_pool::{ReadPool, Whose, panic_text};
use super::settle::Settled;
use super::tail::{Group, Meter};
use super::watchdog::Watchdog;
use super::writer::Writer;

/// Segments made with the folder; more are made as they are needed.
const FIRST_SEGMENTS: u32 = 2;
/// Bytes of durable batches that may wait for sled in memory.
const BACKLOG_MOST: u64 = 256 << 20;

/// The log's side of a store on disk.
#[derive(Debug)]
pub(crate) struct DiskLog {
    pub(crate) queue: Arc<Queue>,
    pub(crate) entry_max: usize,
    backlog: Arc<Backlog>,
    segments: Arc<Segments>,
    groups: Arc<Groups>,
    meter: Meter,
    db: Arc<LogDb>,
    pool: Arc<ReadPool>,
    free_disk: Arc<AtomicU64>,
    settled_bytes: Arc<AtomicU64>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl DiskLog {
    pub(crate) fn open(
        folder: &Arc<Folder>,
        options: &StoreOptions,
        pool: Arc<ReadPool>,
    ) -> Result<Self, StoreError> {
        let damaged = |what| StoreError::LogDamaged { dir: folder.dir.clone(), what };
        let what = format!("opening the log in {}", folder.dir.display());
        let dog = Watchdog::start(what, options.fault.clone(), options.watchdog)
            .map_err(|e| StoreError::io("cannot start the watchdog", e))?;
        let segments = journal_files(folder, options)?;
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| open_sled(folder, options, &dog)));
        let (db, loaded) = match opened {
            Ok(opened) => opened?,
            Err(panic) => return Err(damaged(format!("sled panicked: {}", panic_text(panic)))),
        };
        let beat = || dog.beat();
        let found = if folder.created {
            let place = Place { store: folder.store_id, generation: 0, next: 1, link: 0 };
            let segments = segments.into_iter().map(Arc::new).collect();
            Found { missed: Vec::new(), metas: Metas::new(), place, segments }
        } else {
            recover(segments, folder.store_id, loaded.position, &loaded.metas, &beat)
                .inspect_err(|_| db.close())
                .map_err(damaged)?
        };
        let floors =
            purge_floors(&loaded.floors, &found.metas).inspect_err(|_| db.close()).map_err(damaged)?;
        let mut settled = Settled::new(db.clone(), folder.store_id, loaded, options.steps.clone());
        settled
            .settle(&found.missed, &floors)
            .map_err(|e| StoreError::io("cannot bring the log database up to the journal", e))?;
        beat();
        drop(dog);
        Self::start(folder, options, pool, db, settled, found)
    }

    fn start(
        folder: &Arc<Folder>,
        options: &StoreOptions,
        pool: Arc<ReadPool>,
        db: Arc<LogDb>,
        mut settled: Settled,
        found: Found,
    ) -> Result<Self, StoreError> {
        settled.reopen_after(super::reopen_after(options));
        let most = options.journal_segments.max(found.segments.len());
        let dir = folder.path("journal");
        let segments = Arc::new(Segments::new(dir, options.journal_segment_bytes, most, found.segments));
        let journal = Journal::start(segments.clone(), found.place, &found.metas, options.steps.clone());
        let journal = journal.map_err(|stop| match stop {
            JournalStop::Failed(e) => StoreError::io("cannot write the journal", e),
            JournalStop::Stopped => StoreError::Closed,
        })?;
        let meter = Meter::default();
        let group = |(id, meta): (&GroupId, &GroupMeta)| {
            (*id, Arc::new(Group::new(*id, meta.clone(), settled.first(*id), meter.clone())))
        };
        let groups = found.metas.iter().map(group);
        let groups: Arc<Groups> = Arc::new(Mutex::new(groups.collect()));
        let queue = Arc::new(Queue::new());
        let room = options.journal_segment_bytes * most as u64 / 2;
        let room = usize::try_from(room.min(BACKLOG_MOST)).unwrap_or(usize::MAX);
        let backlog = Arc::new(Backlog::new(room, options.settle_lag_bytes, options.rest));
        let entry_max = Journal::body_max(options.journal_segment_bytes);
        let free = Arc::new(AtomicU64::new(free_disk(&folder.dir)));
        let writer = Writer {
            queue: queue.clone(),
            journal,
            backlog: backlog.clone(),
            body_max: entry_max,
            durable: found.metas,
            policy: options.fault.clone(),
            steps: options.steps.clone(),
            draft: Draft::new(0),
            running: Metas::new(),
            dones: Vec::new(),
            touched: BTreeMap::new(),
            truncates: false,
        };
        let settled_bytes = settled.bytes.clone();
        let keeper = Keeper {
            settled,
            backlog: backlog.clone(),
            queue: queue.clone(),
            segments: segments.clone(),
            groups: groups.clone(),
            pause: options.keeper_pause,
            cache_bytes: options.entry_cache_bytes,
            free_disk: free.clone(),
            dir: folder.dir.clone(),
            policy: options.fault.clone(),
            steps: options.steps.clone(),
            covered: BTreeMap::new(),
            last_noted: Instant::now(),
        };
        let threads = vec![
            spawn("rookery-journal", folder, move || writer.run())?,
            spawn("rookery-keeper", folder, move || keeper.run())?,
        ];
        Ok(Self {
            queue,
            entry_max,
            backlog,
            segments,
            groups,
            meter,
            db,
            pool,
            free_disk: free,
            settled_bytes,
            threads: Mutex::new(threads),
        })
    }

    /// The front of group `id`.
    pub(crate) fn group(&self, id: GroupId) -> Result<Arc<Group>, StoreError> {
        let mut groups = self.groups.lock();
        if !groups.contains_key(&id) && groups.len() >= GROUPS_MAX {
            return Err(StoreError::TooLarge {
                what: "the list of groups",
                bytes: groups.len() + 1,
                max: GROUPS_MAX,
            });
        }
        let new = || Arc::new(Group::new(id, GroupMeta::default(), None, self.meter.clone()));
        Ok(groups.entry(id).or_insert_with(new).clone())
    }

    pub(crate) fn submit(&self, op: Op) -> Result<(), StoreError> {
        self.queue.push(op).map_err(|_given_back| StoreError::Closed)
    }

    /// Entries that are no longer in memory.
    pub(crate) async fn read(
        &self,
        group: GroupId,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Result<Vec<Entry>, String>, StoreError> {
        let db = self.db.clone();
        let read = self.pool.run(Whose::Own, move || db.read(group, range, max_bytes)).await?;
        Ok(read.unwrap_or_else(|panic| Err(format!("sled panicked: {panic}"))))
    }

    /// Waits until sled's `log` says what the journal says now: what was purged is then in no live record.
    pub(crate) async fn settle_all(&self) -> Result<(), StoreError> {
        self.backlog.settle_all().await.map_err(|_stopped| StoreError::Closed)
    }

    pub(crate) fn fill_level(&self) -> Fill {
        self.segments.fill_level()
    }

    /// Whether the journal, the backlog behind it or the queue before it is three quarters full.
    pub(crate) fn nearly_full(&self) -> bool {
        let Fill { used, total } = self.fill_level();
        used >= total / 4 * 3 || self.backlog.nearly_full() || self.queue.nearly_full()
    }

    /// Bytes on their way: waiting for the journal, and behind it for sled.
    pub(crate) fn pending(&self) -> u64 {
        self.queue.waiting_bytes() + self.backlog.bytes()
    }

    pub(crate) fn free_disk(&self) -> u64 {
        self.free_disk.load(Ordering::Relaxed)
    }

    /// Bytes of entries written into sled since the store was opened.
    pub(crate) fn settled_bytes(&self) -> u64 {
        self.settled_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of entries in memory.
    pub(crate) fn cached(&self) -> usize {
        self.groups.lock().values().map(|g| g.bytes()).sum()
    }

    /// Does and flushes what waits, then ends the threads. Blocks.
    pub(crate) fn stop(&self) {
        self.queue.close();
        self.backlog.hurry();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
    }
}

fn spawn(
    name: &str,
    folder: &Arc<Folder>,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StoreError> {
    // The folder stays locked until the last thread that writes below it has ended.
    let folder = folder.clone();
    let run = move || {
        run();
        drop(folder);
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|e| StoreError::io(format!("cannot start the thread {name}"), e))
}

/// The journal's files; made with the folder, never made up later.
fn journal_files(folder: &Folder, options: &StoreOptions) -> Result<Vec<Segment>, StoreError> {
    let dir = folder.path("journal");
    if !folder.created {
        for part in ["journal", "log"] {
            if !folder.path(part).is_dir() {
                let what = format!("`{part}` is missing");
                return Err(StoreError::LogDamaged { dir: folder.dir.clone(), what });
            }
        }
        return list(&dir);
    }
    std::fs::create_dir_all(&dir).map_err(|e| StoreError::io(format!("cannot make {}", dir.display()), e))?;
    (1..=FIRST_SEGMENTS).map(|id| Segment::create(&dir, id, options.journal_segment_bytes)).collect()
}

/// The first index behind each group's purge point; an error if sled left out entries that the journal does not purge.
pub(super) fn purge_floors(
    left_out: &BTreeMap<GroupId, u64>,
    metas: &Metas,
) -> Result<BTreeMap<GroupId, u64>, String> {
    let floors: BTreeMap<_, _> = metas.iter().map(|(id, meta)| (*id, index_after(meta.purged))).collect();
    match left_out.iter().find(|(group, floor)| **floor > floors.get(group).copied().unwrap_or(0)) {
        None => Ok(floors),
        Some((group, floor)) => Err(format!(
            "group {group}: sled has no entries before {floor}, and the journal does not say that they are purged"
        )),
    }
}

fn open_sled(
    folder: &Folder,
    options: &StoreOptions,
    dog: &Watchdog,
) -> Result<(Arc<LogDb>, Loaded), StoreError> {
    let damaged = |what| StoreError::LogDamaged { dir: folder.dir.clone(), what };
    let path: &Path = &folder.path("log");
    let db = LogDb::open(path, options.sled_cache_bytes)
        .map_err(|e| damaged(format!("sled cannot open `log`: {e}")))?;
    dog.beat();
    let loaded = db.load(folder.store_id, &|| dog.beat()).inspect_err(|_| db.close()).map_err(damaged)?;
    Ok((Arc::new(db), loaded))
}

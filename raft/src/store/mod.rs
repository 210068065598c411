//! The node's store: what every acknowledgement and every restart rests on.
//!
//! In the order in which an entry meets them: [`group_log`] is what openraft calls, [`tail`] keeps the newest entries
//! readable, [`queue`] carries operations to the [`writer`], which puts one batch for all groups into the [`journal`]
//! and syncs it once; [`backlog`] keeps the durable batch for the [`keeper`], which [`settle`]s in sled ([`log_db`])
//! what is left of it when newer ones have pushed it out, and then lets the journal's segment go round. Maps take another way: [`map`], [`state`],
//! [`state_writer`], [`state_db`]. [`memory`] is all of it without disk and threads, for simulation.
//!
//! ```text
//! openraft ── append ──▶ queue ──▶ writer ──▶ journal (fdatasync) ──▶ told
//!                                     └─▶ backlog ──▶ keeper ──▶ sled `log` (what is not purged yet) ──▶ segment free again
//! src/ ────── apply ───▶ queue ──▶ state writer ──▶ sled `state` (flush on sync)
//! ```
//!
//! Rules held here: R1 (recovery tells a torn tail from damage), R2 (sled never holds what the journal does not; a
//! failed write, fsync or flush ends the process), R3 (one writing thread per database), G12 (every byte read back is
//! behind a checksum). Must never know what the bytes mean.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::types::GroupId;

mod backlog;
mod error;
mod fault;
mod folder;
mod group_log;
mod journal;
mod keeper;
mod log;
mod log_db;
mod map;
mod memory;
mod meta;
#[doc(hidden)]
pub mod probe;
mod queue;
mod read_pool;
mod record;
mod settle;
mod sled_open;
mod state;
mod state_db;
mod state_writer;
mod tail;
#[cfg(test)]
mod tests;
mod watchdog;
mod writer;

pub use error::StoreError;
pub use fault::{FaultPolicy, Step, StepHook};
pub(crate) use group_log::GroupLog;
pub use map::{BATCH_MAX, Batch, Each, KEY_MAX, Map, MapView, VALUE_MAX};
pub use memory::MemoryDisk;

use folder::Folder;
use group_log::Home;
use log::DiskLog;
use memory::MemoryStore;
use read_pool::{ReadPool, Whose};
use state::DiskState;

/// Bytes of records at which a batch is written even if more waits.
const BATCH_TARGET: usize = 4 << 20;
/// Smallest journal segment.
const SEGMENT_LEAST: u64 = 256 * 1024;

/// How to open a store on disk.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The node's folder, made if absent.
    pub dir: PathBuf,
    /// Bytes of one journal segment (default 64 MiB, at least 256 KiB). An entry must fit into one. Fixed with the folder:
    /// segments that exist keep their size.
    pub journal_segment_bytes: u64,
    /// Most segments (default 8, at least 2). The journal begins with two and grows as it must.
    pub journal_segments: usize,
    /// Bytes of the newest batches that only the journal and memory hold (default 128 MiB, at most a quarter of the
    /// journal): the keeper settles what is older in sled's `log`, unless it has been purged meanwhile, and the rest when
    /// nothing is written any more. They are read again at the next start after a crash.
    pub settle_lag_bytes: usize,
    /// How often the keeper looks, if nothing hurries it (default 1 s).
    pub keeper_pause: Duration,
    /// Entries kept in memory beyond those that sled does not hold yet (default 64 MiB, all groups together).
    pub entry_cache_bytes: usize,
    /// sled's cache, for each of the two databases (default 64 MiB).
    pub sled_cache_bytes: usize,
    /// Nobody wrote to a database for so long: it is opened anew to get its memory back, also for less, and what of the log only
    /// the journal and memory held goes into `log` before (default 30 s). Readers wait meanwhile.
    pub rest: Duration,
    /// Free bytes on the file system below which [`StoreHealth::low_disk`] is set (default 1 GiB).
    pub free_disk_low_water: u64,
    /// Threads that read (default 2).
    pub read_threads: usize,
    /// Opening that makes no progress for so long, or a single read that runs for so long, ends the process (default
    /// 60 s): sled can spin for ever over damaged files.
    pub watchdog: Duration,
    /// What a failed write, fsync or flush does. Anything but the default is for tests.
    pub fault: FaultPolicy,
    /// For crash tests.
    pub steps: StepHook,
}

/// A sled database is opened anew after so many bytes written to it, to get its memory back; see `state_db`. Not much
/// less often: each opening makes sled run the system-wide `sync`.
fn reopen_after(options: &StoreOptions) -> usize {
    (options.sled_cache_bytes * 4).clamp(1 << 20, 1 << 30)
}

impl StoreOptions {
    /// The defaults over `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            journal_segment_bytes: 64 << 20,
            journal_segments: 8,
            settle_lag_bytes: 128 << 20,
            keeper_pause: Duration::from_secs(1),
            entry_cache_bytes: 64 << 20,
            sled_cache_bytes: 64 << 20,
            rest: Duration::from_secs(30),
            free_disk_low_water: 1 << 30,
            read_threads: 2,
            watchdog: Duration::from_secs(60),
            fault: FaultPolicy::default(),
            steps: StepHook::default(),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        let bound = |name, ok: bool, why: &str| {
            if ok { Ok(()) } else { Err(StoreError::Option { name, why: why.to_owned() }) }
        };
        bound("journal_segment_bytes", self.journal_segment_bytes >= SEGMENT_LEAST, "at least 256 KiB")?;
        bound("journal_segment_bytes", self.journal_segment_bytes <= 1 << 30, "at most 1 GiB")?;
        bound("journal_segments", (2..=1024).contains(&self.journal_segments), "2 to 1024")?;
        bound("keeper_pause", self.keeper_pause >= Duration::from_millis(1), "at least 1 ms")?;
        bound("read_threads", (1..=64).contains(&self.read_threads), "1 to 64")
    }
}

/// How the store is doing. With either flag set, new work should be answered BUSY before it is appended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// Journal bytes that wait for sled's flush, the segment being written included.
    pub journal_used: u64,
    /// Journal bytes when fully grown.
    pub journal_total: u64,
    /// Bytes accepted and not yet in sled.
    pub pending_bytes: u64,
    /// Bytes of log entries in memory.
    pub cached_bytes: u64,
    /// Bytes of log entries written into sled's `log` since the store was opened: hardly any under a steady load, for
    /// they are purged before.
    pub settled_bytes: u64,
    /// Free bytes on the folder's file system, as of the last second or so.
    pub free_disk: u64,
    /// Three quarters are in use of the journal, of the memory for what waits for sled, or of the queue in front.
    pub journal_full: bool,
    /// Less than `free_disk_low_water` is free.
    pub low_disk: bool,
}

/// Both databases of a node and the journal in front of them, or their stand-in in memory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
enum Inner {
    Disk(Disk),
    Memory(Arc<MemoryStore>),
}

#[derive(Debug)]
struct Disk {
    folder: Arc<Folder>,
    identity: Mutex<Option<Bytes>>,
    log: Arc<DiskLog>,
    state: Arc<DiskState>,
    pool: Arc<ReadPool>,
    low_water: u64,
}

impl Store {
    /// Opens the folder, made if absent: locks it, compares everything the log promises, brings sled up to the
    /// journal, starts the threads. Blocks for as long as that takes. Errors name the folder and the remedy.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> {
        options.check()?;
        let folder = Arc::new(Folder::open(&options.dir)?);
        let identity = Mutex::new(folder.read_identity()?);
        let pool = Arc::new(ReadPool::start(options.read_threads, options.watchdog, options.fault.clone())?);
        let log = Arc::new(DiskLog::open(&folder, &options, pool.clone())?);
        let state = match DiskState::open(folder.clone(), &options, pool.clone()) {
            Ok(state) => Arc::new(state),
            Err(error) => {
                log.stop();
                return Err(error);
            }
        };
        folder.finish_creation()?;
        let low_water = options.free_disk_low_water;
        Ok(Self(Arc::new(Inner::Disk(Disk { folder, identity, log, state, pool, low_water }))))
    }

    /// A store over a simulated disk: no threads, no real time, nothing random.
    pub fn in_memory(disk: MemoryDisk) -> Self {
        Self(Arc::new(Inner::Memory(Arc::new(MemoryStore::open(disk)))))
    }

    /// Drawn when the folder was made, never again (R4).
    pub fn store_id(&self) -> u64 {
        match &*self.0 {
            Inner::Disk(disk) => disk.folder.store_id,
            Inner::Memory(store) => store.store_id,
        }
    }

    /// Whether this open made the folder.
    pub fn was_created(&self) -> bool {
        match &*self.0 {
            Inner::Disk(disk) => disk.folder.created,
            Inner::Memory(store) => store.created,
        }
    }

    /// Replaces the small record of `src/`, at most 64 KiB; durable when it returns.
    pub async fn set_identity(&self, bytes: Bytes) -> Result<(), StoreError> {
        let disk = match &*self.0 {
            Inner::Disk(disk) => disk,
            Inner::Memory(store) => return store.set_identity(bytes),
        };
        let (folder, record) = (disk.folder.clone(), bytes.clone());
        let written = disk.pool.run(Whose::Own, move || folder.write_identity(&record)).await?;
        written.map_err(|panic| StoreError::io("writing the identity", std::io::Error::other(panic)))??;
        *disk.identity.lock() = Some(bytes);
        Ok(())
    }

    /// The record of the last `set_identity`.
    pub fn identity(&self) -> Option<Bytes> {
        match &*self.0 {
            Inner::Disk(disk) => disk.identity.lock().clone(),
            Inner::Memory(store) => store.identity(),
        }
    }

    /// The ordered byte map `name`, made if absent. Blocks for the state writer when it must be made or opened.
    pub fn map(&self, name: &str) -> Result<Map, StoreError> {
        match &*self.0 {
            Inner::Disk(disk) => {
                disk.state.make(name)?;
                Ok(Map::on_disk(name, disk.state.clone()))
            }
            Inner::Memory(store) => {
                store.make_map(name)?;
                Ok(Map::in_memory(name, store.clone()))
            }
        }
    }

    /// Removes a map and everything in it, in slices between which other work goes on. Not atomic: after a crash the
    /// map may be there with a part of its keys; drop it again. Nobody may use the map meanwhile.
    pub async fn drop_map(&self, name: &str) -> Result<(), StoreError> {
        match &*self.0 {
            Inner::Disk(disk) => disk.state.drop_map(name).await,
            Inner::Memory(store) => store.drop_map(name),
        }
    }

    /// All batches applied to maps before the call are durable when it returns. Callers that wait together share a
    /// flush.
    pub async fn sync(&self) -> Result<(), StoreError> {
        match &*self.0 {
            Inner::Disk(disk) => disk.state.sync().await,
            Inner::Memory(store) => store.sync_maps().await,
        }
    }

    /// Cheap enough to ask before every append.
    pub fn health(&self) -> StoreHealth {
        let Inner::Disk(disk) = &*self.0 else {
            return StoreHealth { free_disk: u64::MAX, ..StoreHealth::default() };
        };
        let fill = disk.log.fill_level();
        let free_disk = disk.log.free_disk();
        StoreHealth {
            journal_used: fill.used,
            journal_total: fill.total,
            pending_bytes: disk.log.pending(),
            cached_bytes: disk.log.cached() as u64,
            settled_bytes: disk.log.settled_bytes(),
            free_disk,
            journal_full: disk.log.nearly_full(),
            low_disk: free_disk < disk.low_water,
        }
    }

    /// The log of one group, for openraft. At most 511 groups.
    pub(crate) fn group_log(&self, group: GroupId) -> Result<GroupLog, StoreError> {
        Ok(match &*self.0 {
            Inner::Disk(disk) => GroupLog::new(disk.log.group(group)?, Home::Disk(disk.log.clone())),
            Inner::Memory(store) => GroupLog::new(store.group(group), Home::Memory(store.clone())),
        })
    }

    /// Orderly end: does and flushes what was given, joins the threads, unlocks the folder. Further calls
    /// answer `Closed`.
    pub async fn close(&self) {
        let inner = self.0.clone();
        let stop = move || match &*inner {
            Inner::Disk(disk) => disk.stop(),
            Inner::Memory(store) => store.close(),
        };
        match &*self.0 {
            // Joining threads blocks; this happens once.
            Inner::Disk(_) => drop(tokio::task::spawn_blocking(stop).await),
            Inner::Memory(_) => stop(),
        }
    }
}

impl Disk {
    fn stop(&self) {
        self.log.stop();
        self.state.stop();
        self.pool.stop();
        self.folder.unlock();
    }
}

/// Dropping the last clone ends the threads in an orderly way too, blocking until what was given is durable.
impl Drop for Disk {
    fn drop(&mut self) {
        self.stop();
    }
}

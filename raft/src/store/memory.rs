//! The store in memory, for simulation: the same promises as on disk, no threads, nothing random.
//!
//! A [`MemoryDisk`] outlives the stores that are opened over it, as a disk outlives processes. It keeps what was
//! written and, apart from it, what was synced; [`MemoryDisk::crash`] is a power cut. Opening it again without a crash is
//! a killed process: what was written is still there (the page cache), synced or not. Must never let a store that was
//! opened before a crash touch the disk after it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::types::{Entry, GroupId, LogId, Vote};

use super::error::StoreError;
use super::map::MapView;
use super::meta::{GroupMeta, index_after};
use super::queue::{Done, Op, Work};
use super::tail::{Group, Meter};

/// A simulated disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct MemoryDisk(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    store_id: u64,
    opened: bool,
    latency: Duration,
    /// Counts crashes; a store remembers under which it was opened.
    crashes: u64,
    identity: Option<Bytes>,
    synced_logs: BTreeMap<GroupId, Image>,
    /// Written and not synced, in order.
    log_tail: VecDeque<(GroupId, Change)>,
    maps: Maps,
    synced_maps: Maps,
    map_tail: VecDeque<MapChange>,
}

type Maps = BTreeMap<String, BTreeMap<Bytes, Bytes>>;

#[derive(Debug, Clone)]
enum MapChange {
    Make(String),
    Drop(String),
    Apply(String, Vec<(Bytes, Option<Bytes>)>),
}

#[derive(Debug, Clone)]
enum Change {
    Append(Vec<Entry>),
    Vote(Vote),
    Truncate(Option<LogId>),
    Purge(LogId),
    Committed(Option<LogId>),
}

/// One group's log as the disk has it.
#[derive(Debug, Clone, Default)]
struct Image {
    meta: GroupMeta,
    entries: BTreeMap<u64, Entry>,
}

impl MemoryDisk {
    /// An empty disk. `store_id` stands for the id a folder draws; it must not be 0.
    pub fn new(store_id: u64) -> Self {
        Self(Arc::new(Mutex::new(Disk { store_id, ..Disk::default() })))
    }

    /// Every sync takes this long (tokio's time, so virtual in a simulation). Without it a sync is done when asked for.
    pub fn with_latency(self, latency: Duration) -> Self {
        self.0.lock().latency = latency;
        self
    }

    /// A power cut: what was not synced is gone, and stores opened before can do nothing more.
    pub fn crash(&self) {
        self.crash_keeping(0);
    }

    /// A power cut after which the first `writes` unsynced writes of the log, and as many of the maps, happen to be on
    /// the disk: any prefix may be.
    pub fn crash_keeping(&self, writes: usize) {
        let mut disk = self.0.lock();
        disk.crashes += 1;
        disk.log_tail.truncate(writes);
        disk.map_tail.truncate(writes);
        disk.sync_log(usize::MAX);
        disk.sync_maps(usize::MAX);
        disk.maps = disk.synced_maps.clone();
    }

    /// Writes of the log that a crash would lose now.
    pub fn unsynced(&self) -> usize {
        self.0.lock().log_tail.len()
    }
}

impl Disk {
    /// Syncs the first `writes` waiting writes.
    fn sync_log(&mut self, writes: usize) {
        let upto = writes.min(self.log_tail.len());
        for (group, change) in self.log_tail.drain(..upto) {
            self.synced_logs.entry(group).or_default().change(change);
        }
    }

    fn sync_maps(&mut self, writes: usize) {
        let upto = writes.min(self.map_tail.len());
        for change in self.map_tail.drain(..upto) {
            change.apply_to(&mut self.synced_maps);
        }
    }

    fn write_map(&mut self, change: MapChange) {
        change.clone().apply_to(&mut self.maps);
        self.map_tail.push_back(change);
    }
}

impl MapChange {
    fn apply_to(self, maps: &mut Maps) {
        match self {
            Self::Make(name) => drop(maps.entry(name).or_default()),
            Self::Drop(name) => drop(maps.remove(&name)),
            Self::Apply(name, changes) => {
                let map = maps.entry(name).or_default();
                for (key, value) in changes {
                    match value {
                        Some(value) => map.insert(key, value),
                        None => map.remove(&key),
                    };
                }
            }
        }
    }
}

impl Image {
    fn change(&mut self, change: Change) {
        match change {
            Change::Vote(vote) => self.meta.vote = Some(vote),
            Change::Committed(at) => self.meta.committed = at,
            Change::Append(entries) => {
                self.meta.last = entries.last().map(|e| e.log_id).or(self.meta.last);
                self.entries.extend(entries.into_iter().map(|e| (e.log_id.index, e)));
            }
            Change::Truncate(after) => {
                self.meta.truncate(after);
                self.entries.split_off(&index_after(after));
            }
            Change::Purge(upto) => {
                self.meta.purge(upto);
                self.entries = self.entries.split_off(&index_after(Some(upto)));
            }
        }
    }
}

/// A store over a [`MemoryDisk`]: one process's life.
#[derive(Debug)]
pub(crate) struct MemoryStore {
    disk: MemoryDisk,
    crashes: u64,
    pub(crate) store_id: u64,
    pub(crate) created: bool,
    groups: Mutex<BTreeMap<GroupId, Arc<Group>>>,
    meter: Meter,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    dones: Vec<Done>,
    syncing: bool,
    closed: bool,
}

impl MemoryStore {
    pub(crate) fn open(disk: MemoryDisk) -> Self {
        let mut held = disk.0.lock();
        let created = !std::mem::replace(&mut held.opened, true);
        let mut images = held.synced_logs.clone();
        for (group, change) in held.log_tail.iter().cloned() {
            images.entry(group).or_default().change(change);
        }
        let meter = Meter::default();
        let groups = images.into_iter().map(|(id, image)| {
            let entries = image.entries.into_values().collect::<Vec<_>>();
            (id, Arc::new(Group::holding(id, image.meta, entries, meter.clone())))
        });
        let groups = Mutex::new(groups.collect());
        let (crashes, store_id) = (held.crashes, held.store_id);
        drop(held);
        Self { disk, crashes, store_id, created, groups, meter, waiting: Mutex::default() }
    }

    /// The disk, unless this store's process was killed or closed.
    fn disk(&self) -> Result<parking_lot::MutexGuard<'_, Disk>, StoreError> {
        let disk = self.disk.0.lock();
        if disk.crashes == self.crashes && !self.waiting.lock().closed {
            Ok(disk)
        } else {
            Err(StoreError::Closed)
        }
    }

    pub(crate) fn group(&self, id: GroupId) -> Arc<Group> {
        let mut groups = self.groups.lock();
        let new = || Arc::new(Group::new(id, GroupMeta::default(), None, self.meter.clone()));
        groups.entry(id).or_insert_with(new).clone()
    }

    /// Writes an operation; it is told when it is synced.
    pub(crate) fn submit(self: &Arc<Self>, op: Op) -> Result<(), StoreError> {
        let Op { group, work, committed, done, .. } = op;
        let latency = {
            let mut disk = self.disk()?;
            if let Some(committed) = committed {
                disk.log_tail.push_back((group.id, Change::Committed(Some(committed))));
            }
            let change = match work {
                Work::Append(entries) => Change::Append(entries),
                Work::Vote(vote) => Change::Vote(vote),
                Work::Truncate(after) => Change::Truncate(after),
                Work::Purge(upto) => Change::Purge(upto),
                Work::Note => return Ok(()),
            };
            disk.log_tail.push_back((group.id, change));
            if disk.latency.is_zero() {
                disk.sync_log(usize::MAX);
            }
            disk.latency
        };
        if latency.is_zero() {
            done.tell();
            return Ok(());
        }
        let mut waiting = self.waiting.lock();
        waiting.dones.push(done);
        if !std::mem::replace(&mut waiting.syncing, true) {
            // One sync at a time; what comes meanwhile waits for the next: group commit, as on disk. Ends by itself.
            tokio::spawn(self.clone().sync_waiting(latency));
        }
        Ok(())
    }

    async fn sync_waiting(self: Arc<Self>, latency: Duration) {
        loop {
            let dones = {
                let mut waiting = self.waiting.lock();
                if waiting.dones.is_empty() {
                    waiting.syncing = false;
                    return;
                }
                std::mem::take(&mut waiting.dones)
            };
            let covers = self.disk().map_or(0, |disk| disk.log_tail.len());
            tokio::time::sleep(latency).await;
            let Ok(mut disk) = self.disk() else { return };
            disk.sync_log(covers);
            drop(disk);
            dones.into_iter().for_each(Done::tell);
        }
    }

    pub(crate) fn identity(&self) -> Option<Bytes> {
        self.disk.0.lock().identity.clone()
    }

    pub(crate) fn set_identity(&self, bytes: Bytes) -> Result<(), StoreError> {
        self.disk()?.identity = Some(bytes);
        Ok(())
    }

    pub(crate) fn make_map(&self, name: &str) -> Result<(), StoreError> {
        let mut disk = self.disk()?;
        if !disk.maps.contains_key(name) {
            disk.write_map(MapChange::Make(name.to_owned()));
        }
        Ok(())
    }

    pub(crate) fn drop_map(&self, name: &str) -> Result<(), StoreError> {
        self.disk()?.write_map(MapChange::Drop(name.to_owned()));
        Ok(())
    }

    pub(crate) fn apply(&self, name: &str, changes: Vec<(Bytes, Option<Bytes>)>) -> Result<(), StoreError> {
        let mut disk = self.disk()?;
        if !disk.maps.contains_key(name) {
            return Err(StoreError::Closed);
        }
        disk.write_map(MapChange::Apply(name.to_owned(), changes));
        Ok(())
    }

    pub(crate) fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&MapView<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let disk = self.disk()?;
        read(&MapView::memory(disk.maps.get(name).ok_or(StoreError::Closed)?))
    }

    /// Everything applied before the call is synced when this returns.
    pub(crate) async fn sync_maps(&self) -> Result<(), StoreError> {
        let (latency, covers) = {
            let disk = self.disk()?;
            (disk.latency, disk.map_tail.len())
        };
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let mut disk = self.disk()?;
        // Another sync may have taken some of them meanwhile; then the rest are later ones, and syncing more is allowed.
        disk.sync_maps(covers);
        Ok(())
    }

    /// Orderly end: everything is synced.
    pub(crate) fn close(&self) {
        let Ok(mut disk) = self.disk() else { return };
        disk.sync_log(usize::MAX);
        disk.sync_maps(usize::MAX);
        drop(disk);
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        let dones = std::mem::take(&mut waiting.dones);
        drop(waiting);
        dones.into_iter().for_each(Done::tell);
    }
}

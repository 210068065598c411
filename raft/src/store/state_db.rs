//! sled's database `state`: the maps that `src/` checkpoints into.
//!
//! The only file that talks to sled about maps. Values carry a crc32c over key and value in front of them. Beside the
//! database stands a mark, the number of flushes that have completed; the database holds the same number, and one that is
//! behind its mark has forgotten a flush (sled does so silently over one damaged frame). Owns one workaround: sled never lets go of the memory of a leaf that was written since the database was opened (its eviction
//! waits for a flag that no flush sets; measured: 480 MB written are 480 MB resident under a 32 MB cache), so the
//! database is closed and opened again after so many bytes. A second: sled learns which leaves are used, and lets go of others,
//! by handle and every 32 uses, and forgets what a handle has not told when it is dropped; so handles are lent and come back, and
//! whoever has read much makes them tell ([`Lent`]; measured before that: 640 MB resident of 2.1 million messages that were read
//! once). A third: a sled tree that was written is never dropped,
//! for sled forgets the tree's name and keeps its leaf, and then refuses to open (a failed assertion in its db.rs). A
//! map lives in a numbered tree; when it is dropped the tree is emptied and waits for the next map.
//! Only the state writer's thread calls anything that writes.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Bound, ControlFlow};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::error::StoreError;
use super::record::u64_at;
use super::sled_open::{STATE_FANOUT, ascending, open_sled};

const CRC: usize = 4;
/// Under this key of the default tree, which holds no map: the number of the flush that wrote it.
const FLUSHES: &[u8] = b"flushes";
/// Before a map's name, in the default tree: the number of its tree, u32 little-endian.
const MAP: &[u8] = b"map:";
/// Behind the last of those keys.
const MAP_END: &[u8] = b"map;";
/// Uses after which a handle tells sled of them (`MAX_QUEUE_ITEMS` of cache-advisor 1.0).
const USES: usize = 32;
/// Bytes of rows read by one handle after which it is made to tell. The leaves they are in may be some thirty times as large.
const TELL_BYTES: usize = 32 << 10;
/// Of the rows of a scan so many are in one leaf, about; each that has so many bytes is looked at by itself.
const EVERY: usize = STATE_FANOUT / 2;
const LARGE: usize = 1 << 10;
/// A scan counts as so many bytes at least: it may have met leaves and no row.
const SCAN_BYTES: usize = 1 << 10;
/// Opening anew is worth a word from then on.
const LONG: Duration = Duration::from_secs(1);
/// Keys taken out at a time while a map is dropped.
const DROP_SLICE: usize = 512;

type Tree = sled::Tree<STATE_FANOUT>;

/// The database and its maps. sled's handles cannot be shared between threads, so everyone is lent one for as long as it holds the
/// gate's read side; reopening takes the write side, when nobody has any.
pub(crate) struct StateDb {
    /// The database; the mark is its sibling.
    path: PathBuf,
    mark: File,
    flushes: AtomicU64,
    cache_bytes: usize,
    gate: RwLock<()>,
    /// `None` for the moment of reopening, and after close.
    open: Mutex<Option<ManuallyDrop<Open>>>,
}

struct Open {
    trees: BTreeMap<String, Handles>,
    db: sled::Db<STATE_FANOUT>,
}

/// The handles of one map's tree.
struct Handles {
    tree: Tree,
    /// Those that are not lent; as many as there were borrowers at once.
    idle: Vec<Handle>,
}

/// A handle, and the bytes of rows that were read by it since it last told sled of the leaves they are in.
struct Handle {
    tree: Tree,
    read: usize,
}

impl Handle {
    /// After this the leaves that were used count as used, and sled has let go of those that its cache has no room for.
    fn tell(&mut self) {
        self.read = 0;
        for _ in 0..USES {
            // What is found does not matter; a database that cannot be read says so to who reads rows.
            let _ = self.tree.get([]);
        }
    }
}

impl Open {
    /// The number of the tree that holds map `name`, if there is such a map.
    fn slot(&self, name: &str) -> io::Result<Option<u32>> {
        self.db.get(map_key(name))?.map(|slot| slot_of(&slot)).transpose()
    }

    /// The lowest number of a tree that holds no map.
    fn free_slot(&self) -> io::Result<u32> {
        let maps = ascending(&self.db, MAP, Bound::Excluded(MAP_END));
        let used: BTreeSet<u32> = maps.map(|item| slot_of(&item?.1)).collect::<io::Result<_>>()?;
        Ok((0..).find(|slot| !used.contains(slot)).unwrap_or(u32::MAX))
    }

    fn tree(&self, slot: u32) -> io::Result<Tree> {
        self.db.open_tree(format!("map-{slot}"))
    }

    fn handles(&self, slot: u32) -> io::Result<Handles> {
        Ok(Handles { tree: self.tree(slot)?, idle: Vec::new() })
    }
}

fn map_key(name: &str) -> Vec<u8> {
    [MAP, name.as_bytes()].concat()
}

fn slot_of(value: &[u8]) -> io::Result<u32> {
    let slot = value.try_into().map(u32::from_le_bytes);
    slot.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the number of a map's tree is damaged"))
}

impl std::fmt::Debug for StateDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateDb").field("path", &self.path).finish_non_exhaustive()
    }
}

impl StateDb {
    /// Opens or makes the database below `folder`.
    pub(crate) fn open(folder: &Path, cache_bytes: usize) -> io::Result<Self> {
        let path = folder.join("db");
        let fresh = !path.exists();
        fs::create_dir_all(folder)?;
        let mark = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(folder.join("mark"))?;
        if fresh {
            write_mark(&mark, 0)?;
        }
        let open = Self::open_sled(&path, cache_bytes)?;
        let flushes = open.db.get(FLUSHES)?.map_or(0, |count| u64_at(&count, 0));
        let marked = read_mark(&mark)?;
        if flushes < marked {
            let why = format!("{marked} flushes completed, the database knows of {flushes}: it forgot some");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        write_mark(&mark, flushes)?;
        File::open(folder)?.sync_all()?;
        let open = Mutex::new(Some(ManuallyDrop::new(open)));
        Ok(Self { path, mark, flushes: AtomicU64::new(flushes), cache_bytes, gate: RwLock::new(()), open })
    }

    fn open_sled(path: &Path, cache_bytes: usize) -> io::Result<Open> {
        Ok(Open { trees: BTreeMap::new(), db: open_sled(path, cache_bytes)? })
    }

    /// A handle of map `name`'s tree.
    fn lend<'a>(&'a self, name: &'a str) -> Option<Lent<'a>> {
        let gate = self.gate.read();
        let mut open = self.open.lock();
        let handles = open.as_mut()?.trees.get_mut(name)?;
        let handle = handles.idle.pop().unwrap_or_else(|| Handle { tree: handles.tree.clone(), read: 0 });
        Some(Lent { handle: Some(handle), name, db: self, _gate: gate })
    }

    /// Opens map `name`, made if absent. For the state writer alone: making one writes.
    pub(crate) fn make_map(&self, name: &str) -> io::Result<()> {
        let mut open = self.open.lock();
        let open = open.as_mut().ok_or_else(closed)?;
        if open.trees.contains_key(name) {
            return Ok(());
        }
        let slot = match open.slot(name)? {
            Some(slot) => slot,
            None => {
                let slot = open.free_slot()?;
                let mut batch = sled::Batch::default();
                batch.insert(map_key(name), slot.to_le_bytes().as_slice());
                open.db.apply_batch(batch)?;
                slot
            }
        };
        let handles = open.handles(slot)?;
        // The first leaf of a tree to which nothing was written is nowhere on disk. sled would let go of it, and then look for
        // it without end.
        if handles.tree.first()?.is_none() {
            handles.tree.insert([], [])?;
            handles.tree.remove([])?;
        }
        open.trees.insert(name.to_owned(), handles);
        Ok(())
    }

    /// Applies one batch, atomically at the next flush.
    pub(crate) fn apply(&self, name: &str, changes: &[(Bytes, Option<Bytes>)]) -> io::Result<()> {
        let lent = self.lend(name).ok_or_else(closed)?;
        let mut batch = sled::Batch::default();
        let mut framed = Vec::new();
        for (key, value) in changes {
            match value {
                Some(value) => {
                    framed.clear();
                    framed.extend_from_slice(&checksum(key, value).to_le_bytes());
                    framed.extend_from_slice(value);
                    batch.insert(key.as_ref(), framed.as_slice());
                }
                None => batch.remove(key.as_ref()),
            }
        }
        lent.tree().ok_or_else(closed)?.apply_batch(batch)
    }

    /// Everything applied before is durable when this returns.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let _gate = self.gate.read();
        // The default tree flushes the whole database; a clone, so that readers need not wait for it.
        let tree = self.open.lock().as_ref().map(|open| Tree::clone(&open.db)).ok_or_else(closed)?;
        let flushes = self.flushes.fetch_add(1, Ordering::Relaxed) + 1;
        let mut batch = sled::Batch::default();
        batch.insert(FLUSHES, flushes.to_le_bytes().as_slice());
        tree.apply_batch(batch)?;
        tree.flush()?;
        write_mark(&self.mark, flushes)
    }

    /// Takes some keys of a map out; true when none is left and the map is gone. Between two calls other work goes on.
    pub(crate) fn drop_slice(&self, name: &str) -> io::Result<bool> {
        {
            let _gate = self.gate.read();
            let open = self.open.lock();
            let open = open.as_ref().ok_or_else(closed)?;
            let Some(slot) = open.slot(name)? else { return Ok(true) };
            let tree = open.tree(slot)?;
            let keys: Vec<_> = tree.iter().keys().take(DROP_SLICE).collect::<io::Result<_>>()?;
            for key in &keys {
                tree.remove(key)?;
            }
            if keys.len() == DROP_SLICE {
                return Ok(false);
            }
        }
        // The tree goes to another map only when nobody reads it as this one any more.
        let _gate = self.gate.write();
        let mut open = self.open.lock();
        let open = open.as_mut().ok_or_else(closed)?;
        open.trees.remove(name);
        open.db.remove(map_key(name))?;
        Ok(true)
    }

    /// Closes and opens the database to get its memory back. Everything must be flushed. Readers wait meanwhile.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let started = Instant::now();
        let _gate = self.gate.write();
        let mut open = self.open.lock();
        let names: Vec<String> = open.as_ref().map(|o| o.trees.keys().cloned().collect()).unwrap_or_default();
        drop(open.take().map(ManuallyDrop::into_inner));
        let mut fresh = Self::open_sled(&self.path, self.cache_bytes)?;
        for name in names {
            if let Some(slot) = fresh.slot(&name)? {
                let handles = fresh.handles(slot)?;
                fresh.trees.insert(name, handles);
            }
        }
        *open = Some(ManuallyDrop::new(fresh));
        let took = started.elapsed();
        if took >= LONG {
            tracing::info!(
                ?took,
                "the state database was opened anew to free its memory; who reads it waited"
            );
        } else {
            tracing::debug!(?took, "the state database was opened anew to free its memory");
        }
        Ok(())
    }

    /// Orderly end: flushes and lets go. Without this the handle is never dropped (R2).
    pub(crate) fn close(&self) {
        let _gate = self.gate.write();
        drop(self.open.lock().take().map(ManuallyDrop::into_inner));
    }

    /// Whether map `name` is open.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.open.lock().as_ref().is_some_and(|open| open.trees.contains_key(name))
    }

    pub(crate) fn view<'a>(&'a self, name: &'a str) -> Result<SledView<'a>, StoreError> {
        let lent = self.lend(name).ok_or(StoreError::Closed)?;
        Ok(SledView { lent, read: Cell::new(0) })
    }
}

/// A handle that comes back when this is dropped; holds off reopening, and dropping the map, meanwhile.
struct Lent<'a> {
    /// Until it is given back.
    handle: Option<Handle>,
    name: &'a str,
    db: &'a StateDb,
    _gate: RwLockReadGuard<'a, ()>,
}

impl Lent<'_> {
    fn tree(&self) -> Option<&Tree> {
        self.handle.as_ref().map(|handle| &handle.tree)
    }

    /// So many bytes of rows were read by it.
    fn has_read(&mut self, bytes: usize) {
        if let Some(handle) = &mut self.handle {
            handle.read += bytes;
            if handle.read >= TELL_BYTES {
                handle.tell();
            }
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        // The gate is open still, so the map is the one it was lent of.
        let mut open = self.db.open.lock();
        let handles = open.as_mut().and_then(|open| open.trees.get_mut(self.name));
        if let (Some(handles), Some(handle)) = (handles, self.handle.take()) {
            handles.idle.push(handle);
        }
    }
}

/// The mark: crc32c u32 of the number, zero u32, number u64. One sector, so that it is written whole or not.
fn write_mark(mark: &File, flushes: u64) -> io::Result<()> {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&flushes.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[8..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    mark.write_all_at(&bytes, 0)?;
    mark.sync_data()
}

fn read_mark(mark: &File) -> io::Result<u64> {
    let mut bytes = [0; 16];
    let damaged = |_| io::Error::new(io::ErrorKind::InvalidData, "its mark is unreadable");
    mark.read_exact_at(&mut bytes, 0).map_err(damaged)?;
    if bytes[..4] != crc32c::crc32c(&bytes[8..]).to_le_bytes() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its mark fails its checksum"));
    }
    Ok(u64_at(&bytes, 8))
}

fn closed() -> io::Error {
    io::Error::other("the state database is closed, or the map was dropped")
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), value)
}

/// A map as a reader sees it; holds off reopening.
pub(crate) struct SledView<'a> {
    lent: Lent<'a>,
    /// Bytes of rows read.
    read: Cell<usize>,
}

impl Drop for SledView<'_> {
    fn drop(&mut self) {
        self.lent.has_read(self.read.get());
    }
}

impl SledView<'_> {
    fn tree(&self) -> Result<&Tree, StoreError> {
        self.lent.tree().ok_or(StoreError::Closed)
    }

    fn failed(&self, e: io::Error) -> StoreError {
        StoreError::io(format!("cannot read map {}", self.lent.name), e)
    }

    fn checked(&self, key: &[u8], value: sled::InlineArray) -> Result<Bytes, StoreError> {
        self.read.set(self.read.get() + value.len());
        let what = match value.split_at_checked(CRC) {
            None => "it is shorter than its checksum",
            Some((crc, rest)) if crc != checksum(key, rest).to_le_bytes() => "its checksum does not match",
            Some(_) => return Ok(Bytes::from_owner(value).slice(CRC..)),
        };
        let key = key.iter().take(40).map(|b| format!("{b:02x}")).collect();
        Err(StoreError::ValueDamaged { map: self.lent.name.to_owned(), key, what })
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.tree()?.get(key).map_err(|e| self.failed(e))?;
        value.map(|value| self.checked(key, value)).transpose()
    }

    /// Calls `each` with key and value in order until it breaks.
    pub(crate) fn scan(
        &self,
        from: &[u8],
        to: Bound<&[u8]>,
        reverse: bool,
        each: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let tree = self.tree()?;
        // An iterator is a handle of its own, which tells of its uses only if they are many: this one looks where it does.
        let uses = |key: &[u8]| tree.get(key).map(drop).map_err(|e| self.failed(e));
        self.read.set(self.read.get() + SCAN_BYTES);
        uses(from)?;
        let mut rows = 0;
        let mut step = |item: io::Result<(sled::InlineArray, sled::InlineArray)>| {
            let (key, value) = item.map_err(|e| self.failed(e))?;
            if rows % EVERY == 0 || value.len() >= LARGE {
                uses(&key)?;
            }
            rows += 1;
            let value = self.checked(&key, value)?;
            Ok::<_, StoreError>(each(Bytes::from_owner(key), value))
        };
        if reverse {
            for item in tree.range::<&[u8], _>((Bound::Included(from), to)).rev() {
                if step(item)?.is_break() {
                    break;
                }
            }
        } else {
            for item in ascending(tree, from, to) {
                if step(item)?.is_break() {
                    break;
                }
            }
        }
        // It has looked one row further.
        match to {
            Bound::Included(to) | Bound::Excluded(to) => uses(to),
            Bound::Unbounded => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const ROW: usize = 1 << 10;
    /// So many that their leaves are more than sled's cache always holds: one or two in each of its 256 parts.
    const ROWS: u32 = 24 << 10;

    /// 24 MiB of rows under a cache of 1 MiB, and a map without any.
    fn filled(folder: &Path) -> StateDb {
        let db = StateDb::open(folder, 1 << 20).unwrap();
        db.make_map("full").unwrap();
        db.make_map("empty").unwrap();
        for first in (0..ROWS).step_by(256) {
            let row =
                |key: u32| (Bytes::copy_from_slice(&key.to_be_bytes()), Some(vec![key as u8; ROW].into()));
            db.apply("full", &(first..first + 256).map(row).collect::<Vec<_>>()).unwrap();
        }
        db.flush().unwrap();
        db
    }

    /// Reads every row, a few at a time as readers do; the rows that there are.
    fn read_all(db: &StateDb) -> usize {
        let mut rows = 0;
        for first in (0..ROWS).step_by(256) {
            let view = db.view("full").unwrap();
            let (from, to) = (first.to_be_bytes(), (first + 256).to_be_bytes());
            let mut count = |_, value: Bytes| {
                assert_eq!(value.len(), ROW);
                rows += 1;
                ControlFlow::Continue(())
            };
            view.scan(&from, Bound::Excluded(&to), false, &mut count).unwrap();
        }
        rows
    }

    fn misses(db: &StateDb) -> u64 {
        db.open.lock().as_ref().unwrap().db.stats().cache.cache_misses
    }

    #[test]
    fn what_was_read_leaves_memory() {
        let temp = tempfile::tempdir().unwrap();
        let db = filled(temp.path());
        db.reopen().unwrap();
        let before = misses(&db);
        assert_eq!(read_all(&db), ROWS as usize);
        let first = misses(&db) - before;
        assert_eq!(read_all(&db), ROWS as usize);
        let again = misses(&db) - before - first;
        assert!(again * 2 > first, "{first} leaves were read from disk, {again} of them once more");
        db.close();
    }

    #[test]
    fn a_map_without_rows_is_read_after_sled_has_let_go_of_it() {
        let temp = tempfile::tempdir().unwrap();
        let db = Arc::new(filled(temp.path()));
        let (read, done) = std::sync::mpsc::sync_channel(1);
        let reader = db.clone();
        std::thread::spawn(move || {
            for _ in 0..3 {
                for _ in 0..2 {
                    for _ in 0..2 * USES {
                        assert_eq!(reader.view("empty").unwrap().get(b"key").unwrap(), None);
                    }
                    read_all(&reader);
                }
                reader.reopen().unwrap();
            }
            let _ = read.send(());
        });
        // Where sled looks for a leaf that is not there it does so for ever.
        done.recv_timeout(Duration::from_secs(60)).expect("it is read");
        db.close();
    }
}

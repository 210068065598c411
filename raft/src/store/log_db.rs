//! sled's database `log`: votes, purge points and entries as of some batch of the journal.
//!
//! The only file that talks to sled about the log. One tree, one writing thread (the keeper), one flusher (the keeper
//! again): whatever is applied between two flushes becomes durable together, the number of the journal's batch with it,
//! so sled always stands at exactly one batch. Must never be flushed by anybody else.
//!
//! Keys: `0` position; `1 group` meta and floor; `2 group index` entry (the journal's record). Numbers in keys are big-endian.
//! Entries are taken out with `remove`, because `apply_batch` never merges emptied leaves (seen: they would add up
//! for ever), and the same thread does both, so the two cannot meet in a deadlock.

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::ops::{Bound, Range};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::types::{Entry, GroupId, LogId};

use super::meta::{GroupMeta, META_BYTES, Metas, chain, index_after, seed};
use super::record::{Record, decode_entry, u32_at, u64_at};
use super::sled_open::{LOG_FANOUT, ascending, open_sled};

const POSITION: u8 = 0;
const META: u8 = 1;
const ENTRY: u8 = 2;

type Tree = sled::Tree<LOG_FANOUT>;

/// The open database. sled's handles cannot be shared between threads, so every use takes a clone of the tree (which
/// keeps the whole database open) for as long as it holds the gate's read side; reopening takes the write side.
pub(crate) struct LogDb {
    path: PathBuf,
    cache_bytes: usize,
    gate: RwLock<()>,
    /// `None` for the moment of reopening, and after close. Never dropped but by these (R2).
    tree: Mutex<Option<ManuallyDrop<Tree>>>,
}

/// A clone of the tree with the gate held.
struct Use<'a> {
    // Declared, and so dropped, before the gate.
    tree: Tree,
    _gate: RwLockReadGuard<'a, ()>,
}

impl std::ops::Deref for Use<'_> {
    type Target = Tree;
    fn deref(&self) -> &Tree {
        &self.tree
    }
}

impl std::fmt::Debug for LogDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogDb")
    }
}

/// What the database says at open, every entry read and compared.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Number of the last journal batch it holds; 0 when new.
    pub(crate) position: u64,
    pub(crate) metas: Metas,
    /// By group: entries below are left out although its meta does not say that they are purged; the journal does.
    pub(crate) floors: BTreeMap<GroupId, u64>,
    /// Indexes of the entries present, per group.
    pub(crate) spans: BTreeMap<GroupId, Range<u64>>,
}

/// One write: put or, with None, taken out.
pub(crate) type Change<'a> = (Vec<u8>, Option<&'a [u8]>);

impl LogDb {
    pub(crate) fn open(path: &Path, cache_bytes: usize) -> std::io::Result<Self> {
        let tree = Mutex::new(Some(ManuallyDrop::new(Self::open_sled(path, cache_bytes)?)));
        Ok(Self { path: path.to_owned(), cache_bytes, gate: RwLock::new(()), tree })
    }

    fn open_sled(path: &Path, cache_bytes: usize) -> std::io::Result<Tree> {
        Ok(Tree::clone(&*open_sled(path, cache_bytes)?))
    }

    fn tree(&self) -> std::io::Result<Use<'_>> {
        let gate = self.gate.read();
        let tree = self.tree.lock().as_ref().map(|tree| Tree::clone(tree));
        let tree = tree.ok_or_else(|| std::io::Error::other("the log database is closed"))?;
        Ok(Use { tree, _gate: gate })
    }

    /// Closes and opens the database to get its memory back (see `state_db`). Everything must be flushed.
    pub(crate) fn reopen(&self) -> std::io::Result<()> {
        let _gate = self.gate.write();
        let mut tree = self.tree.lock();
        drop(tree.take().map(ManuallyDrop::into_inner));
        *tree = Some(ManuallyDrop::new(Self::open_sled(&self.path, self.cache_bytes)?));
        Ok(())
    }

    /// Orderly end; everything must be flushed.
    pub(crate) fn close(&self) {
        let _gate = self.gate.write();
        drop(self.tree.lock().take().map(ManuallyDrop::into_inner));
    }

    /// Reads and compares everything. `beat` is called as it goes, for the watchdog.
    pub(crate) fn load(&self, store: u64, beat: &dyn Fn()) -> Result<Loaded, String> {
        let mut loaded = Loaded::default();
        let mut walk = Walk::default();
        let tree = self.tree().map_err(|e| e.to_string())?;
        for item in tree.iter() {
            let (key, value) = item.map_err(|e| format!("sled cannot read `log`: {e}"))?;
            beat();
            match key.first() {
                Some(&POSITION) => loaded.position = decode_position(&value, store)?,
                Some(&META) => {
                    let (group, meta, floor) =
                        decode_meta(&value).ok_or("a group's record fails its checksum")?;
                    if key[1..] != group.to_be_bytes() {
                        return Err("a group's record stands under another group's key".into());
                    }
                    loaded.metas.insert(group, meta);
                    loaded.floors.insert(group, floor);
                }
                Some(&ENTRY) => walk.step(&mut loaded, &key, &value)?,
                _ => return Err("`log` holds a key that nobody writes".into()),
            }
        }
        walk.finish(&loaded.metas)?;
        for (group, meta) in &loaded.metas {
            let floor = loaded.floors.get(group).copied().unwrap_or(0).max(index_after(meta.purged));
            if !loaded.spans.contains_key(group) && index_after(meta.last) > floor {
                return Err(format!("group {group}: its entries up to {:?} are gone", meta.last));
            }
        }
        Ok(loaded)
    }

    /// Applies changes in memory; durable at the next `flush`.
    pub(crate) fn apply<'a>(&self, changes: impl Iterator<Item = Change<'a>>) -> std::io::Result<()> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, sled::InlineArray::from(value)),
                None => batch.remove(key),
            }
        }
        self.tree()?.apply_batch(batch)
    }

    /// Takes purged entries out.
    pub(crate) fn remove(&self, group: GroupId, indexes: Range<u64>) -> std::io::Result<()> {
        let tree = self.tree()?;
        for index in indexes {
            tree.remove(entry_key(group, index))?;
        }
        Ok(())
    }

    pub(crate) fn flush(&self) -> std::io::Result<()> {
        self.tree()?.flush().map(drop)
    }

    /// Entries of `range` from its front, at least one if present, at most about `max_bytes`; stops at a hole.
    pub(crate) fn read(
        &self,
        group: GroupId,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, String> {
        let mut out = Vec::new();
        let mut bytes = 0;
        let tree = self.tree().map_err(|e| e.to_string())?;
        let (from, to) = (entry_key(group, range.start), entry_key(group, range.end));
        let stored = ascending(&tree, &from, Bound::Excluded(&to));
        for (next, item) in (range.start..).zip(stored) {
            let (key, value) = item.map_err(|e| format!("sled cannot read `log`: {e}"))?;
            if bytes > 0 && bytes + value.len() > max_bytes {
                break;
            }
            bytes += value.len();
            let (of, entry) = decode_entry(Bytes::from_owner(value))
                .map_err(|why| format!("group {group}, entry {next}: {why}"))?;
            if of != group || entry.log_id.index != next || key[..] != entry_key(group, next) {
                break;
            }
            out.push(entry);
        }
        Ok(out)
    }
}

pub(crate) fn entry_key(group: GroupId, index: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(13);
    key.push(ENTRY);
    key.extend_from_slice(&group.to_be_bytes());
    key.extend_from_slice(&index.to_be_bytes());
    key
}

pub(crate) fn meta_key(group: GroupId) -> Vec<u8> {
    let mut key = vec![META];
    key.extend_from_slice(&group.to_be_bytes());
    key
}

pub(crate) fn position_key() -> Vec<u8> {
    vec![POSITION]
}

/// The meta's bytes, then floor u64, crc u32 of that, zero u32.
pub(crate) fn encode_meta(group: GroupId, meta: &GroupMeta, floor: u64) -> Vec<u8> {
    let mut out = meta.encode(group).to_vec();
    out.extend_from_slice(&floor.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out
}

fn decode_meta(bytes: &[u8]) -> Option<(GroupId, GroupMeta, u64)> {
    let (meta, rest) = bytes.split_at_checked(META_BYTES)?;
    if rest.is_empty() {
        // As it was written before there were floors.
        return GroupMeta::decode(meta).map(|(group, meta)| (group, meta, 0));
    }
    if rest.len() != 16 || u32_at(rest, 8)? != crc32c::crc32c(&bytes[..META_BYTES + 8]) {
        return None;
    }
    let (group, meta) = GroupMeta::decode(meta)?;
    Some((group, meta, u64_at(rest, 0)))
}

/// crc u32, zero u32, store id u64, batch number u64.
pub(crate) fn encode_position(store: u64, number: u64) -> Vec<u8> {
    let mut out = vec![0; 8];
    out.extend_from_slice(&store.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&out[4..]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    out
}

fn decode_position(bytes: &[u8], store: u64) -> Result<u64, String> {
    if bytes.len() != 24 || u32_at(bytes, 0) != Some(crc32c::crc32c(&bytes[4..])) {
        return Err("the position record fails its checksum".into());
    }
    if u64_at(bytes, 8) != store {
        return Err("`log` belongs to another store".into());
    }
    Ok(u64_at(bytes, 16))
}

/// Compares the entries of one group after another with what its meta promises: no hole, the chain unbroken, the last
/// one as stated. A leaf that sled read from an older frame cannot pass.
#[derive(Default)]
struct Walk {
    group: Option<GroupId>,
    last: Option<LogId>,
    chain: u64,
}

impl Walk {
    fn step(&mut self, loaded: &mut Loaded, key: &[u8], value: &[u8]) -> Result<(), String> {
        let Loaded { metas, floors, spans, .. } = loaded;
        let (record, rest) = Record::parse(value)?;
        let (group, id) = (record.group, record.log_id().ok_or("a stored record is not an entry")?);
        if !rest.is_empty() || key != entry_key(group, id.index) {
            return Err("an entry stands under another entry's key".into());
        }
        if self.group != Some(group) {
            self.finish(metas)?;
            let meta = metas.get(&group).ok_or_else(|| format!("group {group} has entries but no record"))?;
            let floor = floors.get(&group).copied().unwrap_or(0).max(index_after(meta.purged));
            // A log that was never purged may begin anywhere.
            if floor > 0 && floor != id.index {
                return Err(format!(
                    "group {group}: its entries should begin at {floor}, they begin at {}",
                    id.index
                ));
            }
            *self = Self { group: Some(group), last: Some(id), chain: record.chain };
            spans.insert(group, id.index..id.index + 1);
            return Ok(());
        }
        let follows = self.last.is_some_and(|l| l.index + 1 == id.index);
        // Behind a truncation the chain starts again from the id of the entry before.
        let chained =
            [self.chain, seed(self.last)].into_iter().any(|before| chain(before, record.crc) == record.chain);
        if !follows || !chained {
            return Err(format!("group {group}: the entry at {} does not follow {:?}", id.index, self.last));
        }
        (self.last, self.chain) = (Some(id), record.chain);
        if let Some(span) = spans.get_mut(&group) {
            span.end = id.index + 1;
        }
        Ok(())
    }

    fn finish(&self, metas: &Metas) -> Result<(), String> {
        let Some(group) = self.group else { return Ok(()) };
        let meta = metas.get(&group).ok_or_else(|| format!("group {group} has entries but no record"))?;
        let chained = meta.chain == self.chain || meta.chain == seed(self.last);
        if meta.last != self.last || !chained {
            return Err(format!(
                "group {group}: its entries end at {:?}, its record says {:?}",
                self.last, meta.last
            ));
        }
        Ok(())
    }
}

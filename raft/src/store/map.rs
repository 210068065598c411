//! Ordered byte maps, the only form in which `src/` sees the disk.
//!
//! Owns the handle, the batch and the view. Order per map is the order in which `apply` was called; durability is asked
//! for by `Store::sync`. Must never read on the caller's thread (on disk) and never hand out a value whose checksum it
//! has not compared.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;

use super::error::StoreError;
use super::memory::MemoryStore;
use super::read_pool::Whose;
use super::state::DiskState;
use super::state_db::SledView;

/// Largest key in bytes.
pub const KEY_MAX: usize = 4 * 1024;
/// Largest value in bytes.
pub const VALUE_MAX: usize = 16 << 20;
/// Largest batch in bytes of keys and values.
pub const BATCH_MAX: usize = 64 << 20;

/// Changes that become readable together, and durable together.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    pub(crate) changes: Vec<(Bytes, Option<Bytes>)>,
    bytes: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key`. Of several changes of one key the last counts.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.changes.push((key, Some(value)));
    }

    /// Removes `key`, present or not.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.changes.push((key, None));
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    fn check(&self) -> Result<(), StoreError> {
        let bound = |what, bytes: usize, max| {
            if bytes > max { Err(StoreError::TooLarge { what, bytes, max }) } else { Ok(()) }
        };
        bound("a batch", self.bytes, BATCH_MAX)?;
        for (key, value) in &self.changes {
            bound("a key", key.len(), KEY_MAX)?;
            bound("a value", value.as_ref().map_or(0, Bytes::len), VALUE_MAX)?;
        }
        Ok(())
    }
}

/// One ordered byte map of the node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Map {
    name: Arc<str>,
    home: Home,
}

#[derive(Debug, Clone)]
enum Home {
    Disk(Arc<DiskState>),
    Memory(Arc<MemoryStore>),
}

impl Map {
    pub(crate) fn on_disk(name: &str, state: Arc<DiskState>) -> Self {
        Self { name: name.into(), home: Home::Disk(state) }
    }

    pub(crate) fn in_memory(name: &str, store: Arc<MemoryStore>) -> Self {
        Self { name: name.into(), home: Home::Memory(store) }
    }

    /// The name it was opened under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Applies `batch` behind every batch given to this map before. When it resolves, everyone can read it; it is
    /// durable after the next [`super::Store::sync`]. Errors: too large, closed; nothing is applied then.
    pub async fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        batch.check()?;
        match &self.home {
            Home::Disk(state) => state.apply(self.name.clone(), batch.changes, batch.bytes).await,
            Home::Memory(store) => store.apply(&self.name, batch.changes),
        }
    }

    /// Runs `read` on the read pool (inline in memory), however long its turn takes to come: for what the node cannot go
    /// on without. It sees whole batches, but two calls on the view may see different ones. Errors: what `read`
    /// returns, closed.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&MapView<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.read_for(Whose::Own, read).await
    }

    /// The same for a client: behind everything that the node needs itself, and with an end. Errors: also
    /// [`StoreError::Busy`].
    pub async fn query<T: Send + 'static>(
        &self,
        read: impl FnOnce(&MapView<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.read_for(Whose::Asked, read).await
    }

    async fn read_for<T: Send + 'static>(
        &self,
        whose: Whose,
        read: impl FnOnce(&MapView<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.home {
            Home::Disk(state) => state.read(self.name.clone(), whose, read).await,
            Home::Memory(store) => store.read(&self.name, read),
        }
    }
}

/// Sees one pair after another, until it breaks.
pub type Each<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A map while it is read.
pub struct MapView<'a>(View<'a>);

enum View<'a> {
    /// sled's handle is some kilobytes.
    Sled(Box<SledView<'a>>),
    Memory(&'a std::collections::BTreeMap<Bytes, Bytes>),
}

impl std::fmt::Debug for MapView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MapView")
    }
}

impl<'a> MapView<'a> {
    pub(crate) fn sled(view: SledView<'a>) -> Self {
        Self(View::Sled(Box::new(view)))
    }

    pub(crate) fn memory(map: &'a std::collections::BTreeMap<Bytes, Bytes>) -> Self {
        Self(View::Memory(map))
    }

    /// The value under `key`. A damaged one is an error that names map and key (G12).
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match &self.0 {
            View::Sled(view) => view.get(key),
            View::Memory(map) => Ok(map.get(key).cloned()),
        }
    }

    /// Pairs with `from <= key < to` (an empty `to` means no upper end), from the low end or, with `reverse`, from the
    /// high end; at most `max_items` and, beyond the first, at most `max_bytes` of keys and values.
    pub fn range(
        &self,
        from: &[u8],
        to: &[u8],
        max_items: usize,
        max_bytes: usize,
        reverse: bool,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let mut out = Vec::new();
        let mut bytes = 0;
        if max_items == 0 {
            return Ok(out);
        }
        self.scan(from, to, reverse, &mut |key, value| {
            bytes += key.len() + value.len();
            if !out.is_empty() && bytes > max_bytes {
                return ControlFlow::Break(());
            }
            out.push((key, value));
            if out.len() >= max_items { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(out)
    }

    /// Calls `each` for every pair with `from <= key < to` (an empty `to` means no upper end) until it breaks.
    pub fn for_each(&self, from: &[u8], to: &[u8], each: &mut Each<'_>) -> Result<(), StoreError> {
        self.scan(from, to, false, &mut |key, value| each(&key, &value))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        each: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if !to.is_empty() && from >= to {
            return Ok(());
        }
        let end = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
        match &self.0 {
            View::Sled(view) => view.scan(from, end, reverse, each),
            View::Memory(map) => {
                let mut range = map.range::<[u8], _>((Bound::Included(from), end));
                while let Some((key, value)) = if reverse { range.next_back() } else { range.next() } {
                    if each(key.clone(), value.clone()).is_break() {
                        break;
                    }
                }
                Ok(())
            }
        }
    }
}

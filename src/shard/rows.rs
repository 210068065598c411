//! The bridge between rows and the node's ordered byte maps.

use std::ops::ControlFlow;

use bytes::Bytes;
use rookery_raft::{Batch, Map, MapView, StoreError};

use super::shared::Shared;
use crate::state::{RowFault, RowReader, RowWrites};

/// Reads rows of one map on the read pool.
struct Rows<'a>(&'a MapView<'a>);

impl RowReader for Rows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowFault> {
        self.0.get(key).map_err(|fault| RowFault::Store(fault.to_string()))
    }

    fn scan_from(
        &self,
        prefix: &[u8],
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool, RowFault>,
    ) -> Result<(), RowFault> {
        let mut failed = None;
        let mut visit = |key: &[u8], value: &[u8]| match each(key, value) {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => ControlFlow::Break(()),
            Err(fault) => {
                failed = Some(fault);
                ControlFlow::Break(())
            }
        };
        let end = after_prefix(prefix);
        self.0.for_each(from, &end, &mut visit).map_err(|fault| RowFault::Store(fault.to_string()))?;
        failed.map_or(Ok(()), Err)
    }

    fn last_between(&self, from: &[u8], to: &[u8]) -> Result<Option<(Bytes, Bytes)>, RowFault> {
        // `range` ends before its upper bound; the next possible key after `to` is `to` with a zero byte.
        let mut end = to.to_vec();
        end.push(0);
        let found = self.0.range(from, &end, 1, usize::MAX, true);
        Ok(found.map_err(|fault| RowFault::Store(fault.to_string()))?.pop())
    }
}

/// The least key greater than every key that begins with `prefix`.
pub fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // Only a prefix of 0xff bytes comes here; no key of ours has one.
    vec![u8::MAX; 8]
}

/// Runs `read` over the rows of `map` on the read pool.
///
/// # Errors
/// [`RowFault`].
pub async fn read<T: Send + 'static>(
    map: &Map,
    read: impl FnOnce(&dyn RowReader) -> Result<T, RowFault> + Send + 'static,
) -> Result<T, RowFault> {
    let outer = map.read(move |view| Ok(read(&Rows(view)))).await;
    outer.map_err(|fault| RowFault::Store(fault.to_string()))?
}

/// The same as [`read_in_use`] for a client's request: behind what the shard needs itself.
///
/// # Errors
/// [`RowFault`], also [`RowFault::Busy`].
pub async fn query_in_use<T: Send + 'static>(
    shared: &Shared,
    read: impl FnOnce(&dyn RowReader) -> Result<T, RowFault> + Send + 'static,
) -> Result<Option<T>, RowFault> {
    let map = shared.map();
    let found = match map.query(move |view| Ok(read(&Rows(view)))).await {
        Ok(found) => found,
        Err(StoreError::Busy(_)) => Err(RowFault::Busy),
        Err(fault) => Err(RowFault::Store(fault.to_string())),
    };
    if is_replaced(shared, &map) { Ok(None) } else { found.map(Some) }
}

/// Runs `read` over the rows in use. `None` when a snapshot replaced them meanwhile: the old rows are then being taken
/// out one after another, so that neither what was found nor an error says anything.
///
/// # Errors
/// [`RowFault`].
pub async fn read_in_use<T: Send + 'static>(
    shared: &Shared,
    read: impl FnOnce(&dyn RowReader) -> Result<T, RowFault> + Send + 'static,
) -> Result<Option<T>, RowFault> {
    let map = shared.map();
    let found = self::read(&map, read).await;
    if is_replaced(shared, &map) { Ok(None) } else { found.map(Some) }
}

/// Whether a snapshot replaced `map`. Asked after a read: a map is replaced before the first of its rows is taken out.
pub fn is_replaced(shared: &Shared, map: &Map) -> bool {
    shared.map.read().name() != map.name()
}

/// What a reader says of rows that were replaced under him; he is sent to ask again.
pub fn replaced() -> RowFault {
    RowFault::Store("a snapshot replaced the rows while they were read".to_owned())
}

/// The map batch of an entity's changed rows.
pub fn batch(writes: RowWrites) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in writes.rows {
        match value {
            Some(value) => batch.put(key, value),
            None => batch.delete(key),
        }
    }
    batch
}

//! Sessions that opened in vain leave no rows.
//!
//! Who creates a group and whose own list is full leaves a session behind that never began; there are as many names as anybody
//! likes to try. When all lists have let go of it, it differs in nothing from a session of which nothing is known
//! ([`Session::is_over`]), and its rows, a head and members of before, can go: but not before a durable mark covers what they
//! say. A replay from an older mark finds in them that it must pass over what comes; with nothing there it would take the repeat of
//! a request, which that opening had answered, for the beginning of another. The same goes for whoever installs a snapshot
//! and goes on from the mark that it is named after. So nothing is deleted while one is streamed, and one that is named after
//! a mark from before a deletion is not begun.

use std::sync::atomic::Ordering;

use rookery_raft::{Fault, Map};
use rookery_wire::SessionId;

use super::checkpoint::{delete as delete_rows, unreadable};
use super::rows;
use super::shared::Shared;
use crate::state::{RowFault, RowReader, Session};

/// Sessions looked at in one read, and deleted in one batch.
const AT_ONCE: usize = 64;
/// Reads behind one checkpoint: apply waits for who is too slow with its checkpoints. The rest goes behind the next.
const READS: usize = 16;

/// Deletes what can go behind the durable mark at `index`.
///
/// # Errors
/// [`Fault`] when the store failed.
pub(super) async fn delete(shared: &Shared, map: &Map, index: u64) -> Result<(), Fault> {
    let Ok(_nobody_streams) = shared.snapshots.try_write() else { return Ok(()) };
    let mut later = Vec::new();
    for _ in 0..READS {
        let some = take(shared, AT_ONCE);
        if some.is_empty() {
            break;
        }
        let read = move |rows: &dyn RowReader| {
            let found = some.into_iter().map(|id| Ok((Session::rows_if_over(rows, &id)?, id)));
            found.collect::<Result<Vec<_>, RowFault>>()
        };
        let found = rows::read(map, read).await.map_err(unreadable)?;
        let (mut keys, mut newest) = (Vec::new(), 0);
        for (found, id) in found {
            match found {
                Some((reflects, of)) if reflects <= index => {
                    newest = newest.max(reflects);
                    keys.extend(of);
                }
                // Its rows are newer than the mark.
                Some(_) => later.push(id),
                // It opens again, or has begun.
                None => {}
            }
        }
        shared.deleted_at.fetch_max(newest, Ordering::AcqRel);
        delete_rows(map, keys).await?;
    }
    shared.over.lock().extend(later);
    Ok(())
}

fn take(shared: &Shared, most: usize) -> Vec<SessionId> {
    let mut over = shared.over.lock();
    (0..most).map_while(|_| over.pop_first()).collect()
}

/// Never returns if sessions were deleted that whoever goes on from the log index `name` might be told of: the transfer takes
/// silence for the end of this sender, and begins again under a newer name.
pub(super) async fn unless_too_old(shared: &Shared, name: u64) {
    if name < shared.deleted_at.load(Ordering::Acquire) {
        tracing::info!(
            shard = shared.shard,
            name,
            "a snapshot's name is older than what has been deleted since"
        );
        std::future::pending::<()>().await;
    }
}

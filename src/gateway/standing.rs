//! Whether the device of a connection is still registered.
//!
//! A device that is ended is told by a notice on its user's topic. Where that may be missed, because the connection
//! came while the device was ended or because the topic lags, the registration itself is looked at. Owns what is in doubt,
//! and the one task of a connection that looks until nothing is: it needs no request of the device, which may have every
//! reason to make none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::connection::Connection;
use super::places::attach_to_user;
use crate::shard::{Freshness, Read, ReadReply};
use crate::state::EntityKey;

/// Pause between two looks, while the topic lags or the first one learned nothing.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest pause while nothing can be learned: many connections may ask a shard that answers nobody.
const LATEST: Duration = Duration::from_secs(8);

/// What a connection knows of its device's registration.
pub(super) struct Standing {
    /// How often a notice may have been missed; the first time before the connection was attached.
    doubts: AtomicU64,
    /// Of these, from the first on, so many are settled: somebody has looked since.
    settled: AtomicU64,
    /// How often the user's topic has begun to lag and not resumed yet: no notice would come.
    deaf: AtomicUsize,
    /// Somebody looks.
    looking: AtomicBool,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            doubts: AtomicU64::new(1),
            settled: AtomicU64::new(0),
            deaf: AtomicUsize::new(0),
            looking: AtomicBool::new(false),
        }
    }
}

impl Standing {
    /// The newest doubt: what is read from now on settles it.
    pub(super) fn doubt(&self) -> u64 {
        self.doubts.load(Ordering::Acquire)
    }

    /// Nothing is in doubt: whatever ends the device will be heard of.
    pub(super) fn is_settled(&self) -> bool {
        self.deaf.load(Ordering::Acquire) == 0
            && self.settled.load(Ordering::Acquire) >= self.doubts.load(Ordering::Acquire)
    }

    fn settle(&self, doubt: u64) {
        self.settled.fetch_max(doubt, Ordering::AcqRel);
    }
}

/// The user's topic lags: no notice comes until it resumes, which the device can put off by reading slowly.
pub(super) fn deafened(connection: &Arc<Connection>) {
    connection.standing.deaf.fetch_add(1, Ordering::AcqRel);
    look_once(connection);
}

/// The user's topic goes on: notices come again, and one may have been missed.
pub(super) fn hears_again(connection: &Arc<Connection>) {
    let standing = &connection.standing;
    // In this order, so that at no moment nothing seems to be in doubt.
    standing.doubts.fetch_add(1, Ordering::AcqRel);
    let _ = standing.deaf.fetch_update(Ordering::AcqRel, Ordering::Acquire, |deaf| deaf.checked_sub(1));
    look_once(connection);
}

/// What was read of the registration after `doubt` was the newest doubt: the epoch that the user's shard has for the device.
pub(super) fn stands(connection: &Connection, doubt: u64, epoch: u32) {
    connection.standing.settle(doubt);
    if epoch != connection.epoch {
        connection.ended();
    }
}

/// Looks until nothing is in doubt, unless somebody does. SYNC looks for itself.
pub(super) fn look_once(connection: &Arc<Connection>) {
    let standing = &connection.standing;
    if standing.is_settled() || connection.is_closing() || standing.looking.swap(true, Ordering::AcqRel) {
        return;
    }
    let connection = Arc::clone(connection);
    let core = Arc::clone(&connection.core);
    core.spawn(async move {
        tokio::select! {
            () = connection.cancel.cancelled() => {}
            () = connection.closed() => {}
            () = run(&connection) => {}
        }
    });
}

async fn run(connection: &Arc<Connection>) {
    let standing = &connection.standing;
    let mut pause = AGAIN;
    loop {
        let known = look(connection).await;
        if standing.is_settled() {
            standing.looking.store(false, Ordering::Release);
            // A doubt that came just before found somebody looking.
            if standing.is_settled() || standing.looking.swap(true, Ordering::AcqRel) {
                return;
            }
            continue;
        }
        if known && standing.deaf.load(Ordering::Acquire) == 0 {
            // The doubt came while it was looked.
            continue;
        }
        tokio::time::sleep(pause).await;
        pause = if known { AGAIN } else { (pause * 2).min(LATEST) };
    }
}

/// Looks once. Says whether it learned something.
async fn look(connection: &Arc<Connection>) -> bool {
    let (router, user) = (&connection.core.router, connection.user().clone());
    let shard = router.shard_of(&EntityKey::User(user.clone()));
    let doubt = connection.standing.doubt();
    let is_attached = attach_to_user(connection).await;
    let read = Read::Epoch { user, device: connection.device().clone() };
    let Ok(ReadReply::Count(epoch)) = router.read(shard, read, Freshness::Linearizable).await else {
        return false;
    };
    // Who is not attached would hear of nothing that follows: then the doubt stays.
    stands(connection, if is_attached { doubt } else { 0 }, u32::try_from(epoch).unwrap_or(0));
    is_attached
}

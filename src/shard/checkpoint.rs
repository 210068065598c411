//! Fuzzy checkpoints: changed entities are written in the background, then the applied mark, then a flush; only then
//! may the log be purged (R7). Entities may be ahead of the mark; replay passes over what they reflect.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::Addr;
use bytes::Bytes;
use rookery_raft::{Fault, Group, Map, Mark};
use rookery_wire::SessionId;
use tokio::sync::OwnedSemaphorePermit;

use super::entity::{Collect, Entity, EntityActor, Written};
use super::machine::{EntryWaiter, Machine};
use super::rows;
use super::shared::Shared;
use crate::state::key::{self, letter};
use crate::state::session_rows::needless_numbers;
use crate::state::versions::needless_versions;
use crate::state::{EntityKey, Freed, RowFault, RowWrites, records};

/// Rows of several entities are written together up to so many bytes.
const WRITE_BYTES: usize = 1 << 20;

/// Actors that are asked for their rows at once.
const AT_ONCE: usize = 64;
/// From so many changed entities of a shard on, with less than `LITTLE` bytes of changes in each, changes are scattered: what their
/// checkpoint costs goes by entities and not by bytes.
const SCATTERED: usize = 32;
/// See [`SCATTERED`]; no more than a run of records.
const LITTLE: usize = 8 << 10;
/// So many times as long a shard leaves scattered changes before it writes them: each entity then has more to write at once.
const STRETCH: u32 = 4;

/// Records that are hashed in passing, less than a tenth of a millisecond.
const SEALED_HERE: usize = 128;

/// Rows of trimmed records looked at and deleted in one batch.
const FREED: usize = 1000;
/// Batches of versions looked at behind one checkpoint: an edited message may have many, and apply waits for who is too slow
/// with its checkpoints. What is left goes behind the next.
const VERSION_BATCHES: usize = 16;
/// Old numbers are looked for each time the first kept seq has passed a multiple of this.
const NUMBERS_EVERY: u64 = 256;

/// The key of the note that the log must be purged, which outlives a restart.
pub const UNPURGED_KEY: [u8; 1] = [letter::UNPURGED];

/// The key of the applied mark.
pub const APPLIED_KEY: [u8; 1] = [letter::APPLIED];

/// Writes checkpoints until it is dropped.
pub struct Checkpointer {
    /// Shared.
    pub shared: Arc<Shared>,
    /// The shard's machine, which knows the mark.
    pub machine: Arc<Machine>,
    /// To purge behind a checkpoint.
    pub group: Group<EntryWaiter>,
}

impl Checkpointer {
    /// Runs for ever; aborted by its owner.
    pub async fn run(self) {
        let mut written: Option<Mark> = self.machine.opened_at.clone();
        // Not all shards collect at the same moment, but neighbours share a flush: it costs the same for many as for one.
        let offset = self.shared.options.checkpoint_every / 4 * (self.shared.shard % 4);
        tokio::time::sleep(offset).await;
        loop {
            pause(&self.shared).await;
            match self.once(&mut written).await {
                Ok(()) => self.shared.checkpoint_done.notify_waiters(),
                Err(fault) => return (self.shared.stop)(fault),
            }
        }
    }

    /// One checkpoint; `last` is the mark of the one before.
    ///
    /// # Errors
    /// [`Fault`] when the store failed.
    pub async fn once(&self, last: &mut Option<Mark>) -> Result<(), Fault> {
        let turn = turn(&self.shared).await;
        let Some(mark) = write(&self.machine, last.as_ref()).await? else { return Ok(()) };
        drop(turn);
        // No lock is held here: the group may be busy with a snapshot, and passes over a mark older than that.
        self.group.checkpointed(mark.clone()).await;
        if self.shared.must_purge(mark.index()) {
            self.shared.purge_wanted.notify_one();
        }
        *last = Some(mark);
        Ok(())
    }
}

/// Waits until it is time, or until memory or a recall asks for a checkpoint.
pub(super) async fn pause(shared: &Shared) {
    for _ in 0..STRETCH {
        let wanted = shared.checkpoint_wanted.notified();
        let asked = tokio::time::timeout(shared.options.checkpoint_every, wanted).await.is_ok();
        if asked || !can_wait(shared) {
            return;
        }
    }
}

/// Shards of a node write scattered changes one after another, for all at once they make everybody wait; one that has waited for
/// as long as it might have left them, or is asked, goes on beside the others.
pub(super) async fn turn(shared: &Shared) -> Option<OwnedSemaphorePermit> {
    if !can_wait(shared) {
        return None;
    }
    let turn = shared.scattered.clone().acquire_owned();
    tokio::select! {
        biased;
        turn = tokio::time::timeout(shared.options.checkpoint_every * STRETCH, turn) => turn.ok()?.ok(),
        () = shared.checkpoint_wanted.notified() => None,
    }
}

/// Whether changes are scattered, and neither memory nor a recall (G7) asks for a checkpoint.
fn can_wait(shared: &Shared) -> bool {
    let changed = shared.dirty.lock().len();
    let bytes = shared.unwritten.load(Ordering::Acquire);
    changed >= SCATTERED
        && bytes < changed * LITTLE
        && bytes <= shared.options.unwritten_bytes / 2
        && shared.unpurged.lock().is_none()
}

/// Purges the log each time a checkpoint covers a recall, so that the content leaves it too (G7). Runs for ever; aborted
/// by its owner.
pub async fn purge_recalled(machine: Arc<Machine>, group: Group<EntryWaiter>) {
    let shared = &machine.shared;
    loop {
        shared.purge_wanted.notified().await;
        let purged =
            group.purge_all().await.map_err(|fault| Fault::with_source("the log is not purged", fault));
        if let Err(fault) = note_purged(&machine, purged).await {
            tracing::warn!(shard = shared.shard, %fault, "recalled content is still in the log; tried again");
            tokio::time::sleep(shared.options.checkpoint_every).await;
            shared.purge_wanted.notify_one();
        }
    }
}

/// Takes the note away, unless more was recalled meanwhile.
pub(super) async fn note_purged(machine: &Machine, purged: Result<u64, Fault>) -> Result<(), Fault> {
    let (purged, shared) = (purged?, &*machine.shared);
    // No checkpoint writes another note meanwhile, and no snapshot takes the map away.
    let _one_generation = machine.turnover.lock().await;
    // A purge takes a while: more may have been recalled and be covered by a checkpoint, that asks for a purge of its own.
    if shared.unpurged.lock().is_some() || purged < shared.purge_asked.load(Ordering::Acquire) {
        return Ok(());
    }
    let mut note = rookery_raft::Batch::default();
    note.delete(Bytes::from_static(&UNPURGED_KEY));
    shared.map().apply(note).await.map_err(store_fault)
}

/// Writes what changed and then the mark, durably, and gives that mark; `None` when it is `last` or there is none.
///
/// # Errors
/// [`Fault`] when the store failed.
pub(super) async fn write(machine: &Machine, last: Option<&Mark>) -> Result<Option<Mark>, Fault> {
    let shared = &*machine.shared;
    let _one_generation = machine.turnover.lock().await;
    // First the mark, then the entities: whatever is applied up to the mark is in the rows collected after it.
    let Some(mark) = machine.applied.lock().clone() else { return Ok(None) };
    let map = shared.map();
    if last == Some(&mark) {
        // What a snapshot or a crash kept from it.
        free(shared, &map, VERSION_BATCHES).await?;
        super::over::delete(shared, &map, mark.index()).await?;
        return Ok(None);
    }
    let dirty: Vec<EntityKey> = std::mem::take(&mut *shared.dirty.lock()).into_iter().collect();
    let mut sessions = Collected::new(shared, &map);
    let mut users = Collected::new(shared, &map);
    let (mut of_sessions, mut of_users) = (Vec::new(), Vec::new());
    for key in dirty {
        match key {
            EntityKey::Session(key) => {
                of_sessions.extend(shared.sessions.get(&key).map(|resident| resident.addr.clone()));
            }
            EntityKey::User(key) => {
                of_users.extend(shared.users.get(&key).map(|resident| resident.addr.clone()));
            }
        }
    }
    for actors in of_sessions.chunks(AT_ONCE) {
        sessions.take(actors).await?;
    }
    for actors in of_users.chunks(AT_ONCE) {
        users.take(actors).await?;
    }
    let stale = std::mem::take(&mut *shared.stale_pages.lock());
    if shared.unpurged.lock().is_some() {
        // Before the rows: who starts with them must know.
        let mut note = rookery_raft::Batch::default();
        note.put(Bytes::from_static(&UNPURGED_KEY), Bytes::from_static(&[1]));
        map.apply(note).await.map_err(store_fault)?;
    }
    sessions.write().await?;
    users.write().await?;
    shared.pages.forget(&stale).await;
    write_mark(&map, &mark).await?;
    machine.store.sync().await.map_err(store_fault)?;
    free(shared, &map, VERSION_BATCHES).await?;
    super::over::delete(shared, &map, mark.index()).await?;
    Ok(Some(mark))
}

/// Deletes the rows of trimmed records, and of versions that are kept no more, now that the heads that say so are durable: a replay that has not got there yet
/// still finds them. While a snapshot is streamed they stay, and a row remembers them over a crash. Of rows of versions so many
/// batches are looked at.
pub(super) async fn free(shared: &Shared, map: &Map, mut batches: usize) -> Result<(), Fault> {
    let Ok(_nobody_streams) = shared.streaming.try_write() else { return Ok(()) };
    let freed = std::mem::take(&mut *shared.freed.lock());
    for (session, Freed { before, first, versions }) in freed {
        loop {
            let of = session.clone();
            let read = rows::read(map, move |rows| records::before(rows, &of, first, FREED)).await;
            let keys = read.map_err(unreadable)?;
            let done = keys.len() < FREED;
            delete(map, keys).await?;
            if done {
                break;
            }
        }
        if !free_versions(shared, map, &session, (first, versions), &mut batches).await? {
            shared.freed.lock().insert(session, Freed { before, first, versions });
            continue;
        }
        if before / NUMBERS_EVERY < first / NUMBERS_EVERY {
            free_numbers(map, &session, first).await?;
        }
        delete(map, vec![key::session(letter::FREED, &session).into()]).await?;
    }
    Ok(())
}

/// Deletes versions of trimmed messages, which are the first rows there, and those that were given up, which may be any, from
/// where this ended the last time. Says whether that is all.
async fn free_versions(
    shared: &Shared,
    map: &Map,
    session: &SessionId,
    (first, given_up): (u64, u64),
    batches: &mut usize,
) -> Result<bool, Fault> {
    if free_versions_from(map, session, (first, 0), None, batches).await?.is_some() {
        return Ok(false);
    }
    if given_up == 0 {
        return Ok(true);
    }
    let from = shared.freeing.lock().remove(session);
    let rest = free_versions_from(map, session, (first, given_up), from, batches).await?;
    let Some(next) = rest else { return Ok(true) };
    shared.freeing.lock().insert(session.clone(), next);
    Ok(false)
}

/// From a row on; gives the row to go on from where there are more than may be looked at. Where there is none to be looked at,
/// that takes nothing from the others.
async fn free_versions_from(
    map: &Map,
    session: &SessionId,
    (first, given_up): (u64, u64),
    mut from: Option<Bytes>,
    batches: &mut usize,
) -> Result<Option<Bytes>, Fault> {
    loop {
        if *batches == 0 {
            return Ok(Some(from.unwrap_or_else(|| key::session(letter::VERSION, session).into())));
        }
        let of = session.clone();
        let read =
            rows::read(map, move |rows| needless_versions(rows, &of, first, given_up, from, FREED)).await;
        let (keys, next) = read.map_err(unreadable)?;
        if given_up > 0 || !keys.is_empty() {
            *batches -= 1;
        }
        delete(map, keys).await?;
        from = next;
        if from.is_none() {
            return Ok(None);
        }
    }
}

/// All numbers of the session are looked at, so this is done now and then.
async fn free_numbers(map: &Map, session: &SessionId, first: u64) -> Result<(), Fault> {
    let mut from = None;
    loop {
        let of = session.clone();
        let read = rows::read(map, move |rows| needless_numbers(rows, &of, first, from, FREED)).await;
        let (keys, next) = read.map_err(unreadable)?;
        delete(map, keys).await?;
        from = next;
        if from.is_none() {
            return Ok(());
        }
    }
}

pub(super) async fn delete(map: &Map, keys: Vec<Bytes>) -> Result<(), Fault> {
    let mut batch = rookery_raft::Batch::default();
    keys.into_iter().for_each(|key| batch.delete(key));
    map.apply(batch).await.map_err(store_fault)
}

pub(super) fn unreadable(fault: RowFault) -> Fault {
    Fault::with_source("rows cannot be read", fault)
}

async fn write_mark(map: &Map, mark: &Mark) -> Result<(), Fault> {
    let mut batch = rookery_raft::Batch::default();
    batch.put(Bytes::from_static(&APPLIED_KEY), mark.bytes());
    map.apply(batch).await.map_err(store_fault)
}

/// Rows collected from actors of one kind, and the actors to tell when they are written.
struct Collected<'a, E: Entity> {
    shared: &'a Shared,
    map: &'a Map,
    rows: RowWrites,
    freed: Vec<(SessionId, Freed)>,
    actors: Vec<Addr<EntityActor<E>>>,
}

impl<'a, E: Entity> Collected<'a, E> {
    fn new(shared: &'a Shared, map: &'a Map) -> Self {
        Self { shared, map, rows: RowWrites::default(), freed: Vec::new(), actors: Vec::new() }
    }

    /// Collects from these actors at once, so that threads change hands once for all of them.
    async fn take(&mut self, actors: &[Addr<EntityActor<E>>]) -> Result<(), Fault> {
        // No snapshot is installed meanwhile: an actor that is gone had a fault, and what it held is in no row. No mark may
        // say that it is.
        let gone = |_| Fault::new("an entity with changes that are in no row yet has ended");
        let collected = futures::future::join_all(actors.iter().map(|actor| actor.send(Collect))).await;
        for (actor, rows) in actors.iter().zip(collected) {
            self.add(actor, rows.map_err(gone)?).await?;
        }
        Ok(())
    }

    async fn add(&mut self, actor: &Addr<EntityActor<E>>, rows: RowWrites) -> Result<(), Fault> {
        let mut rows = seal(rows).await?;
        rows.remember(|session| self.shared.freed.lock().get(session).copied());
        self.write_ahead(std::mem::take(&mut rows.ahead)).await?;
        self.freed.extend(rows.freed.take());
        self.shared.over.lock().extend(rows.over.take());
        self.rows.bytes += rows.bytes;
        self.rows.rows.append(&mut rows.rows);
        self.actors.push(actor.clone());
        if self.rows.bytes >= WRITE_BYTES { self.write().await } else { Ok(()) }
    }

    /// Rows that need not be there at once with the rest of their entity, in batches of a bounded size and in their order, by
    /// which every part of them can be read.
    async fn write_ahead(&self, ahead: Vec<(Bytes, Option<Bytes>)>) -> Result<(), Fault> {
        let mut part = RowWrites::default();
        let mut ahead = ahead.into_iter().peekable();
        while let Some((key, value)) = ahead.next() {
            part.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
            part.rows.push((key, value));
            if part.bytes >= WRITE_BYTES || ahead.peek().is_none() {
                let _one_index = self.shared.rows_lock.write().await;
                self.map.apply(rows::batch(std::mem::take(&mut part))).await.map_err(store_fault)?;
            }
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), Fault> {
        if !self.rows.rows.is_empty() {
            let _one_index = self.shared.rows_lock.write().await;
            self.map.apply(rows::batch(std::mem::take(&mut self.rows))).await.map_err(store_fault)?;
        }
        let mut freed = self.shared.freed.lock();
        for (session, moved) in self.freed.drain(..) {
            let left = freed.insert(session.clone(), moved);
            if left.is_none_or(|left| left.versions < moved.versions) {
                // More of them are needless now.
                self.shared.freeing.lock().remove(&session);
            }
        }
        drop(freed);
        for actor in self.actors.drain(..) {
            actor.do_send(Written);
        }
        Ok(())
    }
}

/// Makes rows of collected records: here if they are few, else where the runtime's threads do not wait for it.
async fn seal(mut rows: RowWrites) -> Result<RowWrites, Fault> {
    if rows.unsealed() <= SEALED_HERE {
        rows.seal().map_err(unreadable)?;
        return Ok(rows);
    }
    let sealed = tokio::task::spawn_blocking(move || rows.seal().map(|()| rows)).await;
    sealed.map_err(|fault| Fault::with_source("records cannot be sealed", fault))?.map_err(unreadable)
}

/// A store error as a reason to stop.
pub fn store_fault(fault: impl std::error::Error + Send + Sync + 'static) -> Fault {
    Fault::with_source("the node's store failed", fault)
}

//! What the parts of one shard on one node share: its name and bounds, its map, its tables, its neighbours.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use rookery_raft::{Clock, Entropy, Fault, Map};
use rookery_wire::{SessionId, UserId};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::api::{Answer, Answers, Freshness, Read, ReadRefusal, ReadReply, Turn};
use super::compare::Divergences;
use super::digests::HASHING;
use super::directory::Directory;
use super::entity::Resident;
use super::handle::Surroundings;
use super::overdue::SureTime;
use super::pages::{PageKey, Pages};
use super::proposer::Proposals;
use super::reads::WAKING;
use super::retention::{Defaults, Timers};
use super::tables::Tables;
use super::traffic::Traffic;
use crate::delivery::Delivery;
use crate::state::{Command, EntityKey, Freed, Session, SessionLimits, User};

/// Carries a command to the shard that owns its entity, wherever that is led; implemented by the router.
pub trait Outbound: Send + Sync + 'static {
    /// The answer, or `Again` when the deadline passed.
    fn execute(&self, command: Command, deadline: Duration) -> BoxFuture<'static, Answer>;
    /// The other nodes that hold a shard and can be asked now.
    fn holders(&self, shard: u32) -> Vec<u16>;
    /// Asks the replica of one of them.
    fn ask(
        &self,
        node: u16,
        shard: u32,
        read: Read,
        freshness: Freshness,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<ReadReply, ReadRefusal>>;
}

/// Whether this node's clock agrees with its peers' (R10).
pub type TimeAgrees = Arc<dyn Fn() -> bool + Send + Sync>;

/// What stops the node.
pub type Stop = Arc<dyn Fn(Fault) + Send + Sync>;

/// Bounds and rhythms of a shard, from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct ShardOptions {
    /// Of each session.
    pub limits: SessionLimits,
    /// Time between checkpoints.
    pub checkpoint_every: Duration,
    /// Bytes applied and not yet in the map, of records and what else a command leaves: apply waits beyond it.
    pub unwritten_bytes: usize,
    /// An entity that nobody has used for so long leaves memory, though there were room.
    pub resident_idle: Duration,
    /// Sessions kept in memory on this shard.
    pub resident_sessions: usize,
    /// Users kept in memory on this shard.
    pub resident_users: usize,
    /// Log entries proposed and not yet applied.
    pub entries_in_flight: usize,
    /// Bytes of commands in one entry.
    pub entry_bytes: usize,
    /// Commands waiting to be proposed; beyond it BUSY.
    pub queue: usize,
    /// Bytes of cold pages kept for readers.
    pub page_cache_bytes: u64,
    /// How long sessions keep messages for which nothing else was set.
    pub retention: Defaults,
    /// How often sessions are looked at for messages that are not to be kept.
    pub sweep_every: Duration,
    /// How often one session is compared with the other replicas; zero for never.
    pub compare_every: Duration,
    /// Sessions a user may be in; carried in commands where it is judged.
    pub sessions_per_user: u32,
    /// Sessions a user is in no more that its list remembers; carried in commands where it is judged.
    pub left_per_user: u32,
    /// Users' lists take sessions only if they are those of users; carried in commands where it is judged.
    pub users_only: bool,
    /// Relations of a user's own; carried in commands where it is judged.
    pub relations_per_user: u32,
    /// Requests of others that may wait with a user; carried likewise.
    pub requests_per_user: u32,
}

/// Shared by the actors and tasks of one shard.
pub struct Shared {
    /// This node.
    pub node: u16,
    /// The group id, 1-based.
    pub shard: u32,
    /// Shards in all.
    pub shards: u32,
    /// Bounds.
    pub options: ShardOptions,
    /// The map of the generation in use; exchanged only when a snapshot was installed.
    pub map: RwLock<Map>,
    /// Held while rows of an entity are written, and while a snapshot reads one entity: so it reads it at one index.
    pub rows_lock: tokio::sync::RwLock<()>,
    /// Every session of the shard.
    pub table: Directory,
    /// Places for readers that wake a session or a user.
    pub waking: Semaphore,
    /// Places for those who hash records for a digest, until the work is done, whether or not somebody still waits for it.
    pub hashing: Arc<Semaphore>,
    /// Records read from rows.
    pub pages: Pages,
    /// Pages of which a message was recalled or edited, to be let go of around the next checkpoint.
    pub stale_pages: Mutex<Vec<PageKey>>,
    /// Log indices of the first and the last recall or edit that the log still holds: each checkpoint that covers some of
    /// them has the log purged up to itself (G7).
    pub unpurged: Mutex<Option<(u64, u64)>>,
    /// Log index up to which checkpoints have asked for a purge: before the log is purged so far, rows go on saying that it
    /// must be.
    pub purge_asked: AtomicU64,
    /// A checkpoint covers a recall.
    pub purge_wanted: Notify,
    /// Registry of session actors.
    pub sessions: DashMap<SessionId, Resident<Session>>,
    /// Registry of user actors.
    pub users: DashMap<UserId, Resident<User>>,
    /// Entities changed since their rows were collected.
    pub dirty: Mutex<HashSet<EntityKey>>,
    /// Sessions with intents that have not arrived.
    pub intents: Mutex<BTreeSet<SessionId>>,
    /// When messages are to go.
    pub timers: Mutex<Timers>,
    /// Held while an entity is streamed in a snapshot, and while rows are deleted whose records are trimmed: one whose head
    /// was read before keeps them.
    pub streaming: tokio::sync::RwLock<()>,
    /// Sessions whose trimmed records are to be deleted from rows.
    pub freed: Mutex<BTreeMap<SessionId, Freed>>,
    /// Of those that have more versions to be deleted than one checkpoint does: the row to go on from.
    pub freeing: Mutex<BTreeMap<SessionId, bytes::Bytes>>,
    /// Sessions whose rows are to go, for they opened in vain.
    pub over: Mutex<BTreeSet<SessionId>>,
    /// Held while a whole snapshot is streamed (`streaming` is held for one entity of it), and while rows of such sessions are
    /// deleted.
    pub snapshots: tokio::sync::RwLock<()>,
    /// The last log index up to which such a session was deleted as of: a snapshot that is named after an older one may lack it
    /// where its receiver would need it.
    pub deleted_at: AtomicU64,
    /// Whether this node's clock agrees with its peers' (R10).
    pub time_agrees: TimeAgrees,
    /// When it last did.
    pub(super) sure: SureTime,
    /// There are new intents, or this node has begun to lead.
    pub intents_moved: Notify,
    /// Users with errands that have not arrived.
    pub errands: Mutex<BTreeSet<UserId>>,
    /// There are new errands, or this node has begun to lead.
    pub errands_moved: Notify,
    /// Bytes of records applied and not yet in the map.
    pub unwritten: AtomicUsize,
    /// Of all shards of the node: the turn of the one that writes scattered changes.
    pub scattered: Arc<Semaphore>,
    /// A checkpoint is wanted before its time.
    pub checkpoint_wanted: Notify,
    /// A checkpoint has been written.
    pub checkpoint_done: Notify,
    /// Snapshots installed since the shard was opened.
    pub installed: AtomicU64,
    /// Whether this node leads the shard.
    pub leading: AtomicBool,
    /// Term in which this node last began to lead.
    pub term: AtomicU64,
    /// The last turn given to an arrival.
    pub turns: AtomicU64,
    /// Pushes.
    pub delivery: Arc<Delivery>,
    /// Answers.
    pub answers: Arc<dyn Answers>,
    /// Set once proposals can be made.
    pub proposals: OnceLock<Proposals>,
    /// Where the other replicas were found to differ.
    pub divergences: Divergences,
    /// Versions of messages that readers were told are lost, since the shard was opened.
    pub versions_lost: AtomicU64,
    /// Commands of loud entities that went into the log at a pace, for the sake of others, since the shard was opened.
    pub paced: AtomicU64,
    /// Set once the router is there.
    pub outbound: OnceLock<Arc<dyn Outbound>>,
    /// What else goes on at this node.
    pub traffic: Arc<Traffic>,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Stops the node.
    pub stop: Stop,
    began: Instant,
}

impl Shared {
    /// What a shard over these rows shares. It follows, and has neither proposals nor a way out yet.
    pub(super) fn new(
        shard: u32,
        options: ShardOptions,
        around: &Surroundings,
        map: Map,
        tables: Tables,
    ) -> Self {
        let table = Directory::new(&*around.entropy);
        tables.table.iter().for_each(|(session, row)| table.insert(session, *row));
        Self {
            node: around.node,
            shard,
            shards: around.shards,
            options,
            map: RwLock::new(map),
            rows_lock: tokio::sync::RwLock::new(()),
            waking: Semaphore::new(WAKING),
            hashing: Arc::new(Semaphore::new(HASHING)),
            pages: Pages::new(options.page_cache_bytes),
            stale_pages: Mutex::default(),
            unpurged: Mutex::default(),
            purge_asked: AtomicU64::new(0),
            purge_wanted: Notify::new(),
            table,
            sessions: DashMap::new(),
            users: DashMap::new(),
            dirty: Mutex::default(),
            intents: Mutex::new(tables.intents.into_iter().collect()),
            timers: Mutex::new(tables.timers),
            streaming: tokio::sync::RwLock::new(()),
            freed: Mutex::new(tables.freed),
            freeing: Mutex::default(),
            over: Mutex::new(tables.over),
            snapshots: tokio::sync::RwLock::new(()),
            deleted_at: AtomicU64::new(0),
            time_agrees: around.time_agrees.clone(),
            sure: SureTime::default(),
            intents_moved: Notify::new(),
            errands: Mutex::new(tables.errands.into_iter().collect()),
            errands_moved: Notify::new(),
            unwritten: AtomicUsize::new(0),
            scattered: around.scattered.clone(),
            checkpoint_wanted: Notify::new(),
            checkpoint_done: Notify::new(),
            installed: AtomicU64::new(0),
            leading: AtomicBool::new(false),
            term: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            delivery: around.delivery.clone(),
            answers: around.answers.clone(),
            proposals: OnceLock::new(),
            divergences: Divergences::default(),
            versions_lost: AtomicU64::new(0),
            paced: AtomicU64::new(0),
            outbound: OnceLock::new(),
            traffic: around.traffic.clone(),
            clock: around.clock.clone(),
            entropy: around.entropy.clone(),
            stop: around.stop.clone(),
            began: Instant::now(),
        }
    }
    /// Milliseconds since the shard was opened.
    pub fn uptime_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
    /// The map in use.
    pub fn map(&self) -> Map {
        self.map.read().clone()
    }
    /// Whether this node leads.
    pub fn is_leading(&self) -> bool {
        self.leading.load(Ordering::Acquire)
    }
    /// This node leads, or led, in this term.
    pub fn leads_in(&self, term: u64) {
        self.term.fetch_max(term, Ordering::AcqRel);
    }
    /// The next turn of an arrival; greater than all before it on this node, also before a restart within one term.
    pub fn next_turn(&self) -> Turn {
        let clock = self.clock.unix_ms().saturating_mul(1000);
        let next = |last: u64| Some(clock.max(last + 1));
        // The closure always returns a value.
        let (Ok(last) | Err(last)) = self.turns.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        Turn { term: self.term.load(Ordering::Acquire), count: clock.max(last + 1) }
    }
    /// Notes that an entity has changed.
    pub fn touch(&self, key: EntityKey) {
        self.dirty.lock().insert(key);
    }
    /// A message was recalled or edited, in the log's entry `index`: what rows and caches have of it must go soon.
    pub fn rewritten(&self, page: PageKey, index: u64) {
        self.stale_pages.lock().push(page);
        self.to_be_purged(index);
    }
    /// The log holds something up to its entry `index` that was taken back there: it must go from it soon.
    pub fn to_be_purged(&self, index: u64) {
        let mut unpurged = self.unpurged.lock();
        let (first, last) = unpurged.unwrap_or((index, index));
        *unpurged = Some((first.min(index), last.max(index)));
        self.checkpoint_wanted.notify_one();
    }
    /// A checkpoint covers the log up to `index`; says whether there is something among it that must leave the log.
    pub fn must_purge(&self, index: u64) -> bool {
        let mut unpurged = self.unpurged.lock();
        let Some((first, last)) = *unpurged else { return false };
        if first <= index {
            *unpurged = (last > index).then_some((index + 1, last));
            self.purge_asked.fetch_max(index, Ordering::AcqRel);
        }
        first <= index
    }
    /// Counts records that are in the map now. A snapshot sets the count to 0 under the feet of older actors.
    pub fn sub_unwritten(&self, bytes: usize) {
        let less = |count: usize| Some(count.saturating_sub(bytes));
        // The closure always returns a value, so this cannot fail.
        let _ = self.unwritten.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }
    /// Counts records that are not in the map yet.
    pub fn add_unwritten(&self, bytes: usize) {
        let before = self.unwritten.fetch_add(bytes, Ordering::AcqRel);
        if before + bytes > self.options.unwritten_bytes / 2 {
            self.checkpoint_wanted.notify_one();
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("node", &self.node).field("shard", &self.shard).finish_non_exhaustive()
    }
}

//! Opening a shard on this node, and the handle through which the router uses it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, Addr, ArbiterHandle};
use parking_lot::Mutex;
use rookery_raft::{
    Clock, Entropy, Fault, Group, GroupStatus, Host, Mark, RaftError, RaftId, ReadError, Store,
};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::actor::{Attach, Passivate, ShardActor};
use super::api::{Answers, Freshness, Read, ReadRefusal, ReadReply, Submission};
use super::checkpoint::{APPLIED_KEY, Checkpointer, UNPURGED_KEY, purge_recalled, store_fault};
use super::compare::Divergences;
use super::entity::{map_name, open_map};
use super::machine::{EntryWaiter, Machine};
use super::pages::Pages;
use super::proposer::Proposer;
use super::reads::Reads;
use super::retention;
use super::shared::{Outbound, ShardOptions, Shared, Stop, TimeAgrees};
use super::snapshot::POINTERS;
use super::tables::read_tables;
use super::traffic::Traffic;
use super::{carrier, compare, errands};
use crate::delivery::{Delivery, Receiver, Topic};

/// Longest time between two looks for idle entities.
const PASSIVATE_EVERY: Duration = Duration::from_secs(1);

/// Where a shard's actors live.
#[derive(Clone, Debug)]
pub enum Stage {
    /// On an arbiter of its own thread.
    Arbiter(ArbiterHandle),
    /// On the current thread: a simulation has one.
    Here,
}

/// What a shard is opened with.
#[derive(Clone)]
pub struct Surroundings {
    /// This node.
    pub node: u16,
    /// Shards in all.
    pub shards: u32,
    /// The node's store.
    pub store: Store,
    /// Pushes.
    pub delivery: Arc<Delivery>,
    /// Answers.
    pub answers: Arc<dyn Answers>,
    /// What goes on at the node.
    pub traffic: Arc<Traffic>,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Whether the clock agrees with the peers'.
    pub time_agrees: TimeAgrees,
    /// The turn, of one, to write changes that are scattered over many entities.
    pub scattered: Arc<Semaphore>,
    /// Stops the node.
    pub stop: Stop,
}

/// One local replica of a shard. Cheap to clone; the shard lives until [`ShardHandle::stop`].
#[derive(Clone)]
pub struct ShardHandle {
    shared: Arc<Shared>,
    group: Group<EntryWaiter>,
    actor: Addr<ShardActor>,
    proposer: Proposer,
    reads: Reads,
    leader: watch::Receiver<Option<u16>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

/// What a replica keeps in memory of what it has on disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caches {
    /// Sessions that there are.
    pub sessions: u64,
    /// Those of them that are in memory.
    pub sessions_resident: u64,
    /// Users in memory.
    pub users_resident: u64,
    /// Pages of old records asked for since the shard was opened.
    pub pages_asked: u64,
    /// Pages read from disk for that.
    pub pages_loaded: u64,
}

impl ShardHandle {
    /// Opens a shard: its map and tables, its actors on `stage`, its group on `host`, its tasks.
    ///
    /// # Errors
    /// [`Fault`] when its rows cannot be read or its group cannot be opened.
    pub async fn open(
        shard: u32,
        options: ShardOptions,
        around: &Surroundings,
        host: &Host,
        stage: &Stage,
    ) -> Result<Self, Fault> {
        let generation = generation(&around.store, shard).await?;
        // Left by an installation that was interrupted.
        around.store.drop_map(&map_name(shard, generation + 1)).await.map_err(store_fault)?;
        let map = open_map(&around.store, shard, generation)?;
        let opened_at = match map.read(|view| view.get(&APPLIED_KEY)).await.map_err(store_fault)? {
            Some(bytes) => Some(Mark::from_bytes(&bytes)?),
            None => None,
        };
        let unpurged = map.read(|view| view.get(&UNPURGED_KEY)).await.map_err(store_fault)?.is_some();
        let tables = read_tables(&map).await?;
        let shared = Arc::new(Shared::new(shard, options, around, map, tables));
        #[cfg(feature = "planted-bugs")]
        super::plant::deliver_before_commit(&shared);
        let actor = start_actor(stage, shared.clone());
        let store = around.store.clone();
        let machine = Arc::new(Machine::new(shared.clone(), actor.clone(), store, opened_at, generation));
        let opened = host.open_group(shard, machine.clone()).await;
        let group =
            opened.map_err(|fault| Fault::with_source(format!("shard {shard} cannot be opened"), fault))?;
        let mut tasks = JoinSet::new();
        let (proposer, proposing) = Proposer::start(shared.clone(), group.clone());
        tasks.spawn(async move {
            // A panic there is reported by the runtime; the shard's requests then time out and are asked elsewhere.
            let _ = proposing.await;
        });
        tasks.spawn(drop_replaced(around.store.clone(), shard, generation));
        tasks.spawn(purge_recalled(machine.clone(), group.clone()));
        tasks.spawn(Checkpointer { shared: shared.clone(), machine, group: group.clone() }.run());
        let every = options.checkpoint_every.min(PASSIVATE_EVERY);
        tasks.spawn(passivate(actor.clone(), shared.pages.clone(), every));
        if unpurged {
            shared.purge_wanted.notify_one();
        }
        tasks.spawn(carrier::run(shared.clone(), actor.clone()));
        tasks.spawn(errands::run(shared.clone(), actor.clone()));
        tasks.spawn(retention::run(shared.clone(), actor.clone()));
        let (leader_is, leader) = watch::channel(leader_of(&group.status()));
        tasks.spawn(follow_leader(group.clone(), leader_is));
        let reads = Reads { shared: shared.clone(), actor: actor.clone() };
        tasks.spawn(compare::run(reads.clone()));
        Ok(Self { shared, group, actor, proposer, reads, leader, tasks: Arc::new(Mutex::new(tasks)) })
    }

    /// Makes this replica's group what the placement says, on the first start of a cluster.
    ///
    /// # Errors
    /// When the group was initialised with other voters.
    pub async fn initialize(&self, voters: &[RaftId]) -> Result<(), RaftError> {
        self.group.initialize(voters).await
    }

    /// Gives the shard its way to other shards; without it intents wait.
    pub fn connect(&self, outbound: Arc<dyn Outbound>) {
        // A second router for one shard would be a wiring error; the first stays.
        let _ = self.shared.outbound.set(outbound);
        self.shared.intents_moved.notify_one();
        self.shared.errands_moved.notify_one();
    }

    /// The shard's number, 1-based.
    pub fn id(&self) -> u32 {
        self.shared.shard
    }
    /// The leading node as far as this one knows.
    pub fn leader(&self) -> Option<u16> {
        *self.leader.borrow()
    }
    /// Whether this node leads.
    pub fn leading(&self) -> bool {
        self.leader() == Some(self.shared.node)
    }
    /// Changes of the leader.
    pub fn watch_leader(&self) -> watch::Receiver<Option<u16>> {
        self.leader.clone()
    }
    /// The group's own view.
    pub fn status(&self) -> GroupStatus {
        self.group.status()
    }
    /// The group, for transfers and membership.
    pub fn group(&self) -> &Group<EntryWaiter> {
        &self.group
    }
    /// What is kept in memory.
    pub fn caches(&self) -> Caches {
        let (pages_asked, pages_loaded) = self.shared.pages.counts();
        Caches {
            sessions: self.shared.table.len() as u64,
            sessions_resident: self.shared.sessions.len() as u64,
            users_resident: self.shared.users.len() as u64,
            pages_asked,
            pages_loaded,
        }
    }

    /// Snapshots installed since the shard was opened.
    pub fn installed(&self) -> u64 {
        self.shared.installed.load(Ordering::Relaxed)
    }

    /// Versions of messages that readers were told are lost.
    pub fn versions_lost(&self) -> u64 {
        self.shared.versions_lost.load(Ordering::Relaxed)
    }

    /// Commands of loud sessions and users that this node proposed at a pace, for the sake of others.
    pub fn paced(&self) -> u64 {
        self.shared.paced.load(Ordering::Relaxed)
    }

    /// What the comparison of replicas found.
    pub fn divergences(&self) -> &Divergences {
        &self.shared.divergences
    }

    /// Proposes commands; every one is answered through [`Answers`]. Never blocks.
    pub fn submit(&self, batch: Vec<Submission>) {
        if self.leading() {
            self.proposer.submit(batch);
        } else {
            let leader = self.leader();
            let again =
                |submission: Submission| (submission.origin, super::Answer::Again { leader, after_ms: 0 });
            self.shared.answers.answer(self.shared.shard, batch.into_iter().map(again).collect());
        }
    }

    /// Answers a read, as fresh as asked.
    ///
    /// # Errors
    /// [`ReadRefusal`]; `Again` when leadership could not be confirmed before the deadline.
    pub async fn read(
        &self,
        read: Read,
        freshness: Freshness,
        deadline: Duration,
    ) -> Result<ReadReply, ReadRefusal> {
        let answer = async {
            // Of the log up to here everything is in what is read below, for it is read later. More may be in it: whoever
            // compares with this index later is told of some of that again, and of nothing too little.
            let mut index = 0;
            match freshness {
                Freshness::Linearizable => {
                    let point = self.group.read_index(deadline).await;
                    let point = point.map_err(|fault| self.not_confirmed(&fault))?;
                    // A lead that has just come is confirmed sooner than it is told; what the read says must not bear
                    // the term before.
                    self.shared.leads_in(point.term);
                    index = point.index;
                }
                Freshness::AtLeast(seq) => self.must_have(&read, seq)?,
                Freshness::Replica => {}
            }
            self.reads.answer(read, index).await
        };
        tokio::time::timeout(deadline, answer)
            .await
            .unwrap_or(Err(ReadRefusal::Again { leader: self.leader() }))
    }

    fn not_confirmed(&self, fault: &ReadError) -> ReadRefusal {
        tracing::debug!(shard = self.shared.shard, %fault, "a read was not confirmed");
        let leader = self.leader().filter(|leader| *leader != self.shared.node);
        ReadRefusal::Again { leader }
    }

    fn must_have(&self, read: &Read, seq: u64) -> Result<(), ReadRefusal> {
        let session = match read {
            Read::Pull { pull, .. } => &pull.session,
            Read::Members { list, .. } => &list.session,
            Read::CountAt { session, .. } | Read::Group { session, .. } => session,
            Read::MayPass { session, .. } | Read::Audience { session, .. } | Read::Digest { session, .. } => {
                session
            }
            // Of a user nobody knows how far he is; who is content with that is answered.
            Read::Cursors { .. } | Read::Seen { .. } if seq == 0 => return Ok(()),
            Read::Roles { list, .. } => &list.session,
            Read::Requests { list, .. } => &list.session,
            Read::Codes { list, .. } => &list.session,
            Read::Versions { list, .. } => &list.session,
            Read::Activity { .. }
            | Read::Heads { .. }
            | Read::UserSessions { .. }
            | Read::Arrive { .. }
            | Read::Epoch { .. }
            | Read::OwnNumber { .. }
            | Read::Settings { .. }
            | Read::Relations { .. }
            | Read::Devices { .. }
            | Read::Cursors { .. }
            | Read::Seen { .. }
            | Read::KnowsKey { .. }
            | Read::Known { .. }
            | Read::Acquainted { .. } => return Err(ReadRefusal::NotFresh),
        };
        let has = self.shared.table.get(session).is_some_and(|row| row.last_seq >= seq);
        if has { Ok(()) } else { Err(ReadRefusal::NotFresh) }
    }

    /// Attaches a receiver to topics of this shard, in step with apply; says from which seq on it is pushed each.
    pub async fn attach(&self, receiver: Arc<dyn Receiver>, topics: Vec<Topic>) -> Vec<(Topic, u64)> {
        // Only a stopping node has no actor; nothing is pushed then anyway.
        self.actor.send(Attach { receiver, topics }).await.unwrap_or_default()
    }

    /// Ends the shard's tasks and its group.
    pub async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
        self.group.stop().await;
    }
}

fn start_actor(stage: &Stage, shared: Arc<Shared>) -> Addr<ShardActor> {
    match stage {
        Stage::Arbiter(arbiter) => ShardActor::start_in_arbiter(arbiter, move |_| ShardActor::new(shared)),
        Stage::Here => ShardActor::new(shared).start(),
    }
}

async fn generation(store: &Store, shard: u32) -> Result<u64, Fault> {
    let pointers = store.map(POINTERS).map_err(store_fault)?;
    let value = pointers.read(move |view| view.get(&shard.to_be_bytes())).await.map_err(store_fault)?;
    let Some(value) = value else { return Ok(0) };
    let bytes: [u8; 8] =
        value.as_ref().try_into().map_err(|_| Fault::new("the shard pointers are damaged"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Generations of a shard's map before the one in use that are looked for when it is opened.
const REPLACED: u64 = 4;

/// Empties the maps that a snapshot took the place of, if a crash came before that was done: what was recalled since may
/// stand in them. Beside the shard's work, for it may take long.
pub(super) async fn drop_replaced(store: Store, shard: u32, generation: u64) {
    for old in generation.saturating_sub(REPLACED)..generation {
        if let Err(fault) = store.drop_map(&map_name(shard, old)).await {
            tracing::warn!(shard, %fault, "rows that a snapshot replaced stay until the next start");
        }
    }
}

fn leader_of(status: &GroupStatus) -> Option<u16> {
    status.leader.map(|leader| leader.node)
}

/// Lets idle entities and pages go, also while a checkpoint is stuck. Runs for ever; aborted by its owner.
async fn passivate(actor: Addr<ShardActor>, pages: Pages, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        pages.let_go().await;
        // One at a time: a look takes long when there are many. A shard that is gone has nobody to let go.
        if actor.send(Passivate).await.is_err() {
            return;
        }
    }
}

async fn follow_leader(group: Group<EntryWaiter>, leader_is: watch::Sender<Option<u16>>) {
    let mut status = group.watch();
    loop {
        let leader = leader_of(&status.borrow_and_update());
        leader_is.send_if_modified(|known| std::mem::replace(known, leader) != leader);
        if status.changed().await.is_err() {
            return;
        }
    }
}

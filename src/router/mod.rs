//! The router: carries each request to the leader of its shard, wherever that is, and its answer back.
//!
//! Owns, on each node, one lane per shard: what waits there, bounded, tried until its deadline through elections,
//! lost links and busy leaders. A client therefore sees a slow answer during a failover and not an error. Answers
//! that are final come from replicated state alone; the router itself only ever says BUSY, UNAVAILABLE or
//! SHUTTING_DOWN, none of which says that a request was not carried out, except BUSY.
//!
//! Read here in the order in which a request meets the parts: [`seam`] (what it is), [`lane`] (plain data: what to
//! send, again, or give up), [`shuttle`] (the task that sends), [`peer`] (between nodes), [`serve`] (what this node
//! does for others), [`answers`] (the way home); then [`reads`], for shards without a replica here [`remote`]
//! and [`feed`], [`places`] for devices that are connected twice, [`passing`] for
//! what is kept nowhere and [`presence`] (with [`companies`]) for who is online. It must never look into content, never reorder the requests of a lane, never hold without a bound.

mod answers;
mod companies;
mod core;
mod feed;
pub mod lane;
mod passing;
mod peer;
mod places;
mod presence;
mod reads;
mod remote;
pub mod seam;
mod serve;
mod shuttle;
mod turned;

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use rookery_raft::{AppHandler, Entropy};
use rookery_wire::{ErrorBody, SessionId, UserId};
use tokio::sync::{oneshot, watch};

use self::core::Core;
pub use self::lane::LaneLimits;
use self::peer::Subjects;
pub use self::peer::VERSION as PEER_VERSION;
pub use self::seam::{Arrival, Order, Peers, Places, Replica, Request, Waiter};
use crate::delivery::{Company, Delivery, Passing, Receiver, Topic};
use crate::shard::{Answer, Answers, Freshness, Outbound, Read, ReadRefusal, ReadReply};
use crate::state::{Command, EntityKey};
use crate::system::Placement;

/// What a router is made with.
#[derive(Clone, Debug)]
pub struct RouterOptions {
    /// This node.
    pub node: u16,
    /// Shards in all.
    pub shards: u32,
    /// Bounds of each shard's lane, and the deadline of requests.
    pub lane: LaneLimits,
    /// Reads in flight on this node; beyond it BUSY.
    pub reads: usize,
    /// Users that are named to who watches a session.
    pub named: usize,
    /// Where its tasks run.
    pub runtime: tokio::runtime::Handle,
}

/// A reading of the router's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterStats {
    /// Requests that wait for their answer now.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Commands sent to leaders, repeats included.
    pub sent: u64,
    /// Of those, repeats.
    pub resent: u64,
    /// Requests refused because a lane was full.
    pub busy: u64,
    /// Requests given up at their deadline.
    pub expired: u64,
    /// Answers to other nodes dropped because their box was full.
    pub answers_dropped: u64,
    /// Ephemeral things that were not sent to another node, for its link was full.
    pub passing_dropped: u64,
    /// Topics subscribed at other nodes.
    pub remote_topics: u64,
}

/// The router of one node. Cheap to clone.
#[derive(Clone)]
pub struct Router(Arc<Core>);

impl Router {
    /// Starts it: a task per lane, on `options.runtime`.
    pub fn start(
        options: RouterOptions,
        peers: Arc<dyn Peers>,
        placement: watch::Receiver<Arc<Placement>>,
        delivery: Arc<Delivery>,
        entropy: &dyn Entropy,
    ) -> Self {
        let runtime = options.runtime.clone();
        let core = Arc::new(Core::new(options, peers, placement, delivery, entropy.u64()));
        for shard in 1..=core.options.shards {
            core.tasks.spawn_on(shuttle::run(Arc::clone(&core), shard), &runtime);
        }
        core.tasks.spawn_on(remote::keep(Arc::clone(&core)), &runtime);
        core.tasks.spawn_on(places::keep(Arc::clone(&core)), &runtime);
        core.tasks.spawn_on(passing::run(Arc::clone(&core)), &runtime);
        core.tasks.spawn_on(presence::keep(Arc::clone(&core)), &runtime);
        Self(core)
    }

    /// For `PeerNet::on_app`.
    pub fn handler(&self) -> Arc<dyn AppHandler> {
        Arc::new(serve::Service(Arc::clone(&self.0)))
    }

    /// For the shards of this node.
    pub fn answers(&self) -> Arc<dyn Answers> {
        Arc::new(answers::Homeward(Arc::clone(&self.0)))
    }

    /// For the shards of this node: their way to other shards.
    pub fn outbound(&self) -> Arc<dyn Outbound> {
        Arc::new(self.clone())
    }

    /// Sets whose devices are compared with those of the other nodes; the first one stays.
    pub fn set_places(&self, places: Weak<dyn Places>) {
        self.0.greetings.set(places);
    }

    /// Tells the other nodes that a device has connected here.
    pub fn announce(&self, arrival: Arrival) {
        places::announce(&self.0, arrival);
    }

    /// Gives something to all devices attached to a session, at every node; whoever it does not reach will not have it.
    pub fn pass(&self, passing: Passing) {
        passing::pass(&self.0, passing);
    }

    /// Connections here begin to watch users, and nobody here watches some others any more: the other nodes are told, and
    /// asked who of them is online there. Gives the number of the question.
    pub fn watch(&self, add: Vec<UserId>, remove: Vec<UserId>) -> u64 {
        presence::watch(
            &self.0,
            Subjects { users: add, ..Subjects::default() },
            Subjects { users: remove, ..Subjects::default() },
        )
    }

    /// The same for sessions: who of their members is online.
    pub fn watch_sessions(&self, add: Vec<SessionId>, remove: Vec<SessionId>) -> u64 {
        presence::watch(
            &self.0,
            Subjects { sessions: add, ..Subjects::default() },
            Subjects { sessions: remove, ..Subjects::default() },
        )
    }

    /// Who is there in a session that is watched, as far as is known here: so many by name as options say, those of `before`
    /// first.
    pub fn company(&self, session: &SessionId, before: &BTreeSet<UserId>) -> Company {
        presence::company(&self.0, session, before)
    }

    /// Waits a moment until the other nodes have answered that question.
    pub async fn watch_answered(&self, number: u64) {
        presence::answered(&self.0, number).await;
    }

    /// Whether a watched user is connected to another node, as far as is known here.
    pub fn online_elsewhere(&self, user: &UserId) -> bool {
        presence::elsewhere(&self.0, user)
    }

    /// A device of this user has connected here, or gone: nodes that watch the user are told.
    pub fn presence_moved(&self, user: &UserId) {
        presence::moved(&self.0, user);
    }

    /// A replica of a shard is open on this node.
    pub fn add_replica(&self, shard: u32, replica: Arc<dyn Replica>) {
        self.0.set_replica(shard, Some(replica));
    }

    /// A replica of this node closes.
    pub fn remove_replica(&self, shard: u32) {
        self.0.set_replica(shard, None);
    }

    /// Shards in all.
    pub fn shards(&self) -> u32 {
        self.0.options.shards
    }

    /// The shard that owns an entity.
    pub fn shard_of(&self, key: &EntityKey) -> u32 {
        key.shard(self.0.options.shards)
    }

    /// The shard that owns a topic.
    pub fn shard_of_topic(&self, topic: &Topic) -> u32 {
        self.0.shard_of(topic)
    }

    /// Sends commands to a shard, in order. Every one is answered through its waiter, exactly once, within the
    /// request deadline.
    pub fn submit(&self, shard: u32, requests: impl IntoIterator<Item = Request>) {
        self.0.submit(shard, requests);
    }

    /// Sends one command and waits for its final answer.
    pub async fn execute(&self, command: &Command) -> Answer {
        self.ask(command, false).await
    }

    async fn ask(&self, command: &Command, carried: bool) -> Answer {
        let (once, answer) = Once::new();
        let request = Request { command: command.encode(), order: None, waiter: once, ticket: 0, carried };
        self.submit(command.entity().shard(self.shards()), [request]);
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Answer::Refused(lane::unavailable()),
        }
    }

    /// Reads from a shard, as fresh as asked; tried until the request deadline.
    ///
    /// # Errors
    /// The refusal of the shard, or BUSY, UNAVAILABLE, SHUTTING_DOWN, NO_REPLICA.
    pub async fn read(&self, shard: u32, read: Read, freshness: Freshness) -> Result<ReadReply, ErrorBody> {
        self.0.read(shard, read, freshness).await
    }

    /// Attaches a connected receiver to topics of one shard; returns from which seq on it is pushed each. A topic
    /// that is missing could not be subscribed in time. Judges no membership: the caller does, afterwards.
    pub async fn attach(
        &self,
        shard: u32,
        receiver: Arc<dyn Receiver>,
        topics: Vec<Topic>,
    ) -> Vec<(Topic, u64)> {
        match self.0.replica(shard) {
            Some(replica) => replica.attach(receiver, topics).await,
            None => remote::attach(&self.0, shard, &receiver, topics).await,
        }
    }

    /// The figures now.
    pub fn stats(&self) -> RouterStats {
        self.0.stats()
    }

    /// Answers everything that waits with SHUTTING_DOWN and ends all tasks.
    pub async fn stop(&self) {
        self.0.cancel.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Outbound for Router {
    fn execute(&self, command: Command, deadline: Duration) -> BoxFuture<'static, Answer> {
        let router = self.clone();
        Box::pin(async move {
            let answer = tokio::time::timeout(deadline, router.ask(&command, true)).await;
            answer.unwrap_or(Answer::Again { leader: None, after_ms: 0 })
        })
    }

    fn holders(&self, shard: u32) -> Vec<u16> {
        self.0.holders(shard)
    }

    fn ask(
        &self,
        node: u16,
        shard: u32,
        read: Read,
        freshness: Freshness,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<ReadReply, ReadRefusal>> {
        let router = self.clone();
        Box::pin(async move { router.0.ask(node, shard, read, freshness, deadline).await })
    }
}

/// Waits for one answer.
struct Once(parking_lot::Mutex<Option<oneshot::Sender<Answer>>>);

impl Once {
    fn new() -> (Arc<Self>, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Arc::new(Self(parking_lot::Mutex::new(Some(sender)))), receiver)
    }
}

impl Waiter for Once {
    fn complete(&self, answers: Vec<(u64, Answer)>) {
        if let (Some(sender), Some((_, answer))) = (self.0.lock().take(), answers.into_iter().next()) {
            // The one who asked may have gone.
            let _ = sender.send(answer);
        }
    }
}

#[cfg(test)]
mod tests;

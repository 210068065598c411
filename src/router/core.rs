//! What the parts of the router share: lanes, replicas of this node, links, and the choice of whom to ask.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rookery_wire::ErrorBody;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answers::AnswerBoxes;
use super::feed::Feeds;
use super::lane::{self, LaneState};
use super::passing::Passings;
use super::places::Greetings;
use super::presence::Presence;
use super::remote::Remotes;
use super::seam::{Peers, Replica, Request};
use super::{RouterOptions, RouterStats};
use crate::delivery::{Delivery, Topic};
use crate::shard::Answer;
use crate::state::EntityKey;
use crate::system::Placement;

/// How long a node that was named as leader is believed over one's own replica.
const HINT_LIVES: Duration = Duration::from_secs(1);

/// The requests of one shard that wait here, and what is known of its leader.
pub(super) struct Lane {
    pub(super) shard: u32,
    pub(super) state: Mutex<LaneState>,
    /// Something is to be sent, or to be judged anew.
    pub(super) wake: Notify,
    hint: Mutex<Option<(u16, Instant)>>,
    /// Which of the replicas to try, while nobody has named the leader and none of them is here.
    guess: AtomicUsize,
}

/// Whom to send to.
pub(super) enum Route {
    /// The replica of this node, which leads.
    Here(Arc<dyn Replica>),
    /// Another node, over a link that is up, in this generation.
    There(u16, u64),
    /// Nobody can be asked now.
    Nowhere,
}

/// The router's shared state.
pub(super) struct Core {
    pub(super) options: RouterOptions,
    pub(super) peers: Arc<dyn Peers>,
    pub(super) placement: watch::Receiver<Arc<Placement>>,
    pub(super) delivery: Arc<Delivery>,
    pub(super) lanes: Vec<Lane>,
    pub(super) reads: Semaphore,
    pub(super) boxes: AnswerBoxes,
    pub(super) feeds: Feeds,
    pub(super) remotes: Remotes,
    pub(super) greetings: Greetings,
    pub(super) passings: Passings,
    pub(super) presence: Presence,
    pub(super) cancel: CancellationToken,
    pub(super) tasks: TaskTracker,
    replicas: RwLock<HashMap<u32, Arc<dyn Replica>>>,
}

impl Core {
    pub(super) fn new(
        options: RouterOptions,
        peers: Arc<dyn Peers>,
        placement: watch::Receiver<Arc<Placement>>,
        delivery: Arc<Delivery>,
        first_number: u64,
    ) -> Self {
        let now = Instant::now();
        let lane = |shard| Lane {
            shard,
            state: Mutex::new(LaneState::new(options.lane, first_number, now)),
            wake: Notify::new(),
            hint: Mutex::new(None),
            guess: AtomicUsize::new(usize::from(options.node)),
        };
        Self {
            lanes: (1..=options.shards).map(lane).collect(),
            reads: Semaphore::new(options.reads),
            boxes: AnswerBoxes::default(),
            feeds: Feeds::default(),
            remotes: Remotes::new(options.shards),
            greetings: Greetings::default(),
            passings: Passings::default(),
            presence: Presence::default(),
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
            replicas: RwLock::default(),
            options,
            peers,
            placement,
            delivery,
        }
    }

    pub(super) fn lane(&self, shard: u32) -> Option<&Lane> {
        self.lanes.get(shard.checked_sub(1)? as usize)
    }

    pub(super) fn shard_of(&self, topic: &Topic) -> u32 {
        match topic {
            Topic::Session(session) => EntityKey::Session(session.clone()).shard(self.options.shards),
            Topic::User(user) => EntityKey::User(user.clone()).shard(self.options.shards),
        }
    }

    pub(super) fn replica(&self, shard: u32) -> Option<Arc<dyn Replica>> {
        self.replicas.read().get(&shard).cloned()
    }

    pub(super) fn set_replica(&self, shard: u32, replica: Option<Arc<dyn Replica>>) {
        match replica {
            Some(replica) => self.replicas.write().insert(shard, replica),
            None => self.replicas.write().remove(&shard),
        };
        if let Some(lane) = self.lane(shard) {
            lane.wake.notify_one();
        }
    }

    /// Other nodes that hold the shard, over links that are up.
    pub(super) fn holders(&self, shard: u32) -> Vec<u16> {
        let placement = self.placement.borrow().clone();
        let nodes = placement.nodes(shard).iter().copied();
        nodes.filter(|node| *node != self.options.node && self.link(*node).is_some()).collect()
    }

    /// The generation of a link that is up.
    pub(super) fn link(&self, node: u16) -> Option<u64> {
        let link = *self.peers.link(node).borrow();
        link.up.then_some(link.generation)
    }

    pub(super) fn route(&self, lane: &Lane) -> Route {
        let here = self.replica(lane.shard);
        if let Some(leader) = lane.hinted()
            && leader != self.options.node
            && let Some(generation) = self.link(leader)
        {
            return Route::There(leader, generation);
        }
        match here {
            Some(replica) => match replica.leader() {
                Some(leader) if leader == self.options.node => Route::Here(replica),
                Some(leader) => self.link(leader).map_or(Route::Nowhere, |up| Route::There(leader, up)),
                None => Route::Nowhere,
            },
            None => {
                let holders = self.holders(lane.shard);
                let at = lane.guess.load(Ordering::Relaxed) % holders.len().max(1);
                let up = holders.get(at).and_then(|node| Some((*node, self.link(*node)?)));
                up.map_or(Route::Nowhere, |(node, generation)| Route::There(node, generation))
            }
        }
    }

    /// Takes requests for a shard, in order. Those for which there is no room are answered BUSY at once.
    pub(super) fn submit(&self, shard: u32, requests: impl IntoIterator<Item = Request>) {
        let now = Instant::now();
        let Some(lane) = self.lane(shard) else {
            return lane::complete(
                requests.into_iter().map(|r| (r, Answer::Refused(lane::unavailable()))).collect(),
            );
        };
        let mut refused = Vec::new();
        let stopped = {
            let mut state = lane.state.lock();
            let stopped = self.cancel.is_cancelled();
            for request in requests {
                if stopped {
                    refused.push((request, Answer::Refused(self.going_down())));
                } else if let Err(settled) = state.admit(request, now) {
                    refused.push(settled);
                }
            }
            stopped
        };
        if !stopped {
            lane.wake.notify_one();
        }
        lane::complete(refused);
    }

    /// Judges answers that came for a lane, from the shard here or from another node.
    pub(super) fn settle(&self, shard: u32, answers: Vec<(u64, Answer)>) {
        let Some(lane) = self.lane(shard) else { return };
        let judged = lane.state.lock().answers(answers, Instant::now());
        if judged.again {
            self.heard_of_leader(lane, judged.leader);
            lane.wake.notify_one();
        }
        lane::complete(judged.settled);
    }

    /// Somebody said: not me, but `leader`, or: not me.
    pub(super) fn heard_of_leader(&self, lane: &Lane, leader: Option<u16>) {
        match leader {
            Some(leader) => *lane.hint.lock() = Some((leader, Instant::now())),
            None => lane.forget_hint(),
        }
    }

    pub(super) fn going_down(&self) -> ErrorBody {
        use rookery_wire::{ErrorCode, Retry};
        ErrorBody::new(ErrorCode::ShuttingDown, "this node is going down; connect to another and repeat")
            .with_retry(Retry::Reconnect)
    }

    pub(super) fn stats(&self) -> RouterStats {
        let mut stats = RouterStats::default();
        for lane in &self.lanes {
            let state = lane.state.lock();
            stats.waiting += state.len() as u64;
            stats.waiting_bytes += state.bytes() as u64;
            stats.sent += state.counts.sent;
            stats.resent += state.counts.resent;
            stats.busy += state.counts.busy;
            stats.expired += state.counts.expired;
        }
        stats.remote_topics = self.remotes.len() as u64;
        stats.answers_dropped = self.boxes.dropped();
        stats.passing_dropped = self.passings.dropped();
        stats
    }
}

impl Lane {
    fn hinted(&self) -> Option<u16> {
        let hint = *self.hint.lock();
        hint.filter(|(_, at)| at.elapsed() < HINT_LIVES).map(|(leader, _)| leader)
    }

    /// The node that was asked is not the leader and knows of none: try the next.
    pub(super) fn forget_hint(&self) {
        *self.hint.lock() = None;
        self.guess.fetch_add(1, Ordering::Relaxed);
    }

    /// The replica here has news of the leader, which count for more than what was said before.
    pub(super) fn leader_moved(&self) {
        *self.hint.lock() = None;
        self.state.lock().news();
    }
}

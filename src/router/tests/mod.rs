//! Several routers over an imagined network, before an imagined shard whose leader moves.

mod feeds;
mod presence;
mod requests;
mod subscriptions;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rookery_raft::{AppHandler, LinkState, PeerError, SeededEntropy};
use rookery_wire::{ErrorBody, ErrorCode};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::delivery::DeliveryLimits;
use crate::shard::{ReadRefusal, Submission};

pub(super) const SHARD: u32 = 1;

/// The links: messages are carried in order by a task per pair; a link can be cut, which loses what is on its way.
#[derive(Default)]
pub(super) struct Net {
    handlers: Mutex<HashMap<u16, Arc<dyn AppHandler>>>,
    links: Mutex<HashMap<(u16, u16), watch::Sender<LinkState>>>,
    wires: Mutex<HashMap<(u16, u16), mpsc::Sender<(u64, Bytes)>>>,
    /// Answers to calls are taken up so much later than they came, milliseconds: messages overtake them.
    pub(super) late_answers: AtomicU64,
    /// And messages so much later than they would.
    pub(super) late_casts: AtomicU64,
    /// One in so many messages finds its link full; 0 = none.
    pub(super) full: AtomicU64,
    /// A longer message is not taken; 0 = any is.
    pub(super) longest: AtomicU64,
    /// Sees every one-way message that is handed to a link, at that moment.
    pub(super) on_cast: Mutex<Option<OnCast>>,
    casts: AtomicU64,
}

pub(super) type OnCast = Arc<dyn Fn(&Bytes) + Send + Sync>;

pub(super) struct Port {
    node: u16,
    net: Arc<Net>,
}

impl Net {
    fn state(&self, from: u16, to: u16) -> watch::Receiver<LinkState> {
        let up = LinkState { up: true, generation: 1, store: 0 };
        self.links.lock().entry((from, to)).or_insert_with(|| watch::channel(up).0).subscribe()
    }

    fn set(&self, a: u16, b: u16, up: bool) {
        for pair in [(a, b), (b, a)] {
            drop(self.state(pair.0, pair.1));
            let links = self.links.lock();
            links[&pair].send_modify(|state| {
                state.up = up;
                state.generation += u64::from(up);
            });
        }
    }

    pub(super) fn cut(&self, a: u16, b: u16) {
        self.set(a, b, false);
    }

    pub(super) fn heal(&self, a: u16, b: u16) {
        self.set(a, b, true);
    }

    async fn late(&self) -> bool {
        tokio::time::sleep(Duration::from_millis(self.late_answers.load(Ordering::Relaxed))).await;
        true
    }

    fn wire(self: &Arc<Self>, from: u16, to: u16) -> mpsc::Sender<(u64, Bytes)> {
        let mut wires = self.wires.lock();
        let made = wires.entry((from, to)).or_insert_with(|| {
            let (sender, mut receiver) = mpsc::channel::<(u64, Bytes)>(10_000);
            let net = Arc::clone(self);
            tokio::spawn(async move {
                while let Some((generation, body)) = receiver.recv().await {
                    let late = Duration::from_millis(net.late_casts.load(Ordering::Relaxed));
                    tokio::time::sleep(Duration::from_micros(100) + late).await;
                    let state = *net.state(from, to).borrow();
                    let handler = net.handlers.lock().get(&to).cloned();
                    if let (true, Some(handler)) = (state.up && state.generation == generation, handler) {
                        handler.cast(from, body);
                    }
                }
            });
            sender
        });
        made.clone()
    }
}

impl Peers for Port {
    fn call(
        &self,
        node: u16,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let (net, me) = (Arc::clone(&self.net), self.node);
        Box::pin(async move {
            let state = *net.state(me, node).borrow();
            let handler = net.handlers.lock().get(&node).cloned();
            let (true, Some(handler)) = (state.up, handler) else { return Err(PeerError::Down { node }) };
            tokio::time::sleep(Duration::from_micros(100)).await;
            match tokio::time::timeout(deadline, handler.call(me, body)).await {
                Ok(answer)
                    if net.late().await && net.state(me, node).borrow().generation == state.generation =>
                {
                    Ok(answer)
                }
                _ => Err(PeerError::Lost { node }),
            }
        })
    }

    fn cast(&self, node: u16, body: Bytes) -> Result<(), PeerError> {
        let state = *self.net.state(self.node, node).borrow();
        if !state.up {
            return Err(PeerError::Down { node });
        }
        let longest = self.net.longest.load(Ordering::Relaxed) as usize;
        if longest > 0 && body.len() > longest {
            return Err(PeerError::TooLong { len: body.len(), max: longest });
        }
        if let Some(seen) = self.net.on_cast.lock().clone() {
            seen(&body);
        }
        let full = self.net.full.load(Ordering::Relaxed);
        if full > 0 && self.net.casts.fetch_add(1, Ordering::Relaxed).is_multiple_of(full) {
            return Err(PeerError::Full { node });
        }
        let sent = self.net.wire(self.node, node).try_send((state.generation, body));
        sent.map_err(|_| PeerError::Full { node })
    }

    fn link(&self, node: u16) -> watch::Receiver<LinkState> {
        self.net.state(self.node, node)
    }

    fn nodes(&self) -> Vec<u16> {
        let handlers = self.net.handlers.lock();
        handlers.keys().copied().filter(|node| *node != self.node).collect()
    }
}

/// What the replicas of the shard share: the numbers each sender has had, and who leads.
pub(super) struct Group {
    /// By sender, the numbers stored in order.
    pub(super) log: Mutex<HashMap<u64, Vec<u64>>>,
    leader: watch::Sender<Option<u16>>,
    /// One in so many batches is refused, answered late, or loses its answers; 0 = none.
    pub(super) trouble: AtomicU64,
    draws: SeededEntropy,
    pub(super) mute: AtomicBool,
}

impl Group {
    pub(super) fn lead(&self, leader: Option<u16>) {
        self.leader.send_replace(leader);
    }

    /// A command is `sender:number`. Stores it, or answers a gap, or gives a repeat its first answer.
    fn apply(&self, command: &Bytes) -> Answer {
        let text = std::str::from_utf8(command).unwrap();
        let (sender, number) = text.split_once(':').unwrap();
        let (sender, number): (u64, u64) = (sender.parse().unwrap(), number.parse().unwrap());
        let mut log = self.log.lock();
        let stored = log.entry(sender).or_default();
        let expected = stored.len() as u64 + 1;
        if number > expected {
            let error = ErrorBody::new(ErrorCode::ClientSeqGap, "gap").with_detail(expected);
            return Answer::Refused(error);
        }
        if number == expected {
            stored.push(number);
        }
        Answer::Epoch(number as u32)
    }

    fn unlucky(&self) -> bool {
        let one_in = self.trouble.load(Ordering::Relaxed);
        one_in > 0 && self.draws.u64().is_multiple_of(one_in)
    }
}

pub(super) struct FakeReplica {
    node: u16,
    group: Arc<Group>,
    answers: Arc<dyn Answers>,
    pub(super) delivery: Arc<Delivery>,
    pub(super) head: AtomicU64,
}

impl Replica for FakeReplica {
    fn submit(&self, batch: Vec<Submission>) {
        let leader = *self.group.leader.borrow();
        let again = |leader| Answer::Again { leader, after_ms: 0 };
        if leader != Some(self.node) {
            let answers = batch.into_iter().map(|s| (s.origin, again(leader))).collect();
            return self.answers.answer(SHARD, answers);
        }
        if self.group.mute.load(Ordering::Relaxed) {
            return;
        }
        let answers = batch
            .into_iter()
            .map(|s| {
                let answer = if self.group.unlucky() { again(None) } else { self.group.apply(&s.command) };
                (s.origin, answer)
            })
            .collect();
        if !self.group.unlucky() {
            self.answers.answer(SHARD, answers);
        }
    }

    fn leader(&self) -> Option<u16> {
        *self.group.leader.borrow()
    }

    fn watch_leader(&self) -> watch::Receiver<Option<u16>> {
        self.group.leader.subscribe()
    }

    fn read(
        &self,
        _read: Read,
        freshness: Freshness,
        _deadline: Duration,
    ) -> BoxFuture<'static, Result<ReadReply, ReadRefusal>> {
        let leader = self.leader();
        let head = self.head.load(Ordering::Relaxed);
        let answer = match freshness {
            Freshness::Linearizable if leader != Some(self.node) => Err(ReadRefusal::Again { leader }),
            Freshness::AtLeast(seq) if seq > head => Err(ReadRefusal::NotFresh),
            _ => Ok(ReadReply::Count(u64::from(self.node))),
        };
        Box::pin(async move { answer })
    }

    fn attach(
        &self,
        receiver: Arc<dyn Receiver>,
        topics: Vec<Topic>,
    ) -> BoxFuture<'static, Vec<(Topic, u64)>> {
        let head = self.head.load(Ordering::Relaxed);
        let attach = |topic: Topic| {
            let live_from = self.delivery.attach(&topic, &receiver, head);
            (topic, live_from)
        };
        let attached = topics.into_iter().map(attach).collect();
        Box::pin(async move { attached })
    }
}

pub(super) struct Node {
    pub(super) router: Router,
    pub(super) delivery: Arc<Delivery>,
    pub(super) replica: Option<Arc<FakeReplica>>,
}

pub(super) struct Cluster {
    pub(super) net: Arc<Net>,
    pub(super) group: Arc<Group>,
    pub(super) nodes: HashMap<u16, Node>,
    _placement: watch::Sender<Arc<Placement>>,
}

/// Nodes 1 to `nodes`; the first `replicas` of them hold the shard; node 1 leads.
pub(super) fn cluster(nodes: u16, replicas: u16) -> Cluster {
    cluster_within(nodes, replicas, |_| DeliveryLimits::default())
}

/// The same, with bounds of delivery for each node.
pub(super) fn cluster_within(nodes: u16, replicas: u16, limits: fn(u16) -> DeliveryLimits) -> Cluster {
    let net = Arc::new(Net::default());
    let group = Arc::new(Group {
        log: Mutex::default(),
        leader: watch::channel(Some(1)).0,
        trouble: AtomicU64::new(0),
        draws: SeededEntropy::new(7),
        mute: AtomicBool::new(false),
    });
    let placement = Placement { shards: vec![(1..=replicas).collect()] };
    let (placement_sender, placement) = watch::channel(Arc::new(placement));
    let made = (1..=nodes).map(|node| {
        let delivery = Arc::new(Delivery::new(limits(node)));
        let port = Arc::new(Port { node, net: Arc::clone(&net) });
        let options = RouterOptions {
            node,
            shards: 1,
            lane: LaneLimits { requests: 4096, bytes: 1 << 20, deadline: Duration::from_secs(10) },
            reads: 64,
            named: 3,
            runtime: tokio::runtime::Handle::current(),
        };
        let entropy = SeededEntropy::new(u64::from(node));
        let router = Router::start(options, port, placement.clone(), Arc::clone(&delivery), &entropy);
        net.handlers.lock().insert(node, router.handler());
        let replica = (node <= replicas).then(|| {
            Arc::new(FakeReplica {
                node,
                group: Arc::clone(&group),
                answers: router.answers(),
                delivery: Arc::clone(&delivery),
                head: AtomicU64::new(0),
            })
        });
        if let Some(replica) = &replica {
            router.add_replica(SHARD, Arc::clone(replica) as Arc<dyn Replica>);
        }
        (node, Node { router, delivery, replica })
    });
    Cluster { nodes: made.collect(), net, group, _placement: placement_sender }
}

/// Writes down the answers it is given.
#[derive(Default)]
pub(super) struct Notes(Mutex<Vec<(u64, Answer)>>);

impl Waiter for Notes {
    fn complete(&self, answers: Vec<(u64, Answer)>) {
        self.0.lock().extend(answers);
    }
}

impl Notes {
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
    pub(super) fn take(&self) -> Vec<(u64, Answer)> {
        std::mem::take(&mut *self.0.lock())
    }
}

pub(super) fn request(sender: u64, number: u64, waiter: &Arc<Notes>) -> Request {
    Request {
        command: Bytes::from(format!("{sender}:{number}")),
        order: Some(Order { sender, number }),
        waiter: Arc::clone(waiter) as Arc<dyn Waiter>,
        ticket: number,
        carried: false,
    }
}

/// Waits for a condition, for at most a minute of (virtual) time.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

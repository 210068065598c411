//! Topics of shards that have no replica on this node: subscribed once for the whole node at a node that has one,
//! and published here into the local delivery.
//!
//! Owns which topics are subscribed where and up to which seq they were heard. When the link to that node breaks the
//! topics are subscribed anew, there or at another replica; if something was missed they lag, so that every receiver
//! learns of it.
//!
//! What is missed may be a removal, so a gap in a session never passes as a lag of single receivers, who would go on at the
//! head: its devices are detached and must sync. Whatever is decided about a subscription is sent under the same lock, so
//! that the other node hears of it in that order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rookery_wire::reply::Message;
use rookery_wire::{HEADER_BYTES, RecordKind, SessionId, Signal, UserId};
use tokio::time::Instant;

use super::core::Core;
use super::peer::{self, Call, Cast, Event, Reply};
use crate::delivery::{NOT_LIVE, Push, Receiver, Topic};

/// Topics in one call.
const CALL_TOPICS: usize = 1000;
/// One subscribing call must end within this.
const CALL_DEADLINE: Duration = Duration::from_secs(2);
/// An attach gives up after this; the sync that asked names the sessions as not live.
const ATTACH_DEADLINE: Duration = Duration::from_secs(4);
/// Pause between attempts and between looks at the links.
const TICK: Duration = Duration::from_millis(100);
/// Every so many ticks topics that nobody here is attached to are given up.
const SWEEP_TICKS: u32 = 100;

#[derive(Default)]
struct Remote {
    /// Last seq heard, or before which the subscription began: all that came up to it was published here.
    head: u64,
    /// Node and link generation it is subscribed over; `None` while it is being asked for.
    via: Option<(u16, u64)>,
    /// Its link broke and another node is being asked: whose events may come before its answer does.
    renewing: bool,
    /// Attaches that wait for the answer to their own asking.
    asking: u32,
}

impl Remote {
    /// Whether it takes what this node says; if not, another replica serves the topic now.
    fn hears(&self, from: u16) -> bool {
        self.renewing || self.via.is_none_or(|(node, _)| node == from)
    }

    /// Notes the answer to a subscription. Who is attached and missed something lags.
    fn subscribed(&mut self, core: &Core, topic: &Topic, via: (u16, u64), live_from: u64) {
        let over = self.via.replace(via);
        if let Some((node, generation)) = over
            && core.link(node) == Some(generation)
        {
            // Two asked at once. What the answer counts as pushed is under way to those who are attached already.
            self.via = over;
            return;
        }
        self.renewing = false;
        let head = live_from.saturating_sub(1);
        // A replica that is behind repeats what was heard; events that came before this answer were in order, or have
        // made the topic lag.
        if head > self.head || over.is_some() && matches!(topic, Topic::User(_)) {
            self.head = head;
            core.delivery.lag(topic, head);
        }
    }
}

type Topics = HashMap<Topic, Remote>;

/// Per shard, so that events of one do not wait for those of another.
pub(super) struct Remotes {
    shards: Vec<Mutex<Topics>>,
}

impl Remotes {
    pub(super) fn new(shards: u32) -> Self {
        Self { shards: (0..shards).map(|_| Mutex::default()).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn of(&self, shard: u32) -> Option<&Mutex<Topics>> {
        self.shards.get(shard.checked_sub(1)? as usize)
    }

    /// Whether somebody looks at the topics of a shard at this moment.
    #[cfg(test)]
    pub(super) fn locked(&self, shard: u32) -> bool {
        self.of(shard).is_some_and(|topics| topics.is_locked())
    }
}

/// Attaches a receiver of this node to topics of a shard without a replica here. What could not be subscribed in
/// time is missing in the answer.
pub(super) async fn attach(
    core: &Core,
    shard: u32,
    receiver: &Arc<dyn Receiver>,
    topics: Vec<Topic>,
) -> Vec<(Topic, u64)> {
    let Some(map) = core.remotes.of(shard) else { return Vec::new() };
    let mut attached = Vec::with_capacity(topics.len());
    let mut asking = Asking { map, topics: Vec::new() };
    {
        let mut map = map.lock();
        for topic in topics {
            let remote = map.entry(topic.clone()).or_default();
            if remote.via.is_some() {
                let live_from = core.delivery.attach(&topic, receiver, remote.head);
                attached.push((topic, live_from));
            } else {
                remote.asking = remote.asking.saturating_add(1);
                asking.topics.push(topic);
            }
        }
    }
    let deadline = Instant::now() + ATTACH_DEADLINE;
    for chunk in asking.topics.chunks(CALL_TOPICS) {
        let Some((via, heads)) = subscribe(core, shard, chunk, deadline).await else { break };
        let mut map = map.lock();
        for (topic, live_from) in heads {
            // There, for it is being asked for.
            let Some(remote) = map.get_mut(&topic) else { continue };
            remote.subscribed(core, &topic, via, live_from);
            let live_from = core.delivery.attach(&topic, receiver, remote.head);
            attached.push((topic, live_from));
        }
    }
    attached
}

/// Topics that one attach is asking for: they stay until it has an answer, or has been given up together with the sync
/// that wanted it. A subscription that stands over there nevertheless is ended when its first event comes.
struct Asking<'a> {
    map: &'a Mutex<Topics>,
    topics: Vec<Topic>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut map = self.map.lock();
        for topic in &self.topics {
            let Some(remote) = map.get_mut(topic) else { continue };
            remote.asking = remote.asking.saturating_sub(1);
            if remote.asking == 0 && remote.via.is_none() {
                map.remove(topic);
            }
        }
    }
}

type Subscribed = ((u16, u64), Vec<(Topic, u64)>);

/// Asks the replicas in turn until one has subscribed us to at least one of these.
async fn subscribe(core: &Core, shard: u32, topics: &[Topic], deadline: Instant) -> Option<Subscribed> {
    let call = peer::encode(&Call::Subscribe { shard, topics: topics.to_vec() }, topics.len() * 64);
    loop {
        for node in core.holders(shard) {
            let Some(generation) = core.link(node) else { continue };
            let left = deadline.saturating_duration_since(Instant::now()).min(CALL_DEADLINE);
            if left.is_zero() {
                return None;
            }
            let Ok(bytes) = core.peers.call(node, call.clone(), left).await else { continue };
            if let Ok(Reply::Subscribed(mut heads)) = peer::read::<Reply>(&bytes)
                && core.link(node) == Some(generation)
            {
                // No seq: that node takes no more subscriptions. Another may; if not, these are missing.
                heads.retain(|(_, live_from)| *live_from != NOT_LIVE);
                if !heads.is_empty() {
                    return Some(((node, generation), heads));
                }
            }
        }
        if core.cancel.is_cancelled() || Instant::now() + TICK >= deadline {
            return None;
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Takes events from a node. Runs on the link's reader.
pub(super) fn events(core: &Core, from: u16, events: Vec<Event>) {
    let mut rest = events.as_slice();
    while let Some(first) = rest.first() {
        let run = rest.iter().take_while(|event| event.topic == first.topic).count();
        let (run, after) = rest.split_at(run);
        rest = after;
        take(core, from, &first.topic, run);
    }
}

/// Publishes events of one topic, or tells the node that nobody here wants them.
fn take(core: &Core, from: u16, topic: &Topic, events: &[Event]) {
    let Some(map) = core.remotes.of(core.shard_of(topic)) else { return };
    let mut map = map.lock();
    let wanted = match map.get_mut(topic) {
        Some(remote) if !remote.hears(from) => return, // A late echo.
        Some(remote) if remote.asking > 0 || core.delivery.has(topic) => Some(remote),
        Some(_) | None => None,
    };
    let Some(remote) = wanted else {
        map.remove(topic);
        return give_up(core, from, std::slice::from_ref(topic));
    };
    for event in events {
        let Topic::Session(session) = topic else {
            publish(core, topic, event);
            continue;
        };
        if event.seq <= remote.head {
            continue; // From a replica that was behind: who came or went with it may have gone or come since.
        }
        if event.seq > remote.head + 1 {
            core.delivery.lag(topic, event.seq - 1);
        }
        remote.head = event.seq;
        take_record(core, session, topic, event);
    }
}

/// Publishes a record and follows what it says of members.
fn take_record(core: &Core, session: &SessionId, topic: &Topic, event: &Event) {
    let signal = membership(&event.frame.0);
    if let Some((true, users)) = &signal {
        users.iter().for_each(|user| core.delivery.member_added(session, user, event.seq.saturating_sub(1)));
    }
    publish(core, topic, event);
    if let Some((false, users)) = &signal {
        users.iter().for_each(|user| core.delivery.member_removed(session, user));
    }
}

fn publish(core: &Core, topic: &Topic, event: &Event) {
    let sender = event.from.clone().map(Arc::new);
    let replaces = event.replaces.as_ref().map(|(seq, frame)| Arc::new((*seq, frame.0.clone())));
    let push = Push { seq: event.seq, frame: event.frame.0.clone(), from: sender, replaces };
    core.delivery.publish_topic(topic, std::slice::from_ref(&push));
}

/// Says that nobody here wants these topics. Under the lock of the topics: whoever attaches next asks behind it, and is not
/// unsubscribed by it. Lost if the link is full: then the next event of the topic says it again.
fn give_up(core: &Core, node: u16, topics: &[Topic]) {
    for chunk in topics.chunks(CALL_TOPICS) {
        let cast = Cast::Unsubscribe { topics: chunk.to_vec() };
        let _ = core.peers.cast(node, peer::encode(&cast, chunk.len() * 64));
    }
}

/// Who came (`true`) or went (`false`) with a record, if its frame is a membership signal.
fn membership(frame: &bytes::Bytes) -> Option<(bool, Vec<UserId>)> {
    let body = frame.slice((4 + HEADER_BYTES).min(frame.len())..);
    let message = rookery_wire::decode::<Message>(&body).ok()?;
    let added = match message.record.kind {
        RecordKind::CREATED | RecordKind::MEMBERS_ADDED => true,
        RecordKind::MEMBERS_REMOVED => false,
        _ => return None,
    };
    let signal = rookery_wire::decode::<Signal>(&message.record.content.0).ok()?;
    Some((added, signal.users))
}

/// The node that serves these topics has skipped some events.
pub(super) fn resumed(core: &Core, from: u16, topics: Vec<(Topic, u64)>) {
    for (topic, live_from) in topics {
        let Some(map) = core.remotes.of(core.shard_of(&topic)) else { continue };
        let mut map = map.lock();
        let Some(remote) = map.get_mut(&topic).filter(|remote| remote.hears(from)) else { continue };
        let head = live_from.saturating_sub(1);
        // A replica that is behind may have skipped what was heard before.
        if head > remote.head || matches!(topic, Topic::User(_)) {
            remote.head = head;
            core.delivery.lag(&topic, head);
        }
    }
}

/// Keeps subscriptions alive over broken links, and gives up what nobody wants. Runs until the router stops.
pub(super) async fn keep(core: Arc<Core>) {
    let mut ticks: u32 = 0;
    loop {
        tokio::select! {
            () = core.cancel.cancelled() => return,
            () = tokio::time::sleep(TICK) => {}
        }
        ticks = ticks.wrapping_add(1);
        for shard in 1..=core.options.shards {
            if ticks.is_multiple_of(SWEEP_TICKS) || core.replica(shard).is_some() {
                sweep(&core, shard);
            }
            renew(&core, shard).await;
        }
    }
}

/// Gives up topics without receivers here, or of a shard that has a replica here by now.
fn sweep(core: &Core, shard: u32) {
    let Some(map) = core.remotes.of(shard) else { return };
    let here = core.replica(shard).is_some();
    let mut by_node: HashMap<u16, Vec<Topic>> = HashMap::new();
    let mut map = map.lock();
    map.retain(|topic, remote| {
        let stays = remote.asking > 0 || !here && core.delivery.has(topic);
        if !stays && let Some((node, _)) = remote.via {
            by_node.entry(node).or_default().push(topic.clone());
        }
        stays
    });
    for (node, topics) in by_node {
        give_up(core, node, &topics);
    }
}

/// Subscribes anew what was subscribed over a link that broke, and lags what missed something.
async fn renew(core: &Core, shard: u32) {
    let Some(map) = core.remotes.of(shard) else { return };
    let broken: Vec<Topic> = {
        let mut map = map.lock();
        let alive = |remote: &Remote| remote.via.is_none_or(|(node, at)| core.link(node) == Some(at));
        let broken = map.iter_mut().filter(|(_, remote)| !alive(remote));
        broken
            .map(|(topic, remote)| {
                remote.renewing = true;
                topic.clone()
            })
            .collect()
    };
    for chunk in broken.chunks(CALL_TOPICS) {
        let Some((via, heads)) = subscribe(core, shard, chunk, Instant::now() + CALL_DEADLINE).await else {
            return;
        };
        let mut map = map.lock();
        for (topic, live_from) in heads {
            // Given up meanwhile, and perhaps asked for anew by somebody: not by us.
            let Some(remote) = map.get_mut(&topic).filter(|remote| remote.renewing) else { continue };
            remote.subscribed(core, &topic, via, live_from);
        }
    }
}

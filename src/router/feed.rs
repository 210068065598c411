//! Feeds: pushes for the receivers of nodes that have no replica of a shard of ours.
//!
//! To delivery a feed is one receiver among others, however many connections stand behind it. It lives as long as
//! one generation of the link to its node: when the link breaks the feed ends, and the node asks again. A full queue
//! lags like a slow connection does, and the node is told from where its topics go on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rookery_raft::PeerError;
use rookery_wire::{Blob, DeviceId, UserId};
use tokio::sync::Notify;

use super::core::Core;
use super::peer::{self, Cast, Event};
use crate::delivery::{Push, Receiver, Topic};

/// Pushes that may wait for one node, and their bytes.
const QUEUE_EVENTS: usize = 32 << 10;
const QUEUE_BYTES: usize = 16 << 20;
/// Pushes in one message, and their bytes.
const MESSAGE_EVENTS: usize = 1024;
const MESSAGE_BYTES: usize = 512 << 10;
/// Topics in one message that says where they go on: all that may lag would be more than a link takes.
const MESSAGE_TOPICS: usize = 1000;
/// Pause while the link's queue is full.
const FULL_PAUSE: Duration = Duration::from_millis(2);

fn weight(item: &Push) -> usize {
    item.frame.len() + item.replaces.as_ref().map_or(0, |replaces| replaces.1.len()) + 64
}

fn weight_of(event: &Event) -> usize {
    event.frame.len() + event.replaces.as_ref().map_or(0, |(_, frame)| frame.len()) + 64
}

#[derive(Default)]
struct Queue {
    events: Vec<Event>,
    bytes: usize,
}

impl Queue {
    /// Puts another frame in the place of one that waits.
    fn replace(&mut self, topic: &Topic, (seq, frame): &(u64, Bytes)) {
        for event in self.events.iter_mut().filter(|event| event.seq == *seq && event.topic == *topic) {
            self.bytes = self.bytes + frame.len() - event.frame.len();
            event.frame = Blob(frame.clone());
        }
    }

    /// Lets go what waits of a topic.
    fn discard(&mut self, topic: &Topic) {
        let bytes = &mut self.bytes;
        self.events.retain(|event| {
            let stays = event.topic != *topic;
            *bytes -= if stays { 0 } else { weight_of(event) };
            stays
        });
    }
}

/// The receiver that stands for a node.
pub(super) struct Feed {
    id: u64,
    node: u16,
    generation: u64,
    queue: Mutex<Queue>,
    lagging: AtomicBool,
    wake: Notify,
}

impl Receiver for Feed {
    fn id(&self) -> u64 {
        self.id
    }

    fn origin(&self) -> Option<(&UserId, &DeviceId, u32)> {
        None
    }

    fn push(&self, topic: &Topic, items: &[Push]) -> bool {
        let bytes: usize = items.iter().map(weight).sum();
        let mut queue = self.queue.lock();
        if queue.events.len() + items.len() > QUEUE_EVENTS || queue.bytes + bytes > QUEUE_BYTES {
            return false;
        }
        queue.bytes += bytes;
        queue.events.extend(items.iter().map(|item| Event {
            topic: topic.clone(),
            seq: item.seq,
            frame: Blob(item.frame.clone()),
            from: item.from.as_deref().cloned(),
            replaces: item.replaces.as_deref().map(|(seq, frame)| (*seq, Blob(frame.clone()))),
        }));
        drop(queue);
        self.wake.notify_one();
        true
    }

    fn replace(&self, topic: &Topic, replaced: &(u64, Bytes)) {
        self.queue.lock().replace(topic, replaced);
    }

    fn discard(&self, topic: &Topic) {
        self.queue.lock().discard(topic);
    }

    fn lagged(&self, _topic: &Topic) {
        self.lagging.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

/// The feeds of this node, one per node that subscribes here.
#[derive(Default)]
pub(super) struct Feeds {
    by_node: Mutex<HashMap<u16, Arc<Feed>>>,
}

impl Feeds {
    /// The feed of a node over the link as it is now; made if need be. `None` while the link is down.
    pub(super) fn of(&self, core: &Arc<Core>, node: u16) -> Option<Arc<Feed>> {
        let generation = core.link(node)?;
        let mut by_node = self.by_node.lock();
        if let Some(feed) = by_node.get(&node) {
            if feed.generation == generation {
                return Some(Arc::clone(feed));
            }
            core.delivery.disconnect(feed.id);
        }
        let feed = Arc::new(Feed {
            id: crate::delivery::next_receiver_id(),
            node,
            generation,
            queue: Mutex::default(),
            lagging: AtomicBool::new(false),
            wake: Notify::new(),
        });
        by_node.insert(node, Arc::clone(&feed));
        core.delivery.connect(Arc::clone(&feed) as Arc<dyn Receiver>);
        core.tasks.spawn_on(run(Arc::clone(core), Arc::clone(&feed)), &core.options.runtime);
        Some(feed)
    }

    /// A node has nobody attached to these topics any more.
    pub(super) fn unsubscribe(&self, core: &Core, node: u16, topics: &[Topic]) {
        let Some(id) = self.by_node.lock().get(&node).map(|feed| feed.id) else { return };
        for topic in topics {
            core.delivery.detach(topic, id);
        }
    }

    fn end(&self, core: &Core, feed: &Feed) {
        core.delivery.disconnect(feed.id);
        let mut by_node = self.by_node.lock();
        if by_node.get(&feed.node).is_some_and(|of_node| of_node.id == feed.id) {
            by_node.remove(&feed.node);
        }
    }
}

async fn run(core: Arc<Core>, feed: Arc<Feed>) {
    let mut link = core.peers.link(feed.node);
    loop {
        if core.link(feed.node) != Some(feed.generation) || drain(&core, &feed).await.is_err() {
            break;
        }
        tokio::select! {
            () = core.cancel.cancelled() => break,
            () = feed.wake.notified() => {}
            changed = link.changed() => if changed.is_err() { break },
        }
    }
    core.feeds.end(&core, &feed);
}

/// The link is gone, and with it the feed.
struct Gone;

async fn drain(core: &Core, feed: &Feed) -> Result<(), Gone> {
    loop {
        let events = take(feed);
        if !events.is_empty() {
            let bytes = events.iter().map(|event| weight_of(event) + 64).sum();
            cast(core, feed, peer::encode(&Cast::Events { events }, bytes)).await?;
            continue;
        }
        if !feed.lagging.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        // Said before anything that was pushed after it.
        for topics in core.delivery.resume(feed.id).chunks(MESSAGE_TOPICS) {
            let resumed = Cast::Resumed { topics: topics.to_vec() };
            cast(core, feed, peer::encode(&resumed, topics.len() * 64)).await?;
        }
    }
}

fn take(feed: &Feed) -> Vec<Event> {
    let mut queue = feed.queue.lock();
    let mut bytes = 0;
    let mut fits = |event: &Event| {
        bytes += weight_of(event);
        bytes <= MESSAGE_BYTES
    };
    let count = queue.events.iter().take(MESSAGE_EVENTS).take_while(|event| fits(event)).count();
    let count = count.max(1).min(queue.events.len());
    let events: Vec<Event> = queue.events.drain(..count).collect();
    queue.bytes -= events.iter().map(weight_of).sum::<usize>();
    events
}

async fn cast(core: &Core, feed: &Feed, message: Bytes) -> Result<(), Gone> {
    loop {
        if core.cancel.is_cancelled() || core.link(feed.node) != Some(feed.generation) {
            return Err(Gone);
        }
        match core.peers.cast(feed.node, message.clone()) {
            Ok(()) => return Ok(()),
            Err(PeerError::Full { .. }) => tokio::time::sleep(FULL_PAUSE).await,
            Err(fault) => {
                tracing::debug!(node = feed.node, %fault, "pushes for a node are given up");
                return Err(Gone);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_discarded_is_one_topic_and_its_bytes() {
        let mut queue = Queue::default();
        for (seq, name) in [(1, "ada"), (1, "bob"), (2, "ada"), (3, "ada")] {
            let topic = Topic::User(UserId::new(name).expect("a name"));
            let event = Event { topic, seq, frame: Blob::from("frame"), from: None, replaces: None };
            queue.bytes += weight_of(&event);
            queue.events.push(event);
        }
        queue.discard(&Topic::User(UserId::new("ada").expect("a name")));
        let left: Vec<u64> = queue.events.iter().map(|event| event.seq).collect();
        assert_eq!((left, queue.bytes), (vec![1], queue.events.iter().map(weight_of).sum::<usize>()));
    }
}

//! The node's subscriptions, found by topic and by receiver.

use std::collections::{BTreeSet, HashSet};
use std::mem::size_of;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use rookery_wire::{SessionId, UserId};

use super::company::{Company, Looks};
use super::stats::{Counters, DeliveryStats};
use super::topic::{Attached, Registered, Resumed, Subscribers};
use super::{NOT_LIVE, Passing, Push, Receiver, Topic};

/// Locks over the topics. More than the threads that apply and connect, so that they seldom meet.
const LOCKS: usize = 128;

/// Bounds of delivery on one node.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryLimits {
    /// Pairs of topic and receiver on this node.
    pub subscriptions: u64,
    /// Topics one device may be attached to. Those of another node are bounded by what all its devices may be.
    pub topics_per_receiver: usize,
}

impl Default for DeliveryLimits {
    fn default() -> Self {
        Self { subscriptions: 8_000_000, topics_per_receiver: 100_000 }
    }
}

/// Delivery of one node; shared by `Arc`.
///
/// Lock order: a topic, then the lists of one receiver. No lock is held over an await or between calls.
pub struct Delivery {
    topics: DashMap<Topic, Subscribers>,
    receivers: DashMap<u64, Arc<Registered>>,
    limits: DeliveryLimits,
    counters: Counters,
    looks: Looks,
}

impl Delivery {
    /// Delivery with nobody attached.
    pub fn new(limits: DeliveryLimits) -> Self {
        Self {
            topics: DashMap::with_shard_amount(LOCKS),
            receivers: DashMap::with_shard_amount(LOCKS),
            limits,
            counters: Counters::default(),
            looks: Looks::default(),
        }
    }

    /// Makes a receiver known; one of a device is thereby attached to its user's topic. Once per receiver.
    pub fn connect(&self, receiver: Arc<dyn Receiver>) {
        let user = receiver.origin().map(|(user, ..)| user.clone());
        self.receivers
            .entry(receiver.id())
            .or_insert_with(|| Arc::new(Registered::new(Arc::clone(&receiver))));
        if let Some(user) = user {
            self.attach(&Topic::User(user), &receiver, 0);
        }
    }

    /// Forgets a receiver and all its subscriptions.
    pub fn disconnect(&self, receiver: u64) {
        let Some((_, registered)) = self.receivers.remove(&receiver) else { return };
        let topics = {
            let mut lists = registered.lists.lock();
            lists.gone = true;
            lists.lagging.clear();
            std::mem::take(&mut lists.topics)
        };
        for topic in &topics {
            self.detach(topic, receiver);
        }
    }

    /// Attaches a connected receiver, which knows the topic up to `last_seq`; returns from which seq on it is
    /// pushed everything. Harmless when it is attached already, or lags: then it goes on where it resumes, and not before.
    /// [`NOT_LIVE`] when it is not connected or a bound is reached.
    ///
    /// A device is attached to a session quietly: pushed nothing until [`Delivery::admit`] or
    /// [`Delivery::member_added`] has said that its user is a member. Whoever attaches therefore asks the session's
    /// leader *afterwards*: a removal before that question is in the answer, one after it comes by the log and
    /// detaches.
    pub fn attach(&self, topic: &Topic, receiver: &Arc<dyn Receiver>, last_seq: u64) -> u64 {
        let registered = self.receivers.get(&receiver.id()).map(|entry| Arc::clone(&entry));
        registered
            .map_or(NOT_LIVE, |to| self.enter(topic, |subs, max| subs.attach(topic, &to, last_seq, max)))
    }

    /// The user of an attached device is a member since `joined_seq`: it goes live. Returns from which seq on it is,
    /// or has been, pushed everything; `None` when it is not attached any more.
    pub fn admit(&self, topic: &Topic, receiver: u64, joined_seq: u64) -> Option<u64> {
        let live_from = self.topics.get_mut(topic)?.admit(receiver, joined_seq, false);
        self.looks.stir(topic);
        live_from
    }

    /// The same where the user's own list alone says so, which may be older than the session: [`Delivery::refute`] ends it, until
    /// the session or its log has said so too.
    pub fn presume(&self, topic: &Topic, receiver: u64, joined_seq: u64) -> Option<u64> {
        let live_from = self.topics.get_mut(topic)?.admit(receiver, joined_seq, true);
        self.looks.stir(topic);
        live_from
    }

    /// `attach` is told how many topics the receiver may have: none more, where the node has as many subscriptions as it may.
    fn enter(&self, topic: &Topic, attach: impl FnOnce(&mut Subscribers, usize) -> Attached) -> u64 {
        let is_full = Counters::get(&self.counters.subscriptions) >= self.limits.subscriptions;
        let max = if is_full { 0 } else { self.limits.topics_per_receiver };
        let attached = match self.topics.entry(topic.clone()) {
            Entry::Occupied(mut entry) => attach(entry.get_mut(), max),
            Entry::Vacant(entry) => {
                let mut subscribers = Subscribers::default();
                let attached = attach(&mut subscribers, max);
                if !subscribers.is_empty() {
                    entry.insert(subscribers);
                }
                attached
            }
        };
        match attached {
            Attached::New(_) => Counters::add(&self.counters.subscriptions, 1),
            Attached::Full => Counters::add(&self.counters.refused, 1),
            Attached::Already(_) | Attached::Gone => {}
        }
        attached.live_from()
    }

    /// Ends one subscription: nothing more is pushed. What still waits of it to be written loses what is recalled later, if
    /// the receiver [holds](Receiver::holds) such. Harmless when there is none.
    pub fn detach(&self, topic: &Topic, receiver: u64) {
        self.end(topic, |subscribers| subscribers.detach(topic, receiver));
    }

    /// Ends one subscription, unless it is live: that one is a member's as far as the log has come here, and ends with the
    /// record of the removal, behind all that the member is to be pushed before it.
    pub fn dismiss(&self, topic: &Topic, receiver: u64) {
        self.end(topic, |subscribers| subscribers.dismiss(topic, receiver));
    }

    /// The session says that the user is no member. Ends one that is quiet, or [presumed](Delivery::presume): no record of a
    /// removal need ever come to end that.
    pub fn refute(&self, topic: &Topic, receiver: u64) {
        self.end(topic, |subscribers| subscribers.refute(topic, receiver));
    }

    /// Whether the receiver is pushed what comes in.
    pub fn is_live(&self, topic: &Topic, receiver: u64) -> bool {
        self.topics.get(topic).is_some_and(|subscribers| subscribers.is_live(receiver))
    }

    fn end(&self, topic: &Topic, detach: impl FnOnce(&mut Subscribers) -> u64) {
        let mut ended = 0;
        self.topics.remove_if_mut(topic, |_, subscribers| {
            ended = detach(subscribers);
            subscribers.is_empty()
        });
        self.looks.stir(topic);
        Counters::sub(&self.counters.subscriptions, ended);
    }

    /// Pushes records of a session: consecutive, ascending, in the order in which they were applied. What a
    /// receiver has had is passed over; a gap, or no room, makes it lag.
    pub fn publish(&self, session: &SessionId, items: &[Push]) {
        self.publish_topic(&Topic::Session(session.clone()), items);
    }

    /// Pushes news of a user to all the user's receivers.
    pub fn publish_user(&self, user: &UserId, items: &[Push]) {
        self.publish_topic(&Topic::User(user.clone()), items);
    }

    /// Pushes to a topic of either kind.
    pub fn publish_topic(&self, topic: &Topic, items: &[Push]) {
        if items.is_empty() {
            return;
        }
        let Some(mut subscribers) = self.topics.get_mut(topic) else { return };
        let outcome = subscribers.publish(topic, items);
        drop(subscribers);
        Counters::add(&self.counters.pushes, outcome.pushes);
        Counters::add(&self.counters.lags, outcome.lags);
        if matches!(topic, Topic::Session(_)) {
            Counters::add(&self.counters.published, items.len() as u64);
            Counters::add(&self.counters.visits, outcome.visits);
        }
    }

    /// Gives something to the devices here that are attached to a session. Nodes are not given it: whoever sends it
    /// sends it to all of them.
    pub fn pass(&self, passing: &Passing) {
        let Some(subscribers) = self.topics.get(&Topic::Session(passing.session.clone())) else { return };
        let (passed, dropped) = subscribers.pass(passing);
        drop(subscribers);
        Counters::add(&self.counters.passed, passed);
        Counters::add(&self.counters.passed_over, dropped);
    }

    /// A user has become a member: the user's receivers on this node are attached. `last_seq` is the seq before
    /// the change, so that its signal is the first thing they are pushed.
    pub fn member_added(&self, session: &SessionId, user: &UserId, last_seq: u64) {
        let of_user = match self.topics.get(&Topic::User(user.clone())) {
            Some(subscribers) => subscribers.of_user(user),
            None => return,
        };
        let topic = Topic::Session(session.clone());
        for registered in &of_user {
            self.enter(&topic, |subs, max| subs.attach_member(&topic, registered, last_seq, max));
        }
        self.looks.stir(&topic);
    }

    /// A user is no member any more: the user's receivers are detached. Called after the signal was published, so
    /// that they see their own removal and nothing after it.
    pub fn member_removed(&self, session: &SessionId, user: &UserId) {
        let topic = Topic::Session(session.clone());
        self.end(&topic, |subscribers| subscribers.detach_user(&topic, user));
    }

    /// Whether a device of the user is connected to this node.
    pub fn online(&self, user: &UserId) -> bool {
        self.topics.get(&Topic::User(user.clone())).is_some_and(|subscribers| subscribers.has_user(user))
    }

    /// Whether somebody looks at who is there in a session: only then is it told to have [stirred](Delivery::stirred).
    pub fn look_at(&self, session: &SessionId, on: bool) {
        self.looks.set(session, on);
    }

    /// Sessions that are looked at and in which somebody may have come or gone since this was last asked.
    pub fn stirred(&self) -> HashSet<SessionId> {
        self.looks.take()
    }

    /// Who is there in a session, of this node's devices: at most `most` by name, those of `before` first. Costs a look at each
    /// device that is attached.
    pub fn company(&self, session: &SessionId, before: &BTreeSet<UserId>, most: usize) -> Company {
        let subscribers = self.topics.get(&Topic::Session(session.clone()));
        subscribers.map_or_else(Company::default, |subscribers| {
            Company::of(&subscribers.members().collect(), before, most)
        })
    }

    /// Whether the receiver is attached as a member's, be it that it lags.
    pub fn is_of_member(&self, session: &SessionId, receiver: u64) -> bool {
        let subscribers = self.topics.get(&Topic::Session(session.clone()));
        subscribers.is_some_and(|subscribers| subscribers.is_of_member(receiver))
    }

    /// Whether anyone here is attached to the topic.
    pub fn has(&self, topic: &Topic) -> bool {
        self.topics.contains_key(topic)
    }

    /// A receiver has room again, and nothing waits: its lagging subscriptions go on at their topic's head, and of those that
    /// have ended nothing is left. Returns each that goes on with the
    /// seq from which pushes are whole again (0 for a user topic, whose news is read by a new sync).
    ///
    /// Pushes from that seq on may reach the receiver before this returns.
    pub fn resume(&self, receiver: u64) -> Vec<(Topic, u64)> {
        let lagging = match self.receivers.get(&receiver) {
            Some(registered) => std::mem::take(&mut registered.lists.lock().lagging),
            None => return Vec::new(),
        };
        let mut resumed = Vec::with_capacity(lagging.len());
        for topic in lagging {
            let (mut live_from, mut gone) = (None, 0);
            self.topics.remove_if_mut(&topic, |_, subs| {
                match subs.resume(&topic, receiver) {
                    Resumed::From(seq) => live_from = Some(seq),
                    Resumed::Gone(count) => gone = count,
                }
                subs.is_empty()
            });
            Counters::sub(&self.counters.subscriptions, gone);
            resumed.extend(live_from.map(|seq| (topic, seq)));
        }
        resumed
    }

    /// Pushes were skipped, by a snapshot that replaced the state, and with them perhaps the news of who is a member, or a
    /// recall: every session for which `head_of` knows the last seq now loses its devices, which let go what still waits to be
    /// written of it and are told to sync again; users for whom it says something (0) are told too, and nodes lag.
    ///
    /// `head_of` is called under a topic's lock and must not call back into delivery.
    pub fn lag_all(&self, head_of: impl Fn(&Topic) -> Option<u64>) {
        let (mut lags, mut detached) = (0, Vec::new());
        self.topics.retain(|topic, subscribers| {
            if let Some(head) = head_of(topic) {
                let (lagged, devices) = subscribers.reset(topic, head);
                lags += lagged;
                detached.extend(devices);
                self.looks.stir(topic);
            }
            !subscribers.is_empty()
        });
        self.after_reset(lags, &detached);
    }

    /// The same for one topic.
    pub fn lag(&self, topic: &Topic, head: u64) {
        let (mut lags, mut detached) = (0, Vec::new());
        self.topics.remove_if_mut(topic, |_, subscribers| {
            (lags, detached) = subscribers.reset(topic, head);
            subscribers.is_empty()
        });
        self.looks.stir(topic);
        self.after_reset(lags, &detached);
    }

    fn after_reset(&self, mut lags: u64, detached: &[Arc<Registered>]) {
        Counters::sub(&self.counters.subscriptions, detached.len() as u64);
        for device in detached {
            let Some((user, ..)) = device.receiver.origin() else { continue };
            let news = Topic::User(user.clone());
            let began =
                self.topics.get_mut(&news).is_some_and(|mut subs| subs.lag_one(&news, device.receiver.id()));
            lags += u64::from(began);
        }
        Counters::add(&self.counters.lags, lags);
    }

    /// The figures now.
    pub fn stats(&self) -> DeliveryStats {
        /// A subscription stands in the topic's list and, with the topic's name, in the receiver's. These three are what the
        /// allocator gave for an index of 20,000 devices, in few topics and in many (tests/index_bytes.rs).
        const SUBSCRIPTION: u64 = 56 + size_of::<Topic>() as u64;
        const TOPIC: u64 = (size_of::<Topic>() + size_of::<Subscribers>()) as u64 * 2;
        const RECEIVER: u64 = 352;
        let (topics, receivers) = (self.topics.len() as u64, self.receivers.len() as u64);
        let subscriptions = Counters::get(&self.counters.subscriptions);
        DeliveryStats {
            topics,
            subscriptions,
            receivers,
            bytes: topics * TOPIC + subscriptions * SUBSCRIPTION + receivers * RECEIVER,
            pushes: Counters::get(&self.counters.pushes),
            published: Counters::get(&self.counters.published),
            visits: Counters::get(&self.counters.visits),
            lags: Counters::get(&self.counters.lags),
            refused: Counters::get(&self.counters.refused),
            passed: Counters::get(&self.counters.passed),
            passed_over: Counters::get(&self.counters.passed_over),
        }
    }
}

//! One topic: its subscriptions and what each of them has had. Plain data under the topic's lock.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use rookery_wire::UserId;

use super::{NOT_LIVE, Push, Receiver, Topic};

/// A receiver that is connected, and what it is subscribed to.
pub(super) struct Registered {
    pub(super) receiver: Arc<dyn Receiver>,
    /// Taken inside a topic's lock, never the other way round.
    pub(super) lists: Mutex<Lists>,
}

/// The topics of one receiver.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) topics: HashSet<Topic>,
    pub(super) lagging: HashSet<Topic>,
    /// Disconnected: nothing may be attached any more.
    pub(super) gone: bool,
}

impl Registered {
    pub(super) fn new(receiver: Arc<dyn Receiver>) -> Self {
        Self { receiver, lists: Mutex::default() }
    }

    fn is_of(&self, user: &UserId) -> bool {
        self.receiver.origin().is_some_and(|(of, _)| of == user)
    }

    fn forget(&self, topic: &Topic) {
        let mut lists = self.lists.lock();
        lists.topics.remove(topic);
        lists.lagging.remove(topic);
    }
}

struct Subscription {
    to: Arc<Registered>,
    /// Last seq pushed, passed over as the receiver's own, or known to it from its sync.
    last: u64,
    lagging: bool,
}

/// What a publish did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    pub(super) pushes: u64,
    pub(super) lags: u64,
}

/// How an attach ended.
pub(super) enum Attached {
    /// The subscription was there.
    Already(u64),
    /// It is new.
    New(u64),
    /// The receiver is gone.
    Gone,
    /// The receiver has as many topics as it may.
    Full,
}

impl Attached {
    pub(super) fn live_from(&self) -> u64 {
        match self {
            Self::Already(live_from) | Self::New(live_from) => *live_from,
            Self::Gone | Self::Full => NOT_LIVE,
        }
    }
}

/// The subscriptions of one topic.
#[derive(Default)]
pub(super) struct Subscribers {
    /// Highest seq published or known from an attach.
    head: u64,
    list: Vec<Subscription>,
}

impl Subscribers {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn has_user(&self, user: &UserId) -> bool {
        self.list.iter().any(|sub| sub.to.is_of(user))
    }

    pub(super) fn of_user(&self, user: &UserId) -> Vec<Arc<Registered>> {
        self.list.iter().filter(|sub| sub.to.is_of(user)).map(|sub| Arc::clone(&sub.to)).collect()
    }

    /// Subscribes from `last_seq + 1` on. A subscription that is there stays as it is, unless it lags: then it
    /// goes on from here, for the caller has read the session up to `last_seq`.
    pub(super) fn attach(
        &mut self,
        topic: &Topic,
        to: &Arc<Registered>,
        last_seq: u64,
        max_topics: usize,
    ) -> Attached {
        self.head = self.head.max(last_seq);
        let id = to.receiver.id();
        if let Some(sub) = self.list.iter_mut().find(|sub| sub.to.receiver.id() == id) {
            if sub.lagging {
                sub.lagging = false;
                sub.last = last_seq;
                sub.to.lists.lock().lagging.remove(topic);
            }
            return Attached::Already(sub.last + 1);
        }
        {
            let mut lists = to.lists.lock();
            if lists.gone {
                return Attached::Gone;
            }
            if lists.topics.len() >= max_topics {
                return Attached::Full;
            }
            lists.topics.insert(topic.clone());
        }
        self.list.push(Subscription { to: Arc::clone(to), last: last_seq, lagging: false });
        Attached::New(last_seq + 1)
    }

    /// Ends the subscription of one receiver; says how many ended (0 or 1).
    pub(super) fn detach(&mut self, topic: &Topic, receiver: u64) -> u64 {
        self.detach_where(topic, |to| to.receiver.id() == receiver)
    }

    /// Ends the subscriptions of all of a user's receivers; says how many.
    pub(super) fn detach_user(&mut self, topic: &Topic, user: &UserId) -> u64 {
        self.detach_where(topic, |to| to.is_of(user))
    }

    fn detach_where(&mut self, topic: &Topic, ends: impl Fn(&Registered) -> bool) -> u64 {
        let before = self.list.len();
        self.list.retain(|sub| {
            let stays = !ends(&sub.to);
            if !stays {
                sub.to.forget(topic);
            }
            stays
        });
        (before - self.list.len()) as u64
    }

    /// Pushes to everyone who is to have it. `items` of a session are consecutive and ascending.
    pub(super) fn publish(&mut self, topic: &Topic, items: &[Push]) -> Outcome {
        let mut outcome = Outcome::default();
        let numbered = matches!(topic, Topic::Session(_));
        if let Some(last) = items.last() {
            self.head = self.head.max(last.seq);
        }
        for sub in &mut self.list {
            if sub.lagging {
                continue;
            }
            let pushed = if numbered { sub.push_numbered(topic, items) } else { sub.push_all(topic, items) };
            match pushed {
                Some(count) => outcome.pushes += count,
                None => {
                    sub.lag(topic);
                    outcome.lags += 1;
                }
            }
        }
        outcome
    }

    /// Everyone lags: items up to `head` were skipped. Says how many began to.
    pub(super) fn lag_all(&mut self, topic: &Topic, head: u64) -> u64 {
        self.head = self.head.max(head);
        let mut began = 0;
        for sub in self.list.iter_mut().filter(|sub| !sub.lagging) {
            sub.lag(topic);
            began += 1;
        }
        began
    }

    /// Goes on at the head for a receiver that lags; `live_from` of it (0 in a user topic).
    pub(super) fn resume(&mut self, topic: &Topic, receiver: u64) -> Option<u64> {
        let head = self.head;
        let sub = self.list.iter_mut().find(|sub| sub.to.receiver.id() == receiver && sub.lagging)?;
        sub.lagging = false;
        sub.last = head;
        Some(if matches!(topic, Topic::Session(_)) { head + 1 } else { 0 })
    }
}

impl Subscription {
    /// How many items were pushed; `None` when it must lag: a gap, or no room.
    fn push_numbered(&mut self, topic: &Topic, items: &[Push]) -> Option<u64> {
        let had = items.partition_point(|item| item.seq <= self.last);
        let mut rest = &items[had..];
        let Some(first) = rest.first() else { return Some(0) };
        if first.seq != self.last + 1 {
            return None;
        }
        let mut pushed = 0;
        while !rest.is_empty() {
            let own = rest.iter().take_while(|item| self.is_own(item)).count();
            let (skipped, others) = rest.split_at(own);
            let run = others.iter().take_while(|item| !self.is_own(item)).count();
            let (run, after) = others.split_at(run);
            if !run.is_empty() && !self.to.receiver.push(topic, run) {
                return None;
            }
            if let Some(item) = run.last().or(skipped.last()) {
                self.last = item.seq;
            }
            pushed += run.len() as u64;
            rest = after;
        }
        Some(pushed)
    }

    fn push_all(&mut self, topic: &Topic, items: &[Push]) -> Option<u64> {
        self.to.receiver.push(topic, items).then_some(items.len() as u64)
    }

    fn is_own(&self, item: &Push) -> bool {
        match (&item.from, self.to.receiver.origin()) {
            (Some(from), Some((user, device))) => from.0 == *user && from.1 == *device,
            _ => false,
        }
    }

    fn lag(&mut self, topic: &Topic) {
        self.lagging = true;
        self.to.lists.lock().lagging.insert(topic.clone());
        self.to.receiver.lagged(topic);
    }
}

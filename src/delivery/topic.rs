//! One topic: its subscriptions and what each of them has had. Plain data under the topic's lock.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use rookery_wire::UserId;

use super::{NOT_LIVE, Passing, Push, Receiver, Topic};

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
    /// Those that lag, and those that end when the receiver resumes.
    pub(super) lagging: HashSet<Topic>,
    /// Disconnected: nothing may be attached any more.
    pub(super) gone: bool,
}

impl Registered {
    pub(super) fn new(receiver: Arc<dyn Receiver>) -> Self {
        Self { receiver, lists: Mutex::default() }
    }

    fn is_of(&self, user: &UserId) -> bool {
        self.receiver.origin().is_some_and(|(of, ..)| of == user)
    }

    fn forget(&self, topic: &Topic) {
        let mut lists = self.lists.lock();
        lists.topics.remove(topic);
        lists.lagging.remove(topic);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A device in a session of which nobody has said yet that its user is a member: nothing is pushed.
    Quiet,
    /// Pushed everything.
    Live,
    /// Pushed nothing until it resumes.
    Lagging,
    /// It has ended, with something still to be written: pushed nothing, but what is taken back is taken from that too (G7).
    /// Gone when the receiver resumes.
    Parted,
}

struct Subscription {
    /// Its receiver's.
    id: u64,
    to: Arc<Registered>,
    /// Last seq pushed, passed over as the receiver's own, or known to it from its sync.
    last: u64,
    /// It has been live without a break since this seq.
    since: u64,
    state: State,
    /// Live, or lagging, by no more than the user's own list.
    presumed: bool,
}

/// What a publish did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    pub(super) pushes: u64,
    pub(super) lags: u64,
    /// Subscriptions looked at.
    pub(super) visits: u64,
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

/// What became of a subscription whose receiver resumes.
pub(super) enum Resumed {
    /// It goes on from this seq.
    From(u64),
    /// It does not lag; so many (0 or 1) are gone.
    Gone(u64),
}

/// The subscriptions of one topic.
#[derive(Default)]
pub(super) struct Subscribers {
    /// Highest seq published or known from an attach.
    head: u64,
    /// By the receiver's id, which the newest have the greatest of: a group's members come back by the thousand.
    list: Vec<Subscription>,
}

impl Subscribers {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn has_user(&self, user: &UserId) -> bool {
        self.list.iter().any(|sub| sub.to.is_of(user))
    }

    pub(super) fn is_live(&self, receiver: u64) -> bool {
        self.place(receiver).is_ok_and(|at| self.list[at].state == State::Live)
    }

    /// Whether it is attached to a session as a member's.
    pub(super) fn is_of_member(&self, receiver: u64) -> bool {
        self.place(receiver).is_ok_and(|at| self.list[at].is_of_member())
    }

    /// The users of the devices that are; once for each device.
    pub(super) fn members(&self) -> impl Iterator<Item = &UserId> {
        let devices = self.list.iter().filter(|sub| sub.is_of_member());
        devices.filter_map(|sub| sub.to.receiver.origin().map(|(user, ..)| user))
    }

    pub(super) fn of_user(&self, user: &UserId) -> Vec<Arc<Registered>> {
        self.list.iter().filter(|sub| sub.to.is_of(user)).map(|sub| Arc::clone(&sub.to)).collect()
    }

    /// Subscribes from `last_seq + 1` on: at once in a user topic or for a node, quietly for a device in a session.
    /// One that is there stays as it is. Also one that lags: who reads what the caller reads now may be another than who keeps
    /// what is pushed, so it lags until it resumes and that is told.
    pub(super) fn attach(
        &mut self,
        topic: &Topic,
        to: &Arc<Registered>,
        last_seq: u64,
        max_topics: usize,
    ) -> Attached {
        let judged = matches!(topic, Topic::User(_)) || to.receiver.origin().is_none();
        let begins = if judged { State::Live } else { State::Quiet };
        self.head = self.head.max(last_seq);
        let head = self.head;
        if let Some(sub) = self.find(to.receiver.id()) {
            return Attached::Already(match sub.state {
                State::Lagging => head + 1,
                State::Parted => {
                    sub.last = last_seq;
                    sub.set(topic, begins);
                    last_seq + 1
                }
                State::Live | State::Quiet => sub.last + 1,
            });
        }
        self.add(topic, to, last_seq, begins, max_topics)
    }

    /// Subscribes a member from `last_seq + 1` on. One that lags goes on lagging until it resumes.
    pub(super) fn attach_member(
        &mut self,
        topic: &Topic,
        to: &Arc<Registered>,
        last_seq: u64,
        max_topics: usize,
    ) -> Attached {
        self.head = self.head.max(last_seq);
        if let Some(sub) = self.find(to.receiver.id()) {
            sub.presumed = false;
            if matches!(sub.state, State::Quiet | State::Parted) {
                sub.last = last_seq;
                sub.since = last_seq + 1;
                sub.set(topic, State::Live);
            }
            return Attached::Already(sub.last + 1);
        }
        self.add(topic, to, last_seq, State::Live, max_topics)
    }

    fn add(
        &mut self,
        topic: &Topic,
        to: &Arc<Registered>,
        last: u64,
        state: State,
        max_topics: usize,
    ) -> Attached {
        {
            let mut lists = to.lists.lock();
            if lists.gone {
                return Attached::Gone;
            }
            // A node stands for all who are attached there, and has a bound only in that of this one (which then says none).
            let is_bound = to.receiver.origin().is_some() || max_topics == 0;
            if is_bound && lists.topics.len() >= max_topics {
                return Attached::Full;
            }
            lists.topics.insert(topic.clone());
        }
        let id = to.receiver.id();
        let (Ok(at) | Err(at)) = self.place(id);
        let to = Arc::clone(to);
        self.list.insert(at, Subscription { id, to, last, since: last + 1, state, presumed: false });
        Attached::New(last + 1)
    }

    fn find(&mut self, receiver: u64) -> Option<&mut Subscription> {
        let at = self.place(receiver).ok()?;
        self.list.get_mut(at)
    }

    fn place(&self, receiver: u64) -> Result<usize, usize> {
        self.list.binary_search_by_key(&receiver, |sub| sub.id)
    }

    /// The receiver's user is a member since `joined_seq`: a quiet subscription goes live, with what comes after the
    /// head, and with nothing before that seq. Returns from which seq on it is, or has been, pushed everything: what was
    /// pushed before the caller could say so lies behind it. `presumed` where only the user's own list says so.
    pub(super) fn admit(&mut self, receiver: u64, joined_seq: u64, presumed: bool) -> Option<u64> {
        let head = self.head;
        let sub = self.find(receiver).filter(|sub| sub.state != State::Parted)?;
        sub.presumed &= presumed;
        if sub.state == State::Quiet {
            sub.presumed = presumed;
            sub.last = head.max(joined_seq.saturating_sub(1));
            sub.since = sub.last + 1;
            sub.state = State::Live;
        }
        Some(if sub.state == State::Live { sub.since } else { head + 1 })
    }

    /// Ends the subscription of one receiver; says how many are gone (0 or 1).
    pub(super) fn detach(&mut self, topic: &Topic, receiver: u64) -> u64 {
        self.detach_if(topic, receiver, |_| true)
    }

    /// The same, if it is quiet.
    pub(super) fn dismiss(&mut self, topic: &Topic, receiver: u64) -> u64 {
        self.detach_if(topic, receiver, |sub| sub.state == State::Quiet)
    }

    /// The same, if it is quiet, or nobody but the user's own list has said that the user is a member.
    pub(super) fn refute(&mut self, topic: &Topic, receiver: u64) -> u64 {
        self.detach_if(topic, receiver, |sub| sub.state == State::Quiet || sub.presumed)
    }

    /// Ends the subscriptions of all of a user's receivers; says how many are gone.
    pub(super) fn detach_user(&mut self, topic: &Topic, user: &UserId) -> u64 {
        let before = self.list.len();
        self.list.retain_mut(|sub| !sub.to.is_of(user) || sub.part(topic));
        (before - self.list.len()) as u64
    }

    fn detach_if(&mut self, topic: &Topic, receiver: u64, ends: impl Fn(&Subscription) -> bool) -> u64 {
        let Ok(at) = self.place(receiver) else { return 0 };
        let sub = &mut self.list[at];
        if !ends(sub) || sub.part(topic) {
            return 0;
        }
        self.list.remove(at);
        1
    }

    /// Pushes to everyone who is to have it. `items` of a session are consecutive and ascending.
    pub(super) fn publish(&mut self, topic: &Topic, items: &[Push]) -> Outcome {
        let mut outcome = Outcome::default();
        let numbered = matches!(topic, Topic::Session(_));
        if let Some(last) = items.last() {
            self.head = self.head.max(last.seq);
        }
        // Looked for once and not for each receiver: nearly always there is nothing.
        let replaced: Vec<_> = items.iter().filter_map(|item| item.replaces.as_deref()).collect();
        for sub in &mut self.list {
            outcome.visits += 1;
            for replaced in &replaced {
                match sub.state {
                    State::Live | State::Lagging => sub.to.receiver.replace(topic, replaced),
                    State::Quiet | State::Parted => sub.to.receiver.withdraw(topic, replaced),
                }
            }
            if sub.state != State::Live {
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

    /// Gives something to every live device but those it names; how many took it, and how many had no room.
    pub(super) fn pass(&self, passing: &Passing) -> (u64, u64) {
        let (mut passed, mut dropped) = (0, 0);
        for sub in self.list.iter().filter(|sub| sub.state == State::Live) {
            let Some((user, device, epoch)) = sub.to.receiver.origin() else { continue };
            let excepted = passing.except.0 == *user
                && passing.except.1.as_ref().is_none_or(|except| except.0 == *device && except.1 == epoch);
            if excepted {
                continue;
            }
            match sub.to.receiver.pass(&passing.frame.0) {
                true => passed += 1,
                false => dropped += 1,
            }
        }
        (passed, dropped)
    }

    /// Items up to `head` were skipped, and with them perhaps the news of who is a member, or that something was recalled.
    /// Nodes lag, devices are detached and returned, for they must sync again; both lose what still waits for them.
    pub(super) fn reset(&mut self, topic: &Topic, head: u64) -> (u64, Vec<Arc<Registered>>) {
        self.head = self.head.max(head);
        let (mut lags, mut detached) = (0, Vec::new());
        self.list.retain_mut(|sub| {
            if matches!(topic, Topic::Session(_)) {
                sub.to.receiver.discard(topic);
            }
            if sub.to.receiver.origin().is_some() && matches!(topic, Topic::Session(_)) {
                sub.to.forget(topic);
                detached.push(Arc::clone(&sub.to));
                return false;
            }
            lags += u64::from(sub.lag(topic));
            true
        });
        (lags, detached)
    }

    /// One receiver lags. Says whether it began to.
    pub(super) fn lag_one(&mut self, topic: &Topic, receiver: u64) -> bool {
        self.find(receiver).is_some_and(|sub| sub.lag(topic))
    }

    /// Goes on at the head for a receiver that lags; `live_from` of it (0 in a user topic). What had ended is gone.
    pub(super) fn resume(&mut self, topic: &Topic, receiver: u64) -> Resumed {
        let head = self.head;
        match self.find(receiver) {
            Some(sub) if sub.state == State::Lagging => {
                sub.state = State::Live;
                sub.last = head;
                sub.since = head + 1;
                Resumed::From(if matches!(topic, Topic::Session(_)) { head + 1 } else { 0 })
            }
            Some(sub) if sub.state == State::Parted => {
                Resumed::Gone(self.detach_if(topic, receiver, |_| true))
            }
            _ => Resumed::Gone(0),
        }
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
        // Asked once, and not for each item.
        let origin = self.to.receiver.origin();
        let is_own = |item: &Push| match (&item.from, origin) {
            (Some(from), Some((user, device, epoch))) => {
                from.2 == epoch && from.0 == *user && from.1 == *device
            }
            _ => false,
        };
        while !rest.is_empty() {
            let own = rest.iter().take_while(|item| is_own(item)).count();
            let (skipped, others) = rest.split_at(own);
            let run = others.iter().take_while(|item| !is_own(item)).count();
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

    fn is_of_member(&self) -> bool {
        matches!(self.state, State::Live | State::Lagging)
    }

    /// It ends. Says whether it stays, to hear what is taken back of what still waits.
    fn part(&mut self, topic: &Topic) -> bool {
        // One that goes now still looks through all its topics.
        let is_gone = self.to.lists.lock().gone;
        self.presumed = false;
        let stays = !is_gone && {
            // Noted before it is asked: whatever it writes from then on may be the last of it.
            self.set(topic, State::Parted);
            self.to.receiver.holds(topic)
        };
        if !stays {
            self.to.forget(topic);
        }
        stays
    }

    /// Says whether it began to.
    fn lag(&mut self, topic: &Topic) -> bool {
        let begins = self.state == State::Live;
        if begins {
            self.set(topic, State::Lagging);
            self.to.receiver.lagged(topic);
        }
        begins
    }

    fn set(&mut self, topic: &Topic, state: State) {
        self.state = state;
        let mut lists = self.to.lists.lock();
        match state {
            State::Lagging | State::Parted => lists.lagging.insert(topic.clone()),
            State::Quiet | State::Live => lists.lagging.remove(topic),
        };
    }
}

//! The engine: every decision of the client, as a plain struct without socket, clock or random source.
//!
//! The driver tells it what happened (a connection, bytes, a command, the time) and does what it left behind: bytes
//! in [`Engine::out`], events in [`Engine::ready`]. Read on in the order in which a send meets the parts: [`sends`]
//! over [`outbox`], [`link`], [`answers`]; then what comes in: [`arrivals`] over [`inbox`], [`sync`]; [`questions`], with
//! the numbers of [`own`] and what is [`watched`].

use std::collections::{BTreeMap, VecDeque};

use bytes::BytesMut;
use rookery_wire::own::MAX_PLATFORM;
use rookery_wire::request::{Hello, Role};
use rookery_wire::{Blob, DeviceId, Kind, UserId, VERSION, encode_frame};

use crate::error::ClientError;
use crate::event::Event;
use crate::options::StartAt;
use crate::shared::Stats;

mod answers;
mod arrivals;
mod inbox;
mod link;
mod outbox;
mod own;
mod questions;
mod recall;
mod sends;
mod since;
mod slots;
mod sync;
mod watched;

pub(crate) use link::{Broken, Next, Phase};

use link::{Link, Purpose};
use own::OwnNumbers;
use questions::Ask;
use recall::SaidAgain;
use slots::{Sessions, Slot, SlotQueue};
use sync::SyncRun;
use watched::Watched;

/// Milliseconds since the driver began.
pub(crate) type Millis = u64;

/// How often time matters while something is under way.
const TICK: Millis = 20;
/// How often delivered cursors are reported.
const REPORT: Millis = 200;
/// How often deadlines are looked at.
const DEADLINES: Millis = 100;
/// Longest agent text, bytes.
const MAX_AGENT: usize = 64;

/// The front of a text that has at most so many bytes.
fn front(text: &str, most: usize) -> Blob {
    Blob::from(&text[..text.floor_char_boundary(most.min(text.len()))])
}

/// What the engine needs of the options.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    pub(crate) role: Role,
    pub(crate) token: String,
    pub(crate) agent: String,
    pub(crate) platform: String,
    pub(crate) start: StartAt,
    /// The application keeps the cursors: what the cluster believes this device to have had does not count.
    pub(crate) own_cursors: bool,
    pub(crate) echo_own: bool,
    pub(crate) request_deadline: Millis,
    pub(crate) hello_deadline: Millis,
    pub(crate) silence: Millis,
    /// Events that may wait here for the application's queue before messages are held back.
    pub(crate) room: usize,
}

/// The client's mind.
#[derive(Debug)]
pub(crate) struct Engine {
    settings: Settings,
    epoch: u32,
    nonce: u64,
    cluster: Option<[u8; 16]>,
    node: Option<u16>,
    link: Link,
    sessions: Sessions,
    asks: BTreeMap<u64, Ask>,
    own: OwnNumbers,
    next_ask: u64,
    watched: Watched,
    sync: SyncRun,
    /// Sessions with flights to write, at once or at a later tick.
    writable: SlotQueue,
    delayed: SlotQueue,
    /// Sessions whose next message is here but found the application's queue full.
    stalled: SlotQueue,
    /// Sessions with a hole that an ACK may yet fill, and those to pull.
    holes: SlotQueue,
    gaps: SlotQueue,
    pulls: usize,
    strays: SlotQueue,
    /// Flights without an answer, of all sessions.
    flights: usize,
    held_bytes: usize,
    /// Bytes to write.
    pub(crate) out: BytesMut,
    /// Events for the application, in order.
    pub(crate) ready: VecDeque<Event>,
    /// What each event given out stands for: the application counts as having had it once it has handled it.
    ring: VecDeque<Given>,
    handled: u64,
    unreported: SlotQueue,
    said_again: SaidAgain,
    reported_at: Millis,
    deadlines_at: Millis,
    ticked_at: Millis,
    /// The application takes no events.
    deaf: bool,
    pub(crate) stats: Stats,
    /// The last thing that went wrong, for errors.
    pub(crate) trouble: String,
    /// Counts changes of what the memory keeps.
    pub(crate) changes: u64,
}

#[derive(Clone, Copy, Debug)]
enum Given {
    Message(Slot, u64),
    /// A message the application does not want: handled once all before it are.
    Silent(Slot, u64),
    Other,
}

impl Engine {
    /// An engine that has not connected yet.
    pub(crate) fn new(settings: Settings, epoch: u32, nonce: u64) -> Self {
        Self {
            settings,
            epoch,
            nonce,
            cluster: None,
            node: None,
            link: Link::default(),
            sessions: Sessions::default(),
            asks: BTreeMap::new(),
            own: OwnNumbers::default(),
            next_ask: 0,
            watched: Watched::default(),
            sync: SyncRun::default(),
            writable: SlotQueue::default(),
            delayed: SlotQueue::default(),
            stalled: SlotQueue::default(),
            holes: SlotQueue::default(),
            gaps: SlotQueue::default(),
            pulls: 0,
            strays: SlotQueue::default(),
            flights: 0,
            held_bytes: 0,
            out: BytesMut::new(),
            ready: VecDeque::new(),
            ring: VecDeque::new(),
            handled: 0,
            unreported: SlotQueue::default(),
            said_again: SaidAgain::default(),
            reported_at: 0,
            deadlines_at: 0,
            ticked_at: 0,
            deaf: false,
            stats: Stats::default(),
            trouble: "not connected yet".to_owned(),
            changes: 0,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.link.phase
    }
    pub(crate) fn node(&self) -> Option<u16> {
        self.node
    }
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }
    pub(crate) fn limits(&self) -> &rookery_wire::reply::Limits {
        &self.link.limits
    }
    pub(crate) fn max_frame(&self) -> u32 {
        self.link.max_frame()
    }
    /// Whether the session list has been read on this connection.
    pub(crate) fn synced(&self) -> bool {
        self.sync.done_here
    }
    /// Sends and questions without an answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.flights + self.asks.len()
    }

    /// A connection stands: HELLO.
    pub(crate) fn connected(&mut self, now: Millis) {
        self.out.clear();
        self.link.open(now);
        let hello = Hello {
            min_version: VERSION,
            max_version: VERSION,
            user: self.settings.user.clone(),
            device: self.settings.device.clone(),
            epoch: self.epoch,
            nonce: self.nonce,
            role: self.settings.role,
            token: Blob::from(self.settings.token.as_str()),
            agent: front(&self.settings.agent, MAX_AGENT),
            platform: front(&self.settings.platform, MAX_PLATFORM),
        };
        let id = self.link.request(Purpose::Hello, now);
        encode_frame(Kind::Hello, id, &hello, &mut self.out);
    }

    /// The connection is gone: what has no answer is asked again on the next one.
    pub(crate) fn disconnected(&mut self, now: Millis, reason: &str) {
        self.trouble = reason.to_owned();
        if self.link.phase == Phase::Up {
            self.give(Event::Disconnected { reason: reason.to_owned() });
        }
        self.link.phase = Phase::Down;
        self.node = None;
        self.out.clear();
        self.gaps.clear();
        self.pulls = 0;
        self.sync.cut();
        let ghosts_until = now + self.link.hold();
        for (slot, session) in self.sessions.iter_mut() {
            session.inbox.pulling = false;
            if session.outbox.len() > 0 {
                session.outbox.cut(ghosts_until);
                self.writable.push(slot);
            }
        }
        self.doubt_delivered();
        self.watched.cut();
        self.cut_asks(reason);
    }

    /// The device registers anew on the next connection.
    pub(crate) fn register(&mut self, nonce: u64) {
        self.epoch = 0;
        self.nonce = nonce;
        self.changes += 1;
    }

    /// Whether to take more bytes from the connection. While answers are awaited the client reads on even if the
    /// application does not, for it may be waiting for just these answers; messages are then let go and pulled
    /// later. Otherwise the server is left to fill its queue and notice.
    pub(crate) fn may_read(&self) -> bool {
        let waiting = self.ready.len();
        waiting < self.settings.room || (self.link.awaits() && waiting < 4 * self.settings.room)
    }

    /// Reading is paused; that nothing is heard is then no fault of the server's.
    pub(crate) fn excuse_silence(&mut self, now: Millis) {
        self.link.excuse(now);
    }

    /// The application takes no events from now on; it is done with `handled` of them.
    pub(crate) fn deafen(&mut self, now: Millis, handled: u64) {
        self.settle_handled(handled);
        self.report_delivered(now);
        self.deaf = true;
        self.ready.clear();
        self.ring.clear();
        self.stalled.clear();
        self.holes.clear();
        self.gaps.clear();
        self.strays.clear();
        for (_, session) in self.sessions.iter_mut() {
            session.inbox.untrack(&mut self.held_bytes);
        }
    }

    /// Time has passed. `handled`: events the application is done with.
    pub(crate) fn tick(&mut self, now: Millis, handled: u64) -> Result<(), Broken> {
        self.ticked_at = now;
        self.settle_handled(handled);
        if now >= self.deadlines_at {
            self.deadlines_at = now + DEADLINES;
            self.expire(now);
        }
        while let Some(slot) = self.delayed.pop() {
            self.writable.push(slot);
        }
        let ping = self.link.check(now, self.settings.hello_deadline, self.settings.silence)?;
        if self.link.phase != Phase::Up {
            return Ok(());
        }
        if ping {
            let id = self.link.request(Purpose::Ping, now);
            encode_frame(Kind::Ping, id, &(), &mut self.out);
        }
        if now >= self.reported_at + REPORT {
            self.reported_at = now;
            self.report_delivered(now);
            self.say_delivered_again(now);
        }
        self.look_at_holes(now);
        self.look_at_strays(now);
        self.sync_if_due(now);
        self.refresh_mark(now);
        self.watch_if_due(now);
        self.ask_due(now);
        Ok(())
    }

    /// When the next tick is of use.
    pub(crate) fn due(&self) -> Millis {
        let busy = self.link.awaits()
            || self.unanswered() > 0
            || self.link.phase == Phase::Hello
            || self.sync.is_due()
            || self.watched.is_due()
            || !(self.delayed.is_empty() && self.holes.is_empty() && self.strays.is_empty());
        if busy {
            self.ticked_at + TICK
        } else if !self.ring.is_empty() || !self.unreported.is_empty() || self.said_again.is_due() {
            self.ticked_at + REPORT
        } else if self.link.phase == Phase::Up {
            self.link.idle_check_at().max(self.ticked_at + TICK)
        } else {
            Millis::MAX
        }
    }

    /// The client ends: whoever waits is told.
    pub(crate) fn end(&mut self, error: &ClientError) {
        for (_, session) in self.sessions.iter_mut() {
            for flight in session.outbox.drain() {
                flight.answer(Err(error.clone()));
            }
        }
        self.flights = 0;
        for (_, ask) in std::mem::take(&mut self.asks) {
            ask.answer(Err(error.clone()));
        }
    }

    fn expire(&mut self, now: Millis) {
        if self.flights > 0 {
            for (_, session) in self.sessions.iter_mut() {
                if session.outbox.len() > 0 {
                    self.flights -= session.outbox.expire(now, &self.trouble);
                }
            }
        }
        self.expire_asks(now);
    }
}

#[cfg(test)]
mod tests;

//! One connection as the engine sees it: in which phase it is, what was asked on it, when it last spoke.

use std::collections::HashMap;

use rookery_wire::reply::{Limits, Welcome};
use rookery_wire::{DEFAULT_MAX_CONTENT, DEFAULT_MAX_FRAME, ErrorBody, ErrorCode, Retry, codec::BODY_LIMIT};

use crate::engine::Millis;
use crate::engine::slots::Slot;
use crate::error::ClientError;

/// Longest silence of ours, whatever idle time the server allows.
const LONGEST_IDLE: Millis = 20_000;
/// A node may hold a request until its own deadline, which it tells in WELCOME. One that is written there and has no answer
/// is given up, on a connection that speaks otherwise, so long after that; and so long a copy of it may come to life.
const HOLD_MARGIN: Millis = 5_000;
/// The least that is waited for that, whatever was told, and the most: no node has a deadline that needs it.
const HOLDS: (Millis, Millis) = (15_000, 600_000);

/// A PING is answered at once, but behind what was to be pushed: so many times as long as silence may last.
const PONG_PATIENCE: Millis = 5;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Down,
    /// HELLO is written.
    Hello,
    Up,
}

/// What an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Hello,
    Flight {
        slot: Slot,
        number: u64,
    },
    Ask(u64),
    Gap(Slot),
    Sync,
    Watch,
    /// DELIVERED, said again.
    Cursors,
    /// By the hash of the group.
    WatchSession(u64),
    Ping,
}

/// Why a connection must end, and what then.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) reason: String,
    pub(crate) next: Next,
}

/// What follows on the end of a connection.
#[derive(Debug)]
pub(crate) enum Next {
    /// Another one, to the next seed, not before so many milliseconds.
    Reconnect { after: Millis },
    /// The device's epoch is void: register anew under a fresh nonce.
    Register,
    /// The client ends.
    Fatal(ClientError),
}

impl Broken {
    pub(crate) fn protocol(what: impl std::fmt::Display) -> Self {
        Self { reason: format!("protocol fault: {what}"), next: Next::Reconnect { after: 0 } }
    }

    pub(crate) fn reconnect(reason: impl Into<String>, after: Millis) -> Self {
        Self { reason: reason.into(), next: Next::Reconnect { after } }
    }

    pub(crate) fn fatal(body: ErrorBody) -> Self {
        Self { reason: body.to_string(), next: Next::Fatal(ClientError::Refused(body)) }
    }
}

/// The connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) phase: Phase,
    pub(crate) limits: Limits,
    idle: Millis,
    /// How long a request may live on a node that it was written to, by the greatest deadline that any node has told.
    hold: Millis,
    next_id: u32,
    waiting: HashMap<u32, (Purpose, Millis)>,
    heard_at: Millis,
    said_at: Millis,
    /// Since when a PING has been waited for while answers could be read.
    pinging: Option<Millis>,
}

impl Default for Link {
    fn default() -> Self {
        let limits =
            Limits { frame: DEFAULT_MAX_FRAME, content: DEFAULT_MAX_CONTENT, window: 256, page: 100 };
        Self {
            phase: Phase::Down,
            limits,
            idle: LONGEST_IDLE,
            hold: HOLDS.0,
            next_id: 1,
            waiting: HashMap::new(),
            heard_at: 0,
            said_at: 0,
            pinging: None,
        }
    }
}

impl Link {
    /// A new connection stands; HELLO follows.
    pub(crate) fn open(&mut self, now: Millis) {
        let (phase, limits, hold) = (Phase::Hello, self.limits, self.hold);
        *self = Self { phase, heard_at: now, said_at: now, limits, hold, ..Self::default() };
    }

    /// WELCOME.
    pub(crate) fn welcome(&mut self, welcome: &Welcome) {
        self.phase = Phase::Up;
        self.limits = welcome.limits;
        self.limits.window = self.limits.window.max(1);
        self.limits.page = self.limits.page.max(1);
        self.idle = (Millis::from(welcome.idle_ms) / 3).clamp(50, LONGEST_IDLE);
        // Never less than before: copies of requests may be on nodes whose deadline is longer than this one's.
        let told = Millis::from(welcome.deadline_ms) + HOLD_MARGIN;
        self.hold = self.hold.max(told).min(HOLDS.1);
    }

    /// How long a request that was written may be carried out by whoever has it, answered or not.
    pub(crate) fn hold(&self) -> Millis {
        self.hold
    }

    /// The largest frame to take: what the server announced, but never more than any body may be.
    pub(crate) fn max_frame(&self) -> u32 {
        self.limits.frame.max(DEFAULT_MAX_FRAME).min(BODY_LIMIT as u32)
    }

    /// A request id for `purpose`.
    pub(crate) fn request(&mut self, purpose: Purpose, now: Millis) -> u32 {
        loop {
            let id = self.next_id;
            self.next_id = self.next_id.wrapping_add(1).max(1);
            if let std::collections::hash_map::Entry::Vacant(entry) = self.waiting.entry(id) {
                entry.insert((purpose, now));
                self.said_at = now;
                return id;
            }
        }
    }

    /// What an answer is for, if it was asked.
    pub(crate) fn answered(&mut self, id: u32) -> Option<Purpose> {
        let (purpose, _) = self.waiting.remove(&id)?;
        if purpose == Purpose::Ping {
            self.pinging = None;
        }
        Some(purpose)
    }

    /// Something was written that has no answer.
    pub(crate) fn said(&mut self, now: Millis) {
        self.said_at = now;
    }

    /// Something was read.
    pub(crate) fn heard(&mut self, now: Millis) {
        self.heard_at = now;
    }

    /// Reading is paused, which excuses the server: neither its words nor its PONG can be heard.
    pub(crate) fn excuse(&mut self, now: Millis) {
        self.heard_at = now;
        self.pinging = self.pinging.map(|_| now);
    }

    /// Whether another request may be in flight.
    pub(crate) fn has_room(&self) -> bool {
        self.phase == Phase::Up && self.waiting.len() < self.limits.window as usize
    }

    /// Whether answers are awaited.
    pub(crate) fn awaits(&self) -> bool {
        self.waiting.len() > usize::from(self.pinging.is_some())
    }

    /// Judges silence; says whether a PING is due. `patience`: how long HELLO may take, and silence last.
    pub(crate) fn check(&mut self, now: Millis, hello: Millis, patience: Millis) -> Result<bool, Broken> {
        let quiet = now.saturating_sub(self.heard_at);
        match self.phase {
            Phase::Down => Ok(false),
            Phase::Hello if quiet >= hello => {
                Err(Broken::reconnect(format!("no WELCOME within {hello} ms"), 0))
            }
            Phase::Hello => Ok(false),
            Phase::Up => {
                if !self.waiting.is_empty() && quiet >= patience {
                    return Err(Broken::reconnect(format!("the server was silent for {quiet} ms"), 0));
                }
                // Pushes are no sign that the server reads what is written to it.
                let pong = patience.saturating_mul(PONG_PATIENCE);
                if self.pinging.is_some_and(|since| now.saturating_sub(since) >= pong) {
                    return Err(Broken::reconnect(format!("no PONG within {pong} ms"), 0));
                }
                let lost = |(purpose, since): &(Purpose, Millis)| {
                    *purpose != Purpose::Ping && now.saturating_sub(*since) >= self.hold
                };
                if self.waiting.values().any(lost) {
                    return Err(Broken::reconnect(format!("no answer within {} ms", self.hold), 0));
                }
                let wanted = self.awaits() && quiet >= patience / 3
                    || now.saturating_sub(self.said_at) >= self.idle
                    || quiet >= self.idle;
                let ping = wanted && self.pinging.is_none();
                if ping {
                    self.pinging = Some(now);
                }
                Ok(ping)
            }
        }
    }

    /// When [`Link::check`] is next of use while nothing is awaited.
    pub(crate) fn idle_check_at(&self) -> Millis {
        self.said_at.min(self.heard_at) + self.idle
    }
}

/// What an ERROR means for the request it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Ask again on this connection, after the hint (0: none given).
    Again { after: Millis },
    /// Ask again on another connection.
    Elsewhere,
    /// It stays refused.
    Final,
}

/// Whether a refusal with this code follows from what the session or user was when the request was applied.
pub(crate) fn decided_at_apply(code: ErrorCode) -> bool {
    (400..500).contains(&code.number())
}

/// Judges an ERROR by its code and its hint; by the hint alone where a newer server has a code that is not known here.
pub(crate) fn judge(body: &ErrorBody) -> Verdict {
    match (body.code, body.retry) {
        (code, _) if code.is_known() && decided_at_apply(code) => Verdict::Final,
        (ErrorCode::ShuttingDown | ErrorCode::HelloRequired | ErrorCode::TooManyConnections, _)
        | (_, Retry::Reconnect) => Verdict::Elsewhere,
        (_, Retry::After(after)) => Verdict::Again { after: Millis::from(after) },
        (ErrorCode::Busy | ErrorCode::Unavailable, Retry::Never) => Verdict::Again { after: 0 },
        (_, Retry::Never) => Verdict::Final,
    }
}

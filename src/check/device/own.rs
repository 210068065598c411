//! The numbered acts of a device on its user's own things: whom it blocks, and for how long.
//!
//! One act at a time, repeated with its number until it is answered; the last one that was is repeated on other nodes,
//! where it must change nothing any more.

use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use rand::seq::IteratorRandom;
use rookery_wire::own::{ManageSelf, SelfAck};
use rookery_wire::{ErrorBody, ErrorCode, Kind, Retry as Advice, UserAction};
use tokio::time::Instant;

use super::{Connection, Device, Waiting};
use crate::check::history::{Bar, NEVER, Told, UserIx};

/// How long a block lasts, milliseconds.
const BARRED_MS: (u64, u64) = (100, 900);

/// An act without an answer.
#[derive(Debug)]
struct Pending {
    number: u64,
    body: Bytes,
    /// Its record in the log.
    at: usize,
    asked: bool,
}

/// The acts of one device.
#[derive(Debug, Default)]
pub(super) struct Own {
    last: u64,
    /// The last number that was answered with SELF_ACK.
    acked: u64,
    pending: Option<Pending>,
    /// The last one that was answered, and what came of it.
    answered: Option<(u64, Bytes, u64)>,
    hold: Option<Instant>,
    /// Whom it blocks, and until when.
    blocks: Option<(UserIx, Instant)>,
    /// The numbering is broken; nothing more is done.
    dead: bool,
}

impl Own {
    /// What was under way must be asked again.
    pub(super) fn disconnected(&mut self) {
        self.hold = None;
        if let Some(pending) = &mut self.pending {
            pending.asked = false;
        }
    }

    /// Whether this can be the device's last number, by what was asked and answered.
    pub(super) fn can_be_last(&self, number: u64) -> bool {
        (self.acked..=self.last).contains(&number)
    }
}

impl Device {
    /// Blocks the other user of one of the direct sessions, unless it does already.
    pub(super) fn bar_somebody(&mut self) {
        if self.own.blocks.is_some() {
            return;
        }
        let me = self.stage.cast.user_of(self.me);
        let joined = &self.joined;
        let pairs = self.stage.cast.pairs.iter();
        let mine = pairs.filter(|(session, pair)| pair.contains(&me) && joined.contains(session));
        // Not one whose group it is to be in: its list would not let itself be brought there meanwhile.
        let cast = &self.stage.cast;
        let brings = |other: &UserIx| {
            let mut groups = cast.groups.iter().filter(|group| cast.user_of(group.owner) == *other);
            groups.any(|group| group.guest == me || group.members.contains(&me))
        };
        let others = mine.filter_map(|(_, pair)| pair.iter().copied().find(|user| *user != me));
        let others = others.filter(|other| !brings(other));
        let Some(other) = others.choose(&mut self.random) else { return };
        if self.bar(other, true) {
            let lasts = Duration::from_millis(self.random.random_range(BARRED_MS.0..=BARRED_MS.1));
            self.own.blocks = Some((other, Instant::now() + lasts));
        }
    }

    /// Ends a block that has lasted.
    pub(super) fn unbar(&mut self) {
        let Some((other, until)) = self.own.blocks else { return };
        if Instant::now() >= until && self.bar(other, false) {
            self.own.blocks = None;
        }
    }

    /// Takes one act on; false if there is no room for it.
    fn bar(&mut self, other: UserIx, on: bool) -> bool {
        let name = self.stage.cast.names.users.get(other.0 as usize).cloned();
        let Some(user) = name.filter(|_| self.own.pending.is_none() && !self.own.dead) else { return false };
        self.own.last += 1;
        let number = self.own.last;
        let action = if on { UserAction::Block { user } } else { UserAction::Unblock { user } };
        let body = rookery_wire::encode(&ManageSelf { number, on_behalf_of: None, action });
        self.own.pending = Some(Pending { number, body, at: self.log.bars.len(), asked: false });
        let (device, invoke) = (self.me, self.stage.now());
        self.log.bars.push(Bar { device, number, other, on, invoke, done: NEVER, answer: Told::Unknown });
        self.stage.begin_own();
        self.stage.note();
        true
    }

    /// Asks what is not under way.
    pub(super) fn ask_own(&mut self, connection: &mut Connection) {
        if self.own.hold.is_some_and(|until| Instant::now() < until) {
            return;
        }
        if let Some(pending) = self.own.pending.as_mut().filter(|pending| !pending.asked) {
            pending.asked = true;
            let id = connection.link.ask_encoded(Kind::ManageSelf, &pending.body);
            connection.expects(id, Waiting::Bar { number: pending.number, again: None });
        }
    }

    /// Repeats what was answered before, on this connection.
    pub(super) fn repeat_own(&mut self, connection: &mut Connection) {
        if let Some((number, body, value)) = &self.own.answered {
            let id = connection.link.ask_encoded(Kind::ManageSelf, body);
            connection.expects(id, Waiting::Bar { number: *number, again: Some(*value) });
        }
    }

    pub(super) fn own_acked(&mut self, number: u64, again: Option<u64>, ack: &SelfAck) {
        let other = again.is_some_and(|value| value != ack.value);
        if ack.number != number || other {
            let text = format!("the SELF_ACK of #{number} is {ack:?}, {again:?} was its value before");
            self.log.faults.push((self.stage.now(), self.me, text));
        }
        if let (None, Some(pending)) = (again, self.own_settled(number, Told::Acked)) {
            self.own.acked = self.own.acked.max(number);
            self.own.answered = Some((number, pending.body, ack.value));
        }
    }

    pub(super) fn own_refused(&mut self, number: u64, again: Option<u64>, error: &ErrorBody) {
        let retry = match error.retry {
            Advice::After(hint) => Some(u64::from(hint)),
            Advice::Reconnect => Some(0),
            Advice::Never => None,
        };
        match (again, retry) {
            (Some(_), Some(_)) => {}
            // So few acts are done that its answer is kept.
            (Some(_), None) => {
                let text =
                    format!("#{number} of its own acts was acknowledged, and repeated is refused: {error}");
                self.log.faults.push((self.stage.now(), self.me, text));
            }
            (None, Some(hint)) => {
                if let Some(pending) = self.own.pending.as_mut().filter(|pending| pending.number == number) {
                    pending.asked = false;
                    self.own.hold = Some(Instant::now() + Duration::from_millis(hint.min(1_000)));
                }
            }
            (None, None) => {
                self.own_settled(number, Told::Refused(error.code.number()));
                // Whether it took the number is not worth finding out.
                self.own.dead = true;
                if error.code == ErrorCode::ClientSeqGap {
                    let text = format!("#{number} of its own acts, the next one, is refused: {error}");
                    self.log.faults.push((self.stage.now(), self.me, text));
                }
            }
        }
    }

    /// The first final answer ends an act.
    fn own_settled(&mut self, number: u64, answer: Told) -> Option<Pending> {
        let pending = self.own.pending.take_if(|pending| pending.number == number)?;
        self.stage.end_own();
        if let Some(bar) = self.log.bars.get_mut(pending.at) {
            bar.done = self.stage.now();
            bar.answer = answer;
        }
        Some(pending)
    }
}

//! Numbering: what this device sends in one session, from the call to the answer.
//!
//! Owns `client_seq`. The cluster stores number n + 1 only after n, and gives a number seen before its first answer
//! again; so a number, once written, must never carry other content while its outcome is open. Three things follow:
//! flights are written in ascending order and never past one that waits; a flight whose outcome is unknown stays
//! here even after the application has been told so; and renumbering (after a refusal that left its number unused)
//! waits until no written flight is without an answer, and no copy of one is left on a node that may carry it out.
//!
//! No clock and no socket: times are given, and writing is the caller's.

use std::collections::VecDeque;

use rookery_wire::reply::Ack;
use tokio::sync::OwnedSemaphorePermit;

use crate::command::{Op, Reply};
use crate::engine::Millis;
use crate::error::ClientError;

/// First and longest pause before a number is tried again when the server gave no hint.
const RETRY_PAUSE: (Millis, Millis) = (2, 500);
/// No device counts so far: whoever names such a number is wrong, and is not followed.
const NO_NUMBER: u64 = 1 << 62;
/// So many answers in a row must ask for a number that is known to be used before that is believed.
const STALE_GAPS: u32 = 3;

/// One numbered request.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) number: u64,
    pub(crate) op: Op,
    state: State,
    tries: u32,
    /// It was written at least once, on whatever connection.
    pub(crate) touched: bool,
    deadline: Millis,
    /// A copy of it (from a lost connection, or given up by its node) may be carried out until then.
    ghost_until: Millis,
    /// `None` when the application has been told that the outcome is unknown.
    reply: Option<Reply<Ack>>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting { not_before: Millis },
    Written,
}

/// The flights of one session, ascending.
#[derive(Debug)]
pub(crate) struct Outbox {
    next: u64,
    flights: VecDeque<Flight>,
    written: usize,
    /// No flight with a lower number waits: where to look for the next to write.
    scan: u64,
    /// Numbers from here on are not the cluster's: to be given anew.
    renumber_from: Option<u64>,
    /// Copies of requests that have left here, refused with their numbers unused, may be carried out until then; 0 = none.
    ghost_until: Millis,
    /// The highest number known to be used up, in this run.
    done: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            next: 1,
            flights: VecDeque::new(),
            written: 0,
            scan: 0,
            renumber_from: None,
            ghost_until: 0,
            done: 0,
        }
    }
}

impl Flight {
    /// Ends it.
    pub(crate) fn answer(mut self, answer: Result<Ack, ClientError>) {
        if let Some(reply) = self.reply.take() {
            // The application may have stopped waiting; that is its right.
            let _ = reply.send(answer);
        }
    }
}

impl Outbox {
    /// Takes a request and gives it the next number.
    pub(crate) fn push(&mut self, op: Op, reply: Reply<Ack>, permit: OwnedSemaphorePermit, deadline: Millis) {
        let state = State::Waiting { not_before: 0 };
        let number = self.next;
        self.next += 1;
        self.scan = self.scan.min(number);
        self.flights.push_back(Flight {
            number,
            op,
            state,
            tries: 0,
            touched: false,
            deadline,
            ghost_until: 0,
            reply: Some(reply),
            _permit: permit,
        });
    }

    /// How many have no answer yet.
    pub(crate) fn len(&self) -> usize {
        self.flights.len()
    }

    /// How many are written on this connection and without an answer.
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// The last number given out.
    pub(crate) fn last_number(&self) -> u64 {
        self.next - 1
    }

    /// The next to write, if one may be written now. Follow it with [`Outbox::wrote`].
    pub(crate) fn next_to_write(&mut self, now: Millis) -> Option<&Flight> {
        if self.renumber_from.is_some() {
            if self.written > 0 || self.ghosts_until() > now {
                return None;
            }
            self.renumber();
        }
        let at = self.flights.partition_point(|flight| flight.number < self.scan);
        let ahead = self.flights.range(at..).position(|flight| flight.state != State::Written);
        let Some(ahead) = ahead else {
            self.scan = self.next;
            return None;
        };
        let flight = &self.flights[at + ahead];
        self.scan = flight.number;
        match flight.state {
            State::Waiting { not_before } if not_before <= now => Some(flight),
            _ => None,
        }
    }

    /// The flight was written; says whether it had been written before.
    pub(crate) fn wrote(&mut self, number: u64) -> bool {
        let Some(flight) = self.find(number) else { return false };
        flight.state = State::Written;
        let again = std::mem::replace(&mut flight.touched, true);
        self.written += 1;
        self.scan = number + 1;
        again
    }

    /// Whether something waits to be written, now or later.
    pub(crate) fn waits(&self) -> bool {
        self.written < self.flights.len()
    }

    /// The number has its final answer and is used up: an ACK, or a refusal decided at apply.
    pub(crate) fn consumed(&mut self, number: u64) -> Option<Flight> {
        let flight = self.remove(number)?;
        self.done = self.done.max(number);
        if let Some(from) = &mut self.renumber_from {
            // The cluster was further than it was thought to be.
            *from = (*from).max(number + 1);
        }
        Some(flight)
    }

    /// Whether the refusal took the number nobody here can say. Those behind it keep theirs: if they are wrong the answer names
    /// the number expected, which tells; were the number given to another request, it might be told of this one's.
    pub(crate) fn perhaps_consumed(&mut self, number: u64) -> Option<Flight> {
        let flight = self.consumed(number)?;
        self.ghost_until = self.ghost_until.max(flight.ghost_until);
        Some(flight)
    }

    /// The request was refused before the log: its number is still free, and those behind it must move up.
    pub(crate) fn unused(&mut self, number: u64) -> Option<Flight> {
        let flight = self.remove(number)?;
        self.ghost_until = self.ghost_until.max(flight.ghost_until);
        self.renumber_later(number);
        Some(flight)
    }

    /// Until when a copy of this request may still be carried out, whatever its last answer says; 0 = there is none.
    pub(crate) fn ghost_until(&self, number: u64) -> Millis {
        let flight = self.position(number).and_then(|at| self.flights.get(at));
        flight.map_or(0, |flight| flight.ghost_until)
    }

    /// The same number is to be tried again, not before `not_before`.
    pub(crate) fn retry(&mut self, number: u64, not_before: Millis) {
        let Some(flight) = self.find(number) else { return };
        if flight.state == State::Written {
            flight.state = State::Waiting { not_before };
            flight.tries += 1;
            self.written -= 1;
            self.scan = self.scan.min(number);
        }
    }

    /// The answer left open whether a copy of it may still be carried out, until then.
    pub(crate) fn doubt(&mut self, number: u64, until: Millis) {
        if let Some(flight) = self.find(number) {
            flight.ghost_until = flight.ghost_until.max(until);
        }
    }

    /// The cluster wants `expected` before this number.
    pub(crate) fn gap(&mut self, number: u64, expected: u64, now: Millis) {
        let pause = self.pause(number);
        self.retry(number, now + pause);
        if self.find(expected).is_some() || expected >= NO_NUMBER {
            return;
        }
        // Nothing here has the number it wants. Either that one was answered while this answer was on its way,
        // which the next try will show, or what is here must move there.
        let tries = self.find(number).map_or(0, |flight| flight.tries);
        if expected > self.done || tries >= STALE_GAPS {
            self.done = expected.saturating_sub(1);
            self.renumber_later(expected);
        }
    }

    /// A pause that grows with every try of this number.
    pub(crate) fn pause(&mut self, number: u64) -> Millis {
        let tries = self.find(number).map_or(0, |flight| flight.tries);
        (RETRY_PAUSE.0 << tries.min(16)).min(RETRY_PAUSE.1)
    }

    /// The connection is gone: everything without an answer is written again, in order, under its number. The node that
    /// had it may carry a copy out until `ghosts_until`; so long its number is not given to anything else.
    pub(crate) fn cut(&mut self, ghosts_until: Millis) {
        for flight in &mut self.flights {
            if flight.state == State::Written {
                flight.ghost_until = flight.ghost_until.max(ghosts_until);
            }
            flight.state = State::Waiting { not_before: 0 };
        }
        self.written = 0;
        self.scan = 0;
    }

    /// What the cluster says this device's last number is; believed only while nothing is under way.
    pub(crate) fn raise(&mut self, last: u64) {
        if self.flights.is_empty() && self.renumber_from.is_none() && last < NO_NUMBER {
            self.next = self.next.max(last + 1);
        }
    }

    /// A new epoch: numbers begin at 1. Flights that were never written keep their order; of the others nobody can
    /// say whether they were stored, and they are given back.
    pub(crate) fn restart(&mut self) -> Vec<Flight> {
        let (lost, kept): (Vec<Flight>, Vec<Flight>) =
            std::mem::take(&mut self.flights).into_iter().partition(|flight| flight.touched);
        *self = Self { flights: kept.into(), renumber_from: Some(1), ..Self::default() };
        self.renumber();
        lost
    }

    /// Tells the application about flights whose time is up. One that was never written is dropped for good and its
    /// number used by the next; one that was written goes on in the background. Returns how many were dropped.
    pub(crate) fn expire(&mut self, now: Millis, last: &str) -> usize {
        let mut dropped = 0;
        let mut at = 0;
        while at < self.flights.len() {
            let flight = &mut self.flights[at];
            if flight.deadline > now || flight.reply.is_none() {
                at += 1;
                continue;
            }
            let what = flight.op.kind().name();
            let error = ClientError::Deadline { what, written: flight.touched, last: last.to_owned() };
            if flight.touched {
                if let Some(reply) = flight.reply.take() {
                    let _ = reply.send(Err(error));
                }
                at += 1;
            } else if let Some(flight) = self.flights.remove(at) {
                // Writing is in order, so nothing behind it was written either: they move up at once.
                self.flights.range_mut(at..).for_each(|behind| behind.number -= 1);
                self.next -= 1;
                self.scan = 0;
                dropped += 1;
                flight.answer(Err(error));
            }
        }
        dropped
    }

    /// Everything without an answer, for the end of the client.
    pub(crate) fn drain(&mut self) -> Vec<Flight> {
        self.written = 0;
        self.flights.drain(..).collect()
    }

    fn position(&self, number: u64) -> Option<usize> {
        let first = self.flights.front()?.number;
        // Nearly always without a hole, so that the place follows from the number.
        let guess = usize::try_from(number.checked_sub(first)?).ok()?;
        if self.flights.get(guess).is_some_and(|flight| flight.number == number) {
            return Some(guess);
        }
        self.flights.binary_search_by_key(&number, |flight| flight.number).ok()
    }

    fn find(&mut self, number: u64) -> Option<&mut Flight> {
        let at = self.position(number)?;
        self.flights.get_mut(at)
    }

    fn remove(&mut self, number: u64) -> Option<Flight> {
        let at = self.position(number)?;
        let flight = self.flights.remove(at)?;
        if flight.state == State::Written {
            self.written -= 1;
        }
        Some(flight)
    }

    fn renumber_later(&mut self, from: u64) {
        self.renumber_from = Some(self.renumber_from.map_or(from, |earlier| earlier.min(from)));
        if self.flights.is_empty() && self.ghost_until == 0 {
            self.renumber();
        }
    }

    /// Until when the copy of any request may take its number.
    fn ghosts_until(&self) -> Millis {
        self.flights.iter().map(|flight| flight.ghost_until).fold(self.ghost_until, Millis::max)
    }

    fn renumber(&mut self) {
        let Some(from) = self.renumber_from.take() else { return };
        let mut next = from;
        for flight in self.flights.iter_mut().filter(|flight| flight.number >= from) {
            flight.number = next;
            next += 1;
        }
        self.next = next;
        self.scan = 0;
        self.ghost_until = 0;
    }
}

#[cfg(test)]
mod tests;

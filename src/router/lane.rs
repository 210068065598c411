//! What waits for one shard on this node: which requests, what to send, what to send again, when to give up.
//!
//! Plain data: no task, no socket, time comes as an argument. Requests of one lane are numbered as they come and are
//! always sent in that order; when something may have been lost, everything unanswered from there on is sent again
//! in order. Replicated deduplication makes that safe (G3), and the order keeps a device's sends in the order in
//! which it made them (G2).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rookery_wire::{ErrorBody, ErrorCode, Retry};
use tokio::time::Instant;

use super::seam::{Order, Request};
use super::turned::Turned;
use crate::shard::Answer;

/// Low bits of a number on the way: which attempt it was, so that a late answer to an earlier one is known as such.
const ATTEMPT_BITS: u32 = 8;
/// First and longest pause before something refused is sent again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(160));
/// First and longest silence of another node before what it was sent is sent again.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));
/// How long a shard whose leader has little disk space may take to find another, before DISK_LOW is the answer.
const LOW_PATIENCE: Duration = Duration::from_secs(4);
/// How long a leader whose journal is full may take to make room, before BUSY is the answer: a hitch of the disk is not worth a
/// word, and what waits here is bounded.
const BUSY_PATIENCE: Duration = Duration::from_secs(1);
/// Pause before one that had no room is asked again.
const ROOM_PAUSE: Duration = Duration::from_millis(100);
/// Places of answered requests behind an unanswered one, as a multiple of the bound on requests.
const SPAN: usize = 4;

/// Bounds of a lane.
#[derive(Clone, Copy, Debug)]
pub struct LaneLimits {
    /// Requests that wait.
    pub requests: usize,
    /// Their bytes.
    pub bytes: usize,
    /// How long a request is tried before it is answered UNAVAILABLE.
    pub deadline: Duration,
}

struct Pending {
    request: Request,
    deadline: Instant,
    attempt: u8,
    sent_at: Option<Instant>,
    /// An attempt before the last may have been appended somewhere.
    unsure: bool,
    /// The last attempt was refused for want of room, on the disk or in the journal, before it was appended.
    no_room: bool,
    /// Since when it is refused so.
    no_room_since: Option<Instant>,
}

/// A request and its final answer.
pub type Settled = (Request, Answer);

/// What a batch of answers led to.
#[derive(Default)]
pub struct Judged {
    /// Finished requests.
    pub settled: Vec<Settled>,
    /// Something is to be sent again.
    pub again: bool,
    /// The node that was named as leader.
    pub leader: Option<u16>,
}

/// Counters of a lane.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LaneCounts {
    /// Commands handed out for sending, repeats included.
    pub(super) sent: u64,
    /// Of those, repeats.
    pub(super) resent: u64,
    /// Refused because the lane was full, or the journal of who leads.
    pub(super) busy: u64,
    /// Given up at their deadline.
    pub(super) expired: u64,
}

/// The requests of one shard that wait on this node.
pub struct LaneState {
    limits: LaneLimits,
    /// Number of `slots[0]`.
    base: u64,
    /// By number; `None` where a later one was answered before an earlier one.
    slots: VecDeque<Option<Pending>>,
    live: usize,
    bytes: usize,
    /// Everything from here on is yet to be sent, or to be sent again.
    cursor: u64,
    not_before: Option<Instant>,
    backoff: Duration,
    /// Somebody else was named as leader, and nothing was settled since: the next who is named waits out a pause.
    redirected: bool,
    patience: Duration,
    heard_at: Instant,
    turned: Turned,
    pub(super) counts: LaneCounts,
}

impl LaneState {
    /// An empty lane whose numbers begin at `base`, drawn at random so that an answer meant for an earlier process
    /// of this node finds nothing.
    pub fn new(limits: LaneLimits, base: u64, now: Instant) -> Self {
        let base = base >> (ATTEMPT_BITS + 1);
        Self {
            limits,
            base,
            slots: VecDeque::new(),
            live: 0,
            bytes: 0,
            cursor: base,
            not_before: None,
            backoff: BACKOFF.0,
            redirected: false,
            patience: PATIENCE.0,
            heard_at: now,
            turned: Turned::default(),
            counts: LaneCounts::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live == 0
    }

    pub(super) fn len(&self) -> usize {
        self.live
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a request, or gives it back with BUSY: when the lane is full, or a number before it of the same device was
    /// turned away so a moment ago.
    ///
    /// # Errors
    /// The request, and BUSY.
    pub fn admit(&mut self, request: Request, now: Instant) -> Result<(), Settled> {
        let size = request.command.len();
        let full = self.live >= self.limits.requests
            || self.slots.len() >= self.limits.requests * SPAN
            || (self.bytes + size > self.limits.bytes && self.live > 0);
        let full = full && !request.carried;
        if full && let Some(order) = request.order {
            self.turned.note(order, now);
        }
        if full || request.order.is_some_and(|order| self.turned.is_behind(order, now)) {
            self.counts.busy += 1;
            return Err((request, Answer::Refused(busy(self.live))));
        }
        if let Some(order) = request.order {
            self.turned.admitted(order);
        }
        if self.live == 0 {
            self.heard_at = now;
        }
        self.live += 1;
        self.bytes += size;
        let deadline = now + self.limits.deadline;
        self.slots.push_back(Some(Pending {
            request,
            deadline,
            attempt: 0,
            sent_at: None,
            unsure: false,
            no_room: false,
            no_room_since: None,
        }));
        Ok(())
    }

    /// Whether there is something to send now.
    pub(super) fn wants_to_send(&self, now: Instant) -> bool {
        self.cursor < self.end() && self.not_before.is_none_or(|at| at <= now)
    }

    fn end(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    /// The next commands to send, in order, under the numbers to send them with; at least one if any waits.
    pub fn batch(&mut self, now: Instant, max_count: usize, max_bytes: usize) -> Vec<(u64, Bytes)> {
        let mut out = Vec::new();
        if !self.wants_to_send(now) {
            return out;
        }
        self.not_before = None;
        let mut bytes = 0;
        while self.cursor < self.end() && out.len() < max_count {
            let number = self.cursor;
            let at = (number - self.base) as usize;
            if let Some(pending) = self.slots.get_mut(at).and_then(Option::as_mut) {
                let size = pending.request.command.len();
                if bytes + size > max_bytes && !out.is_empty() {
                    break;
                }
                bytes += size;
                self.counts.sent += 1;
                self.counts.resent += u64::from(pending.sent_at.is_some());
                pending.attempt = pending.attempt.wrapping_add(1);
                pending.unsure |= pending.sent_at.is_some() && !std::mem::take(&mut pending.no_room);
                pending.sent_at = Some(now);
                let tag = number << ATTEMPT_BITS | u64::from(pending.attempt);
                out.push((tag, pending.request.command.clone()));
            }
            self.cursor += 1;
        }
        out
    }

    /// A batch was not taken: from its first number on, send again after a pause.
    pub(super) fn not_taken(&mut self, first: u64, now: Instant) {
        self.rewind(first >> ATTEMPT_BITS);
        self.pause(Duration::ZERO, now);
    }

    /// What was sent may be lost and there is someone new to send it to: everything again, after the pause if there is
    /// one. While a lead is handed over each of two nodes names the other; without pauses everything would fly to and fro.
    pub(super) fn resend_all(&mut self, now: Instant) {
        self.cursor = self.base;
        self.heard_at = now;
    }

    /// There is news of the leader, or of the link to it: what was refused before need not wait any longer.
    pub(super) fn news(&mut self) {
        self.not_before = None;
        self.backoff = BACKOFF.0;
        self.redirected = false;
    }

    fn rewind(&mut self, to: u64) {
        self.cursor = self.cursor.min(to.max(self.base));
    }

    fn pause(&mut self, at_least: Duration, now: Instant) {
        self.not_before = Some(now + self.backoff.max(at_least));
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
    }

    /// Judges answers: which are final, and what is to be sent again.
    pub fn answers(&mut self, answers: Vec<(u64, Answer)>, now: Instant) -> Judged {
        let mut judged = Judged::default();
        let mut wait = Duration::ZERO;
        for (tag, answer) in answers {
            let number = tag >> ATTEMPT_BITS;
            let Some(pending) = self.get(number) else { continue };
            let current = pending.attempt == tag as u8;
            match answer {
                Answer::Refused(error) if matches!(error.code, ErrorCode::DiskLow | ErrorCode::Busy) => {
                    if !current {
                        continue; // The answer to the last attempt decides.
                    }
                    let patience =
                        if error.code == ErrorCode::DiskLow { LOW_PATIENCE } else { BUSY_PATIENCE };
                    if self.still_no_room(number, patience, now) {
                        self.turn_away(number, error, now, &mut judged);
                    } else {
                        self.rewind(number);
                        judged.again = true;
                        wait = wait.max(ROOM_PAUSE);
                    }
                }
                // It takes no number and is not remembered, so a repeat may find the session there.
                Answer::Refused(error) if error.code == ErrorCode::NoSuchSession && !current => {}
                Answer::Again { leader, after_ms } => {
                    if current {
                        self.room_again(number);
                        self.rewind(number);
                        judged.again = true;
                        judged.leader = leader.or(judged.leader);
                        wait = wait.max(Duration::from_millis(u64::from(after_ms)));
                    }
                }
                Answer::Refused(error) if error.code == ErrorCode::ClientSeqGap => {
                    if !current {
                        continue; // The answer to the last attempt decides.
                    }
                    match self.earlier(number, error.detail) {
                        // What it waits for was sent before it and is on its way: behind that one, again.
                        Some(earlier) => {
                            self.rewind(earlier);
                            judged.again = true;
                        }
                        None => self.settle(number, Answer::Refused(error), &mut judged),
                    }
                }
                answer => self.settle(number, answer, &mut judged),
            }
        }
        if judged.again {
            // Who is named as leader is asked at once, but only the first.
            let named = judged.leader.is_some() && wait.is_zero();
            if !named || std::mem::replace(&mut self.redirected, true) {
                self.pause(wait, now);
            }
        }
        if !judged.settled.is_empty() {
            self.heard_at = now;
            self.backoff = BACKOFF.0;
            self.redirected = false;
            self.patience = PATIENCE.0;
        }
        judged
    }

    /// Whether a request that was refused for want of room is given up: not before there has been the time to make some, or
    /// for somebody else to lead the shard, and only if "nothing was stored" is true of every attempt.
    fn still_no_room(&mut self, number: u64, patience: Duration, now: Instant) -> bool {
        let at = number.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        let Some(pending) = at.and_then(|at| self.slots.get_mut(at)).and_then(Option::as_mut) else {
            return false;
        };
        pending.no_room = true;
        let since = *pending.no_room_since.get_or_insert(now);
        !pending.unsure && now.saturating_duration_since(since) >= patience
    }

    /// Gives a request back for want of room. What its device sends behind one that is to come back soon would only be a gap.
    fn turn_away(&mut self, number: u64, error: ErrorBody, now: Instant, judged: &mut Judged) {
        if error.code == ErrorCode::Busy {
            if let Some(order) = self.get(number).and_then(|pending| pending.request.order) {
                self.turned.note(order, now);
            }
            self.counts.busy += 1;
        }
        self.settle(number, Answer::Refused(error), judged);
    }

    fn room_again(&mut self, number: u64) {
        let at = number.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        if let Some(pending) = at.and_then(|at| self.slots.get_mut(at)).and_then(Option::as_mut) {
            pending.no_room_since = None;
        }
    }

    fn get(&self, number: u64) -> Option<&Pending> {
        let at = number.checked_sub(self.base)?;
        self.slots.get(usize::try_from(at).ok()?)?.as_ref()
    }

    /// The number of the waiting request that carries the `expected` number of the same sender, before `number`.
    fn earlier(&self, number: u64, expected: u64) -> Option<u64> {
        let sender = self.get(number)?.request.order?.sender;
        let wanted = Order { sender, number: expected };
        let before = (number - self.base) as usize;
        let at =
            self.slots.iter().take(before).position(|slot| {
                slot.as_ref().is_some_and(|pending| pending.request.order == Some(wanted))
            })?;
        Some(self.base + at as u64)
    }

    fn settle(&mut self, number: u64, answer: Answer, judged: &mut Judged) {
        if let Some(request) = self.take(number) {
            judged.settled.push((request, answer));
        }
    }

    fn take(&mut self, number: u64) -> Option<Request> {
        let at = usize::try_from(number.checked_sub(self.base)?).ok()?;
        let pending = self.slots.get_mut(at)?.take()?;
        self.live -= 1;
        self.bytes -= pending.request.command.len();
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.base += 1;
        }
        self.cursor = self.cursor.max(self.base);
        if self.slots.is_empty() && self.slots.capacity() > 1024 {
            self.slots.shrink_to(0);
        }
        Some(pending.request)
    }

    /// Gives up what has waited for its whole deadline. Deadlines ascend with the numbers.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Settled> {
        let mut out = Vec::new();
        while let Some(Some(pending)) = self.slots.front()
            && pending.deadline <= now
        {
            if let Some(request) = self.take(self.base) {
                self.counts.expired += 1;
                out.push((request, Answer::Refused(unavailable())));
            }
        }
        out
    }

    /// Another node was sent something and has not answered for too long: send it again. Returns whether.
    ///
    /// A link that lives loses nothing, but a node at its bounds may drop an answer. Patience doubles each time, so
    /// that a node that is merely slow is not buried in repeats.
    pub(super) fn silence(&mut self, now: Instant) -> bool {
        let Some(Some(oldest)) = self.slots.front() else { return false };
        let Some(sent_at) = oldest.sent_at else { return false };
        let age = now.saturating_duration_since(sent_at);
        let quiet = now.saturating_duration_since(self.heard_at);
        let silent = age >= self.patience && (quiet >= self.patience || age >= self.patience * 4);
        if silent {
            self.rewind(self.base);
            self.patience = (self.patience * 2).min(PATIENCE.1);
            self.heard_at = now;
        }
        silent
    }

    /// When there is something to look at again without any news, if ever.
    pub(super) fn wake_at(&self, now: Instant) -> Option<Instant> {
        const SWEEP: Duration = Duration::from_millis(50);
        if self.is_empty() {
            return None;
        }
        let sweep = now + SWEEP;
        Some(match self.not_before {
            Some(at) if self.cursor < self.end() && at > now => at.min(sweep),
            // What could go out now and did not has nobody to go to.
            _ => sweep,
        })
    }

    /// Gives up everything: the node stops.
    pub(super) fn drain(&mut self, error: &ErrorBody) -> Vec<Settled> {
        self.live = 0;
        self.bytes = 0;
        self.base += self.slots.len() as u64;
        self.cursor = self.base;
        let slots = std::mem::take(&mut self.slots);
        slots.into_iter().flatten().map(|p| (p.request, Answer::Refused(error.clone()))).collect()
    }
}

/// BUSY with a hint that grows a little with what waits.
pub(super) fn busy(waiting: usize) -> ErrorBody {
    let hint = 20 + u32::try_from(waiting / 256).unwrap_or(u32::MAX).min(480);
    ErrorBody::new(ErrorCode::Busy, "this node has as many requests waiting for the shard as it may hold")
        .with_retry(Retry::After(hint))
}

/// UNAVAILABLE: the deadline passed without a final answer.
pub(super) fn unavailable() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Unavailable,
        "the shard gave no answer within the deadline; it may or may not have been carried out",
    )
    .with_retry(Retry::After(200))
}

/// Hands settled requests to those who wait for them: one call for each, with all that is theirs, in order. Most come in rows
/// of one waiter, so it is looked up only where it is another than the one before.
pub(super) fn complete(settled: Vec<Settled>) {
    let mut groups: Vec<(Arc<dyn super::seam::Waiter>, Vec<(u64, Answer)>)> = Vec::new();
    let mut by_waiter = std::collections::HashMap::new();
    let mut last = 0;
    for (request, answer) in settled {
        let Request { waiter, ticket, .. } = request;
        let key = Arc::as_ptr(&waiter).cast::<()>() as usize;
        if groups.get(last).is_none_or(|(of, _)| !std::ptr::addr_eq(Arc::as_ptr(of), Arc::as_ptr(&waiter))) {
            last = *by_waiter.entry(key).or_insert(groups.len());
            if last == groups.len() {
                groups.push((waiter, Vec::new()));
            }
        }
        groups[last].1.push((ticket, answer));
    }
    for (waiter, answers) in groups {
        waiter.complete(answers);
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;

//! What comes in: pushes, own messages and pulled pages meet in the inbox of their session and leave it in order.

use rookery_wire::reply::{Joined, Lagged, Message, Page};
use rookery_wire::request::{Consistency, Direction, Pull, Role};
use rookery_wire::{ErrorBody, ErrorCode, Kind, Record, SessionId, encode_frame};

use crate::engine::inbox::{Item, Offer};
use crate::engine::link::{Broken, Phase, Purpose, Verdict};
use crate::engine::slots::Slot;
use crate::engine::{Engine, Given, Millis};
use crate::event::Event;

/// How long a hole may wait for an own ACK before it is pulled.
const GRACE: Millis = 250;
/// Pages asked for at once, for all sessions.
const PULLS: usize = 8;
/// Bytes of records in one page.
const PULL_BYTES: u32 = 256 << 10;
/// After a pull that brought nothing, or was refused.
const PULL_PAUSE: Millis = 100;
/// After a refusal that no retry helps, e.g. a frozen session.
const PULL_REST: Millis = 2_000;
/// How long something of an unknown session waits for its JOINED before the session list is read again.
const STRAY: Millis = 1_000;

/// `live_from` of a session the node could not subscribe to: nothing will be pushed.
pub(crate) const NOT_LIVE: u64 = u64::MAX;

/// The last seq before pushes begin, as far as `live_from` tells.
pub(crate) fn before_live(live_from: u64) -> u64 {
    if live_from == NOT_LIVE { 0 } else { live_from.saturating_sub(1) }
}

impl Engine {
    /// An event that is not a message.
    pub(crate) fn give(&mut self, event: Event) {
        if !self.deaf {
            self.ring.push_back(Given::Other);
            self.ready.push_back(event);
        }
    }

    /// MESSAGE.
    pub(crate) fn message(&mut self, now: Millis, message: Message) {
        let slot = self.sessions.slot(&message.session);
        let seq = message.record.seq;
        let item = self.wanted(message.record);
        self.arrive(now, slot, seq, item);
    }

    /// Own messages come back in pages and, after a cut, as pushes.
    fn wanted(&self, record: Record) -> Item {
        let own = record.device == self.settings.device
            && (record.sender == self.settings.user
                || self.settings.role == Role::Service && record.epoch == self.epoch);
        if own && !self.settings.echo_own { Item::Silent } else { Item::Record(Box::new(record)) }
    }

    /// `item` stands at `seq` of the session.
    pub(crate) fn arrive(&mut self, now: Millis, slot: Slot, seq: u64, item: Item) {
        let room = self.ready.len() < self.settings.room;
        let session = &mut self.sessions[slot];
        match session.inbox.offer(seq, item, room, &mut self.held_bytes) {
            Offer::Next(item) => {
                self.give_item(slot, seq, item);
                if self.sessions[slot].inbox.holds() {
                    self.give_held(now, slot);
                }
            }
            Offer::Repeat => self.stats.repeats_dropped += 1,
            Offer::Held | Offer::Dropped if !session.inbox.tracked => {
                session.stray_since.get_or_insert(now);
                self.strays.push(slot);
            }
            Offer::Held if session.inbox.has_next() => self.stalled.push(slot),
            Offer::Held | Offer::Dropped => self.check_gap(now, slot, false),
        }
    }

    /// The application's queue has room again.
    pub(crate) fn resume(&mut self, now: Millis) {
        for _ in 0..self.stalled.len() {
            if self.ready.len() >= self.settings.room {
                return;
            }
            if let Some(slot) = self.stalled.pop() {
                self.give_held(now, slot);
            }
        }
    }

    /// Gives out what is held and next, while the application's queue has room.
    pub(crate) fn give_held(&mut self, now: Millis, slot: Slot) {
        while self.ready.len() < self.settings.room {
            let next = self.sessions[slot].inbox.pop_next(&mut self.held_bytes);
            let Some((seq, item)) = next else { break };
            self.give_item(slot, seq, item);
        }
        if self.sessions[slot].inbox.has_next() {
            self.stalled.push(slot);
        } else {
            self.check_gap(now, slot, false);
        }
    }

    fn give_item(&mut self, slot: Slot, seq: u64, item: Item) {
        match item {
            Item::Record(record) => {
                self.ring.push_back(Given::Message(slot, seq));
                let session = self.sessions[slot].id.clone();
                self.ready.push_back(Event::Message { session, record: *record });
            }
            Item::Silent => self.silent(slot, seq),
        }
    }

    /// Looks whether something of the session is missing, and has it pulled: at once if `urgent` or if no own ACK
    /// can be what is missing, else after a grace.
    pub(crate) fn check_gap(&mut self, now: Millis, slot: Slot, urgent: bool) {
        let session = &mut self.sessions[slot];
        let Some((from, _)) = session.inbox.missing() else {
            session.inbox.hole = None;
            return;
        };
        if self.deaf || session.inbox.pulling {
            return;
        }
        if urgent || session.outbox.written() == 0 {
            if session.inbox.pull_at > now {
                self.holes.push(slot);
            } else {
                self.gaps.push(slot);
            }
            return;
        }
        if session.inbox.hole.is_none_or(|(_, seq)| seq != from) {
            session.inbox.hole = Some((now, from));
        }
        self.holes.push(slot);
    }

    pub(crate) fn look_at_holes(&mut self, now: Millis) {
        for _ in 0..self.holes.len() {
            let Some(slot) = self.holes.pop() else { return };
            let inbox = &self.sessions[slot].inbox;
            let ripe = inbox.hole.is_none_or(|(since, _)| now >= since + GRACE);
            self.check_gap(now, slot, ripe);
        }
    }

    /// Asks for the pages that are missing, while the application can take them.
    pub(crate) fn pump_gaps(&mut self, now: Millis) {
        while self.pulls < PULLS
            && self.link.has_room()
            && self.ready.len() < self.settings.room.div_ceil(2)
            && let Some(slot) = self.gaps.pop()
        {
            let page = self.link.limits.page;
            let max_bytes = PULL_BYTES.min(self.link.limits.frame / 2);
            let session = &mut self.sessions[slot];
            let Some((from, to)) = session.inbox.missing().filter(|_| !session.inbox.pulling) else {
                continue;
            };
            let pull = Pull {
                session: session.id.clone(),
                from_seq: from,
                direction: Direction::Forward,
                max_count: u32::try_from(to - from + 1).unwrap_or(page).min(page),
                max_bytes,
                consistency: match session.inbox.distrust {
                    true => Consistency::Linearizable,
                    false => Consistency::AtLeast(to),
                },
            };
            session.inbox.pulling = true;
            self.pulls += 1;
            self.stats.pulls_for_gaps += 1;
            let id = self.link.request(Purpose::Gap(slot), now);
            encode_frame(Kind::Pull, id, &pull, &mut self.out);
        }
    }

    /// PAGE for a gap.
    pub(crate) fn gap_page(&mut self, now: Millis, slot: Slot, page: Page) -> Result<(), Broken> {
        self.pulls = self.pulls.saturating_sub(1);
        let session = &mut self.sessions[slot];
        session.inbox.pulling = false;
        if page.session != session.id {
            return Err(Broken::protocol(format_args!("a PAGE of {} for {}", page.session, session.id)));
        }
        if !session.inbox.tracked {
            return Ok(());
        }
        self.skip_to(slot, page.first_seq);
        let before = self.sessions[slot].inbox.cursor;
        let mut last = None;
        for record in page.records {
            let seq = record.seq;
            let follows =
                last.map_or(seq <= before.saturating_add(1), |last: u64| last.checked_add(1) == Some(seq));
            if !follows {
                return Err(Broken::protocol(format_args!(
                    "a PAGE of {} has a gap before {seq}",
                    page.session
                )));
            }
            last = Some(seq);
            if seq > self.sessions[slot].inbox.cursor {
                let item = self.wanted(record);
                self.arrive(now, slot, seq, item);
            }
        }
        let inbox = &mut self.sessions[slot].inbox;
        if inbox.cursor > before {
            inbox.distrust = false;
        } else if inbox.missing().is_some() && !inbox.has_next() {
            // Something is said to exist and was not given. Ask the leader; if it does not have it either, it is
            // not there.
            if std::mem::replace(&mut inbox.distrust, true) && !inbox.holds() {
                inbox.head = inbox.cursor.max(page.last_seq);
            }
            inbox.pull_at = now + PULL_PAUSE;
        }
        self.check_gap(now, slot, true);
        Ok(())
    }

    fn skip_to(&mut self, slot: Slot, first: u64) {
        let session = &mut self.sessions[slot];
        if let Some((from, to)) = session.inbox.skip_to(first, &mut self.held_bytes) {
            let session = session.id.clone();
            self.give(Event::Skipped { session, from, to });
        }
    }

    /// ERROR for a gap's pull.
    pub(crate) fn gap_refused(&mut self, now: Millis, slot: Slot, verdict: Verdict, body: &ErrorBody) {
        self.pulls = self.pulls.saturating_sub(1);
        let session = &mut self.sessions[slot];
        session.inbox.pulling = false;
        if matches!(body.code, ErrorCode::NotMember | ErrorCode::NoSuchSession | ErrorCode::Dissolved) {
            let id = session.id.clone();
            return self.left(&id);
        }
        session.inbox.pull_at = now
            + match verdict {
                Verdict::Again { after } => after.max(PULL_PAUSE),
                Verdict::Elsewhere => 0,
                Verdict::Final => PULL_REST,
            };
        self.check_gap(now, slot, true);
    }

    /// JOINED. All of a session that begins with this membership is new to the user.
    pub(crate) fn joined(&mut self, now: Millis, joined: &Joined) {
        if self.deaf {
            return;
        }
        let slot = self.sessions.slot(&joined.session);
        let generation = self.sync.generation;
        let session = &mut self.sessions[slot];
        session.seen = generation;
        session.left_in = None;
        if session.inbox.tracked {
            session.inbox.exists(before_live(joined.live_from));
            return self.check_gap(now, slot, true);
        }
        if joined.live_from == NOT_LIVE {
            self.sync_fully_soon(now);
        }
        let session = &mut self.sessions[slot];
        session.unresolved = false;
        if !std::mem::replace(&mut session.announced, true) {
            self.give(Event::Joined(joined.session.clone()));
        }
        if let SessionId::Group(_) = joined.session {
            // Since when the user is in it, only the session list says.
            return self.sync_soon(now);
        }
        let session = &mut self.sessions[slot];
        let cursor = session.remembered.unwrap_or(0);
        self.track(now, slot, cursor, joined.live_from);
    }

    /// From now on the session's messages after `cursor` are the application's, and pushes come from `live_from`.
    pub(crate) fn track(&mut self, now: Millis, slot: Slot, cursor: u64, live_from: u64) {
        let session = &mut self.sessions[slot];
        session.stray_since = None;
        session.inbox.track(cursor, &mut self.held_bytes);
        session.inbox.exists(before_live(live_from));
        session.handled = session.handled.max(session.inbox.cursor);
        self.give_held(now, slot);
        self.check_gap(now, slot, true);
    }

    /// LEFT. A list that is being read may have been looked at before: what it still says of the session is older.
    pub(crate) fn told_left(&mut self, session: &SessionId) {
        let slot = self.sessions.slot(session);
        self.sessions[slot].left_in = self.sync.active.then_some(self.sync.generation);
        self.left(session);
    }

    /// LEFT, or what amounts to it.
    pub(crate) fn left(&mut self, session: &SessionId) {
        let slot = self.sessions.slot(session);
        let session = &mut self.sessions[slot];
        let known = session.inbox.tracked || session.announced;
        session.announced = false;
        session.listed = None;
        session.inbox.untrack(&mut self.held_bytes);
        if known {
            let id = session.id.clone();
            self.give(Event::Left(id));
        }
    }

    /// LAGGED: pushes were skipped.
    pub(crate) fn lagged(&mut self, now: Millis, lagged: &Lagged) {
        if self.deaf {
            return;
        }
        if lagged.sessions.is_empty() {
            return self.sync_fully_soon(now);
        }
        for (session, live_from) in &lagged.sessions {
            let slot = self.sessions.slot(session);
            let session = &mut self.sessions[slot];
            if session.inbox.tracked {
                session.inbox.exists(before_live(*live_from));
                self.check_gap(now, slot, true);
            }
        }
    }

    /// Something came of sessions nobody announced: JOINED may be on its way; if not, the list tells.
    pub(crate) fn look_at_strays(&mut self, now: Millis) {
        if self.link.phase != Phase::Up || !self.sync.done_once {
            return;
        }
        for _ in 0..self.strays.len() {
            let Some(slot) = self.strays.pop() else { return };
            let session = &mut self.sessions[slot];
            let Some(since) = session.stray_since.filter(|_| !session.inbox.tracked) else { continue };
            if now < since + STRAY {
                self.strays.push(slot);
            } else if now < since + 10 * STRAY {
                self.strays.push(slot);
                self.sync_fully_soon(now);
            } else {
                // It is in no list: not the user's session, or not any more.
                session.stray_since = None;
                session.inbox.untrack(&mut self.held_bytes);
            }
        }
    }
}

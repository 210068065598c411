//! Carrying out effects: pushes in order with membership changes, tables, intents.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rookery_wire::codec::encode_into;
use rookery_wire::frame::{begin_frame, end_frame};
use rookery_wire::{Kind, SessionId, UserId};

use super::directory::TableRow;
use super::entity::{Entity, Fetch};
use super::overdue;
use super::pages::page_of;
use super::shared::Shared;
use crate::delivery::{Push, Topic};
use crate::state::lookups::Looked;
use crate::state::{
    At, Command, EntityKey, Gate, Outcome, RowFault, RowReader, RowWrites, Session, SessionLimits, User,
};

/// What a batch gathers in one entity before it is published in one go.
#[derive(Debug, Default)]
pub struct Effects {
    pushes: Vec<Push>,
    /// Somebody was attached to the session a moment ago: not asked for each record. If everybody has gone since, a few frames
    /// are made for nobody; that nobody is there has to be asked each time, for somebody may come.
    attached: bool,
    /// Bytes of records that are not in the map yet.
    pub record_bytes: usize,
    /// When the session's messages are to go may have changed.
    timers_moved: bool,
}

/// A MESSAGE frame: encoded once, the same bytes for every receiver.
pub fn message_frame(session: &SessionId, record: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(record.len() + 160);
    let start = begin_frame(Kind::Message, 0, &mut out);
    encode_into(session, &mut out);
    out.extend_from_slice(record);
    end_frame(start, &mut out);
    out.freeze()
}

impl Effects {
    fn flush(&mut self, shared: &Shared, session: &SessionId) {
        if !self.pushes.is_empty() {
            #[cfg(feature = "planted-bugs")]
            super::plant::spoil(&mut self.pushes);
            shared.delivery.publish(session, &self.pushes);
            self.pushes.clear();
        }
    }
}

impl Entity for Session {
    type Key = SessionId;
    type Found = Looked;

    fn load(rows: &dyn RowReader, key: &SessionId) -> Result<Self, RowFault> {
        Session::load(rows, key)
    }
    fn fresh(key: SessionId) -> Self {
        Session::new(key)
    }
    fn entity_key(key: &SessionId) -> EntityKey {
        EntityKey::Session(key.clone())
    }
    fn index(&self) -> u64 {
        Session::index(self)
    }
    fn reflect(&mut self, index: u64) {
        Session::reflect(self, index);
    }
    fn freeze(&mut self, index: u64) {
        Session::freeze(self, index);
    }

    fn lookups(&self, commands: &mut dyn Iterator<Item = &Command>) -> Option<Fetch<Self::Found>> {
        let wanted = self.wanted(commands)?;
        let id = self.id().clone();
        Some(Box::new(move |rows| wanted.read(rows, &id)))
    }

    fn found(&mut self, found: Looked) {
        self.give(found);
    }

    fn apply(&mut self, at: &At, limits: &SessionLimits, command: &Command) -> Outcome {
        let before = self.face();
        let outcome = match command {
            Command::Act { actor, client_seq, act, .. } => {
                Session::apply(self, at, limits, actor, *client_seq, act)
            }
            Command::KeyedAct { actor, key, act, .. } => self.apply_keyed(at, limits, actor, key, act),
            Command::Linked { done, .. } => self.linked(at, done),
            Command::Unlinked { refused, why, .. } => self.unlinked(at, limits, refused, *why),
            Command::StillIntended { user, version, .. } => self.still_intends(user, *version),
            Command::Bar { by, version, on, .. } => self.bar(by, *version, *on),
            Command::Trim { upto, count, by, .. } => self.trim(*upto, *count, *by),
            Command::Expire { seqs, .. } => self.expire(at, seqs),
            Command::Burn { user, seq, .. } => self.burn(at, user, *seq),
            // The shard hands commands to the entity they name; these name users.
            Command::Register { .. }
            | Command::Read { .. }
            | Command::Delivered { .. }
            | Command::Link { .. }
            | Command::UserAct { .. }
            | Command::KeyedOwn { .. }
            | Command::ReadMany { .. }
            | Command::Hear { .. }
            | Command::Carried { .. } => Outcome::default(),
        };
        self.applied_at(at.index, before);
        outcome
    }

    fn settle(&mut self) {
        self.forget_recalled();
    }
    fn gate_open(&self, gate: &Gate) -> bool {
        Session::gate_open(self, gate)
    }
    fn opening(&self) -> bool {
        Session::opening(self)
    }
    fn collect(&mut self) -> RowWrites {
        Session::collect(self)
    }
    fn written(&mut self, limits: &SessionLimits) {
        Session::written(self, limits);
    }
    fn is_clean(&self) -> bool {
        Session::is_clean(self)
    }

    fn execute(&self, shared: &Shared, outcome: &mut Outcome, effects: &mut Effects) {
        if !outcome.intents.is_empty() {
            shared.intents.lock().insert(self.id().clone());
            shared.intents_moved.notify_one();
        }
        effects.timers_moved |= outcome.timers_moved;
        if !outcome.expired.is_empty() {
            effects.record_bytes += outcome.held_bytes;
            let pages = outcome.expired.iter().map(|seq| page_of(self.id(), self.rows_revision(), *seq));
            shared.stale_pages.lock().extend(pages);
        }
        let Some(published) = outcome.published.take() else { return };
        effects.record_bytes += published.record.len() + outcome.held_bytes;
        let delivery = &shared.delivery;
        if !outcome.added.is_empty() {
            effects.flush(shared, self.id());
            for user in &outcome.added {
                delivery.member_added(self.id(), user, published.seq - 1);
            }
        }
        let replaces = outcome.rewritten.take();
        if let Some((seq, _)) = &replaces {
            shared.rewritten(page_of(self.id(), self.rows_revision(), *seq), self.rewritten_at());
        }
        effects.attached = effects.attached || delivery.has(&Topic::Session(self.id().clone()));
        if effects.attached {
            let frame_of = |seq, record| message_frame(self.id(), &overdue::shown(shared, self, seq, record));
            let frame = frame_of(published.seq, published.record);
            let replaces = replaces.map(|(seq, record)| (seq, frame_of(seq, record)));
            if let Some((seq, now)) = &replaces {
                // Sent in this same batch: nobody is pushed it as it was.
                let same = effects.pushes.iter_mut().filter(|push| push.seq == *seq);
                same.for_each(|push| push.frame = now.clone());
            }
            let from = Some(Arc::new(published.from));
            effects.pushes.push(Push { seq: published.seq, frame, from, replaces: replaces.map(Arc::new) });
        }
        if !outcome.removed.is_empty() {
            effects.flush(shared, self.id());
            for user in &outcome.removed {
                delivery.member_removed(self.id(), user);
            }
        }
    }

    fn publish(&self, shared: &Shared, effects: &mut Effects) {
        if self.is_over() && !self.is_clean() {
            // A change has just ended it, so nothing that comes is older: whoever begins it again may begin with nothing.
            shared.table.remove(self.id());
        } else if self.is_something() {
            // One that does not exist yet but has left something has a row of zeros, and says when it changed.
            let (last_seq, time_ms, count) = (self.last_seq(), self.time_ms(), self.count());
            let row = TableRow { last_seq, time_ms, count, changed: self.changed() };
            shared.table.insert(self.id(), row);
        }
        if std::mem::take(&mut effects.timers_moved) {
            shared.timers.lock().set(self.id(), self.next_expiry(), self.retention());
        }
        effects.flush(shared, self.id());
        if self.pending_intents().next().is_none() && !shared.intents.lock().is_empty() {
            shared.intents.lock().remove(self.id());
        }
    }
}

impl Entity for User {
    type Key = UserId;
    type Found = ();

    fn load(rows: &dyn RowReader, key: &Self::Key) -> Result<Self, RowFault> {
        User::load(rows, key)
    }
    fn fresh(key: Self::Key) -> Self {
        User::new(key)
    }
    fn entity_key(key: &Self::Key) -> EntityKey {
        EntityKey::User(key.clone())
    }
    fn index(&self) -> u64 {
        User::index(self)
    }
    fn reflect(&mut self, index: u64) {
        User::reflect(self, index);
    }
    fn freeze(&mut self, index: u64) {
        User::freeze(self, index);
    }
    fn lookups(&self, _: &mut dyn Iterator<Item = &Command>) -> Option<Fetch<()>> {
        None
    }
    fn found(&mut self, (): ()) {}

    fn apply(&mut self, at: &At, _: &SessionLimits, command: &Command) -> Outcome {
        self.applies(at.index);
        match command {
            Command::Register { device, says, bounds, .. } => self.register(device, says, bounds, at.time_ms),
            Command::Read { to, taken_ms, .. } => self.read_when(at, to, *taken_ms),
            Command::Delivered { device, epoch, cursors, .. } => {
                self.delivered((device, *epoch), cursors, at.time_ms)
            }
            Command::Link { link, list, .. } => self.take_link(link, list),
            Command::UserAct { actor, act } => self.act(at, actor, act),
            Command::KeyedOwn { key, act, .. } => self.act_keyed(at, key, act),
            Command::ReadMany { of, cursors, .. } => self.read_part(at, of, cursors),
            Command::Hear { from, stance, text, room, .. } => self.hear(at, from, stance, text, *room),
            Command::Carried { done, .. } => self.carried(done),
            // The shard hands commands to the entity they name; these name sessions.
            Command::Act { .. }
            | Command::KeyedAct { .. }
            | Command::Linked { .. }
            | Command::Unlinked { .. }
            | Command::StillIntended { .. }
            | Command::Bar { .. }
            | Command::Trim { .. }
            | Command::Burn { .. }
            | Command::Expire { .. } => Outcome::default(),
        }
    }

    fn settle(&mut self) {}
    fn gate_open(&self, gate: &Gate) -> bool {
        User::gate_open(self, gate)
    }
    fn opening(&self) -> bool {
        false
    }
    fn collect(&mut self) -> RowWrites {
        User::collect(self)
    }
    fn written(&mut self, _: &SessionLimits) {}
    fn is_clean(&self) -> bool {
        User::is_clean(self)
    }

    fn execute(&self, shared: &Shared, outcome: &mut Outcome, _: &mut Effects) {
        if outcome.errands {
            shared.errands.lock().insert(self.id().clone());
            shared.errands_moved.notify_one();
        }
        if outcome.user_frames.is_empty() || !shared.delivery.has(&Topic::User(self.id().clone())) {
            return;
        }
        let pushes: Vec<Push> = outcome
            .user_frames
            .drain(..)
            .map(|frame| Push { seq: 0, frame, from: None, replaces: None })
            .collect();
        shared.delivery.publish_user(self.id(), &pushes);
    }

    fn publish(&self, shared: &Shared, _: &mut Effects) {
        if self.pending_errands().next().is_none() && !shared.errands.lock().is_empty() {
            shared.errands.lock().remove(self.id());
        }
    }
}

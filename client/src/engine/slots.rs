//! The table of sessions and the queues of those that have something to do.

use std::collections::{HashMap, VecDeque};

use rookery_wire::SessionId;

use crate::engine::Millis;
use crate::engine::inbox::Inbox;
use crate::engine::outbox::Outbox;

/// A session's place in the table.
pub(crate) type Slot = usize;

/// Everything known of one session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Inbox,
    /// What the memory says was had before this run.
    pub(crate) remembered: Option<u64>,
    /// The list that the mark stands for has it, and said that it ends here or later.
    pub(crate) listed: Option<u64>,
    /// What the application has handled.
    pub(crate) handled: u64,
    /// What the cluster was told of that.
    pub(crate) reported: u64,
    /// What it has said that it keeps of that.
    pub(crate) confirmed: u64,
    /// The last full sync that named it (or could not resolve it).
    pub(crate) seen: u32,
    /// The reading of the list while which a LEFT of it came, and no JOINED after that.
    pub(crate) left_in: Option<u32>,
    /// The application was told of it by a JOINED of this membership.
    pub(crate) announced: bool,
    /// A sync could not resolve it; its first summary is then no sign of having joined.
    pub(crate) unresolved: bool,
    /// Since when something of it is held without it being tracked.
    pub(crate) stray_since: Option<Millis>,
}

/// All sessions of this client, never forgotten while it lives: their number is bounded by the sessions its user is
/// in and those it sends to.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    index: HashMap<SessionId, Slot>,
    table: Vec<Session>,
}

impl Sessions {
    /// The slot of a session, a new one if need be.
    pub(crate) fn slot(&mut self, id: &SessionId) -> Slot {
        if let Some(&slot) = self.index.get(id) {
            return slot;
        }
        let slot = self.table.len();
        self.index.insert(id.clone(), slot);
        self.table.push(Session {
            id: id.clone(),
            outbox: Outbox::default(),
            inbox: Inbox::default(),
            remembered: None,
            listed: None,
            handled: 0,
            reported: 0,
            confirmed: 0,
            seen: 0,
            left_in: None,
            announced: false,
            unresolved: false,
            stray_since: None,
        });
        slot
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.table.iter()
    }

    /// All of them, to change.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Slot, &mut Session)> {
        self.table.iter_mut().enumerate()
    }
}

/// Slots come from [`Sessions::slot`] alone and sessions are never removed, so every slot is valid.
impl std::ops::Index<Slot> for Sessions {
    type Output = Session;
    fn index(&self, slot: Slot) -> &Session {
        &self.table[slot]
    }
}

impl std::ops::IndexMut<Slot> for Sessions {
    fn index_mut(&mut self, slot: Slot) -> &mut Session {
        &mut self.table[slot]
    }
}

/// A queue in which each slot stands at most once, so that it is bounded by the table.
#[derive(Debug, Default)]
pub(crate) struct SlotQueue {
    queue: VecDeque<Slot>,
    queued: Vec<bool>,
}

impl SlotQueue {
    /// Puts a slot at the end unless it is in already.
    pub(crate) fn push(&mut self, slot: Slot) {
        if self.queued.len() <= slot {
            self.queued.resize(slot + 1, false);
        }
        if !std::mem::replace(&mut self.queued[slot], true) {
            self.queue.push_back(slot);
        }
    }

    /// Takes the first.
    pub(crate) fn pop(&mut self) -> Option<Slot> {
        let slot = self.queue.pop_front()?;
        self.queued[slot] = false;
        Some(slot)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes all.
    pub(crate) fn clear(&mut self) {
        while self.pop().is_some() {}
    }
}

//! What the application is told, and the bounded queue it takes it from.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rookery_wire::live::{EphemeralMessage, PresenceLine, Receipt, SessionPresence};
use rookery_wire::own::{Relation, SessionSettings};
use rookery_wire::reply::ReadMark;
use rookery_wire::{ErrorBody, Record, SessionId, UserId};
use tokio::sync::mpsc;

use crate::shared::Shared;

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The next message of a session: each once, by seq, without a gap.
    Message {
        /// Where.
        session: SessionId,
        /// What.
        record: Record,
    },
    /// The user has read a session up to here, on some device.
    ReadMark(ReadMark),
    /// The user has set a session in another way, on some device.
    Settings(SessionSettings),
    /// How the user stands to another has changed.
    Relation(Relation),
    /// The other user of a direct session has read up to here.
    Receipt(Receipt),
    /// Somebody says something that is kept nowhere, or is typing.
    Ephemeral(EphemeralMessage),
    /// Users that are watched have come or gone; after a new connection all of them, as they are.
    Presence(Vec<PresenceLine>),
    /// These users are watched no more: after a new connection, or when all were asked for again, the node did not take them.
    Unwatched {
        /// Whom.
        users: Vec<UserId>,
        /// Why.
        error: ErrorBody,
    },
    /// Members of a group that is watched have come or gone; after a new connection all of them, as they are.
    SessionPresence(SessionPresence),
    /// The user is in a new session, or in one again.
    Joined(SessionId),
    /// The user is no longer in this session.
    Left(SessionId),
    /// The session no longer keeps these messages, which this device never had: retention went past it.
    Skipped {
        /// Where.
        session: SessionId,
        /// First seq missed.
        from: u64,
        /// Last seq missed.
        to: u64,
    },
    /// A connection stands.
    Connected {
        /// The node that holds it.
        node: u16,
        /// Its address.
        addr: String,
    },
    /// The connection was lost; the client is making another.
    Disconnected {
        /// Why, for people.
        reason: String,
    },
}

/// The application's end of the event queue. An event counts as handled (for the memory and for the delivered
/// cursor) once the next one is asked for or this is dropped. Without it a client only sends: it reads no pushes.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Event>,
    shared: Arc<Shared>,
    /// An event was given out and is not yet counted as handled.
    open: bool,
}

impl Events {
    pub(crate) fn new(queue: mpsc::Receiver<Event>, shared: Arc<Shared>) -> Self {
        Self { queue, shared, open: false }
    }

    /// The next event; `None` when the client has ended. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Event> {
        self.settle();
        let event = self.queue.recv().await;
        self.open = event.is_some();
        event
    }

    /// The next event if there is one already.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.settle();
        let event = self.queue.try_recv().ok();
        self.open = event.is_some();
        event
    }

    fn settle(&mut self) {
        if std::mem::take(&mut self.open) {
            self.shared.handled.fetch_add(1, Ordering::Release);
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.settle();
    }
}

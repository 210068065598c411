//! What applying a command leads to. Values, not actions: the actor that owns the entity executes them.

use bincode::{Decode, Encode};
use bytes::Bytes;
use rookery_wire::codec::Source;
use rookery_wire::own::SelfAck;
use rookery_wire::reply::{Ack, ReadMark};
use rookery_wire::{DeviceId, ErrorBody, UserId};

use super::command::Link;
use super::relations::ErrandKind;

/// The answer to a command, for whoever waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub enum Answer {
    /// Stored.
    Ack(Ack),
    /// The read cursor as it is now.
    ReadMark(ReadMark),
    /// The device's epoch.
    Epoch(u32),
    /// Done, nothing to say.
    Done,
    /// Refused; every replica judged alike.
    Refused(ErrorBody),
    /// Not carried out as far as this node knows, or unknown: ask again, of `leader` if it is given. Never made by
    /// apply.
    Again {
        /// A better node to ask.
        leader: Option<u16>,
        /// When to ask, milliseconds; for a node that is too busy.
        after_ms: u32,
    },
    /// A change to the user's own things.
    Own(SelfAck),
    /// A user's list reflects the log up to here and may have forgotten that it let go of the session: whoever carries the
    /// intent makes sure that it is one still.
    Unsure(u64),
}

/// A record that has just taken its place in the session.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Its seq.
    pub seq: u64,
    /// The encoded [`rookery_wire::Record`].
    pub record: Bytes,
    /// The device that sent it, and its epoch.
    pub from: (UserId, DeviceId, u32),
}

/// What must still happen in a user's list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Intent {
    /// Whose list.
    pub user: UserId,
    /// What it must say.
    pub link: Link,
}

/// What an answer waits for, of what its entity has to have carried elsewhere: what the act that is answered is about. What
/// others have left there, and cannot be carried now, holds up nobody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Left under this version of the entity or a later one …
    pub from: u64,
    /// … and no later than this one; what a newer one has replaced has no part in it any more.
    pub upto: u64,
    /// About whom.
    pub about: About,
}

/// Whom what an answer waits for is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// Anybody.
    All,
    /// Of a session: the lists of these users.
    Lists(Vec<UserId>),
    /// Of a user: what goes to such places, about this other user if one is named.
    Errands(ErrandKind, Option<UserId>),
}

impl Gate {
    /// For everything that one command has left: the entity's version before it, and after.
    pub fn of_all(before: u64, upto: u64) -> Self {
        Self { from: before + 1, upto, about: About::All }
    }

    /// For what is on its way by now, whichever command has left it.
    pub fn by_now(upto: u64, about: About) -> Self {
        Self { from: 0, upto, about }
    }

    /// Whether what was left under this version belongs to it.
    pub fn spans(&self, version: u64) -> bool {
        (self.from..=self.upto).contains(&version)
    }
}

/// A session that could not begin, for the list of a founder is full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// What those who wanted to begin it are told.
    pub refusal: ErrorBody,
    /// Only acts in this user's name are told so, the others are judged anew; all of them if none.
    pub of: Option<UserId>,
}

/// The effects of one command.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For the one who asked.
    pub answer: Option<Answer>,
    /// The answer may leave only once this has arrived.
    pub gate: Option<Gate>,
    /// The record it made.
    pub published: Option<Publication>,
    /// A record that another one has taken the place of: its seq, and the new one.
    pub rewritten: Option<(u64, Bytes)>,
    /// Records whose time had come: tombstones stand in their place.
    pub expired: Vec<u64>,
    /// When the session's next message goes, or how long it keeps them, may have changed.
    pub timers_moved: bool,
    /// Bytes of records that memory holds for the next checkpoint on that account.
    pub held_bytes: usize,
    /// Members that came (before the record is published), but for those whose lists are still to judge who brought them in …
    pub added: Vec<UserId>,
    /// … and went (after it).
    pub removed: Vec<UserId>,
    /// Intents it left.
    pub intents: Vec<Intent>,
    /// A user left errands.
    pub errands: bool,
    /// Frames for the user's own devices.
    pub user_frames: Vec<Bytes>,
    /// It was not judged: the session opens first. Whoever waits for it keeps it and has it proposed again.
    pub parked: bool,
    /// The session did not open: what was parked is answered.
    pub given_up: Option<GivenUp>,
    /// Intents were cleared: gated answers may go.
    pub gates_moved: bool,
}

impl Outcome {
    /// Only an answer.
    pub fn answer(answer: Answer) -> Self {
        Self { answer: Some(answer), ..Self::default() }
    }
}

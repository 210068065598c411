//! What is said of people as they are now: who has read what, who writes, who is there. Of all this only read cursors are
//! stored anywhere; the rest is told to who is connected and forgotten.

use bincode::{Decode, Encode};

use crate::codec::{Blob, Source};
use crate::error::ErrorCode;
use crate::id::{DeviceId, MAX_ID_BYTES, SessionId, UserId};

/// Which side of a message's readers is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Which {
    /// Who has read it.
    Read,
    /// Who has not.
    Unread,
}

/// `RECEIPTS`: who has read a message, or who has not; paged by name.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Receipts {
    /// Where.
    pub session: SessionId,
    /// Which message.
    pub seq: u64,
    /// Readers or the others.
    pub which: Which,
    /// `next` of the page before; none for the first.
    pub after: Option<UserId>,
    /// At most so many (1–1,000).
    pub limit: u32,
}

/// One line of a [`ReceiptPage`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ReceiptLine {
    /// Who.
    pub user: UserId,
    /// The user's read cursor. Below the message for one who has not moved it and has written since.
    pub read_seq: u64,
}

/// How many have read a message and how many have not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ReceiptCounts {
    /// Have read it.
    pub read: u32,
    /// Have not.
    pub unread: u32,
    /// Do not let others see.
    pub hidden: u32,
}

/// `RECEIPT_PAGE`: the answer to RECEIPTS.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ReceiptPage {
    /// Members by name.
    pub users: Vec<ReceiptLine>,
    /// Members whose cursors could not be asked in time, and why.
    pub unresolved: Vec<(UserId, ErrorCode)>,
    /// Give it as `after` for the next page; none if this was the last.
    pub next: Option<UserId>,
    /// All members counted; in the first page only, and only when all of them could be asked at once.
    pub counts: Option<ReceiptCounts>,
}

/// `RECEIPT` (push): the other user of a direct session has read up to here.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Receipt {
    /// Where.
    pub session: SessionId,
    /// Who.
    pub user: UserId,
    /// Up to and including.
    pub seq: u64,
}

/// What an ephemeral message is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub enum Passing {
    /// The application's own.
    Content {
        /// Media type.
        content_type: Blob,
        /// Opaque bytes, at most `limits.ephemeral`.
        content: Blob,
    },
    /// The user begins or goes on writing a message, or has stopped.
    Typing {
        /// Writes.
        on: bool,
    },
}

/// `EPHEMERAL`: to the members of a session who are online now. Not stored, without a seq, at most once.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Ephemeral {
    /// Where.
    pub session: SessionId,
    /// Named user, for a service only.
    pub on_behalf_of: Option<UserId>,
    /// What.
    pub body: Passing,
}

/// `EPHEMERAL_MESSAGE` (push).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct EphemeralMessage {
    /// Where.
    pub session: SessionId,
    /// In whose name.
    pub sender: UserId,
    /// The device that sent it.
    pub device: DeviceId,
    /// When the node took it, unix milliseconds.
    pub time_ms: u64,
    /// What.
    pub body: Passing,
}

/// What a WATCH does to the users this connection watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum WatchMode {
    /// These and no others.
    Replace,
    /// These too.
    Add,
    /// These no longer.
    Remove,
}

/// `WATCH`: whose coming and going this connection is told.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Watch {
    /// In place of those before, or beside them.
    pub mode: WatchMode,
    /// Whom; at most `limits.watched` on one connection.
    pub users: Vec<UserId>,
}

/// Whether one user is there.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PresenceLine {
    /// Who.
    pub user: UserId,
    /// A device of the user is connected.
    pub online: bool,
    /// When one was last heard of, unix milliseconds; 0 if that is not known, or now.
    pub last_seen_ms: u64,
}

/// Most bytes that a line of a [`PresencePage`] has besides the name of its user, whichever line it comes to be.
const PRESENCE_LINE: usize = 1 + 1 + 9;
/// Bytes of a frame that these lines do not use.
const PRESENCE_SPARE: usize = 1024;

/// How many of these users one WATCH may name, from the first on, so that the answer is no larger than `limits.frame`,
/// whatever it says of them.
pub fn watched_at_once<'a>(users: impl IntoIterator<Item = &'a UserId>, frame: u32) -> usize {
    let mut room = (frame as usize).saturating_sub(PRESENCE_SPARE);
    let fits = |user: &&UserId| match room.checked_sub(user.as_str().len() + PRESENCE_LINE) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    users.into_iter().take_while(fits).count()
}

/// `PRESENCE` (push): what has changed of the users that are watched.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Presence {
    /// At most 1,000, and no more than fit a frame.
    pub users: Vec<PresenceLine>,
}

/// `PRESENCE_PAGE`: the answer to WATCH.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PresencePage {
    /// Those named in the request, as they are now, by name; empty after a removal.
    pub users: Vec<PresenceLine>,
    /// Those who are not watched, and why.
    pub refused: Vec<(UserId, ErrorCode)>,
}

/// `WATCH_SESSION`: whether this connection is told who of a group comes and goes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct WatchSession {
    /// Which group; at most `limits.watched_sessions` on one connection.
    pub session: SessionId,
    /// From now on, or no longer.
    pub on: bool,
}

/// `SESSION_PRESENCE`: the answer to WATCH_SESSION, and a push when something has changed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SessionPresence {
    /// Which group.
    pub session: SessionId,
    /// These take the place of all who were named before; else they are what has changed.
    pub whole: bool,
    /// Members by name, at most [`named_at_once`].
    pub users: Vec<PresenceLine>,
    /// How many more members are online, of whom nobody is told who.
    pub others: u32,
}

/// How many members of a group are named to those who watch it: `most`, or as many as one [`SessionPresence`] of `frame` bytes
/// has room for.
pub fn named_at_once(most: u32, frame: u32) -> usize {
    let room = (frame as usize).saturating_sub(PRESENCE_SPARE) / (MAX_ID_BYTES + PRESENCE_LINE);
    (most as usize).min(room)
}

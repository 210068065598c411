//! What a client asks. Each struct is the body of the frame kind of the same name.

use bincode::{Decode, Encode};

use crate::codec::{Blob, Source};
use crate::id::{DeviceId, SessionId, UserId};
use crate::record::Extension;

/// In which part a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Role {
    /// A person's device: acts for its own user only.
    User,
    /// The business backend: may create sessions, change members and send for a named user.
    Service,
}

/// `HELLO`: first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Hello {
    /// Lowest protocol version the client speaks.
    pub min_version: u8,
    /// Highest protocol version the client speaks.
    pub max_version: u8,
    /// Who connects.
    pub user: UserId,
    /// From which device.
    pub device: DeviceId,
    /// The epoch a former WELCOME gave this device, or 0 to register (all its counters then start at 1).
    pub epoch: u32,
    /// A random number kept over retries of this HELLO, so that a repeated registration gives one epoch.
    pub nonce: u64,
    /// User or service.
    pub role: Role,
    /// The token (JWT text) in token mode; empty in open mode.
    pub token: Blob,
    /// Name and version of the client program, at most 64 bytes, for people.
    pub agent: Blob,
    /// What kind of device it is (`ios`, `web`, …), at most 32 bytes; there may be a limit per platform. Looked at when it
    /// registers.
    pub platform: Blob,
}

/// `SEND`: store and deliver one message.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Send {
    /// Where. A direct session comes to be with its first message.
    pub session: SessionId,
    /// The device's next number in this session: 1, 2, 3, …
    pub client_seq: u64,
    /// Named user, for a service only.
    pub on_behalf_of: Option<UserId>,
    /// Media type, at most 64 bytes.
    pub content_type: Blob,
    /// Opaque bytes, bounded by the server's `limits.content`.
    pub content: Blob,
    /// Skippable additions, at most 16.
    pub extensions: Vec<Extension>,
}

/// `DELIVERED`: the device has these sessions up to these seqs (cumulative). Answered by OK only if its request
/// id is not 0.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Delivered {
    /// Session and highest seq without a gap.
    pub cursors: Vec<(SessionId, u64)>,
}

/// In which direction a PULL goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Direction {
    /// From `from_seq` towards newer messages.
    Forward,
    /// From `from_seq` towards older messages; the page is still in ascending order.
    Backward,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Consistency {
    /// As of some instant after the request began.
    Linearizable,
    /// Any replica that has at least this seq may answer; otherwise as linearizable.
    AtLeast(u64),
    /// This node's own replica as it is, or NO_REPLICA: for judging replicas against each other (service only).
    Replica,
}

/// `PULL`: a contiguous slice of a session.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Pull {
    /// Where.
    pub session: SessionId,
    /// First seq wanted; going backward, the newest wanted (0 = the last there is).
    pub from_seq: u64,
    /// Which way.
    pub direction: Direction,
    /// At most so many records (the server's own bound applies too).
    pub max_count: u32,
    /// At most so many bytes of records; at least one record is given.
    pub max_bytes: u32,
    /// How fresh.
    pub consistency: Consistency,
}

/// `SYNC`: the user's sessions, newest activity first.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Sync {
    /// `next` of the page before, or empty for the first.
    pub after: Blob,
    /// At most so many sessions (1–200).
    pub limit: u32,
    /// `mark` of an earlier SYNC of this device: only what has changed since; empty for everything. Looked at with an empty
    /// `after` only.
    pub since: Blob,
}

/// `READ`: the user has read this session up to `seq`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Read {
    /// Where.
    pub session: SessionId,
    /// Up to and including.
    pub seq: u64,
}

/// `CREATE_GROUP`, `ADD_MEMBERS` and `REMOVE_MEMBERS` share this body. For a session they are sends like any
/// other: they take the device's next `client_seq` (1 for CREATE_GROUP) and are answered by ACK.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Members {
    /// The group.
    pub session: SessionId,
    /// The device's next number in this session.
    pub client_seq: u64,
    /// Named user, for a service only.
    pub on_behalf_of: Option<UserId>,
    /// Members to create with, add or remove; at most 1,000 a request.
    pub users: Vec<UserId>,
}

/// `RECALL`: take back the content of a message. Numbered like a send, and answered by the ACK of the signal that says
/// so.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Recall {
    /// Where.
    pub session: SessionId,
    /// The device's next number in this session.
    pub client_seq: u64,
    /// Named user, for a service only.
    pub on_behalf_of: Option<UserId>,
    /// The message.
    pub seq: u64,
}

/// `EDIT`: put other content in the place of a message's. Numbered and answered as RECALL is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Edit {
    /// Where.
    pub session: SessionId,
    /// The device's next number in this session.
    pub client_seq: u64,
    /// Named user, for a service only.
    pub on_behalf_of: Option<UserId>,
    /// The message.
    pub seq: u64,
    /// As in [`Send`].
    pub content_type: Blob,
    /// As in [`Send`].
    pub content: Blob,
    /// As in [`Send`].
    pub extensions: Vec<Extension>,
}

/// `MEMBERS`: who is in a group, by name, paged.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ListMembers {
    /// The session.
    pub session: SessionId,
    /// The last name of the page before; none for the first.
    pub after: Option<UserId>,
    /// At most so many (1–1,000).
    pub limit: u32,
}

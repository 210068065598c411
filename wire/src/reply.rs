//! What the server answers, and what it pushes unasked (request id 0).

use bincode::{Decode, Encode};

use crate::codec::{Blob, Source};
use crate::error::ErrorCode;
use crate::id::{SessionId, UserId};
use crate::own::{Badge, Settings};
use crate::record::{Preview, Record};

/// Bounds the server announces; a client keeps them or is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Limits {
    /// Largest frame (value of the length field), bytes.
    pub frame: u32,
    /// Largest content, bytes.
    pub content: u32,
    /// Requests in flight on one connection; beyond it the server stops reading.
    pub window: u32,
    /// Records in one page.
    pub page: u32,
}

/// `WELCOME`: the answer to HELLO.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Welcome {
    /// The version both speak.
    pub version: u8,
    /// The cluster's id.
    pub cluster: [u8; 16],
    /// The node that holds this connection.
    pub node: u16,
    /// The device's epoch: kept by the client and given in every later HELLO.
    pub epoch: u32,
    /// The server's clock, unix milliseconds.
    pub time_ms: u64,
    /// A connection that says nothing for this long is closed; PING in good time.
    pub idle_ms: u32,
    /// Bounds.
    pub limits: Limits,
    /// The device's last number of MANAGE_SELF under its epoch; its next one is one more.
    pub last_number: u64,
    /// For so long at most, milliseconds, does this node go on trying a request (`timing.request_deadline_ms`): a copy of one
    /// that was written here may be carried out until then, also when the connection is gone or UNAVAILABLE was the answer.
    pub deadline_ms: u32,
}

/// `ACK`: a numbered request (SEND, RECALL, EDIT, CREATE_GROUP, ADD_MEMBERS, REMOVE_MEMBERS, MANAGE_GROUP, JOIN_GROUP) is
/// durable on a majority and applied.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Ack {
    /// The session.
    pub session: SessionId,
    /// The number it had.
    pub client_seq: u64,
    /// Its position. The sending device is not pushed its own message: this answer stands for it.
    pub seq: u64,
    /// Its id.
    pub message_id: u64,
    /// Its time, unix milliseconds.
    pub time_ms: u64,
    /// Countable messages up to it.
    pub count: u64,
}

/// `MESSAGE` (push): a record of a session.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Message {
    /// Where.
    pub session: SessionId,
    /// What.
    pub record: Record,
}

/// `PAGE`: the answer to PULL, ascending and contiguous.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Page {
    /// Where.
    pub session: SessionId,
    /// First seq the session still keeps.
    pub first_seq: u64,
    /// Last seq of the session at the instant of the read.
    pub last_seq: u64,
    /// The slice.
    pub records: Vec<Record>,
}

/// One line of a user's session list. True at some instant within the SYNC.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Summary {
    /// Which.
    pub session: SessionId,
    /// Members it has.
    pub members: u32,
    /// First seq kept.
    pub first_seq: u64,
    /// Last seq.
    pub last_seq: u64,
    /// Countable messages in all.
    pub count: u64,
    /// Unread: countable messages after max(read, own last sent, joined − 1, cleared), less those deleted.
    pub unread: u64,
    /// The seq at which the user joined.
    pub joined_seq: u64,
    /// The user's read cursor.
    pub read_seq: u64,
    /// This device's delivered cursor.
    pub delivered_seq: u64,
    /// This device's last `client_seq` in the session under its epoch; its next send is one more.
    pub last_client_seq: u64,
    /// From this seq on, pushes on this connection are without a gap; what is before is pulled.
    pub live_from: u64,
    /// Time of the last message, unix milliseconds.
    pub time_ms: u64,
    /// The last message, shortened.
    pub last: Option<Preview>,
    /// How the user has set it.
    pub settings: Settings,
}

/// `SYNC_PAGE`: the answer to SYNC.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct SyncPage {
    /// Sessions, newest activity first.
    pub sessions: Vec<Summary>,
    /// Sessions the user is in that could not be asked within the deadline, and why.
    pub unresolved: Vec<(SessionId, ErrorCode)>,
    /// Sessions the user is in, in all.
    pub total: u32,
    /// Give it as `after` for the next page; empty when this was the last.
    pub next: Blob,
    /// On the first page: unread messages of all sessions together.
    pub badge: Option<Badge>,
    /// Sessions that the user was in and is not any more, of those that left the list since the mark; on the first page.
    pub left: Vec<SessionId>,
    /// On the last page: give it as `since` next time; empty on the others.
    pub mark: Blob,
    /// The pages name every session the user is in; if not, those only that have changed since the mark.
    pub full: bool,
}

/// `MEMBER_PAGE`: the answer to MEMBERS.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MemberPage {
    /// Members by name.
    pub users: Vec<UserId>,
    /// Whether there are more after the last of them.
    pub more: bool,
    /// Members in all.
    pub total: u32,
}

/// `READ_MARK` (push, and the answer to READ): the user's read cursor on some device's word.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ReadMark {
    /// Where.
    pub session: SessionId,
    /// Up to and including; never less than an earlier mark.
    pub seq: u64,
    /// Countable messages up to it.
    pub count: u64,
}

/// `JOINED` (push): the user has a new session, or is in one again.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Joined {
    /// Which.
    pub session: SessionId,
    /// From this seq on, pushes on this connection are without a gap; what is before is pulled.
    pub live_from: u64,
}

/// `LEFT` (push): the user is no longer a member.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Left {
    /// Which.
    pub session: SessionId,
}

/// `LAGGED` (push): pushes were skipped because this connection does not keep up. Nothing is lost: pull from
/// what the device has up to `live_from`. With no session named, SYNC again.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Lagged {
    /// Session and the seq from which pushes go on without a gap.
    pub sessions: Vec<(SessionId, u64)>,
}

/// `GOAWAY` (push): the server ends this connection.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct GoAway {
    /// Why.
    pub code: ErrorCode,
    /// Why, for people.
    pub text: Blob,
    /// When to come back, milliseconds; 0 = at once, to another node.
    pub after_ms: u32,
}

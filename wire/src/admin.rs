//! What the business's backend asks for: changes under a request key of its own, and the audit of them.
//!
//! `ADMIN` needs no number: whoever repeats it with the same key, over whichever connection, gets the first answer.

use bincode::{Decode, Encode};

use crate::codec::{Blob, Source};
use crate::group::GroupAction;
use crate::id::{DeviceId, GroupId, RequestKey, SessionId, UserId};
use crate::own::UserAction;
use crate::record::Extension;
use crate::reply::Ack;

/// Lines in one page of the audit, and sessions in one page of a user's list.
pub const MAX_ADMIN_PAGE: u32 = 1000;

/// What a backend wants done.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub enum AdminAction {
    /// Stores a message: in the name of a user, or as the system.
    Send {
        /// Where.
        session: SessionId,
        /// As in [`crate::request::Send`].
        content_type: Blob,
        /// As in [`crate::request::Send`].
        content: Blob,
        /// As in [`crate::request::Send`].
        extensions: Vec<Extension>,
    },
    /// Takes the content of a message back.
    Recall {
        /// Where.
        session: SessionId,
        /// Which.
        seq: u64,
    },
    /// Puts other content in the place of a message's.
    Edit {
        /// Where.
        session: SessionId,
        /// Which.
        seq: u64,
        /// As in [`crate::request::Send`].
        content_type: Blob,
        /// As in [`crate::request::Send`].
        content: Blob,
        /// As in [`crate::request::Send`].
        extensions: Vec<Extension>,
    },
    /// Makes a group; the user in whose name it is made owns it, or nobody.
    CreateGroup {
        /// Its name.
        group: GroupId,
        /// Its members, at most 1,000.
        users: Vec<UserId>,
    },
    /// Adds members.
    AddMembers {
        /// The group.
        group: GroupId,
        /// Whom, at most 1,000.
        users: Vec<UserId>,
    },
    /// Removes members.
    RemoveMembers {
        /// The group.
        group: GroupId,
        /// Whom, at most 1,000.
        users: Vec<UserId>,
    },
    /// Changes a group.
    Manage {
        /// The group.
        group: GroupId,
        /// What of it.
        action: GroupAction,
    },
    /// Changes what is a user's own; that user must be named.
    Own(UserAction),
    /// Takes a name for a user that is not there yet.
    CreateUser {
        /// The name.
        user: UserId,
    },
    /// A page of a user's sessions, by name; that user must be named. Changes nothing, and neither key nor audit know of it.
    Sessions {
        /// Those behind this one; the first ones without.
        after: Option<SessionId>,
        /// At most so many (1–1,000).
        limit: u32,
    },
}

impl AdminAction {
    /// Its number on the wire, by which the audit names it; and the number of the action within it.
    pub fn numbers(&self) -> (u16, u16) {
        let inner = |bytes: bytes::Bytes| bytes.first().copied().map_or(0, u16::from);
        match self {
            Self::Send { .. } => (0, 0),
            Self::Recall { .. } => (1, 0),
            Self::Edit { .. } => (2, 0),
            Self::CreateGroup { .. } => (3, 0),
            Self::AddMembers { .. } => (4, 0),
            Self::RemoveMembers { .. } => (5, 0),
            // A variant's number is the first byte of its encoding.
            Self::Manage { action, .. } => (6, inner(crate::encode(action))),
            Self::Own(action) => (7, inner(crate::encode(action))),
            Self::CreateUser { .. } => (8, 0),
            Self::Sessions { .. } => (9, 0),
        }
    }
}

/// `ADMIN`: one change, carried out once for its key. For a service only.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Admin {
    /// Chosen by the backend, one for each change it wants; the same in every repeat.
    pub key: RequestKey,
    /// The user in whose name; none is the service itself.
    pub on_behalf_of: Option<UserId>,
    /// What.
    pub action: AdminAction,
}

/// One session of a user.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct UserSessionLine {
    /// Which.
    pub session: SessionId,
    /// The seq at which the user joined.
    pub joined_seq: u64,
    /// The user's read cursor.
    pub read_seq: u64,
}

/// What came of an [`Admin`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub enum AdminOutcome {
    /// A session took it; `client_seq` is 0.
    Stored(Ack),
    /// A user took it.
    Done {
        /// When, unix milliseconds.
        time_ms: u64,
        /// As in [`crate::own::SelfAck`]; 1 for a created user.
        value: u64,
    },
    /// A user's sessions.
    Sessions {
        /// By name.
        sessions: Vec<UserSessionLine>,
        /// Whether there are more behind the last of them.
        more: bool,
    },
}

/// `ADMIN_REPLY`: the answer to ADMIN, the same to every repeat, but for `audit` when the line of the first is no longer kept.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct AdminReply {
    /// The key it had.
    pub key: RequestKey,
    /// The number of its line in the audit; 0 for what has none.
    pub audit: u64,
    /// What came of it.
    pub outcome: AdminOutcome,
}

/// What an audited act touches.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum AuditEntity {
    /// A session.
    Session(SessionId),
    /// A user.
    User(UserId),
}

/// One line of the audit: that something was asked for, before it was carried out. Says nothing of content.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AuditLine {
    /// 1, 2, 3, … in the order in which they were written.
    pub number: u64,
    /// When, unix milliseconds; never decreases.
    pub time_ms: u64,
    /// The service that asked.
    pub service: UserId,
    /// From which of its devices.
    pub device: DeviceId,
    /// In whose name.
    pub on_behalf_of: Option<UserId>,
    /// Number of the [`AdminAction`].
    pub action: u16,
    /// For Manage and Own the number of the action within, else 0.
    pub part: u16,
    /// What it touches.
    pub entity: AuditEntity,
    /// The request key.
    pub key: RequestKey,
}

/// `AUDIT`: a page of the audit. For a service only.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Audit {
    /// Lines after this number; 0 for the oldest there are.
    pub after: u64,
    /// At most so many (1–1,000).
    pub limit: u32,
}

/// `AUDIT_PAGE`: the answer to AUDIT.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AuditPage {
    /// Ascending and without a gap.
    pub lines: Vec<AuditLine>,
    /// The oldest line that is kept; one more than `last` if there is none.
    pub first: u64,
    /// The last line there is; 0 if there never was one.
    pub last: u64,
}

//! What the handle asks of the driver.

use bytes::Bytes;
use rookery_wire::admin::{Admin, AdminReply, Audit, AuditPage};
use rookery_wire::digest::{DigestAt, DigestReply};
use rookery_wire::group::{Group, GroupInfo, ListRoles, RolePage};
use rookery_wire::join::{CodePage, ListCodes, ListRequests, RequestPage};
use rookery_wire::live::{
    Ephemeral, PresencePage, ReceiptPage, Receipts, SessionPresence, Watch, WatchSession,
};
use rookery_wire::own::{DevicePage, ListDevices, ListRelations, RelationPage, SelfAck};
use rookery_wire::reply::{Ack, MemberPage, Page, ReadMark, SyncPage};
use rookery_wire::request::{ListMembers, Pull, Read, Sync};
use rookery_wire::versions::{ListVersions, VersionsPage};
use rookery_wire::{Blob, Extension, GroupAction, Kind, SessionId, UserAction, UserId};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::ClientError;

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, ClientError>>;

/// A numbered request: it takes the device's next `client_seq` in its session.
#[derive(Debug)]
pub(crate) enum Op {
    Send { content_type: Bytes, content: Bytes, extensions: Vec<Extension>, on_behalf_of: Option<UserId> },
    Members { kind: Kind, users: Vec<UserId> },
    Recall { seq: u64 },
    Edit { seq: u64, content_type: Bytes, content: Bytes, extensions: Vec<Extension> },
    Manage(GroupAction),
    Join { code: Option<Blob>, text: Blob },
}

/// A request that is not numbered in a session: asking twice does no harm.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    Sync(Sync),
    Pull(Pull),
    Read(Read),
    Members(ListMembers),
    Group(GroupInfo),
    Roles(ListRoles),
    Requests(ListRequests),
    Codes(ListCodes),
    /// Numbered by the engine when it is written.
    Own(UserAction),
    Relations(ListRelations),
    Devices(ListDevices),
    Receipts(Receipts),
    Ephemeral(Ephemeral),
    Watch(Watch),
    WatchSession(WatchSession),
    Digest(DigestAt),
    Admin(Admin),
    Audit(Audit),
    Versions(ListVersions),
    Ping,
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub(crate) enum Answer {
    Sync(SyncPage),
    Page(Page),
    ReadMark(ReadMark),
    Members(MemberPage),
    Group(Box<Group>),
    Roles(RolePage),
    Requests(RequestPage),
    Codes(CodePage),
    Own(SelfAck),
    Relations(RelationPage),
    Devices(DevicePage),
    Receipts(ReceiptPage),
    Presence(PresencePage),
    SessionPresence(SessionPresence),
    Digest(DigestReply),
    Admin(Box<AdminReply>),
    Audit(AuditPage),
    Versions(VersionsPage),
    Done,
    Pong,
}

/// One request of the application. The permit bounds how many there are and is held until it is answered.
#[derive(Debug)]
pub(crate) enum Command {
    Numbered { session: SessionId, op: Op, reply: Reply<Ack>, permit: OwnedSemaphorePermit },
    Ask { question: Question, reply: Reply<Answer>, permit: OwnedSemaphorePermit },
    Close { done: oneshot::Sender<()> },
}

impl Question {
    /// Its name in errors.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sync(_) => "SYNC",
            Self::Pull(_) => "PULL",
            Self::Read(_) => "READ",
            Self::Members(_) => "LIST_MEMBERS",
            Self::Group(_) => "GROUP_INFO",
            Self::Roles(_) => "LIST_ROLES",
            Self::Requests(_) => "LIST_REQUESTS",
            Self::Codes(_) => "LIST_CODES",
            Self::Own(_) => "MANAGE_SELF",
            Self::Relations(_) => "LIST_RELATIONS",
            Self::Devices(_) => "LIST_DEVICES",
            Self::Receipts(_) => "RECEIPTS",
            Self::Ephemeral(_) => "EPHEMERAL",
            Self::Watch(_) => "WATCH",
            Self::WatchSession(_) => "WATCH_SESSION",
            Self::Digest(_) => "DIGEST",
            Self::Admin(_) => "ADMIN",
            Self::Audit(_) => "AUDIT",
            Self::Versions(_) => "LIST_VERSIONS",
            Self::Ping => "PING",
        }
    }
}

impl Op {
    /// The kind of frame it becomes.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Send { .. } => Kind::Send,
            Self::Members { kind, .. } => *kind,
            Self::Recall { .. } => Kind::Recall,
            Self::Edit { .. } => Kind::Edit,
            Self::Manage(_) => Kind::ManageGroup,
            Self::Join { .. } => Kind::JoinGroup,
        }
    }

    /// Whether it may come of one who is no member, and leave him so: only JOINED says that he is one now.
    pub(crate) fn is_of_outsiders(&self) -> bool {
        matches!(self, Self::Join { .. } | Self::Manage(GroupAction::Answer { .. }))
    }
}

//! What the chat wants done, and how it went: all that passes between what it decides and what speaks to the cluster.

use rookery_client::wire::group::Group;
use rookery_client::wire::join::RequestPage;
use rookery_client::wire::live::{PresencePage, SessionPresence};
use rookery_client::wire::own::SelfAck;
use rookery_client::wire::reply::{Ack, MemberPage, Page, ReadMark};
use rookery_client::wire::versions::VersionsPage;
use rookery_client::wire::{GroupAction, GroupId, SessionId, UserAction, UserId};
use rookery_client::{ClientError, Goes, InviteCode, SyncList};

use super::asking::{Answer, Ask};

/// Something to be done, and later told back as an [`Outcome`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Send {
        session: SessionId,
        id: u64,
        text: String,
        goes: Goes,
    },
    /// A page of history that ends before this seq (0: the newest).
    Pull {
        session: SessionId,
        before: u64,
    },
    Read {
        session: SessionId,
        seq: u64,
    },
    Create {
        group: GroupId,
        members: Vec<UserId>,
    },
    Join {
        group: GroupId,
        code: Option<InviteCode>,
    },
    Change {
        session: SessionId,
        add: bool,
        users: Vec<UserId>,
    },
    Recall {
        session: SessionId,
        seq: u64,
    },
    Edit {
        session: SessionId,
        seq: u64,
        text: String,
    },
    Manage {
        session: SessionId,
        action: GroupAction,
    },
    /// What a group is called and how many are in it.
    Facts {
        session: SessionId,
    },
    /// Show who is in it.
    Members {
        session: SessionId,
    },
    /// Show who asks to join it.
    Requests {
        session: SessionId,
    },
    /// Show what a message said before it was edited.
    Versions {
        session: SessionId,
        seq: u64,
    },
    /// Whether the other user of a direct session has read this.
    HasRead {
        session: SessionId,
        seq: u64,
    },
    /// Something whose answer is to be shown.
    Ask(Ask),
    /// Change what is the user's own.
    Own(UserAction),
    /// Say that the person is writing, or has stopped.
    Typing {
        session: SessionId,
        on: bool,
    },
    /// Watch these users too.
    Watch {
        users: Vec<UserId>,
    },
    /// Watch who of a group is there, or no longer.
    WatchGroup {
        session: SessionId,
        on: bool,
    },
    /// Read the session list.
    Sync,
    Quit,
}

/// An answer of the cluster, or why there is none.
pub(super) type Told<T> = Result<T, ClientError>;

/// How an action went.
#[derive(Debug)]
pub(super) enum Outcome {
    /// One that was about a session.
    About(SessionId, About),
    Own(UserAction, Told<SelfAck>),
    Synced(Told<SyncList>),
    Present(Told<PresencePage>),
    Answered(Told<Answer>),
    Nothing,
}

/// How an action about a session went.
#[derive(Debug)]
pub(super) enum About {
    /// The message that was typed under this number.
    Sent(u64, Told<Ack>),
    Page(Told<Page>),
    Read(Told<ReadMark>),
    /// How far the other user of a direct session has read; none if that is not known.
    OtherRead(Option<u64>),
    /// Something was changed; what to say then.
    Done(String, Told<Ack>),
    /// Whether the user is a member now; else it has asked.
    Joined(Told<bool>),
    Facts(Told<Box<Group>>),
    Members(Told<MemberPage>),
    Requests(Told<RequestPage>),
    Versions(Told<VersionsPage>),
    /// Who of a group is there.
    Company(Told<SessionPresence>),
}

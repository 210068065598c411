//! What a user does to its own things: settings of sessions, what it does not want to see, relations, devices.
//!
//! [`UserAction`] is asked for with `MANAGE_SELF`, numbered by the device for the user as SEND is for a session. What comes
//! of it is told to all devices of the users it concerns.

use bincode::{Decode, Encode};

use crate::codec::{Blob, Source};
use crate::id::{DeviceId, SessionId, UserId};

/// Longest text of a friend request, bytes.
pub const MAX_REQUEST_TEXT: usize = 512;
/// Longest remark on another user, bytes.
pub const MAX_REMARK: usize = 256;
/// Longest name of a device for people, bytes.
pub const MAX_DEVICE_NAME: usize = 128;
/// Longest platform label of a device, bytes.
pub const MAX_PLATFORM: usize = 32;
/// Answers that a device's last acts keep: a repeat of an older one is told ALREADY_TRIMMED.
pub const ANSWERS_KEPT: usize = 16;

/// One setting of one session, as one user has it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub enum SessionSetting {
    /// Pinned, greater ones first (the time of pinning, say); none unpins.
    Pin(Option<u64>),
    /// No notifications before this time, unix milliseconds; 0 ends it, the greatest number is for ever.
    Mute(u64),
    /// Not shown while the session's count is at most this; none shows it again.
    Hide(Option<u64>),
    /// Shown as unread, until the user reads in it.
    MarkUnread(bool),
    /// What is written and not sent, bounded by the server's `limits.draft_bytes`; empty takes it away.
    Draft(Blob),
}

/// One change to what is the user's own.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub enum UserAction {
    /// Sets something of a session for this user alone.
    SetSession {
        /// Which.
        session: SessionId,
        /// What.
        setting: SessionSetting,
    },
    /// Everything is read, in all sessions.
    ReadAll,
    /// Nothing up to this seq is shown to this user any more.
    ClearSession {
        /// Which.
        session: SessionId,
        /// Up to and including.
        seq: u64,
    },
    /// These messages are shown to this user no more.
    DeleteMessages {
        /// Where.
        session: SessionId,
        /// From.
        from_seq: u64,
        /// Up to and including.
        to_seq: u64,
    },
    /// Asks a user to be a friend, or accepts if that one has asked.
    RequestFriend {
        /// Whom.
        user: UserId,
        /// At most [`MAX_REQUEST_TEXT`] bytes.
        text: Blob,
    },
    /// Accepts a request.
    AcceptFriend {
        /// Whose.
        user: UserId,
    },
    /// Declines a request.
    DeclineFriend {
        /// Whose.
        user: UserId,
    },
    /// Ends a friendship, or takes a request back.
    RemoveFriend {
        /// With whom.
        user: UserId,
    },
    /// What this user calls another; empty takes it away.
    SetRemark {
        /// On whom.
        user: UserId,
        /// At most [`MAX_REMARK`] bytes.
        remark: Blob,
    },
    /// Nothing that this user writes is taken in the direct session any more.
    Block {
        /// Whom.
        user: UserId,
    },
    /// Takes a block back.
    Unblock {
        /// Whom.
        user: UserId,
    },
    /// Whether users who are no friends may begin a direct session.
    SetStrangers {
        /// They may not.
        refuse: bool,
    },
    /// Names a device for people.
    NameDevice {
        /// Which.
        device: DeviceId,
        /// At most [`MAX_DEVICE_NAME`] bytes.
        name: Blob,
    },
    /// Ends a device: its connection at once, its registration, and the tokens it had.
    EndDevice {
        /// Which.
        device: DeviceId,
    },
    /// To whom of those who may ask the user shows how far it has read, and whether it is there.
    SetPrivacy {
        /// How far it has read.
        receipts: ShowTo,
        /// Whether it is online, and when it was.
        presence: ShowTo,
    },
}

/// To whom a user shows something of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum ShowTo {
    /// To everybody who may ask.
    #[default]
    All,
    /// To friends.
    Friends,
    /// To nobody.
    Nobody,
}

/// `MANAGE_SELF`: one change to what is the user's own. Answered by SELF_ACK.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct ManageSelf {
    /// The device's next number of these: 1, 2, 3, …
    pub number: u64,
    /// Named user, for a service only.
    pub on_behalf_of: Option<UserId>,
    /// What is to change.
    pub action: UserAction,
}

/// `SELF_ACK`: a change is durable on a majority and applied, and whoever it concerns has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SelfAck {
    /// The number it had.
    pub number: u64,
    /// When, unix milliseconds.
    pub time_ms: u64,
    /// What came of it: for relations the number of the [`RelationState`], for ReadAll how many messages were unread, for
    /// others 1 if there was something to change.
    pub value: u64,
}

/// How one user has set one session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Settings {
    /// Pinned, greater ones first.
    pub pinned: Option<u64>,
    /// No notifications before this time, unix milliseconds; it may have passed. 0 if there are any.
    pub muted_until_ms: u64,
    /// Hidden while the session's count is at most this.
    pub hidden_count: Option<u64>,
    /// Shown as unread.
    pub marked_unread: bool,
    /// Written and not sent.
    pub draft: Blob,
    /// Cleared up to and including this seq.
    pub cleared_seq: u64,
    /// Ranges of messages above it that this user has deleted, both ends included, ascending, apart from each other.
    pub deleted: Vec<(u64, u64)>,
}

/// `SESSION_SETTINGS` (push): how the user has set a session, from now on and as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct SessionSettings {
    /// Which.
    pub session: SessionId,
    /// How.
    pub settings: Settings,
}

/// Unread messages of all sessions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Badge {
    /// In sessions that notify.
    pub unread: u64,
    /// In sessions whose notifications are muted.
    pub muted: u64,
    /// Sessions that could not be counted.
    pub uncounted: u32,
}

/// How two users stand to each other, as one of them sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum RelationState {
    /// Nothing between them.
    #[default]
    None,
    /// This one has asked.
    Requested,
    /// The other one has asked.
    Asked,
    /// Friends.
    Friends,
}

/// One user's relation to another: a line of a RELATION_PAGE, and the body of `RELATION` (push).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Relation {
    /// To whom.
    pub user: UserId,
    /// How they stand.
    pub state: RelationState,
    /// This user takes nothing that one writes.
    pub blocked: bool,
    /// What this user calls that one.
    pub remark: Blob,
    /// Of the request, while there is one.
    pub text: Blob,
    /// Since when they stand so, unix milliseconds.
    pub since_ms: u64,
}

/// Which relations are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RelationFilter {
    /// All there are.
    All,
    /// Friends.
    Friends,
    /// Requests, either way.
    Requests,
    /// Blocked users.
    Blocked,
}

/// `LIST_RELATIONS`: the user's relations by name, paged.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ListRelations {
    /// Named user, for a service only.
    pub on_behalf_of: Option<UserId>,
    /// Which.
    pub which: RelationFilter,
    /// The last name of the page before; none for the first.
    pub after: Option<UserId>,
    /// At most so many (1–200).
    pub limit: u32,
}

/// `RELATION_PAGE`: the answer to LIST_RELATIONS.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct RelationPage {
    /// By name.
    pub relations: Vec<Relation>,
    /// Whether there are more after the last of them.
    pub more: bool,
    /// Whether users who are no friends may not begin a direct session.
    pub refuses_strangers: bool,
    /// To whom the user shows how far it has read.
    pub receipts: ShowTo,
    /// To whom the user shows whether it is there.
    pub presence: ShowTo,
}

/// `LIST_DEVICES`: the user's registered devices by name, paged.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ListDevices {
    /// Named user, for a service only.
    pub on_behalf_of: Option<UserId>,
    /// The last device of the page before; none for the first.
    pub after: Option<DeviceId>,
    /// At most so many (1–64).
    pub limit: u32,
}

/// One line of a [`DevicePage`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct DeviceLine {
    /// Which.
    pub device: DeviceId,
    /// Its registration.
    pub epoch: u32,
    /// What it said in HELLO.
    pub platform: Blob,
    /// Name for people, set by the user.
    pub name: Blob,
    /// The client program.
    pub agent: Blob,
    /// When it last registered or reported what it had been delivered, unix milliseconds.
    pub seen_ms: u64,
}

/// `DEVICE_PAGE`: the answer to LIST_DEVICES.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct DevicePage {
    /// By id.
    pub devices: Vec<DeviceLine>,
    /// Whether there are more after the last of them.
    pub more: bool,
}

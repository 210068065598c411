//! Error codes: stable numbers, what they mean, and whether a retry can help.

use bincode::de::{BorrowDecoder, Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};

use crate::codec::{Blob, Source};

/// Whether and how asking again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Retry {
    /// The same request will be refused again.
    Never,
    /// The same request may succeed after so many milliseconds.
    After(u32),
    /// Connect again (to any node), then repeat.
    Reconnect,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal, $remedy:literal;)+) => {
        /// A stable error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $name,)+
            /// A code this version does not know.
            Unknown(u16),
        }

        impl ErrorCode {
            /// Every code there is, in ascending order.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name),+];

            /// The number on the wire.
            pub fn number(self) -> u16 {
                match self { $(ErrorCode::$name => $number,)+ ErrorCode::Unknown(number) => number }
            }
            /// The code of a number.
            pub fn from_number(number: u16) -> Self {
                match number { $($number => ErrorCode::$name,)+ other => ErrorCode::Unknown(other) }
            }
            /// Its name as documented, e.g. `CLIENT_SEQ_GAP`.
            pub fn name(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)+ ErrorCode::Unknown(_) => "UNKNOWN" }
            }
            /// What to do about it, for people.
            pub fn remedy(self) -> &'static str {
                match self { $(ErrorCode::$name => $remedy,)+ ErrorCode::Unknown(_) => "update the client" }
            }
        }
    };
}

codes! {
    /// The frame or its body could not be decoded.
    BadFrame = 100, "BAD_FRAME", "send frames as docs/protocol.md states; the text names the field";
    /// No such kind of frame.
    UnknownKind = 101, "UNKNOWN_KIND", "ask only what this protocol version knows";
    /// The length field exceeds the limit announced in WELCOME.
    FrameTooLarge = 102, "FRAME_TOO_LARGE", "split the request";
    /// No protocol version in common.
    VersionUnsupported = 103, "VERSION_UNSUPPORTED", "update the client or the server";
    /// The first frame was not HELLO.
    HelloRequired = 104, "HELLO_REQUIRED", "send HELLO first";
    /// A second HELLO on one connection.
    AlreadyWelcome = 105, "ALREADY_WELCOME", "open a new connection for another identity";
    /// This port serves another protocol.
    WrongPort = 106, "WRONG_PORT", "clients connect to the client port, nodes to the peer port";
    /// The token is missing, malformed or its signature is wrong.
    BadToken = 200, "BAD_TOKEN", "get a new token from the business backend";
    /// The token has expired.
    TokenExpired = 201, "TOKEN_EXPIRED", "get a new token from the business backend";
    /// The token is for another user, device or role.
    TokenMismatch = 202, "TOKEN_MISMATCH", "connect as the user, device and role the token names";
    /// The request acts for another user or on a session that is not the user's.
    Forbidden = 203, "FORBIDDEN", "only a service identity acts for others";
    /// The same device connected again; the older connection ends.
    DeviceReplaced = 204, "DEVICE_REPLACED", "use one connection per device";
    /// The epoch in HELLO is not the device's.
    BadEpoch = 205, "BAD_EPOCH", "register again with epoch 0; counters start at 1";
    /// The client said nothing for `idle_ms`; the connection ends.
    Idle = 206, "IDLE", "connect again, and send PING in good time";
    /// The device was ended by request of another, or made room for one; the connection ends, and tokens from before are
    /// refused.
    DeviceEnded = 207, "DEVICE_ENDED", "get a new token, and register again with epoch 0";
    /// A field has a value that is not allowed; the text names it.
    BadRequest = 300, "BAD_REQUEST", "correct the field the text names";
    /// Content larger than the limit.
    ContentTooLarge = 301, "CONTENT_TOO_LARGE", "shorten the content or raise limits.content";
    /// More users watched on a connection than `limits.watched`; `detail` is that figure.
    TooMany = 302, "TOO_MANY", "watch fewer users at a time, or raise limits.watched";
    /// A media type of more than 64 bytes; `detail` is that figure.
    ContentTypeTooLong = 303, "CONTENT_TYPE_TOO_LONG", "shorten the media type";
    /// More extensions in one message than 16; `detail` is that figure.
    TooManyExtensions = 304, "TOO_MANY_EXTENSIONS", "put what they say into fewer";
    /// Extensions of more than 4,096 bytes of data together; `detail` is that figure.
    ExtensionsTooLarge = 305, "EXTENSIONS_TOO_LARGE", "put what they hold into the content";
    /// More than 1,000 users in one change of members; `detail` is that figure.
    TooManyUsers = 306, "TOO_MANY_USERS", "split the change";
    /// More than 10,000 cursors in one DELIVERED; `detail` is that figure.
    TooManyCursors = 307, "TOO_MANY_CURSORS", "split the list";
    /// More groups watched on a connection than `limits.watched_sessions`; `detail` is that figure.
    TooManyGroupsWatched = 308, "TOO_MANY_GROUPS_WATCHED", "watch fewer groups at a time, or raise limits.watched_sessions";
    /// The answer to a WATCH of so many users would not fit a frame; `detail` is how many of them one may name.
    WatchTooLarge = 309, "WATCH_TOO_LARGE", "name them in several";
    /// Content of an ephemeral message larger than `limits.ephemeral`; `detail` is that figure.
    EphemeralTooLarge = 310, "EPHEMERAL_TOO_LARGE", "shorten it, or raise limits.ephemeral";
    /// A name of a group for people of more than 256 bytes; `detail` is that figure.
    GroupNameTooLong = 311, "GROUP_NAME_TOO_LONG", "shorten the name";
    /// An avatar of more than 2,048 bytes; `detail` is that figure.
    AvatarTooLarge = 312, "AVATAR_TOO_LARGE", "give an address instead";
    /// A value of an attribute of more than 1,024 bytes; `detail` is that figure.
    AttributeTooLarge = 313, "ATTRIBUTE_TOO_LARGE", "shorten the value";
    /// A code of invitation of more than 64 bytes; `detail` is that figure.
    InviteCodeTooLong = 314, "INVITE_CODE_TOO_LONG", "give the code as its maker drew it";
    /// A text of a request to join of more than 256 bytes; `detail` is that figure.
    JoinTextTooLong = 315, "JOIN_TEXT_TOO_LONG", "shorten the text";
    /// A code of invitation for more than 100,000 users; `detail` is that figure.
    TooManyUses = 316, "TOO_MANY_USES", "make several codes";
    /// A text of a friend request of more than 512 bytes; `detail` is that figure.
    FriendTextTooLong = 317, "FRIEND_TEXT_TOO_LONG", "shorten the text";
    /// A remark of more than 256 bytes; `detail` is that figure.
    RemarkTooLong = 318, "REMARK_TOO_LONG", "shorten the remark";
    /// A name of a device of more than 128 bytes; `detail` is that figure.
    DeviceNameTooLong = 319, "DEVICE_NAME_TOO_LONG", "shorten the name";
    /// A draft larger than `limits.draft_bytes`; `detail` is that figure.
    DraftTooLarge = 320, "DRAFT_TOO_LARGE", "keep the draft on the device, or raise limits.draft_bytes";
    /// An agent in HELLO of more than 64 bytes; the connection ends; `detail` is that figure.
    AgentTooLong = 321, "AGENT_TOO_LONG", "shorten the name of the program";
    /// A platform in HELLO of more than 32 bytes; the connection ends; `detail` is that figure.
    PlatformTooLong = 322, "PLATFORM_TOO_LONG", "shorten the platform";
    /// A number was skipped; `detail` is the expected one. Nothing was stored.
    ClientSeqGap = 400, "CLIENT_SEQ_GAP", "send the expected number first";
    /// The number was used with other content.
    ClientSeqReused = 401, "CLIENT_SEQ_REUSED", "take the next free number";
    /// The number was used, and its message has been trimmed since.
    AlreadyTrimmed = 402, "ALREADY_TRIMMED", "it was answered once; do not send it again";
    /// The user is not a member of the session.
    NotMember = 403, "NOT_MEMBER", "join the session first";
    /// There is no such session.
    NoSuchSession = 404, "NO_SUCH_SESSION", "create the group, or send the first direct message";
    /// The group exists already.
    SessionExists = 405, "SESSION_EXISTS", "choose another name";
    /// The member may not do this.
    NotAllowed = 406, "NOT_ALLOWED", "ask the group's owner";
    /// The group has as many members as it may.
    GroupFull = 407, "GROUP_FULL", "remove members or raise limits.group_members";
    /// A cursor beyond the session's last seq; `detail` is the last one.
    BeyondEnd = 408, "BEYOND_END", "read only what is there";
    /// The user is in as many sessions as allowed.
    TooManySessions = 409, "TOO_MANY_SESSIONS", "leave some sessions";
    /// There is no content of that seq: beyond the end, trimmed, or a signal.
    NoSuchMessage = 410, "NO_SUCH_MESSAGE", "name the seq of a message with content that is still kept";
    /// The message is too old for that; `detail` is the window in milliseconds.
    TooLate = 411, "TOO_LATE", "ask an admin of the group, who may at any time";
    /// The message was recalled.
    Recalled = 412, "RECALLED", "nothing is left to change";
    /// The member may not write for now; `detail` is until when, unix milliseconds, or 0 for a group that is muted whole.
    Muted = 413, "MUTED", "wait until the time in detail, or ask an admin";
    /// The group has been dissolved: it accepts nothing any more.
    Dissolved = 414, "DISSOLVED", "make another group under another name";
    /// The group has as many attributes, or as many bytes of them, as it may.
    AttributesFull = 415, "ATTRIBUTES_FULL", "take attributes away or shorten their values";
    /// The user has deleted as many ranges of messages of the session as it may; `detail` is how many.
    TooManyDeletions = 416, "TOO_MANY_DELETIONS", "clear the session instead, or delete in larger ranges";
    /// The other user of the direct session does not take what this one writes.
    RefusedByPeer = 417, "REFUSED_BY_PEER", "nothing; the other user decides";
    /// The user has as many devices, or as many of that platform, as it may; `detail` is how many.
    TooManyDevices = 418, "TOO_MANY_DEVICES", "end one of the other devices first";
    /// The user has as many relations as it may; `detail` is how many.
    RelationsFull = 419, "RELATIONS_FULL", "remove friends, requests or blocks";
    /// More ephemeral messages than this connection may send, or more joins, or groups made and added to, than this user may;
    /// `detail` is how many a second.
    TooFast = 420, "TOO_FAST", "send fewer of them; an ephemeral message is worth nothing by then, anything else may be repeated";
    /// The group has no such code, or has it no more.
    CodeUnknown = 421, "CODE_UNKNOWN", "check the code, or ask for another";
    /// The code was, or would be, good until a time that has passed.
    CodeExpired = 422, "CODE_EXPIRED", "ask for another code";
    /// The code has let in as many users as it may.
    CodeUsedUp = 423, "CODE_USED_UP", "ask for another code";
    /// Nobody comes into this group without a code or somebody who adds him.
    JoinClosed = 424, "JOIN_CLOSED", "ask a member for a code, or to be added";
    /// The group keeps this user out.
    Barred = 425, "BARRED", "an admin of the group lets the user in again first";
    /// The digest of a seq before what is kept, or before what the user may read; `detail` is the first seq there is.
    NotKept = 427, "NOT_KEPT", "ask from the seq before the one in detail on";
    /// The group has as many members, requests, codes or users kept out as it may.
    NoRoom = 428, "NO_ROOM", "an admin makes room: answers requests, takes codes back, removes members";
    /// The user has asked already, or was declined not long ago; `detail` is when it may ask again, unix milliseconds, or 0
    /// while the request waits for its answer.
    AskedLately = 429, "ASKED_LATELY", "wait for the answer, or until the time in detail";
    /// The request key was used here for another action.
    KeyReused = 430, "KEY_REUSED", "take another key for another action";
    /// The session or user remembers as many request keys as it may; `detail` is when the oldest goes, unix milliseconds.
    KeysFull = 431, "KEYS_FULL", "wait until the time in detail, or use the numbered requests, which have no such bound";
    /// The user is there already.
    UserExists = 432, "USER_EXISTS", "choose another name, or go on with the user that is there";
    /// As many messages of the session as may wait to expire, do; `detail` is how many.
    TooManyExpiring = 435, "TOO_MANY_EXPIRING", "wait until some have gone, or send one that stays";
    /// Somebody is named who is no user: who has registered no device, and was not created.
    UnknownUser = 436, "UNKNOWN_USER", "check the name; a user is there once it has connected or the backend has created it";
    /// The node has as much work as it can hold. `Retry` says when to come back.
    Busy = 500, "BUSY", "repeat after the hinted time";
    /// The shard had no leader within the deadline. The request may or may not have been carried out.
    Unavailable = 501, "UNAVAILABLE", "repeat the same request with the same client_seq";
    /// The node is going down.
    ShuttingDown = 502, "SHUTTING_DOWN", "connect to another node and repeat";
    /// The disk has less space than the low-water mark.
    DiskLow = 503, "DISK_LOW", "free disk space on the nodes; reads still work";
    /// This node has no replica of the shard.
    NoReplica = 504, "NO_REPLICA", "ask a node that has one";
    /// The session or user was frozen after a fault while applying.
    Frozen = 505, "FROZEN", "report it with the node's log; the rest of the cluster works on";
    /// The node has as many connections as it may.
    TooManyConnections = 506, "TOO_MANY_CONNECTIONS", "connect to another node";
}

impl ErrorCode {
    /// Whether this version knows the code; one it does not know is carried as its number.
    pub fn is_known(self) -> bool {
        !matches!(self, ErrorCode::Unknown(_))
    }

    /// How to retry, where whoever refuses does not know better.
    pub fn retry(self) -> Retry {
        match self {
            ErrorCode::Busy => Retry::After(50),
            ErrorCode::Unavailable => Retry::After(200),
            ErrorCode::DiskLow | ErrorCode::TooManyConnections | ErrorCode::TooFast => Retry::After(1000),
            ErrorCode::ShuttingDown | ErrorCode::Idle => Retry::Reconnect,
            _ => Retry::Never,
        }
    }

    /// Whether the client_seq of a numbered request that was refused so is taken: by this refusal, which the session
    /// has decided and will repeat, or by an earlier request. After any other refusal the next request takes the
    /// same number. Those for which [`ErrorCode::spares_strangers`] is true take none of a stranger:
    /// [`ErrorBody::takes_client_seq`] knows.
    pub fn takes_client_seq(self) -> bool {
        use ErrorCode::{AlreadyTrimmed, AttributesFull, ClientSeqReused, Dissolved, GroupFull, Muted};
        use ErrorCode::{Barred, CodeExpired, CodeUnknown, NoRoom};
        use ErrorCode::{NoSuchMessage, NotAllowed, NotMember, Recalled, RefusedByPeer, RelationsFull};
        use ErrorCode::{SessionExists, TooLate, TooManyDeletions, TooManyExpiring, UnknownUser};
        matches!(
            self,
            ClientSeqReused
                | AlreadyTrimmed
                | NotMember
                | SessionExists
                | NotAllowed
                | GroupFull
                | NoSuchMessage
                | TooLate
                | Recalled
                | Muted
                | Dissolved
                | AttributesFull
                | TooManyDeletions
                | RefusedByPeer
                | RelationsFull
                | CodeUnknown
                | CodeExpired
                | Barred
                | NoRoom
                | TooManyExpiring
                | UnknownUser
        )
    }

    /// Whether a refusal with this code says in `detail` which number it took, and takes none of a user who never was a
    /// member, of one who is none any more from a device without numbers there, or of one who is none and wants to come in
    /// (JOIN_GROUP). JOIN_CLOSED, CODE_USED_UP and ASKED_LATELY are
    /// heard by those alone, and take none. UNKNOWN_USER takes none where a session would begin.
    pub fn spares_strangers(self) -> bool {
        use ErrorCode::{Barred, CodeExpired, CodeUnknown, NoRoom};
        use ErrorCode::{Dissolved, NotMember, RefusedByPeer, SessionExists, UnknownUser};
        matches!(
            self,
            NotMember
                | SessionExists
                | Dissolved
                | RefusedByPeer
                | CodeUnknown
                | CodeExpired
                | Barred
                | NoRoom
                | UnknownUser
        )
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.number())
    }
}

impl Encode for ErrorCode {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.number().encode(encoder)
    }
}

impl<C> Decode<C> for ErrorCode {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        <u16 as Decode<C>>::decode(decoder).map(Self::from_number)
    }
}

impl<'de, C> bincode::BorrowDecode<'de, C> for ErrorCode {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        <Self as Decode<C>>::decode(decoder)
    }
}

/// `ERROR`: a request was refused, or (request id 0) the connection is at fault.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
#[bincode(decode_context = "Source")]
pub struct ErrorBody {
    /// Stable code.
    pub code: ErrorCode,
    /// Whether a retry can help.
    pub retry: Retry,
    /// A number that belongs to the code (expected client_seq, the one taken, last seq, limit), else 0.
    pub detail: u64,
    /// What was wrong and what to do, for people.
    pub text: Blob,
}

impl ErrorBody {
    /// An error with the code's own way to retry.
    pub fn new(code: ErrorCode, text: impl AsRef<str>) -> Self {
        Self { code, retry: code.retry(), detail: 0, text: Blob::from(text.as_ref()) }
    }
    /// Adds the number that belongs to the code.
    #[must_use]
    pub fn with_detail(mut self, detail: u64) -> Self {
        self.detail = detail;
        self
    }
    /// Adds how to retry.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }
    /// Whether the client_seq of the numbered request that was refused so is taken.
    pub fn takes_client_seq(&self) -> bool {
        match self.code {
            code if code.spares_strangers() => self.detail != 0,
            code => code.takes_client_seq(),
        }
    }
    /// The text.
    pub fn message(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.text.as_ref())
    }
}

impl std::fmt::Display for ErrorBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message())
    }
}

impl std::error::Error for ErrorBody {}

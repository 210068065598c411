//! Frames: a length, a header of 8 bytes, a body.
//!
//! ```text
//!  0        4        5      6        8            12
//! +--------+--------+------+--------+------------+----------
//! | length | version| kind | flags  | request id | body …
//! | u32 LE | u8     | u8   | u16 LE | u32 LE     |
//! +--------+--------+------+--------+------------+----------
//! ```
//! `length` counts the bytes after itself (8 + body). Flags are 0 in version 1 and ignored by readers.

use bincode::Encode;
use bytes::{Buf, Bytes, BytesMut};

use crate::codec::encode_into;

/// The protocol version this crate speaks.
pub const VERSION: u8 = 1;
/// Bytes between the length field and the body.
pub const HEADER_BYTES: usize = 8;
/// How much room is made for a frame whose bytes have not arrived yet; with more there, as much again as is there.
const READ_STEP: usize = 4 << 10;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// What a frame is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Kind { $($(#[doc = $doc])+ $name = $number,)+ }

        impl Kind {
            /// Every kind there is.
            pub const ALL: &'static [Kind] = &[$(Kind::$name),+];
            /// The kind of a number, if this version knows it.
            pub fn from_number(number: u8) -> Option<Kind> {
                match number { $($number => Some(Kind::$name),)+ _ => None }
            }
            /// Its name as documented, e.g. `SYNC_PAGE`.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$name => $text,)+ }
            }
        }
    };
}

kinds! {
    /// [`crate::request::Hello`].
    Hello = 1, "HELLO";
    /// [`crate::request::Send`].
    Send = 2, "SEND";
    /// [`crate::request::Delivered`].
    Delivered = 3, "DELIVERED";
    /// [`crate::request::Pull`].
    Pull = 4, "PULL";
    /// [`crate::request::Sync`].
    Sync = 5, "SYNC";
    /// [`crate::request::Read`].
    Read = 6, "READ";
    /// [`crate::request::Members`].
    CreateGroup = 7, "CREATE_GROUP";
    /// [`crate::request::Members`].
    AddMembers = 8, "ADD_MEMBERS";
    /// [`crate::request::Members`].
    RemoveMembers = 9, "REMOVE_MEMBERS";
    /// [`crate::request::ListMembers`].
    ListMembers = 10, "LIST_MEMBERS";
    /// No body; answered by PONG.
    Ping = 11, "PING";
    /// [`crate::request::Recall`].
    Recall = 12, "RECALL";
    /// [`crate::request::Edit`].
    Edit = 13, "EDIT";
    /// [`crate::group::ManageGroup`].
    ManageGroup = 14, "MANAGE_GROUP";
    /// [`crate::group::GroupInfo`].
    GroupInfo = 15, "GROUP_INFO";
    /// [`crate::group::ListRoles`].
    ListRoles = 16, "LIST_ROLES";
    /// [`crate::own::ManageSelf`].
    ManageSelf = 17, "MANAGE_SELF";
    /// [`crate::own::ListRelations`].
    ListRelations = 18, "LIST_RELATIONS";
    /// [`crate::own::ListDevices`].
    ListDevices = 19, "LIST_DEVICES";
    /// [`crate::live::Receipts`].
    Receipts = 20, "RECEIPTS";
    /// [`crate::live::Ephemeral`].
    Ephemeral = 21, "EPHEMERAL";
    /// [`crate::live::Watch`].
    Watch = 22, "WATCH";
    /// [`crate::digest::DigestAt`].
    Digest = 23, "DIGEST";
    /// [`crate::join::ListRequests`].
    ListRequests = 24, "LIST_REQUESTS";
    /// [`crate::join::ListCodes`].
    ListCodes = 25, "LIST_CODES";
    /// [`crate::join::JoinGroup`].
    JoinGroup = 26, "JOIN_GROUP";
    /// [`crate::admin::Admin`].
    Admin = 28, "ADMIN";
    /// [`crate::admin::Audit`].
    Audit = 29, "AUDIT";
    /// [`crate::versions::ListVersions`].
    ListVersions = 30, "LIST_VERSIONS";
    /// [`crate::live::WatchSession`].
    WatchSession = 31, "WATCH_SESSION";
    /// [`crate::reply::Welcome`].
    Welcome = 129, "WELCOME";
    /// [`crate::reply::Ack`].
    Ack = 130, "ACK";
    /// No body: done.
    Ok = 131, "OK";
    /// [`crate::reply::Page`].
    Page = 132, "PAGE";
    /// [`crate::reply::SyncPage`].
    SyncPage = 133, "SYNC_PAGE";
    /// [`crate::reply::ReadMark`].
    ReadMark = 134, "READ_MARK";
    /// [`crate::reply::MemberPage`].
    MemberPage = 135, "MEMBER_PAGE";
    /// No body.
    Pong = 136, "PONG";
    /// [`crate::reply::Message`].
    Message = 137, "MESSAGE";
    /// [`crate::reply::Joined`].
    Joined = 138, "JOINED";
    /// [`crate::reply::Left`].
    Left = 139, "LEFT";
    /// [`crate::reply::Lagged`].
    Lagged = 140, "LAGGED";
    /// [`crate::reply::GoAway`].
    GoAway = 141, "GOAWAY";
    /// [`crate::error::ErrorBody`].
    Error = 142, "ERROR";
    /// [`crate::group::Group`].
    Group = 143, "GROUP";
    /// [`crate::group::RolePage`].
    RolePage = 144, "ROLE_PAGE";
    /// [`crate::own::SessionSettings`].
    SessionSettings = 145, "SESSION_SETTINGS";
    /// [`crate::own::RelationPage`].
    RelationPage = 146, "RELATION_PAGE";
    /// [`crate::own::Relation`].
    Relation = 147, "RELATION";
    /// [`crate::own::DevicePage`].
    DevicePage = 148, "DEVICE_PAGE";
    /// [`crate::own::SelfAck`].
    SelfAck = 149, "SELF_ACK";
    /// [`crate::live::ReceiptPage`].
    ReceiptPage = 150, "RECEIPT_PAGE";
    /// [`crate::live::Receipt`].
    Receipt = 151, "RECEIPT";
    /// [`crate::live::EphemeralMessage`].
    EphemeralMessage = 152, "EPHEMERAL_MESSAGE";
    /// [`crate::live::Presence`].
    Presence = 153, "PRESENCE";
    /// [`crate::live::PresencePage`].
    PresencePage = 154, "PRESENCE_PAGE";
    /// [`crate::digest::DigestReply`].
    DigestReply = 155, "DIGEST_REPLY";
    /// [`crate::join::RequestPage`].
    RequestPage = 156, "REQUEST_PAGE";
    /// [`crate::join::CodePage`].
    CodePage = 157, "CODE_PAGE";
    /// [`crate::admin::AdminReply`].
    AdminReply = 159, "ADMIN_REPLY";
    /// [`crate::admin::AuditPage`].
    AuditPage = 160, "AUDIT_PAGE";
    /// [`crate::versions::VersionsPage`].
    VersionsPage = 161, "VERSIONS_PAGE";
    /// [`crate::live::SessionPresence`].
    SessionPresence = 162, "SESSION_PRESENCE";
}

/// One frame as read: the kind is still a number, since a newer peer may use one that is unknown here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Protocol version of the sender.
    pub version: u8,
    /// Kind, see [`Kind`].
    pub kind: u8,
    /// Reserved.
    pub flags: u16,
    /// Chosen by the client, repeated in the answer; 0 in pushes.
    pub request_id: u32,
    /// The body, a slice of the read buffer.
    pub body: Bytes,
}

/// What makes a stream of bytes unreadable: the connection must end, for the next frame cannot be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// The length field is larger than allowed.
    #[error("frame of {length} bytes, at most {max} are allowed")]
    TooLarge {
        /// The claimed length.
        length: u32,
        /// The bound.
        max: u32,
    },
    /// The length field is smaller than the header.
    #[error("frame length {0} is less than the {HEADER_BYTES} bytes of its header")]
    TooShort(u32),
    /// A version no peer of ours speaks: most likely this is not our protocol at all.
    #[error("frame version {0}, expected {VERSION}")]
    Version(u8),
}

/// Cuts frames out of a byte stream. Give it what was read, take frames until it has none.
#[derive(Debug)]
pub struct Decoder {
    max: u32,
}

impl Decoder {
    /// A decoder that refuses frames whose length field exceeds `max`.
    pub fn new(max: u32) -> Self {
        Self { max }
    }

    /// Takes the next whole frame from the front of `buffer`, if it is there. The length is judged as soon as its
    /// four bytes are, and a claim alone reserves nothing to speak of: room for the rest is made as it arrives.
    ///
    /// # Errors
    /// [`FrameFault`] ends the stream.
    pub fn next(&self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameFault> {
        let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length);
        if length < HEADER_BYTES as u32 {
            return Err(FrameFault::TooShort(length));
        }
        if length > self.max {
            return Err(FrameFault::TooLarge { length, max: self.max });
        }
        if let Some(&version) = buffer.get(4)
            && version != VERSION
        {
            return Err(FrameFault::Version(version));
        }
        let total = 4 + length as usize;
        if buffer.len() < total {
            buffer.reserve((total - buffer.len()).min(buffer.len().max(READ_STEP)));
            return Ok(None);
        }
        let mut frame = buffer.split_to(total).freeze();
        frame.advance(4);
        Ok(Some(Frame {
            version: frame.get_u8(),
            kind: frame.get_u8(),
            flags: frame.get_u16_le(),
            request_id: frame.get_u32_le(),
            body: frame,
        }))
    }
}

/// Appends a whole frame to `out`.
pub fn encode_frame<T: Encode>(kind: Kind, request_id: u32, body: &T, out: &mut BytesMut) {
    let start = begin_frame(kind, request_id, out);
    encode_into(body, out);
    end_frame(start, out);
}

/// Begins a frame whose body the caller appends; returns what [`end_frame`] needs.
pub fn begin_frame(kind: Kind, request_id: u32, out: &mut BytesMut) -> usize {
    let start = out.len();
    let [a, b, c, d] = request_id.to_le_bytes();
    // The length is filled in at the end; the flags are zero.
    out.extend_from_slice(&[0, 0, 0, 0, VERSION, kind as u8, 0, 0, a, b, c, d]);
    start
}

/// Fills in the length of the frame begun at `start`.
pub fn end_frame(start: usize, out: &mut BytesMut) {
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// A whole frame alone.
pub fn frame_bytes<T: Encode>(kind: Kind, request_id: u32, body: &T) -> Bytes {
    let mut out = BytesMut::with_capacity(128);
    encode_frame(kind, request_id, body, &mut out);
    out.freeze()
}

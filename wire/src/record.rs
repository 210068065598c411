//! A message as it is stored, pushed and pulled: one encoding for all three.

use bincode::{Decode, Encode};

use crate::codec::{Blob, Source};
use crate::id::{DeviceId, UserId};

/// What a record is. Carried as a number, so that an older client can pass over kinds it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct RecordKind(pub u16);

impl RecordKind {
    /// Content of a user: opaque bytes with a content type. Counts as unread.
    pub const CONTENT: RecordKind = RecordKind(0);
    /// Signal: the session came to be; content is a [`Signal`].
    pub const CREATED: RecordKind = RecordKind(1);
    /// Signal: members joined; content is a [`Signal`].
    pub const MEMBERS_ADDED: RecordKind = RecordKind(2);
    /// Signal: members left or were removed; content is a [`Signal`].
    pub const MEMBERS_REMOVED: RecordKind = RecordKind(3);
    /// Signal: the group was managed; content is a [`crate::GroupAction`].
    pub const GROUP_CHANGED: RecordKind = RecordKind(7);

    /// Signal: the content of a message was taken back; content is a [`Target`].
    pub const RECALL: RecordKind = RecordKind(4);
    /// Signal: the content of a message is another now; content is a [`Target`].
    pub const EDIT: RecordKind = RecordKind(5);
    /// What is left of content that was recalled: everything but content and media type, with a [`Rewritten`] among
    /// the extensions. It counted when it was stored, and does not any more.
    pub const RECALLED: RecordKind = RecordKind(6);
    /// Stands in a page for a message that the user who asks has deleted for itself: everything but content, media type and
    /// extensions. Never stored, and never pushed.
    pub const DELETED: RecordKind = RecordKind(8);

    /// What is left of content whose time had come, by its [`Expires`]: everything but content and media type. It counted
    /// when it was stored, and does not any more.
    pub const EXPIRED: RecordKind = RecordKind(9);

    /// Whether records of this kind are counted as unread.
    pub fn is_countable(self) -> bool {
        self == Self::CONTENT
    }
}

/// Something a reader may not know: skipped by its length.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Extension {
    /// What it is. Tags below 1024 are the protocol's own, the rest are the application's.
    pub tag: u16,
    /// Its bytes.
    pub data: Blob,
}

/// One message of a session, as stored, pushed and pulled.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Record {
    /// Position in the session: 1, 2, 3, … without a gap.
    pub seq: u64,
    /// Unique in the cluster; made when the log entry was applied.
    pub message_id: u64,
    /// Unix milliseconds, stamped by the shard's leader; never decreases within a session.
    pub time_ms: u64,
    /// Countable messages of the session up to and including this one; unread counts are differences of it.
    pub count: u64,
    /// In whose name it was sent.
    pub sender: UserId,
    /// The device that sent it.
    pub device: DeviceId,
    /// The registration of that device.
    pub epoch: u32,
    /// The device's own number of this send in this session.
    pub client_seq: u64,
    /// Content or a kind of signal.
    pub kind: RecordKind,
    /// Media type of content, chosen by the application, e.g. `text/plain`; empty for signals.
    pub content_type: Blob,
    /// The content, or what the signal's kind says: an encoded [`Signal`] or [`crate::GroupAction`].
    pub content: Blob,
    /// Skippable additions.
    pub extensions: Vec<Extension>,
}

/// The body of a signal record of members; its [`RecordKind`] says what happened to them.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Signal {
    /// The users it concerns.
    pub users: Vec<UserId>,
}

/// The body of a signal about another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Target {
    /// That message.
    pub seq: u64,
}

/// The data of the [`Rewritten::TAG`] extension, which a record has that was recalled or edited; the last one who did.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Rewritten {
    /// In whose name.
    pub by: UserId,
    /// When, unix milliseconds.
    pub time_ms: u64,
    /// The signal that says so.
    pub seq: u64,
}

impl Rewritten {
    /// The tag of the extension.
    pub const TAG: u16 = 1;
}

/// The data of the [`Expires::TAG`] extension, with which a message is sent that is to last for a time only. Of the
/// extensions with tags of the protocol's own clients send this one and [`Burns`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Expires {
    /// For how long from its time on, milliseconds.
    pub after_ms: u64,
}

impl Expires {
    /// The tag of the extension.
    pub const TAG: u16 = 2;
}

/// The data of the [`Burns::TAG`] extension, with which a message of a direct session is sent that is to go once the other
/// user has read it. A message has this or [`Expires`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Burns {
    /// For how long after that it lasts, milliseconds.
    pub after_ms: u64,
}

impl Burns {
    /// The tag of the extension.
    pub const TAG: u16 = 3;
}

/// Tags of extensions from here on are the application's; those below are the protocol's own.
pub const FIRST_APPLICATION_TAG: u16 = 1024;

/// The last message of a session, shortened for a list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Preview {
    /// Its seq.
    pub seq: u64,
    /// Its time in unix milliseconds.
    pub time_ms: u64,
    /// Its sender.
    pub sender: UserId,
    /// What it is.
    pub kind: RecordKind,
    /// Its content type.
    pub content_type: Blob,
    /// The first [`PREVIEW_BYTES`] bytes of its content.
    pub content: Blob,
}

/// How much content a [`Preview`] carries, in bytes.
pub const PREVIEW_BYTES: usize = 96;

//! The wire format of Rookery: what client and server say to each other over TCP.
//!
//! This crate is a leaf: it knows no socket, no clock and nothing else of ours. It turns bytes into typed
//! frames and back ("sans-IO"), checks every length before it allocates, and never copies message content:
//! a decoded [`Blob`] is a slice of the frame it came in.
//!
//! `docs/protocol.md` states every byte. Read here in the order in which a frame is met:
//! [`frame`] (header, decoder), [`id`] (who and where), [`record`] (what is stored and pushed),
//! [`request`] (client to server), [`reply`] (server to client), [`group`] (how groups are managed), [`join`] (how users come
//! into them by themselves), [`own`] (what is the user's own), [`live`] (receipts, ephemeral messages, presence), [`digest`]
//! (proof of a history), [`versions`] (what was said before an edit), [`admin`] (the business's side), [`error`] (codes), [`codec`] (bincode rules).

pub mod admin;
pub mod codec;
pub mod digest;
pub mod error;
pub mod frame;
pub mod group;
pub mod id;
pub mod join;
pub mod live;
pub mod own;
pub mod record;
pub mod reply;
pub mod request;
pub mod versions;

pub use admin::{AdminAction, AuditEntity, AuditLine};
pub use codec::{Blob, DecodeFault, decode, encode, encode_into};
pub use digest::{ContentHash, Digest, Salt};
pub use error::{ErrorBody, ErrorCode, Retry};
pub use frame::{Decoder, Frame, FrameFault, HEADER_BYTES, Kind, VERSION, encode_frame};
pub use group::{GroupAction, MemberRole, Policy, Retention, Who};
pub use id::{AttributeKey, DeviceId, GroupId, RequestKey, SessionId, UserId};
pub use join::Join;
pub use own::{RelationState, SessionSetting, UserAction};
pub use record::{Burns, Expires, Extension, Preview, Record, RecordKind, Rewritten, Signal, Target};
pub use versions::Version;

/// Largest frame (the value of its length field) unless the server's configuration says otherwise: 1 MiB.
pub const DEFAULT_MAX_FRAME: u32 = 1 << 20;
/// Largest message content unless the server's configuration says otherwise: 64 KiB.
pub const DEFAULT_MAX_CONTENT: u32 = 64 << 10;

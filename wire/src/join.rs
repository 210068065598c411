//! Coming into a group by oneself: codes of invitation, requests that somebody answers, users who are kept out.
//!
//! `JOIN_GROUP` is the one numbered act of a user who is no member. What admins do about it are actions of
//! [`crate::GroupAction`]. A code itself is in no record and in no log: what is kept of it is its SHA-256.

use bincode::{Decode, Encode};

use crate::codec::{Blob, Source};
use crate::id::{SessionId, UserId};

/// Longest text of a request, bytes.
pub const MAX_JOIN_TEXT: usize = 256;
/// Longest code, bytes. Those that the client library draws have 26.
pub const MAX_CODE: usize = 64;
/// Bytes of a code's hash.
pub const CODE_HASH: usize = 32;
/// Codes of a group that can be used.
pub const MAX_CODES: usize = 32;
/// Users that one code may let in.
pub const MAX_CODE_USES: u32 = 100_000;
/// For how long a code may be good, milliseconds: a year.
pub const MAX_CODE_MS: u64 = 31_536_000_000;
/// Requests of a group that wait for an answer.
pub const MAX_REQUESTS: usize = 1_000;
/// Users that a group keeps out.
pub const MAX_BARRED: usize = 1_000;

/// Whether users come into a group by themselves, without a code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Join {
    /// They do not: somebody adds them.
    #[default]
    Closed,
    /// They ask, and who may add members answers.
    Request,
    /// They come.
    Open,
}

/// `JOIN_GROUP`: comes into a group, or asks to. Numbered like a send, and answered by ACK.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct JoinGroup {
    /// The group.
    pub session: SessionId,
    /// The device's next number in this session; 1 for one who has never done anything there.
    pub client_seq: u64,
    /// Named user, for a service only; a service names one.
    pub on_behalf_of: Option<UserId>,
    /// A code of invitation, at most [`MAX_CODE`] bytes.
    pub code: Option<Blob>,
    /// For those who answer the request, at most [`MAX_JOIN_TEXT`] bytes. Not looked at where none is asked.
    pub text: Blob,
}

/// Which users outside of a group are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outside {
    /// Those who have asked to join and were not answered yet.
    Asking,
    /// Those who are kept out.
    Barred,
}

/// `LIST_REQUESTS`: who asks to join a group, or is kept out of it, by name, paged. For who may add members; who is
/// no member is given its own request, as long as that waits.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ListRequests {
    /// The group.
    pub session: SessionId,
    /// Which.
    pub which: Outside,
    /// The last name of the page before; none for the first.
    pub after: Option<UserId>,
    /// At most so many (1–200).
    pub limit: u32,
}

/// One line of a [`RequestPage`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct RequestLine {
    /// Who.
    pub user: UserId,
    /// What it says to those who answer; empty for one who is kept out.
    pub text: Blob,
    /// Since when, unix milliseconds.
    pub since_ms: u64,
}

/// `REQUEST_PAGE`: the answer to LIST_REQUESTS.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct RequestPage {
    /// By name.
    pub requests: Vec<RequestLine>,
    /// Whether there are more after the last of them.
    pub more: bool,
}

/// `LIST_CODES`: the codes of a group, the oldest first, paged. For who may add members.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ListCodes {
    /// The group.
    pub session: SessionId,
    /// The last code of the page before; 0 for the first.
    pub after: u64,
    /// At most so many (1–32).
    pub limit: u32,
}

/// One line of a [`CodePage`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CodeLine {
    /// Its number: the seq of the record with which it was made.
    pub id: u64,
    /// Who made it.
    pub maker: UserId,
    /// When, unix milliseconds.
    pub made_ms: u64,
    /// Until when it is good, unix milliseconds; it may have passed.
    pub until_ms: u64,
    /// Users it lets in.
    pub uses: u32,
    /// Users it has let in.
    pub used: u32,
}

/// `CODE_PAGE`: the answer to LIST_CODES.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CodePage {
    /// By number. Those that cannot be used any more are there until others need their place.
    pub codes: Vec<CodeLine>,
    /// Whether there are more after the last of them.
    pub more: bool,
}

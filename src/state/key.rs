//! Keys of rows: one letter for the kind, the entity's name (self-delimiting), then what orders rows within it.
//! Part of the data format.
//!
//! | letter | then | row |
//! |---|---|---|
//! | `a` | | the shard's applied mark |
//! | `z` | | there is, while recalled content may be in the log |
//! | `h` | session | head |
//! | `m` | session, user | member |
//! | `s` | session, user, device, epoch | sender: last number, late refusals |
//! | `n` | session, user, device, epoch, first number | run of numbers → seq |
//! | `i` | session, user | intent |
//! | `g` | session | profile of a group |
//! | `p` | session, key | attribute of a group |
//! | `j` | session, user | what a group knows of a user who is no member
//! | `c` | session, seq of the record that made it | code of invitation
//! | `r` | session, seq of the first | run of records |
//! | `v` | session, seq, number | what that message said before it was edited |
//! | `x` | session, running count | a message that was recalled: its seq |
//! | `t` | session, seq | when that message is to go |
//! | `d` | session | trimmed records are still rows |
//! | `K` | session, request key | what came of it |
//! | `u` | user | user head with devices |
//! | `l` | user, session | link: membership and cursors |
//! | `e` | user, session | what the user has set of it, cleared and deleted |
//! | `k` | user, who acts: user, device, epoch | numbers of acts on the user's own things, with the last answers |
//! | `f` | user, other user | relation |
//! | `o` | user, kind, other user | errand |
//! | `Q` | user, request key | what came of it |

use bytes::BytesMut;
use rookery_wire::codec::encode_into;
use rookery_wire::{AttributeKey, DeviceId, RequestKey, SessionId, UserId};

use super::relations::ErrandKind;

/// Kind letters.
pub mod letter {
    /// Applied mark.
    pub const APPLIED: u8 = b'a';
    /// Recalled content may be in the log.
    pub const UNPURGED: u8 = b'z';
    /// Session head.
    pub const HEAD: u8 = b'h';
    /// Member.
    pub const MEMBER: u8 = b'm';
    /// Sender.
    pub const SENDER: u8 = b's';
    /// Run of numbers.
    pub const NUMBERS: u8 = b'n';
    /// Intent.
    pub const INTENT: u8 = b'i';
    /// Profile of a group.
    pub const PROFILE: u8 = b'g';
    /// Attribute of a group.
    pub const ATTRIBUTE: u8 = b'p';
    /// What a group knows of a user who is no member.
    pub const OUTSIDER: u8 = b'j';
    /// Code of invitation.
    pub const CODE: u8 = b'c';
    /// Run of records.
    pub const RECORD: u8 = b'r';
    /// What a message said before it was edited.
    pub const VERSION: u8 = b'v';
    /// A message that was recalled.
    pub const RECALLED: u8 = b'x';
    /// When a message is to go.
    pub const EXPIRY: u8 = b't';
    /// Trimmed records are still rows.
    pub const FREED: u8 = b'd';
    /// A request key of a session.
    pub const SESSION_KEY: u8 = b'K';
    /// User head.
    pub const USER: u8 = b'u';
    /// Link.
    pub const LINK: u8 = b'l';
    /// What a user has set of a session.
    pub const EXTRAS: u8 = b'e';
    /// Numbers of acts on a user's own things.
    pub const SERIES: u8 = b'k';
    /// Relation.
    pub const RELATION: u8 = b'f';
    /// Errand.
    pub const ERRAND: u8 = b'o';
    /// A request key of a user.
    pub const USER_KEY: u8 = b'Q';
    /// How much was unread before an act moved cursors that comes in parts.
    pub const COUNTED: u8 = b'y';
    /// Rows of a user beside its head.
    pub const USER_PARTS: &[u8] = &[LINK, EXTRAS, SERIES, RELATION, ERRAND, USER_KEY, COUNTED];
    /// Rows of a session beside its head, its records with their versions, and its numbers: with these a snapshot has the whole of it.
    pub const SESSION_PARTS: &[u8] =
        &[MEMBER, SENDER, INTENT, RECALLED, EXPIRY, PROFILE, ATTRIBUTE, OUTSIDER, CODE, FREED, SESSION_KEY];
}

/// The device that numbers its acts: (user, device, epoch).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SenderKey {
    /// User of the connection.
    pub user: UserId,
    /// Its device.
    pub device: DeviceId,
    /// The device's registration.
    pub epoch: u32,
}

/// `letter` followed by the session's name.
pub fn session(letter: u8, session: &SessionId) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(96);
    out.extend_from_slice(&[letter]);
    encode_into(session, &mut out);
    out.to_vec()
}

/// `letter`, session, user.
pub fn session_user(letter: u8, id: &SessionId, user: &UserId) -> Vec<u8> {
    let mut out = session(letter, id);
    push_text(&mut out, user.as_str());
    out
}

/// An attribute of a group.
pub fn attribute(id: &SessionId, key: &AttributeKey) -> Vec<u8> {
    let mut out = session(letter::ATTRIBUTE, id);
    push_text(&mut out, key.as_str());
    out
}

/// A request key of a session.
pub fn session_key(id: &SessionId, key: &RequestKey) -> Vec<u8> {
    let mut out = session(letter::SESSION_KEY, id);
    push_text(&mut out, key.as_str());
    out
}

/// A request key of a user.
pub fn user_key(of: &UserId, key: &RequestKey) -> Vec<u8> {
    let mut out = user(letter::USER_KEY, of);
    push_text(&mut out, key.as_str());
    out
}

/// Session and sender, for a sender row or as the front of its runs.
pub fn sender(letter: u8, id: &SessionId, sender: &SenderKey) -> Vec<u8> {
    let mut out = session_user(letter, id, &sender.user);
    push_text(&mut out, sender.device.as_str());
    out.extend_from_slice(&sender.epoch.to_be_bytes());
    out
}

/// A run of numbers that begins at `first`.
pub fn numbers(id: &SessionId, key: &SenderKey, first: u64) -> Vec<u8> {
    let mut out = sender(letter::NUMBERS, id, key);
    out.extend_from_slice(&first.to_be_bytes());
    out
}

/// A run of records that begins with this seq.
pub fn record(id: &SessionId, seq: u64) -> Vec<u8> {
    let mut out = session(letter::RECORD, id);
    out.extend_from_slice(&seq.to_be_bytes());
    out
}

/// What the message with this seq said as the version of this number.
pub fn version(id: &SessionId, seq: u64, number: u64) -> Vec<u8> {
    let mut out = session(letter::VERSION, id);
    out.extend_from_slice(&seq.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    out
}

/// The recalled message with this running count.
pub fn recalled(id: &SessionId, count: u64) -> Vec<u8> {
    let mut out = session(letter::RECALLED, id);
    out.extend_from_slice(&count.to_be_bytes());
    out
}

/// When the message with this seq is to go.
pub fn expiry(id: &SessionId, seq: u64) -> Vec<u8> {
    let mut out = session(letter::EXPIRY, id);
    out.extend_from_slice(&seq.to_be_bytes());
    out
}

/// A code of invitation.
pub fn code(id: &SessionId, code: u64) -> Vec<u8> {
    let mut out = session(letter::CODE, id);
    out.extend_from_slice(&code.to_be_bytes());
    out
}

/// `letter` followed by the user's name.
pub fn user(letter: u8, user: &UserId) -> Vec<u8> {
    let mut out = vec![letter];
    push_text(&mut out, user.as_str());
    out
}

/// `letter`, user and session: a link of a user, or what it has set there.
pub fn user_session(letter: u8, of: &UserId, to: &SessionId) -> Vec<u8> {
    let mut out = BytesMut::from(user(letter, of).as_slice());
    encode_into(to, &mut out);
    out.to_vec()
}

/// The numbers of who acts on a user's own things.
pub fn series(of: &UserId, key: &SenderKey) -> Vec<u8> {
    let mut out = user(letter::SERIES, of);
    push_text(&mut out, key.user.as_str());
    push_text(&mut out, key.device.as_str());
    out.extend_from_slice(&key.epoch.to_be_bytes());
    out
}

/// A relation of a user.
pub fn relation(of: &UserId, to: &UserId) -> Vec<u8> {
    let mut out = user(letter::RELATION, of);
    push_text(&mut out, to.as_str());
    out
}

/// An errand of a user.
pub fn errand(of: &UserId, kind: ErrandKind, to: &UserId) -> Vec<u8> {
    let mut out = user(letter::ERRAND, of);
    out.push(kind as u8);
    push_text(&mut out, to.as_str());
    out
}

/// Names have at most 64 bytes, so one byte holds the length and keeps names self-delimiting.
fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// Reads a name written by `push_text` from the front of `bytes`.
pub fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let (&length, rest) = bytes.split_first()?;
    let text = rest.get(..usize::from(length))?;
    *bytes = &rest[usize::from(length)..];
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::letter;

    #[test]
    fn no_two_kinds_of_rows_share_a_letter() {
        let heads = [
            letter::APPLIED,
            letter::UNPURGED,
            letter::HEAD,
            letter::NUMBERS,
            letter::RECORD,
            letter::VERSION,
            letter::USER,
        ];
        let all = [&heads[..], letter::USER_PARTS, letter::SESSION_PARTS].concat();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}

//! Names of users, devices, groups and sessions, checked once when they enter.

use std::fmt;
use std::str::FromStr;

use bincode::de::{BorrowDecoder, Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use xxhash_rust::xxh3::xxh3_64;

/// Longest name of a user, device or group, in bytes of UTF-8.
pub const MAX_ID_BYTES: usize = 64;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdFault {
    /// Empty or longer than [`MAX_ID_BYTES`].
    #[error("a name has 1 to {MAX_ID_BYTES} bytes, this one has {0}")]
    Length(usize),
    /// A control character in it.
    #[error("a name holds no control characters")]
    Control,
    /// A direct session of a user with itself.
    #[error("a direct session needs two different users")]
    SameUser,
    /// Text that is neither `direct:USER,USER` nor `group:NAME`.
    #[error(r"not a session: write group:NAME or direct:USER,USER, a comma within a name as \, and \ as \\")]
    Session,
}

fn checked(text: &str) -> Result<SmolStr, IdFault> {
    if text.is_empty() || text.len() > MAX_ID_BYTES {
        return Err(IdFault::Length(text.len()));
    }
    // Most names are of plain ASCII, which one look at all bytes tells, without a branch for each.
    let plain = text.bytes().fold(true, |plain, byte| plain & (b' '..=b'~').contains(&byte));
    let control = !plain && text.chars().any(char::is_control);
    if control {
        return Err(IdFault::Control);
    }
    Ok(SmolStr::new(text))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(SmolStr);

        impl $name {
            /// Checks and takes a name of 1 to [`MAX_ID_BYTES`] bytes without control characters.
            ///
            /// # Errors
            /// [`IdFault`] says what is wrong with it.
            pub fn new(text: &str) -> Result<Self, IdFault> {
                checked(text).map(Self)
            }
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.0.as_str(), f)
            }
        }
        impl FromStr for $name {
            type Err = IdFault;
            fn from_str(text: &str) -> Result<Self, IdFault> {
                Self::new(text)
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdFault;
            fn try_from(text: String) -> Result<Self, IdFault> {
                Self::new(&text)
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.to_string()
            }
        }
        impl Encode for $name {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                self.0.as_str().encode(encoder)
            }
        }
        impl<C> Decode<C> for $name {
            fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
                decode_text(decoder).map(Self)
            }
        }
        impl<'de, C> bincode::BorrowDecode<'de, C> for $name {
            fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
                decode_text(decoder).map(Self)
            }
        }
    };
}

/// Reads a short text without an allocation of its own: length, then at most [`MAX_ID_BYTES`] bytes.
fn decode_text<D: Decoder>(decoder: &mut D) -> Result<SmolStr, DecodeError> {
    use bincode::de::read::Reader;
    let len = <u64 as Decode<D::Context>>::decode(decoder)?;
    let mut buffer = [0u8; MAX_ID_BYTES];
    let wanted = usize::try_from(len).unwrap_or(usize::MAX);
    let Some(slot) = buffer.get_mut(..wanted) else {
        return Err(DecodeError::OtherString(IdFault::Length(wanted).to_string()));
    };
    decoder.claim_bytes_read(wanted)?;
    decoder.reader().read(slot)?;
    let text = std::str::from_utf8(slot).map_err(|fault| DecodeError::OtherString(fault.to_string()))?;
    checked(text).map_err(|fault| DecodeError::OtherString(fault.to_string()))
}

id!(
    /// A user, named by the business: 1–64 bytes of UTF-8.
    UserId
);
id!(
    /// One device of a user: 1–64 bytes of UTF-8, unique for that user.
    DeviceId
);
id!(
    /// A group, named by the business: 1–64 bytes of UTF-8.
    GroupId
);
id!(
    /// An attribute of a group, named by the application: 1–64 bytes of UTF-8.
    AttributeKey
);
id!(
    /// What a backend calls one of its requests, so that a repeat is known: 1–64 bytes of UTF-8.
    RequestKey
);

/// A conversation. Direct sessions are named by their sorted pair, so both sides name the same one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SessionId {
    /// Two users, `low < high` by bytes.
    Direct {
        /// The lesser name.
        low: UserId,
        /// The greater name.
        high: UserId,
    },
    /// A group.
    Group(GroupId),
}

impl SessionId {
    /// The direct session of two users, in whichever order they are given.
    ///
    /// # Errors
    /// [`IdFault::SameUser`] when both are the same.
    pub fn direct(a: &UserId, b: &UserId) -> Result<Self, IdFault> {
        match a.cmp(b) {
            std::cmp::Ordering::Less => Ok(Self::Direct { low: a.clone(), high: b.clone() }),
            std::cmp::Ordering::Greater => Ok(Self::Direct { low: b.clone(), high: a.clone() }),
            std::cmp::Ordering::Equal => Err(IdFault::SameUser),
        }
    }

    /// The group's session.
    pub fn group(group: GroupId) -> Self {
        Self::Group(group)
    }

    /// Whether `user` is one of a direct session's two; `None` for a group, which alone knows its members.
    pub fn pair_has(&self, user: &UserId) -> Option<bool> {
        match self {
            Self::Direct { low, high } => Some(low == user || high == user),
            Self::Group(_) => None,
        }
    }

    /// The other side of a direct session.
    pub fn peer_of(&self, user: &UserId) -> Option<&UserId> {
        match self {
            Self::Direct { low, high } if low == user => Some(high),
            Self::Direct { low, high } if high == user => Some(low),
            _ => None,
        }
    }

    /// Placement hash: xxh3-64 over a tag byte and the names, lengths first. Part of the data format.
    pub fn hash64(&self) -> u64 {
        match self {
            Self::Direct { low, high } => {
                hash_of([&[0, low.as_str().len() as u8], low.as_str().as_bytes(), high.as_str().as_bytes()])
            }
            Self::Group(group) => hash_of([&[1], group.as_str().as_bytes(), &[]]),
        }
    }
}

impl UserId {
    /// Placement hash of the user's own actor: xxh3-64 over the tag byte 2 and the name. Part of the data format.
    pub fn hash64(&self) -> u64 {
        hash_of([&[2], self.as_str().as_bytes(), &[]])
    }
}

/// xxh3-64 of the parts one after another, at most two bytes and two names.
fn hash_of(parts: [&[u8]; 3]) -> u64 {
    let mut bytes = [0; 2 + 2 * MAX_ID_BYTES];
    let mut len = 0;
    for part in parts {
        bytes[len..len + part.len()].copy_from_slice(part);
        len += part.len();
    }
    xxh3_64(&bytes[..len])
}

/// `group:NAME` or `direct:LOW,HIGH`, where a comma within a name is written `\,` and a backslash `\\`, so that
/// no two sessions have the same text.
impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct { low, high } => {
                f.write_str("direct:")?;
                write_escaped(low.as_str(), f)?;
                f.write_str(",")?;
                write_escaped(high.as_str(), f)
            }
            Self::Group(group) => write!(f, "group:{group}"),
        }
    }
}

fn write_escaped(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for part in name.split_inclusive([',', '\\']) {
        match part.strip_suffix([',', '\\']) {
            Some(plain) => write!(f, "{plain}\\{}", &part[plain.len()..])?,
            None => f.write_str(part)?,
        }
    }
    Ok(())
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads what `Display` writes. The pair may be given in either order.
impl FromStr for SessionId {
    type Err = IdFault;
    fn from_str(text: &str) -> Result<Self, IdFault> {
        if let Some(group) = text.strip_prefix("group:") {
            return GroupId::new(group).map(Self::Group);
        }
        let pair = text.strip_prefix("direct:").ok_or(IdFault::Session)?;
        let (a, b) = split_pair(pair)?;
        Self::direct(&UserId::new(&a)?, &UserId::new(&b)?)
    }
}

/// Cuts at the only comma that is not escaped, and takes the escapes out.
fn split_pair(text: &str) -> Result<(String, String), IdFault> {
    let (mut first, mut name) = (None, String::new());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => name.push(chars.next().filter(|c| matches!(c, ',' | '\\')).ok_or(IdFault::Session)?),
            ',' if first.is_none() => first = Some(std::mem::take(&mut name)),
            ',' => return Err(IdFault::Session),
            c => name.push(c),
        }
    }
    first.map(|first| (first, name)).ok_or(IdFault::Session)
}

impl Serialize for SessionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// `0` low high, or `1` group; texts as length and bytes.
impl Encode for SessionId {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Direct { low, high } => {
                0u8.encode(encoder)?;
                low.encode(encoder)?;
                high.encode(encoder)
            }
            Self::Group(group) => {
                1u8.encode(encoder)?;
                group.encode(encoder)
            }
        }
    }
}

impl<C> Decode<C> for SessionId {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match <u8 as Decode<C>>::decode(decoder)? {
            0 => {
                let low = <UserId as Decode<C>>::decode(decoder)?;
                let high = <UserId as Decode<C>>::decode(decoder)?;
                if low < high {
                    Ok(Self::Direct { low, high })
                } else {
                    Err(DecodeError::OtherString("the pair of a direct session is not sorted".to_owned()))
                }
            }
            1 => <GroupId as Decode<C>>::decode(decoder).map(Self::Group),
            tag => Err(DecodeError::OtherString(format!("unknown kind of session {tag}"))),
        }
    }
}

impl<'de, C> bincode::BorrowDecode<'de, C> for SessionId {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        <Self as Decode<C>>::decode(decoder)
    }
}

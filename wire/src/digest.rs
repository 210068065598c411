//! The digest of a session: one hash over the unchanging part of its history, record by record, so that two who hold the
//! same history up to a seq see it in one comparison.
//!
//! ```text
//! d(0) = SHA-256("rookery digest 1" ‖ session)
//! d(n) = SHA-256(d(n-1) ‖ h(n) ‖ unchanging fields of record n)
//! h(n) = SHA-256(salt ‖ content type ‖ content ‖ extensions)
//! ```
//! Everything is hashed as it is encoded in a record, lengths included. A salt is drawn for each message with content and
//! goes with it: what is left of a recalled, expired or edited message carries `h(n)` instead ([`ContentHash`]), so the
//! digest stays as it was and nobody can find the content by guessing.
//!
//! Works on encoded records and copies nothing; says nothing of the content an edit has put in, nor of who recalled.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::codec::{Blob, DecodeFault, Source, encode};
use crate::id::SessionId;
use crate::record::{Extension, Record, RecordKind, Rewritten};

/// The data of the extension with [`Salt::TAG`], which the cluster adds to a message with content: random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(pub [u8; Self::BYTES]);

impl Salt {
    /// The tag of the extension.
    pub const TAG: u16 = 8;
    /// Its length: nobody guesses 128 bits to find out what a recalled message said.
    pub const BYTES: usize = 16;

    /// As a record carries it.
    pub fn extension(self) -> Extension {
        Extension { tag: Self::TAG, data: Blob(Bytes::copy_from_slice(&self.0)) }
    }
}

/// The data of the extension with [`ContentHash::TAG`]: `h(n)` of a message whose first content is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// The tag of the extension.
    pub const TAG: u16 = 9;

    /// Of a record as it is: what it carries, else the hash of what it says.
    pub fn of(record: &Record) -> Self {
        let encoded = encode(record);
        // What was just encoded can be read.
        Parts::of(&encoded).map_or(Self([0; 32]), |parts| Self(parts.content_hash()))
    }

    /// As a record carries it.
    pub fn extension(self) -> Extension {
        Extension { tag: Self::TAG, data: Blob(Bytes::copy_from_slice(&self.0)) }
    }
}

/// The running digest of a session up to and including one record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Before the first record.
    pub fn begin(session: &SessionId) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"rookery digest 1");
        hash.update(encode(session));
        Self(hash.finalize().into())
    }

    /// After one more record, given as it is encoded.
    ///
    /// # Errors
    /// [`DecodeFault`] when the bytes are no record.
    pub fn then(&self, record: &[u8]) -> Result<Self, DecodeFault> {
        let parts = Parts::of(record)?;
        let mut hash = Sha256::new();
        let mut head = [0; 64];
        head[..32].copy_from_slice(&self.0);
        head[32..].copy_from_slice(&parts.content_hash());
        hash.update(head);
        hash.update(parts.fields);
        hash.update(parts.kind);
        Ok(Self(hash.finalize().into()))
    }

    /// After one more record.
    #[must_use]
    pub fn then_record(&self, record: &Record) -> Self {
        // What was just encoded can be read.
        self.then(&encode(record)).unwrap_or(*self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct NoDigest;

impl FromStr for Digest {
    type Err = NoDigest;
    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(NoDigest);
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| NoDigest)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// `DIGEST`: the digest of a session at a seq.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DigestAt {
    /// Where.
    pub session: SessionId,
    /// Up to and including this record; 0 for the last there is. From one before the first that the user may read on.
    pub seq: u64,
    /// How fresh.
    pub consistency: crate::request::Consistency,
}

/// `DIGEST_REPLY`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct DigestReply {
    /// Where.
    pub session: SessionId,
    /// Of which record.
    pub seq: u64,
    /// The digest there.
    pub digest: Digest,
    /// The first seq that the user may read and that is kept.
    pub first_seq: u64,
    /// The digest just before it.
    pub before: Digest,
}

/// An encoded record, taken apart.
struct Parts<'a> {
    /// `seq` to `client_seq`.
    fields: &'a [u8],
    /// The kind; content that is gone is still of the kind it was.
    kind: &'a [u8],
    /// Content type and content.
    content: &'a [u8],
    /// Every extension with its tag.
    extensions: Extensions<'a>,
    /// Drawn for it, if it was.
    salt: &'a [u8],
    /// What stands for content that is no more.
    gone: Option<[u8; 32]>,
    /// Whether there are extensions that are said by the sender.
    said: bool,
}

/// Extensions that the cluster adds, and changes.
fn is_ours(tag: u16) -> bool {
    [Rewritten::TAG, Salt::TAG, ContentHash::TAG].contains(&tag)
}

impl<'a> Parts<'a> {
    fn of(record: &'a [u8]) -> Result<Self, DecodeFault> {
        let mut left = Cut(record);
        // seq, message_id, time_ms, count
        for _ in 0..4 {
            left.number()?;
        }
        // sender, device
        left.text()?;
        left.text()?;
        // epoch, client_seq
        left.number()?;
        left.number()?;
        let (fields, rest) = record.split_at(record.len() - left.0.len());
        let kind = left.number()?;
        let (kind_bytes, rest) = rest.split_at(rest.len() - left.0.len());
        let no_more = [RecordKind::RECALLED, RecordKind::EXPIRED, RecordKind::DELETED];
        let kind = if no_more.iter().any(|left| u64::from(left.0) == kind) { &[0] } else { kind_bytes };
        left.text()?;
        left.text()?;
        let content = &rest[..rest.len() - left.0.len()];
        let count = left.number()?;
        let extensions = Extensions { left: left.0, count };
        let (mut salt, mut gone, mut said) = ([0; Salt::BYTES].as_slice(), None, false);
        let mut walk = extensions;
        while let Some((tag, data, _)) = walk.next()? {
            match tag {
                Salt::TAG => salt = data,
                ContentHash::TAG if gone.is_none() => gone = data.try_into().ok(),
                tag => said |= !is_ours(tag),
            }
        }
        if !walk.left.is_empty() {
            return Err(DecodeFault::Trailing(walk.left.len()));
        }
        Ok(Self { fields, kind, content, extensions, salt, gone, said })
    }

    fn content_hash(&self) -> [u8; 32] {
        if let Some(hash) = self.gone {
            return hash;
        }
        let mut hash = Sha256::new();
        hash.update(self.salt);
        hash.update(self.content);
        let mut walk = self.extensions;
        while self.said
            && let Ok(Some((tag, _, whole))) = walk.next()
        {
            if !is_ours(tag) {
                hash.update(whole);
            }
        }
        hash.finalize().into()
    }
}

/// The extensions of an encoded record.
#[derive(Clone, Copy)]
struct Extensions<'a> {
    left: &'a [u8],
    count: u64,
}

impl<'a> Extensions<'a> {
    /// Tag, data, and the whole of the next one.
    fn next(&mut self) -> Result<Option<(u16, &'a [u8], &'a [u8])>, DecodeFault> {
        let Some(count) = self.count.checked_sub(1) else { return Ok(None) };
        let whole = self.left;
        let mut left = Cut(whole);
        let tag = left.number()?;
        let data = left.text()?;
        (self.left, self.count) = (left.0, count);
        let tag = u16::try_from(tag).map_err(|_| short())?;
        Ok(Some((tag, data, &whole[..whole.len() - left.0.len()])))
    }
}

/// What is left of the bytes, from the front.
struct Cut<'a>(&'a [u8]);

impl<'a> Cut<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeFault> {
        let (taken, left) = self.0.split_at_checked(count).ok_or_else(short)?;
        self.0 = left;
        Ok(taken)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], DecodeFault> {
        let (taken, left) = self.0.split_first_chunk().ok_or_else(short)?;
        self.0 = left;
        Ok(*taken)
    }

    /// A whole number as bincode writes it.
    fn number(&mut self) -> Result<u64, DecodeFault> {
        match self.bytes::<1>()?[0] {
            small @ 0..=250 => Ok(u64::from(small)),
            251 => Ok(u64::from(u16::from_le_bytes(self.bytes()?))),
            252 => Ok(u64::from(u32::from_le_bytes(self.bytes()?))),
            253 => Ok(u64::from_le_bytes(self.bytes()?)),
            254.. => Err(short()),
        }
    }

    /// Bytes behind their length.
    fn text(&mut self) -> Result<&'a [u8], DecodeFault> {
        let length = self.number()?;
        self.take(usize::try_from(length).map_err(|_| short())?)
    }
}

fn short() -> DecodeFault {
    DecodeFault::Malformed("not an encoded record".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{DeviceId, GroupId, UserId};
    use crate::record::{Burns, FIRST_APPLICATION_TAG};

    fn record(content: &[u8]) -> Record {
        Record {
            seq: 300,
            message_id: u64::MAX / 3,
            time_ms: 1_790_000_000_000,
            count: 251,
            sender: UserId::new("ann").unwrap(),
            device: DeviceId::new("phone").unwrap(),
            epoch: 70_000,
            client_seq: 9,
            kind: RecordKind::CONTENT,
            content_type: Blob::from("text/plain"),
            content: Blob(Bytes::copy_from_slice(content)),
            extensions: vec![
                Extension { tag: FIRST_APPLICATION_TAG, data: Blob::from("thread 7") },
                Salt([7; 16]).extension(),
            ],
        }
    }

    fn start() -> Digest {
        Digest::begin(&SessionId::group(GroupId::new("team").unwrap()))
    }

    /// The same by the words of the specification, field by field.
    #[test]
    fn it_is_what_the_specification_says() {
        let record = record(&[9; 300]);
        let field = |bytes: &[&[u8]]| bytes.concat();
        let number = |number: u64| encode(&number).to_vec();
        let blob = |bytes: &[u8]| field(&[&number(bytes.len() as u64), bytes]);
        let content: [u8; 32] = Sha256::new()
            .chain_update([7; 16])
            .chain_update(blob(b"text/plain"))
            .chain_update(blob(&[9; 300]))
            .chain_update(number(1024))
            .chain_update(blob(b"thread 7"))
            .finalize()
            .into();
        let hash = Sha256::new()
            .chain_update(start().0)
            .chain_update(content)
            .chain_update(number(300))
            .chain_update(number(u64::MAX / 3))
            .chain_update(number(1_790_000_000_000))
            .chain_update(number(251))
            .chain_update(blob(b"ann"))
            .chain_update(blob(b"phone"))
            .chain_update(number(70_000))
            .chain_update(number(9))
            .chain_update([0]);
        assert_eq!(start().then_record(&record).0, <[u8; 32]>::from(hash.finalize()));
        assert_eq!(ContentHash::of(&record).0, content);
    }

    #[test]
    fn what_is_left_of_a_message_has_the_digest_of_the_message() {
        let whole = record(b"the secret");
        let digest = start().then_record(&whole);
        let hash = ContentHash::of(&whole);
        let mark = Extension { tag: Rewritten::TAG, data: Blob::from("who and when") };
        for kind in [RecordKind::RECALLED, RecordKind::EXPIRED, RecordKind::DELETED] {
            let left = Record {
                kind,
                content_type: Blob::default(),
                content: Blob::default(),
                extensions: vec![mark.clone(), hash.extension()],
                ..whole.clone()
            };
            assert_eq!(start().then_record(&left), digest);
            assert_eq!(ContentHash::of(&left), hash);
        }
        let mut edited = Record { content: Blob::from("other"), ..whole };
        edited.extensions =
            vec![Extension { tag: Burns::TAG, data: Blob::from("x") }, mark, hash.extension()];
        assert_eq!(start().then_record(&edited), digest);
        // Without the hash it is another message.
        edited.extensions.pop();
        assert_ne!(start().then_record(&edited), digest);
    }

    #[test]
    fn every_unchanging_field_changes_it() {
        let base = record(b"hi");
        let digest = start().then_record(&base);
        type Change = fn(&mut Record);
        let changes: [Change; 15] = [
            |it| it.seq += 1,
            |it| it.message_id += 1,
            |it| it.time_ms += 1,
            |it| it.count += 1,
            |it| it.sender = UserId::new("bob").unwrap(),
            |it| it.device = DeviceId::new("phones").unwrap(),
            |it| it.epoch += 1,
            |it| it.client_seq += 1,
            |it| it.kind = RecordKind::RECALL,
            |it| it.kind = RecordKind(999),
            |it| it.content_type = Blob::from("text/plai"),
            |it| it.content = Blob::from("hj"),
            |it| it.extensions[0].tag += 1,
            |it| it.extensions[0].data = Blob::from("thread 8"),
            |it| it.extensions[1] = Salt([8; 16]).extension(),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut other = base.clone();
            change(&mut other);
            assert_ne!(start().then_record(&other), digest, "change {at}");
        }
        // What moves between neighbouring fields is noticed too.
        let mut moved = base.clone();
        (moved.content_type, moved.content) = (Blob::from("text/plainh"), Blob::from("i"));
        assert_ne!(start().then_record(&moved), digest);
    }

    #[test]
    fn bytes_that_are_no_record_are_refused() {
        let whole = encode(&record(b"hi"));
        assert!(start().then(&whole).is_ok());
        for cut in 0..whole.len() {
            assert!(start().then(&whole[..cut]).is_err(), "{cut} bytes");
        }
        assert!(start().then(&[&whole[..], &[0]].concat()).is_err());
    }

    /// `cargo test --release -p rookery-wire --lib digest -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn what_a_record_costs() {
        for bytes in [16, 256, 4096] {
            let encoded = encode(&record(&vec![9; bytes]));
            let rounds = 200_000u32;
            let begun = std::time::Instant::now();
            let digest = (0..rounds).fold(start(), |digest, _| digest.then(&encoded).unwrap());
            let each = begun.elapsed() / rounds;
            println!("{bytes} bytes of content, {} encoded: {each:?} a record ({digest})", encoded.len());
        }
    }

    #[test]
    fn it_goes_into_text_and_back() {
        let digest = start();
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for wrong in ["", "zz", &"g".repeat(64), &"ä".repeat(32)] {
            assert_eq!(wrong.parse::<Digest>(), Err(NoDigest));
        }
    }
}

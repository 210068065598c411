//! One record: an entry, a vote, a truncation, a purge or a commit note of one group, as bytes.
//!
//! The same bytes stand in the journal's batches and, for entries, in sled, so an entry is encoded once. Owns the byte
//! layout; must never hand out bytes whose checksum it has not compared (except `iter_trusted`, for bytes this process
//! has just made).
//!
//! ```text
//!  0 u32 length of the record      16 u8 kind   17 u8 form   18 u16 zero   20 u32 group
//!  4 u32 crc32c of bytes 16..      24 u64 term  32 u64 store 40 u64 index  48 u16 node  50 6 × zero
//!  8 u64 chain (see `meta`)        56 payload (entries only)                       (little-endian throughout)
//! ```
//! `chain` stands outside the checksum because it is made of it; comparing chains at open protects it.

use bytes::Bytes;
use openraft::EntryPayload as Carried;

use crate::types::{Entry, GroupId, LeaderId, LogId, Membership, Payload, RaftId, Vote};

/// Bytes before the payload.
pub(crate) const HEAD: usize = 56;
const CRC_FROM: usize = 16;

/// What a record says. `form` is: of an entry, the kind of its payload; of a vote, 1 when committed; otherwise 1 when
/// the log id is present and 0 when it stands for "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Entry = 1,
    Vote = 2,
    Truncate = 3,
    Purge = 4,
    Committed = 5,
}

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// A record read in place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) kind: Kind,
    pub(crate) form: u8,
    pub(crate) group: GroupId,
    pub(crate) crc: u32,
    pub(crate) chain: u64,
    id: LogId,
    /// The whole record, head included.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// The id of the entry, or the point of a truncation, purge or commit note.
    pub(crate) fn log_id(&self) -> Option<LogId> {
        (self.kind == Kind::Entry || self.form != 0).then_some(self.id)
    }

    pub(crate) fn vote(&self) -> Vote {
        Vote { leader_id: self.id.leader_id, committed: self.form == 1 }
    }

    /// Reads the record at the front of `buf`, comparing its checksum; returns it with the rest.
    pub(crate) fn parse(buf: &'a [u8]) -> Result<(Self, &'a [u8]), &'static str> {
        let (record, rest) = Self::split(buf)?;
        if crc32c::crc32c(&record.bytes[CRC_FROM..]) != record.crc {
            return Err("a record fails its checksum");
        }
        Ok((record, rest))
    }

    fn split(buf: &'a [u8]) -> Result<(Self, &'a [u8]), &'static str> {
        let length = u32_at(buf, 0).ok_or("a record is cut off")? as usize;
        if length < HEAD || length > buf.len() {
            return Err("a record has an impossible length");
        }
        let (bytes, rest) = buf.split_at(length);
        let kind = match bytes[16] {
            1 => Kind::Entry,
            2 => Kind::Vote,
            3 => Kind::Truncate,
            4 => Kind::Purge,
            5 => Kind::Committed,
            _ => return Err("a record is of an unknown kind"),
        };
        let word = |at| u64_at(bytes, at);
        let node = u16::from_le_bytes([bytes[48], bytes[49]]);
        let leader = LeaderId { term: word(24), node_id: RaftId::new(node, word(32)) };
        let record = Self {
            kind,
            form: bytes[17],
            group: u32_at(bytes, 20).unwrap_or_default(),
            crc: u32_at(bytes, 4).unwrap_or_default(),
            chain: word(8),
            id: LogId { leader_id: leader, index: word(40) },
            bytes,
        };
        Ok((record, rest))
    }

    /// Records that this process encoded a moment ago, without hashing them again.
    pub(crate) fn iter_trusted(mut body: &'a [u8]) -> impl Iterator<Item = Record<'a>> {
        std::iter::from_fn(move || {
            let (record, rest) = Self::split(body).ok()?;
            body = rest;
            Some(record)
        })
    }
}

/// Appends an entry to `out`. `chain_after` turns the record's checksum into its chain. Returns that chain.
pub(crate) fn push_entry(
    out: &mut Vec<u8>,
    group: GroupId,
    entry: &Entry,
    chain_after: impl FnOnce(u32) -> u64,
) -> Result<u64, &'static str> {
    let start = out.len();
    let form = match &entry.payload {
        Carried::Blank => BLANK,
        Carried::Normal(_) => NORMAL,
        Carried::Membership(_) => MEMBERSHIP,
    };
    push_head(out, Kind::Entry, form, group, Some(entry.log_id));
    match &entry.payload {
        Carried::Blank => {}
        Carried::Normal(payload) => out.extend_from_slice(&payload.0),
        Carried::Membership(membership) => {
            bincode::serde::encode_into_std_write(membership, out, bincode::config::standard())
                .map_err(|_| "a membership cannot be encoded")?;
        }
    }
    let crc = seal(out, start)?;
    let chain = chain_after(crc);
    out[start + 8..start + 16].copy_from_slice(&chain.to_le_bytes());
    Ok(chain)
}

/// Appends a vote.
pub(crate) fn push_vote(out: &mut Vec<u8>, group: GroupId, vote: &Vote) -> Result<(), &'static str> {
    let start = out.len();
    let id = LogId { leader_id: vote.leader_id, index: 0 };
    push_head(out, Kind::Vote, u8::from(vote.committed), group, Some(id));
    seal(out, start).map(drop)
}

/// Appends a truncation, purge or commit note.
pub(crate) fn push_point(
    out: &mut Vec<u8>,
    kind: Kind,
    group: GroupId,
    at: Option<LogId>,
) -> Result<(), &'static str> {
    let start = out.len();
    push_head(out, kind, u8::from(at.is_some()), group, at);
    seal(out, start).map(drop)
}

fn push_head(out: &mut Vec<u8>, kind: Kind, form: u8, group: GroupId, id: Option<LogId>) {
    let start = out.len();
    out.resize(start + HEAD, 0);
    let head = &mut out[start..];
    head[16] = kind as u8;
    head[17] = form;
    head[20..24].copy_from_slice(&group.to_le_bytes());
    if let Some(id) = id {
        head[24..32].copy_from_slice(&id.leader_id.term.to_le_bytes());
        head[32..40].copy_from_slice(&id.leader_id.node_id.store.to_le_bytes());
        head[40..48].copy_from_slice(&id.index.to_le_bytes());
        head[48..50].copy_from_slice(&id.leader_id.node_id.node.to_le_bytes());
    }
}

fn seal(out: &mut [u8], start: usize) -> Result<u32, &'static str> {
    let length = u32::try_from(out.len() - start).map_err(|_| "a record is larger than 4 GiB")?;
    let crc = crc32c::crc32c(&out[start + CRC_FROM..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    Ok(crc)
}

/// Bytes `push_entry` will need, near enough for bounds.
pub(crate) fn entry_size(entry: &Entry) -> usize {
    HEAD + match &entry.payload {
        Carried::Blank => 0,
        Carried::Normal(payload) => payload.0.len(),
        Carried::Membership(m) => 64 + m.nodes().count() * 32 * (1 + m.get_joint_config().len()),
    }
}

/// Turns a stored record back into an entry, comparing the checksum. The payload shares `stored`.
pub(crate) fn decode_entry(stored: Bytes) -> Result<(GroupId, Entry), &'static str> {
    let (record, rest) = Record::parse(&stored)?;
    if !rest.is_empty() || record.kind != Kind::Entry {
        return Err("the stored value is not one entry");
    }
    let payload = match record.form {
        BLANK => Carried::Blank,
        NORMAL => Carried::Normal(Payload(stored.slice(HEAD..))),
        MEMBERSHIP => Carried::Membership(decode_membership(&stored[HEAD..])?),
        _ => return Err("an entry has an unknown kind of payload"),
    };
    Ok((record.group, Entry { log_id: record.id, payload }))
}

fn decode_membership(bytes: &[u8]) -> Result<Membership, &'static str> {
    /// A membership has a handful of nodes; the limit keeps a hostile length from asking for memory.
    const LIMIT: usize = 1 << 20;
    let config = bincode::config::standard().with_limit::<LIMIT>();
    match bincode::serde::decode_from_slice(bytes, config) {
        Ok((membership, used)) if used == bytes.len() => Ok(membership),
        _ => Err("a membership cannot be decoded"),
    }
}

pub(crate) fn u32_at(buf: &[u8], at: usize) -> Option<u32> {
    let bytes = buf.get(at..at + 4)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Little-endian; 0 beyond the end, which the callers' length checks exclude.
pub(crate) fn u64_at(buf: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(bytes) = buf.get(at..at + 8) {
        word.copy_from_slice(bytes);
    }
    u64::from_le_bytes(word)
}

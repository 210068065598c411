//! What a group's log amounts to: vote, purge point, last log id, commit note, and a chained checksum of its entries.
//!
//! The journal's writer, the keeper of sled and the opening each fold the same records into a `GroupMeta`, and R1 rests
//! on their agreement: a segment header repeats the writer's, sled stores the keeper's, opening derives its own and
//! compares all three. Owns that fold and the meta's bytes; does no IO.
//!
//! The chain after entry i is a mix of the chain after i - 1 and the checksum of i. After a truncation or purge that
//! leaves no known predecessor it starts again from a seed made of the log id at that point.

use std::collections::BTreeMap;

use crate::types::{GroupId, LeaderId, LogId, RaftId, Vote};

use super::record::{Kind, Record, u32_at, u64_at};

/// The facts of one group that every copy must agree on. `committed` is a hint (never fsynced for its own sake), so it
/// takes no part in comparisons of R1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupMeta {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    /// Last entry, or the purge point when there is none.
    pub(crate) last: Option<LogId>,
    pub(crate) chain: u64,
    pub(crate) committed: Option<LogId>,
}

pub(crate) type Metas = BTreeMap<GroupId, GroupMeta>;

/// Bytes of an encoded meta.
pub(crate) const META_BYTES: usize = 128;

/// The chain after an entry with checksum `crc` that follows one with chain `before`.
pub(crate) fn chain(before: u64, crc: u32) -> u64 {
    (before.rotate_left(23) ^ u64::from(crc)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Where a chain begins when the predecessor is known by its id only.
pub(crate) fn seed(at: Option<LogId>) -> u64 {
    let Some(id) = at else { return 0x726f_6f6b_6572_7900 };
    [id.leader_id.term, u64::from(id.leader_id.node_id.node), id.leader_id.node_id.store, id.index]
        .into_iter()
        .fold(0x7365_6564, |acc: u64, word| (acc.rotate_left(29) ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd))
}

/// An empty log.
impl Default for GroupMeta {
    fn default() -> Self {
        Self { vote: None, purged: None, last: None, chain: seed(None), committed: None }
    }
}

impl GroupMeta {
    /// Takes `record` in. An error means that the record cannot follow what came before: damage, not a refusal.
    pub(crate) fn fold(&mut self, record: &Record<'_>) -> Result<(), &'static str> {
        match record.kind {
            Kind::Vote => self.vote = Some(record.vote()),
            // Two who take notes may come in another order than they took them in.
            Kind::Committed => self.committed = self.committed.max(record.log_id()),
            Kind::Truncate => self.truncate(record.log_id()),
            Kind::Purge => self.purge(record.log_id().ok_or("a purge without a point")?),
            Kind::Entry => {
                let id = record.log_id().ok_or("an entry without an id")?;
                if self.last.is_some_and(|last| last.index + 1 != id.index) {
                    return Err("an entry does not follow the one before it");
                }
                let chain = chain(self.chain, record.crc);
                if record.chain != chain {
                    return Err("the chained checksum of the log is broken");
                }
                (self.last, self.chain) = (Some(id), chain);
            }
        }
        Ok(())
    }

    pub(crate) fn truncate(&mut self, after: Option<LogId>) {
        if index_after(after) < index_after(self.last) {
            self.last = if index_after(after) < index_after(self.purged) { self.purged } else { after };
            self.chain = seed(self.last);
        }
    }

    /// Beyond the last entry too (R5): a checkpoint may be ahead of the log after a crash.
    pub(crate) fn purge(&mut self, upto: LogId) {
        if Some(upto.index) >= self.last.map(|l| l.index) && self.last != Some(upto) {
            (self.last, self.chain) = (Some(upto), seed(Some(upto)));
        }
        self.purged = self.purged.max(Some(upto));
    }

    /// Whether `other` states the same promises.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        (self.vote, self.purged, self.last, self.chain) == (other.vote, other.purged, other.last, other.chain)
    }

    pub(crate) fn encode(&self, group: GroupId) -> [u8; META_BYTES] {
        let mut out = [0; META_BYTES];
        out[4..8].copy_from_slice(&group.to_le_bytes());
        out[8..16].copy_from_slice(&self.chain.to_le_bytes());
        let vote = self.vote.map(|v| LogId { leader_id: v.leader_id, index: 0 });
        put_id(&mut out[16..44], vote, self.vote.is_some_and(|v| v.committed));
        put_id(&mut out[44..72], self.purged, false);
        put_id(&mut out[72..100], self.last, false);
        put_id(&mut out[100..128], self.committed, false);
        let crc = crc32c::crc32c(&out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<(GroupId, Self)> {
        if bytes.len() != META_BYTES || u32_at(bytes, 0)? != crc32c::crc32c(&bytes[4..]) {
            return None;
        }
        let (vote, committed) = get_id(&bytes[16..44]);
        let meta = Self {
            vote: vote.map(|v| Vote { leader_id: v.leader_id, committed }),
            purged: get_id(&bytes[44..72]).0,
            last: get_id(&bytes[72..100]).0,
            chain: u64_at(bytes, 8),
            committed: get_id(&bytes[100..128]).0,
        };
        Some((u32_at(bytes, 4)?, meta))
    }
}

/// The first index behind `id`.
pub(crate) fn index_after(id: Option<LogId>) -> u64 {
    id.map_or(0, |id| id.index.saturating_add(1))
}

/// flag u8 (0 none, 1 present, 3 present and committed), zero, node u16, term, store, index.
fn put_id(out: &mut [u8], id: Option<LogId>, committed: bool) {
    let Some(id) = id else { return };
    out[0] = if committed { 3 } else { 1 };
    out[2..4].copy_from_slice(&id.leader_id.node_id.node.to_le_bytes());
    out[4..12].copy_from_slice(&id.leader_id.term.to_le_bytes());
    out[12..20].copy_from_slice(&id.leader_id.node_id.store.to_le_bytes());
    out[20..28].copy_from_slice(&id.index.to_le_bytes());
}

fn get_id(bytes: &[u8]) -> (Option<LogId>, bool) {
    if bytes[0] == 0 {
        return (None, false);
    }
    let node = u16::from_le_bytes([bytes[2], bytes[3]]);
    let leader_id = LeaderId { term: u64_at(bytes, 4), node_id: RaftId::new(node, u64_at(bytes, 12)) };
    (Some(LogId { leader_id, index: u64_at(bytes, 20) }), bytes[0] == 3)
}

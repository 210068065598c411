//! How raft's own types are written, on the wire and in stored records: by hand, little-endian, fixed width.
//!
//! Owns: the bytes of ids, votes, memberships and entries. By hand because the bytes must stay the same when openraft's
//! derives change, and because serde walks a payload byte by byte. Reading never allocates by a length it has not
//! checked, and never panics: `None` is damage.
//!
//! ```text
//! RaftId           node u16, store u64
//! LogId            term u64, RaftId, index u64
//! Vote             term u64, RaftId, committed u8
//! Option<T>        0 | 1 T
//! Membership       configs u16, each: voters u16, RaftId…; nodes u16, RaftId…
//! StoredMembership Option<LogId>, Membership
//! Entry            LogId, kind u8 (0 blank, 1 bytes: len u32 + bytes, 2 Membership)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};

use crate::types::{
    Entry, EntryPayload, LeaderId, LogId, Membership, Payload, RaftId, StoredMembership, Vote,
};

/// What an encoder writes into: small things are copied, payloads may be shared.
pub(crate) trait Sink {
    /// Appends a copy.
    fn put_slice(&mut self, bytes: &[u8]);

    /// Appends a payload, without copying where the sink can.
    fn put_shared(&mut self, bytes: &Bytes) {
        self.put_slice(bytes);
    }

    fn put_u8(&mut self, value: u8) {
        self.put_slice(&[value]);
    }

    fn put_u16(&mut self, value: u16) {
        self.put_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.put_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.put_slice(&value.to_le_bytes());
    }
}

impl Sink for BytesMut {
    fn put_slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for Vec<u8> {
    fn put_slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

pub(crate) fn put_raft_id(out: &mut impl Sink, id: &RaftId) {
    out.put_u16(id.node);
    out.put_u64(id.store);
}

pub(crate) fn put_log_id(out: &mut impl Sink, id: &LogId) {
    out.put_u64(id.leader_id.term);
    put_raft_id(out, &id.leader_id.node_id);
    out.put_u64(id.index);
}

pub(crate) fn put_log_id_option(out: &mut impl Sink, id: Option<&LogId>) {
    match id {
        None => out.put_u8(0),
        Some(id) => {
            out.put_u8(1);
            put_log_id(out, id);
        }
    }
}

pub(crate) fn put_vote(out: &mut impl Sink, vote: &Vote) {
    out.put_u64(vote.leader_id.term);
    put_raft_id(out, &vote.leader_id.node_id);
    out.put_u8(u8::from(vote.committed));
}

fn put_ids<'a>(out: &mut impl Sink, ids: impl ExactSizeIterator<Item = &'a RaftId>) {
    out.put_u16(u16::try_from(ids.len()).unwrap_or(u16::MAX));
    for id in ids.take(usize::from(u16::MAX)) {
        put_raft_id(out, id);
    }
}

pub(crate) fn put_membership(out: &mut impl Sink, membership: &Membership) {
    let configs = membership.get_joint_config();
    out.put_u16(u16::try_from(configs.len()).unwrap_or(u16::MAX));
    for config in configs {
        put_ids(out, config.iter());
    }
    let nodes: Vec<RaftId> = membership.nodes().map(|(id, _)| *id).collect();
    put_ids(out, nodes.iter());
}

pub(crate) fn put_stored_membership(out: &mut impl Sink, stored: &StoredMembership) {
    put_log_id_option(out, stored.log_id().as_ref());
    put_membership(out, stored.membership());
}

/// Bytes that `put_entry` needs besides the payload.
pub(crate) const ENTRY_HEAD: usize = 31;

pub(crate) fn put_entry(out: &mut impl Sink, entry: &Entry) {
    put_log_id(out, &entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => out.put_u8(0),
        EntryPayload::Normal(Payload(bytes)) => {
            out.put_u8(1);
            out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            out.put_shared(bytes);
        }
        EntryPayload::Membership(membership) => {
            out.put_u8(2);
            put_membership(out, membership);
        }
    }
}

/// Reads what the functions above wrote. With an owner, payloads are slices of it; without, copies.
pub(crate) struct Take<'a> {
    rest: &'a [u8],
    owner: Option<&'a Bytes>,
}

impl<'a> Take<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, owner: None }
    }

    /// Payloads will share `bytes`.
    pub(crate) fn sharing(bytes: &'a Bytes) -> Self {
        Self { rest: bytes, owner: Some(bytes) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[b]| b)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length (u32) and as many bytes.
    pub(crate) fn shared(&mut self) -> Option<Bytes> {
        let len = usize::try_from(self.u32()?).ok()?;
        let slice = self.bytes(len)?;
        Some(match self.owner {
            Some(owner) => owner.slice_ref(slice),
            None => Bytes::copy_from_slice(slice),
        })
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn raft_id(&mut self) -> Option<RaftId> {
        Some(RaftId { node: self.u16()?, store: self.u64()? })
    }

    fn leader_id(&mut self) -> Option<LeaderId> {
        Some(LeaderId { term: self.u64()?, node_id: self.raft_id()? })
    }

    pub(crate) fn log_id(&mut self) -> Option<LogId> {
        Some(LogId { leader_id: self.leader_id()?, index: self.u64()? })
    }

    pub(crate) fn log_id_option(&mut self) -> Option<Option<LogId>> {
        Some(if self.flag()? { Some(self.log_id()?) } else { None })
    }

    pub(crate) fn vote(&mut self) -> Option<Vote> {
        Some(Vote { leader_id: self.leader_id()?, committed: self.flag()? })
    }

    fn ids(&mut self) -> Option<BTreeSet<RaftId>> {
        let count = self.u16()?;
        (0..count).map(|_| self.raft_id()).collect()
    }

    pub(crate) fn membership(&mut self) -> Option<Membership> {
        let configs = self.u16()?;
        let configs: Vec<BTreeSet<RaftId>> = (0..configs).map(|_| self.ids()).collect::<Option<_>>()?;
        let nodes: BTreeMap<RaftId, openraft::EmptyNode> =
            self.ids()?.into_iter().map(|id| (id, openraft::EmptyNode {})).collect();
        if configs.is_empty() && nodes.is_empty() {
            return Some(Membership::default());
        }
        Membership::new(configs, nodes).ok()
    }

    pub(crate) fn stored_membership(&mut self) -> Option<StoredMembership> {
        Some(StoredMembership::new(self.log_id_option()?, self.membership()?))
    }

    pub(crate) fn entry(&mut self) -> Option<Entry> {
        let log_id = self.log_id()?;
        let payload = match self.u8()? {
            0 => EntryPayload::Blank,
            1 => EntryPayload::Normal(Payload(self.shared()?)),
            2 => EntryPayload::Membership(self.membership()?),
            _ => return None,
        };
        Some(Entry { log_id, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(node: u16) -> RaftId {
        RaftId::new(node, 0x5f3a_0000 + u64::from(node))
    }

    fn log_id(term: u64, node: u16, index: u64) -> LogId {
        LogId { leader_id: LeaderId { term, node_id: id(node) }, index }
    }

    fn membership() -> Membership {
        let joint = vec![BTreeSet::from([id(1), id(2), id(3)]), BTreeSet::from([id(2), id(3), id(4)])];
        let nodes: BTreeMap<_, _> = (1..=5).map(|n| (id(n), openraft::EmptyNode {})).collect();
        Membership::new(joint, nodes).unwrap()
    }

    fn entries() -> Vec<Entry> {
        vec![
            Entry { log_id: log_id(1, 1, 1), payload: EntryPayload::Blank },
            Entry { log_id: log_id(1, 1, 2), payload: EntryPayload::Membership(membership()) },
            Entry {
                log_id: log_id(2, 3, 3),
                payload: EntryPayload::Normal(Payload(Bytes::from_static(b"hello"))),
            },
            Entry { log_id: log_id(2, 3, 4), payload: EntryPayload::Normal(Payload(Bytes::new())) },
        ]
    }

    #[test]
    fn entries_come_back_and_every_cut_is_noticed() {
        for entry in entries() {
            let mut out = BytesMut::new();
            put_entry(&mut out, &entry);
            let whole = out.freeze();
            let mut take = Take::sharing(&whole);
            assert_eq!(take.entry().as_ref(), Some(&entry));
            assert!(take.is_empty());
            for cut in 0..whole.len() {
                assert_eq!(Take::new(&whole[..cut]).entry(), None, "cut at {cut} of {entry:?}");
            }
        }
    }

    #[test]
    fn a_payload_is_a_slice_of_its_frame() {
        let mut out = BytesMut::new();
        put_entry(&mut out, &entries()[2]);
        let whole = out.freeze();
        let entry = Take::sharing(&whole).entry().unwrap();
        let EntryPayload::Normal(Payload(bytes)) = entry.payload else { panic!("not a payload") };
        assert!(whole.as_ptr_range().contains(&bytes.as_ptr()));
        assert_eq!(whole.len(), ENTRY_HEAD + 5);
    }

    #[test]
    fn votes_and_memberships_come_back() {
        let vote = Vote { leader_id: LeaderId { term: 9, node_id: id(2) }, committed: true };
        let stored = StoredMembership::new(Some(log_id(1, 1, 2)), membership());
        let mut out = BytesMut::new();
        put_vote(&mut out, &vote);
        put_stored_membership(&mut out, &stored);
        put_stored_membership(&mut out, &StoredMembership::default());
        let mut take = Take::new(&out);
        assert_eq!(take.vote(), Some(vote));
        assert_eq!(take.stored_membership(), Some(stored));
        assert_eq!(take.stored_membership(), Some(StoredMembership::default()));
        assert!(take.is_empty());
    }
}

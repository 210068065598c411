//! The message in which entries travel to a follower, in plain terms: what replicating costs besides the network.
//!
//! The bytes are those of [`super::rpc`] in a frame of the peer link; the stream that carries them is
//! [`super::replicate`]. Owns nothing; for measuring.

use bytes::Bytes;

use super::rpc::{Append, decode_append, encode_append};
use crate::peer::{read_bodies, whole};
use crate::types::{Entry, EntryPayload, GroupId, LeaderId, LogId, Payload, RaftId, Vote};

/// Largest frame that [`Envelope::open`] reads, bytes.
const MAX_FRAME: usize = 64 << 20;

/// Entries of one group on their way to a follower.
#[derive(Debug)]
pub struct Envelope {
    group: GroupId,
    append: Append,
}

impl Envelope {
    /// Entries of `term`, from index `first` (at least 1) on, with these payloads.
    pub fn new(group: GroupId, term: u64, first: u64, payloads: Vec<Bytes>) -> Self {
        let leader_id = LeaderId { term, node_id: RaftId::new(1, 7) };
        let entries: Vec<Entry> = payloads
            .into_iter()
            .zip(first..)
            .map(|(payload, index)| Entry {
                log_id: LogId { leader_id, index },
                payload: EntryPayload::Normal(Payload(payload)),
            })
            .collect();
        let before = Some(LogId { leader_id, index: first.saturating_sub(1) });
        let vote = Vote { leader_id, committed: true };
        Self { group, append: Append { vote, prev_log_id: before, entries, leader_commit: before } }
    }

    /// The frame, in the pieces in which it is written: large payloads are shared and not copied.
    pub fn seal(&self) -> Vec<Bytes> {
        whole(self.group, 1, encode_append(&self.append))
    }

    /// The payloads in frames that lie one behind another, each a slice of its frame; `None` when a checksum or a length
    /// is wrong.
    pub fn open(frames: &[u8]) -> Option<Vec<Bytes>> {
        let mut payloads = Vec::new();
        for body in read_bodies(frames, MAX_FRAME)? {
            for entry in decode_append(&body)?.entries {
                if let EntryPayload::Normal(Payload(payload)) = entry.payload {
                    payloads.push(payload);
                }
            }
        }
        Some(payloads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_come_back_and_no_flipped_bit_does() {
        let payloads = |of: u8| vec![Bytes::from(vec![of; 9]), Bytes::from(vec![of + 1; 70_000])];
        let mut frames = Vec::new();
        for of in [1, 5] {
            for piece in Envelope::new(3, 2, u64::from(of), payloads(of)).seal() {
                frames.extend_from_slice(&piece);
            }
        }
        assert_eq!(Envelope::open(&frames), Some([payloads(1), payloads(5)].concat()));
        for at in [5, 30, frames.len() - 1] {
            let mut bad = frames.clone();
            bad[at] ^= 1;
            assert_eq!(Envelope::open(&bad), None, "a flipped bit in byte {at}");
        }
        assert_eq!(Envelope::open(&frames[..frames.len() - 1]), None);
    }
}

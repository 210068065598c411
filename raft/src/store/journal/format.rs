//! The bytes of a journal segment: its header, and the two headers that every batch has.
//!
//! ```text
//! segment:  header, padded to HEADER_AREA | batch | batch | … | bytes of an older generation or zeros
//! batch:    front header 64 | records | zeros | back header 64          (a multiple of 4096 bytes, so that no sector
//!                                                                        that holds an acknowledged byte is rewritten)
//! header:    0 magic u32   8 store id u64      24 number u64   36 records u32    48 link u32
//!            4 crc u32    16 generation u64    32 length u32   40 body crc u32   52 side u8 (0 front, 1 back)
//!                                                              44 body length u32
//! ```
//! Batch numbers are consecutive over all segments; `link` is the body checksum of the batch before; the body checksum
//! covers everything between the headers. Either header is enough to read the batch, so one damaged sector in a header
//! loses nothing. Owns layout and checks; does no IO. Must never call bytes valid that another generation or another
//! store wrote.

use crate::store::meta::{GroupMeta, META_BYTES, Metas};
use crate::store::record::{u32_at, u64_at};

/// Batches begin and end at multiples of this: the file system's block, and no smaller than a disk's sector.
pub(crate) const BLOCK: usize = 4096;
/// Bytes of a batch header.
pub(crate) const SIDE: usize = 64;
/// Where a segment's first batch begins.
pub(crate) const HEADER_AREA: usize = 64 * 1024;
/// Most groups a segment header has room for.
pub(crate) const GROUPS_MAX: usize = (HEADER_AREA - SEGMENT_HEAD) / META_BYTES;

const BATCH_MAGIC: u32 = u32::from_le_bytes(*b"RKB1");
const SEGMENT_MAGIC: u32 = u32::from_le_bytes(*b"RKS1");
const SEGMENT_HEAD: usize = 64;

/// What both headers of a batch say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHead {
    pub(crate) store: u64,
    pub(crate) generation: u64,
    pub(crate) number: u64,
    /// The whole batch, headers and padding included.
    pub(crate) length: u32,
    pub(crate) records: u32,
    pub(crate) body_crc: u32,
    pub(crate) body: u32,
    pub(crate) link: u32,
}

/// The whole batch's length for a body of `body` bytes.
pub(crate) fn batch_length(body: usize) -> usize {
    (body + 2 * SIDE).next_multiple_of(BLOCK)
}

impl BatchHead {
    fn encode(&self, back: bool) -> [u8; SIDE] {
        let mut out = [0; SIDE];
        out[..4].copy_from_slice(&BATCH_MAGIC.to_le_bytes());
        out[8..16].copy_from_slice(&self.store.to_le_bytes());
        out[16..24].copy_from_slice(&self.generation.to_le_bytes());
        out[24..32].copy_from_slice(&self.number.to_le_bytes());
        for (at, word) in
            [self.length, self.records, self.body_crc, self.body, self.link].into_iter().enumerate()
        {
            out[32 + at * 4..36 + at * 4].copy_from_slice(&word.to_le_bytes());
        }
        out[52] = u8::from(back);
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header and which side it is. None for anything that is not one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, bool)> {
        let bytes = bytes.get(..SIDE)?;
        if u32_at(bytes, 0)? != BATCH_MAGIC || u32_at(bytes, 4)? != crc32c::crc32c(&bytes[8..]) {
            return None;
        }
        let head = Self {
            store: u64_at(bytes, 8),
            generation: u64_at(bytes, 16),
            number: u64_at(bytes, 24),
            length: u32_at(bytes, 32)?,
            records: u32_at(bytes, 36)?,
            body_crc: u32_at(bytes, 40)?,
            body: u32_at(bytes, 44)?,
            link: u32_at(bytes, 48)?,
        };
        let sound = head.length as usize == batch_length(head.body as usize);
        sound.then_some((head, bytes[52] == 1))
    }
}

/// A batch while it is filled: room for the front header, then records.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: u32,
}

impl Draft {
    pub(crate) fn new(expected: usize) -> Self {
        let mut bytes = Vec::with_capacity(batch_length(expected));
        bytes.resize(SIDE, 0);
        Self { bytes, records: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes of records so far.
    pub(crate) fn body(&self) -> usize {
        self.bytes.len() - SIDE
    }

    /// Pads, hashes and writes both headers. `bytes` is then what goes to the disk.
    pub(crate) fn seal(mut self, store: u64, generation: u64, number: u64, link: u32) -> Sealed {
        let body = self.body();
        let length = batch_length(body);
        self.bytes.resize(length, 0);
        let head = BatchHead {
            store,
            generation,
            number,
            length: length as u32,
            records: self.records,
            body_crc: crc32c::crc32c(&self.bytes[SIDE..length - SIDE]),
            body: body as u32,
            link,
        };
        self.bytes[..SIDE].copy_from_slice(&head.encode(false));
        self.bytes[length - SIDE..].copy_from_slice(&head.encode(true));
        Sealed { bytes: self.bytes, head }
    }
}

/// A batch as it stands on the disk.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) head: BatchHead,
}

impl Sealed {
    /// The records.
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[SIDE..SIDE + self.head.body as usize]
    }

    /// The batch with `head` at the front of `bytes`, if its body is whole.
    pub(crate) fn check(head: BatchHead, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..head.length as usize)?;
        let middle = &bytes[SIDE..bytes.len() - SIDE];
        (crc32c::crc32c(middle) == head.body_crc).then(|| Self { bytes: bytes.to_vec(), head })
    }
}

/// What stands at the front of a segment since it was last taken into use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub(crate) store: u64,
    pub(crate) generation: u64,
    /// Number of the first batch written here.
    pub(crate) first: u64,
    /// Body checksum of the batch before that.
    pub(crate) link: u32,
    /// How many segment files there were: a missing one is noticed even if it was the newest.
    pub(crate) files: u32,
    /// Every group as of the batch before `first` (R1).
    pub(crate) metas: Metas,
}

impl SegmentHead {
    /// Padded to whole blocks, at most HEADER_AREA bytes: the callers bound the groups by GROUPS_MAX.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let length = SEGMENT_HEAD + self.metas.len() * META_BYTES;
        let mut out = vec![0; SEGMENT_HEAD];
        out[..4].copy_from_slice(&SEGMENT_MAGIC.to_le_bytes());
        out[8..16].copy_from_slice(&self.store.to_le_bytes());
        out[16..24].copy_from_slice(&self.generation.to_le_bytes());
        out[24..32].copy_from_slice(&self.first.to_le_bytes());
        out[32..36].copy_from_slice(&self.link.to_le_bytes());
        out[36..40].copy_from_slice(&(self.metas.len() as u32).to_le_bytes());
        out[40..44].copy_from_slice(&self.files.to_le_bytes());
        for (group, meta) in &self.metas {
            out.extend_from_slice(&meta.encode(*group));
        }
        debug_assert_eq!(out.len(), length);
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out.resize(length.next_multiple_of(BLOCK), 0);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if u32_at(bytes, 0)? != SEGMENT_MAGIC {
            return None;
        }
        let groups = u32_at(bytes, 36)? as usize;
        let length = SEGMENT_HEAD + groups.min(GROUPS_MAX) * META_BYTES;
        let bytes = bytes.get(..length)?;
        if groups > GROUPS_MAX || u32_at(bytes, 4)? != crc32c::crc32c(&bytes[8..]) {
            return None;
        }
        let metas = bytes[SEGMENT_HEAD..]
            .chunks_exact(META_BYTES)
            .map(GroupMeta::decode)
            .collect::<Option<Metas>>()?;
        Some(Self {
            store: u64_at(bytes, 8),
            generation: u64_at(bytes, 16),
            first: u64_at(bytes, 24),
            link: u32_at(bytes, 32)?,
            files: u32_at(bytes, 40)?,
            metas,
        })
    }
}

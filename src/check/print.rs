//! Hashes of records, made so that the judge can say of every version of a record what its hash is.
//!
//! A record that is edited or recalled keeps its seq, id, time, count and numbers: its *stem*. Its kind and content go,
//! and it gets a mark that says who did it, when, and by which signal. The replicas have its last version only; those
//! before follow from what was sent. So the hash of a record is one of four parts, each of which the judge knows.

use rookery_wire::{
    ContentHash, Expires, Extension, Record, RecordKind, Rewritten, Salt, Version, decode, encode,
};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::history::Print;

/// The four parts of a record's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Of what never changes.
    pub stem: u64,
    /// `RecordKind` as a number.
    pub kind: u16,
    /// Of media type, content and the extensions that the sender gave.
    pub hash: u64,
    /// Of the mark; 0 for none.
    pub mark: u64,
}

impl Parts {
    /// Those of a record.
    pub fn of(record: &Record) -> Self {
        let stem = (record.seq, record.message_id, record.time_ms, record.count, record.epoch);
        let sender = (record.client_seq, record.sender.as_str(), record.device.as_str());
        let mark = record.extensions.iter().find(|extension| extension.tag == Rewritten::TAG);
        Self {
            stem: xxh3_64(&encode(&(stem, sender))),
            kind: record.kind.0,
            hash: content_hash(record.content_type.as_ref(), record.content.as_ref(), &record.extensions),
            mark: mark.map_or(0, |mark| xxh3_64(mark.data.as_ref())),
        }
    }

    /// The hash of the whole.
    pub fn print(self) -> Print {
        xxh3_64(&encode(&(self.stem, self.kind, self.hash, self.mark)))
    }
}

/// Hash of a record: equal when two sides hold the same version of the same record.
pub fn print_of(record: &Record) -> Print {
    Parts::of(record).print()
}

/// Hash of what a message says: media type, content, and extensions but those that the cluster adds (the mark, the number of the
/// version, and what the digest of the history needs) and the one that says how long it lasts, which goes with a recall and stays with an edit.
pub fn content_hash(content_type: &[u8], content: &[u8], extensions: &[Extension]) -> u64 {
    let mut hash = Xxh3::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(content_type);
    part(content);
    let of_cluster = [Rewritten::TAG, Salt::TAG, ContentHash::TAG, Version::TAG, Expires::TAG];
    for extension in extensions.iter().filter(|extension| !of_cluster.contains(&extension.tag)) {
        part(&extension.tag.to_le_bytes());
        part(extension.data.as_ref());
    }
    hash.digest()
}

/// Hash of the mark that a recall or an edit leaves.
pub fn mark_hash(mark: &Rewritten) -> u64 {
    xxh3_64(&encode(mark))
}

/// For how long a record says that it lasts, milliseconds; 0 for ever.
pub fn lasts_ms(record: &Record) -> u64 {
    let found = record.extensions.iter().find(|extension| extension.tag == Expires::TAG);
    found.and_then(|found| decode::<Expires>(&found.data.0).ok()).map_or(0, |expires| expires.after_ms)
}

/// The message that a recall or edit names, if this is one.
pub fn target_of(record: &Record) -> Option<u64> {
    let names = matches!(record.kind, RecordKind::RECALL | RecordKind::EDIT);
    names.then(|| decode::<rookery_wire::Target>(&record.content.0).ok().map(|target| target.seq)).flatten()
}

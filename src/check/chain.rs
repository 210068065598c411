//! One reader's copy of a session as a running digest: records come in any order, each counts once, and what is chained
//! is forgotten.
//!
//! A record is kept as the least that has its digest: of content its hash, which the record has as long as the content is
//! there and carries itself afterwards. So it does not matter which version of a message the reader was given, and it is
//! noticed if two versions are not of one message.

use std::collections::BTreeMap;

use bytes::Bytes;
use rookery_wire::{Blob, ContentHash, Digest, Record, RecordKind, SessionId, encode};

/// See the module's words.
#[derive(Debug)]
pub struct Chain {
    seq: u64,
    digest: Digest,
    /// What has come and cannot be chained yet.
    beyond: BTreeMap<u64, Bytes>,
}

impl Chain {
    /// Of a session of which nothing has come.
    pub fn new(session: &SessionId) -> Self {
        Self { seq: 0, digest: Digest::begin(session), beyond: BTreeMap::new() }
    }

    /// Up to and including which record it goes.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The digest there.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What is before is kept no more: it goes on from what the cluster says of it.
    pub fn go_on_from(&mut self, seq: u64, digest: Digest) {
        if seq > self.seq {
            (self.seq, self.digest) = (seq, digest);
            self.beyond.retain(|known, _| *known > seq);
            self.run();
        }
    }

    /// Takes one more record. False if another one has come under its seq, or it is none that can be hashed.
    #[must_use]
    pub fn take(&mut self, record: &Record) -> bool {
        if record.seq <= self.seq {
            return true;
        }
        let least = least(record);
        if let Some(known) = self.beyond.insert(record.seq, least.clone())
            && known != least
        {
            return false;
        }
        self.run()
    }

    fn run(&mut self) -> bool {
        while let Some(next) = self.beyond.remove(&(self.seq + 1)) {
            let Ok(digest) = self.digest.then(&next) else { return false };
            (self.seq, self.digest) = (self.seq + 1, digest);
        }
        true
    }
}

/// The least with the same digest.
fn least(record: &Record) -> Bytes {
    let was_content = [RecordKind::CONTENT, RecordKind::RECALLED, RecordKind::EXPIRED].contains(&record.kind);
    if !was_content {
        return encode(record);
    }
    encode(&Record {
        kind: RecordKind::EXPIRED,
        content_type: Blob::default(),
        content: Blob::default(),
        extensions: vec![ContentHash::of(record).extension()],
        ..record.clone()
    })
}

#[cfg(test)]
mod tests {
    use rookery_wire::{DeviceId, GroupId, Salt, UserId};

    use super::*;

    fn record(seq: u64, text: &'static str) -> Record {
        Record {
            seq,
            message_id: seq,
            time_ms: 7,
            count: seq,
            sender: UserId::new("ann").unwrap(),
            device: DeviceId::new("phone").unwrap(),
            epoch: 1,
            client_seq: seq,
            kind: RecordKind::CONTENT,
            content_type: Blob::from("text/plain"),
            content: Blob::from(text),
            extensions: vec![Salt([7; 16]).extension()],
        }
    }

    #[test]
    fn any_order_and_any_version_gives_the_digest_of_the_records() {
        let session = SessionId::group(GroupId::new("rooks").unwrap());
        let records = [record(1, "one"), record(2, "two"), record(3, "three")];
        let whole = records.iter().fold(Digest::begin(&session), |digest, record| digest.then_record(record));
        let mut chain = Chain::new(&session);
        assert!(chain.take(&records[2]) && chain.take(&records[1]));
        assert_eq!((chain.seq(), chain.digest()), (0, Digest::begin(&session)));
        let gone = Record {
            kind: RecordKind::RECALLED,
            content: Blob::default(),
            content_type: Blob::default(),
            extensions: vec![ContentHash::of(&records[1]).extension()],
            ..records[1].clone()
        };
        assert!(chain.take(&gone), "another version of the same");
        assert!(!chain.take(&record(2, "another message")));
        assert!(chain.take(&gone) || chain.seq() == 0);
        let mut chain = Chain::new(&session);
        for record in records.iter().rev() {
            assert!(chain.take(record));
        }
        assert_eq!((chain.seq(), chain.digest()), (3, whole));
        let mut late = Chain::new(&session);
        assert!(late.take(&records[2]));
        let before = Digest::begin(&session).then_record(&records[0]).then_record(&records[1]);
        late.go_on_from(2, before);
        assert_eq!((late.seq(), late.digest()), (3, whole), "what was trimmed is taken from the cluster");
    }
}

//! Where a record stands in its session's sequence, and its encoding, made from what others hold: nothing of a message is copied
//! but into the record.

use bincode::Encode;
use bincode::enc::Encoder;
use bincode::error::EncodeError;
use bytes::Bytes;
use rookery_wire::codec::{Blob, encode_sized};
use rookery_wire::{DeviceId, Extension, Record, RecordKind, Salt, UserId};

use super::sender::Stored;
use super::session::{At, Session};

/// What a record is made of, before it has its place: the fields of [`Record`] behind those of [`Stored`], in their order, so
/// that the encodings of the two make up that of the record.
#[derive(Encode)]
pub(super) struct Written<'a> {
    pub(super) sender: &'a UserId,
    pub(super) device: &'a DeviceId,
    pub(super) epoch: u32,
    pub(super) client_seq: u64,
    pub(super) kind: RecordKind,
    pub(super) content_type: &'a Blob,
    pub(super) content: &'a Blob,
    pub(super) extensions: Extensions<'a>,
}

/// The extensions of a record: those that were sent with it, and the salt of one with content. Signals are never taken back, so
/// there is nothing to guess in them.
pub(super) struct Extensions<'a> {
    pub(super) sent: &'a [Extension],
    pub(super) salt: Option<Salt>,
}

impl Encode for Extensions<'_> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let count = self.sent.len() + usize::from(self.salt.is_some());
        (count as u64).encode(encoder)?;
        self.sent.iter().try_for_each(|extension| extension.encode(encoder))?;
        match self.salt {
            Some(salt) => (Salt::TAG, &salt.0[..]).encode(encoder),
            None => Ok(()),
        }
    }
}

/// No content type.
static UNTYPED: Blob = Blob(Bytes::new());

/// What a record says: content type, content, extensions.
pub(super) type Said<'a> = (&'a Blob, &'a Blob, &'a [Extension]);

/// That of a signal.
pub(super) fn signal(content: &Blob) -> Said<'_> {
    (&UNTYPED, content, &[])
}

/// A record with its place, encoded, that the session has not taken yet.
pub(super) struct Placed {
    pub(super) stored: Stored,
    pub(super) encoded: Bytes,
    pub(super) sender: UserId,
}

impl Session {
    /// Gives a record the next seq, without taking it.
    pub(super) fn place(&self, at: &At, written: &Written<'_>) -> Placed {
        let stored = Stored {
            seq: self.last_seq + 1,
            message_id: at.message_id(),
            time_ms: self.time_ms.max(at.time_ms),
            count: self.count + u64::from(written.kind.is_countable()),
        };
        let sent: usize = written.extensions.sent.iter().map(|extension| 8 + extension.data.len()).sum();
        let texts =
            written.sender.as_str().len() + written.device.as_str().len() + written.content_type.len();
        let encoded = encode_sized(&(stored, written), ROOM + written.content.len() + sent + texts);
        Placed { stored, encoded, sender: written.sender.clone() }
    }
}

/// Room for all of a record but texts, content and extensions.
const ROOM: usize = 96;

/// A record in the one encoding that is stored, pushed and pulled.
pub(super) fn encode_record(record: &Record) -> Bytes {
    let texts = record.sender.as_str().len() + record.device.as_str().len() + record.content_type.len();
    encode_sized(record, ROOM + record.content.len() + texts)
}

#[cfg(test)]
mod tests {
    use rookery_wire::codec::decode;

    use super::*;

    #[test]
    fn a_placed_record_is_encoded_as_every_record_is() {
        let (sender, device) = (UserId::new("ann").unwrap(), DeviceId::new("phone").unwrap());
        let (content_type, content) = (Blob::from("text/plain"), Blob::from("hi"));
        let sent =
            [(1024, "thread 7"), (70_00, "")].map(|(tag, data)| Extension { tag, data: Blob::from(data) });
        let stored = Stored { seq: 300, message_id: u64::MAX / 3, time_ms: 1_790_000_000_000, count: 251 };
        for (sent, salt) in [(&sent[..], Some(Salt([7; 16]))), (&sent[..], None), (&[], Some(Salt([9; 16])))]
        {
            let written = Written {
                sender: &sender,
                device: &device,
                epoch: 70_000,
                client_seq: 9,
                kind: RecordKind::EDIT,
                content_type: &content_type,
                content: &content,
                extensions: Extensions { sent, salt },
            };
            let record = Record {
                seq: stored.seq,
                message_id: stored.message_id,
                time_ms: stored.time_ms,
                count: stored.count,
                sender: sender.clone(),
                device: device.clone(),
                epoch: 70_000,
                client_seq: 9,
                kind: RecordKind::EDIT,
                content_type: content_type.clone(),
                content: content.clone(),
                extensions: sent.iter().cloned().chain(salt.map(Salt::extension)).collect(),
            };
            let encoded = encode_sized(&(stored, &written), 0);
            assert_eq!(encoded, encode_record(&record));
            assert_eq!(decode::<Record>(&encoded).unwrap(), record);
        }
    }
}

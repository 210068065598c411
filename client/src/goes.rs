//! Messages that do not stay: until when an application shows one.
//!
//! The cluster takes their content away by itself and says nothing when it does, so whoever shows messages hides these
//! (docs/protocol.md, "What is not kept"): one that lasts for a time when that is over, one that burns so long after the
//! *other* user of the direct session has read it. A later PULL has nothing of them but what is left, a record of kind 9.

use std::time::Duration;

use rookery_wire::{Burns, Expires, Record, RecordKind, UserId, decode};

/// Whether a message stays, as its sender wished it.
///
/// ```
/// use rookery_client::Goes;
/// # fn shown(record: &rookery_client::wire::Record, me: &rookery_client::wire::UserId, now_ms: u64) {
/// // When a message is shown, and again when a ReadMark (a message of another) or a Receipt (an own one) has come:
/// let read_at_ms = Some(now_ms);
/// if Goes::of(record).until_ms(record.time_ms, read_at_ms).is_some_and(|until| until <= now_ms) {
///     // hide it
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Goes {
    /// It stays.
    #[default]
    Never,
    /// So long after it was stored.
    After(Duration),
    /// So long after the other user of its direct session has read it.
    OnceRead(Duration),
}

impl Goes {
    /// Of a message; what is no content, or no longer there, stays as it is.
    pub fn of(record: &Record) -> Self {
        if record.kind != RecordKind::CONTENT {
            return Self::Never;
        }
        let data = |tag: u16| record.extensions.iter().find(|one| one.tag == tag).map(|one| &one.data.0);
        if let Some(Ok(Expires { after_ms })) = data(Expires::TAG).map(decode) {
            return Self::After(Duration::from_millis(after_ms));
        }
        match data(Burns::TAG).map(decode) {
            Some(Ok(Burns { after_ms })) => Self::OnceRead(Duration::from_millis(after_ms)),
            _ => Self::Never,
        }
    }

    /// When it goes, unix milliseconds: `time_ms` is that of the message, `read_at_ms` when the other user was heard to have
    /// read it. For the reader that is when its own READ was answered ([`crate::Event::ReadMark`]), for the sender when the
    /// [`crate::Event::Receipt`] came, or RECEIPTS said so. None while it stays.
    pub fn until_ms(self, time_ms: u64, read_at_ms: Option<u64>) -> Option<u64> {
        let (from_ms, after) = match self {
            Self::Never => return None,
            Self::After(after) => (time_ms, after),
            Self::OnceRead(after) => (read_at_ms?, after),
        };
        Some(from_ms.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Whether the time of this message begins when `reader` reads it: what one has written oneself, one's own reading does
    /// not burn.
    pub fn begins_by(self, record: &Record, reader: &UserId) -> bool {
        matches!(self, Self::OnceRead(_)) && record.sender != *reader
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use rookery_wire::{Blob, Extension, encode};

    use super::*;
    use crate::Outgoing;

    fn record(extensions: Vec<Extension>) -> Record {
        Record {
            seq: 1,
            message_id: 1,
            time_ms: 1_000,
            count: 1,
            sender: "ann".parse().unwrap(),
            device: "phone".parse().unwrap(),
            epoch: 1,
            client_seq: 1,
            kind: RecordKind::CONTENT,
            content_type: Blob::from("text/plain"),
            content: Blob::from("x"),
            extensions,
        }
    }

    #[test]
    fn a_message_goes_when_its_sender_said() {
        let second = Duration::from_secs(1);
        let lasting = Outgoing::text("x").lasting(second).extensions;
        let burning = Outgoing::text("x").burning(second).extensions;
        assert_eq!(Goes::of(&record(Vec::new())).until_ms(1_000, Some(5_000)), None);
        assert_eq!(Goes::of(&record(lasting.clone())).until_ms(1_000, None), Some(2_000));
        let burns = Goes::of(&record(burning.clone()));
        assert_eq!((burns.until_ms(1_000, None), burns.until_ms(1_000, Some(5_000))), (None, Some(6_000)));
        let (ann, bob): (UserId, UserId) = ("ann".parse().unwrap(), "bob".parse().unwrap());
        let sent = record(burning);
        assert_eq!((burns.begins_by(&sent, &ann), burns.begins_by(&sent, &bob)), (false, true));
        assert!(!Goes::of(&record(lasting.clone())).begins_by(&sent, &bob));
        // What is left of it goes no more, and data that nobody understands burns nothing.
        assert_eq!(Goes::of(&Record { kind: RecordKind::EXPIRED, ..record(lasting) }), Goes::Never);
        let broken = Extension { tag: Burns::TAG, data: Blob::from("\u{fd}") };
        assert_eq!(Goes::of(&record(vec![broken])), Goes::Never);
        let forever = Extension { tag: Expires::TAG, data: Blob(encode(&Expires { after_ms: u64::MAX })) };
        assert_eq!(Goes::of(&record(vec![forever])).until_ms(1_000, None), Some(u64::MAX));
    }
}

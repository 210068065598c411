//! Rows: what an entity is on disk, without knowing the disk.

use bytes::Bytes;
use rookery_wire::SessionId;

use super::key::{self, letter};
use super::seal::Unsealed;
use super::session_rows::row_value;

/// Why rows could not be read: storage failed, or holds what no version of this program wrote. Never a refusal; it
/// stops the node.
#[derive(Debug, thiserror::Error)]
pub enum RowFault {
    /// The store below said so.
    #[error("{0}")]
    Store(String),
    /// So many others read that this request would have had to wait too long.
    #[error("too many reads are waiting")]
    Busy,
    /// Bytes that are no row.
    #[error("row {key} cannot be read: {why}")]
    Damaged {
        /// The key, escaped.
        key: String,
        /// What is wrong.
        why: String,
    },
}

impl RowFault {
    /// A damaged row, named.
    pub fn damaged(key: &[u8], why: impl std::fmt::Display) -> Self {
        Self::Damaged { key: key.escape_ascii().to_string(), why: why.to_string() }
    }
}

/// Reads rows in key order.
pub trait RowReader {
    /// One row.
    ///
    /// # Errors
    /// [`RowFault`].
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowFault>;
    /// Every row whose key begins with `prefix`, in order, until `each` says false.
    ///
    /// # Errors
    /// [`RowFault`], also one that `each` returns.
    fn scan(
        &self,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool, RowFault>,
    ) -> Result<(), RowFault> {
        self.scan_from(prefix, prefix, each)
    }
    /// Those of them from the key `from` on, which begins with `prefix` too.
    ///
    /// # Errors
    /// As [`RowReader::scan`].
    fn scan_from(
        &self,
        prefix: &[u8],
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool, RowFault>,
    ) -> Result<(), RowFault>;
    /// The last row with `from <= key <= to`.
    ///
    /// # Errors
    /// [`RowFault`].
    fn last_between(&self, from: &[u8], to: &[u8]) -> Result<Option<(Bytes, Bytes)>, RowFault>;
}

/// What of a session is kept no more. A row says so until the rows of it are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Freed {
    /// From here …
    pub before: u64,
    /// … to here the first kept seq has moved.
    pub first: u64,
    /// Versions of messages are given up that came to be by a signal up to this one; 0 if none are.
    pub versions: u64,
}

impl Freed {
    /// With what was to be deleted before and is still there, if anything.
    #[must_use]
    pub fn with(self, left: Option<&Self>) -> Self {
        let Some(left) = left else { return self };
        // What could not be deleted yet counts from where that began.
        Self {
            before: left.before.min(self.before),
            first: left.first.max(self.first),
            versions: left.versions.max(self.versions),
        }
    }
}

/// Row changes of one entity, written together or not at all (R7), but for those that may come before.
#[derive(Debug, Default)]
pub struct RowWrites {
    /// Rows that may be written before the others, in parts: however many they are, no batch is too large for them.
    pub ahead: Vec<(Bytes, Option<Bytes>)>,
    /// Key and new value, or none to remove it.
    pub rows: Vec<(Bytes, Option<Bytes>)>,
    /// Records of this session, or versions of some, are no more: once the other rows are durable, those that no kept one needs
    /// are deleted. Who writes the rows has this remembered with them ([`RowWrites::remember`]).
    pub freed: Option<(SessionId, Freed)>,
    /// This session opened in vain: its rows go once what they say is behind a durable mark.
    pub over: Option<SessionId>,
    /// Records that [`RowWrites::seal`] makes rows of.
    pub unsealed: Option<Unsealed>,
    /// Sum of key and value lengths.
    pub bytes: usize,
}

impl RowWrites {
    /// Sets a row.
    pub fn put(&mut self, key: Vec<u8>, value: Bytes) {
        self.bytes += key.len() + value.len();
        self.rows.push((Bytes::from(key), Some(value)));
    }
    /// Has a row say what is to be deleted, together with what is left of earlier times.
    pub fn remember(&mut self, left: impl FnOnce(&SessionId) -> Option<Freed>) {
        let Some((session, freed)) = self.freed.take() else { return };
        let freed = freed.with(left(&session).as_ref());
        self.put(key::session(letter::FREED, &session), row_value(&freed));
        self.freed = Some((session, freed));
    }
    /// Removes a row.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.bytes += key.len();
        self.rows.push((Bytes::from(key), None));
    }
}

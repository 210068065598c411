//! What a shard keeps in memory of all its entities, read from rows a page at a time.
//!
//! A shard may have millions of sessions on a slow disk. No single read may take as long as that: a read that does not end
//! is how damage in the database shows (R1), and is given up.

use std::collections::BTreeMap;

use bytes::Bytes;
use rookery_wire::codec::decode;
use rookery_wire::{SessionId, UserId};

use super::command::Link;
use super::key::{self, letter};
use super::rows::{Freed, RowFault, RowReader};
use super::session_rows::{HeadRow, row};
use super::trim::{Expiry, UNREAD};

/// Every session, in key order.
pub const HEADS: Kind<(SessionId, HeadRow)> = Kind { letter: letter::HEAD, read: read_head };
/// Messages that go at a time, with that time in unix milliseconds; none for one that waits to be read first.
pub const EXPIRIES: Kind<Option<(SessionId, u64)>> = Kind { letter: letter::EXPIRY, read: read_expiry };
/// Sessions of which trimmed records are still rows.
pub const TO_FREE: Kind<(SessionId, Freed)> = Kind { letter: letter::FREED, read: read_freed };
/// Whose intents are to be carried, once for each of them.
pub const INTENTS: Kind<SessionId> = Kind { letter: letter::INTENT, read: read_intent };
/// Whose errands are to be carried, once for each of them.
pub const ERRANDS: Kind<UserId> = Kind { letter: letter::ERRAND, read: read_errand };

/// Rows of one kind, and what a table takes from each.
#[derive(Debug)]
pub struct Kind<T> {
    letter: u8,
    read: fn(&[u8], &[u8]) -> Result<T, RowFault>,
}

/// How much is looked at in one page: the first row in any case, and then as long as neither is exceeded.
#[derive(Clone, Copy, Debug)]
pub struct PageSize {
    /// Rows.
    pub rows: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
}

impl<T> Kind<T> {
    /// Where the first page begins.
    pub fn begin(&self) -> Vec<u8> {
        vec![self.letter]
    }

    /// What the rows from the key `from` on say, and the key from which the next page goes on; none behind the last.
    ///
    /// # Errors
    /// [`RowFault`].
    pub fn page(
        &self,
        rows: &dyn RowReader,
        from: &[u8],
        most: PageSize,
    ) -> Result<(Vec<T>, Option<Vec<u8>>), RowFault> {
        let (mut found, mut bytes, mut next) = (Vec::new(), 0, None);
        rows.scan_from(&[self.letter], from, &mut |key, value| {
            found.push((self.read)(key, value)?);
            bytes += key.len() + value.len();
            if found.len() < most.rows && bytes < most.bytes {
                return Ok(true);
            }
            // The next possible key.
            next = Some([key, &[0]].concat());
            Ok(false)
        })?;
        Ok((found, next))
    }
}

/// Notes the time at which a message goes, if it is the first of its session.
pub fn note_expiry(next: &mut BTreeMap<SessionId, u64>, (session, at_ms): (SessionId, u64)) {
    next.entry(session).and_modify(|least| *least = at_ms.min(*least)).or_insert(at_ms);
}

fn read_head(key: &[u8], value: &[u8]) -> Result<(SessionId, HeadRow), RowFault> {
    Ok((session_in(key, key.get(1..))?, row(key, Bytes::copy_from_slice(value))?))
}

fn read_expiry(key: &[u8], value: &[u8]) -> Result<Option<(SessionId, u64)>, RowFault> {
    let session = session_in(key, key.get(1..key.len().saturating_sub(8)))?;
    let Expiry { at_ms, .. } = row(key, Bytes::copy_from_slice(value))?;
    Ok((at_ms != UNREAD).then_some((session, at_ms)))
}

fn read_freed(key: &[u8], value: &[u8]) -> Result<(SessionId, Freed), RowFault> {
    Ok((session_in(key, key.get(1..))?, row(key, Bytes::copy_from_slice(value))?))
}

fn read_intent(key: &[u8], value: &[u8]) -> Result<SessionId, RowFault> {
    let link: Link = row(key, Bytes::copy_from_slice(value))?;
    Ok(link.session)
}

fn read_errand(key: &[u8], _: &[u8]) -> Result<UserId, RowFault> {
    let mut rest = key.get(1..).unwrap_or_default();
    let name = key::take_text(&mut rest).ok_or_else(|| RowFault::damaged(key, "no user in the key"))?;
    UserId::new(name).map_err(|fault| RowFault::damaged(key, fault))
}

fn session_in(key: &[u8], name: Option<&[u8]>) -> Result<SessionId, RowFault> {
    let name = Bytes::copy_from_slice(name.unwrap_or_default());
    decode(&name).map_err(|fault| RowFault::damaged(key, fault))
}

//! A user as rows.

use bincode::{Decode, Encode};
use bytes::Bytes;
use rookery_wire::codec::{Source, decode};
use rookery_wire::{DeviceId, SessionId, UserId};

use super::key::{self, letter};
use super::rows::{RowFault, RowReader, RowWrites};
use super::session_rows::{row, row_value};
use super::user::{Device, LinkState, User};

/// The user's head row.
#[derive(Clone, Debug, Encode, Decode)]
#[bincode(decode_context = "Source")]
struct UserRow {
    index: u64,
    frozen: bool,
    last_epoch: u32,
    devices: Vec<(DeviceId, Device)>,
}

/// How far a user has read a session, from its one row; 0 for one that is not in the list.
///
/// # Errors
/// [`RowFault`].
pub fn read_cursor(rows: &dyn RowReader, user: &UserId, session: &SessionId) -> Result<u64, RowFault> {
    let key = key::link(user, session);
    let link: Option<LinkState> = rows.get(&key)?.map(|value| row(&key, value)).transpose()?;
    Ok(link.map_or(0, |link| link.read_seq))
}

/// When a device of a user was last heard of, unix milliseconds; 0 for never.
///
/// # Errors
/// [`RowFault`].
pub fn read_last_used(rows: &dyn RowReader, user: &UserId) -> Result<u64, RowFault> {
    let key = key::user(letter::USER, user);
    let head: Option<UserRow> = rows.get(&key)?.map(|value| row(&key, value)).transpose()?;
    Ok(head.and_then(|head| head.devices.iter().map(|(_, device)| device.used_ms).max()).unwrap_or(0))
}

impl User {
    /// Reads a user; one without rows is [`User::new`].
    ///
    /// # Errors
    /// [`RowFault`].
    pub fn load(rows: &dyn RowReader, id: &UserId) -> Result<Self, RowFault> {
        let mut user = User::new(id.clone());
        let key = key::user(letter::USER, id);
        let Some(value) = rows.get(&key)? else { return Ok(user) };
        let head: UserRow = row(&key, value)?;
        user.index = head.index;
        user.frozen = head.frozen;
        user.last_epoch = head.last_epoch;
        user.devices = head.devices.into_iter().collect();
        let prefix = key::user(letter::LINK, id);
        rows.scan(&prefix, &mut |key, value| {
            let session = decode(&Bytes::copy_from_slice(key.get(prefix.len()..).unwrap_or_default()))
                .map_err(|fault| RowFault::damaged(key, fault))?;
            user.links.insert(session, row(key, Bytes::copy_from_slice(value))?);
            Ok(true)
        })?;
        user.present = u32::try_from(user.sessions().count()).unwrap_or(u32::MAX);
        Ok(user)
    }

    /// The rows that have changed since the last time this was asked.
    pub fn collect(&mut self) -> RowWrites {
        let mut rows = RowWrites::default();
        for session in std::mem::take(&mut self.dirty_links) {
            if let Some(link) = self.links.get(&session) {
                rows.put(key::link(&self.id, &session), row_value(link));
            }
        }
        if std::mem::take(&mut self.dirty_head) {
            let devices = self.devices.iter().map(|(id, device)| (id.clone(), device.clone())).collect();
            let head =
                UserRow { index: self.index, frozen: self.frozen, last_epoch: self.last_epoch, devices };
            rows.put(key::user(letter::USER, &self.id), row_value(&head));
        }
        rows
    }

    /// Whether rows were collected for everything that is here.
    pub fn is_clean(&self) -> bool {
        !self.dirty_head && self.dirty_links.is_empty()
    }
}

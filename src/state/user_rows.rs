//! A user as rows.

use bincode::{Decode, Encode};
use bytes::Bytes;
use rookery_wire::codec::{Source, decode};
use rookery_wire::{DeviceId, UserId};

use super::key::{self, letter};
use super::rows::{RowFault, RowReader, RowWrites};
use super::session_rows::{row, row_value};
use super::user::{Device, User};

/// The user's head row.
#[derive(Clone, Debug, Encode, Decode)]
#[bincode(decode_context = "Source")]
struct UserRow {
    index: u64,
    frozen: bool,
    last_epoch: u32,
    devices: Vec<(DeviceId, Device)>,
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

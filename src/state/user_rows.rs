//! A user as rows.

use bincode::{Decode, Encode};
use bytes::Bytes;
use rookery_wire::codec::{Source, decode};
use rookery_wire::{DeviceId, SessionId, UserId};

use super::devices::Device;
use super::exceptions::Extras;
use super::key::{self, SenderKey, letter};
use super::keyed::Keys;
use super::left::LeftLines;
use super::privacy::Privacy;
use super::relations::{Errand, ErrandKey, RelationEntry};
use super::rows::{RowFault, RowReader, RowWrites};
use super::series::Series;
use super::session_rows::{keys_under, row, row_value};
use super::user::{Dirty, LinkState, User};

/// The user's head row.
#[derive(Clone, Debug, Encode, Decode)]
#[bincode(decode_context = "Source")]
struct UserRow {
    index: u64,
    frozen: bool,
    last_epoch: u32,
    devices: Vec<(DeviceId, Device)>,
    ended: Vec<(DeviceId, u64)>,
    refuses_strangers: bool,
    version: u64,
    privacy: Privacy,
    created_ms: u64,
    left_floor: u64,
}

/// A series with whose it is.
type SeriesRow = ((UserId, DeviceId, u32), Series);

/// How far a user has read a session, from its one row; 0 for one that is not in the list.
///
/// # Errors
/// [`RowFault`].
pub fn read_cursor(rows: &dyn RowReader, user: &UserId, session: &SessionId) -> Result<u64, RowFault> {
    let key = key::user_session(letter::LINK, user, session);
    let link: Option<LinkState> = rows.get(&key)?.map(|value| row(&key, value)).transpose()?;
    Ok(link.map_or(0, |link| link.read_seq))
}

/// Whether a user's list has its direct session with another.
///
/// # Errors
/// [`RowFault`].
pub fn has_direct_session(rows: &dyn RowReader, user: &UserId, other: &UserId) -> Result<bool, RowFault> {
    let Ok(session) = SessionId::direct(user, other) else { return Ok(false) };
    let key = key::user_session(letter::LINK, user, &session);
    let link: Option<LinkState> = rows.get(&key)?.map(|value| row(&key, value)).transpose()?;
    Ok(link.is_some_and(|link| link.member))
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

/// Whether a user has registered a device, or was created, as [`User::is_known`] says of one in memory.
///
/// # Errors
/// [`RowFault`].
pub fn read_known(rows: &dyn RowReader, user: &UserId) -> Result<bool, RowFault> {
    let key = key::user(letter::USER, user);
    let head: Option<UserRow> = rows.get(&key)?.map(|value| row(&key, value)).transpose()?;
    Ok(head.is_some_and(|head| head.last_epoch > 0 || head.created_ms > 0))
}

/// To whom a user shows what.
///
/// # Errors
/// [`RowFault`].
pub(super) fn read_privacy(rows: &dyn RowReader, user: &UserId) -> Result<Privacy, RowFault> {
    let key = key::user(letter::USER, user);
    let head: Option<UserRow> = rows.get(&key)?.map(|value| row(&key, value)).transpose()?;
    Ok(head.map(|head| head.privacy).unwrap_or_default())
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
        user.ended = head.ended.into_iter().collect();
        user.refuses_strangers = head.refuses_strangers;
        user.version = head.version;
        user.privacy = head.privacy;
        user.created_ms = head.created_ms;
        user.keys = Keys::loaded(keys_under(rows, &key::user(letter::USER_KEY, id))?);
        let prefix = key::user(letter::LINK, id);
        rows.scan(&prefix, &mut |key, value| {
            user.links.insert(session_at(key, &prefix)?, row(key, Bytes::copy_from_slice(value))?);
            Ok(true)
        })?;
        let prefix = key::user(letter::EXTRAS, id);
        rows.scan(&prefix, &mut |key, value| {
            user.extras.insert(session_at(key, &prefix)?, row(key, Bytes::copy_from_slice(value))?);
            Ok(true)
        })?;
        rows.scan(&key::user(letter::SERIES, id), &mut |key, value| {
            let ((user_id, device, epoch), series): SeriesRow = row(key, Bytes::copy_from_slice(value))?;
            user.series.insert(SenderKey { user: user_id, device, epoch }, series);
            Ok(true)
        })?;
        rows.scan(&key::user(letter::RELATION, id), &mut |key, value| {
            let (other, entry): (UserId, RelationEntry) = row(key, Bytes::copy_from_slice(value))?;
            user.relations.insert(other, entry);
            Ok(true)
        })?;
        rows.scan(&key::user(letter::ERRAND, id), &mut |key, value| {
            let (place, errand): (ErrandKey, Errand) = row(key, Bytes::copy_from_slice(value))?;
            user.errands.insert(place, errand);
            Ok(true)
        })?;
        let key = key::user(letter::COUNTED, id);
        if let Some(value) = rows.get(&key)? {
            user.counted = row(&key, value)?;
        }
        user.present = u32::try_from(user.sessions().count()).unwrap_or(u32::MAX);
        let left = user.links.iter().filter(|(_, link)| !link.member);
        let left = left.map(|(session, link)| (link.changed, session.clone()));
        user.left = LeftLines::loaded(left, head.left_floor);
        let live = user.relations.values().filter(|entry| entry.is_live()).count();
        user.live_relations = u32::try_from(live).unwrap_or(u32::MAX);
        let asked = user.relations.values().filter(|entry| entry.is_only_asked()).count();
        user.asked = u32::try_from(asked).unwrap_or(u32::MAX);
        Ok(user)
    }

    /// The rows that have changed since the last time this was asked.
    pub fn collect(&mut self) -> RowWrites {
        let mut rows = RowWrites::default();
        let dirty = std::mem::take(&mut self.dirty);
        for session in &dirty.links {
            let key = key::user_session(letter::LINK, &self.id, session);
            match self.links.get(session) {
                Some(link) => rows.put(key, row_value(link)),
                None => rows.delete(key),
            }
        }
        let mut set = |key: Vec<u8>, value: Option<Bytes>| match value {
            Some(value) => rows.put(key, value),
            None => rows.delete(key),
        };
        for session in &dirty.extras {
            let key = key::user_session(letter::EXTRAS, &self.id, session);
            set(key, self.extras.get(session).map(row_value));
        }
        for of in &dirty.series {
            let value = self.series.get(of).map(|series| row_value(&series_row(of, series)));
            set(key::series(&self.id, of), value);
        }
        for other in &dirty.relations {
            let value = self.relations.get(other).map(|entry| row_value(&(other.clone(), entry.clone())));
            set(key::relation(&self.id, other), value);
        }
        for place in &dirty.errands {
            let value = self.errands.get(place).map(|errand| row_value(&(place.clone(), errand.clone())));
            set(key::errand(&self.id, place.0, &place.1), value);
        }
        for (request, kept) in self.keys.collect() {
            set(key::user_key(&self.id, &request), kept.map(row_value));
        }
        if dirty.counted {
            let value = (!self.counted.is_empty()).then(|| row_value(&self.counted));
            set(key::user(letter::COUNTED, &self.id), value);
        }
        if dirty.head {
            rows.put(key::user(letter::USER, &self.id), row_value(&self.head_row()));
        }
        rows
    }

    fn head_row(&self) -> UserRow {
        UserRow {
            index: self.index,
            frozen: self.frozen,
            last_epoch: self.last_epoch,
            devices: self.devices.iter().map(|(id, device)| (id.clone(), device.clone())).collect(),
            ended: self.ended.iter().map(|(id, ended)| (id.clone(), *ended)).collect(),
            refuses_strangers: self.refuses_strangers,
            version: self.version,
            privacy: self.privacy,
            created_ms: self.created_ms,
            left_floor: self.left.floor,
        }
    }

    /// Whether rows were collected for everything that is here.
    pub fn is_clean(&self) -> bool {
        let Dirty { head, links, extras, series, relations, errands, counted } = &self.dirty;
        !head
            && !counted
            && links.is_empty()
            && extras.is_empty()
            && series.is_empty()
            && relations.is_empty()
            && errands.is_empty()
            && self.keys.is_clean()
    }
}

fn series_row(of: &SenderKey, series: &Series) -> SeriesRow {
    ((of.user.clone(), of.device.clone(), of.epoch), series.clone())
}

fn session_at(key: &[u8], prefix: &[u8]) -> Result<SessionId, RowFault> {
    let name = Bytes::copy_from_slice(key.get(prefix.len()..).unwrap_or_default());
    decode(&name).map_err(|fault| RowFault::damaged(key, fault))
}

/// What a user has set of a session, from its row alone; none if it has set nothing.
///
/// # Errors
/// [`RowFault`].
pub fn read_extras(
    rows: &dyn RowReader,
    user: &UserId,
    session: &SessionId,
) -> Result<Option<Extras>, RowFault> {
    let key = key::user_session(letter::EXTRAS, user, session);
    rows.get(&key)?.map(|value| row(&key, value)).transpose()
}

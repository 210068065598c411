//! A session as rows: loading it, collecting what changed, and looking up what memory has let go.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use bytes::Bytes;
use rookery_wire::codec::decode;
use rookery_wire::{AttributeKey, Blob, Digest, Record, RequestKey, Retention, SessionId, UserId};

use super::command::{Link, versioned};
use super::doors::Doors;
use super::fingerprint::Fingerprint;
use super::key::{self, SenderKey, letter};
use super::keyed::{KeptKey, Keys};
use super::manage::Settings;
use super::recalled::Recalled;
use super::records;
use super::rewrite::Rewrites;
use super::rows::{Freed, RowFault, RowReader, RowWrites};
use super::seal::Chain;
use super::sender::{Fate, Number, Run, SenderRow, Stored};
use super::session::{Member, Session, SessionLimits};
use super::trim::{Expiries, Expiry};
use super::versions::{Keeping, Versions};
use crate::plant::planted;

/// First byte of every row value.
pub const ROW_VERSION: u8 = 9;

/// The head row: everything of a session that is one per session.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct HeadRow {
    /// Log index the session's rows reflect.
    pub index: u64,
    /// Frozen after a fault.
    pub frozen: bool,
    /// Owner of a group.
    pub owner: Option<UserId>,
    /// What a group's judgements need.
    pub settings: Settings,
    /// First seq kept.
    pub first_seq: u64,
    /// Countable messages before it.
    pub first_count: u64,
    /// Last seq.
    pub last_seq: u64,
    /// Countable messages.
    pub count: u64,
    /// Time of the last record.
    pub time_ms: u64,
    /// Membership version.
    pub version: u64,
    /// Present members.
    pub present: u32,
    /// Log index of the last recall or edit.
    pub revision: u64,
    /// Of a direct session: user, version, and whether it takes nothing the other writes.
    pub bars: Vec<(UserId, u64, bool)>,
    /// The digest at `last_seq`.
    pub digest: Digest,
    /// Of a direct session: how long each user wishes it to be kept.
    pub wishes: Vec<(UserId, Retention)>,
    /// Log index at which the session last changed in what lists show of it.
    pub changed: u64,
    /// Whether versions of messages are kept.
    pub versions: Keeping,
}

impl HeadRow {
    /// Whether it may be that of a session which opened in vain ([`Session::is_over`]).
    pub fn may_be_over(&self) -> bool {
        self.last_seq == 0 && self.present == 0 && !self.frozen
    }

    /// Reads the session's head row, if there is one.
    ///
    /// # Errors
    /// [`RowFault`].
    pub fn read(rows: &dyn RowReader, id: &SessionId) -> Result<Option<Self>, RowFault> {
        let key = key::session(letter::HEAD, id);
        rows.get(&key)?.map(|value| row(&key, value)).transpose()
    }

    /// Names of sessions of a shard behind one of them, in key order.
    ///
    /// # Errors
    /// [`RowFault`].
    pub fn names_after(
        rows: &dyn RowReader,
        after: Option<&SessionId>,
        most: usize,
    ) -> Result<Vec<SessionId>, RowFault> {
        let mut from = after.map_or_else(|| vec![letter::HEAD], |after| key::session(letter::HEAD, after));
        // The next possible key.
        from.extend(after.map(|_| 0));
        let mut names = Vec::new();
        rows.scan_from(&[letter::HEAD], &from, &mut |key, _| {
            let name = decode(&Bytes::copy_from_slice(&key[1..]));
            names.push(name.map_err(|fault| RowFault::damaged(key, fault))?);
            Ok(names.len() < most)
        })?;
        Ok(names)
    }
}

/// Decodes a row value behind its version byte.
pub(super) fn row<T: Decode<rookery_wire::codec::Source>>(key: &[u8], value: Bytes) -> Result<T, RowFault> {
    match value.first() {
        Some(&ROW_VERSION) => decode(&value.slice(1..)).map_err(|fault| RowFault::damaged(key, fault)),
        Some(version) => {
            Err(RowFault::damaged(key, format!("version {version}, this program knows {ROW_VERSION}")))
        }
        None => Err(RowFault::damaged(key, "it is empty")),
    }
}

/// The request keys whose rows begin with `prefix`.
pub(super) fn keys_under<T: Decode<rookery_wire::codec::Source>>(
    rows: &dyn RowReader,
    prefix: &[u8],
) -> Result<BTreeMap<RequestKey, KeptKey<T>>, RowFault> {
    let mut keys = BTreeMap::new();
    rows.scan(prefix, &mut |key, value| {
        let mut rest = key.get(prefix.len()..).unwrap_or_default();
        let name = key::take_text(&mut rest).ok_or_else(|| RowFault::damaged(key, "no request key in it"))?;
        let name = RequestKey::new(name).map_err(|fault| RowFault::damaged(key, fault))?;
        keys.insert(name, row(key, Bytes::copy_from_slice(value))?);
        Ok(true)
    })?;
    Ok(keys)
}

/// Encodes a row value with its version byte.
pub(super) fn row_value<T: Encode>(value: &T) -> Bytes {
    versioned(ROW_VERSION, value)
}

/// The member row of `user`, present or past.
///
/// # Errors
/// [`RowFault`].
pub fn read_member(rows: &dyn RowReader, id: &SessionId, user: &UserId) -> Result<Option<Member>, RowFault> {
    let key = key::session_user(letter::MEMBER, id, user);
    rows.get(&key)?.map(|value| row(&key, value)).transpose()
}

/// Whether a session that has no record yet opens for `user`.
///
/// # Errors
/// [`RowFault`].
pub fn awaits(rows: &dyn RowReader, id: &SessionId, user: &UserId) -> Result<bool, RowFault> {
    let key = key::session_user(letter::INTENT, id, user);
    let link: Option<Link> = rows.get(&key)?.map(|value| row(&key, value)).transpose()?;
    Ok(link.is_some_and(|link| link.member))
}

/// The last number that a sender's row says.
///
/// # Errors
/// [`RowFault`].
pub fn last_number(key: &[u8], value: Bytes) -> Result<u64, RowFault> {
    Ok(row::<SenderRow>(key, value)?.last)
}

/// What a sender's row says; nothing is used where there is none.
///
/// # Errors
/// [`RowFault`].
pub fn read_sender(rows: &dyn RowReader, id: &SessionId, sender: &SenderKey) -> Result<SenderRow, RowFault> {
    let key = key::sender(letter::SENDER, id, sender);
    Ok(rows.get(&key)?.map(|value| row(&key, value)).transpose()?.unwrap_or_default())
}

/// The last number of a sender, 0 if it has none.
///
/// # Errors
/// [`RowFault`].
pub fn read_last_number(rows: &dyn RowReader, id: &SessionId, sender: &SenderKey) -> Result<u64, RowFault> {
    Ok(read_sender(rows, id, sender)?.last)
}

/// What came of an old number, from its run and its record; `None` when its message has been trimmed, or when it was refused.
///
/// # Errors
/// [`RowFault`].
pub fn read_number(
    rows: &dyn RowReader,
    id: &SessionId,
    sender: &SenderKey,
    client_seq: u64,
) -> Result<Option<Number>, RowFault> {
    let from = key::numbers(id, sender, 0);
    let to = key::numbers(id, sender, client_seq);
    let Some((key, value)) = rows.last_between(&from, &to)? else { return Ok(None) };
    let first = key.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let run: Run = row(&key, value)?;
    let at = usize::try_from(client_seq.saturating_sub(first)).unwrap_or(usize::MAX);
    let Some(item) = run.items.get(at).filter(|item| item.seq > 0) else { return Ok(None) };
    let Some(bytes) = records::read_one(rows, id, item.seq)? else { return Ok(None) };
    let record: Record = decode(&bytes).map_err(|fault| RowFault::damaged(&key, fault))?;
    let fingerprint = Fingerprint::of_row(item.fingerprint, &record);
    let Record { seq, message_id, time_ms, count, .. } = record;
    Ok(Some(Number { fingerprint, fate: Fate::Stored(Stored { seq, message_id, time_ms, count }) }))
}

impl Session {
    /// Reads a session; one without rows is [`Session::new`].
    ///
    /// # Errors
    /// [`RowFault`].
    pub fn load(rows: &dyn RowReader, id: &SessionId) -> Result<Self, RowFault> {
        let mut session = Session::new(id.clone());
        let Some(head) = HeadRow::read(rows, id)? else { return Ok(session) };
        session.index = head.index;
        session.exists = head.last_seq > 0;
        session.frozen = head.frozen;
        session.owner = head.owner;
        session.settings = head.settings;
        session.first_seq = head.first_seq;
        session.first_count = head.first_count;
        session.last_seq = head.last_seq;
        session.count = head.count;
        session.time_ms = head.time_ms;
        session.version = head.version;
        session.present = head.present;
        session.changed = head.changed;
        session.bars = head.bars.into_iter().map(|(by, version, on)| (by, (version, on))).collect();
        session.wishes = head.wishes.into_iter().collect();
        session.written_seq = head.last_seq;
        session.collected_seq = head.last_seq;
        session.chain = Chain::at(head.last_seq, head.digest);
        let prefix = key::session(letter::MEMBER, id);
        rows.scan(&prefix, &mut |key, value| {
            let user = user_at(key, &prefix)?;
            session.members.insert(user, row(key, Bytes::copy_from_slice(value))?);
            Ok(true)
        })?;
        session.senders_in_rows = !planted("dedup-lost");
        let prefix = key::session(letter::INTENT, id);
        rows.scan(&prefix, &mut |key, value| {
            let link: Link = row(key, Bytes::copy_from_slice(value))?;
            session.intents.insert(user_at(key, &prefix)?, link);
            Ok(true)
        })?;
        let prefix = key::session(letter::RECALLED, id);
        let mut recalled = Vec::new();
        rows.scan(&prefix, &mut |key, value| {
            recalled.push((count_at(key)?, row(key, Bytes::copy_from_slice(value))?));
            Ok(true)
        })?;
        session.rewrites = Rewrites::loaded(head.revision, Recalled::loaded(recalled));
        session.versions = Versions::loaded(head.versions);
        session.load_expiries(rows)?;
        session.keys = Keys::loaded(keys_under(rows, &key::session(letter::SESSION_KEY, id))?);
        session.load_profile(rows)?;
        session.load_doors(rows)?;
        if session.last_seq >= session.first_seq {
            let last = records::read_one(rows, id, session.last_seq)?.ok_or_else(|| {
                RowFault::damaged(&key::record(id, session.last_seq), "the last record is missing")
            })?;
            session.push_tail(last);
        }
        Ok(session)
    }

    fn load_expiries(&mut self, rows: &dyn RowReader) -> Result<(), RowFault> {
        let prefix = key::session(letter::EXPIRY, &self.id);
        let mut times = BTreeMap::new();
        rows.scan(&prefix, &mut |key, value| {
            times.insert(count_at(key)?, row(key, Bytes::copy_from_slice(value))?);
            Ok(true)
        })?;
        self.expiries = Expiries::loaded(times);
        Ok(())
    }

    fn load_profile(&mut self, rows: &dyn RowReader) -> Result<(), RowFault> {
        let key = key::session(letter::PROFILE, &self.id);
        if let Some(value) = rows.get(&key)? {
            self.profile = row(&key, value)?;
        }
        let prefix = key::session(letter::ATTRIBUTE, &self.id);
        rows.scan(&prefix, &mut |key, value| {
            let value: Blob = row(key, Bytes::copy_from_slice(value))?;
            self.attributes.insert(attribute_at(key, &prefix)?, value);
            Ok(true)
        })
    }

    fn load_doors(&mut self, rows: &dyn RowReader) -> Result<(), RowFault> {
        let (mut outsiders, mut codes) = (BTreeMap::new(), BTreeMap::new());
        let prefix = key::session(letter::OUTSIDER, &self.id);
        rows.scan(&prefix, &mut |key, value| {
            outsiders.insert(user_at(key, &prefix)?, row(key, Bytes::copy_from_slice(value))?);
            Ok(true)
        })?;
        rows.scan(&key::session(letter::CODE, &self.id), &mut |key, value| {
            codes.insert(count_at(key)?, row(key, Bytes::copy_from_slice(value))?);
            Ok(true)
        })?;
        self.doors = Doors::loaded(outsiders, codes);
        Ok(())
    }

    fn collect_doors(&mut self, rows: &mut RowWrites) {
        let (outsiders, codes) = self.doors.collect();
        for (user, outsider) in outsiders {
            let key = key::session_user(letter::OUTSIDER, &self.id, &user);
            match outsider {
                Some(outsider) => rows.put(key, row_value(outsider)),
                None => rows.delete(key),
            }
        }
        for (id, code) in codes {
            let key = key::code(&self.id, id);
            match code {
                Some(code) => rows.put(key, row_value(code)),
                None => rows.delete(key),
            }
        }
    }

    /// The rows that have changed since the last time this was asked. Empty when none have.
    pub fn collect(&mut self) -> RowWrites {
        let mut rows = RowWrites::default();
        self.end_sealing();
        let dirty = std::mem::take(&mut self.dirty);
        let fresh: Vec<Bytes> =
            (self.collected_seq + 1..=self.last_seq).filter_map(|seq| self.record(seq).cloned()).collect();
        let rewritten = self.rewrites.collect(records::cut(self.collected_seq + 1, &fresh));
        for (count, seq) in self.rewrites.collect_recalled() {
            let key = key::recalled(&self.id, count);
            match seq {
                Some(seq) => rows.put(key, row_value(&seq)),
                None => rows.delete(key),
            }
        }
        for (seq, expiry) in self.expiries.collect() {
            let key = key::expiry(&self.id, seq);
            match expiry {
                Some(expiry) => rows.put(key, row_value(&expiry)),
                None => rows.delete(key),
            }
        }
        let versions = self.versions.given_up();
        if dirty.trimmed.is_some() || versions > 0 {
            let (before, first) = (dirty.trimmed.unwrap_or(self.first_seq), self.first_seq);
            rows.freed = Some((self.id.clone(), Freed { before, first, versions }));
        }
        self.versions.collect(&self.id, &mut rows);
        self.collected_seq = self.last_seq;
        for user in &dirty.members {
            if let Some(member) = self.members.get(user) {
                rows.put(key::session_user(letter::MEMBER, &self.id, user), row_value(member));
            }
        }
        for sender_key in &dirty.senders {
            let Some(sender) = self.senders.get_mut(sender_key) else { continue };
            rows.put(key::sender(letter::SENDER, &self.id, sender_key), row_value(&sender.row()));
            for (first, run) in sender.collect() {
                rows.put(key::numbers(&self.id, sender_key, first), row_value(&run));
            }
        }
        for user in &dirty.intents {
            let key = key::session_user(letter::INTENT, &self.id, user);
            match self.intents.get(user) {
                Some(link) => rows.put(key, row_value(link)),
                None => rows.delete(key),
            }
        }
        for attribute in &dirty.attributes {
            let key = key::attribute(&self.id, attribute);
            match self.attributes.get(attribute) {
                Some(value) => rows.put(key, row_value(value)),
                None => rows.delete(key),
            }
        }
        self.collect_doors(&mut rows);
        for (request, kept) in self.keys.collect() {
            let key = key::session_key(&self.id, &request);
            match kept {
                Some(kept) => rows.put(key, row_value(kept)),
                None => rows.delete(key),
            }
        }
        if dirty.profile {
            rows.put(key::session(letter::PROFILE, &self.id), row_value(&self.profile));
        }
        if self.is_over() {
            rows.over = Some(self.id.clone());
        }
        let head = dirty.head.then(|| self.head_row());
        rows.unsealed = self.begin_sealing(fresh, head, rewritten);
        rows
    }

    /// What was collected can be read from rows: memory keeps the ring and lets go of the rest.
    pub fn written(&mut self, limits: &SessionLimits) {
        self.end_sealing();
        self.written_seq = self.collected_seq;
        self.rewrites.written();
        self.versions.written();
        for sender in self.senders.values_mut() {
            sender.written();
        }
        self.trim_senders();
        self.trim_tail(limits);
        self.let_go_of_trimmed();
    }

    /// Whether rows hold everything that is here.
    pub fn is_clean(&self) -> bool {
        self.written_seq == self.last_seq
            && !self.dirty.head
            && self.dirty.members.is_empty()
            && self.dirty.senders.is_empty()
            && self.dirty.intents.is_empty()
            && self.rewrites.is_clean()
            && self.versions.is_clean()
            && self.expiries.is_clean()
            && self.dirty.trimmed.is_none()
            && !self.dirty.profile
            && self.doors.is_clean()
            && self.dirty.attributes.is_empty()
            && self.keys.is_clean()
    }

    /// The log index that the rows of a session reflect, and the keys of all of them; none if they are not those of one that is
    /// over.
    ///
    /// # Errors
    /// [`RowFault`].
    pub fn rows_if_over(rows: &dyn RowReader, id: &SessionId) -> Result<Option<(u64, Vec<Bytes>)>, RowFault> {
        let session = Self::load(rows, id)?;
        let (mut keys, mut used) = (Vec::new(), false);
        if !session.is_over() {
            return Ok(None);
        }
        for letter in letter::SESSION_PARTS {
            rows.scan(&key::session(*letter, id), &mut |key, _| {
                used |= *letter != letter::MEMBER;
                keys.push(Bytes::copy_from_slice(key));
                Ok(!used)
            })?;
        }
        keys.push(key::session(letter::HEAD, id).into());
        Ok((!used).then_some((session.index, keys)))
    }

    fn head_row(&self) -> HeadRow {
        HeadRow {
            index: self.index,
            frozen: self.frozen,
            owner: self.owner.clone(),
            settings: self.settings,
            first_seq: self.first_seq,
            first_count: self.first_count,
            last_seq: self.last_seq,
            count: self.count,
            time_ms: self.time_ms,
            version: self.version,
            present: self.present,
            revision: self.rewrites.revision(),
            bars: self.bars.iter().map(|(by, (version, on))| (by.clone(), *version, *on)).collect(),
            // Told when the records are sealed.
            digest: self.tip().digest,
            wishes: self.wishes.iter().map(|(user, wish)| (user.clone(), *wish)).collect(),
            changed: self.changed,
            versions: self.versions.keeping.clone(),
        }
    }
}

/// Runs of numbers among the `most` rows from the key `from` on (or from the first one) that say only where trimmed messages
/// stood; and the key to go on from, if there are more.
///
/// # Errors
/// [`RowFault`].
pub fn needless_numbers(
    rows: &dyn RowReader,
    id: &SessionId,
    first_seq: u64,
    from: Option<Bytes>,
    most: usize,
) -> Result<(Vec<Bytes>, Option<Bytes>), RowFault> {
    let prefix = key::session(letter::NUMBERS, id);
    let from = from.unwrap_or_else(|| Bytes::from(prefix.clone()));
    let (mut needless, mut seen, mut next) = (Vec::new(), 0, None);
    rows.scan_from(&prefix, &from, &mut |key, value| {
        let name = Bytes::copy_from_slice(key);
        if seen == most {
            next = Some(name);
            return Ok(false);
        }
        seen += 1;
        let run: Run = row(key, Bytes::copy_from_slice(value))?;
        if run.items.iter().all(|item| item.seq < first_seq) {
            needless.push(name);
        }
        Ok(true)
    })?;
    Ok((needless, next))
}

/// How many messages with a running count above each of these were recalled: one walk over those above the least.
///
/// # Errors
/// [`RowFault`].
pub fn read_recalled_after(
    rows: &dyn RowReader,
    id: &SessionId,
    counts: &[u64],
) -> Result<Vec<u64>, RowFault> {
    let Some(least) = counts.iter().min() else { return Ok(Vec::new()) };
    let mut recalled = Vec::new();
    let prefix = key::session(letter::RECALLED, id);
    rows.scan_from(&prefix, &key::recalled(id, least.saturating_add(1)), &mut |key, _| {
        recalled.push(count_at(key)?);
        Ok(true)
    })?;
    let after = |count: &u64| (recalled.len() - recalled.partition_point(|known| known <= count)) as u64;
    Ok(counts.iter().map(after).collect())
}

/// Whether messages of a session wait for this user to read them.
///
/// # Errors
/// [`RowFault`].
pub fn read_burns_for(rows: &dyn RowReader, id: &SessionId, user: &UserId) -> Result<bool, RowFault> {
    let mut found = false;
    rows.scan(&key::session(letter::EXPIRY, id), &mut |key, value| {
        let expiry: Expiry = row(key, Bytes::copy_from_slice(value))?;
        found = expiry.waits_for(user).is_some();
        Ok(!found)
    })?;
    Ok(found)
}

fn count_at(key: &[u8]) -> Result<u64, RowFault> {
    let count = key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
    count.ok_or_else(|| RowFault::damaged(key, "no running count in the key"))
}

fn user_at(key: &[u8], prefix: &[u8]) -> Result<UserId, RowFault> {
    let mut rest = key.get(prefix.len()..).unwrap_or_default();
    let text = key::take_text(&mut rest).ok_or_else(|| RowFault::damaged(key, "no user in the key"))?;
    UserId::new(text).map_err(|fault| RowFault::damaged(key, fault))
}

fn attribute_at(key: &[u8], prefix: &[u8]) -> Result<AttributeKey, RowFault> {
    let mut rest = key.get(prefix.len()..).unwrap_or_default();
    let text = key::take_text(&mut rest).ok_or_else(|| RowFault::damaged(key, "no attribute in the key"))?;
    AttributeKey::new(text).map_err(|fault| RowFault::damaged(key, fault))
}

//! Snapshots: the shard as a stream of rows, and a stream of rows as the shard (R8).
//!
//! A chunk is rows packed as `u32 key length, u32 value length, key, value` (little-endian). Each entity is read at one
//! index: its small rows while no checkpoint writes, its old numbers, records and their versions after that, in this order and a
//! page at a time. What comes of those beyond that index says what the replay will say again: new numbers, and records that are
//! recalled or edited by then, which the replay knows by their mark; what these count as their versions is among those that
//! follow, or will be deleted by the replay too.

use std::sync::atomic::Ordering;

use std::collections::HashMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rookery_raft::{Batch, Fault, MAX_CHUNK, Map, Mark, SnapshotReader, SnapshotWriter};
use rookery_wire::SessionId;
use rookery_wire::codec::decode;

use super::actor::Reset;
use super::checkpoint::{APPLIED_KEY, store_fault, unreadable};
use super::entity::{map_name, open_map};
use super::machine::Machine;
use super::rows::{after_prefix, is_replaced};
use super::shared::Shared;
use super::tables::read_tables;
use crate::plant::planted;
use crate::state::key::{self, letter};
use crate::state::session_rows::{HeadRow, last_number};
use crate::state::{RowFault, RowReader};

/// Entities listed, and records read, at a time.
const PAGE_ROWS: usize = 512;
/// Bytes of rows read at a time.
const PAGE_BYTES: usize = 1 << 20;
/// Bytes written to the map in one batch while installing.
const INSTALL_BYTES: usize = 1 << 20;
/// Name of the map that says which generation of each shard is in use.
pub const POINTERS: &str = "shards";

/// Streams the whole shard.
///
/// # Errors
/// [`Fault`] when the store failed or the receiver gave up.
pub async fn write(shared: &Shared, out: SnapshotWriter) -> Result<(), Fault> {
    let _none_is_deleted = shared.snapshots.read().await;
    super::over::unless_too_old(shared, out.name()).await;
    let map = shared.map();
    let mut packer = Packer { out, chunk: BytesMut::with_capacity(MAX_CHUNK) };
    let kinds: [(u8, &[u8]); 2] = [(letter::HEAD, letter::SESSION_PARTS), (letter::USER, letter::USER_PARTS)];
    for (head, parts) in kinds {
        let mut from = vec![head];
        loop {
            let heads = page(shared, &map, from, after_prefix(&[head])).await?;
            let Some((last, _)) = heads.last() else { break };
            from = successor(last);
            for (head_key, _) in heads {
                write_entity(shared, &map, &mut packer, &head_key, parts).await?;
            }
        }
    }
    packer.flush().await
}

/// One entity: its small rows at one index, then the records its head counts, and then their versions.
async fn write_entity(
    shared: &Shared,
    map: &Map,
    packer: &mut Packer,
    head_key: &Bytes,
    parts: &'static [u8],
) -> Result<(), Fault> {
    let name = head_key.slice(1..);
    let key = head_key.clone();
    // What its head counts as kept stays until it is sent.
    let _all_kept = shared.streaming.read().await;
    let small = {
        let _one_index = shared.rows_lock.read().await;
        let name = name.clone();
        let read = move |rows: &dyn RowReader| {
            let mut found = Vec::new();
            if let Some(value) = rows.get(&key)? {
                found.push((key.clone(), value));
            }
            for part in parts {
                let of_senders = [letter::SENDER, letter::NUMBERS].contains(part);
                if of_senders && planted("dedup-lost-in-snapshot") {
                    continue;
                }
                let mut prefix = vec![*part];
                prefix.extend_from_slice(&name);
                rows.scan(&prefix, &mut |key, value| {
                    found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                    Ok(true)
                })?;
            }
            Ok(found)
        };
        super::rows::read(map, read).await
    };
    unless_replaced(shared, map).await;
    let small = small.map_err(unreadable)?;
    let is_session = head_key.first() == Some(&letter::HEAD);
    for (key, value) in &small {
        packer.row(key, value).await?;
    }
    if !is_session {
        return Ok(());
    }
    let session: SessionId = decode(&name).map_err(|fault| unreadable(RowFault::damaged(head_key, fault)))?;
    let head = {
        let rows = Small(&small);
        HeadRow::read(&rows, &session).map_err(unreadable)?
    };
    let Some(head) = head else { return Ok(()) };
    let lasts = last_numbers(&small).map_err(unreadable)?;
    let numbers = key::session(letter::NUMBERS, &session);
    let end = after_prefix(&numbers);
    pages(shared, map, packer, numbers, end, |key| is_of(&lasts, key)).await?;
    let (lowest, first) = (key::record(&session, 0), key::record(&session, head.first_seq));
    let end = key::record(&session, head.last_seq + 1);
    // What was trimmed may still be rows. The run that holds the first kept record may begin before it.
    let read = {
        let lowest = lowest.clone();
        super::rows::read(map, move |rows| rows.last_between(&lowest, &first)).await
    };
    unless_replaced(shared, map).await;
    let from = read.map_err(unreadable)?.map_or(lowest, |(key, _)| key.to_vec());
    pages(shared, map, packer, from, end, |_| true).await?;
    let (from, end) =
        (key::version(&session, head.first_seq, 0), key::version(&session, head.last_seq + 1, 0));
    pages(shared, map, packer, from, end, |_| true).await
}

/// The last number of each sender, by its row's key without the letter.
fn last_numbers(small: &[(Bytes, Bytes)]) -> Result<HashMap<Bytes, u64>, RowFault> {
    let senders = small.iter().filter(|(key, _)| key.first() == Some(&letter::SENDER));
    senders.map(|(key, value)| Ok((key.slice(1..), last_number(key, value.clone())?))).collect()
}

/// Whether a run of numbers begins with one that its sender had used. A later one must not come along: the replay will
/// cut runs where its own checkpoints are, and a short run that begins later would hide the longer one.
fn is_of(lasts: &HashMap<Bytes, u64>, key: &[u8]) -> bool {
    let Some((sender, first)) = key.get(1..).and_then(<[u8]>::split_last_chunk::<8>) else { return false };
    lasts.get(sender).is_some_and(|last| u64::from_be_bytes(*first) <= *last)
}

/// The rows of a range that are to be kept, a page at a time.
async fn pages(
    shared: &Shared,
    map: &Map,
    packer: &mut Packer,
    mut from: Vec<u8>,
    end: Vec<u8>,
    keep: impl Fn(&[u8]) -> bool,
) -> Result<(), Fault> {
    while from < end {
        let rows = page(shared, map, from, end.clone()).await?;
        let Some((last, _)) = rows.last() else { break };
        from = successor(last);
        for (key, value) in rows.iter().filter(|(key, _)| keep(key)) {
            packer.row(key, value).await?;
        }
    }
    Ok(())
}

/// The rows of one entity already in hand.
struct Small<'a>(&'a [(Bytes, Bytes)]);

impl RowReader for Small<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowFault> {
        Ok(self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone()))
    }
    fn scan_from(
        &self,
        prefix: &[u8],
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool, RowFault>,
    ) -> Result<(), RowFault> {
        for (key, value) in self.0.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_ref() >= from) {
            if !each(key, value)? {
                break;
            }
        }
        Ok(())
    }
    fn last_between(&self, from: &[u8], to: &[u8]) -> Result<Option<(Bytes, Bytes)>, RowFault> {
        Ok(self.0.iter().rfind(|(key, _)| from <= key.as_ref() && key.as_ref() <= to).cloned())
    }
}

async fn page(shared: &Shared, map: &Map, from: Vec<u8>, to: Vec<u8>) -> Result<Vec<(Bytes, Bytes)>, Fault> {
    let rows = map.read(move |view| view.range(&from, &to, PAGE_ROWS, PAGE_BYTES, false)).await;
    unless_replaced(shared, map).await;
    rows.map_err(store_fault)
}

/// Never returns once a snapshot was installed over the rows that are streamed: what is still there of them is not the
/// shard, and no reason to stop the node. The transfer takes silence for the end of this sender and gives up.
async fn unless_replaced(shared: &Shared, map: &Map) {
    if is_replaced(shared, map) {
        tracing::info!(shard = shared.shard, "a snapshot was installed over one that was being sent");
        std::future::pending::<()>().await;
    }
}

fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

/// Packs rows into chunks of at most [`MAX_CHUNK`] bytes; a row may run over from one chunk into the next.
struct Packer {
    out: SnapshotWriter,
    chunk: BytesMut,
}

impl Packer {
    async fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let mut rest = Continued::of(key, value);
        while let Some(piece) = rest.next(MAX_CHUNK - self.chunk.len()) {
            self.chunk.put_slice(&piece);
            if self.chunk.len() == MAX_CHUNK {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Fault> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.out.chunk(self.chunk.split().freeze()).await
    }
}

/// A packed row, given out in pieces: rows may run over from one chunk into the next.
struct Continued {
    packed: Bytes,
}

impl Continued {
    fn of(key: &[u8], value: &[u8]) -> Self {
        let mut packed = BytesMut::with_capacity(8 + key.len() + value.len());
        packed.put_u32_le(key.len() as u32);
        packed.put_u32_le(value.len() as u32);
        packed.put_slice(key);
        packed.put_slice(value);
        Self { packed: packed.freeze() }
    }
    fn next(&mut self, room: usize) -> Option<Bytes> {
        let take = room.min(self.packed.len());
        (take > 0).then(|| self.packed.split_to(take))
    }
}

/// Takes the next whole row from what has come so far.
fn unpack(buffer: &mut BytesMut) -> Option<(Bytes, Bytes)> {
    let mut head = buffer.get(..8)?;
    let (key, value) = (head.get_u32_le() as usize, head.get_u32_le() as usize);
    if buffer.len() < 8 + key + value {
        return None;
    }
    buffer.advance(8);
    let key = buffer.split_to(key).freeze();
    Some((key, buffer.split_to(value).freeze()))
}

/// Replaces the shard by the stream: a new generation, flushed, then one pointer flipped.
///
/// # Errors
/// [`Fault`] when the store failed or the stream was cut; the old generation is then whole and in use.
pub async fn install(machine: &Machine, mark: Mark, mut input: SnapshotReader) -> Result<(), Fault> {
    let shard = machine.shared.shard;
    let old = *machine.generation.lock();
    let new = old + 1;
    // What an interrupted installation may have left.
    machine.store.drop_map(&map_name(shard, new)).await.map_err(store_fault)?;
    let map = open_map(&machine.store, shard, new)?;
    let mut buffer = BytesMut::new();
    let mut batch = Batch::default();
    while let Some(chunk) = input.next().await? {
        buffer.extend_from_slice(&chunk);
        while let Some((key, value)) = unpack(&mut buffer) {
            batch.put(key, value);
            if batch.bytes() >= INSTALL_BYTES {
                map.apply(std::mem::take(&mut batch)).await.map_err(store_fault)?;
            }
        }
    }
    if !buffer.is_empty() {
        return Err(Fault::new(format!("the snapshot of shard {shard} ends inside a row")));
    }
    batch.put(Bytes::from_static(&APPLIED_KEY), mark.bytes());
    map.apply(batch).await.map_err(store_fault)?;
    machine.store.sync().await.map_err(store_fault)?;
    let pointers = machine.store.map(POINTERS).map_err(store_fault)?;
    let mut flip = Batch::default();
    flip.put(Bytes::copy_from_slice(&shard.to_be_bytes()), Bytes::copy_from_slice(&new.to_be_bytes()));
    pointers.apply(flip).await.map_err(store_fault)?;
    machine.store.sync().await.map_err(store_fault)?;
    let tables = read_tables(&map).await?;
    // A checkpoint under way still writes to the old map.
    let _one_generation = machine.turnover.lock().await;
    *machine.generation.lock() = new;
    *machine.applied.lock() = Some(mark);
    let reset = Reset { map, tables };
    machine
        .actor
        .send(reset)
        .await
        .map_err(|_| Fault::new(format!("the actors of shard {shard} are gone")))?;
    machine.shared.installed.fetch_add(1, Ordering::Relaxed);
    machine.store.drop_map(&map_name(shard, old)).await.map_err(store_fault)
}

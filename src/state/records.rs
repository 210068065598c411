//! Records as rows: runs of consecutive records, one row for what a checkpoint found of a session, in pieces.
//!
//! With a row per message the thread that writes rows took 39 % of the samples of a profile of three nodes under full
//! load: keys compared, values checksummed and compressed one by one. What runs save is not measured yet. Runs may overlap after a snapshot was installed:
//! the one that begins last before a seq is whole and holds it.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rookery_wire::SessionId;

use super::key;
use super::rows::{RowFault, RowReader, RowWrites};

/// First byte of a run.
const VERSION: u8 = 1;
/// Most records in a run.
pub const RUN_RECORDS: usize = 64;
/// A run is closed once it has so many bytes.
const RUN_BYTES: usize = 32 << 10;

/// Runs by the seq of their first record.
pub type Runs = BTreeMap<u64, Vec<Bytes>>;

/// Puts records, of which the first has seq `first`, into rows; gives first seq and length of each run.
pub fn write(rows: &mut RowWrites, id: &SessionId, first: u64, records: &[&Bytes]) -> Vec<(u64, usize)> {
    let mut runs = Vec::new();
    let mut at = 0;
    while at < records.len() {
        let begin = at;
        let lengths = records[at..].iter().take(RUN_RECORDS).map(|record| 4 + record.len());
        let mut room = 1;
        // One more than fits, as below.
        for length in lengths {
            if room >= RUN_BYTES {
                break;
            }
            room += length;
        }
        let mut value = BytesMut::with_capacity(room);
        value.put_u8(VERSION);
        while at < records.len() && at - begin < RUN_RECORDS && value.len() < RUN_BYTES {
            push(&mut value, records[at]);
            at += 1;
        }
        rows.put(key::record(id, first + begin as u64), value.freeze());
        runs.push((first + begin as u64, at - begin));
    }
    runs
}

fn push(value: &mut BytesMut, record: &Bytes) {
    value.put_u32_le(record.len() as u32);
    value.put_slice(record);
}

/// The run that readers take a record from: the last that begins at or before it, if it reaches so far.
pub fn run_of(runs: &Runs, seq: u64) -> Option<(u64, &Vec<Bytes>)> {
    let (first, run) = runs.range(..=seq).next_back()?;
    (seq - first < run.len() as u64).then_some((*first, run))
}

/// Every run that holds this record: one, or more where runs overlap.
///
/// # Errors
/// [`RowFault`].
pub fn runs_with(rows: &dyn RowReader, id: &SessionId, seq: u64) -> Result<Runs, RowFault> {
    let mut found = Runs::new();
    let lowest = key::record(id, seq.saturating_sub(RUN_RECORDS as u64 - 1));
    let mut upto = seq;
    while let Some((key, value)) = rows.last_between(&lowest, &key::record(id, upto))? {
        let first = key.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let run = unpack(&key, value)?;
        if seq - first < run.len() as u64 {
            found.insert(first, run);
        }
        let Some(before) = first.checked_sub(1) else { break };
        upto = before;
    }
    Ok(found)
}

/// The records from `from` on that are rows, at most `count`; fewer when the rows end before.
///
/// # Errors
/// [`RowFault`].
pub fn read(rows: &dyn RowReader, id: &SessionId, from: u64, count: usize) -> Result<Vec<Bytes>, RowFault> {
    let lowest = key::record(id, 0);
    let mut found = Vec::with_capacity(count);
    while found.len() < count {
        let next = from + found.len() as u64;
        let Some((key, value)) = rows.last_between(&lowest, &key::record(id, next))? else { break };
        let first = key.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let skip = usize::try_from(next - first).unwrap_or(usize::MAX);
        let before = found.len();
        found.extend(unpack(&key, value)?.into_iter().skip(skip).take(count - before));
        if found.len() == before {
            break;
        }
    }
    Ok(found)
}

/// The records of `count` seqs from `first` on as far as they are rows, with the seq of the first of them: what was before
/// may have been trimmed.
///
/// # Errors
/// [`RowFault`].
pub fn read_page(
    rows: &dyn RowReader,
    id: &SessionId,
    first: u64,
    count: u64,
) -> Result<(u64, Vec<Bytes>), RowFault> {
    let found = read(rows, id, first, usize::try_from(count).unwrap_or(usize::MAX))?;
    if !found.is_empty() {
        return Ok((first, found));
    }
    let mut next = None;
    let prefix = key::session(key::letter::RECORD, id);
    rows.scan_from(&prefix, &key::record(id, first), &mut |key, _| {
        next = key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
        Ok(false)
    })?;
    match next.filter(|next| *next < first.saturating_add(count)) {
        Some(next) => {
            let left = usize::try_from(first + count - next).unwrap_or(usize::MAX);
            Ok((next, read(rows, id, next, left)?))
        }
        None => Ok((first, Vec::new())),
    }
}

/// Keys of at most `most` runs that no record from `first_seq` on is read from.
///
/// # Errors
/// [`RowFault`].
pub fn before(
    rows: &dyn RowReader,
    id: &SessionId,
    first_seq: u64,
    most: usize,
) -> Result<Vec<Bytes>, RowFault> {
    let lowest = key::record(id, 0);
    // The run from which the first kept record is read, if it is a row already; else the one that will be is not here yet.
    let Some((holding, value)) = rows.last_between(&lowest, &key::record(id, first_seq))? else {
        return Ok(Vec::new());
    };
    let begins = holding.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let over = begins + unpack(&holding, value)?.len() as u64 <= first_seq;
    let mut keys = Vec::new();
    rows.scan(&key::session(key::letter::RECORD, id), &mut |key, _| {
        let needless = *key < *holding || (over && *key == *holding);
        if needless {
            keys.push(Bytes::copy_from_slice(key));
        }
        Ok(needless && keys.len() < most)
    })?;
    Ok(keys)
}

/// One record.
///
/// # Errors
/// [`RowFault`].
pub fn read_one(rows: &dyn RowReader, id: &SessionId, seq: u64) -> Result<Option<Bytes>, RowFault> {
    Ok(read(rows, id, seq, 1)?.pop())
}

fn unpack(key: &[u8], mut value: Bytes) -> Result<Vec<Bytes>, RowFault> {
    let damaged = |why| RowFault::damaged(key, why);
    if value.first() != Some(&VERSION) {
        return Err(damaged("not a run of records of a version this program knows"));
    }
    value.advance(1);
    let mut records = Vec::with_capacity(RUN_RECORDS);
    while !value.is_empty() {
        if value.len() < 4 {
            return Err(damaged("the run ends inside a length"));
        }
        let length = value.get_u32_le() as usize;
        if value.len() < length {
            return Err(damaged("the run ends inside a record"));
        }
        records.push(value.split_to(length));
    }
    Ok(records)
}

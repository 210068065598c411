//! Records as rows: runs of consecutive records, one row for what a checkpoint found of a session, in pieces.
//!
//! With a row per message the thread that writes rows took 39 % of the samples of a profile of three nodes under full
//! load: keys compared, values checksummed and compressed one by one. What runs save is not measured yet. Runs may overlap after a snapshot was installed:
//! the one that begins last before a seq is whole and holds it. Each says what the session's digest is before it, which is
//! the same however runs were cut.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rookery_wire::{Digest, SessionId};

use super::key;
use super::rows::{RowFault, RowReader};
use super::seal::Tip;

/// First byte of a run. Then the digest of the session before its first record, then the records.
const VERSION: u8 = 2;
/// Bytes of a run before its first record.
const HEAD_BYTES: usize = 1 + 32;
/// Most records in a run.
pub const RUN_RECORDS: usize = 64;
/// A run is closed once it has so many bytes. The database reads and writes a leaf of up to 64 rows as a whole.
const RUN_BYTES: usize = 8 << 10;

/// Consecutive records, as a row holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The digest of the session before the first of them.
    pub before: Digest,
    /// The records.
    pub records: Vec<Bytes>,
}

/// Runs by the seq of their first record.
pub type Runs = BTreeMap<u64, Run>;

/// Where records, of which the first has seq `first`, are cut into runs: first seq and length of each.
pub fn cut(first: u64, records: &[Bytes]) -> Vec<(u64, usize)> {
    let mut runs = Vec::new();
    let (mut begin, mut bytes) = (0, HEAD_BYTES);
    for (at, record) in records.iter().enumerate() {
        bytes += 4 + record.len();
        if at + 1 - begin == RUN_RECORDS || bytes >= RUN_BYTES || at + 1 == records.len() {
            runs.push((first + begin as u64, at + 1 - begin));
            (begin, bytes) = (at + 1, HEAD_BYTES);
        }
    }
    runs
}

/// The same for records that may have been cut before: where a run began, one begins again. Else the older row of it would
/// be the one that readers take what follows from.
pub fn cut_again(first: u64, records: &[Bytes], begins: &[u64]) -> Vec<(u64, usize)> {
    let offset = |begin: &u64| begin.checked_sub(first).and_then(|offset| usize::try_from(offset).ok());
    let mut edges: Vec<usize> =
        begins.iter().filter_map(offset).filter(|edge| *edge < records.len()).collect();
    edges.extend([0, records.len()]);
    edges.sort_unstable();
    edges.dedup();
    let parts = edges.windows(2).filter_map(|edge| Some((edge[0], records.get(edge[0]..edge[1])?)));
    parts.flat_map(|(begin, part)| cut(first + begin as u64, part)).collect()
}

/// The row of a run.
pub fn pack(before: Digest, records: &[Bytes]) -> Bytes {
    let room = records.iter().map(|record| 4 + record.len()).sum::<usize>();
    let mut value = BytesMut::with_capacity(HEAD_BYTES + room);
    value.put_u8(VERSION);
    value.put_slice(&before.0);
    for record in records {
        value.put_u32_le(record.len() as u32);
        value.put_slice(record);
    }
    value.freeze()
}

/// The run that readers take a record from: the last that begins at or before it, if it reaches so far.
pub fn run_of(runs: &Runs, seq: u64) -> Option<(u64, &Run)> {
    let (first, run) = runs.range(..=seq).next_back()?;
    (seq - first < run.records.len() as u64).then_some((*first, run))
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
        if seq - first < run.records.len() as u64 {
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
        found.extend(unpack(&key, value)?.records.into_iter().skip(skip).take(count - before));
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
    let over = begins + unpack(&holding, value)?.records.len() as u64 <= first_seq;
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

/// The digest at `seq` from the run that holds it, or from the one that begins right after it; none if rows do not reach
/// so far, either way.
///
/// # Errors
/// [`RowFault`].
pub fn digest_at(rows: &dyn RowReader, id: &SessionId, seq: u64) -> Result<Option<Digest>, RowFault> {
    let (lowest, upto) = (key::record(id, 0), key::record(id, seq.saturating_add(1)));
    let Some((key, value)) = rows.last_between(&lowest, &upto)? else { return Ok(None) };
    let first = key.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let run = unpack(&key, value)?;
    let from = Tip { seq: first.saturating_sub(1), digest: run.before };
    from.over(&run.records, seq)
}

fn unpack(key: &[u8], mut value: Bytes) -> Result<Run, RowFault> {
    let damaged = |why| RowFault::damaged(key, why);
    if value.first() != Some(&VERSION) {
        return Err(damaged("not a run of records of a version this program knows"));
    }
    value.advance(1);
    if value.len() < 32 {
        return Err(damaged("the run ends inside its digest"));
    }
    let mut before = Digest([0; 32]);
    value.copy_to_slice(&mut before.0);
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
    Ok(Run { before, records })
}

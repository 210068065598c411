//! Records as rows: runs of consecutive records, one row for what a checkpoint found of a session, in pieces.
//!
//! With a row per message the thread that writes rows took 39 % of the samples of a profile of three nodes under full
//! load: keys compared, values checksummed and compressed one by one. What runs save is not measured yet. Runs may overlap after a snapshot was installed:
//! the one that begins last before a seq is whole and holds it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rookery_wire::SessionId;

use super::key;
use super::rows::{RowFault, RowReader, RowWrites};

/// First byte of a run.
const VERSION: u8 = 1;
/// Most records in a run.
const RUN_RECORDS: usize = 64;
/// A run is closed once it has so many bytes.
const RUN_BYTES: usize = 32 << 10;

/// Puts records, of which the first has seq `first`, into rows.
pub fn write(rows: &mut RowWrites, id: &SessionId, first: u64, records: &[&Bytes]) {
    let mut at = 0;
    while at < records.len() {
        let begin = at;
        let mut value = BytesMut::with_capacity(RUN_BYTES / 4);
        value.put_u8(VERSION);
        while at < records.len() && at - begin < RUN_RECORDS && value.len() < RUN_BYTES {
            value.put_u32_le(records[at].len() as u32);
            value.put_slice(records[at]);
            at += 1;
        }
        rows.put(key::record(id, first + begin as u64), value.freeze());
    }
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

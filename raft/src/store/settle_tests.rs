//! What a purge in a later batch leaves out, and how opening holds sled and journal against each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Settled;
use crate::store::backlog::Batch;
use crate::store::fault::StepHook;
use crate::store::journal::format::{Draft, Sealed};
use crate::store::log::purge_floors;
use crate::store::log_db::LogDb;
use crate::store::meta::{GroupMeta, Metas, chain};
use crate::store::record::{self, Kind, Record};
use crate::types::{Entry, EntryPayload, LeaderId, LogId, Payload, RaftId};

const STORE: u64 = 77;
const CACHE: usize = 1 << 20;

fn id(index: u64) -> LogId {
    LogId { leader_id: LeaderId { term: 3, node_id: RaftId::new(1, 5) }, index }
}

/// Batches of group 1, one after another.
#[derive(Default)]
struct Batches {
    meta: GroupMeta,
    number: u64,
}

impl Batches {
    /// Entries up to `last`, and a purge.
    fn batch(&mut self, last: u64, purge: Option<u64>) -> Arc<Sealed> {
        let mut draft = Draft::new(0);
        let first = self.meta.last.map_or(1, |id| id.index + 1);
        for index in first..=last {
            let payload = EntryPayload::Normal(Payload(Bytes::from(vec![index as u8; 100])));
            let before = self.meta.chain;
            let from = draft.bytes.len();
            let entry = Entry { log_id: id(index), payload };
            record::push_entry(&mut draft.bytes, 1, &entry, |crc| chain(before, crc)).unwrap();
            Record::iter_trusted(&draft.bytes[from..]).for_each(|r| self.meta.fold(&r).unwrap());
            draft.records += 1;
        }
        if let Some(purge) = purge {
            record::push_point(&mut draft.bytes, Kind::Purge, 1, Some(id(purge))).unwrap();
            self.meta.purge(id(purge));
            draft.records += 1;
        }
        self.number += 1;
        Arc::new(draft.seal(STORE, 1, self.number, 0))
    }
}

fn open(dir: &std::path::Path) -> (Settled, Arc<LogDb>) {
    let db = Arc::new(LogDb::open(dir, CACHE).unwrap());
    let loaded = db.load(STORE, &|| {}).unwrap();
    (Settled::new(db.clone(), STORE, loaded, StepHook::default()), db)
}

#[test]
fn what_a_later_batch_purges_is_left_out_and_said_to_be() {
    let temp = tempfile::tempdir().unwrap();
    let mut batches = Batches::default();
    let (first, second, third) =
        (batches.batch(10, None), batches.batch(12, Some(7)), batches.batch(14, Some(13)));

    let (mut settled, db) = open(temp.path());
    settled.settle(std::slice::from_ref(&first), &BTreeMap::from([(1, 8)])).unwrap();
    drop(settled);
    db.close();

    let (mut settled, db) = open(temp.path());
    assert_eq!(settled.metas[&1].purged, None, "sled stands at the first batch, which purges nothing");
    assert_eq!((settled.spans.get(&1), settled.floors.get(&1)), (Some(&(8..11)), Some(&8)));
    settled.settle(std::slice::from_ref(&second), &BTreeMap::from([(1, 14)])).unwrap();
    assert_eq!(settled.spans.get(&1), None, "everything up to the second batch is purged by the third");
    drop(settled);
    db.close();

    let (mut settled, db) = open(temp.path());
    assert_eq!(settled.metas[&1].purged, Some(id(7)));
    settled.settle(std::slice::from_ref(&third), &BTreeMap::new()).unwrap();
    assert_eq!(settled.spans.get(&1), Some(&(14..15)));
    assert_eq!(db.read(1, 0..100, usize::MAX).unwrap().len(), 0, "a read stops at a hole");
    assert_eq!(db.read(1, 14..100, usize::MAX).unwrap().len(), 1);
    drop(settled);
    db.close();
}

#[test]
fn a_batch_of_which_nothing_is_left_is_settled_by_its_metas() {
    let temp = tempfile::tempdir().unwrap();
    let mut batches = Batches::default();
    let first = batches.batch(10, None);
    let second = batches.batch(20, Some(20));
    let (mut settled, db) = open(temp.path());
    settled.settle(std::slice::from_ref(&first), &BTreeMap::new()).unwrap();
    assert_eq!(settled.spans.get(&1), Some(&(1..11)));

    let floors = BTreeMap::from([(1, 21)]);
    let metas = vec![(1, batches.meta.clone())];
    let sealed = Some(second);
    let mut batch = Batch { number: 2, length: 4096, sealed, metas, ended: Vec::new(), truncates: true };
    batch.shed(&floors);
    assert!(batch.sealed.is_some(), "a truncation is settled from the batch itself");
    batch.truncates = false;
    batch.shed(&BTreeMap::from([(1, 20)]));
    assert!(batch.sealed.is_some(), "its last entry is still there");
    batch.shed(&floors);
    assert!(batch.sealed.is_none());
    settled.settle(std::slice::from_ref(&batch), &floors).unwrap();
    drop(settled);
    db.close();

    let (settled, db) = open(temp.path());
    assert_eq!(settled.metas[&1], batches.meta, "as if it had been folded record by record");
    assert_eq!((settled.position, settled.spans.get(&1)), (2, None));
    drop(settled);
    db.close();
}

#[test]
fn a_hole_that_nobody_purged_is_damage() {
    let temp = tempfile::tempdir().unwrap();
    let mut batches = Batches::default();
    let first = batches.batch(10, None);
    let (mut settled, db) = open(temp.path());
    settled.settle(std::slice::from_ref(&first), &BTreeMap::from([(1, 8)])).unwrap();
    let left_out = settled.floors.clone();
    let metas = Metas::from([(1, batches.meta.clone())]);
    let why = purge_floors(&left_out, &metas).unwrap_err();
    assert!(why.contains("before 8"), "{why}");

    batches.batch(10, Some(7));
    let metas = Metas::from([(1, batches.meta)]);
    assert_eq!(purge_floors(&left_out, &metas), Ok(BTreeMap::from([(1, 8)])));
    drop(settled);
    db.close();
}

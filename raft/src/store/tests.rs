//! openraft's own suite for log stores, over the disk and over memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::errors::ErrorSource;
use openraft::impls::BoxedErrorSource;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, StorageError};
use parking_lot::Mutex;

use crate::types::{EntryPayload, LeaderId, LogId, RaftId, StoredMembership, TypeConfig};

use super::group_log::GroupLog;
use super::{MemoryDisk, Store, StoreOptions};

impl From<u64> for RaftId {
    fn from(node: u64) -> Self {
        Self::new(node as u16, 0)
    }
}

type SnapshotMeta = openraft::SnapshotMeta<LeaderId, RaftId, openraft::EmptyNode>;
type Snapshot = openraft::Snapshot<LeaderId, RaftId, openraft::EmptyNode, ()>;

/// The least a state machine can be: it remembers what it has seen.
#[derive(Debug, Default, Clone)]
struct Seen {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Arc<Mutex<Option<SnapshotMeta>>>,
}

impl RaftSnapshotBuilder<TypeConfig> for Seen {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        *self.snapshot.lock() = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: () })
    }
}

impl RaftStateMachine<TypeConfig> for Seen {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, _responder) = next?;
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, _data: ()) -> Result<(), io::Error> {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        *self.snapshot.lock() = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshot.lock().clone().map(|meta| Snapshot { meta, snapshot: () }))
    }
}

/// Gives every test a group of its own in one store.
struct OneStore(Store, AtomicU64);

impl StoreBuilder<TypeConfig, GroupLog, Seen, ()> for OneStore {
    async fn build(&self) -> Result<((), GroupLog, Seen), StorageError<TypeConfig>> {
        let group = self.1.fetch_add(1, Ordering::Relaxed) as u32;
        let log =
            self.0.group_log(group).map_err(|e| StorageError::read(BoxedErrorSource::from_error(&e)))?;
        Ok(((), log, Seen::default()))
    }
}

/// The suite is one future of many; unoptimised, it needs more stack than a test thread has.
fn pass_suite(open: impl FnOnce() -> Store + Send + 'static) {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = open();
            let suite = Box::pin(Suite::test_all(OneStore(store.clone(), AtomicU64::new(1))));
            tokio::time::timeout(Duration::from_secs(60), suite).await.unwrap().unwrap();
            store.close().await;
        });
    };
    std::thread::Builder::new().stack_size(64 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn openrafts_suite_passes_on_disk() {
    let temp = tempfile::tempdir().unwrap();
    let mut options = StoreOptions::new(temp.path());
    options.journal_segment_bytes = 1 << 20;
    pass_suite(move || Store::open(options).unwrap());
}

#[test]
fn openrafts_suite_passes_in_memory() {
    pass_suite(|| Store::in_memory(MemoryDisk::new(1)));
}

#[test]
fn openrafts_suite_passes_in_memory_with_slow_syncs() {
    pass_suite(|| Store::in_memory(MemoryDisk::new(1).with_latency(Duration::from_millis(3))));
}

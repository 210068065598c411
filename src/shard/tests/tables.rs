//! A shard with many sessions on a slow disk is opened all the same, for no single read of its tables takes long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rookery_raft::{FaultPolicy, Map, Store, StoreOptions};
use rookery_wire::{GroupId, SessionId};

use super::{Shard, device, in_system, user};
use crate::shard::tables::{Look, Tables, read_by_pages, read_tables};
use crate::shard::{checkpoint, rows};
use crate::state::tables::PageSize;
use crate::state::{Act, Actor, ChangeKind, Command, RowFault, RowReader};

/// Sessions of the shard; each has a head and an intent.
const SESSIONS: u64 = 40;
/// What a row takes: all heads take longer than one read may, and a page much less.
const ROW: Duration = Duration::from_millis(40);
const LIMIT: Duration = Duration::from_millis(1200);
const ROWS: usize = 4;

/// Rows on a slow disk.
struct Slow(Map);

impl Look for Slow {
    async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn RowReader) -> Result<T, RowFault> + Send + 'static,
    ) -> Result<T, RowFault> {
        rows::read(&self.0, move |rows| read(&SlowRows(rows))).await
    }
}

struct SlowRows<'a>(&'a dyn RowReader);

impl RowReader for SlowRows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowFault> {
        self.0.get(key)
    }
    fn scan_from(
        &self,
        prefix: &[u8],
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> Result<bool, RowFault>,
    ) -> Result<(), RowFault> {
        self.0.scan_from(prefix, from, &mut |key, value| {
            std::thread::sleep(ROW);
            each(key, value)
        })
    }
    fn last_between(&self, from: &[u8], to: &[u8]) -> Result<Option<(Bytes, Bytes)>, RowFault> {
        self.0.last_between(from, to)
    }
}

fn create(number: u64) -> Command {
    let actor = Actor { user: user("ann"), device: device(), epoch: 1, on_behalf_of: None, service: false };
    let session = SessionId::Group(GroupId::new(&format!("g{number}")).expect("a name"));
    let act = Act::Change { kind: ChangeKind::Create, users: Vec::new(), most: 5, unknown: None };
    Command::Act { actor, session, client_seq: 1, act }
}

fn sessions(tables: &Tables) -> (Vec<SessionId>, Vec<SessionId>) {
    (tables.table.iter().map(|(session, _)| session.clone()).collect(), tables.intents.clone())
}

#[test]
fn tables_are_read_in_pages_each_of_which_is_in_time() {
    in_system(async {
        let (dir, hung) = (tempfile::tempdir().expect("a folder"), Arc::new(AtomicBool::new(false)));
        let seen = hung.clone();
        let mut options = StoreOptions::new(dir.path());
        (options.watchdog, options.free_disk_low_water) = (LIMIT, 0);
        options.fault = FaultPolicy::observed(move |_| seen.store(true, Ordering::Release));
        let shard = Shard::over(Store::open(options).expect("a store")).await;
        shard.apply_all(1, (0..SESSIONS).map(create).collect()).await;
        checkpoint::write(&shard.machine, None).await.expect("written");
        let map = shard.shared.map();

        let fast = sessions(&read_tables(&map).await.expect("tables"));
        assert_eq!((fast.0.len(), fast.1.len()), (SESSIONS as usize, SESSIONS as usize));
        let page = PageSize { rows: ROWS, bytes: usize::MAX };
        let slow = sessions(&read_by_pages(&Slow(map.clone()), page).await.expect("in time"));
        assert_eq!(slow, fast);
        assert!(!hung.load(Ordering::Acquire), "every page was in time");
        // By bytes as well: a page has its first row whatever its size.
        let page = PageSize { rows: usize::MAX, bytes: 1 };
        assert_eq!(sessions(&read_by_pages(&map, page).await.expect("tables")), fast);

        // As one read it takes too long, so this test can fail.
        let page = PageSize { rows: usize::MAX, bytes: usize::MAX };
        assert!(read_by_pages(&Slow(map), page).await.is_err());
        assert!(hung.load(Ordering::Acquire), "the watchdog never fired");
    });
}

//! Who waits for a purge to be settled, while the batch that it is in is still on its way to the backlog.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::store::fault::{Step, StepHook};
use crate::store::probe::LogProbe;
use crate::store::{Inner, Store, StoreOptions};

const GROUP: u32 = 1;
/// How long one is watched who must not be told yet: many looks of the keeper.
const WATCHED: Duration = Duration::from_millis(300);
/// For what must happen.
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn who_was_told_of_a_purge_waits_until_it_is_settled_itself() {
    let temp = tempfile::tempdir().unwrap();
    let (release, held) = crossbeam_channel::bounded::<()>(1);
    let told = AtomicU32::new(0);
    let mut options = StoreOptions::new(temp.path());
    options.keeper_pause = Duration::from_millis(10);
    options.steps = StepHook::new(move |step| {
        // The batch after that of the entries is the purge's.
        if step == Step::Told && told.fetch_add(1, Ordering::Relaxed) == 1 {
            let _ = held.recv_timeout(LIMIT);
        }
    });
    let store = Store::open(options).unwrap();
    let mut log = LogProbe::open(&store, GROUP).unwrap();
    let content = vec![Bytes::from_static(b"to be forgotten"); 5];
    log.append(1, 1, content).await.unwrap().await.unwrap();
    log.purge((1, 5)).await.unwrap();

    let asked = store.group_log(GROUP).unwrap();
    let settled = asked.settle_all();
    tokio::pin!(settled);
    let early = timeout(WATCHED, &mut settled).await;
    assert!(early.is_err(), "the purge is in no batch that the keeper knows of");
    release.send(()).unwrap();
    timeout(LIMIT, settled).await.expect("once the batch is there").unwrap();
    let Inner::Disk(disk) = &*store.0 else { panic!("a store on disk") };
    let left = disk.log.read(GROUP, 1..6, usize::MAX).await.unwrap().unwrap();
    assert_eq!(left.len(), 0, "what was purged is not in sled");
    store.close().await;
}

//! What was taken back leaves the log of every replica, also of one whose rows knew of it before its log brought it.

use rookery_raft::{MemoryDisk, Store};

use super::frozen::{both_linked, pair, send, seq};
use super::{Shard, in_system};
use crate::shard::checkpoint::{self, UNPURGED_KEY};
use crate::state::{Act, Command};

fn recall(client_seq: u64, seq: u64) -> Command {
    let act = Act::Recall { seq, window_ms: u64::MAX };
    match send(pair("bob"), client_seq) {
        Command::Act { actor, session, client_seq, .. } => Command::Act { actor, session, client_seq, act },
        other => other,
    }
}

#[test]
fn a_recall_that_rows_have_already_is_purged_from_the_log_that_brings_it() {
    in_system(async {
        let store = Store::in_memory(MemoryDisk::new(1));
        let shard = Shard::over(store.clone()).await;
        shard.apply(3, send(pair("bob"), 1)).await;
        shard.apply(4, both_linked("bob", 3)).await;
        assert_eq!(seq(shard.apply(5, send(pair("bob"), 1)).await), 1);
        assert_eq!(seq(shard.apply(6, recall(2, 1)).await), 2);
        assert_eq!(*shard.shared.unpurged.lock(), Some((6, 6)));
        checkpoint::write(&shard.machine, None).await.expect("written");

        // As after a snapshot whose session was ahead of its mark, or a crash between the rows and the mark: what was noted of
        // it is done, for it was in no log here yet.
        let shard = Shard::over(store).await;
        let mut done = rookery_raft::Batch::default();
        done.delete(bytes::Bytes::from_static(&UNPURGED_KEY));
        shard.shared.map().apply(done).await.expect("applied");
        assert_eq!(*shard.shared.unpurged.lock(), None);
        for (index, command) in [(5, send(pair("bob"), 1)), (6, recall(2, 1)), (7, send(pair("bob"), 3))] {
            shard.apply(index, command).await;
        }
        assert_eq!(*shard.shared.unpurged.lock(), Some((6, 6)), "this log has brought it too");
        let mark = checkpoint::write(&shard.machine, None).await.expect("written").expect("a mark");
        let note = shard.shared.map().read(|view| view.get(&UNPURGED_KEY)).await.expect("rows");
        assert!(note.is_some(), "over a restart as well");
        assert!(shard.shared.must_purge(mark.index()));
        assert!(!shard.shared.must_purge(mark.index()), "once");
    });
}

#[test]
fn the_places_of_what_must_leave_the_log_may_become_known_in_any_order() {
    in_system(async {
        let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
        for index in [12, 10, 11] {
            shard.shared.to_be_purged(index);
        }
        assert!(!shard.shared.must_purge(9));
        assert!(shard.shared.must_purge(11));
        assert!(shard.shared.must_purge(12), "the last of them is still there");
    });
}

#[test]
fn an_older_purge_does_not_take_away_the_note_of_a_newer_recall() {
    in_system(async {
        let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
        shard.apply(3, send(pair("bob"), 1)).await;
        shard.apply(4, both_linked("bob", 3)).await;
        shard.apply(5, send(pair("bob"), 1)).await;
        shard.apply(6, recall(2, 1)).await;
        let first = checkpoint::write(&shard.machine, None).await.expect("written").expect("a mark");
        assert!(shard.shared.must_purge(first.index()));
        // While that purge is under way.
        shard.apply(7, send(pair("bob"), 3)).await;
        shard.apply(8, recall(4, 3)).await;
        let second = checkpoint::write(&shard.machine, Some(&first)).await.expect("written").expect("a mark");
        assert!(shard.shared.must_purge(second.index()));
        for (purged, stays) in [(first.index(), true), (second.index(), false)] {
            checkpoint::note_purged(&shard.shared, Ok(purged)).await.expect("noted");
            let note = shard.shared.map().read(|view| view.get(&UNPURGED_KEY)).await.expect("rows");
            assert_eq!(note.is_some(), stays, "purged up to {purged}");
        }
    });
}

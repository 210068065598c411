//! Rows of trimmed records, and of versions that are given up, leave in the end, whatever comes between the head that says so
//! and their deletion.

use rookery_raft::{MemoryDisk, Store};
use rookery_wire::{Blob, GroupAction, Retention};

use super::frozen::{both_linked, pair, send};
use super::{Shard, in_system};
use crate::shard::checkpoint;
use crate::shard::rows;
use crate::state::command::Act;
use crate::state::key::{self, letter};
use crate::state::{Command, VersionBounds};

/// Runs of records of the session, and whether a row remembers trimmed ones.
async fn runs_and_note(shard: &Shard) -> (usize, bool) {
    let map = shard.shared.map();
    let read = rows::read(&map, |rows| {
        let mut runs = 0;
        rows.scan(&key::session(letter::RECORD, &pair("bob")), &mut |_, _| {
            runs += 1;
            Ok(true)
        })?;
        Ok((runs, rows.get(&key::session(letter::FREED, &pair("bob")))?.is_some()))
    });
    read.await.expect("rows")
}

/// Five runs of records, of which all but the last are trimmed while a snapshot is streamed.
async fn trimmed_under_a_snapshot(shard: &Shard) -> Option<rookery_raft::Mark> {
    shard.apply(1, send(pair("bob"), 1)).await;
    shard.apply(2, both_linked("bob", 1)).await;
    let mut mark = None;
    for number in 1..=5 {
        shard.apply(2 + number, send(pair("bob"), number)).await;
        mark = checkpoint::write(&shard.machine, mark.as_ref()).await.expect("written");
    }
    assert_eq!(runs_and_note(shard).await, (5, false), "a checkpoint each");
    let trim = Command::Trim { session: pair("bob"), upto: 4, count: 4, by: Retention::default() };
    shard.apply(10, trim).await;
    let streams = shard.shared.streaming.read().await;
    let mark = checkpoint::write(&shard.machine, mark.as_ref()).await.expect("written");
    drop(streams);
    assert_eq!(runs_and_note(shard).await, (5, true), "they stay for the snapshot");
    mark
}

#[test]
fn what_a_snapshot_kept_goes_although_nothing_more_happens() {
    in_system(async {
        let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
        let mark = trimmed_under_a_snapshot(&shard).await;
        let next = checkpoint::write(&shard.machine, mark.as_ref()).await.expect("written");
        assert!(next.is_none(), "there was nothing to write");
        assert_eq!(runs_and_note(&shard).await, (1, false));
    });
}

#[test]
fn what_was_trimmed_before_a_restart_goes_after_it() {
    in_system(async {
        let store = Store::in_memory(MemoryDisk::new(1));
        trimmed_under_a_snapshot(&Shard::over(store.clone()).await).await;
        let shard = Shard::over(store).await;
        // Whatever is applied next; the session is not touched.
        shard.apply(11, send(pair("eve"), 1)).await;
        checkpoint::write(&shard.machine, None).await.expect("written");
        assert_eq!(runs_and_note(&shard).await, (1, false));
    });
}

/// Rows of versions of messages of the session.
async fn versions(shard: &Shard) -> usize {
    let map = shard.shared.map();
    let read = rows::read(&map, |rows| {
        let mut versions = 0;
        rows.scan(&key::session(letter::VERSION, &pair("bob")), &mut |_, _| {
            versions += 1;
            Ok(true)
        })?;
        Ok(versions)
    });
    read.await.expect("rows")
}

pub(super) fn acts(number: u64, act: Act) -> Command {
    match send(pair("bob"), number) {
        Command::Act { actor, session, client_seq, .. } => Command::Act { actor, session, client_seq, act },
        other => other,
    }
}

/// A message that was edited twice and whose versions are given up while a snapshot is streamed.
async fn given_up_under_a_snapshot(shard: &Shard) -> Option<rookery_raft::Mark> {
    shard.apply(1, send(pair("bob"), 1)).await;
    shard.apply(2, both_linked("bob", 1)).await;
    shard.apply(3, send(pair("bob"), 1)).await;
    let mut mark = None;
    for number in [2, 3] {
        let edit = Act::Edit {
            seq: 1,
            window_ms: u64::MAX,
            versions: VersionBounds { most: 3, kept: true },
            content_type: Blob::from("text/plain"),
            content: Blob::from("again"),
            extensions: Vec::new(),
        };
        shard.apply(2 + number, acts(number, edit)).await;
        mark = checkpoint::write(&shard.machine, mark.as_ref()).await.expect("written");
    }
    assert_eq!(versions(shard).await, 2);
    let off = Act::Manage { action: GroupAction::KeepVersions { on: false } };
    shard.apply(6, acts(4, off)).await;
    let streams = shard.shared.streaming.read().await;
    let mark = checkpoint::write(&shard.machine, mark.as_ref()).await.expect("written");
    drop(streams);
    assert_eq!(versions(shard).await, 2, "they stay for the snapshot");
    assert!(runs_and_note(shard).await.1, "a row remembers them");
    mark
}

#[test]
fn versions_that_are_given_up_go_once_nobody_streams() {
    in_system(async {
        let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
        let mark = given_up_under_a_snapshot(&shard).await;
        checkpoint::write(&shard.machine, mark.as_ref()).await.expect("written");
        assert_eq!((versions(&shard).await, runs_and_note(&shard).await.1), (0, false));
    });
}

#[test]
fn versions_that_were_given_up_before_a_restart_go_after_it() {
    in_system(async {
        let store = Store::in_memory(MemoryDisk::new(1));
        given_up_under_a_snapshot(&Shard::over(store.clone()).await).await;
        let shard = Shard::over(store).await;
        shard.apply(7, send(pair("eve"), 1)).await;
        checkpoint::write(&shard.machine, None).await.expect("written");
        assert_eq!((versions(&shard).await, runs_and_note(&shard).await.1), (0, false));
    });
}

#[test]
fn versions_that_are_given_up_are_remembered_over_a_trim_and_a_restart() {
    in_system(async {
        let store = Store::in_memory(MemoryDisk::new(1));
        let shard = Shard::over(store.clone()).await;
        let mark = given_up_under_a_snapshot(&shard).await;
        let streams = shard.shared.streaming.read().await;
        shard
            .apply(10, Command::Trim { session: pair("bob"), upto: 1, count: 1, by: Retention::default() })
            .await;
        checkpoint::write(&shard.machine, mark.as_ref()).await.expect("written");
        drop(streams);
        let left = shard.shared.freed.lock().get(&pair("bob")).copied().expect("to be freed");
        assert_eq!((left.first, left.versions), (2, 4));
        let again = Shard::over(store).await;
        assert_eq!(
            again.shared.freed.lock().get(&pair("bob")).copied(),
            Some(left),
            "the row says all of it"
        );
    });
}

#[test]
fn versions_beyond_what_one_checkpoint_deletes_go_behind_the_next() {
    in_system(async {
        let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
        given_up_under_a_snapshot(&shard).await;
        checkpoint::free(&shard.shared, &shard.shared.map(), 0).await.expect("freed");
        assert_eq!((versions(&shard).await, runs_and_note(&shard).await.1), (2, true));
        checkpoint::free(&shard.shared, &shard.shared.map(), 1).await.expect("freed");
        assert_eq!((versions(&shard).await, runs_and_note(&shard).await.1), (0, false));
    });
}

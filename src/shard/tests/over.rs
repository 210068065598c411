//! What opened in vain leaves no rows, and a replay does not take what it had answered for something to begin.

use rookery_raft::{MemoryDisk, SnapshotWriter, Store, probe};
use rookery_wire::{ErrorCode, GroupId, SessionId};
use tokio::time::timeout;

use super::{PATIENCE, Shard, device, in_system, user};
use crate::shard::{Answer, checkpoint, rows, snapshot};
use crate::state::key::{self, letter};
use crate::state::{Act, Actor, ChangeKind, Command, Unwanted};

/// How long one is watched who must not be done.
const WATCHED: std::time::Duration = std::time::Duration::from_millis(200);

fn team() -> SessionId {
    SessionId::group(GroupId::new("team").expect("a name"))
}

fn create() -> Command {
    let actor = Actor { user: user("ann"), device: device(), epoch: 1, on_behalf_of: None, service: false };
    let act = Act::Change { kind: ChangeKind::Create, users: Vec::new(), most: 5, unknown: None };
    Command::Act { actor, session: team(), client_seq: 1, act }
}

/// The list of who creates the group is full.
fn full(version: u64) -> Command {
    let refused = vec![(user("ann"), version)];
    Command::Unlinked { session: team(), refused, why: Unwanted::Full { most: 16 } }
}

/// That list has heard that it is to stay so.
fn let_go(version: u64) -> Command {
    Command::Linked { session: team(), done: vec![(user("ann"), version, false)] }
}

async fn rows_of(shard: &Shard) -> usize {
    let map = shard.shared.map();
    let read = rows::read(&map, |rows| {
        let mut count = 0;
        for letter in [&[letter::HEAD], letter::SESSION_PARTS].concat() {
            rows.scan(&key::session(letter, &team()), &mut |_, _| {
                count += 1;
                Ok(true)
            })?;
        }
        Ok(count)
    });
    read.await.expect("rows")
}

fn is_listed(shard: &Shard) -> bool {
    shard.shared.table.contains(&team())
}

#[test]
fn a_group_that_a_full_list_refused_leaves_no_rows() {
    in_system(async {
        let store = Store::in_memory(MemoryDisk::new(1));
        let shard = Shard::over(store.clone()).await;
        assert_eq!(shard.apply(1, create()).await, None, "it waits for the session to open");
        let mark = checkpoint::write(&shard.machine, None).await.expect("written");
        assert!(is_listed(&shard) && rows_of(&shard).await == 2, "a head and an intent");
        let told = shard.apply(2, full(1)).await;
        assert_eq!(told, Some(Answer::Done));
        shard.apply(3, let_go(2)).await;
        assert!(!is_listed(&shard), "nothing of it is kept in memory");
        let heard = std::mem::take(&mut *shard.heard.0.lock());
        assert!(
            matches!(&heard[..], [(_, Answer::Refused(error))] if error.code == ErrorCode::TooManySessions),
            "{heard:?}"
        );

        // Not while a snapshot is streamed; and then though nothing more happens.
        let streams = shard.shared.snapshots.read().await;
        let mark = checkpoint::write(&shard.machine, mark.as_ref()).await.expect("written");
        drop(streams);
        assert_eq!(rows_of(&shard).await, 1, "its head says that it is over");
        assert!(checkpoint::write(&shard.machine, mark.as_ref()).await.expect("written").is_none());
        assert_eq!(rows_of(&shard).await, 0);

        // A snapshot that goes by the mark from before is not begun.
        let (writer, _chunks) = SnapshotWriter::named(1);
        assert!(timeout(WATCHED, snapshot::write(&shard.shared, writer)).await.is_err());
        let (writer, _chunks) = SnapshotWriter::named(3);
        timeout(PATIENCE, snapshot::write(&shard.shared, writer)).await.expect("in time").expect("streamed");

        // Begun again, by the same actor and by one that knows nothing of it.
        for shard in [shard, Shard::over(store).await] {
            assert_eq!(shard.apply(4, create()).await, None);
            let linked = Command::Linked { session: team(), done: vec![(user("ann"), 4, true)] };
            shard.apply(5, linked).await;
            let created = shard.apply(6, create()).await;
            assert!(matches!(&created, Some(Answer::Ack(ack)) if ack.seq == 1), "{created:?}");
            assert!(is_listed(&shard));
        }
    });
}

#[test]
fn what_opened_in_vain_stays_until_a_mark_covers_it() {
    in_system(async {
        let store = Store::in_memory(MemoryDisk::new(1));
        let shard = Shard::over(store.clone()).await;
        // The request comes again while it opens.
        shard.apply(1, create()).await;
        shard.apply(2, create()).await;
        shard.apply(3, full(1)).await;
        shard.apply(4, let_go(3)).await;
        // As a checkpoint that began before: its rows are ahead of its mark.
        *shard.machine.applied.lock() = Some(probe::mark((1, 1)));
        checkpoint::write(&shard.machine, None).await.expect("written");
        assert_eq!(rows_of(&shard).await, 1);

        // Who starts with these rows passes over what they reflect: the repeat opens nothing.
        let again = Shard::over(store).await;
        again.apply(2, create()).await;
        again.apply(3, full(1)).await;
        again.apply(4, let_go(3)).await;
        assert!(again.shared.intents.lock().is_empty());
        let mark = checkpoint::write(&again.machine, None).await.expect("written");
        assert_eq!((mark.map(|mark| mark.index()), rows_of(&again).await), (Some(4), 0));
    });
}

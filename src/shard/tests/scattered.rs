//! Checkpoints of many entities with little in each: written seldom, one shard of a node after another, and whole.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rookery_raft::{MemoryDisk, Store};
use rookery_wire::SessionId;
use tokio::time::Instant;

use super::frozen::{pair, send};
use super::{Shard, user};
use crate::shard::checkpoint;
use crate::shard::rows;
use crate::shard::shared::Shared;
use crate::state::EntityKey;
use crate::state::key::{self, letter};
use crate::state::session_rows::HeadRow;

/// More than are asked for their rows at once, twice over.
const SESSIONS: u64 = 150;

/// Without a deadline of its own: some of these wait for longer than others may take, on a clock that does not.
fn alone(test: impl Future<Output = ()>) {
    actix::System::new().block_on(test);
}

fn scatter(shared: &Shared, entities: usize, bytes: usize) {
    shared.dirty.lock().clear();
    for at in 0..entities {
        shared.touch(EntityKey::User(user(&format!("user{at}"))));
    }
    shared.unwritten.store(bytes, Ordering::Release);
}

async fn took<T>(wait: impl Future<Output = T>) -> (Duration, T) {
    let begin = Instant::now();
    let outcome = wait.await;
    (begin.elapsed(), outcome)
}

#[test]
fn scattered_changes_are_left_for_longer_unless_somebody_asks() {
    alone(async {
        let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
        let shared = &*shard.shared;
        let every = shared.options.checkpoint_every;
        tokio::time::pause();
        for (entities, bytes, periods) in [
            (0, 0, 1),
            (31, 0, 1),
            (32, 0, 4),
            (32, 256 << 10, 1),
            (1000, (2 << 20) + 1, 1),
            (1000, 2 << 20, 4),
        ] {
            scatter(shared, entities, bytes);
            let (waited, ()) = took(checkpoint::pause(shared)).await;
            assert!(
                waited >= every * periods && waited < every * (periods + 1),
                "{entities}, {bytes}: {waited:?}"
            );
        }
        shared.to_be_purged(7);
        assert!(took(checkpoint::pause(shared)).await.0 < every, "a recall waits for nobody");
        let (waited, ()) = took(checkpoint::pause(shared)).await;
        assert!(waited < every * 2, "nor while its checkpoint has not been: {waited:?}");
    });
}

#[test]
fn one_shard_of_a_node_writes_scattered_changes_at_a_time() {
    alone(async {
        let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
        let shared = &*shard.shared;
        tokio::time::pause();
        scatter(shared, 1000, 0);
        let first = checkpoint::turn(shared).await.expect("nobody else has it");
        let (waited, second) = took(checkpoint::turn(shared)).await;
        assert!(
            second.is_none() && waited >= shared.options.checkpoint_every,
            "it goes on without after {waited:?}"
        );
        scatter(shared, 10, 0);
        assert_eq!(took(checkpoint::turn(shared)).await.0, Duration::ZERO, "few changes need none");
        scatter(shared, 1000, 0);
        let recall = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            shared.to_be_purged(7);
        };
        let ((waited, third), ()) = futures::join!(took(checkpoint::turn(shared)), recall);
        assert!(
            third.is_none() && waited < shared.options.checkpoint_every,
            "a recall waits for no turn: {waited:?}"
        );
        *shared.unpurged.lock() = None;
        drop(first);
        assert!(checkpoint::turn(shared).await.is_some());
    });
}

#[test]
fn a_checkpoint_of_more_sessions_than_are_asked_at_once_has_them_all() {
    alone(async {
        let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
        let commands = (0..SESSIONS).map(|at| send(pair(&format!("peer{at}")), 1)).collect();
        shard.offer(3, commands).await.expect("applied");
        assert_eq!(shard.shared.dirty.lock().len() as u64, SESSIONS);
        checkpoint::write(&shard.machine, None).await.expect("written").expect("a mark");
        let names =
            rows::read(&shard.shared.map(), |rows| HeadRow::names_after(rows, None, usize::MAX)).await;
        let names = names.expect("rows");
        let mut wanted: Vec<SessionId> = (0..SESSIONS).map(|at| pair(&format!("peer{at}"))).collect();
        wanted.sort_by_key(|session| key::session(letter::HEAD, session));
        assert_eq!(names, wanted);
        assert!(shard.shared.dirty.lock().is_empty(), "and nobody has anything left");
    });
}

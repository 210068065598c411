//! What does not get through to another shard does not hold up what would.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rookery_raft::{MemoryDisk, Store};
use rookery_wire::SessionId;

use super::frozen::{pair, send};
use super::{Shard, in_system};
use crate::shard::{Answer, Freshness, Outbound, Read, ReadRefusal, ReadReply, carrier};
use crate::state::Command;

/// The way to the other shards: the one of the users whose names begin with "s" has no majority.
#[derive(Default)]
struct Ways {
    arrived: Mutex<HashSet<SessionId>>,
}

impl Outbound for Ways {
    fn execute(&self, command: Command, _: Duration) -> BoxFuture<'static, Answer> {
        if let Command::Linked { session, .. } = &command {
            self.arrived.lock().insert(session.clone());
        }
        let stuck = matches!(&command, Command::Link { user, .. } if user.as_str().starts_with('s'));
        Box::pin(async move {
            if stuck {
                tokio::time::sleep(Duration::from_millis(100)).await;
                return Answer::Again { leader: None, after_ms: 0 };
            }
            Answer::Done
        })
    }

    fn holders(&self, _: u32) -> Vec<u16> {
        Vec::new()
    }

    fn ask(
        &self,
        _: u16,
        _: u32,
        _: Read,
        _: Freshness,
        _: Duration,
    ) -> BoxFuture<'static, Result<ReadReply, ReadRefusal>> {
        Box::pin(std::future::ready(Err(ReadRefusal::Again { leader: None })))
    }
}

#[test]
fn sessions_whose_intents_are_stuck_leave_turns_to_the_others() {
    in_system(async {
        let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
        // Each with an intent for the list of ann, which gets through, and one for the other's.
        for at in 0..40 {
            assert_eq!(shard.apply(at + 1, send(pair(&format!("s{at:02}")), 1)).await, None);
        }
        assert_eq!(shard.apply(41, send(pair("zoe"), 1)).await, None);
        let ways = Arc::new(Ways::default());
        assert!(shard.shared.outbound.set(ways.clone()).is_ok());
        shard.shared.leading.store(true, Ordering::Release);
        let carrying = tokio::spawn(carrier::run(shard.shared.clone(), shard.actor.clone()));
        // Bounded by the test itself.
        while !ways.arrived.lock().contains(&pair("zoe")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        carrying.abort();
    });
}

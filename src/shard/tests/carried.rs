//! What does not get through to another shard does not hold up what would.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// The list of ann has forgotten what it let go; the session is what there is of it.
struct Forgetful {
    shard: Arc<crate::shard::shared::Shared>,
    asked: AtomicBool,
    taken: Mutex<Vec<u64>>,
    arrived: AtomicBool,
}

/// What the list reflects when it is asked.
const REFLECTS: u64 = 7;

impl Outbound for Forgetful {
    fn execute(&self, command: Command, _: Duration) -> BoxFuture<'static, Answer> {
        let answer = match &command {
            Command::Link { list, .. } if list.sure < REFLECTS => Answer::Unsure(REFLECTS),
            Command::Link { list, .. } => {
                assert_eq!(list.kept, self.shard.options.left_per_user);
                self.taken.lock().push(list.sure);
                Answer::Done
            }
            // The first time the log cannot be asked.
            Command::StillIntended { session, .. } => {
                assert_eq!(session, &pair("bob"));
                let asked = self.asked.swap(true, Ordering::AcqRel);
                if asked { Answer::Done } else { Answer::Again { leader: None, after_ms: 0 } }
            }
            Command::Linked { done, .. } => {
                self.arrived.fetch_or(done.iter().any(|(user, ..)| user.as_str() == "ann"), Ordering::AcqRel);
                Answer::Done
            }
            other => panic!("{other:?}"),
        };
        Box::pin(std::future::ready(answer))
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
fn an_intent_that_a_list_is_not_sure_of_is_brought_again_behind_the_word_of_its_session() {
    in_system(async {
        let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
        assert_eq!(shard.apply(1, send(pair("bob"), 1)).await, None);
        let ways = Arc::new(Forgetful {
            shard: shard.shared.clone(),
            asked: AtomicBool::new(false),
            taken: Mutex::default(),
            arrived: AtomicBool::new(false),
        });
        assert!(shard.shared.outbound.set(ways.clone()).is_ok());
        shard.shared.leading.store(true, Ordering::Release);
        let carrying = tokio::spawn(carrier::run(shard.shared.clone(), shard.actor.clone()));
        // Bounded by the test itself.
        while !ways.arrived.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        carrying.abort();
        let taken = std::mem::take(&mut *ways.taken.lock());
        assert!(!taken.is_empty() && taken.iter().all(|sure| *sure == REFLECTS), "{taken:?}");
        // As the log has it: what is pending is intended still, and nothing else is.
        let still = |user: &str, version| Command::StillIntended {
            session: pair("bob"),
            user: super::user(user),
            version,
        };
        assert_eq!(shard.apply(2, still("ann", 1)).await, Some(Answer::Done));
        assert!(matches!(shard.apply(3, still("ann", 2)).await, Some(Answer::Refused(_))));
        assert!(matches!(shard.apply(4, still("eve", 1)).await, Some(Answer::Refused(_))));
    });
}

//! Messages that are to go by the clock: the table that says when, and how fast many of them go.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, poll};
use rookery_raft::{Committed, Mark, MemoryDisk, StateMachine, Store, probe};
use rookery_wire::{Expires, Extension, encode};

use super::frozen::{both_linked, pair, send, seq};
use super::{Shard, in_system};
use crate::shard::machine::Machine;
use crate::shard::retention::{expire, expire_of};
use crate::shard::{Answer, Freshness, Outbound, Read, ReadRefusal, ReadReply};
use crate::state::{Act, Command, Entry};

fn with(act: Act, client_seq: u64) -> Command {
    match send(pair("bob"), client_seq) {
        Command::Act { actor, session, client_seq, .. } => Command::Act { actor, session, client_seq, act },
        other => other,
    }
}

fn lasting(client_seq: u64, after_ms: u64) -> Command {
    let extensions = vec![Extension { tag: Expires::TAG, data: encode(&Expires { after_ms }).into() }];
    let act = Act::Send { content_type: "text/plain".into(), content: "soon gone".into(), extensions };
    with(act, client_seq)
}

async fn opened() -> Shard {
    let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
    shard.apply(1, send(pair("bob"), 1)).await;
    shard.apply(2, both_linked("bob", 1)).await;
    shard
}

/// Whether the table knows of a message of the session that is to go some time.
fn is_known(shard: &Shard) -> bool {
    !shard.shared.timers.lock().due(u64::MAX, 1).is_empty()
}

/// The way to a shard that is led here: what is proposed is applied.
struct Here {
    machine: Arc<Machine>,
    index: AtomicU64,
}

impl Outbound for Here {
    fn execute(&self, command: Command, _: Duration) -> BoxFuture<'static, Answer> {
        let (machine, index) = (self.machine.clone(), self.index.fetch_add(1, Ordering::Relaxed));
        let mut entry = Entry::begin(1, true, [1; 16], 64);
        Entry::push(&mut entry, &command.encode());
        let committed = Committed { index, term: 1, payload: entry.freeze(), waiter: None };
        async move {
            let mark: Mark = probe::mark((1, index));
            machine.apply(vec![committed], mark).await.expect("applied");
            Answer::Done
        }
        .boxed()
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
        Box::pin(async { Err(ReadRefusal::NotFresh) })
    }
}

fn here(shard: &Shard, index: u64) -> Arc<dyn Outbound> {
    Arc::new(Here { machine: shard.machine.clone(), index: AtomicU64::new(index) })
}

#[test]
fn the_table_forgets_a_message_that_is_recalled_before_its_time() {
    in_system(async {
        let shard = opened().await;
        assert_eq!(seq(shard.apply(3, lasting(1, 50)).await), 1);
        assert!(is_known(&shard));
        shard.apply(4, with(Act::Recall { seq: 1, window_ms: u64::MAX }, 2)).await;
        assert!(!is_known(&shard));
    });
}

#[test]
fn what_is_applied_after_a_look_that_found_nothing_stays_in_the_table() {
    in_system(async {
        let shard = opened().await;
        let outbound = here(&shard, 100);
        let mut look = pin!(expire_of(&shard.shared, &shard.actor, &outbound, pair("bob"), 1000));
        // All on this thread, in turn: behind each step the actors do what was asked of them, and nobody looks at it yet.
        for _ in 0..2 {
            assert!(poll!(&mut look).is_pending());
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(seq(shard.apply(3, lasting(1, 5000)).await), 1);
        assert_eq!(look.await, 0);
        assert!(is_known(&shard), "its time would pass and nobody would look");
    });
}

#[test]
fn a_thousand_messages_with_one_time_go_one_look_after_the_other() {
    in_system(async {
        let shard = opened().await;
        let sends: Vec<Command> = (1..=1000).map(|number| lasting(number, 1)).collect();
        for (first, part) in (3..).step_by(100).zip(sends.chunks(100)) {
            shard.apply_all(first, part.to_vec()).await;
        }
        let outbound = here(&shard, 2000);
        let mut looks = 1;
        while expire(&shard.shared, &shard.actor, &outbound).await {
            looks += 1;
        }
        assert_eq!(looks, 16, "64 with each; none of them waits for the next tick");
        // One more puts the table right, if it has to be.
        assert!(!expire(&shard.shared, &shard.actor, &outbound).await);
        assert!(!is_known(&shard), "all have gone");
        assert!(shard.faults.lock().is_empty());
    });
}

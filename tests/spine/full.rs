//! A leader whose journal is full: whoever writes is told BUSY in good time, and what was refused so was not stored.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rookery_raft::{Step, StepHook};
use rookery_wire::{ErrorBody, Retry};

use super::*;

/// While one is set, the database behind that node's journal stands still, so nothing of the journal comes free.
type Held = BTreeMap<u16, Arc<AtomicBool>>;

/// Lets all go, also when the test fails: closing a store waits for its database.
struct LetGo(Held);

impl Drop for LetGo {
    fn drop(&mut self) {
        self.0.values().for_each(|held| held.store(false, Ordering::SeqCst));
    }
}

fn hook(held: &Arc<AtomicBool>) -> StepHook {
    let held = held.clone();
    StepHook::new(move |step| {
        while step == Step::Applied && held.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

/// 20 KB.
fn long(number: u64) -> String {
    format!("{number} {}", "x".repeat(20_000))
}

#[test]
fn a_full_journal_is_busy_and_what_it_refused_is_stored_once_elsewhere() {
    let dir = tempfile::tempdir().expect("a folder");
    in_a_life(a_full_journal(&nodes(dir.path())));
}

async fn a_full_journal(nodes: &Nodes) {
    let held: Held = nodes.iter().map(|(id, ..)| (*id, Arc::default())).collect();
    let mut cluster = start_over(nodes, |id, options| {
        options.journal_segments = 2;
        options.settle_lag_bytes = 0;
        options.steps = hook(&held[&id]);
    })
    .await;
    let held = LetGo(held);
    let session = SessionId::direct(&user("full-a"), &user("full-b")).expect("a pair");
    let send = |number: u64| act("full-a", &session, number, text(&long(number)));
    assert_eq!(acked(&cluster[&1].router, send(1)).await, 1);
    let shard = cluster[&1].router.shard_of(&EntityKey::Session(session.clone()));
    let leader = cluster[&1].shards[shard as usize - 1].leader().expect("a leader");
    let other = *cluster.keys().find(|id| **id != leader).expect("another node");

    held.0[&leader].store(true, Ordering::SeqCst);
    let router = cluster[&other].router.clone();
    let (number, error, after) = fill(&router, send).await;
    assert!(cluster[&leader].store.health().journal_full);
    assert!(error.message().contains("journal"), "{error}");
    assert!(matches!(error.retry, Retry::After(1..)), "{error:?}");
    assert!(after < Duration::from_secs(5), "after {after:?}; UNAVAILABLE comes after 10 s");
    let page = pull(&router, &session, "full-b").await;
    assert_eq!(page.last_seq, number - 1, "reads go on, and nothing was stored");

    // The leader goes. The same number is taken by the next one.
    let gone = cluster.remove(&leader).expect("the leader");
    held.0[&leader].store(false, Ordering::SeqCst);
    stop(gone).await;
    assert_eq!(acked(&router, send(number)).await, number);
    assert_eq!(acked(&router, send(number)).await, number, "a repeat stores nothing");
    assert_eq!(acked(&router, send(number + 1)).await, number + 1);
    assert_eq!(pull(&router, &session, "full-b").await.last_seq, number + 1);
    for node in cluster.into_values() {
        stop(node).await;
    }
}

/// Sends from number 2 on until one is refused: which, how, and how long that took. Everything before it is acknowledged.
async fn fill(router: &Router, send: impl Fn(u64) -> Command) -> (u64, ErrorBody, Duration) {
    for number in 2..400 {
        let asked = Instant::now();
        match router.execute(&send(number)).await {
            Answer::Ack(ack) => assert_eq!(ack.seq, number),
            Answer::Refused(error) => {
                assert_eq!(error.code, ErrorCode::Busy, "{error}");
                return (number, error, asked.elapsed());
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("a journal of 2 MiB takes 8 MB");
}

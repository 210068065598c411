//! Messages that are to go by the clock: the table that says when, and how fast many of them go.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, poll};
use rookery_raft::{Committed, Mark, MemoryDisk, StateMachine, Store, probe};
use rookery_wire::record::Preview;
use rookery_wire::reply::{Message, Page};
use rookery_wire::request::{Consistency, Direction, Pull};
use rookery_wire::versions::ListVersions;
use rookery_wire::{
    Burns, DeviceId, ErrorCode, Expires, Extension, HEADER_BYTES, RecordKind, UserId, decode, encode,
};

use super::frozen::{both_linked, pair, send, seq};
use super::{Shard, device, in_system, user};
use crate::delivery::{Push, Receiver, Topic, next_receiver_id};
use crate::shard::machine::Machine;
use crate::shard::reads::Reads;
use crate::shard::retention::{expire, expire_of};
use crate::shard::{Answer, Asked, Freshness, Outbound, Read, ReadRefusal, ReadReply, checkpoint};
use crate::state::{Act, Command, Entry};

fn with(act: Act, client_seq: u64) -> Command {
    match send(pair("bob"), client_seq) {
        Command::Act { actor, session, client_seq, .. } => Command::Act { actor, session, client_seq, act },
        other => other,
    }
}

fn lasting(client_seq: u64, after_ms: u64) -> Command {
    extended(client_seq, Extension { tag: Expires::TAG, data: encode(&Expires { after_ms }).into() })
}

fn extended(client_seq: u64, extension: Extension) -> Command {
    let extensions = vec![extension];
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

/// One who is pushed everything of a session.
struct Pushed(u64, Arc<parking_lot::Mutex<Vec<Bytes>>>);

impl Receiver for Pushed {
    fn id(&self) -> u64 {
        self.0
    }
    fn origin(&self) -> Option<(&UserId, &DeviceId, u32)> {
        None
    }
    fn push(&self, _: &Topic, items: &[Push]) -> bool {
        self.1.lock().extend(items.iter().map(|item| item.frame.clone()));
        true
    }
    fn lagged(&self, _: &Topic) {}
}

async fn read(shard: &Shard, read: Read) -> Result<ReadReply, ReadRefusal> {
    Reads { shared: shard.shared.clone(), actor: shard.actor.clone() }.answer(read, 0).await
}

/// What a pull shows: kind and content of each message.
async fn shown(shard: &Shard) -> Vec<(RecordKind, Bytes)> {
    let (direction, consistency) = (Direction::Forward, Consistency::Replica);
    let pull = Pull {
        session: pair("bob"),
        from_seq: 1,
        direction,
        max_count: 100,
        max_bytes: 1 << 16,
        consistency,
    };
    match read(shard, Read::Pull { user: Some(user("bob")), pull }).await {
        Ok(ReadReply::Page(body)) => {
            let page: Page = decode(&body.0).expect("a page");
            page.records.into_iter().map(|record| (record.kind, record.content.0)).collect()
        }
        other => panic!("expected a page, got {other:?}"),
    }
}

async fn preview(shard: &Shard) -> Preview {
    let asked = Asked { session: pair("bob"), seen_count: 0, deleted: Vec::new(), burns: false };
    let heads = Read::Heads { user: user("bob"), device: device(), epoch: 1, sessions: vec![asked] };
    match read(shard, heads).await {
        Ok(ReadReply::Heads(heads)) => heads[0].clone().expect("a head").last.expect("a message"),
        other => panic!("expected a head, got {other:?}"),
    }
}

/// As where the disks are nearly full, or the others out of reach: nobody proposes that they go.
#[test]
fn what_has_had_its_time_is_shown_to_nobody_though_no_entry_has_it_go() {
    in_system(async {
        let shard = opened().await;
        let pushed = Arc::default();
        let receiver: Arc<dyn Receiver> = Arc::new(Pushed(next_receiver_id(), Arc::clone(&pushed)));
        shard.shared.delivery.connect(Arc::clone(&receiver));
        shard.shared.delivery.attach(&Topic::Session(pair("bob")), &receiver, 0);
        let burning = Extension { tag: Burns::TAG, data: encode(&Burns { after_ms: 10 }).into() };
        // By the time of their entries, which is long ago.
        let sends =
            [lasting(1, 50), lasting(2, 1 << 50), extended(3, burning), send(pair("bob"), 4), lasting(5, 50)];
        for (index, command) in (3..).zip(sends) {
            assert_eq!(seq(shard.apply(index, command).await), index - 2);
        }
        let frames = std::mem::take(&mut *pushed.lock());
        let told =
            frames.iter().map(|frame| decode::<Message>(&frame.slice(4 + HEADER_BYTES..)).expect("a push"));
        let (content, expired) = (RecordKind::CONTENT, RecordKind::EXPIRED);
        let kinds = [expired, content, content, content, expired];
        assert_eq!(told.map(|message| message.record.kind).collect::<Vec<_>>(), kinds);
        assert_eq!(shown(&shard).await.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), kinds);

        shard.apply(8, Command::Burn { session: pair("bob"), user: user("bob"), seq: 3 }).await;
        let kinds = [expired, content, expired, content, expired];
        let is_right = |page: Vec<(RecordKind, Bytes)>| {
            assert_eq!(page.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), kinds);
            assert!(page.iter().all(|(kind, text)| text.is_empty() == (*kind == expired)), "{page:?}");
        };
        is_right(shown(&shard).await);
        let last = preview(&shard).await;
        assert_eq!((last.seq, last.kind, last.content.len()), (5, expired, 0));
        for (seq, is_there) in [(1, false), (2, true), (3, false)] {
            let list = ListVersions { session: pair("bob"), seq, before: 0, limit: 9 };
            match read(&shard, Read::Versions { user: Some(user("bob")), list }).await {
                Ok(ReadReply::Versions { page, .. }) => {
                    assert_eq!((page.versions.len(), is_there), (1, true))
                }
                Err(ReadRefusal::Refused(error)) => {
                    assert_eq!((error.code, is_there), (ErrorCode::NoSuchMessage, false));
                }
                other => panic!("expected versions, got {other:?}"),
            }
        }

        // The same where it sleeps, and is woken from its rows.
        checkpoint::write(&shard.machine, None).await.expect("written");
        let again = Shard::over(shard.store.clone()).await;
        let last = preview(&again).await;
        assert_eq!((last.seq, last.kind, last.content.len()), (5, expired, 0));
        is_right(shown(&again).await);
        // What comes late is what was shown.
        let before = shown(&again).await;
        again.apply(9, Command::Expire { session: pair("bob"), seqs: vec![1, 3, 5] }).await;
        assert_eq!(shown(&again).await, before);
    });
}

//! Two replicas of a shard that are fed alike hold the same digests; one byte that differs is found, and where.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rookery_raft::{MemoryDisk, Store};
use rookery_wire::{Digest, ErrorCode, Record, SessionId, decode};

use super::{Shard, device, in_system, user};
use crate::shard::checkpoint;
use crate::shard::compare::Pair;
use crate::shard::reads::Reads;
use crate::shard::{Answer, Freshness, Outbound, Read, ReadRefusal, ReadReply};
use crate::state::{Act, Actor, Command};

fn pair() -> SessionId {
    SessionId::direct(&user("ann"), &user("bob")).expect("two users")
}

fn send(client_seq: u64, content: &str) -> Command {
    let actor = Actor { user: user("ann"), device: device(), epoch: 1, on_behalf_of: None, service: false };
    let act =
        Act::Send { content_type: "text/plain".into(), content: content.into(), extensions: Vec::new() };
    Command::Act { actor, session: pair(), client_seq, act }
}

fn reads(shard: &Shard) -> Reads {
    Reads { shared: shard.shared.clone(), actor: shard.actor.clone() }
}

/// The way to the other replica.
struct Other(Reads);

impl Outbound for Other {
    fn execute(&self, _: Command, _: Duration) -> BoxFuture<'static, Answer> {
        Box::pin(async { Answer::Done })
    }
    fn holders(&self, _: u32) -> Vec<u16> {
        vec![2]
    }
    fn ask(
        &self,
        _: u16,
        _: u32,
        read: Read,
        freshness: Freshness,
        _: Duration,
    ) -> BoxFuture<'static, Result<ReadReply, ReadRefusal>> {
        let reads = self.0.clone();
        Box::pin(async move {
            let (Read::Digest { session, seq, .. }, Freshness::AtLeast(least)) = (&read, freshness) else {
                panic!("{read:?}")
            };
            assert_eq!(*seq, least);
            match reads.shared.table.get(session).is_some_and(|row| row.last_seq >= least) {
                true => reads.answer(read, 0).await,
                false => Err(ReadRefusal::NotFresh),
            }
        })
    }
}

/// A replica that was told so many messages, one of them another way, with checkpoints in between.
async fn replica(said: u64, other: Option<u64>, checkpoints: &[u64]) -> Shard {
    let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
    shard.apply(1, send(1, "message 1")).await;
    let done = vec![(user("ann"), 1, true), (user("bob"), 1, true)];
    shard.apply(2, Command::Linked { session: pair(), done }).await;
    for number in 1..=said {
        let content =
            if Some(number) == other { "message X".to_owned() } else { format!("message {number}") };
        shard.apply(2 + number, send(number, &content)).await;
        if checkpoints.contains(&number) {
            checkpoint::write(&shard.machine, None).await.expect("written");
        }
    }
    shard
}

async fn compare(here: &Shard, there: &Shard) {
    let outbound: Arc<dyn Outbound> = Arc::new(Other(reads(there)));
    let reads = reads(here);
    let last = here.shared.table.get(&pair()).map_or(0, |row| row.last_seq);
    Pair { reads: &reads, outbound: &outbound, session: &pair(), node: 2 }.compare(last).await;
}

#[test]
fn replicas_that_were_fed_alike_agree_wherever_their_checkpoints_were() {
    in_system(async {
        let here = replica(300, None, &[7, 90, 200]).await;
        for there in [replica(300, None, &[1, 130, 300]).await, replica(310, None, &[]).await] {
            compare(&here, &there).await;
        }
        assert_eq!((here.shared.divergences.compared(), here.shared.divergences.total()), (2, 0));
        assert!(here.shared.divergences.list().is_empty());
        // One that is behind is no other history.
        compare(&here, &replica(250, None, &[]).await).await;
        assert_eq!((here.shared.divergences.compared(), here.shared.divergences.total()), (2, 0));
    });
}

#[test]
fn one_byte_that_differs_is_found_where_it_is() {
    in_system(async {
        let here = replica(300, None, &[150]).await;
        for (at, checkpoints) in [(1, vec![150]), (77, vec![]), (149, vec![40, 280]), (300, vec![300])] {
            let there = replica(300, Some(at), &checkpoints).await;
            compare(&here, &there).await;
            let found = here.shared.divergences.list();
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].session.clone(), found[0].node), (pair(), 2));
            assert_eq!((found[0].from_seq, found[0].to_seq), (at, at));
            let total = here.shared.divergences.total();
            compare(&here, &there).await;
            assert_eq!(here.shared.divergences.total(), total, "it is told once");
            // The replica was made anew.
            compare(&here, &replica(300, None, &[]).await).await;
            assert!(here.shared.divergences.list().is_empty());
        }
        assert_eq!(here.shared.divergences.total(), 4);
    });
}

#[test]
fn a_digest_is_answered_from_memory_and_from_rows_and_to_members_alone() {
    in_system(async {
        let shard = replica(200, None, &[130]).await;
        let mut digest = Digest::begin(&pair());
        let ask = |user: Option<&str>, seq| {
            let (reads, user) = (reads(&shard), user.map(super::user));
            async move { reads.answer(Read::Digest { user, session: pair(), seq }, 0).await }
        };
        for seq in 1..=200 {
            let record = records_of(&shard, seq).await;
            digest = digest.then_record(&record);
            match ask(Some("bob"), seq).await {
                Ok(ReadReply::Digest(reply)) => {
                    assert_eq!((reply.seq, reply.digest), (seq, digest));
                    assert_eq!((reply.first_seq, reply.before), (1, Digest::begin(&pair())));
                }
                other => panic!("at {seq}: {other:?}"),
            }
        }
        let last = ask(None, 0).await;
        assert!(matches!(last, Ok(ReadReply::Digest(reply)) if (reply.seq, reply.digest) == (200, digest)));
        for (user, seq, code) in [("eve", 5, ErrorCode::NotMember), ("bob", 201, ErrorCode::BeyondEnd)] {
            match ask(Some(user), seq).await {
                Err(ReadRefusal::Refused(error)) => assert_eq!(error.code, code),
                other => panic!("{user} at {seq}: {other:?}"),
            }
        }
        let retention = rookery_wire::Retention::default();
        shard.apply(1000, Command::Trim { session: pair(), upto: 100, count: 100, by: retention }).await;
        match ask(Some("ann"), 99).await {
            Err(ReadRefusal::Refused(error)) => {
                assert_eq!((error.code, error.detail), (ErrorCode::NotKept, 101))
            }
            other => panic!("{other:?}"),
        }
        for round in 0..2 {
            match ask(Some("ann"), 100).await {
                Ok(ReadReply::Digest(reply)) => {
                    assert_eq!((reply.digest, reply.first_seq), (reply.before, 101))
                }
                other => panic!("{round}: {other:?}"),
            }
            checkpoint::write(&shard.machine, None).await.expect("written");
        }
        assert!(shard.faults.lock().is_empty());
    });
}

#[test]
fn a_session_that_sleeps_is_compared_in_its_sleep() {
    in_system(async {
        let here = replica(200, None, &[130]).await;
        checkpoint::write(&here.machine, None).await.expect("written");
        let asleep = Shard::over(here.store.clone()).await;
        for seq in [0, 1, 63, 64, 65, 130, 131, 199, 200] {
            let ask = || Read::Digest { user: None, session: pair(), seq };
            let (one, other) = (reads(&here).answer(ask(), 0).await, reads(&asleep).answer(ask(), 0).await);
            match (one, other) {
                (Ok(ReadReply::Digest(one)), Ok(ReadReply::Digest(other))) => {
                    assert_eq!(one, other, "at {seq}")
                }
                other => panic!("at {seq}: {other:?}"),
            }
        }
        compare(&asleep, &here).await;
        assert_eq!((asleep.shared.divergences.compared(), asleep.shared.divergences.total()), (1, 0));
        assert!(asleep.shared.sessions.is_empty(), "nobody was woken");
        match reads(&asleep).answer(Read::Digest { user: None, session: pair(), seq: 201 }, 0).await {
            Err(ReadRefusal::Refused(error)) => assert_eq!(error.code, ErrorCode::BeyondEnd),
            other => panic!("{other:?}"),
        }
    });
}

async fn records_of(shard: &Shard, seq: u64) -> Record {
    let pull = rookery_wire::request::Pull {
        session: pair(),
        from_seq: seq,
        direction: rookery_wire::request::Direction::Forward,
        max_count: 1,
        max_bytes: 1000,
        consistency: rookery_wire::request::Consistency::Replica,
    };
    match reads(shard).answer(Read::Pull { user: None, pull }, 0).await {
        Ok(ReadReply::Page(page)) => {
            let page: rookery_wire::reply::Page = decode(&page.0).expect("a page");
            page.records.into_iter().next().expect("a record")
        }
        other => panic!("{other:?}"),
    }
}

//! A command whose application panics freezes its entity, and that entity alone (R9).

use rookery_raft::{MemoryDisk, Store};
use rookery_wire::{ErrorCode, SessionId};

use super::{Shard, device, in_system, user};
use crate::shard::actor::FindSession;
use crate::shard::checkpoint;
use crate::shard::entity::Look;
use crate::state::{Act, Actor, Answer, Command, Session};

pub(super) fn pair(other: &str) -> SessionId {
    SessionId::direct(&user("ann"), &user(other)).expect("two users")
}

pub(super) fn send(session: SessionId, client_seq: u64) -> Command {
    let actor = Actor { user: user("ann"), device: device(), epoch: 1, on_behalf_of: None, service: false };
    let act = Act::Send { content_type: "text/plain".into(), content: "hi".into(), extensions: Vec::new() };
    Command::Act { actor, session, client_seq, act }
}

/// The first send opens the session; this says that both lists have it.
pub(super) fn both_linked(other: &str, version: u64) -> Command {
    let done = vec![(user("ann"), version, true), (user(other), version, true)];
    Command::Linked { session: pair(other), done }
}

pub(super) fn seq(answer: Option<Answer>) -> u64 {
    match answer {
        Some(Answer::Ack(ack)) => ack.seq,
        other => panic!("expected an ack, got {other:?}"),
    }
}

fn code(answer: Option<Answer>) -> ErrorCode {
    match answer {
        Some(Answer::Refused(refusal)) => refusal.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// What a session shows: its last seq, its members, and its last record.
async fn seen(shard: &Shard) -> (u64, u32, Option<bytes::Bytes>) {
    let address = shard.actor.send(FindSession(pair("bob"))).await.expect("an actor");
    let look = |session: &Session| {
        (session.last_seq(), session.present(), session.record(session.last_seq()).cloned())
    };
    address.send(Look::new(look)).await.expect("loaded")
}

#[test]
fn a_panic_freezes_one_session_as_it_was_and_no_other() {
    in_system(async {
        let store = Store::in_memory(MemoryDisk::new(1));
        let shard = Shard::over(store.clone()).await;
        assert_eq!(shard.apply(1, send(pair("bob"), 1)).await, None, "it waits for the session to open");
        shard.apply(2, both_linked("bob", 1)).await;
        assert_eq!(seq(shard.apply(3, send(pair("bob"), 1)).await), 1);
        let before = seen(&shard).await;

        // No carrier says this: a version behind which there is no other. Debug builds panic at the overflow.
        let poison = Command::Linked { session: pair("bob"), done: vec![(user("eve"), u64::MAX, true)] };
        assert_eq!(code(shard.apply(4, poison).await), ErrorCode::Frozen);
        assert_eq!(code(shard.apply(5, send(pair("bob"), 2)).await), ErrorCode::Frozen);
        assert_eq!(seen(&shard).await, before, "nothing of what panicked is there");

        assert_eq!(shard.apply(6, send(pair("cid"), 1)).await, None);
        shard.apply(7, both_linked("cid", 6)).await;
        assert_eq!(seq(shard.apply(8, send(pair("cid"), 1)).await), 1, "its neighbour goes on");

        checkpoint::write(&shard.machine, None).await.expect("written");
        assert!(shard.faults.lock().is_empty(), "the node goes on: {:?}", shard.faults.lock());
        let again = Shard::over(store).await;
        assert_eq!(seen(&again).await, before);
        assert_eq!(
            code(again.apply(9, send(pair("bob"), 2)).await),
            ErrorCode::Frozen,
            "after a restart too"
        );
        assert_eq!(seq(again.apply(10, send(pair("cid"), 2)).await), 2);
    });
}

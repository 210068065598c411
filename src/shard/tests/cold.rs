//! What many readers at once cost a shard's disk, and what a send costs it for members who are not there.

use std::sync::Arc;

use futures::future::join_all;
use rookery_raft::{MemoryDisk, Store};
use rookery_wire::reply::Page;
use rookery_wire::request::{Consistency, Direction, Pull};
use rookery_wire::{DeviceId, GroupId, SessionId, UserId, decode};

use super::frozen::{both_linked, pair, send, seq};
use super::{Shard, device, in_system, user};
use crate::delivery::{Push, Receiver, Topic};
use crate::shard::api::{Read, ReadReply};
use crate::shard::checkpoint;
use crate::shard::reads::Reads;
use crate::state::{Act, Actor, ChangeKind, Command};

/// Readers at the same instant.
const READERS: usize = 100;
/// Members of the large group, who are not connected.
const AWAY: usize = 1_000;

/// A shard that was just started, with so many messages of ann and bob in rows.
async fn with_messages_in_rows(count: u64) -> Shard {
    let store = Store::in_memory(MemoryDisk::new(1));
    let shard = Shard::over(store.clone()).await;
    shard.apply(1, send(pair("bob"), 1)).await;
    shard.apply(2, both_linked("bob", 1)).await;
    for number in 1..=count {
        assert_eq!(seq(shard.apply(2 + number, send(pair("bob"), number)).await), number);
    }
    checkpoint::write(&shard.machine, None).await.expect("written");
    Shard::over(store).await
}

/// One reader's page from this seq on: its seqs.
async fn pulls(shard: &Shard, from_seq: u64) -> Vec<u64> {
    let reads = Reads { shared: shard.shared.clone(), actor: shard.actor.clone() };
    let pull = Pull {
        session: pair("bob"),
        from_seq,
        direction: Direction::Forward,
        max_count: 50,
        max_bytes: 1 << 20,
        consistency: Consistency::Linearizable,
    };
    match reads.answer(Read::Pull { user: Some(user("bob")), pull }, 0).await {
        Ok(ReadReply::Page(body)) => {
            let page: Page = decode(&body.0).expect("a page");
            page.records.iter().map(|record| record.seq).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cold_page_that_many_ask_for_at_once_is_read_from_disk_once() {
    in_system(async {
        // Two whole pages of rows, and what memory has.
        let shard = with_messages_in_rows(140).await;
        assert_eq!(shard.shared.pages.counts(), (0, 0));
        let found = join_all((0..READERS).map(|_| pulls(&shard, 5))).await;
        assert!(found.iter().all(|seqs| *seqs == (5..55).collect::<Vec<u64>>()), "each gets all of it");
        assert_eq!(shard.shared.pages.counts(), (READERS as u64, 1), "asked for, and read from disk");
        // Another page is another read, and who comes later finds both.
        let found = join_all((0..READERS).map(|_| pulls(&shard, 70))).await;
        assert!(found.iter().all(|seqs| *seqs == (70..120).collect::<Vec<u64>>()));
        assert_eq!(pulls(&shard, 40).await, (40..90).collect::<Vec<u64>>());
        assert_eq!(shard.shared.pages.counts(), (2 * READERS as u64 + 2, 2));
        assert!(shard.faults.lock().is_empty());
    });
}

/// A device that takes everything.
struct Taker(u64, UserId, DeviceId);

impl Receiver for Taker {
    fn id(&self) -> u64 {
        self.0
    }
    fn origin(&self) -> Option<(&UserId, &DeviceId, u32)> {
        Some((&self.1, &self.2, 1))
    }
    fn push(&self, _: &Topic, _: &[Push]) -> bool {
        true
    }
    fn lagged(&self, _: &Topic) {}
}

#[test]
fn a_send_looks_at_who_is_attached_and_at_no_other_member() {
    in_system(async {
        let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
        let crowd = SessionId::group(GroupId::new("crowd").expect("a name"));
        let by = |client_seq, act| {
            let actor =
                Actor { user: user("ann"), device: device(), epoch: 1, on_behalf_of: None, service: false };
            Command::Act { actor, session: crowd.clone(), client_seq, act }
        };
        let users: Vec<UserId> = (0..AWAY).map(|number| user(&format!("m{number:04}"))).collect();
        let create = Act::Change { kind: ChangeKind::Create, users, most: 2_000, unknown: None };
        shard.apply(1, by(1, create.clone())).await;
        let done = vec![(user("ann"), 1, true)];
        shard.apply(2, Command::Linked { session: crowd.clone(), done }).await;
        // Its answer waits for the lists, which are not there; the group is.
        shard.apply(3, by(1, create)).await;

        let (delivery, topic) = (shard.shared.delivery.clone(), Topic::Session(crowd.clone()));
        for (id, name) in [(1, "m0000"), (2, "m0999")] {
            let taker: Arc<dyn Receiver> = Arc::new(Taker(id, user(name), device()));
            delivery.connect(taker.clone());
            delivery.attach(&topic, &taker, 1);
            delivery.admit(&topic, id, 0).expect("a member");
        }
        let before = delivery.stats();
        for number in 2..=11 {
            let act = Act::Send { content_type: "".into(), content: "hi".into(), extensions: Vec::new() };
            assert_eq!(seq(shard.apply(2 + number, by(number, act)).await), number);
        }
        let after = delivery.stats();
        assert_eq!(after.published - before.published, 10);
        assert_eq!(after.visits - before.visits, 20, "two are attached, a thousand are not looked at");
        assert_eq!(after.pushes - before.pushes, 20);
        assert!(shard.shared.users.is_empty(), "no user was woken for it");
        assert_eq!(shard.shared.pages.counts(), (0, 0), "and no record read");
    });
}

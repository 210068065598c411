//! An entity that ended by a fault, with changes that are in no row: nothing may say that they are.

use rookery_raft::{MemoryDisk, Store};

use super::frozen::{both_linked, pair, send};
use super::purging::recall;
use super::{Shard, in_system};
use crate::shard::checkpoint::{self, APPLIED_KEY};
use crate::shard::rows;
use crate::state::key::{self, letter};

#[test]
fn no_checkpoint_passes_over_an_entity_that_has_ended() {
    in_system(async {
        let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
        shard.apply(3, send(pair("bob"), 1)).await;
        shard.apply(4, both_linked("bob", 3)).await;
        // More than memory holds of a session.
        for number in 1..=20 {
            shard.apply(4 + number, send(pair("bob"), number)).await;
        }
        let first = checkpoint::write(&shard.machine, None).await.expect("written").expect("a mark");
        let map = shard.shared.map();
        let runs = rows::read(&map, |rows| {
            let mut keys = Vec::new();
            rows.scan(&key::session(letter::RECORD, &pair("bob")), &mut |key, _| {
                keys.push(key.to_vec());
                Ok(true)
            })?;
            Ok(keys)
        });
        let mut garbage = rookery_raft::Batch::default();
        runs.await.expect("rows").into_iter().for_each(|key| garbage.put(key, vec![0xff; 9]));
        map.apply(garbage).await.expect("written");

        shard.offer(25, vec![send(pair("bob"), 21)]).await.expect("applied");
        shard.offer(26, vec![recall(22, 1)]).await.expect_err("an old message cannot be read");
        assert!(!shard.faults.lock().is_empty(), "the node is told to stop");
        let next = checkpoint::write(&shard.machine, Some(&first)).await;
        next.expect_err("message 21 is in no row");
        let mark = map.read(|view| view.get(&APPLIED_KEY)).await.expect("rows");
        assert_eq!(mark.as_deref(), Some(&first.bytes()[..]));
    });
}

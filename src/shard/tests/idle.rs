//! What nobody uses leaves memory and comes back from its rows.

use std::sync::atomic::Ordering;

use rookery_raft::{MemoryDisk, Store};

use super::{Shard, device, in_system, says, user};
use crate::shard::actor::{FindUser, Passivate};
use crate::shard::checkpoint;
use crate::shard::entity::Look;
use crate::state::{Command, DeviceBounds, User};

#[test]
fn an_idle_actor_leaves_and_one_in_use_stays() {
    in_system(async {
        let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
        let registration = |name: &str| Command::Register {
            user: user(name),
            device: device(),
            says: says(7),
            bounds: DeviceBounds::default(),
        };
        shard.apply(1, registration("ann")).await;
        shard.apply(2, registration("bob")).await;
        // Used long after everything that the test does; the rig lets go of what was not used in this millisecond.
        shard.shared.users.get(&user("bob")).expect("awake").flags.used_ms.store(u64::MAX, Ordering::Relaxed);
        let then = shard.shared.uptime_ms();
        while shard.shared.uptime_ms() == then {
            tokio::task::yield_now().await;
        }
        let epoch = |user: &User| user.epoch(&device());
        let bob = shard.shared.users.get(&user("bob")).expect("awake").addr.clone();

        let residents = || {
            let mut names: Vec<_> =
                shard.shared.users.iter().map(|entry| entry.key().as_str().to_owned()).collect();
            names.sort_unstable();
            names
        };
        shard.actor.send(Passivate).await.expect("told");
        assert_eq!(residents(), ["ann", "bob"], "neither is written yet");
        checkpoint::write(&shard.machine, None).await.expect("written");
        // The actors hear that they are written before they are asked anything else.
        assert_eq!(bob.send(Look::new(epoch)).await.expect("there"), 1);
        shard.actor.send(Passivate).await.expect("told");
        assert_eq!(residents(), ["bob"]);

        let ann = shard.actor.send(FindUser(user("ann"))).await.expect("an actor");
        shard.actor.send(Passivate).await.expect("told");
        assert_eq!(
            residents(),
            ["ann", "bob"],
            "not while she is loaded: another would write what is being read"
        );
        assert_eq!(ann.send(Look::new(epoch)).await.expect("loaded"), 1, "from her rows");
    });
}

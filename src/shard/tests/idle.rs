//! What nobody uses leaves memory and comes back from its rows.

use std::sync::atomic::Ordering;

use rookery_raft::{MemoryDisk, Store};
use rookery_wire::SessionId;

use super::{Shard, device, in_system, says, user};
use crate::shard::actor::{FindUser, Passivate};
use crate::shard::checkpoint;
use crate::shard::entity::Look;
use crate::shard::reads::Reads;
use crate::shard::{Read, ReadReply};
use crate::state::{Act, Actor, Command, DeviceBounds, User};

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

#[test]
fn a_session_that_is_compared_is_not_one_in_use() {
    in_system(async {
        let shard = Shard::over(Store::in_memory(MemoryDisk::new(1))).await;
        let session = SessionId::direct(&user("ann"), &user("bob")).expect("two users");
        let actor =
            Actor { user: user("ann"), device: device(), epoch: 1, on_behalf_of: None, service: false };
        let act = Act::Send { content_type: "".into(), content: "hello".into(), extensions: Vec::new() };
        let send = Command::Act { actor, session: session.clone(), client_seq: 1, act };
        shard.apply(1, send.clone()).await;
        let done = vec![(user("ann"), 1, true), (user("bob"), 1, true)];
        shard.apply(2, Command::Linked { session: session.clone(), done }).await;
        shard.apply(3, send).await;
        checkpoint::write(&shard.machine, None).await.expect("written");
        let last_used = || {
            let resident = shard.shared.sessions.get(&session).expect("awake");
            resident.flags.used_ms.load(Ordering::Relaxed)
        };
        shard.shared.sessions.get(&session).expect("awake").flags.used_ms.store(7, Ordering::Relaxed);
        let reads = Reads { shared: shard.shared.clone(), actor: shard.actor.clone() };
        let digest = |user| {
            let (reads, session) = (reads.clone(), session.clone());
            async move {
                match reads.answer(Read::Digest { user, session, seq: 1 }, 0).await {
                    Ok(ReadReply::Digest(reply)) => reply,
                    other => panic!("{other:?}"),
                }
            }
        };
        let awake = digest(None).await;
        assert_eq!(last_used(), 7, "the comparison of replicas goes by every second or so");
        while shard.shared.uptime_ms() <= 8 {
            tokio::task::yield_now().await;
        }
        shard.actor.send(Passivate).await.expect("told");
        assert!(!shard.shared.sessions.contains_key(&session), "it is idle");
        assert_eq!(digest(None).await, awake, "from its rows");
        assert!(!shard.shared.sessions.contains_key(&session), "and stays so");
        assert_eq!(digest(Some(user("ann"))).await, awake);
        assert!(last_used() > 7, "a member who asks does use it");
    });
}

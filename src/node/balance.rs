//! Keeping leaders where the placement wants them, voters as the facts say, and handing over before a stop.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery_raft::{Group, GroupStatus, PeerNet, RaftId, Waiter};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::shard::ShardHandle;
use crate::shard::machine::EntryWaiter;
use crate::system::forming::{Forming, StandsWithout};
use crate::system::{Facts, SystemWaiter};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The preferred leader must have been reachable for so many looks before it is given the lead: a node that comes and
/// goes must not move leaders about.
const STEADY_LOOKS: u32 = 5;
/// Deadline of a hand-over at stop, all shards together.
const HAND_OVER: Duration = Duration::from_secs(2);
/// How long the others have to say whether they can lead; who is frozen says nothing.
const SAYS: Duration = Duration::from_millis(200);
/// Pause before a lead is offered again.
const AGAIN: Duration = Duration::from_millis(5);
/// An heir that lacks so many entries more than the nearest one is as good: a few are always on their way.
const AS_NEAR: u64 = 8;

/// The groups of this node.
pub(super) struct Groups {
    /// The cluster's facts.
    pub system: Group<SystemWaiter>,
    /// The shards.
    pub shards: Vec<Group<EntryWaiter>>,
}

/// What balancing looks at.
#[derive(Clone)]
pub(super) struct View {
    /// Who should hold what.
    pub facts: watch::Receiver<Arc<Facts>>,
    /// Who can be reached.
    pub peers: PeerNet,
    /// Asks the others.
    pub forming: Arc<Forming>,
}

/// For one shard, while this node leads it: brings the voters in line with the facts, then gives the lead to the
/// preferred node once that is steady; or away, when this node's clock is off (R10) or its disk is nearly full and another
/// has room.
pub(super) async fn keep(shard: ShardHandle, view: View) {
    let View { facts, peers, forming } = view;
    let me = forming.node;
    let mut steady = 0;
    loop {
        // Shards look at different moments, so that leaders do not all move at once.
        let offset = Duration::from_millis(u64::from(shard.id() % 16) * 50);
        tokio::time::sleep(LOOK_EVERY + offset).await;
        let facts = facts.borrow().clone();
        let status = shard.status();
        if !status.leading || !align(shard.group(), &status, &facts.voters(shard.id())).await {
            steady = 0;
            continue;
        }
        if forming.clock_is_off() {
            hand_over(std::slice::from_ref(&shard), &forming).await;
            steady = 0;
            continue;
        }
        if forming.is_low() {
            give_to_one_with_room(&shard, &facts, &forming).await;
            steady = 0;
            continue;
        }
        let preferred = facts.placement.preferred(shard.id()).unwrap_or(me);
        let reachable = preferred != me && peers.link(preferred).borrow().up;
        steady = if reachable { steady + 1 } else { 0 };
        if steady < STEADY_LOOKS {
            continue;
        }
        steady = 0;
        if let Some(target) = facts.raft_id(preferred)
            && forming.ask_room(preferred).await
            && let Err(fault) = shard.group().transfer_leader(target).await
        {
            tracing::debug!(shard = shard.id(), to = preferred, %fault, "the lead stays here for now");
        }
    }
}

/// For the system group, while this node leads it: brings its voters in line with the facts; then gives the lead away when
/// this node's clock is off or its disk is nearly full, if another can take it: each line of the audit is a write.
pub(super) async fn keep_system(group: Group<SystemWaiter>, view: View) {
    let View { facts, forming, .. } = view;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let status = group.status();
        let voters = facts.borrow().system_voters();
        if !status.leading || voters.is_empty() || !align(&group, &status, &voters).await {
            continue;
        }
        if (forming.clock_is_off() || forming.is_low())
            && timeout(HAND_OVER, give(&group, &able(&forming).await)).await.is_ok()
            && !group.status().leading
        {
            tracing::warn!(
                "the clock is off or little disk space is free here: the system group's lead is given away"
            );
        }
    }
}

/// Whether the voters are as wanted; if not, begins to make them so.
async fn align<W: Waiter>(group: &Group<W>, status: &GroupStatus, wanted: &[RaftId]) -> bool {
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    let mut now = status.voters.clone();
    now.sort_unstable();
    if now == wanted && !status.changing {
        return true;
    }
    match group.set_voters(&wanted).await {
        Ok(()) => tracing::info!(group = group.id(), ?wanted, "voters changed"),
        Err(fault) => tracing::debug!(group = group.id(), %fault, "voters are not changed yet"),
    }
    false
}

/// A leader whose disk is nearly full refuses writes; the shard goes on where there is room. If there is none, it stays.
async fn give_to_one_with_room(shard: &ShardHandle, facts: &Facts, forming: &Forming) {
    for heir in facts.placement.nodes(shard.id()).iter().copied().filter(|node| *node != forming.node) {
        let Some(target) = facts.raft_id(heir) else { continue };
        if forming.ask_room(heir).await {
            match shard.group().transfer_leader(target).await {
                Ok(()) => tracing::warn!(
                    shard = shard.id(),
                    to = heir,
                    "little disk space is free here: the lead is given away"
                ),
                Err(fault) => tracing::debug!(shard = shard.id(), to = heir, %fault, "the lead is not taken"),
            }
            return;
        }
    }
}

/// Before a stop: takes no more leads, gives every lead away, the system group's included, and waits until nobody needs
/// this node for a majority.
pub(super) async fn leave(shards: &[ShardHandle], system: &Group<SystemWaiter>, forming: &Forming) {
    forming.leave();
    let system = async {
        if system.status().leading {
            let _ = timeout(HAND_OVER, give(system, &able(forming).await)).await;
        }
    };
    tokio::join!(hand_over(shards, forming), system);
    if timeout(HAND_OVER, others_stand(forming)).await.is_err() {
        tracing::warn!("some shards cannot go on without this node; it stops all the same");
    }
}

/// Waits until all groups that others lead have a majority that is up to date without this node: the node that came back
/// last may still be on the way to it.
async fn others_stand(forming: &Forming) {
    loop {
        let asked = forming.peers.nodes().into_iter().filter(|node| *node != forming.node);
        let asked = asked.map(|node| timeout(SAYS, forming.ask_leave(node)));
        let said = futures::future::join_all(asked).await;
        if said.iter().all(|may| may.as_ref().map_or(true, |may| *may)) {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// For [`Forming::stands_without`]; looks at the groups for as long as the node that was given `groups` keeps them.
pub(super) fn stands_without(groups: &Arc<Groups>) -> StandsWithout {
    let groups = Arc::downgrade(groups);
    Box::new(move |node| {
        groups.upgrade().is_none_or(|groups| {
            groups.system.stands_without(node) && groups.shards.iter().all(|shard| shard.stands_without(node))
        })
    })
}

/// Gives every lead away, so that a planned stop costs a hand-over and not an election.
pub(super) async fn hand_over(shards: &[ShardHandle], forming: &Forming) {
    let led: Vec<&ShardHandle> = shards.iter().filter(|shard| shard.status().leading).collect();
    if led.is_empty() {
        return;
    }
    let begun = Instant::now();
    let able = able(forming).await;
    let given = futures::future::join_all(led.iter().map(|shard| give(shard.group(), &able)));
    let _ = timeout(HAND_OVER, given).await;
    let kept = shards.iter().filter(|shard| shard.status().leading).count();
    let ms = begun.elapsed().as_millis() as u64;
    tracing::info!(given = led.len().saturating_sub(kept), kept, ms, "leads handed over");
}

/// The other nodes that say they can lead. One that is stopping, too, does not.
async fn able(forming: &Forming) -> BTreeSet<u16> {
    let asked =
        forming.peers.nodes().into_iter().filter(|node| *node != forming.node).map(|node| async move {
            let says = timeout(SAYS, forming.ask_room(node)).await;
            says.is_ok_and(|can| can).then_some(node)
        });
    futures::future::join_all(asked).await.into_iter().flatten().collect()
}

/// Gives one lead to an heir that lacks little of the log. A node that has just come back is waited for until it does,
/// if there is nobody else: whoever calls this has a deadline.
async fn give<W: Waiter>(group: &Group<W>, able: &BTreeSet<u16>) {
    if able.is_empty() {
        return;
    }
    while group.status().leading {
        let mut heirs = group.heirs();
        heirs.retain(|(heir, _)| able.contains(&heir.node));
        let least = heirs.first().map_or(0, |(_, behind)| *behind);
        heirs.retain(|(_, behind)| *behind <= least + AS_NEAR);
        // Leads spread over those who are equally near.
        let heir = heirs.get(group.id() as usize % heirs.len().max(1)).map(|(heir, _)| *heir);
        match heir {
            Some(heir) => match group.transfer_leader(heir).await {
                Ok(()) => {
                    // An error means that the group has ended.
                    let _ = group.watch().wait_for(|status| !status.leading).await;
                    return;
                }
                Err(fault) => {
                    tracing::debug!(group = group.id(), to = %heir, %fault, "the lead is not taken yet")
                }
            },
            None => tracing::debug!(group = group.id(), "nobody can take the lead yet"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

//! Keeping leaders where the placement wants them, voters as the facts say, and handing over before a stop.

use std::sync::Arc;
use std::time::Duration;

use rookery_raft::{Group, GroupStatus, PeerNet, RaftId, Waiter};
use tokio::sync::watch;

use crate::shard::ShardHandle;
use crate::system::forming::Forming;
use crate::system::{Facts, SystemWaiter};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The preferred leader must have been reachable for so many looks before it is given the lead: a node that comes and
/// goes must not move leaders about.
const STEADY_LOOKS: u32 = 5;
/// Deadline of a hand-over at stop, all shards together.
const HAND_OVER: Duration = Duration::from_secs(2);

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
            hand_over(std::slice::from_ref(&shard), &facts, &peers, me).await;
            steady = 0;
            continue;
        }
        if forming.is_low() {
            give_to_one_with_room(&shard, &facts, &forming).await;
            steady = 0;
            continue;
        }
        let preferred = facts.placement.nodes(shard.id()).first().copied().unwrap_or(me);
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

/// For the system group: brings its voters in line with the facts.
pub(super) async fn keep_system(group: Group<SystemWaiter>, facts: watch::Receiver<Arc<Facts>>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let status = group.status();
        let voters = facts.borrow().system_voters();
        if status.leading && !voters.is_empty() {
            align(&group, &status, &voters).await;
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

/// Gives every lead away, so that a planned stop costs a hand-over and not an election.
pub(super) async fn hand_over(shards: &[ShardHandle], facts: &Facts, peers: &PeerNet, me: u16) {
    let give = |shard: &ShardHandle| {
        let reachable = |node: &u16| *node != me && peers.link(*node).borrow().up;
        let heirs: Vec<u16> = facts.placement.nodes(shard.id()).iter().copied().filter(reachable).collect();
        let heir = heirs.get(shard.id() as usize % heirs.len().max(1)).and_then(|heir| facts.raft_id(*heir));
        let shard = shard.clone();
        async move {
            if let Some(heir) = heir
                && shard.status().leading
                && shard.group().transfer_leader(heir).await.is_ok()
            {
                let mut leader = shard.watch_leader();
                // The deadline is around all of them.
                let _ = leader.wait_for(|leader| leader.is_some_and(|leader| leader != me)).await;
            }
        }
    };
    let led = shards.iter().filter(|shard| shard.status().leading).count();
    let _ = tokio::time::timeout(HAND_OVER, futures::future::join_all(shards.iter().map(give))).await;
    let kept = shards.iter().filter(|shard| shard.status().leading).count();
    if led > 0 {
        tracing::info!(given = led.saturating_sub(kept), kept, "leads handed over");
    }
}

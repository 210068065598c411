//! Who belongs to a group, and who leads it.
//!
//! Owns: the steps of a change of members. Each is idempotent, so that a change that was interrupted is finished by asking
//! again. Must never remove a voter before the new ones caught up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, InitializeError, RaftError as OpenraftError};
use openraft::{ChangeMembers, EmptyNode, RaftMetrics};
use tokio::time::timeout;

use super::Inner;
use crate::error::RaftError;
use crate::types::{RaftId, TypeConfig};

/// A hand-over that took longer has failed.
const TRANSFER: Duration = Duration::from_secs(2);
/// One step of a change of members, but for catching up.
const STEP: Duration = Duration::from_secs(10);
/// How many entries a node may be behind that is to become a voter, or the leader.
const NEAR: u64 = 64;
/// And how many one may be behind that counts as up to date: a few are always on their way.
const ON_THE_WAY: u64 = 8;

pub(super) async fn initialize(inner: &Inner, voters: &[RaftId]) -> Result<(), RaftError> {
    let group = inner.id;
    let nodes: BTreeMap<RaftId, EmptyNode> = voters.iter().map(|id| (*id, EmptyNode {})).collect();
    match inner.raft.initialize(nodes).await {
        Ok(()) => Ok(()),
        Err(OpenraftError::APIError(InitializeError::NotAllowed(_))) => {
            let have: BTreeSet<RaftId> = inner.raft.voter_ids().collect();
            if have == voters.iter().copied().collect() {
                return Ok(());
            }
            let list =
                |ids: &BTreeSet<RaftId>| ids.iter().map(RaftId::to_string).collect::<Vec<_>>().join(", ");
            Err(RaftError::Refused { group, what: format!("was made already, with voters {}", list(&have)) })
        }
        Err(OpenraftError::APIError(error)) => Err(RaftError::Refused { group, what: error.to_string() }),
        Err(OpenraftError::Fatal(_)) => Err(RaftError::Stopped { group }),
    }
}

pub(super) async fn transfer_leader(inner: &Inner, to: RaftId) -> Result<(), RaftError> {
    let group = inner.id;
    let status = inner.status.borrow().clone();
    if !status.leading {
        return Err(RaftError::NotLeader { group, leader: status.leader });
    }
    if status.leader == Some(to) {
        return Ok(());
    }
    if !status.voters.contains(&to) {
        return Err(RaftError::Refused { group, what: format!("{to} is no voter") });
    }
    // A hand-over that fails costs an election, so it is not begun where it cannot succeed.
    if let Err(error) = inner.host.peers.link_to(to) {
        return Err(RaftError::Refused { group, what: error.to_string() });
    }
    let behind = inner.behind(to);
    if behind > NEAR {
        return Err(RaftError::Refused { group, what: format!("{to} is {behind} entries behind") });
    }
    inner.raft.trigger().transfer_leader(to).await.map_err(|_| RaftError::Stopped { group })?;
    let (me, term) = (inner.host.options.me, status.term);
    // Somebody leads: another, or this node again after an election that the hand-over brought about and nobody won.
    let over = |m: &RaftMetrics<TypeConfig>| {
        m.current_leader.is_some_and(|leader| leader != me || m.current_term > term)
    };
    inner.until("a hand-over", TRANSFER, over).await?;
    match inner.raft.metrics().borrow_watched().current_leader {
        Some(leader) if leader == to => Ok(()),
        leader => {
            Err(RaftError::Refused { group, what: format!("{to} did not take the lead; leader: {leader:?}") })
        }
    }
}

pub(super) fn heirs(inner: &Inner) -> Vec<(RaftId, u64)> {
    let status = inner.status.borrow().clone();
    if !status.leading {
        return Vec::new();
    }
    let me = inner.host.options.me;
    let reachable = |id: &RaftId| *id != me && inner.host.peers.link_to(*id).is_ok();
    let voters = status.voters.iter().copied().filter(reachable);
    let mut heirs: Vec<(RaftId, u64)> = voters.map(|id| (id, inner.behind(id))).collect();
    heirs.sort_unstable_by_key(|(id, behind)| (*behind, *id));
    heirs
}

pub(super) fn stands_without(inner: &Inner, node: u16) -> bool {
    let status = inner.status.borrow().clone();
    if !status.leading || status.voters.len() < 3 {
        return true;
    }
    let able = |(id, behind): &(RaftId, u64)| id.node != node && *behind <= ON_THE_WAY;
    let others = heirs(inner).iter().filter(|heir| able(heir)).count();
    // With this node itself.
    others + 1 > status.voters.len() / 2
}

pub(super) async fn set_voters(inner: &Inner, voters: BTreeSet<RaftId>) -> Result<(), RaftError> {
    if voters.is_empty() {
        return Err(RaftError::Refused { group: inner.id, what: "a group needs a voter".to_owned() });
    }
    let status = inner.status.borrow().clone();
    let have: BTreeSet<RaftId> = status.voters.iter().copied().collect();
    if have == voters && !status.changing {
        return Ok(());
    }
    if !status.leading {
        return Err(RaftError::NotLeader { group: inner.id, leader: status.leader });
    }
    for id in voters.difference(&have) {
        if !status.learners.contains(id) {
            let added = inner.raft.add_learner(*id, EmptyNode {}, false);
            step(inner, "adding a learner", added).await?;
        }
    }
    let behind: Vec<RaftId> = voters.difference(&have).copied().collect();
    inner
        .until("new voters to catch up", inner.host.options.catch_up, |m| {
            // Without replication this node ceased to lead, which the change of members will say.
            m.replication.is_none() || behind.iter().all(|id| entries_behind(m, *id) <= NEAR)
        })
        .await?;
    let change = inner.raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), false);
    step(inner, "changing the members", change).await
}

/// How many entries a follower is behind, as this leader knows it.
pub(super) fn entries_behind(metrics: &RaftMetrics<TypeConfig>, id: RaftId) -> u64 {
    let last = metrics.last_log_index.unwrap_or(0);
    let at = metrics
        .replication
        .as_ref()
        .and_then(|r| r.get(&id))
        .and_then(|at| at.as_ref())
        .map_or(0, |at| at.index);
    last.saturating_sub(at)
}

type Written = Result<
    openraft::raft::ClientWriteResponse<TypeConfig>,
    OpenraftError<TypeConfig, ClientWriteError<TypeConfig>>,
>;

async fn step(
    inner: &Inner,
    what: &'static str,
    change: impl Future<Output = Written>,
) -> Result<(), RaftError> {
    let group = inner.id;
    let Ok(written) = timeout(STEP, change).await else {
        return Err(RaftError::Timeout {
            group,
            what,
            ms: u64::try_from(STEP.as_millis()).unwrap_or(u64::MAX),
        });
    };
    match written {
        Ok(_) => Ok(()),
        Err(OpenraftError::Fatal(_)) => Err(RaftError::Stopped { group }),
        Err(OpenraftError::APIError(
            ClientWriteError::ForwardToLeader(to) | ClientWriteError::LogEntryDiscarded(to),
        )) => Err(RaftError::NotLeader { group, leader: to.leader_id }),
        Err(OpenraftError::APIError(error)) => {
            Err(RaftError::Refused { group, what: format!("{what}: {error}") })
        }
    }
}

//! What a node says of its replicas: of each shard, and of the system group.

use rookery_raft::GroupStatus;

use crate::shard::ShardHandle;
use crate::status::{Divergence, ShardStatus};

/// Of a shard's replica here.
pub(super) fn of_shard(shard: &ShardHandle) -> ShardStatus {
    let found = shard.divergences();
    let line = |between: crate::shard::compare::Between| Divergence {
        session: between.session.to_string(),
        node: between.node,
        from_seq: between.from_seq,
        to_seq: between.to_seq,
    };
    ShardStatus {
        snapshots_installed: shard.installed(),
        compared: found.compared(),
        divergence_total: found.total(),
        versions_lost: shard.versions_lost(),
        paced: shard.paced(),
        divergences: found.list().into_iter().map(line).collect(),
        ..of_group(shard.id(), &shard.status())
    }
}

/// Of a group's replica here, as far as its log goes.
pub(super) fn of_group(id: u32, status: &GroupStatus) -> ShardStatus {
    ShardStatus {
        id,
        leader: status.leader.map(|leader| leader.node),
        leading: status.leading,
        term: status.term,
        last: status.last_log,
        committed: status.committed,
        applied: status.applied,
        purged: status.purged,
        voters: status.voters.iter().map(|voter| voter.node).collect(),
        ..ShardStatus::default()
    }
}

//! Where a group stands, and the telling of it: to who watches, and to the machine.
//!
//! Owns: the watch of one group. Also notices when openraft's core ended without being asked to.

use std::sync::Arc;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::{RaftDataMetrics, RaftServerMetrics};
use openraft::{Raft, ServerState};
use tokio::sync::watch;

use super::erased::Machine;
use super::shell::Shell;
use crate::types::{LogId, RaftId, TypeConfig};

/// Where a group stands, as this node knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// Who leads.
    pub leader: Option<RaftId>,
    /// This node leads.
    pub leading: bool,
    /// The current term.
    pub term: u64,
    /// Index of the last entry in the local log.
    pub last_log: u64,
    /// Index up to which entries are known to be committed.
    pub committed: u64,
    /// Index up to which entries are applied here.
    pub applied: u64,
    /// Voting members (of both sets, while a change is under way).
    pub voters: Vec<RaftId>,
    /// Members that only follow.
    pub learners: Vec<RaftId>,
    /// A change of members is under way or not yet committed.
    pub changing: bool,
    /// Index of the last durable checkpoint.
    pub snapshot: u64,
    /// Index up to which the log is purged.
    pub purged: u64,
}

fn index(id: Option<&LogId>) -> u64 {
    id.map_or(0, |id| id.index)
}

impl GroupStatus {
    fn of_server(metrics: &RaftServerMetrics<TypeConfig>) -> Self {
        let membership = metrics.membership_config.membership();
        let joint = membership.get_joint_config().len() > 1;
        Self {
            leader: metrics.current_leader,
            leading: metrics.state == ServerState::Leader,
            term: metrics.vote.leader_id.term,
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            changing: joint || metrics.membership_config != metrics.committed_membership_config,
            ..Self::default()
        }
    }

    /// What is told to who watches: not the indices, which move all the time.
    fn without_data(&self) -> Self {
        Self { last_log: 0, committed: 0, applied: 0, snapshot: 0, purged: 0, ..self.clone() }
    }

    fn with_data(mut self, data: &RaftDataMetrics<TypeConfig>) -> Self {
        self.last_log = index(data.last_log.as_ref());
        self.committed = index(data.local_committed.as_ref());
        self.applied = index(data.last_applied.as_ref());
        self.snapshot = index(data.snapshot.as_ref());
        self.purged = index(data.purged.as_ref());
        self
    }
}

/// The status of now.
pub(super) fn current(raft: &Raft<TypeConfig, Shell>, watched: &watch::Receiver<GroupStatus>) -> GroupStatus {
    let server = watched.borrow().clone();
    let data = raft.data_metrics();
    let data = data.borrow_watched();
    server.with_data(&data)
}

/// Tells changes until the core ends.
pub(super) async fn tell(
    raft: Raft<TypeConfig, Shell>,
    machine: Arc<dyn Machine>,
    told: watch::Sender<GroupStatus>,
) {
    let mut server = raft.server_metrics();
    let mut leading = None;
    loop {
        let status = GroupStatus::of_server(&server.borrow_and_update());
        let leads = status.leading.then_some(status.term);
        let with_data = status.clone().with_data(&raft.data_metrics().borrow_watched());
        told.send_if_modified(|old| {
            let changed = old.without_data() != status;
            *old = with_data;
            changed
        });
        if leads != leading {
            leading = leads;
            machine.leadership(leading);
        }
        if server.changed().await.is_err() {
            break;
        }
    }
    if leading.is_some() {
        machine.leadership(None);
    }
}

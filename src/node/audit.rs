//! Wires the audit: its trail to the system group, the questions of other nodes to the trail.

use std::sync::Arc;
use std::time::Duration;

use rookery_raft::{Group, PeerNet};
use tokio::task::JoinSet;

use super::peers::PeerApp;
use crate::config::Config;
use crate::system::{AuditTrail, SystemMachine, SystemWaiter, Times, Trail, TrailOptions};

/// Starts the trail of this node; its task is one of `tasks`.
pub(super) fn start(
    (config, node): (&Config, u16),
    (group, machine): (Group<SystemWaiter>, Arc<SystemMachine>),
    (peers, app): (PeerNet, &PeerApp),
    times: Times,
    tasks: &mut JoinSet<()>,
) -> Arc<dyn AuditTrail> {
    let options = TrailOptions {
        node,
        keep: config.storage.audit_lines,
        age_ms: config.storage.audit_age_ms,
        deadline: Duration::from_millis(config.timing.request_deadline_ms),
        bytes: config.limits.lane_bytes as usize,
    };
    let (trail, task) = Trail::new(options, group, machine, peers, times);
    tasks.spawn(task);
    app.set_audit(trail.clone());
    Arc::new(trail)
}

//! What all connections of a node share.

use std::sync::Arc;

use dashmap::DashMap;
use rookery_raft::Clock;
use rookery_wire::reply::Limits as Announced;
use rookery_wire::{DeviceId, UserId};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::GatewayOptions;
use super::company::Groups;
use super::connection::Connection;
use super::cursors::Flusher;
use super::pace::Paces;
use super::passing::Typists;
use super::receipts::Marks;
use super::stats::GatewayStats;
use super::times::Times;
use super::watch::Watches;
use crate::delivery::Delivery;
use crate::identity::Authenticator;
use crate::router::Router;
use crate::system::AuditTrail;

/// Shared by the listener and all connections.
pub(super) struct Core {
    pub(super) options: GatewayOptions,
    pub(super) router: Router,
    pub(super) delivery: Arc<Delivery>,
    pub(super) audit: Arc<dyn AuditTrail>,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stats: Arc<GatewayStats>,
    pub(super) times: Times,
    /// One connection per device; a newer one takes the place of the older.
    pub(super) devices: DashMap<(UserId, DeviceId), Arc<Connection>>,
    pub(super) flusher: Flusher,
    pub(super) marks: Marks,
    pub(super) typists: Typists,
    /// How often users may ask to come into groups.
    pub(super) joins: Paces,
    /// How often they may make groups and add users to them.
    pub(super) adds: Paces,
    pub(super) watches: Watches,
    pub(super) groups: Groups,
    /// No new connections, no new requests.
    pub(super) leaving: CancellationToken,
    /// Everything ends.
    pub(super) cancel: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Core {
    /// The bounds that WELCOME announces.
    pub(super) fn announced(&self) -> Announced {
        let limits = &self.options.limits;
        Announced { frame: limits.frame, content: limits.content, window: limits.window, page: limits.page }
    }

    /// Spawns onto the gateway's runtime, from any thread.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.options.runtime);
    }
}

//! What the configuration says to one shard of a node.

use std::time::Duration;

use rookery_wire::Retention;

use crate::config::{Config, Users};
use crate::shard::ShardOptions;
use crate::shard::retention::Defaults;
use crate::state::SessionLimits;

/// Bytes of commands in one log entry.
const ENTRY_BYTES: usize = 256 << 10;
/// Log entries of one shard that are proposed and not yet applied: enough to keep disk and network busy, few enough
/// that entries grow under load.
const ENTRIES_IN_FLIGHT: usize = 4;

/// Options of a shard, on a node that has so many.
pub(super) fn shard_options(config: &Config, shards_here: usize) -> ShardOptions {
    let each = |total: u32| (total as usize / shards_here.max(1)).max(16);
    ShardOptions {
        limits: SessionLimits {
            ring: config.limits.ring_records as usize,
            ring_bytes: config.limits.ring_bytes as usize,
        },
        checkpoint_every: Duration::from_millis(config.storage.checkpoint_ms),
        unwritten_bytes: 32 << 20,
        resident_idle: Duration::from_millis(config.limits.resident_idle_ms),
        resident_sessions: each(config.limits.resident_sessions),
        resident_users: each(config.limits.resident_users),
        entries_in_flight: ENTRIES_IN_FLIGHT,
        entry_bytes: ENTRY_BYTES,
        queue: config.limits.lane_requests as usize * 4,
        page_cache_bytes: (64 << 20) / shards_here.max(1) as u64,
        retention: Defaults {
            direct: Retention {
                age_ms: config.storage.retention_direct_age_ms,
                count: config.storage.retention_direct_count,
            },
            group: Retention {
                age_ms: config.storage.retention_group_age_ms,
                count: config.storage.retention_group_count,
            },
        },
        sweep_every: Duration::from_millis(config.storage.retention_sweep_ms),
        compare_every: Duration::from_millis(config.storage.compare_ms),
        sessions_per_user: config.limits.sessions_per_user,
        left_per_user: config.limits.left_per_user,
        users_only: config.limits.users == Users::Created,
        relations_per_user: config.limits.relations_per_user,
        requests_per_user: config.limits.requests_per_user,
    }
}

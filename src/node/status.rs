//! What a node says of itself, gathered from its parts.

use std::sync::atomic::Ordering;

use super::{Node, replicas};
use crate::gateway;
use crate::status::{
    CacheStatus, DeliveryStatus, DiskStatus, JournalStatus, KindTimes, NodeStatus, RequestStatus, ShardStatus,
};
use crate::system::SYSTEM_GROUP;
use crate::system::facts::cluster_text;

impl Node {
    /// What the node says of itself.
    pub fn status(&self) -> NodeStatus {
        let facts = self.facts.borrow().clone();
        let health = self.store.health();
        let delivery = self.delivery.stats();
        let system = replicas::of_group(SYSTEM_GROUP, &self.system.status());
        let shards = self.shards.iter().map(|shard| ShardStatus {
            preferred: facts.placement.preferred(shard.id()),
            ..replicas::of_shard(shard)
        });
        NodeStatus {
            node: self.number,
            cluster: self.config.cluster.name.clone(),
            cluster_id: facts.cluster.as_ref().map(cluster_text).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            connections: self.gateway.connections() as u64,
            memory_bytes: resident_bytes(),
            shards: std::iter::once(system).chain(shards).collect(),
            disk: DiskStatus {
                used_bytes: self.folder.bytes(),
                free_bytes: health.free_disk,
                low: health.low_disk,
            },
            journal: JournalStatus {
                used_bytes: health.journal_used,
                total_bytes: health.journal_total,
                full: health.journal_full,
                settled_bytes: health.settled_bytes,
            },
            delivery: DeliveryStatus {
                topics: delivery.topics,
                subscriptions: delivery.subscriptions,
                index_bytes: delivery.bytes,
                pushes: delivery.pushes,
                writes: self.gateway.stats().writes(),
                written_bytes: self.gateway.stats().bytes_out(),
                published: delivery.published,
                visits: delivery.visits,
                lags: delivery.lags,
                passed: delivery.passed,
                passed_over: delivery.passed_over,
            },
            requests: self.requests(),
            times: self.gateway.times().into_iter().map(named).collect(),
            caches: self.caches(),
            audit_pushed_out: self.audit_pushed_out.load(Ordering::Relaxed),
        }
    }

    fn caches(&self) -> CacheStatus {
        let shards = self.shards.iter().map(|shard| shard.caches());
        shards.fold(CacheStatus::default(), |sum, of| CacheStatus {
            sessions: sum.sessions + of.sessions,
            sessions_resident: sum.sessions_resident + of.sessions_resident,
            users_resident: sum.users_resident + of.users_resident,
            pages_asked: sum.pages_asked + of.pages_asked,
            pages_loaded: sum.pages_loaded + of.pages_loaded,
        })
    }

    fn requests(&self) -> RequestStatus {
        let stats = self.gateway.stats();
        RequestStatus { total: stats.requests(), busy: stats.busy(), in_flight: self.router.stats().waiting }
    }
}

fn named(of: gateway::KindTimes) -> KindTimes {
    KindTimes { kind: of.kind.name().to_owned(), sum_us: of.sum_us, buckets: of.buckets }
}

fn resident_bytes() -> u64 {
    // Second field of statm: resident pages. Other systems have no such file and report 0.
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    resident.unwrap_or(0) * 4096
}

//! `/metrics`: the status as Prometheus reads it.
//!
//! Everything is taken from [`NodeStatus`] at the time of the scrape, so that there is one source for every figure.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::status::{KindTimes, NodeStatus, ShardStatus};

/// Media type of the page.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page.
pub(super) fn render(status: &NodeStatus, ready: bool) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("rookery");
    registry.register_collector(Box::new(Scrape { status: status.clone(), ready }));
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry)?;
    Ok(page)
}

#[derive(Debug)]
struct Scrape {
    status: NodeStatus,
    ready: bool,
}

impl Collector for Scrape {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = &self.status;
        let flag = u64::from;
        for (name, help, value) in [
            ("ready", "Whether the node can serve clients", flag(self.ready)),
            ("uptime_seconds", "Since the start of the process", status.uptime_ms / 1000),
            ("memory_bytes", "Resident memory of the process", status.memory_bytes),
            ("connections", "Connections of clients", status.connections),
            ("requests_in_flight", "Requests waiting for an answer", status.requests.in_flight),
            ("delivery_topics", "Sessions and users with a subscription here", status.delivery.topics),
            ("delivery_subscriptions", "Subscriptions of connections", status.delivery.subscriptions),
            ("delivery_index_bytes", "Memory of the index of subscriptions", status.delivery.index_bytes),
            ("sessions", "Sessions that the replicas of this node hold", status.caches.sessions),
            ("sessions_resident", "Sessions in memory", status.caches.sessions_resident),
            ("users_resident", "Users in memory", status.caches.users_resident),
            ("disk_used_bytes", "Bytes the data folder takes", status.disk.used_bytes),
            ("disk_free_bytes", "Bytes free on its disk", status.disk.free_bytes),
            ("disk_low", "Whether writes are refused for want of space", flag(status.disk.low)),
            ("journal_used_bytes", "Journal not yet covered by a flush", status.journal.used_bytes),
            ("journal_total_bytes", "Journal at most", status.journal.total_bytes),
            ("journal_full", "Whether writes wait for the journal", flag(status.journal.full)),
        ] {
            gauge(&mut to, name, help, value)?;
        }
        for (name, help, value) in [
            ("requests", "Requests of clients", status.requests.total),
            ("requests_busy", "Requests refused with BUSY", status.requests.busy),
            (
                "journal_settled_bytes",
                "Log entries that were written into a database too, for they were needed longer than the journal has room",
                status.journal.settled_bytes,
            ),
            ("pages_asked", "Pages of old records asked for", status.caches.pages_asked),
            ("pages_loaded", "Pages of old records read from disk", status.caches.pages_loaded),
            ("pushes", "Pushes to connections", status.delivery.pushes),
            ("writes", "Writes to connections; what waits is written together", status.delivery.writes),
            ("written_bytes", "Bytes of these writes", status.delivery.written_bytes),
            ("published", "Records of sessions given to subscriptions", status.delivery.published),
            ("publish_visits", "Subscriptions looked at for that", status.delivery.visits),
            ("lags", "Times a subscription began to lag", status.delivery.lags),
            ("passed", "Ephemeral messages and receipts given to connections", status.delivery.passed),
            ("passed_over", "Those for which a connection had no room", status.delivery.passed_over),
            (
                "audit_pushed_out",
                "Lines of the audit that made room for others though they were not too old",
                status.audit_pushed_out,
            ),
        ] {
            let counter = ConstCounter::new(value);
            let family = to.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(family)?;
        }
        times(&mut to, &status.times)?;
        shards(&mut to, &status.shards)
    }
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(value);
    let family = to.encode_descriptor(name, help, None, gauge.metric_type())?;
    gauge.encode(family)
}

/// One histogram for each kind of request.
fn times(to: &mut DescriptorEncoder<'_>, times: &[KindTimes]) -> Result<(), fmt::Error> {
    let help = "Time from the arrival of a request to its answer";
    let mut family = to.encode_descriptor(
        "request_seconds",
        help,
        None,
        prometheus_client::metrics::MetricType::Histogram,
    )?;
    for of in times {
        let seconds = |micros: u64| micros as f64 / 1e6;
        let bound = |micros: u64| if micros == u64::MAX { f64::MAX } else { seconds(micros) };
        let buckets: Vec<(f64, u64)> =
            of.buckets.iter().map(|(micros, count)| (bound(*micros), *count)).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let labels = [("kind", of.kind.as_str())];
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
            seconds(of.sum_us),
            count,
            &buckets,
            None,
        )?;
    }
    Ok(())
}

fn shards(to: &mut DescriptorEncoder<'_>, shards: &[ShardStatus]) -> Result<(), fmt::Error> {
    type Value = fn(&ShardStatus) -> u64;
    let families: [(&str, &str, Value); 7] = [
        ("shard_leading", "Whether this node leads the shard", |shard| u64::from(shard.leading)),
        ("shard_leader", "The node that leads the shard, 0 for none known", |shard| {
            u64::from(shard.leader.unwrap_or(0))
        }),
        ("shard_term", "Term of the shard", |shard| shard.term),
        ("shard_last_index", "Last log entry", |shard| shard.last),
        ("shard_committed_index", "Last entry known to be committed", |shard| shard.committed),
        ("shard_applied_index", "Last entry applied", |shard| shard.applied),
        ("shard_purged_index", "Up to here the log is purged", |shard| shard.purged),
    ];
    let counters: [(&str, &str, Value); 5] = [
        ("shard_snapshots_installed", "Snapshots installed over the replica", |shard| {
            shard.snapshots_installed
        }),
        ("shard_compared", "Sessions compared with another replica", |shard| shard.compared),
        ("divergence", "Replicas found to hold another history: a fault", |shard| shard.divergence_total),
        ("versions_lost", "Versions of messages that readers were told are lost: a fault", |shard| {
            shard.versions_lost
        }),
        (
            "shard_commands_paced",
            "Commands of loud sessions proposed at a pace, for the sake of others",
            |shard| shard.paced,
        ),
    ];
    for (name, help, value) in counters {
        let kind = ConstCounter::new(0u64).metric_type();
        let mut family = to.encode_descriptor(name, help, None, kind)?;
        for shard in shards {
            let labels = [("shard", shard.id.to_string())];
            ConstCounter::new(value(shard)).encode(family.encode_family(&labels)?)?;
        }
    }
    for (name, help, value) in families {
        let kind = ConstGauge::new(0u64).metric_type();
        let mut family = to.encode_descriptor(name, help, None, kind)?;
        for shard in shards {
            let labels = [("shard", shard.id.to_string())];
            ConstGauge::new(value(shard)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

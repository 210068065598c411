//! What a node says of itself: the body of `/status`, the source of `/metrics`, the rows of `cluster status`.
//!
//! Owns the shape only; `node` fills it in. Fields are added, never renamed: scripts read them.

use serde::{Deserialize, Serialize};

/// One node, as it is now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Number of the node.
    pub node: u16,
    /// Name of the cluster.
    pub cluster: String,
    /// Id of the cluster in hex; empty until it has formed.
    pub cluster_id: String,
    /// Version of the program.
    pub version: String,
    /// Since the start, milliseconds.
    pub uptime_ms: u64,
    /// Connections of clients.
    pub connections: u64,
    /// Resident memory of the process, bytes. 0 where the system does not tell.
    pub memory_bytes: u64,
    /// The replicas of this node.
    pub shards: Vec<ShardStatus>,
    /// Disk.
    pub disk: DiskStatus,
    /// Redo journal.
    pub journal: JournalStatus,
    /// Pushes.
    pub delivery: DeliveryStatus,
    /// Requests of clients.
    pub requests: RequestStatus,
    /// How long those took that were answered, by kind; what was never asked is left out.
    pub times: Vec<KindTimes>,
    /// What is kept in memory.
    pub caches: CacheStatus,
    /// Lines of the audit that made room for others since the start, though they were not too old.
    pub audit_pushed_out: u64,
}

/// One replica of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardStatus {
    /// Number of the shard, from 1; 0 is the system group.
    pub id: u32,
    /// The node that leads it, as far as this node knows.
    pub leader: Option<u16>,
    /// Whether this node leads it.
    pub leading: bool,
    /// Term.
    pub term: u64,
    /// Index of the last log entry here.
    pub last: u64,
    /// Index of the last entry known to be committed.
    pub committed: u64,
    /// Index of the last entry applied here.
    pub applied: u64,
    /// Index up to which its log is purged here.
    pub purged: u64,
    /// The nodes that vote.
    pub voters: Vec<u16>,
    /// The node that is to lead it whenever it can, as far as this node knows; none for the system group.
    pub preferred: Option<u16>,
    /// Snapshots installed since the process began; not counted for the system group.
    pub snapshots_installed: u64,
    /// Sessions compared with another replica since the process began.
    pub compared: u64,
    /// Differences found by that.
    pub divergence_total: u64,
    /// Versions of messages that readers were told are lost, since the process began.
    pub versions_lost: u64,
    /// Commands of loud sessions and users that this node proposed at a pace, for the sake of others, since the process began.
    pub paced: u64,
    /// Those that were there when they were last looked at.
    pub divergences: Vec<Divergence>,
}

/// A session of which another replica holds another history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Divergence {
    /// Which.
    pub session: String,
    /// The node that holds the other replica.
    pub node: u16,
    /// The first record that may be another; 0 when that was before what both keep.
    pub from_seq: u64,
    /// The first record from which on the digests are known to differ.
    pub to_seq: u64,
}

/// Disk of the data folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskStatus {
    /// Bytes the data folder takes.
    pub used_bytes: u64,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Whether writes are refused for want of space.
    pub low: bool,
}

/// Redo journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JournalStatus {
    /// Bytes not yet covered by a flush of the databases.
    pub used_bytes: u64,
    /// Bytes it may take.
    pub total_bytes: u64,
    /// Whether writes are BUSY because of it.
    pub full: bool,
    /// Bytes of log entries that went from it into a database since the start.
    pub settled_bytes: u64,
}

/// Pushes to this node's connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeliveryStatus {
    /// Topics with a subscription here.
    pub topics: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Memory that topics, subscriptions and connections take in the index, bytes, estimated.
    pub index_bytes: u64,
    /// Pushes made since the start.
    pub pushes: u64,
    /// Writes to connections since the start: pushes and answers that wait are written together.
    pub writes: u64,
    /// Bytes of these writes.
    pub written_bytes: u64,
    /// Records of sessions given to subscriptions since the start …
    pub published: u64,
    /// … and subscriptions looked at for that: of who is attached, never of members.
    pub visits: u64,
    /// Times a subscription began to lag since the start.
    pub lags: u64,
    /// Ephemeral messages and receipts given to connections since the start.
    pub passed: u64,
    /// Those for which a connection had no room to spare.
    pub passed_over: u64,
}

/// What the replicas of this node keep in memory of what they have on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheStatus {
    /// Sessions that there are.
    pub sessions: u64,
    /// Those of them that are in memory.
    pub sessions_resident: u64,
    /// Users in memory.
    pub users_resident: u64,
    /// Pages of old records asked for since the start.
    pub pages_asked: u64,
    /// Pages read from disk for that.
    pub pages_loaded: u64,
}

/// Requests of this node's connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestStatus {
    /// Taken since the start.
    pub total: u64,
    /// Refused with BUSY since the start.
    pub busy: u64,
    /// Waiting for an answer now.
    pub in_flight: u64,
}

/// How long requests of one kind took since the start, from their arrival to their answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KindTimes {
    /// The kind, as docs/protocol.md names it.
    pub kind: String,
    /// Of all together, microseconds.
    pub sum_us: u64,
    /// Upper bound of a bucket in microseconds (the last has none and says the greatest number) and how many are in it.
    pub buckets: Vec<(u64, u64)>,
}

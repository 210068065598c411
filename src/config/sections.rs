//! Every section and key of `cluster.toml`, with defaults and bounds.
//!
//! Owns the figures. A bound that the program has and a person may want to move stands here and nowhere else.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::keys::{Key, Kind, Section, number, pair, section, text};
use super::secret::Secret;

section! {
    /// `[cluster]`: what all nodes share. `shards` is fixed when the cluster forms.
    Cluster, "cluster" {
        /// Name of the cluster, for people, logs and metrics.
        name: String = "rookery".to_owned(), text(1, 64);
        /// Raft groups that sessions and users are spread over. Fixed when the cluster forms.
        shards: u32 = 16, number(1, 256, "");
        /// Replicas of each shard. At most the number of nodes.
        replication: u16 = 3, number(1, 7, "");
        /// What nodes prove to each other on the peer link. The same on all nodes.
        secret: Secret = Secret::default(), text(16, 256);
        /// Allows listeners that other machines can reach although nothing is encrypted. Warned of at each start.
        insecure_no_tls: bool = false, Kind::Flag;
    }
}

/// `[[node]]`: one node; addresses are `host:port`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Number of the node, given once and for ever.
    pub id: u16,
    /// Where clients connect.
    pub client: String,
    /// Where the other nodes connect.
    pub peer: String,
    /// Where `/livez`, `/readyz`, `/metrics` and `/status` are served.
    pub http: String,
    /// Folder of the node's data. Relative paths start at the folder of the configuration file.
    pub data: PathBuf,
}

impl NodeConfig {
    /// The keys of `[[node]]`; all of them must be given.
    pub const SECTION: Section = Section {
        name: "node",
        many: true,
        keys: &[
            Key::required("id", number(1, 65535, ""), "Number of the node, given once and for ever."),
            Key::required("client", text(3, 255), "Where clients connect, `host:port`."),
            Key::required("peer", text(3, 255), "Where the other nodes connect, `host:port`."),
            Key::required(
                "http",
                text(3, 255),
                "Where `/livez`, `/readyz`, `/metrics` and `/status` are served, `host:port`.",
            ),
            Key::required(
                "data",
                text(1, 4096),
                "Folder of the node's data. Relative paths start at the folder of the configuration file.",
            ),
        ],
    };
}

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// Whoever connects is believed. Only while every listener is on loopback.
    Open,
    /// A JWT signed with HS256 names user, expiry and optionally device and role.
    Token,
}

section! {
    /// `[auth]`: who may connect.
    Auth, "auth" {
        /// `open` believes every client and works only while all listeners are on loopback; `token` asks for a JWT (HS256).
        mode: AuthMode = AuthMode::Open, Kind::Choice(&["open", "token"]);
        /// Key with which tokens are signed. Needed in `token` mode.
        secret: Secret = Secret::default(), text(32, 1024);
        /// How far the clocks of issuer and node may differ when `exp`, `nbf` and an `iat` in the future are judged.
        leeway_ms: u64 = 5_000, number(0, 300_000, "ms");
        /// How far the issuer's clock may be ahead when `iat` is compared with the end of a device: a token issued so shortly after the end is refused too.
        ended_leeway_ms: u64 = 2_000, number(0, 60_000, "ms");
    }
}

/// What becomes of a device beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Beyond {
    /// The least recently used makes room.
    End,
    /// The newcomer is refused.
    Refuse,
}

/// Whom a request may name: bring into a group, begin a direct session with, ask to be a friend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Users {
    /// Any name: whoever is named is there.
    Named,
    /// Who has registered a device or was created by a backend; UNKNOWN_USER for anybody else.
    Created,
}

section! {
    /// `[limits]`: bounds of requests, queues and memory.
    Limits, "limits" {
        /// Largest frame, either way.
        frame: u32 = 1 << 20, number(16_384, 16 << 20, "bytes");
        /// Largest content of one message. With what is around it, it fits one log entry between nodes.
        content: u32 = 64 << 10, number(256, super::LARGEST_CONTENT, "bytes");
        /// Requests in flight on one connection; beyond it the node stops reading from it.
        window: u32 = 1024, number(1, 65_536, "requests");
        /// Most records in one page of a PULL; a page has at most 512 KiB of records, whatever is asked.
        page: u32 = 500, number(1, 1_000, "records");
        /// Members a group may have.
        group_members: u32 = 10_000, number(2, 100_000, "users");
        /// Sessions a user may be in.
        sessions_per_user: u32 = 10_000, number(10, 100_000, "sessions");
        /// Sessions a user is in no more that its list remembers; a device that comes back and has missed more is told the whole list.
        left_per_user: u32 = 2_000, number(100, 100_000, "sessions");
        /// Whom requests may bring into a group, begin a direct session with, or ask to be a friend: `named` any name, which is there by that; `created` only who has registered a device or was created by a backend (CreateUser), others are refused with UNKNOWN_USER.
        users: Users = Users::Named, Kind::Choice(&["named", "created"]);
        /// Devices a user may have registered.
        devices_per_user: u32 = 64, number(1, 64, "devices");
        /// Of those, devices that name the same platform in HELLO.
        devices_per_platform: u32 = 64, number(1, 64, "devices");
        /// What becomes of a device beyond that: `end` lets it in and ends the one that was least recently used; `refuse` refuses it with TOO_MANY_DEVICES.
        devices_beyond: Beyond = Beyond::End, Kind::Choice(&["end", "refuse"]);
        /// Friends, users asked, blocked users and remarks a user may have, in all.
        relations_per_user: u32 = 5_000, number(10, 100_000, "relations");
        /// Requests of others that may wait for a user's answer, beside those; one more is declined at once.
        requests_per_user: u32 = 500, number(1, 10_000, "requests");
        /// Ranges of messages of one session that a user may have deleted for itself.
        deletions_per_session: u32 = 256, number(1, 1_000, "ranges");
        /// Longest draft of a message.
        draft_bytes: u32 = 4_096, number(0, 8_192, "bytes");
        /// How old a message may be that its sender recalls; admins of a group and a service recall any.
        recall_window_ms: u64 = 120_000, number(0, 31_536_000_000, "ms");
        /// How old a message may be that its sender edits.
        edit_window_ms: u64 = 86_400_000, number(0, 31_536_000_000, "ms");
        /// Versions before the present one that are kept of a message that is edited, where they are kept; 0 keeps none.
        versions_per_message: u32 = 16, number(0, 100, "versions");
        /// Whether they are kept in sessions where nobody has said so (KeepVersions).
        keep_versions: bool = false, Kind::Flag;
        /// How long after it was declined, or took its request back, a user may ask again to join a group.
        join_again_ms: u64 = 86_400_000, number(0, 31_536_000_000, "ms");
        /// JOIN_GROUPs one user may send through one node in a second; twice as many at once after a pause.
        join_rate: u32 = 10, number(1, 10_000, "requests");
        /// CREATE_GROUPs and ADD_MEMBERSs together that one user may send through one node in a second; twice as many at once after a pause.
        add_rate: u32 = 10, number(1, 10_000, "requests");
        /// Largest content of an ephemeral message.
        ephemeral: u32 = 4 << 10, number(1, 8 << 10, "bytes");
        /// Ephemeral messages one connection may send in a second; twice as many at once after a pause.
        ephemeral_rate: u32 = 20, number(1, 10_000, "messages");
        /// Users whose coming and going one connection may watch.
        watched: u32 = 1_000, number(1, 5_000, "users");
        /// Groups of which one connection may watch who is online.
        watched_sessions: u32 = 16, number(1, 1_000, "sessions");
        /// Members of a group named to who watches it, of those online; the others are counted. Fewer where a frame has no room for them.
        watched_members: u32 = 500, number(1, 1_000, "users");
        /// Connections one node takes.
        connections: u32 = 10_000, number(1, 1_000_000, "connections");
        /// Connections to the HTTP address at once.
        http_connections: u32 = 64, number(2, 4096, "connections");
        /// Bytes that may wait to be written to one connection; pushes beyond it make it lag.
        queue_bytes: u32 = 1 << 20, number(65_536, 64 << 20, "bytes");
        /// Subscriptions (topic and connection) one node holds.
        subscriptions: u32 = 4_000_000, number(1_000, 100_000_000, "subscriptions");
        /// Requests of one shard that wait on one node before BUSY.
        lane_requests: u32 = 16_384, number(64, 1_000_000, "requests");
        /// Bytes of requests of one shard that wait on one node before BUSY.
        lane_bytes: u64 = 32 << 20, number(1 << 20, 1 << 30, "bytes");
        /// Sessions whose actors one node keeps in memory.
        resident_sessions: u32 = 20_000, number(64, 10_000_000, "sessions");
        /// Users whose actors one node keeps in memory.
        resident_users: u32 = 50_000, number(64, 10_000_000, "users");
        /// An actor that nobody has used for so long leaves memory, though there were room.
        resident_idle_ms: u64 = 30_000, number(1_000, 86_400_000, "ms");
        /// Recent messages a session's ring holds.
        ring_records: u32 = 256, number(8, 65_536, "records");
        /// Bytes a session's ring holds; the older records leave first.
        ring_bytes: u32 = 256 << 10, number(16_384, 64 << 20, "bytes");
    }
}

section! {
    /// `[storage]`: journal, databases, checkpoints.
    Storage, "storage" {
        /// Size of one journal segment; preallocated and used again.
        journal_segment_mib: u32 = 64, number(1, 1024, "MiB");
        /// Most journal segments; when three quarters are in use, nothing new is written until the databases have caught up, and what waits for that for a second is told BUSY.
        journal_segments: u32 = 8, number(2, 64, "segments");
        /// Cache of log entries, all shards together; empty when nothing has been written for half a minute.
        entry_cache_mib: u32 = 64, number(1, 16_384, "MiB");
        /// Cache of each of the two databases. sled keeps one or two leaves in each of its 256 parts however small it is, and what was written until a database is opened anew: after four times as many bytes, or a quarter as many when nobody has written to it for half a minute.
        sled_cache_mib: u32 = 32, number(1, 16_384, "MiB");
        /// Newest bytes of the log that only the journal and memory hold; older ones go to the database, if they are still needed, and all of them when nothing has been written for half a minute.
        settle_lag_mib: u32 = 128, number(0, 1024, "MiB");
        /// How often a shard with changes writes a checkpoint; up to eight times as long where little has changed in each of many sessions.
        checkpoint_ms: u64 = 1_000, number(100, 600_000, "ms");
        /// Log entries of a shard kept behind a checkpoint, for replicas that lag; one further behind gets a snapshot.
        log_keep: u64 = 10_000, number(0, 10_000_000, "entries");
        /// The same in bytes, all shards of a node together; a shard keeps at least a 64th of it.
        log_keep_mib: u64 = 64, number(1, 16_384, "MiB");
        /// Free disk space below which writes are refused with DISK_LOW.
        low_water_mib: u64 = 256, number(0, 1 << 20, "MiB");
        /// Age at which messages of direct sessions go, unless their users set less; 0 keeps them.
        retention_direct_age_ms: u64 = 0, number(0, 3_153_600_000_000, "ms");
        /// Messages, signals among them, kept of a direct session, unless its users set less; 0 keeps all.
        retention_direct_count: u64 = 0, number(0, 1_000_000_000_000, "records");
        /// Age at which messages go of groups for which nothing else was set; 0 keeps them.
        retention_group_age_ms: u64 = 0, number(0, 3_153_600_000_000, "ms");
        /// Messages, signals among them, kept of a group for which nothing else was set; 0 keeps all.
        retention_group_count: u64 = 0, number(0, 1_000_000_000_000, "records");
        /// How often sessions are looked at for messages that are to go.
        retention_sweep_ms: u64 = 10_000, number(100, 86_400_000, "ms");
        /// How often the leader of a shard compares one more of its sessions with the other replicas, by digest; 0 never does.
        compare_ms: u64 = 1_000, number(0, 86_400_000, "ms");
        /// Lines of the audit of what backends asked for that are kept, however young the older ones are.
        audit_lines: u32 = 100_000, number(1_000, 1_000_000, "lines");
        /// Age beyond which they are shown no more, and go with one of the next lines.
        audit_age_ms: u64 = 7_776_000_000, number(86_400_000, 3_153_600_000_000, "ms");
        /// Threads that read history from disk.
        read_threads: u32 = 2, number(1, 64, "threads");
    }
}

section! {
    /// `[timing]`: heartbeats, elections, deadlines.
    Timing, "timing" {
        /// How often a leader tells its followers that it lives.
        heartbeat_ms: u64 = 50, number(10, 5_000, "ms");
        /// How long a follower waits for a leader before it stands for election: drawn from this range.
        election_ms: (u64, u64) = (100, 200), pair(50, 60_000, "ms");
        /// How long a node goes on trying a request, elections included, before it answers UNAVAILABLE.
        request_deadline_ms: u64 = 10_000, number(500, 120_000, "ms");
        /// A connection that says nothing for so long is closed.
        idle_ms: u32 = 60_000, number(1_000, 3_600_000, "ms");
        /// How long a connection may take to say HELLO.
        hello_ms: u64 = 5_000, number(100, 60_000, "ms");
        /// How long delivered cursors are gathered before they are replicated.
        delivered_ms: u64 = 500, number(10, 60_000, "ms");
        /// How long an orderly stop may take: connections are told, leaders move, storage is flushed.
        stop_ms: u64 = 10_000, number(500, 120_000, "ms");
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

section! {
    /// `[log]`: what a node writes to stderr.
    Log, "log" {
        /// `text` for people, `json` for machines.
        format: LogFormat = LogFormat::Text, Kind::Choice(&["text", "json"]);
        /// Level, or a filter such as `info,rookery::router=debug,openraft=warn`; a plain level leaves openraft's own lines out. `ROOKERY_LOG` in the environment goes first.
        level: String = "info".to_owned(), text(1, 256);
    }
}

/// All sections, in the order of `docs/config.md`.
pub const SECTIONS: &[Section] = &[
    Cluster::SECTION,
    NodeConfig::SECTION,
    Auth::SECTION,
    Limits::SECTION,
    Storage::SECTION,
    Timing::SECTION,
    Log::SECTION,
];

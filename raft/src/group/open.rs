//! The opening of a group: everything that belongs to it is made here and nowhere else.
//!
//! Owns: openraft's configuration.

use std::sync::Arc;

use openraft::errors::Fatal;
use openraft::storage::RaftLogStorage;
use openraft::{Config, Raft, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::erased::Machine;
use super::network::Factory;
use super::reads::{self, Readers};
use super::serve::Served;
use super::shell::{Checkpoints, Shell};
use super::status::{self, GroupStatus};
use super::{BYTES_PER_PERMIT, Inner};
use crate::error::RaftError;
use crate::host::{HostCore, HostOptions};
use crate::machine::{Fault, Mark};
use crate::peer::LinkState;
use crate::snapshot::SnapshotWriter;
use crate::store::GroupLog;
use crate::types::{GroupId, RaftId, StoredMembership, TypeConfig};

/// Entries in one append request; their bytes are bounded by the log store.
const APPEND_ENTRIES: u64 = 1024;
/// Patience of one step of a snapshot transfer in milliseconds (see `send_snapshot`; three quarters of it count).
const SNAPSHOT_STEP_MS: u64 = 20_000;

fn config(options: &HostOptions) -> Result<Arc<Config>, String> {
    let ms = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: "rookery".to_owned(),
        // A heartbeat leaves at a beat of `runtime`, and openraft counts to the next from when it has looked: what came due a
        // moment after a beat would wait for another. Not less, for answers that come later than this are not counted.
        heartbeat_interval: ms(options.heartbeat * 4 / 5),
        election_timeout_min: ms(options.election.0),
        election_timeout_max: ms(options.election.1),
        // A checkpoint is the snapshot; the machine says when there is one.
        snapshot_policy: SnapshotPolicy::Never,
        // Nor is it asked to purge by itself: it would take back a purge of more that still waits for a follower, and its
        // debug assertions end the core for that. `Group::checkpointed` purges.
        max_in_snapshot_log_to_keep: u64::MAX,
        install_snapshot_timeout: SNAPSHOT_STEP_MS,
        max_payload_entries: APPEND_ENTRIES,
        api_channel_size: Some(4096),
        notification_channel_size: Some(16 * 1024),
        enable_pre_vote: Some(true),
        // A restarted leader must not go on without an election: what it last knew to be committed is not fsynced.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(|e| e.to_string())
}

/// Opens a group and lets it take part.
pub(crate) async fn open(
    host: Arc<HostCore>,
    id: GroupId,
    machine: Arc<dyn Machine>,
    mut log: GroupLog,
) -> Result<Arc<Inner>, RaftError> {
    let config = config(&host.options).map_err(|what| RaftError::Refused { group: id, what })?;
    let mark = machine.mark();
    has_what_is_purged(id, &mut log, mark.as_ref()).await?;
    let checkpoints = Checkpoints::new(mark.clone());
    let hand = Arc::new(Mutex::new(None));
    let shell = Shell {
        group: id,
        machine: machine.clone(),
        checkpoints: checkpoints.clone(),
        hand: hand.clone(),
        applied: mark.as_ref().map(|m| m.applied),
        membership: mark.map_or_else(StoredMembership::default, |m| m.membership),
        fatal: host.fatal.clone(),
    };
    let writes = machine.clone();
    let factory = Factory {
        group: id,
        me: host.options.me,
        peers: host.peers.clone(),
        checkpoints: checkpoints.clone(),
        write_snapshot: Arc::new(move |out: SnapshotWriter| {
            let machine = writes.clone();
            Box::pin(async move { machine.write_snapshot(out).await })
        }),
        fatal: host.fatal.clone(),
    };
    let raft = Box::pin(Raft::new(host.options.me, config, factory, log.clone(), shell))
        .await
        .map_err(|e| broken(id, &e))?;
    let served = Served {
        group: id,
        raft: raft.clone(),
        incoming: host.incoming.clone(),
        receiving: Arc::new(Semaphore::new(1)),
        node_receiving: host.receiving.clone(),
    };
    host.peers.serve(id, Some(Arc::new(served)));
    let (readers, queue) = Readers::channel();
    let (told, status) = watch::channel(GroupStatus::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(reads::serve(raft.clone(), queue));
    for node in host.peers.nodes() {
        tasks.spawn(resume_with_link(raft.clone(), node, host.peers.link(node)));
    }
    tasks.spawn(status::tell(raft.clone(), machine, told));
    let stopped = CancellationToken::new();
    tasks.spawn(notice_end(host.clone(), id, raft.clone(), stopped.clone()));
    let room_entries = Arc::new(Semaphore::new(host.options.proposals));
    let room_bytes = Arc::new(Semaphore::new(host.options.proposal_bytes / BYTES_PER_PERMIT));
    Ok(Arc::new(Inner {
        id,
        host,
        raft,
        hand,
        checkpoints,
        log,
        readers,
        status,
        room_entries,
        room_bytes,
        tasks: Mutex::new(tasks),
        stopped,
    }))
}

/// Replication to a peer that is away pauses longer and longer. A link that comes up ends the pause: until the peer has
/// caught up, one node more that goes away may be one too many.
async fn resume_with_link(raft: Raft<TypeConfig, Shell>, node: u16, mut link: watch::Receiver<LinkState>) {
    loop {
        let LinkState { up, store, .. } = *link.borrow_and_update();
        if up && raft.trigger().reset_backoff([RaftId { node, store }]).await.is_err() {
            return;
        }
        if link.changed().await.is_err() {
            return;
        }
    }
}

/// The log is purged only behind a durable checkpoint (R7), so a machine behind the purge point has lost its own.
/// openraft would notice too, but not know the remedy.
async fn has_what_is_purged(
    group: GroupId,
    log: &mut GroupLog,
    mark: Option<&Mark>,
) -> Result<(), RaftError> {
    let state = log.get_log_state().await.map_err(|error| RaftError::Broken {
        group,
        fault: Fault::with_source("reading the bounds of its log", error),
    })?;
    let checkpoint = mark.map(Mark::index);
    match state.last_purged_log_id.map(|purged| purged.index) {
        Some(purged) if checkpoint.is_none_or(|index| index < purged) => {
            Err(RaftError::StateLost { group, purged, checkpoint })
        }
        _ => Ok(()),
    }
}

fn broken(group: GroupId, error: &Fatal<TypeConfig>) -> RaftError {
    RaftError::Broken { group, fault: Fault::new(error.to_string()) }
}

/// A core that ends without having been told to has met a storage error, or a panic of its own: the node must not go on.
async fn notice_end(
    host: Arc<HostCore>,
    id: GroupId,
    raft: Raft<TypeConfig, Shell>,
    stopped: CancellationToken,
) {
    use openraft::async_runtime::watch::WatchReceiver;
    let mut server = raft.server_metrics();
    while server.changed().await.is_ok() {}
    if stopped.is_cancelled() {
        return;
    }
    let why = match &raft.metrics().borrow_watched().running_state {
        Err(error) => error.to_string(),
        // The core did not come to say why.
        Ok(()) => "a panic of its core".to_owned(),
    };
    host.fatal.stop(Fault::new(format!("group {id} ended: {why}")));
}

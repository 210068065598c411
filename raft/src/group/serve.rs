//! What peers ask of a group: votes, appends, snapshots.
//!
//! Owns: the inbound side of replication and the spool of a snapshot that comes in. Must never hand openraft a snapshot
//! that is not whole, and receives one at a time.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use openraft::Raft;
use openraft::storage::Snapshot;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::rpc::{self, Opening, Request, Said, Sent};
use super::shell::Shell;
use crate::peer::{Body, Duct, Service};
use crate::snapshot::{SnapshotData, Spool, SpoolWriter};
use crate::types::{GroupId, RaftId, SnapshotMeta, TypeConfig, Vote};

/// A sender that is silent for this long in the middle of a snapshot is given up.
const SNAPSHOT_SILENCE: Duration = Duration::from_secs(15);
/// While a snapshot is installed the sender hears this often that work goes on.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// Serves one group.
#[derive(Clone)]
pub(crate) struct Served {
    pub(super) group: GroupId,
    pub(super) raft: Raft<TypeConfig, Shell>,
    /// Where snapshots are spooled; `None` for stores in memory.
    pub(super) incoming: Option<PathBuf>,
    /// One at a time for the group.
    pub(super) receiving: Arc<Semaphore>,
    /// Some at a time for the node.
    pub(super) node_receiving: Arc<Semaphore>,
}

impl Service for Served {
    fn ask(&self, _from: RaftId, body: Bytes) -> BoxFuture<'static, Result<Body, String>> {
        let raft = self.raft.clone();
        Box::pin(async move {
            let text = |e: openraft::errors::RaftError<TypeConfig>| e.to_string();
            match Request::decode(&body).ok_or("a request that cannot be read")? {
                Request::Append(append) => {
                    raft.append_entries(append).await.map(|r| rpc::encode_appended(&r)).map_err(text)
                }
                Request::Vote(vote) => raft.vote(vote).await.map(|r| rpc::encode_voted(&r)).map_err(text),
                Request::PreVote(vote) => {
                    raft.pre_vote(vote).await.map(|r| rpc::encode_voted(&r)).map_err(text)
                }
                Request::Transfer(transfer) => raft
                    .handle_transfer_leader(transfer)
                    .await
                    .map(|r| rpc::encode_transferred(&r))
                    .map_err(|e| e.to_string()),
            }
        })
    }

    fn stream(&self, from: RaftId, open: Bytes, duct: Duct) -> BoxFuture<'static, ()> {
        let this = self.clone();
        match Opening::decode(&open) {
            Some(Opening::Appends) => Box::pin(this.appends(from, duct)),
            Some(Opening::Snapshot { vote, meta }) => Box::pin(this.snapshot(from, vote, meta, duct)),
            None => {
                tracing::warn!(group = self.group, %from, "a stream that cannot be read");
                Box::pin(std::future::ready(()))
            }
        }
    }
}

/// Waits for work, and tells the sender now and then that it goes on.
async fn alive<T>(duct: &mut Duct, work: impl Future<Output = T>) -> Result<T, String> {
    let mut work = pin!(work);
    loop {
        match timeout(SIGN_OF_LIFE, &mut work).await {
            Ok(done) => return Ok(done),
            Err(_) => duct.send(Said::Took(0).encode()).map_err(|e| e.to_string())?,
        }
    }
}

impl Served {
    /// Requests go to openraft in the order in which they came; results go back in that order, as they are ready.
    async fn appends(self, from: RaftId, duct: Duct) {
        let (inbound, outbound) = duct.split();
        let group = self.group;
        let requests = stream::unfold(inbound, move |mut inbound| async move {
            let body = inbound.recv().await?;
            let append = rpc::decode_append(&body);
            if append.is_none() {
                tracing::warn!(group, %from, "an append that cannot be read");
            }
            append.map(|append| (append, inbound))
        });
        let mut results = pin!(self.raft.stream_append(requests));
        while let Some(Ok(result)) = results.next().await {
            if outbound.send(rpc::encode_stream_result(&result)).is_err() {
                return;
            }
        }
    }

    async fn snapshot(self, from: RaftId, vote: Vote, meta: SnapshotMeta, mut duct: Duct) {
        tracing::info!(group = self.group, %from, "receiving a snapshot");
        let said = match self.receive(vote, meta, &mut duct).await {
            Ok(vote) => Said::Installed(vote),
            Err(why) => {
                // What came of it is removed with its spool; the sender begins anew.
                tracing::warn!(group = self.group, %from, %why, "a snapshot was not received; it will come again");
                Said::Failed(why)
            }
        };
        // A sender that went away does not want to know.
        let _ = duct.send(said.encode());
    }

    async fn receive(&self, vote: Vote, meta: SnapshotMeta, duct: &mut Duct) -> Result<Vote, String> {
        let permits = self.permits()?;
        // openraft may go on with it after the link has broken and this was given up. Until it is done nobody writes another
        // one of this group: the file has the same name.
        let spool = self.spool(&meta, duct).await?.holding(permits);
        // Once openraft has it a snapshot cannot be refused any more: damage is looked for before.
        let damaged = |fault| format!("the spooled snapshot is damaged and thrown away: {fault}");
        alive(duct, spool.verify()).await?.map_err(damaged)?;
        let snapshot = Snapshot { meta, snapshot: SnapshotData::Received(spool) };
        let installed = alive(duct, self.raft.install_full_snapshot(vote, snapshot)).await?;
        installed.map(|r| r.vote).map_err(|e| e.to_string())
    }

    fn permits(&self) -> Result<[OwnedSemaphorePermit; 2], String> {
        let take = |of: &Arc<Semaphore>, what: &str| {
            of.clone().try_acquire_owned().map_err(|_| format!("{what} receives a snapshot already"))
        };
        Ok([take(&self.receiving, "this group")?, take(&self.node_receiving, "this node")?])
    }

    async fn spool(&self, meta: &SnapshotMeta, duct: &mut Duct) -> Result<Spool, String> {
        let failed = |e: std::io::Error| format!("spooling: {e}");
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let name = format!("group-{}-{index}.snapshot", self.group);
        let mut spool = SpoolWriter::create(self.incoming.as_deref(), &name).await.map_err(failed)?;
        loop {
            let body = timeout(SNAPSHOT_SILENCE, duct.recv()).await.map_err(|_| "the sender is silent")?;
            match Sent::decode(&body.ok_or("the sender gave up")?).ok_or("a chunk that cannot be read")? {
                Sent::Chunk(chunk) => {
                    spool.push(chunk).await.map_err(failed)?;
                    duct.send(Said::Took(1).encode()).map_err(|e| e.to_string())?;
                }
                Sent::End(chunks) => return spool.finish(chunks).await.map_err(failed),
            }
        }
    }
}

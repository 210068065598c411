//! Raft's requests to one peer, over its link.
//!
//! Owns: the translation between openraft's network traits and asks and streams. A link that is down fails at once, so
//! that elections and backoff behave. Must never reach another folder than the one that is meant (R4).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::SnapshotResponse;
use openraft::{EmptyNode, RPCTypes};
use tokio::time::timeout;

use super::replicate::Replication;
use super::rpc::{
    self, Append, Appended, AppendedInStream, AskVote, Opening, Request, Transfer, Transferred, Voted,
};
use super::send_snapshot;
use super::shell::{Checkpoints, LiveSnapshot};
use crate::host::FatalOnce;
use crate::machine::Fault;
use crate::peer::{Lane, Link, PeerError, PeerNet};
use crate::snapshot::{SnapshotData, SnapshotWriter};
use crate::types::{GroupId, RaftId, TypeConfig, Vote};

pub(super) type RpcError = RPCError<TypeConfig>;
pub(super) type SendError = StreamingError<TypeConfig>;

/// Streams the machine of this group.
pub(super) type WriteSnapshot =
    Arc<dyn Fn(SnapshotWriter) -> BoxFuture<'static, Result<(), Fault>> + Send + Sync>;

/// Pauses between attempts to reach a peer: doubling up to the last. A link that comes up ends them (see `open`).
const BACKOFF: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
];

/// Makes the networks of one group.
#[derive(Clone)]
pub(crate) struct Factory {
    pub(super) group: GroupId,
    pub(super) me: RaftId,
    pub(super) peers: PeerNet,
    pub(super) checkpoints: Arc<Checkpoints>,
    pub(super) write_snapshot: WriteSnapshot,
    pub(super) fatal: Arc<FatalOnce>,
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Wire;

    async fn new_client(&mut self, target: RaftId, _node: &EmptyNode) -> Wire {
        Wire { factory: self.clone(), target, heartbeat: false }
    }

    async fn new_heartbeat_client(&mut self, target: RaftId, _node: &EmptyNode) -> Wire {
        Wire { factory: self.clone(), target, heartbeat: true }
    }
}

/// One group's way to one peer.
pub(crate) struct Wire {
    factory: Factory,
    target: RaftId,
    /// Streams of this one hold a single request, so they need no stream.
    heartbeat: bool,
}

impl Wire {
    fn link(&self) -> Result<Arc<Link>, PeerError> {
        self.factory.peers.link_to(self.target)
    }

    async fn ask(&self, action: RPCTypes, request: &Request, option: &RPCOption) -> Result<Bytes, RpcError> {
        let asked = self
            .link()
            .and_then(|link| link.ask(Lane::Raft, self.factory.group, request.encode()))
            .map_err(|e| unreachable(&e))?;
        // openraft gives up at the hard limit by itself. The soft one (three quarters of it) would only lose answers: to
        // a heartbeat 50 ms are short on a busy machine as it is.
        let limit = option.hard_ttl();
        match timeout(limit, asked.answer()).await {
            Ok(answer) => answer.map_err(|e| unreachable(&e)),
            Err(_) => {
                let (id, target) = (self.factory.me, self.target);
                Err(Timeout { action, id, target, timeout: limit }.into())
            }
        }
    }

    async fn ask_vote(&self, request: Request, option: &RPCOption) -> Result<Voted, RpcError> {
        let answer = self.ask(RPCTypes::Vote, &request, option).await?;
        rpc::decode_voted(&answer).ok_or_else(unreadable)
    }
}

pub(super) fn unreachable(error: &PeerError) -> RpcError {
    Unreachable::new(error).into()
}

pub(super) fn unreadable() -> RpcError {
    NetworkError::from_string("an answer that cannot be read").into()
}

impl RaftNetworkV2<TypeConfig> for Wire {
    type SnapshotData = SnapshotData;

    async fn append_entries(&mut self, rpc: Append, option: RPCOption) -> Result<Appended, RpcError> {
        let answer = self.ask(RPCTypes::AppendEntries, &Request::Append(rpc), &option).await?;
        rpc::decode_appended(&answer).ok_or_else(unreadable)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<AppendedInStream, RpcError>>, RpcError>>
    where
        S: Stream<Item = Append> + Send + Unpin + 'static,
    {
        if self.heartbeat {
            return stream_append_sequential(self, input, option);
        }
        let stream = Replication::new(&self.factory.peers, self.target, self.factory.group, input);
        Box::pin(std::future::ready(Ok(Box::pin(stream) as BoxStream<'s, _>)))
    }

    async fn vote(&mut self, rpc: AskVote, option: RPCOption) -> Result<Voted, RpcError> {
        self.ask_vote(Request::Vote(rpc), &option).await
    }

    async fn pre_vote(&mut self, rpc: AskVote, option: RPCOption) -> Result<Voted, RpcError> {
        self.ask_vote(Request::PreVote(rpc), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: LiveSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, SendError> {
        let held = self.factory.checkpoints.transfer();
        let down = |e: PeerError| SendError::Unreachable(Unreachable::new(&e));
        let link = self.link().map_err(down)?;
        let name = snapshot.meta.last_log_id.as_ref().map_or(0, |id| id.index);
        let opening = Opening::Snapshot { vote, meta: snapshot.meta }.encode();
        let duct = link
            .open(Lane::Bulk, self.factory.group, opening, send_snapshot::ANSWERS_QUEUED)
            .map_err(down)?;
        let patience = option.soft_ttl();
        let sending = send_snapshot::Sending::new(&self.factory, self.target, duct, patience, name);
        tracing::info!(group = self.factory.group, to = %self.target, "sending a snapshot");
        let outcome = tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            outcome = sending.run() => outcome,
        };
        drop(held);
        match &outcome {
            Ok(_) => tracing::info!(group = self.factory.group, to = %self.target, "snapshot sent"),
            Err(error) => {
                tracing::info!(group = self.factory.group, to = %self.target, %error, "snapshot not sent");
            }
        }
        outcome
    }

    async fn transfer_leader(&mut self, rpc: Transfer, option: RPCOption) -> Result<Transferred, RpcError> {
        let answer = self.ask(RPCTypes::TransferLeader, &Request::Transfer(rpc), &option).await?;
        rpc::decode_transferred(&answer).ok_or_else(unreadable)
    }

    fn backoff(&self) -> Option<Backoff> {
        let last = BACKOFF[BACKOFF.len() - 1];
        Some(Backoff::new(BACKOFF.into_iter().chain(std::iter::repeat(last))))
    }
}

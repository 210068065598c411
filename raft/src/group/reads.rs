//! Linearizable reads that share their rounds.
//!
//! One task per group: whoever asks while a round is under way waits for the next one, so a round always began after its
//! callers did. Owns: the queue of readers. Must never answer with a round that began before the question.

use std::time::Duration;

use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{LinearizerOption, Raft};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::shell::Shell;
use crate::error::ReadError;
use crate::types::TypeConfig;

/// Readers that may wait.
const QUEUE: usize = 16 * 1024;
/// A round that took longer has failed: its readers are told, and the next round begins.
const ROUND: Duration = Duration::from_secs(1);

/// What a linearizable read must reflect, and under whom that was confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPoint {
    /// Applied here up to this index, at least.
    pub index: u64,
    /// The term in which this node led when a majority confirmed it.
    pub term: u64,
}

type Answer = Result<ReadPoint, ReadError>;

/// Where readers queue.
#[derive(Clone)]
pub(super) struct Readers(mpsc::Sender<oneshot::Sender<Answer>>);

impl Readers {
    pub(super) fn channel() -> (Self, mpsc::Receiver<oneshot::Sender<Answer>>) {
        let (tx, rx) = mpsc::channel(QUEUE);
        (Self(tx), rx)
    }

    pub(super) async fn read_index(&self, deadline: Duration) -> Answer {
        let (tx, rx) = oneshot::channel();
        self.0.try_send(tx).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => ReadError::Busy,
            mpsc::error::TrySendError::Closed(_) => ReadError::Stopped,
        })?;
        match timeout(deadline, rx).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::NoQuorum),
        }
    }
}

/// Runs rounds for as long as somebody can ask.
pub(super) async fn serve(raft: Raft<TypeConfig, Shell>, mut queue: mpsc::Receiver<oneshot::Sender<Answer>>) {
    let mut readers = Vec::new();
    while queue.recv_many(&mut readers, QUEUE).await > 0 {
        let answer = match timeout(ROUND * 2, round(&raft)).await {
            Ok(answer) => answer,
            Err(_) => Err(ReadError::NoQuorum),
        };
        for reader in readers.drain(..) {
            // A reader may have given up.
            let _ = reader.send(answer.clone());
        }
    }
}

async fn round(raft: &Raft<TypeConfig, Shell>) -> Answer {
    // Age zero: only an acknowledgement of a heartbeat that is sent from now on counts. No clock is trusted.
    let confirm = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(ROUND);
    let linearizer = raft.get_read_linearizer(confirm).await.map_err(|error| match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(to)) => {
            ReadError::NotLeader { leader: to.leader_id }
        }
        RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => ReadError::NoQuorum,
        RaftError::Fatal(_) => ReadError::Stopped,
    })?;
    // Never older than the entry with which this leader began, so its term is the leader's.
    let read = linearizer.read_log_id();
    let point = ReadPoint { index: read.index(), term: read.committed_leader_id().term };
    match linearizer.try_await_ready(raft, Some(ROUND)).await {
        Ok(Ok(_)) => Ok(point),
        // Confirmed, but the machine is behind: to the reader the same as no answer in time.
        Ok(Err(_)) => Err(ReadError::NoQuorum),
        Err(_) => Err(ReadError::Stopped),
    }
}

//! The sending side of a snapshot: the machine writes, chunks go out a few at a time, the receiver says what it took.
//!
//! Nothing is restarted in the middle: a transfer that fails begins anew, when openraft says so. Owns: the window. Must
//! never wait without end: each step must come within the patience.

use std::time::Duration;

use bytes::Bytes;
use openraft::RPCTypes;
use openraft::StorageError;
use openraft::errors::{NetworkError, Timeout, Unreachable};
use openraft::raft::SnapshotResponse;
use tokio::time::timeout;

use super::network::{Factory, SendError, WriteSnapshot};
use super::rpc::{Said, Sent};
use crate::host::FatalOnce;
use crate::machine::Fault;
use crate::peer::{Duct, PeerError};
use crate::snapshot::SnapshotWriter;
use crate::types::{RaftId, TypeConfig};

/// Chunks under way.
const WINDOW: u64 = 4;
/// Answers that may wait here: one per chunk under way and a few signs of life.
pub(super) const ANSWERS_QUEUED: usize = 16;

pub(super) struct Sending {
    write: WriteSnapshot,
    fatal: std::sync::Arc<FatalOnce>,
    me: RaftId,
    target: RaftId,
    duct: Duct,
    patience: Duration,
    /// Log index that the snapshot is named after.
    name: u64,
    sent: u64,
    taken: u64,
}

type Response = SnapshotResponse<TypeConfig>;

impl Sending {
    pub(super) fn new(factory: &Factory, target: RaftId, duct: Duct, patience: Duration, name: u64) -> Self {
        let (write, fatal, me) = (factory.write_snapshot.clone(), factory.fatal.clone(), factory.me);
        Self { write, fatal, me, target, duct, patience, name, sent: 0, taken: 0 }
    }

    /// Sends everything and waits until it is installed.
    pub(super) async fn run(mut self) -> Result<Response, SendError> {
        let (writer, mut chunks) = SnapshotWriter::named(self.name);
        let mut writing = (self.write)(writer);
        let mut written = None;
        loop {
            let step = tokio::select! {
                biased;
                said = self.duct.recv() => Step::Said(said),
                outcome = &mut writing, if written.is_none() => Step::Written(outcome),
                chunk = chunks.recv(), if self.sent < self.taken + WINDOW => Step::Chunk(chunk),
                () = tokio::time::sleep(self.patience) => Step::Silence,
            };
            match step {
                Step::Said(said) => {
                    if let Some(response) = self.said(said)? {
                        return Ok(response);
                    }
                }
                Step::Written(Ok(())) => written = Some(()),
                Step::Written(Err(fault)) => return Err(self.cannot_write(fault)),
                Step::Chunk(Some(chunk)) => {
                    self.send(&Sent::Chunk(chunk))?;
                    self.sent += 1;
                }
                Step::Chunk(None) => break,
                Step::Silence => return Err(self.silence()),
            }
        }
        // The channel is closed: the machine dropped its writer, and so has finished or is about to.
        if written.is_none()
            && let Err(fault) = finish(writing, self.patience).await
        {
            return Err(self.cannot_write(fault));
        }
        self.send(&Sent::End(self.sent))?;
        self.until_installed().await
    }

    async fn until_installed(&mut self) -> Result<Response, SendError> {
        loop {
            match timeout(self.patience, self.duct.recv()).await {
                Err(_) => return Err(self.silence()),
                Ok(said) => {
                    if let Some(response) = self.said(said)? {
                        return Ok(response);
                    }
                }
            }
        }
    }

    fn said(&mut self, said: Option<Bytes>) -> Result<Option<Response>, SendError> {
        let Some(body) = said else {
            let lost = PeerError::Lost { node: self.target.node };
            return Err(Unreachable::new(&lost).into());
        };
        match Said::decode(&body) {
            Some(Said::Took(chunks)) => {
                self.taken = (self.taken + u64::from(chunks)).min(self.sent);
                Ok(None)
            }
            Some(Said::Installed(vote)) => Ok(Some(Response::new(vote))),
            // Not `Network`: that would be tried again at once.
            Some(Said::Failed(why)) => {
                Err(Unreachable::from_string(format!("node {}: {why}", self.target.node)).into())
            }
            None => Err(NetworkError::from_string("a snapshot answer that cannot be read").into()),
        }
    }

    fn send(&self, message: &Sent) -> Result<(), SendError> {
        self.duct.send(message.encode()).map_err(|e| Unreachable::new(&e).into())
    }

    /// The receiver is still there, so the machine itself failed.
    fn cannot_write(&self, fault: Fault) -> SendError {
        let error = StorageError::read_snapshot(None, source(&fault));
        self.fatal.stop(fault);
        error.into()
    }

    fn silence(&self) -> SendError {
        let (id, target, timeout) = (self.me, self.target, self.patience);
        Timeout { action: RPCTypes::InstallSnapshot, id, target, timeout }.into()
    }
}

enum Step {
    Said(Option<Bytes>),
    Written(Result<(), Fault>),
    Chunk(Option<Bytes>),
    Silence,
}

async fn finish(
    writing: futures::future::BoxFuture<'static, Result<(), Fault>>,
    patience: Duration,
) -> Result<(), Fault> {
    match timeout(patience, writing).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Fault::new("a machine closed its snapshot and did not return")),
    }
}

fn source(fault: &Fault) -> openraft::impls::BoxedErrorSource {
    openraft::errors::ErrorSource::from_error(fault)
}

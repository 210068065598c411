//! Pipelined replication to one follower: many appends under way, results in order.
//!
//! The window bounds what one group may have under way to one peer; what exceeds it stays in openraft's input, that is in
//! the log. Must never reorder, and must fail as a whole at the first trouble: openraft begins anew from what was
//! acknowledged.
//!
//! The stream to the peer is opened when the first request is there, not before: openraft pauses between attempts inside
//! its input, and one that fails before the input was asked is repeated at once, for as long as the peer is away.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use openraft::errors::Unreachable;
use tokio::time::{Instant, Sleep, sleep_until};

use super::network::{RpcError, unreachable, unreadable};
use super::rpc::{self, Append, AppendedInStream, Opening};
use crate::peer::{Duct, Lane, PeerError, PeerNet};
use crate::types::{GroupId, RaftId};

/// Requests under way at once. Below the receiver's queue (`peer::run::STREAM_INBOUND`) and openraft's own (64).
const WINDOW_REQUESTS: usize = 48;
/// Their bytes. A request of any size may go when nothing is under way.
const WINDOW_BYTES: usize = 4 << 20;
/// A follower that answers nothing for this long while something is under way is given up. Long: the end of a link
/// shows at once, so this is for a follower that stands still.
const PATIENCE: Duration = Duration::from_secs(3);

/// The stream of results.
pub(super) struct Replication<S> {
    group: GroupId,
    target: RaftId,
    peers: PeerNet,
    input: Option<S>,
    duct: Option<Duct>,
    under_way: VecDeque<usize>,
    bytes: usize,
    deadline: Pin<Box<Sleep>>,
    over: bool,
}

impl<S: Stream<Item = Append> + Unpin> Replication<S> {
    pub(super) fn new(peers: &PeerNet, target: RaftId, group: GroupId, input: S) -> Self {
        Self {
            group,
            target,
            peers: peers.clone(),
            input: Some(input),
            duct: None,
            under_way: VecDeque::with_capacity(WINDOW_REQUESTS),
            bytes: 0,
            deadline: Box::pin(sleep_until(Instant::now() + PATIENCE)),
            over: false,
        }
    }

    fn open(&self) -> Result<Duct, PeerError> {
        let link = self.peers.link_to(self.target)?;
        link.open(Lane::Raft, self.group, Opening::Appends.encode(), WINDOW_REQUESTS + 1)
    }

    fn fail(&mut self, error: RpcError) -> Poll<Option<Result<AppendedInStream, RpcError>>> {
        self.over = true;
        Poll::Ready(Some(Err(error)))
    }

    fn answered(&mut self, body: &bytes::Bytes) -> Poll<Option<Result<AppendedInStream, RpcError>>> {
        let Some(sent) = self.under_way.pop_front() else { return self.fail(unreadable()) };
        self.bytes -= sent;
        self.deadline.as_mut().reset(Instant::now() + PATIENCE);
        match rpc::decode_stream_result(body) {
            Some(result) => {
                self.over = result.is_err();
                Poll::Ready(Some(Ok(result)))
            }
            None => self.fail(unreadable()),
        }
    }

    fn has_room(&self) -> bool {
        self.under_way.is_empty() || (self.under_way.len() < WINDOW_REQUESTS && self.bytes < WINDOW_BYTES)
    }

    fn send(&mut self, append: &Append) -> Result<(), PeerError> {
        let duct = match self.duct.take() {
            Some(duct) => duct,
            None => self.open()?,
        };
        let body = rpc::encode_append(append);
        let bytes = body.len();
        self.duct.insert(duct).send(body)?;
        if self.under_way.is_empty() {
            self.deadline.as_mut().reset(Instant::now() + PATIENCE);
        }
        self.under_way.push_back(bytes);
        self.bytes += bytes;
        Ok(())
    }

    fn silent(&mut self) -> Poll<Option<Result<AppendedInStream, RpcError>>> {
        self.fail(Unreachable::from_string(format!("no answer to an append for {PATIENCE:?}")).into())
    }
}

impl<S: Stream<Item = Append> + Unpin> Stream for Replication<S> {
    type Item = Result<AppendedInStream, RpcError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        loop {
            match this.duct.as_mut().map(|duct| duct.poll_recv(cx)) {
                Some(Poll::Ready(Some(body))) => return this.answered(&body),
                Some(Poll::Ready(None)) => {
                    return this.fail(Unreachable::from_string("the append stream ended").into());
                }
                Some(Poll::Pending) | None => {}
            }
            if !this.has_room() {
                break;
            }
            let Some(input) = this.input.as_mut() else { break };
            match Pin::new(input).poll_next(cx) {
                Poll::Ready(Some(append)) => {
                    if let Err(error) = this.send(&append) {
                        return this.fail(unreachable(&error));
                    }
                }
                Poll::Ready(None) => this.input = None,
                Poll::Pending => break,
            }
        }
        if this.under_way.is_empty() {
            return if this.input.is_none() { Poll::Ready(None) } else { Poll::Pending };
        }
        match this.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => this.silent(),
            Poll::Pending => Poll::Pending,
        }
    }
}

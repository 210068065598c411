//! One life of one connection, as those see it who send over it: asks and streams, matched by id.
//!
//! Owns: the tables of what is awaited, the outbox. When the link ends, everything that was awaited over it ends with an
//! error, at once. Must never wait for room: a full lane is an error to the sender.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::frame::{Body, Frame, HEAD, Kind};
use super::outbox::{Bound, Lane, Outbox, Refused};
use super::{PeerError, PeerOptions};
use crate::types::RaftId;

/// Frames and bytes of Raft that may wait for one link; a group sends no more than its window (see `replicate`).
const RAFT_BOUND: Bound = Bound { frames: 16 * 1024, bytes: 128 << 20 };
/// Snapshot chunks that may wait.
const BULK_BOUND: Bound = Bound { frames: 64, bytes: 8 << 20 };
/// Streams that the peer may have open here.
const MAX_STREAMS: usize = 4096;

/// What came back for an ask.
pub(super) type Answer = Result<Bytes, String>;

/// Streams by id: who takes their messages here.
type Streams = Mutex<HashMap<u64, mpsc::Sender<Bytes>>>;

/// A connection that passed its handshake.
pub(crate) struct Link {
    /// Who is at the other end.
    pub(crate) peer: RaftId,
    pub(super) outbox: Outbox,
    max_frame: usize,
    next_id: AtomicU64,
    asks: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    opened_here: Streams,
    opened_there: Streams,
    down: CancellationToken,
}

impl Link {
    pub(super) fn new(peer: RaftId, options: &PeerOptions, down: CancellationToken) -> Arc<Self> {
        let app = Bound { frames: options.queue_frames, bytes: options.queue_bytes };
        Arc::new(Self {
            peer,
            outbox: Outbox::new([RAFT_BOUND, app, BULK_BOUND]),
            max_frame: options.max_frame,
            next_id: AtomicU64::new(1),
            asks: Mutex::default(),
            opened_here: Mutex::default(),
            opened_there: Mutex::default(),
            down,
        })
    }

    /// Resolves when the link is over.
    pub(crate) fn down(&self) -> &CancellationToken {
        &self.down
    }

    /// Ends the link: everything that is awaited over it ends. The outbox is closed before the tables are cleared: who
    /// enters himself later fails to send and so waits for nothing.
    pub(super) fn close(&self) {
        self.down.cancel();
        self.outbox.close();
        self.asks.lock().clear();
        self.opened_here.lock().clear();
        self.opened_there.lock().clear();
    }

    pub(super) fn push(
        &self,
        lane: Lane,
        kind: Kind,
        channel: u32,
        id: u64,
        body: Body,
    ) -> Result<(), PeerError> {
        let node = self.peer.node;
        let (len, max) = (body.len() + HEAD, self.max_frame);
        if len > max {
            return Err(PeerError::TooLong { len, max });
        }
        self.outbox.push(lane, Frame::new(kind, channel, id, body)).map_err(|refused| match refused {
            Refused::Full => PeerError::Full { node },
            Refused::Closed => PeerError::Down { node },
        })
    }

    /// Sends a request; the answer is awaited through what is returned. Dropping that forgets the request.
    pub(crate) fn ask(self: &Arc<Self>, lane: Lane, channel: u32, body: Body) -> Result<Asked, PeerError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (tx, answer) = oneshot::channel();
        self.asks.lock().insert(id, tx);
        let asked = Asked { link: self.clone(), id, answer };
        self.push(lane, Kind::Ask, channel, id, body)?;
        Ok(asked)
    }

    /// Opens a stream of messages. At most `inbound` of them wait here; one more ends the stream, so the two sides need
    /// a window between them.
    pub(crate) fn open(
        self: &Arc<Self>,
        lane: Lane,
        channel: u32,
        body: Body,
        inbound: usize,
    ) -> Result<Duct, PeerError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (tx, rx) = mpsc::channel(inbound);
        self.opened_here.lock().insert(id, tx);
        let duct = Duct::new(OpenDuct { link: self.clone(), lane, channel, id, opener: true }, rx);
        self.push(lane, Kind::Open, channel, id, body)?;
        Ok(duct)
    }

    /// The other side opened a stream.
    pub(super) fn opened(
        self: &Arc<Self>,
        lane: Lane,
        channel: u32,
        id: u64,
        inbound: usize,
    ) -> Option<Duct> {
        let (tx, rx) = mpsc::channel(inbound);
        {
            let mut streams = self.opened_there.lock();
            if streams.len() >= MAX_STREAMS || streams.contains_key(&id) {
                return None;
            }
            streams.insert(id, tx);
        }
        Some(Duct::new(OpenDuct { link: self.clone(), lane, channel, id, opener: false }, rx))
    }

    pub(super) fn answered(&self, id: u64, answer: Answer) {
        if let Some(waiting) = self.asks.lock().remove(&id) {
            // Who asked may have given up meanwhile.
            let _ = waiting.send(answer);
        }
    }

    /// A message of a stream came. `opener`: this side opened it. A message nobody waits for is of a stream that ended.
    pub(super) fn message(&self, opener: bool, id: u64, body: Bytes) {
        let streams = if opener { &self.opened_here } else { &self.opened_there };
        let mut streams = streams.lock();
        if let Some(stream) = streams.get(&id)
            && let Err(error) = stream.try_send(body)
        {
            tracing::debug!(peer = %self.peer, id, %error, "a stream's receiver is full or gone; the stream ends");
            streams.remove(&id);
        }
    }

    pub(super) fn ended(&self, opener: bool, id: u64) {
        let streams = if opener { &self.opened_here } else { &self.opened_there };
        streams.lock().remove(&id);
    }
}

/// A request that is under way.
pub(crate) struct Asked {
    link: Arc<Link>,
    id: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Asked {
    /// The answer. Has no deadline of its own; the end of the link ends it.
    pub(crate) async fn answer(mut self) -> Result<Bytes, PeerError> {
        let node = self.link.peer.node;
        match (&mut self.answer).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(why)) => Err(PeerError::NotTaken { node, why }),
            Err(_) => Err(PeerError::Lost { node }),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.link.asks.lock().remove(&self.id);
    }
}

/// One end of a stream of messages. When both its halves are gone the stream ends at the other side.
pub(crate) struct Duct {
    inbound: DuctReceiver,
    outbound: DuctSender,
}

impl Duct {
    fn new(open: OpenDuct, inbound: mpsc::Receiver<Bytes>) -> Self {
        let open = Arc::new(open);
        Self { inbound: DuctReceiver { open: open.clone(), inbound }, outbound: DuctSender { open } }
    }

    /// For two tasks.
    pub(crate) fn split(self) -> (DuctReceiver, DuctSender) {
        (self.inbound, self.outbound)
    }

    /// See [`DuctSender::send`].
    pub(crate) fn send(&self, body: Body) -> Result<(), PeerError> {
        self.outbound.send(body)
    }

    /// See [`DuctReceiver::recv`].
    pub(crate) async fn recv(&mut self) -> Option<Bytes> {
        self.inbound.recv().await
    }

    /// Like `recv` for who polls.
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.inbound.inbound.poll_recv(cx)
    }
}

/// The receiving half.
pub(crate) struct DuctReceiver {
    open: Arc<OpenDuct>,
    inbound: mpsc::Receiver<Bytes>,
}

impl DuctReceiver {
    /// The next message; `None` when the stream or the link ended. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Option<Bytes> {
        tokio::select! {
            biased;
            message = self.inbound.recv() => message,
            () = self.open.link.down.cancelled() => None,
        }
    }
}

/// The sending half.
pub(crate) struct DuctSender {
    open: Arc<OpenDuct>,
}

impl DuctSender {
    /// Sends a message; an error means that the link is over or full.
    pub(crate) fn send(&self, body: Body) -> Result<(), PeerError> {
        let OpenDuct { link, lane, channel, id, opener } = &*self.open;
        let kind = if *opener { Kind::Forth } else { Kind::Back };
        link.push(*lane, kind, *channel, *id, body)
    }
}

/// What ends the stream when nobody holds it any more.
struct OpenDuct {
    link: Arc<Link>,
    lane: Lane,
    channel: u32,
    id: u64,
    opener: bool,
}

impl Drop for OpenDuct {
    fn drop(&mut self) {
        let kind = if self.opener { Kind::EndForth } else { Kind::EndBack };
        self.link.ended(self.opener, self.id);
        // A link that is over tells the other side by itself; a full lane leaves a stream that its own bound ends.
        let _ = self.link.push(self.lane, kind, self.channel, self.id, Body::default());
    }
}

//! What a link does while it lives: reads and dispatches, writes what waits, pings, notices silence.
//!
//! Owns: the tasks of one connection. Must never block the reader: what may take time is spawned, within bounds, and what
//! the bounds do not admit is refused with a text.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::frame::{APP, Body, Frame, FrameReader, Kind, ReadFailure, Received};
use super::link::Link;
use super::net::Inner;
use super::outbox::Lane;
use crate::seam::BoxStream;

/// Requests of Raft from one peer that run here at once.
const RAFT_ASKS: usize = 4096;
/// Messages of one stream that wait here. The windows of senders are smaller.
pub(super) const STREAM_INBOUND: usize = 128;
/// Parts of frames longer than this are written from where they are; shorter ones are gathered.
const GATHER_UP_TO: usize = 4096;
/// Slices given to one system call.
const MAX_SLICES: usize = 64;

/// Runs a link until it ends; the reason is for the log.
pub(super) async fn run(net: Arc<Inner>, link: Arc<Link>, stream: BoxStream) {
    let (read, write) = stream.split_duplex();
    let heard = Arc::new(Mutex::new(Instant::now()));
    let silence = net.options.silence;
    let writer = tokio::spawn(write_all(link.clone(), write, silence));
    let reason = tokio::select! {
        biased;
        reason = read_all(&net, &link, read, &heard) => reason,
        () = watch_silence(&link, &heard, silence) => "the peer was silent for too long".to_owned(),
        () = link.down().cancelled() => "closed here".to_owned(),
    };
    link.close();
    // The writer ends because the outbox is closed, at the latest after `silence`.
    let written = writer.await;
    tracing::info!(peer = %link.peer, %reason, ?written, "link down");
}

async fn watch_silence(link: &Link, heard: &Mutex<Instant>, silence: Duration) {
    loop {
        tokio::time::sleep(silence / 4).await;
        if heard.lock().elapsed() > silence {
            return;
        }
        // A full lane is traffic enough.
        let _ = link.push(Lane::Raft, Kind::Ping, APP, 0, Body::default());
    }
}

async fn read_all(
    net: &Arc<Inner>,
    link: &Arc<Link>,
    read: Box<dyn AsyncRead + Send + Unpin>,
    heard: &Mutex<Instant>,
) -> String {
    let mut frames = FrameReader::new(read, net.options.max_frame);
    let inbound = Inbound {
        net: net.clone(),
        link: link.clone(),
        calls: Arc::new(Semaphore::new(net.options.calls)),
        asks: Arc::new(Semaphore::new(RAFT_ASKS)),
    };
    loop {
        match frames.next().await {
            Ok(frame) => {
                *heard.lock() = Instant::now();
                inbound.dispatch(frame);
            }
            Err(failure) => {
                if let ReadFailure::Bad(_) = failure {
                    net.count_bad_frame();
                }
                return failure.to_string();
            }
        }
    }
}

/// Where the frames of one link go.
struct Inbound {
    net: Arc<Inner>,
    link: Arc<Link>,
    calls: Arc<Semaphore>,
    asks: Arc<Semaphore>,
}

impl Inbound {
    fn dispatch(&self, frame: Received) {
        let Received { kind, channel, request, body } = frame;
        match kind {
            Kind::Ping => {}
            Kind::Ask if channel == APP => self.call(request, body),
            Kind::Ask => self.ask(channel, request, body),
            Kind::Answer => self.link.answered(request, Ok(body)),
            Kind::Refuse => self.link.answered(request, Err(String::from_utf8_lossy(&body).into_owned())),
            Kind::Cast => {
                if let Some(app) = self.net.app() {
                    app.cast(self.link.peer.node, body);
                }
            }
            Kind::Open => self.open(channel, request, body),
            Kind::Forth => self.link.message(false, request, body),
            Kind::Back => self.link.message(true, request, body),
            Kind::EndForth => self.link.ended(false, request),
            Kind::EndBack => self.link.ended(true, request),
        }
    }

    fn call(&self, request: u64, body: Bytes) {
        let Some(app) = self.net.app() else {
            return self.refuse(Lane::App, APP, request, "node is not ready");
        };
        let Ok(permit) = self.calls.clone().try_acquire_owned() else {
            return self.refuse(Lane::App, APP, request, "too many calls at once");
        };
        let link = self.link.clone();
        let answer = app.call(link.peer.node, body);
        self.net.spawn(async move {
            let answer = answer.await;
            drop(permit);
            reply(&link, Lane::App, APP, request, Ok(answer.into()));
        });
    }

    fn ask(&self, channel: u32, request: u64, body: Bytes) {
        let Some(service) = self.net.service(channel) else {
            return self.refuse(Lane::Raft, channel, request, "no such group here");
        };
        let Ok(permit) = self.asks.clone().try_acquire_owned() else {
            return self.refuse(Lane::Raft, channel, request, "too many requests at once");
        };
        let link = self.link.clone();
        let answer = service.ask(link.peer, body);
        self.net.spawn(async move {
            let answer = answer.await;
            drop(permit);
            reply(&link, Lane::Raft, channel, request, answer);
        });
    }

    fn open(&self, channel: u32, request: u64, body: Bytes) {
        let lane = Lane::Raft;
        let Some(duct) = self.link.opened(lane, channel, request, STREAM_INBOUND) else {
            let _ = self.link.push(lane, Kind::EndBack, channel, request, Body::default());
            return;
        };
        // Without a service the duct is dropped, which ends the stream.
        if let Some(service) = self.net.service(channel) {
            self.net.spawn(service.stream(self.link.peer, body, duct));
        }
    }

    fn refuse(&self, lane: Lane, channel: u32, request: u64, why: &'static str) {
        reply(&self.link, lane, channel, request, Err(why.to_owned()));
    }
}

/// Sends an answer. Without room or link the asker learns it by its deadline or by the end of the link.
fn reply(link: &Link, lane: Lane, channel: u32, request: u64, answer: Result<Body, String>) {
    let (kind, body) = match answer {
        Ok(body) => (Kind::Answer, body),
        Err(why) => (Kind::Refuse, Bytes::from(why).into()),
    };
    if let Err(error) = link.push(lane, kind, channel, request, body) {
        tracing::debug!(peer = %link.peer, %error, "an answer was not sent");
    }
}

async fn write_all(
    link: Arc<Link>,
    mut write: Box<dyn AsyncWrite + Send + Unpin>,
    silence: Duration,
) -> io::Result<()> {
    let mut gather = Gather::default();
    let outcome = loop {
        let taken = tokio::select! {
            biased;
            () = link.down().cancelled() => None,
            taken = link.outbox.take() => taken,
        };
        let Some(frames) = taken else { break Ok(()) };
        gather.load(frames);
        if let Err(error) = gather.write(&mut write, silence).await {
            break Err(error);
        }
    };
    link.close();
    // Best effort: the other side notices the end in any case.
    let _ = timeout(silence, write.shutdown()).await;
    outcome
}

/// Turns frames into few large writes: small parts are copied together, large ones are written where they are.
#[derive(Default)]
struct Gather {
    small: BytesMut,
    chunks: std::collections::VecDeque<Bytes>,
}

impl Gather {
    fn load(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            self.small.extend_from_slice(&frame.head);
            for part in frame.body.parts {
                if part.len() <= GATHER_UP_TO {
                    self.small.extend_from_slice(&part);
                } else {
                    self.flush_small();
                    self.chunks.push_back(part);
                }
            }
        }
        self.flush_small();
    }

    fn flush_small(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push_back(self.small.split().freeze());
        }
    }

    /// Writes everything; each step must make progress within `patience`.
    async fn write(
        &mut self,
        out: &mut (dyn AsyncWrite + Send + Unpin),
        patience: Duration,
    ) -> io::Result<()> {
        while !self.chunks.is_empty() {
            let written = {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let mut used = 0;
                for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                    *slice = IoSlice::new(chunk);
                    used += 1;
                }
                timeout(patience, out.write_vectored(&slices[..used])).await??
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.advance(written);
        }
        timeout(patience, out.flush()).await?
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(front) = self.chunks.front_mut() {
            if front.len() > written {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.chunks.pop_front();
        }
    }
}

//! One connection: who it is, what it waits for, what waits for it.
//!
//! It takes answers from the router and pushes from delivery on their threads; both end in its outbox under one short
//! lock and wake its writer once.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bincode::Encode;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rookery_wire::frame::frame_bytes;
use rookery_wire::reply::{GoAway, Lagged, Message};
use rookery_wire::{
    Blob, DeviceId, ErrorBody, ErrorCode, Kind, RecordKind, SessionId, UserId, decode, encode_frame,
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3;

use super::company;
use super::core::Core;
use super::cursors::Cursors;
use super::news::News;
use super::outbox::{FRAME_HEADER, KIND_AT, Outbox};
use super::own::frames_of;
use super::pace::Pace;
use super::plant;
use super::standing::{self, Standing};
use super::stats::GatewayStats;
use super::sync::SyncPages;
use super::watch::Watching;
use crate::delivery::{Push, Receiver, Topic};
use crate::identity::Identity;
use crate::router::Waiter;
use crate::shard::{Answer, Turn};
use crate::state::Actor;

/// Reads (PULL, SYNC, member lists) of one connection that are under way at once; the others wait their turn, so that
/// one connection holds a few pages and not a windowful.
const READS_AT_ONCE: usize = 4;
/// Sessions named in one LAGGED frame.
const LAGGED_SESSIONS: usize = 1000;

/// A connection that was welcomed.
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) identity: Identity,
    pub(super) epoch: u32,
    /// Its place among the connections of this device.
    pub(super) turn: Turn,
    pub(super) core: Arc<Core>,
    pub(super) out: Outbox,
    pub(super) reads: Semaphore,
    pub(super) cursors: Cursors,
    pub(super) news: News,
    pub(super) pages: Mutex<Option<Arc<SyncPages>>>,
    /// How often it may send ephemeral messages.
    pub(super) pace: Pace,
    pub(super) watching: Mutex<Watching>,
    pub(super) groups: Mutex<company::Watching>,
    /// Ends both of its tasks at once.
    pub(super) cancel: CancellationToken,
    /// The writer ends once all that was asked is answered and all is written.
    closing: AtomicBool,
    /// Whether its device is still registered.
    pub(super) standing: Standing,
    /// GOAWAY was said: once is enough.
    told_to_go: AtomicBool,
    lagging: AtomicBool,
    in_flight: AtomicUsize,
    gate: Notify,
    over: Notify,
    /// Hash of user, device and epoch: with a session's it names a series of `client_seq`.
    series: u64,
}

impl Connection {
    pub(super) fn new(core: Arc<Core>, identity: Identity, epoch: u32, turn: Turn) -> Arc<Self> {
        let mut series = Xxh3::new();
        (identity.user.as_str(), identity.device.as_str(), epoch).hash(&mut series);
        Arc::new(Self {
            id: crate::delivery::next_receiver_id(),
            series: series.finish(),
            out: Outbox::new(core.options.limits.queue_bytes as usize),
            reads: Semaphore::new(READS_AT_ONCE),
            cursors: Cursors::default(),
            news: News::default(),
            pages: Mutex::new(None),
            pace: Pace::default(),
            watching: Mutex::default(),
            groups: Mutex::default(),
            cancel: core.cancel.child_token(),
            closing: AtomicBool::new(false),
            standing: Standing::default(),
            told_to_go: AtomicBool::new(false),
            lagging: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            gate: Notify::new(),
            over: Notify::new(),
            identity,
            epoch,
            turn,
            core,
        })
    }

    pub(super) fn user(&self) -> &UserId {
        &self.identity.user
    }

    pub(super) fn device(&self) -> &DeviceId {
        &self.identity.device
    }

    /// Who acts when this connection asks, in the name of `on_behalf_of`.
    pub(super) fn actor(&self, on_behalf_of: Option<UserId>) -> Actor {
        Actor {
            user: self.identity.user.clone(),
            device: self.identity.device.clone(),
            epoch: self.epoch,
            on_behalf_of,
            service: self.identity.service,
        }
    }

    /// The series of numbers this device uses in a session.
    pub(super) fn series(&self, session: &SessionId) -> u64 {
        self.series ^ session.hash64()
    }

    /// A request was taken; exactly one answer follows.
    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        GatewayStats::add(&self.core.stats.requests, 1);
    }

    /// Whether the window is full, or too much waits to be written.
    pub(super) fn must_wait(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) >= self.core.options.limits.window as usize
            || self.out.is_full()
    }

    /// Waits until another request may be read.
    pub(super) async fn gate(&self) {
        loop {
            let opened = self.gate.notified();
            tokio::pin!(opened);
            opened.as_mut().enable();
            if !self.must_wait() || self.is_closing() {
                return;
            }
            opened.await;
        }
    }

    /// The gate may have opened: something was answered or written.
    pub(super) fn try_gate(&self) {
        if !self.must_wait() {
            self.gate.notify_waiters();
        }
    }

    fn finish(&self, answers: usize, frames: Bytes) {
        self.out.answer(frames);
        self.in_flight.fetch_sub(answers, Ordering::AcqRel);
        self.try_gate();
        if self.is_closing() {
            // The writer may have taken the frames already, and waits for the last of them.
            self.out.wake();
        }
    }

    /// Answers one request.
    pub(super) fn reply<T: Encode>(&self, kind: Kind, request: u32, body: &T) {
        self.finish(1, frame_bytes(kind, request, body));
    }

    /// Answers one request with a whole frame.
    pub(super) fn reply_frame(&self, frame: Bytes) {
        self.finish(1, frame);
    }

    /// Refuses one request.
    pub(super) fn refuse(&self, request: u32, error: &ErrorBody) {
        self.core.stats.error(error.code);
        self.reply(Kind::Error, request, error);
    }

    /// Says what is wrong with the connection itself, and lets it end once that is written.
    pub(super) fn fault(&self, error: &ErrorBody) {
        self.core.stats.error(error.code);
        self.out.answer(frame_bytes(Kind::Error, 0, error));
        self.close();
    }

    /// Tells the client to go and lets the connection end once that is written, and what is under way answered.
    pub(super) fn go_away(&self, code: ErrorCode, text: &str, after_ms: u32) {
        if self.told_to_go.swap(true, Ordering::AcqRel) {
            return;
        }
        let body = GoAway { code, text: Blob::from(text), after_ms };
        self.out.answer(frame_bytes(Kind::GoAway, 0, &body));
        self.close();
    }

    /// The same device connected again, here or at another node.
    pub(super) fn replaced(&self) {
        if !self.told_to_go.load(Ordering::Acquire) {
            GatewayStats::add(&self.core.stats.replaced, 1);
        }
        self.go_away(ErrorCode::DeviceReplaced, "the same device connected again", 0);
    }

    /// The device was ended, or made room for another.
    pub(super) fn ended(&self) {
        self.go_away(ErrorCode::DeviceEnded, ErrorCode::DeviceEnded.remedy(), 0);
    }

    /// Ends the connection once everything under way is answered and written.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.out.wake();
        self.gate.notify_waiters();
        self.over.notify_waiters();
    }

    /// Waits until the connection closes.
    pub(super) async fn closed(&self) {
        loop {
            let told = self.over.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if self.is_closing() {
                return;
            }
            told.await;
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// It is closing, and owes no answer.
    pub(super) fn is_done(&self) -> bool {
        self.is_closing() && self.in_flight.load(Ordering::Acquire) == 0
    }

    /// Everything is written: if topics lag they go on from here, and the client is told. Says whether any did, or ended.
    pub(super) fn resume(self: &Arc<Self>) -> bool {
        if !self.lagging.swap(false, Ordering::AcqRel) {
            return false;
        }
        let mut sessions = Vec::new();
        let mut sync_again = false;
        for (topic, live_from) in self.core.delivery.resume(self.id) {
            match topic {
                Topic::Session(session) => sessions.push((session, live_from)),
                Topic::User(_) => sync_again = true,
            }
        }
        if sync_again {
            // The notice that the device has ended may be among what was missed.
            standing::hears_again(self);
            super::news::tell_to_sync(self);
        }
        for part in frames_of(&self.core, &sessions, LAGGED_SESSIONS) {
            let body = Lagged { sessions: part.to_vec() };
            self.out.answer(frame_bytes(Kind::Lagged, 0, &body));
        }
        true
    }
}

impl Waiter for Connection {
    /// All answers of one batch in one buffer: one lock, one wake.
    fn complete(&self, answers: Vec<(u64, Answer)>) {
        let count = answers.len();
        self.core.times.answered(answers.iter().map(|(ticket, _)| *ticket));
        let mut out = BytesMut::with_capacity(count * 96);
        let mut acks = 0;
        for (ticket, answer) in answers {
            let request = ticket as u32;
            if plant::forgets_answer() {
                continue;
            }
            match answer {
                Answer::Ack(ack) => {
                    acks += 1;
                    encode_frame(Kind::Ack, request, &ack, &mut out);
                }
                Answer::ReadMark(mark) => encode_frame(Kind::ReadMark, request, &mark, &mut out),
                Answer::Own(ack) => encode_frame(Kind::SelfAck, request, &ack, &mut out),
                Answer::Done | Answer::Epoch(_) => encode_frame(Kind::Ok, request, &(), &mut out),
                Answer::Refused(error) => {
                    self.core.stats.error(error.code);
                    encode_frame(Kind::Error, request, &error, &mut out);
                }
                // The router keeps these to itself; if one came, the outcome would be unknown.
                Answer::Again { .. } | Answer::Unsure(_) => {
                    let error = ErrorBody::new(ErrorCode::Unavailable, "the outcome is unknown; repeat");
                    encode_frame(Kind::Error, request, &error, &mut out);
                }
            }
        }
        GatewayStats::add(&self.core.stats.acks, acks);
        self.finish(count, out.freeze());
    }
}

/// What delivery knows a connection as.
pub(super) struct Handle(pub(super) Arc<Connection>);

impl Receiver for Handle {
    fn id(&self) -> u64 {
        self.0.id
    }

    fn origin(&self) -> Option<(&UserId, &DeviceId, u32)> {
        Some((&self.0.identity.user, &self.0.identity.device, self.0.epoch))
    }

    fn push(&self, topic: &Topic, items: &[Push]) -> bool {
        let connection = &self.0;
        let frames = || items.iter().map(|item| &item.frame);
        let pushed = match topic {
            Topic::Session(_) => connection.out.push(frames().map(Bytes::len).sum(), frames()),
            Topic::User(_) => {
                let is_news = |frame: &&Bytes| {
                    frame
                        .get(KIND_AT)
                        .is_some_and(|kind| *kind == Kind::Joined as u8 || *kind == Kind::Left as u8)
                };
                let is_end = |frame: &&Bytes| frame.get(KIND_AT) == Some(&(Kind::GoAway as u8));
                for notice in frames().filter(is_end) {
                    super::places::heard_of_end(connection, notice);
                }
                let plain = || frames().filter(|frame| !is_news(frame) && !is_end(frame));
                let news: Vec<Bytes> = frames().filter(is_news).cloned().collect();
                connection.out.push(plain().map(Bytes::len).sum(), plain())
                    && (news.is_empty() || super::news::put(connection, news))
            }
        };
        if pushed {
            GatewayStats::add(&connection.core.stats.pushes, items.len() as u64);
        }
        pushed
    }

    fn pass(&self, frame: &Bytes) -> bool {
        let passed = self.0.out.spare(frame);
        if passed {
            GatewayStats::add(&self.0.core.stats.passed, 1);
        }
        passed
    }

    fn replace(&self, topic: &Topic, (seq, frame): &(u64, Bytes)) {
        if let Topic::Session(session) = topic {
            self.0.out.replace(frame, rookery_wire::encode(&(session, *seq)).len());
        }
    }

    /// A recall leaves nothing to read also of what was pushed to a member that has gone. An edit is none of its business.
    fn withdraw(&self, topic: &Topic, replaced: &(u64, Bytes)) {
        if self.0.out.is_empty() {
            return;
        }
        let body = replaced.1.slice(FRAME_HEADER.min(replaced.1.len())..);
        if decode::<Message>(&body).is_ok_and(|now| now.record.kind != RecordKind::CONTENT) {
            self.replace(topic, replaced);
        }
    }

    fn discard(&self, topic: &Topic) {
        if let Topic::Session(session) = topic {
            self.0.out.discard(Kind::Message, &rookery_wire::encode(session));
            self.0.try_gate();
        }
    }

    fn holds(&self, topic: &Topic) -> bool {
        let holds = matches!(topic, Topic::Session(_)) && !self.0.out.is_empty();
        if holds {
            self.0.lagging.store(true, Ordering::Release);
            self.0.out.wake();
        }
        holds
    }

    fn lagged(&self, topic: &Topic) {
        GatewayStats::add(&self.0.core.stats.lags, 1);
        if matches!(topic, Topic::User(_)) {
            standing::deafened(&self.0);
        }
        self.0.lagging.store(true, Ordering::Release);
        self.0.out.wake();
    }
}

//! A gateway on a loopback port, before an imagined shard.

mod admin;
mod bad_input;
mod bounds;
mod digests;
mod frames;
mod groups;
mod lags;
mod life;
mod lists;
mod live;
mod naming;
mod own;
mod places;
mod since;
mod standing;
mod versions;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bincode::Encode;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rookery_raft::{LinkState, PeerError, SeededEntropy, SystemClock, TcpNetwork};
use rookery_wire::codec::Source;
use rookery_wire::frame::frame_bytes;
use rookery_wire::reply::{Ack, Message, Page, Welcome};
use rookery_wire::request::{Hello, Role, Send};
use rookery_wire::{
    Blob, Decoder, DeviceId, ErrorBody, ErrorCode, Frame, GroupId, Kind, Record, RecordKind, SessionId,
    UserId, decode, encode, encode_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::*;
use crate::delivery::{DeliveryLimits, NOT_LIVE, Push, Receiver, Topic};
use crate::router::{LaneLimits, Peers, Replica, RouterOptions};
use crate::shard::api::LIST_PAGE;
use crate::shard::{
    Answer, Answers, Asked, Freshness, Read, ReadRefusal, ReadReply, SessionActivity, SessionHead,
    Submission, Turn, UserSession,
};
use crate::state::Command;
use crate::system::Placement;

/// A single node has nobody to talk to.
struct Alone;

impl Peers for Alone {
    fn call(&self, node: u16, _: Bytes, _: Duration) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        Box::pin(async move { Err(PeerError::Down { node }) })
    }
    fn cast(&self, node: u16, _: Bytes) -> Result<(), PeerError> {
        Err(PeerError::Down { node })
    }
    fn link(&self, _: u16) -> watch::Receiver<LinkState> {
        watch::channel(LinkState::default()).1
    }
    fn nodes(&self) -> Vec<u16> {
        Vec::new()
    }
}

/// A shard that numbers what it is sent and forgets the content.
pub(super) struct FakeShard {
    node: u16,
    answers: Arc<dyn Answers>,
    delivery: Arc<Delivery>,
    pub(super) heads: Mutex<BTreeMap<SessionId, u64>>,
    /// Answers nothing and keeps what it is given.
    pub(super) mute: AtomicBool,
    pub(super) taken: Mutex<Vec<Submission>>,
    pub(super) commands: Mutex<Vec<Command>>,
    /// What the user's own list says.
    pub(super) list: Mutex<Vec<UserSession>>,
    /// Sessions of which a head is refused.
    pub(super) refused: Mutex<HashMap<SessionId, ErrorCode>>,
    /// How the user has set sessions.
    pub(super) settings: Mutex<HashMap<SessionId, rookery_wire::own::Settings>>,
    pub(super) page_bytes: AtomicU64,
    pub(super) reads: AtomicU64,
    /// Attaches: one for each request, however many topics it names.
    pub(super) attaches: AtomicU64,
    pub(super) turns: Arc<AtomicU64>,
    past: since::Past,
    leader: watch::Sender<Option<u16>>,
}

pub(super) fn message(session: &SessionId, seq: u64, from: (&UserId, &DeviceId), content: &[u8]) -> Push {
    let record = Record {
        seq,
        message_id: seq,
        time_ms: 1000 + seq,
        count: seq,
        sender: from.0.clone(),
        device: from.1.clone(),
        epoch: 1,
        client_seq: seq,
        kind: RecordKind::CONTENT,
        content_type: Blob::default(),
        content: Blob(Bytes::copy_from_slice(content)),
        extensions: Vec::new(),
    };
    let mut frame = BytesMut::new();
    encode_frame(Kind::Message, 0, &Message { session: session.clone(), record }, &mut frame);
    Push {
        seq,
        frame: frame.freeze(),
        from: Some(Arc::new((from.0.clone(), from.1.clone(), 1))),
        replaces: None,
    }
}

impl FakeShard {
    fn apply(&self, command: &Command) -> Answer {
        self.commands.lock().push(command.clone());
        match command {
            Command::Act { actor, session, client_seq, act } => {
                let mut heads = self.heads.lock();
                let head = heads.entry(session.clone()).or_insert(0);
                *head += 1;
                let content = match act {
                    crate::state::Act::Send { content, .. } => content.0.clone(),
                    _ => Bytes::new(),
                };
                let push = message(session, *head, (&actor.user, &actor.device), &content);
                self.delivery.publish(session, &[push]);
                let (seq, session) = (*head, session.clone());
                Answer::Ack(Ack {
                    session,
                    client_seq: *client_seq,
                    seq,
                    message_id: seq,
                    time_ms: 1000,
                    count: seq,
                })
            }
            Command::KeyedAct { session, .. } => {
                let mut heads = self.heads.lock();
                let head = heads.entry(session.clone()).or_insert(0);
                *head += 1;
                let (seq, session) = (*head, session.clone());
                Answer::Ack(Ack { session, client_seq: 0, seq, message_id: seq, time_ms: 1000, count: seq })
            }
            Command::KeyedOwn { .. } => {
                Answer::Own(rookery_wire::own::SelfAck { number: 0, time_ms: 1000, value: 1 })
            }
            Command::Register { .. } => Answer::Epoch(1),
            Command::UserAct { act, .. } => {
                Answer::Own(rookery_wire::own::SelfAck { number: act.number, time_ms: 1000, value: 1 })
            }
            Command::Read { to, .. } => Answer::ReadMark(rookery_wire::reply::ReadMark {
                session: to.session.clone(),
                seq: to.seq,
                count: to.count,
            }),
            _ => Answer::Done,
        }
    }

    fn head(&self, session: &SessionId) -> Result<SessionHead, ErrorCode> {
        if let Some(code) = self.refused.lock().get(session) {
            return Err(*code);
        }
        let last_seq = self.heads.lock().get(session).copied().unwrap_or(0);
        Ok(SessionHead {
            members: 2,
            first_seq: 1,
            last_seq,
            count: last_seq,
            joined_seq: 1,
            unread: last_seq,
            burns: matches!(session, SessionId::Direct { .. }),
            last_client_seq: 0,
            time_ms: 1000 + last_seq,
            last: None,
        })
    }

    fn answer(&self, read: Read) -> ReadReply {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let index = self.past.index.load(Ordering::Relaxed);
        // As in a shard: the index is fixed, something may come, and then it is looked at what there is.
        self.meanwhile();
        match read {
            Read::Pull { pull, .. } => {
                let mut records = Vec::new();
                let bytes = self.page_bytes.load(Ordering::Relaxed) as usize;
                if bytes > 0 {
                    let user = (user("x"), DeviceId::new("y").unwrap());
                    let push = message(&pull.session, 1, (&user.0, &user.1), &vec![0; bytes]);
                    records.push(decode::<Message>(&push.frame.slice(12..)).unwrap().record);
                }
                let page = Page { session: pull.session, first_seq: 1, last_seq: 1, records };
                ReadReply::Page(Blob(encode(&page)))
            }
            Read::Activity { sessions } => {
                let (heads, refused) = (self.heads.lock(), self.refused.lock());
                let row = |session: &SessionId| {
                    let last_seq = heads.get(session).copied().unwrap_or(0);
                    let settled = last_seq > 0 && !refused.contains_key(session);
                    let changed = self.past.changed.lock().get(session).copied().unwrap_or(0);
                    SessionActivity { last_seq, time_ms: 1000 + last_seq, count: last_seq, settled, changed }
                };
                ReadReply::Activity { index, sessions: sessions.iter().map(row).collect() }
            }
            Read::Heads { sessions, .. } => {
                self.past.asked.lock().extend(sessions.iter().map(|asked| asked.session.clone()));
                let head = |asked: &Asked| {
                    let head = self.head(&asked.session)?;
                    Ok(SessionHead { unread: head.count.saturating_sub(asked.seen_count), ..head })
                };
                ReadReply::Heads(sessions.iter().map(head).collect())
            }
            Read::CountAt { seq, .. } => ReadReply::Count(seq),
            Read::Members { .. } => ReadReply::Members(rookery_wire::reply::MemberPage {
                users: vec![user("ada")],
                more: false,
                total: 1,
            }),
            Read::UserSessions { after, left_since, .. } => {
                let mut sessions = self.list.lock().clone();
                sessions.sort_by(|a, b| a.session.cmp(&b.session));
                sessions.retain(|line| after.as_ref().is_none_or(|after| line.session > *after));
                let more = sessions.len() > LIST_PAGE;
                sessions.truncate(LIST_PAGE);
                let (began, left) = (self.past.began.load(Ordering::Relaxed), self.past.left(left_since));
                let index = index + since::OWN;
                ReadReply::UserSessions { sessions, more, epoch: 1, began, index, left }
            }
            Read::Arrive { .. } => {
                let count = self.turns.fetch_add(1, Ordering::Relaxed) + 1;
                let turn = Turn { term: 1, count };
                ReadReply::Arrived { epoch: 1, turn, last_number: 7, ended_ms: 0 }
            }
            Read::Epoch { .. } => ReadReply::Count(self.past.troubles.epoch()),
            Read::OwnNumber { .. } => ReadReply::Count(7),
            Read::KnowsKey { .. } => ReadReply::Count(0),
            Read::Settings { sessions, .. } => {
                let set = self.settings.lock();
                let of = |session: &SessionId| set.get(session).cloned().unwrap_or_default();
                ReadReply::Settings(sessions.iter().map(of).collect())
            }
            Read::Relations { .. } => ReadReply::Relations(rookery_wire::own::RelationPage {
                relations: Vec::new(),
                more: false,
                refuses_strangers: true,
                receipts: Default::default(),
                presence: Default::default(),
            }),
            Read::Devices { .. } => {
                ReadReply::Devices(rookery_wire::own::DevicePage { devices: Vec::new(), more: false })
            }
            Read::Group { session, .. } => ReadReply::Group(Box::new(rookery_wire::group::Group {
                session,
                name: Blob::from("the fake"),
                avatar: Blob::default(),
                attributes: Vec::new(),
                policy: rookery_wire::Policy::default(),
                mute_all: false,
                owner: None,
                role: None,
                muted_until_ms: 0,
                members: 1,
                dissolved: false,
                retention: rookery_wire::Retention::default(),
            })),
            Read::Audience { .. } => ReadReply::Audience(crate::shard::Audience {
                members: vec![(user("bob"), false), (user("cid"), false)],
                more: false,
            }),
            Read::Cursors { users, .. } => ReadReply::Cursors(vec![Some(7); users.len()]),
            Read::Seen { pairs, .. } => ReadReply::Seen(pairs.iter().map(live::seen).collect()),
            Read::Digest { session, seq, .. } => {
                let digest = rookery_wire::Digest::begin(&session);
                let reply =
                    rookery_wire::digest::DigestReply { session, seq, digest, first_seq: 1, before: digest };
                ReadReply::Digest(reply)
            }
            Read::MayPass { .. } => ReadReply::Allowed,
            Read::Known { users } => naming::known(&users),
            Read::Versions { list, .. } => versions::found(list),
            Read::Acquainted { with, .. } => {
                ReadReply::Acquainted(with.iter().map(|other| *other != user("stranger")).collect())
            }
            Read::Roles { .. } => groups::no_roles(),
            // More lines than the smallest frame holds.
            Read::Requests { list, .. } => ReadReply::Requests(rookery_wire::join::RequestPage {
                requests: vec![
                    rookery_wire::join::RequestLine {
                        user: user("eve"),
                        text: Blob(Bytes::from(vec![b'x'; 256])),
                        since_ms: 1,
                    };
                    list.limit as usize
                ],
                more: false,
            }),
            Read::Codes { .. } => {
                ReadReply::Codes(rookery_wire::join::CodePage { codes: Vec::new(), more: false })
            }
        }
    }
}

/// One of the shards, all of which the fake stands for.
struct Numbered(u32, Arc<FakeShard>);

impl Replica for Numbered {
    fn submit(&self, batch: Vec<Submission>) {
        self.1.submit(self.0, batch);
    }
    fn leader(&self) -> Option<u16> {
        Some(self.1.node)
    }
    fn watch_leader(&self) -> watch::Receiver<Option<u16>> {
        self.1.leader.subscribe()
    }
    fn read(
        &self,
        read: Read,
        freshness: Freshness,
        _: Duration,
    ) -> BoxFuture<'static, Result<ReadReply, ReadRefusal>> {
        let reply = self.1.past.troubles.judge(&read, freshness).map(|()| frames::reply(&self.1, read));
        self.1.meanwhile();
        Box::pin(async move { reply })
    }
    fn attach(
        &self,
        receiver: Arc<dyn Receiver>,
        topics: Vec<Topic>,
    ) -> BoxFuture<'static, Vec<(Topic, u64)>> {
        self.1.attach(&receiver, topics)
    }
}

impl FakeShard {
    pub(super) fn submit(&self, shard: u32, batch: Vec<Submission>) {
        if self.mute.load(Ordering::Relaxed) {
            self.taken.lock().extend(batch);
            return;
        }
        let answers = batch
            .into_iter()
            .map(|s| (s.origin, self.apply(&Command::decode(&s.command).unwrap())))
            .collect();
        self.answers.answer(shard, answers);
    }

    fn attach(
        &self,
        receiver: &Arc<dyn Receiver>,
        topics: Vec<Topic>,
    ) -> BoxFuture<'static, Vec<(Topic, u64)>> {
        self.attaches.fetch_add(1, Ordering::Relaxed);
        let heads = self.heads.lock();
        let head = |topic: &Topic| match topic {
            Topic::Session(session) => heads.get(session).copied().unwrap_or(0),
            Topic::User(_) => 0,
        };
        let attached: Vec<_> = topics
            .into_iter()
            .map(|topic| {
                if self.past.troubles.shut.lock().contains(&topic) {
                    return (topic, NOT_LIVE);
                }
                let live_from = self.delivery.attach(&topic, receiver, head(&topic));
                (topic, live_from)
            })
            .collect();
        Box::pin(async move { attached })
    }
}

pub(super) struct Bench {
    pub(super) gateway: Gateway,
    pub(super) shard: Arc<FakeShard>,
    pub(super) delivery: Arc<Delivery>,
    pub(super) router: Router,
    pub(super) audit: Arc<admin::Lines>,
}

/// A gateway with configuration as `change` leaves it.
pub(super) async fn bench(change: impl FnOnce(&mut Limits, &mut Timing)) -> Bench {
    bench_at(1, 1, Arc::new(Alone), Arc::default(), change).await
}

/// A gateway on a node among `peers`, over so many shards of which it holds all.
pub(super) async fn bench_at(
    node: u16,
    shards: u32,
    peers: Arc<dyn Peers>,
    turns: Arc<AtomicU64>,
    change: impl FnOnce(&mut Limits, &mut Timing),
) -> Bench {
    let (mut limits, mut timing) = (Limits::default(), Timing::default());
    timing.delivered_ms = 20;
    change(&mut limits, &mut timing);
    let delivery = Arc::new(Delivery::new(DeliveryLimits::default()));
    let runtime = tokio::runtime::Handle::current();
    let lane = LaneLimits {
        requests: 10_000,
        bytes: 64 << 20,
        deadline: Duration::from_millis(timing.request_deadline_ms),
    };
    let (reads, named) = (1000, limits.watched_members as usize);
    let options = RouterOptions { node, shards, lane, reads, named, runtime: runtime.clone() };
    let placement = Placement { shards: vec![vec![node]; shards as usize] };
    let placement = watch::channel(Arc::new(placement)).1;
    let router = Router::start(options, peers, placement, Arc::clone(&delivery), &SeededEntropy::new(1));
    let shard = Arc::new(FakeShard {
        node,
        answers: router.answers(),
        delivery: Arc::clone(&delivery),
        heads: Mutex::default(),
        mute: AtomicBool::new(false),
        taken: Mutex::default(),
        commands: Mutex::default(),
        list: Mutex::default(),
        refused: Mutex::default(),
        settings: Mutex::default(),
        page_bytes: AtomicU64::new(0),
        reads: AtomicU64::new(0),
        attaches: AtomicU64::new(0),
        turns,
        past: since::Past::default(),
        leader: watch::channel(Some(node)).0,
    });
    for number in 1..=shards {
        router.add_replica(number, Arc::new(Numbered(number, Arc::clone(&shard))) as Arc<dyn Replica>);
    }
    let (writers, listen) = (runtime.clone(), "127.0.0.1:0".to_owned());
    let options = GatewayOptions { node, cluster: [7; 16], listen, limits, timing, runtime, writers };
    let audit = Arc::new(admin::Lines::default());
    let neighbours = Neighbours {
        router: router.clone(),
        delivery: Arc::clone(&delivery),
        audit: audit.clone(),
        authenticator: Arc::new(Authenticator::from_config(&crate::config::Config::default()).unwrap()),
        clock: Arc::new(SystemClock),
    };
    let gateway = Gateway::start(options, neighbours, &TcpNetwork).await.unwrap();
    Bench { gateway, shard, delivery, router, audit }
}

impl Bench {
    /// Everything ends, and in time.
    pub(super) async fn stop(self) {
        let stop = async {
            self.gateway.stop().await;
            self.router.stop().await;
        };
        timeout(Duration::from_secs(10), stop).await.expect("stopping hangs");
        assert_eq!(self.gateway.connections(), 0);
        let stats = self.delivery.stats();
        assert_eq!((stats.receivers, stats.subscriptions), (0, 0), "something is still attached");
    }

    pub(super) async fn raw(&self) -> Client {
        let socket = TcpStream::connect(self.gateway.address()).await.unwrap();
        Client { socket, buffer: BytesMut::new(), decoder: Decoder::new(16 << 20) }
    }

    /// A connection of `user` that was welcomed.
    pub(super) async fn client(&self, user: &str, device: &str) -> Client {
        let mut client = self.raw().await;
        client.send(Kind::Hello, 1, &hello(user, device)).await;
        let (frame, welcome) = client.expect::<Welcome>(Kind::Welcome).await;
        assert_eq!((frame.request_id, welcome.epoch, welcome.node), (1, 1, self.shard.node));
        client
    }

    /// A connection attached to a session.
    pub(super) async fn attached(&self, user: &str, session: &SessionId) -> Client {
        let client = self.client(user, "phone").await;
        self.delivery.member_added(session, &self::user(user), 0);
        client
    }

    pub(super) fn publish(&self, session: &SessionId, seqs: std::ops::RangeInclusive<u64>, bytes: usize) {
        let from = (user("publisher"), DeviceId::new("desk").unwrap());
        for seq in seqs {
            self.shard.heads.lock().insert(session.clone(), seq);
            self.delivery.publish(session, &[message(session, seq, (&from.0, &from.1), &vec![1; bytes])]);
        }
    }
}

pub(super) struct Client {
    pub(super) socket: TcpStream,
    buffer: BytesMut,
    decoder: Decoder,
}

impl Client {
    pub(super) async fn send<T: Encode>(&mut self, kind: Kind, request: u32, body: &T) {
        self.bytes(&frame_bytes(kind, request, body)).await;
    }

    pub(super) async fn bytes(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// The next frame; `None` when the server has closed.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        let read = async {
            loop {
                if let Some(frame) = self.decoder.next(&mut self.buffer).unwrap() {
                    return Some(frame);
                }
                match self.socket.read_buf(&mut self.buffer).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        timeout(Duration::from_secs(10), read).await.expect("no frame and no end within 10 s")
    }

    pub(super) async fn expect<T: bincode::Decode<Source>>(&mut self, kind: Kind) -> (Frame, T) {
        let frame = self.next().await.expect("the server closed");
        assert_eq!(Kind::from_number(frame.kind), Some(kind), "{frame:?}");
        let body = decode(&frame.body).unwrap();
        (frame, body)
    }

    /// The next frame is this error, to this request.
    pub(super) async fn refused(&mut self, request: u32, code: ErrorCode) -> ErrorBody {
        let (frame, error) = self.expect::<ErrorBody>(Kind::Error).await;
        assert_eq!((frame.request_id, error.code), (request, code), "{error}");
        error
    }

    pub(super) async fn closed(&mut self) {
        if let Some(frame) = self.next().await {
            panic!("not closed but {frame:?}");
        }
    }

    /// Still served.
    pub(super) async fn alive(&mut self) {
        self.send(Kind::Ping, 4242, &()).await;
        let (frame, ()) = self.expect(Kind::Pong).await;
        assert_eq!(frame.request_id, 4242);
    }

    pub(super) async fn message(&mut self) -> Record {
        self.expect::<Message>(Kind::Message).await.1.record
    }
}

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(super) fn group(name: &str) -> SessionId {
    SessionId::group(GroupId::new(name).unwrap())
}

pub(super) fn hello(user: &str, device: &str) -> Hello {
    Hello {
        min_version: 1,
        max_version: 1,
        user: self::user(user),
        device: DeviceId::new(device).unwrap(),
        epoch: 0,
        nonce: 9,
        role: Role::User,
        token: Blob::default(),
        agent: Blob::from("tests"),
        platform: Blob::default(),
    }
}

pub(super) fn send(session: &SessionId, client_seq: u64, content: &[u8]) -> Send {
    Send {
        session: session.clone(),
        client_seq,
        on_behalf_of: None,
        content_type: Blob::from("text/plain"),
        content: Blob(Bytes::copy_from_slice(content)),
        extensions: Vec::new(),
    }
}

pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

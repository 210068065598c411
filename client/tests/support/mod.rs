//! A scripted server: real frames over loopback, every answer decided by the test.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing script must fail the test"
)]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rookery_client::wire::codec::Source;
use rookery_client::wire::reply::{Ack, Joined, Lagged, Limits, Message, Page, Summary, SyncPage, Welcome};
use rookery_client::wire::request::{self, Hello, Pull};
use rookery_client::wire::{
    Blob, Decoder, ErrorBody, ErrorCode, Frame, Kind, Record, RecordKind, Retry, SessionId, decode,
    encode_frame,
};
use rookery_client::{Client, ClientError, Event, Events, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// No step of a script takes longer.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct Fake {
    listener: TcpListener,
    pub addr: String,
}

pub struct Peer {
    stream: TcpStream,
    input: BytesMut,
    pub hello: Option<Hello>,
    pub skip_delivered: bool,
}

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

impl Fake {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        Self { listener, addr }
    }

    pub fn options(&self) -> Options {
        let mut options =
            Options::new([self.addr.clone()], "ann".parse().unwrap(), "laptop".parse().unwrap());
        options.backoff = (Duration::from_millis(5), Duration::from_millis(50));
        options.random_seed = Some(7);
        options
    }

    pub async fn accept(&self) -> Peer {
        let (stream, _) = within("a connection", self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream, input: BytesMut::new(), hello: None, skip_delivered: true }
    }

    /// Accepts, welcomes, answers the first SYNC.
    pub async fn accept_ready(&self, summaries: Vec<Summary>) -> Peer {
        let mut peer = self.accept().await;
        peer.welcome(welcome()).await;
        peer.sync(summaries).await;
        peer
    }

    /// A client that has gone through [`Fake::accept_ready`].
    pub async fn client(&self, options: Options, summaries: Vec<Summary>) -> (Client, Events, Peer) {
        let connecting = connect(options);
        let peer = self.accept_ready(summaries).await;
        let (client, mut events) = within("connect", connecting).await.unwrap().unwrap();
        assert!(matches!(next(&mut events).await, Event::Connected { node: 3, .. }));
        (client, events, peer)
    }
}

pub fn connect(options: Options) -> JoinHandle<Result<(Client, Events), ClientError>> {
    tokio::spawn(Client::connect(options))
}

pub fn welcome() -> Welcome {
    Welcome {
        version: 1,
        cluster: [9; 16],
        node: 3,
        epoch: 1,
        time_ms: 1_000_000,
        idle_ms: 60_000,
        limits: Limits { frame: 1 << 20, content: 1000, window: 256, page: 100 },
        last_number: 0,
        deadline_ms: 10_000,
    }
}

impl Peer {
    /// The next frame; DELIVERED is passed over unless wanted.
    pub async fn frame(&mut self) -> Frame {
        within("a frame from the client", async {
            loop {
                if let Some(frame) = Decoder::new(1 << 20).next(&mut self.input).expect("a frame") {
                    if frame.kind == Kind::Delivered as u8 && self.skip_delivered {
                        if frame.request_id != 0 {
                            self.send(Kind::Ok, frame.request_id, &()).await;
                        }
                        continue;
                    }
                    return frame;
                }
                if self.stream.read_buf(&mut self.input).await.unwrap() == 0 {
                    panic!("the client hung up");
                }
            }
        })
        .await
    }

    pub async fn expect<T: bincode::Decode<Source>>(&mut self, kind: Kind) -> (u32, T) {
        let frame = self.frame().await;
        assert_eq!(Kind::from_number(frame.kind), Some(kind), "{frame:?}");
        (frame.request_id, decode(&frame.body).expect("a body"))
    }

    /// Nothing comes for a while.
    pub async fn silence(&mut self, time: Duration) {
        if let Ok(frame) = timeout(time, self.frame()).await {
            panic!("unexpected {frame:?}");
        }
    }

    pub async fn send<T: bincode::Encode>(&mut self, kind: Kind, id: u32, body: &T) {
        let mut out = BytesMut::new();
        encode_frame(kind, id, body, &mut out);
        self.raw(&out).await;
    }

    pub async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub async fn ended(&mut self) {
        within("the client to hang up", async {
            let mut rest = Vec::new();
            let _ = self.stream.read_to_end(&mut rest).await;
        })
        .await;
    }

    pub async fn welcome(&mut self, welcome: Welcome) {
        let (id, hello) = self.expect::<Hello>(Kind::Hello).await;
        self.hello = Some(hello);
        self.send(Kind::Welcome, id, &welcome).await;
    }

    pub async fn sync(&mut self, sessions: Vec<Summary>) {
        let (id, sync) = self.expect::<request::Sync>(Kind::Sync).await;
        assert!(sync.after.is_empty());
        self.send(Kind::SyncPage, id, &page(sessions)).await;
    }

    pub async fn take_send(&mut self) -> (u32, request::Send) {
        self.expect(Kind::Send).await
    }

    /// Takes a SEND, checks number and text.
    pub async fn take(&mut self, client_seq: u64, text: &str) -> u32 {
        let (id, send) = self.take_send().await;
        assert_eq!((send.client_seq, send.content), (client_seq, Blob::from(text)));
        id
    }

    pub async fn ack(&mut self, id: u32, client_seq: u64, seq: u64) {
        let (message_id, time_ms) = (seq + 1000, 5_000 + seq);
        let ack = Ack { session: room(), client_seq, seq, message_id, time_ms, count: seq };
        self.send(Kind::Ack, id, &ack).await;
    }

    pub async fn error(&mut self, id: u32, code: ErrorCode, retry: Retry, detail: u64) {
        let body = ErrorBody::new(code, "scripted").with_retry(retry).with_detail(detail);
        self.send(Kind::Error, id, &body).await;
    }

    pub async fn push(&mut self, seq: u64) {
        self.send(Kind::Message, 0, &Message { session: room(), record: record(seq) }).await;
    }

    pub async fn lagged(&mut self, live_from: u64) {
        self.send(Kind::Lagged, 0, &Lagged { sessions: vec![(room(), live_from)] }).await;
    }

    pub async fn joined(&mut self, session: SessionId, live_from: u64) {
        self.send(Kind::Joined, 0, &Joined { session, live_from }).await;
    }

    /// Takes a PULL and answers with these seqs.
    pub async fn serve_pull(&mut self, seqs: std::ops::RangeInclusive<u64>, last_seq: u64) -> Pull {
        let (id, pull) = self.expect::<Pull>(Kind::Pull).await;
        let records = seqs.map(record).collect();
        let page = Page { session: pull.session.clone(), first_seq: 1, last_seq, records };
        self.send(Kind::Page, id, &page).await;
        pull
    }
}

/// The session of all tests.
pub fn room() -> SessionId {
    SessionId::group("room".parse().unwrap())
}

/// The only page of a whole list.
pub fn page(sessions: Vec<Summary>) -> SyncPage {
    SyncPage {
        total: sessions.len() as u32,
        sessions,
        unresolved: Vec::new(),
        next: Blob::default(),
        badge: None,
        left: vec![],
        mark: Blob::default(),
        full: true,
    }
}

pub fn summary(last_seq: u64, delivered_seq: u64) -> Summary {
    Summary {
        session: room(),
        members: 2,
        first_seq: 1,
        last_seq,
        count: last_seq,
        unread: 0,
        joined_seq: 1,
        read_seq: 0,
        delivered_seq,
        last_client_seq: 0,
        live_from: last_seq + 1,
        time_ms: 1,
        last: None,
        settings: rookery_client::wire::own::Settings::default(),
    }
}

/// A message of somebody else; its text is its seq.
pub fn record(seq: u64) -> Record {
    Record {
        seq,
        message_id: seq + 1000,
        time_ms: 5_000 + seq,
        count: seq,
        sender: "bob".parse().unwrap(),
        device: "phone".parse().unwrap(),
        epoch: 1,
        client_seq: seq,
        kind: RecordKind::CONTENT,
        content_type: Blob::from("text/plain"),
        content: Blob(Bytes::from(seq.to_string())),
        extensions: Vec::new(),
    }
}

pub async fn next(events: &mut Events) -> Event {
    within("an event", events.recv()).await.expect("the client has ended")
}

/// The next events are messages with these texts, in this order.
pub async fn texts(events: &mut Events, wanted: &[&str]) {
    for text in wanted {
        match next(events).await {
            Event::Message { record, .. } => assert_eq!(record.content, Blob::from(*text)),
            other => panic!("{other:?} instead of {text}"),
        }
    }
}

pub async fn nothing(events: &mut Events, time: Duration) {
    if let Ok(event) = timeout(time, events.recv()).await {
        panic!("unexpected {event:?}");
    }
}

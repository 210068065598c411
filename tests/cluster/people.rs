//! Those who talk to the cluster: the client library where a person's app is meant, raw frames where bytes are.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use rookery::check::link::{Link, LinkFault, body};
use rookery_client::{Client, Event, Events, Options, Outgoing};
use rookery_wire::codec::{Blob, Source};
use rookery_wire::frame::frame_bytes;
use rookery_wire::reply::{Ack, Page, SyncPage, Welcome};
use rookery_wire::request::{Consistency, Direction, Hello, Members, Pull, Role, Send, Sync};
use rookery_wire::{
    Decoder, DeviceId, ErrorBody, ErrorCode, Frame, GroupId, Kind, Record, RecordKind, Retry, SessionId,
    UserId, VERSION,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use super::fixture::Cluster;

/// No answer may take longer.
pub const ANSWER: Duration = Duration::from_secs(20);

pub fn user(name: &str) -> UserId {
    UserId::new(name).expect("a name")
}

pub fn device(name: &str) -> DeviceId {
    DeviceId::new(name).expect("a name")
}

pub fn group(name: &str) -> SessionId {
    SessionId::group(GroupId::new(name).expect("a name"))
}

pub fn direct(one: &str, other: &str) -> SessionId {
    SessionId::direct(&user(one), &user(other)).expect("two users")
}

/// A HELLO that registers a device anew.
pub fn hello(who: &str, what: &str) -> Hello {
    Hello {
        min_version: VERSION,
        max_version: VERSION,
        user: user(who),
        device: device(what),
        epoch: 0,
        nonce: u64::from(std::process::id()) << 8 | 1,
        role: Role::User,
        token: Blob::default(),
        agent: Blob::from("tests/cluster"),
        platform: Blob::default(),
    }
}

/// A client of the library, connected to these nodes in this order.
pub async fn app(cluster: &Cluster, nodes: &[u16], who: &str, what: &str) -> (Client, Inbox) {
    let seeds: Vec<String> = nodes.iter().map(|id| cluster.client(*id)).collect();
    let options = Options::new(seeds, user(who), device(what));
    let (client, events) = Client::connect(options).await.unwrap_or_else(|why| panic!("{who}: {why}"));
    (client, Inbox { events, had: BTreeMap::new() })
}

/// Sends texts one after the other; each must be acknowledged.
pub async fn say(client: &Client, session: &SessionId, texts: impl IntoIterator<Item = String>) -> Vec<Ack> {
    let mut acks = Vec::new();
    for text in texts {
        acks.push(
            client.send(session, Outgoing::text(&text)).await.unwrap_or_else(|why| panic!("{text}: {why}")),
        );
    }
    acks
}

/// `label 1`, `label 2`, …
pub fn texts(label: &str, count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("{label} {number}")).collect()
}

/// What an app was given, by session.
pub struct Inbox {
    events: Events,
    had: BTreeMap<SessionId, Vec<Record>>,
}

impl Inbox {
    /// Waits until the last message of a session is this text, and gives the contents of all that came, in order. Each
    /// must have come once, without a gap.
    pub async fn up_to(&mut self, session: &SessionId, last: &str) -> Vec<String> {
        let end = Instant::now() + ANSWER;
        loop {
            let had = self.had.entry(session.clone()).or_default();
            if had.last().is_some_and(|record| text_of(record) == last) {
                let seqs: Vec<u64> = had.iter().map(|record| record.seq).collect();
                let first = seqs[0];
                assert_eq!(
                    seqs,
                    (first..first + seqs.len() as u64).collect::<Vec<_>>(),
                    "each once, in order"
                );
                return contents(had);
            }
            let event = tokio::time::timeout_at(end, self.events.recv()).await;
            let event = event.unwrap_or_else(|_| {
                panic!(
                    "{last:?} has not come to {session}; there are {:?}",
                    self.had.get(session).map(|h| contents(h))
                )
            });
            if let Event::Message { session, record } = event.expect("the client lives") {
                self.had.entry(session).or_default().push(record);
            }
        }
    }

    /// Takes whatever comes, until the client ends.
    pub async fn drain(mut self) {
        while self.events.recv().await.is_some() {}
    }

    /// The next event if it has come already.
    pub fn at_once(&mut self) -> Option<Event> {
        self.events.try_recv()
    }

    /// The next event that `pick` takes.
    pub async fn event<T>(&mut self, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let wanted = async {
            loop {
                let event = self.events.recv().await.expect("the client lives");
                if let Some(picked) = pick(&event) {
                    return picked;
                }
                if let Event::Message { session, record } = event {
                    self.had.entry(session).or_default().push(record);
                }
            }
        };
        timeout(ANSWER, wanted).await.expect("the event comes")
    }
}

pub fn text_of(record: &Record) -> String {
    String::from_utf8_lossy(record.content.as_ref()).into_owned()
}

/// The contents among some records, signals left out.
pub fn contents(records: &[Record]) -> Vec<String> {
    records.iter().filter(|record| record.kind == RecordKind::CONTENT).map(text_of).collect()
}

/// A device of raw frames.
pub struct Wire {
    link: Link,
    pub welcome: Welcome,
    /// What came while something else was awaited.
    pub aside: VecDeque<Frame>,
}

impl Wire {
    pub async fn open(addr: &str, hello: &Hello) -> Result<Self, LinkFault> {
        let (link, welcome) = Link::open(addr, hello).await?;
        Ok(Self { link, welcome, aside: VecDeque::new() })
    }

    /// A registered device of a user.
    pub async fn of(cluster: &Cluster, node: u16, who: &str, what: &str) -> Self {
        Self::open(&cluster.client(node), &hello(who, what))
            .await
            .unwrap_or_else(|why| panic!("{who}: {why}"))
    }

    /// A service that judges replicas.
    pub async fn service(cluster: &Cluster, node: u16) -> Self {
        let hello = Hello { role: Role::Service, ..hello("judge", &format!("at-{node}")) };
        Self::open(&cluster.client(node), &hello).await.unwrap_or_else(|why| panic!("judge: {why}"))
    }

    /// Puts a request in the outgoing bytes.
    pub fn put<T: bincode::Encode>(&mut self, kind: Kind, request: &T) -> u32 {
        self.link.ask(kind, request)
    }

    pub async fn flush(&mut self) -> Result<(), LinkFault> {
        self.link.flush().await
    }

    /// The next frame, whatever it is.
    pub async fn next(&mut self) -> Result<Frame, LinkFault> {
        timeout(ANSWER, self.link.next()).await.map_err(|_| LinkFault::Deadline("a frame"))?
    }

    /// The answer to a request.
    pub async fn answer(&mut self, id: u32) -> Frame {
        if let Some(at) = self.aside.iter().position(|frame| frame.request_id == id) {
            return self.aside.remove(at).expect("it is there");
        }
        loop {
            let frame = self.next().await.expect("an answer");
            if frame.request_id == id {
                return frame;
            }
            self.aside.push_back(frame);
        }
    }

    /// The next frame of a kind.
    pub async fn push(&mut self, kind: Kind) -> Frame {
        if let Some(at) = self.aside.iter().position(|frame| frame.kind == kind as u8) {
            return self.aside.remove(at).expect("it is there");
        }
        loop {
            let frame = self.next().await.unwrap_or_else(|why| panic!("no {}: {why}", kind.name()));
            if frame.kind == kind as u8 {
                return frame;
            }
            self.aside.push_back(frame);
        }
    }

    /// Asks, and takes the answer or the refusal.
    pub async fn ask<T, A>(&mut self, kind: Kind, request: &T) -> Result<A, ErrorBody>
    where
        T: bincode::Encode,
        A: bincode::Decode<Source>,
    {
        let id = self.put(kind, request);
        self.flush().await.expect("written");
        read(&self.answer(id).await)
    }

    pub async fn send(&mut self, session: &SessionId, client_seq: u64, text: &str) -> Result<Ack, ErrorBody> {
        self.ask(Kind::Send, &message(session, client_seq, text)).await
    }

    pub async fn create(&mut self, session: &SessionId, with: &[&str]) -> Result<Ack, ErrorBody> {
        let users = with.iter().map(|name| user(name)).collect();
        let members = Members { session: session.clone(), client_seq: 1, on_behalf_of: None, users };
        self.ask(Kind::CreateGroup, &members).await
    }

    pub async fn sync(&mut self) -> SyncPage {
        self.ask(Kind::Sync, &Sync { after: Blob::default(), limit: 200, since: Blob::default() })
            .await
            .expect("the session list")
    }

    /// All records of a session, page by page.
    pub async fn pull(
        &mut self,
        session: &SessionId,
        consistency: Consistency,
    ) -> Result<Vec<Record>, ErrorBody> {
        let mut records: Vec<Record> = Vec::new();
        let end = Instant::now() + ANSWER;
        loop {
            let pull = Pull {
                session: session.clone(),
                from_seq: records.last().map_or(1, |record| record.seq + 1),
                direction: Direction::Forward,
                max_count: 500,
                max_bytes: 512 << 10,
                consistency,
            };
            let page: Page = match self.ask(Kind::Pull, &pull).await {
                Ok(page) => page,
                Err(error) if matches!(error.retry, Retry::After(_)) && Instant::now() < end => continue,
                Err(error) => return Err(error),
            };
            let done = page.records.is_empty();
            records.extend(page.records);
            if done || records.last().is_some_and(|record| record.seq >= page.last_seq) {
                return Ok(records);
            }
        }
    }

    /// Waits for the connection's end; everything that still comes before it.
    pub async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.next().await {
                Ok(frame) => frames.push(frame),
                Err(LinkFault::Deadline(what)) => panic!("the connection is still open: {what}"),
                Err(_) => return frames,
            }
        }
    }
}

pub fn message(session: &SessionId, client_seq: u64, text: &str) -> Send {
    Send {
        session: session.clone(),
        client_seq,
        on_behalf_of: None,
        content_type: Blob::from("text/plain"),
        content: Blob::from(text),
        extensions: Vec::new(),
    }
}

/// A frame as the answer it should be, or the error it is.
pub fn read<A: bincode::Decode<Source>>(frame: &Frame) -> Result<A, ErrorBody> {
    if frame.kind == Kind::Error as u8 {
        return Err(body(frame).expect("an error body"));
    }
    Ok(body(frame).unwrap_or_else(|why| panic!("not the answer asked for: {why}")))
}

/// The error a frame carries.
pub fn error_of(frame: &Frame) -> ErrorBody {
    read::<()>(frame).expect_err("an ERROR frame")
}

/// A refused HELLO.
pub async fn turned_away(addr: &str, hello: &Hello, code: ErrorCode) -> String {
    match Wire::open(addr, hello).await {
        Err(LinkFault::Refused(error)) => {
            assert_eq!(error.code, code, "{error}");
            error.message().into_owned()
        }
        Err(other) => panic!("{code} was expected: {other}"),
        Ok(_) => panic!("{code} was expected, and the device is welcome"),
    }
}

/// The whole session as each of these nodes' own replica has it; all must be the same, record by record. What was under
/// way when its sender went may still be stored, so they have some time to agree.
pub async fn replicas(cluster: &Cluster, nodes: &[u16], session: &SessionId) -> Vec<Record> {
    let end = Instant::now() + ANSWER;
    loop {
        cluster.level().await;
        let mut all = Vec::new();
        for node in nodes {
            let mut wire = Wire::service(cluster, *node).await;
            let records =
                wire.pull(session, Consistency::Replica).await.unwrap_or_else(|why| panic!("{why}"));
            let seqs: Vec<u64> = records.iter().map(|record| record.seq).collect();
            let first = seqs.first().copied().unwrap_or(1);
            let whole: Vec<u64> = (first..first + seqs.len() as u64).collect();
            assert_eq!(seqs, whole, "node {node}: what it keeps is without a gap");
            all.push(records);
        }
        let first = all.swap_remove(0);
        match all.iter().find_map(|other| first.iter().zip(other).find(|(one, two)| one != two)) {
            Some((one, two)) => panic!("replicas differ for ever at seq {}: {one:?} and {two:?}", one.seq),
            None if all.iter().all(|other| other.len() == first.len()) => return first,
            None => assert!(Instant::now() < end, "the replicas of {session} do not become equally long"),
        }
    }
}

/// A socket without manners: any bytes out, frames or bytes in.
pub struct Raw {
    socket: TcpStream,
    inbox: BytesMut,
}

impl Raw {
    pub async fn connect(addr: &str) -> Self {
        Self { socket: TcpStream::connect(addr).await.expect("connected"), inbox: BytesMut::new() }
    }

    /// One whose kernel takes little for it before it reads.
    pub async fn narrow(addr: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("set");
        let socket = socket.connect(addr.parse().expect("an address")).await.expect("connected");
        Self { socket, inbox: BytesMut::new() }
    }

    /// A connection that has been welcomed.
    pub async fn welcome(addr: &str, hello: &Hello) -> Self {
        let mut raw = Self::connect(addr).await;
        raw.greet(hello).await;
        raw
    }

    /// Says HELLO.
    pub async fn greet(&mut self, hello: &Hello) -> Welcome {
        self.write(&frame_bytes(Kind::Hello, 1, hello)).await;
        read(&self.answer(1).await).expect("welcome")
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        timeout(ANSWER, self.socket.write_all(bytes)).await.expect("in time").expect("written");
    }

    /// The next frame; none at the end of the stream.
    pub async fn next(&mut self) -> Option<Frame> {
        let decoder = Decoder::new(8 << 20);
        loop {
            if let Some(frame) = decoder.next(&mut self.inbox).expect("the node writes frames") {
                return Some(frame);
            }
            let read = timeout(ANSWER, self.socket.read_buf(&mut self.inbox)).await;
            match read.expect("the node answers or closes") {
                Ok(0) | Err(_) => {
                    assert!(self.inbox.is_empty(), "the stream ends within a frame");
                    return None;
                }
                Ok(_) => {}
            }
        }
    }

    /// The answer to a request; pushes before it are dropped.
    pub async fn answer(&mut self, id: u32) -> Frame {
        loop {
            let frame = self.next().await.expect("an answer");
            if frame.request_id == id {
                return frame;
            }
        }
    }

    /// Reads so many bytes of what comes, and no more than one read beyond.
    pub async fn bytes(&mut self, count: usize) {
        while self.inbox.len() < count {
            let read = timeout(ANSWER, self.socket.read_buf(&mut self.inbox)).await;
            assert!(
                read.expect("the node writes").expect("it reads") > 0,
                "the stream ends before {count} bytes"
            );
        }
    }

    /// Every frame until the end.
    pub async fn frames(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }

    /// Every byte until the end.
    pub async fn all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset after the last byte is an end too.
        let _ = timeout(ANSWER, self.socket.read_to_end(&mut bytes)).await.expect("it is closed");
        bytes
    }

    /// The one ERROR with which the connection ends; before it may stand only answers of these requests and kinds.
    pub async fn last_error(&mut self, before: &[(u32, Kind)]) -> ErrorBody {
        let mut frames = self.frames().await;
        let last = frames.pop().expect("an ERROR before the end");
        for frame in &frames {
            let due = before.iter().any(|(id, kind)| (frame.request_id, frame.kind) == (*id, *kind as u8));
            assert!(due, "unexpected before the ERROR: kind {} of request {}", frame.kind, frame.request_id);
        }
        error_of(&last)
    }
}

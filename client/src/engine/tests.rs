//! The engine against a model of the cluster, in virtual time: cuts, requests that come to life after their
//! connection died, BUSY, refusals, lost pushes. Whatever happens, every send is stored once, in order, and every
//! message is given out once, in order.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::frame::frame_bytes;
use rookery_wire::reply::{Ack, Lagged, Limits, Message, Page, Summary, SyncPage, Welcome};
use rookery_wire::request::{Pull, Role, Send, Sync};
use rookery_wire::{
    Blob, Decoder, ErrorBody, ErrorCode, Frame, Kind, Record, RecordKind, Retry, SessionId, decode,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Engine, Millis, Phase, Settings};
use crate::command::Op;
use crate::engine::link::Next;
use crate::error::ClientError;
use crate::event::Event;
use crate::options::StartAt;

mod hold;
mod hostile;
mod silence;

type Answer = oneshot::Receiver<Result<Ack, ClientError>>;

/// One session as the cluster stores it.
#[derive(Default)]
struct Log {
    records: Vec<Record>,
    /// The device's number → seq.
    numbers: BTreeMap<u64, u64>,
    /// Place in the cluster's history of its last record.
    changed: u64,
    live_from: u64,
    lagging: bool,
}

/// The cluster, and the one connection to it.
struct Cluster {
    random: StdRng,
    logs: BTreeMap<SessionId, Log>,
    requests: VecDeque<Frame>,
    /// Requests of dead connections that some node may still carry out, until its deadline.
    ghosts: Vec<(Millis, Send)>,
    answers: VecDeque<Bytes>,
    calm: bool,
    /// How long a node goes on trying a request, as it tells.
    deadline: Millis,
    /// The device's user is a member of nothing: what it sends is refused and takes no number.
    stranger: bool,
    now: Millis,
    /// Records that were stored in all: what marks are made of.
    stored: u64,
    /// Lines of lists that were since a mark, and those that such lists could leave out.
    merged: (u64, u64),
}

fn sessions() -> Vec<SessionId> {
    ["a", "b", "c"].iter().map(|name| SessionId::group(name.parse().unwrap())).collect()
}

impl Cluster {
    fn store(&mut self, session: &SessionId, device: &str, number: u64, content: Blob) -> Record {
        let log = self.logs.get_mut(session).unwrap();
        let seq = log.records.len() as u64 + 1;
        let record = Record {
            seq,
            message_id: seq,
            time_ms: seq,
            count: seq,
            sender: if device == "laptop" { "ann" } else { "bob" }.parse().unwrap(),
            device: device.parse().unwrap(),
            epoch: 1,
            client_seq: number,
            kind: RecordKind::CONTENT,
            content_type: Blob::default(),
            content,
            extensions: Vec::new(),
        };
        log.records.push(record.clone());
        self.stored += 1;
        log.changed = self.stored;
        record
    }

    /// What apply says to a send: its record, or the number it expects.
    fn apply(&mut self, send: &Send) -> Result<Record, u64> {
        let log = &self.logs[&send.session];
        let last = log.numbers.keys().next_back().copied().unwrap_or(0);
        if let Some(seq) = log.numbers.get(&send.client_seq) {
            let record = log.records[*seq as usize - 1].clone();
            assert_eq!(record.content, send.content, "number {} was used again", send.client_seq);
            return Ok(record);
        }
        if send.client_seq != last + 1 {
            return Err(last + 1);
        }
        let record = self.store(&send.session, "laptop", send.client_seq, send.content.clone());
        self.logs.get_mut(&send.session).unwrap().numbers.insert(send.client_seq, record.seq);
        Ok(record)
    }

    fn say<T: bincode::Encode>(&mut self, kind: Kind, id: u32, body: &T) {
        self.answers.push_back(frame_bytes(kind, id, body));
    }

    fn refuse(&mut self, id: u32, code: ErrorCode, retry: Retry, detail: u64) {
        self.say(Kind::Error, id, &ErrorBody::new(code, "").with_retry(retry).with_detail(detail));
    }

    fn other_sends(&mut self, session: &SessionId) {
        let text = Blob(Bytes::from(format!("other {}", self.logs[session].records.len())));
        let record = self.store(session, "phone", 1, text);
        let lost = !self.calm && self.random.random_bool(0.1);
        let log = self.logs.get_mut(session).unwrap();
        if log.live_from == 0 || record.seq < log.live_from {
            return;
        }
        if lost || log.lagging {
            log.lagging = true;
            return;
        }
        self.say(Kind::Message, 0, &Message { session: session.clone(), record });
    }

    fn end_lag(&mut self) {
        let mut late = Vec::new();
        for (session, log) in self.logs.iter_mut().filter(|(_, log)| log.lagging && log.live_from > 0) {
            log.lagging = false;
            log.live_from = log.records.len() as u64 + 1;
            late.push((session.clone(), log.live_from));
        }
        if !late.is_empty() {
            self.say(Kind::Lagged, 0, &Lagged { sessions: late });
        }
    }

    fn serve(&mut self, frame: &Frame) {
        let id = frame.request_id;
        match Kind::from_number(frame.kind).unwrap() {
            Kind::Hello => self.say(Kind::Welcome, id, &welcome(self.deadline)),
            Kind::Ping => self.say(Kind::Pong, id, &()),
            Kind::Delivered if id != 0 => self.say(Kind::Ok, id, &()),
            Kind::Sync => self.list(id, &decode(&frame.body).unwrap()),
            Kind::Pull => self.page(id, &decode(&frame.body).unwrap()),
            Kind::Send => self.send(id, &decode(&frame.body).unwrap()),
            _ => {}
        }
    }

    fn send(&mut self, id: u32, send: &Send) {
        if send.content.as_ref().starts_with(b"bad") {
            return self.refuse(id, ErrorCode::BadRequest, Retry::Never, 0);
        }
        if self.stranger {
            return self.refuse(id, ErrorCode::NotMember, Retry::Never, 0);
        }
        if !self.calm && self.random.random_bool(0.05) {
            return self.refuse(id, ErrorCode::Busy, Retry::After(30), 0);
        }
        if !self.calm && self.random.random_bool(0.02) {
            // Given up by its node, but not dead.
            let when = self.now + self.random.random_range(0..self.deadline);
            self.ghosts.push((when, send.clone()));
            return self.refuse(id, ErrorCode::Unavailable, Retry::After(50), 0);
        }
        if !self.calm && self.random.random_bool(0.01) {
            // Its node goes down, while the request is on its way.
            let when = self.now + self.random.random_range(0..self.deadline);
            self.ghosts.push((when, send.clone()));
            return self.refuse(id, ErrorCode::ShuttingDown, Retry::Reconnect, 0);
        }
        let done = self.apply(send);
        if !self.calm && self.random.random_bool(0.02) {
            return self.refuse(id, ErrorCode::Unavailable, Retry::After(50), 0);
        }
        match done {
            Err(expected) => self.refuse(id, ErrorCode::ClientSeqGap, Retry::Never, expected),
            Ok(record) => {
                let session = send.session.clone();
                let Record { seq, message_id, time_ms, count, client_seq, .. } = record;
                self.say(Kind::Ack, id, &Ack { session, client_seq, seq, message_id, time_ms, count });
            }
        }
    }

    fn list(&mut self, id: u32, sync: &Sync) {
        let since = sync.since.as_ref().try_into().ok().map(u64::from_le_bytes);
        if since.is_some() && !self.calm && self.random.random_bool(0.02) {
            return self.refuse(id, ErrorCode::BadRequest, Retry::Never, 0);
        }
        let (mut lines, mut late) = (Vec::new(), Vec::new());
        for (session, log) in &mut self.logs {
            let last = log.records.len() as u64;
            // The replica that pushes may be behind: what it lacks is pushed when it comes there.
            let behind = if self.calm { 0 } else { self.random.random_range(0..3).min(last) };
            (log.live_from, log.lagging) = (last + 1 - behind, false);
            late.extend(log.records[(last - behind) as usize..].iter().map(|r| (session.clone(), r.clone())));
            if since.is_some_and(|since| log.changed <= since) {
                self.merged.1 += 1;
                continue;
            }
            self.merged.0 += u64::from(since.is_some());
            lines.push(Summary {
                session: session.clone(),
                members: 2,
                first_seq: 1,
                last_seq: last,
                count: last,
                unread: 0,
                joined_seq: 1,
                read_seq: 0,
                delivered_seq: 0,
                last_client_seq: log.numbers.keys().next_back().copied().unwrap_or(0),
                live_from: last + 1 - behind,
                time_ms: 0,
                last: None,
                settings: rookery_wire::own::Settings::default(),
            });
        }
        let page = SyncPage {
            sessions: lines,
            unresolved: vec![],
            total: self.logs.len() as u32,
            next: Blob::default(),
            badge: None,
            left: vec![],
            mark: Blob(Bytes::copy_from_slice(&self.stored.to_le_bytes())),
            full: since.is_none(),
        };
        self.say(Kind::SyncPage, id, &page);
        for (session, record) in late {
            self.say(Kind::Message, 0, &Message { session, record });
        }
    }

    fn page(&mut self, id: u32, pull: &Pull) {
        let log = &self.logs[&pull.session];
        let last_seq = log.records.len() as u64;
        let wanted = log.records.iter().skip(pull.from_seq as usize - 1).take(pull.max_count as usize);
        let records = wanted.cloned().collect();
        self.say(Kind::Page, id, &Page { session: pull.session.clone(), first_seq: 1, last_seq, records });
    }

    fn cut(&mut self, now: Millis) {
        self.answers.clear();
        for frame in std::mem::take(&mut self.requests) {
            if frame.kind == Kind::Send as u8 && self.random.random_bool(0.5) {
                let when = now + self.random.random_range(0..self.deadline);
                self.ghosts.push((when, decode(&frame.body).unwrap()));
            }
        }
        self.logs.values_mut().for_each(|log| log.live_from = 0);
    }

    fn wake_ghosts(&mut self, now: Millis) {
        let (due, later) = std::mem::take(&mut self.ghosts).into_iter().partition(|(when, _)| *when <= now);
        self.ghosts = later;
        let due: Vec<(Millis, Send)> = due;
        for (_, send) in due.into_iter().filter(|(_, send)| !send.content.as_ref().starts_with(b"bad")) {
            let _ = self.apply(&send);
        }
    }
}

fn welcome(deadline: Millis) -> Welcome {
    let limits = Limits { frame: 1 << 20, content: 1000, window: 40, page: 7 };
    Welcome {
        version: 1,
        cluster: [1; 16],
        node: 1,
        epoch: 1,
        time_ms: 0,
        idle_ms: 60_000,
        limits,
        last_number: 0,
        deadline_ms: deadline as u32,
    }
}

fn settings() -> Settings {
    Settings {
        user: "ann".parse().unwrap(),
        device: "laptop".parse().unwrap(),
        role: Role::User,
        token: String::new(),
        agent: "test".to_owned(),
        platform: "test".to_owned(),
        start: StartAt::Resume,
        own_cursors: false,
        echo_own: true,
        request_deadline: Millis::MAX / 2,
        hello_deadline: 2000,
        silence: 3000,
        room: 8,
    }
}

struct World {
    cluster: Cluster,
    engine: Engine,
    now: Millis,
    sent: Vec<(SessionId, String, Answer)>,
    given: HashMap<SessionId, Vec<Record>>,
    handled: u64,
    window: Arc<Semaphore>,
    sends: bool,
    /// How likely a step brings a message of somebody else, and a cut.
    others: f64,
    cuts: f64,
}

impl World {
    fn new(seed: u64) -> Self {
        let logs = sessions().into_iter().map(|session| (session, Log::default())).collect();
        let cluster = Cluster {
            random: StdRng::seed_from_u64(seed),
            logs,
            requests: VecDeque::new(),
            ghosts: Vec::new(),
            answers: VecDeque::new(),
            calm: false,
            deadline: 10_000,
            stranger: false,
            now: 0,
            stored: 0,
            merged: (0, 0),
        };
        let window = Arc::new(Semaphore::new(64));
        let (sent, given) = (Vec::new(), HashMap::new());
        Self {
            cluster,
            engine: Engine::new(settings(), 0, 1),
            now: 0,
            sent,
            given,
            handled: 0,
            window,
            sends: true,
            others: 0.3,
            cuts: 0.02,
        }
    }

    fn chance(&mut self, probability: f64) -> bool {
        !self.cluster.calm && self.cluster.random.random_bool(probability)
    }

    fn submit(&mut self) {
        let Ok(permit) = Arc::clone(&self.window).try_acquire_owned() else { return };
        let session = sessions()[self.cluster.random.random_range(0..3)].clone();
        let kind = if self.chance(0.08) { "bad" } else { "good" };
        self.submit_to(session, kind, permit);
    }

    fn submit_to(&mut self, session: SessionId, kind: &str, permit: OwnedSemaphorePermit) {
        let text = format!("{kind} {}", self.sent.len());
        let (reply, answer) = oneshot::channel();
        let content = Bytes::from(text.clone());
        let op = Op::Send { content_type: Bytes::new(), content, extensions: Vec::new(), on_behalf_of: None };
        self.engine.submit(self.now, &session, op, reply, permit);
        self.sent.push((session, text, answer));
    }

    fn cut(&mut self) {
        self.cluster.cut(self.now);
        self.engine.disconnected(self.now, "cut");
    }

    /// The program ends, between any two things it does, and is started again over what it had saved.
    fn restart(&mut self) {
        self.cluster.cut(self.now);
        self.engine.settle_handled(self.handled);
        let memory = self.engine.snapshot(true);
        for (session, memory) in &memory.sessions {
            assert_eq!(memory.cursor as usize, self.given.get(session).map_or(0, Vec::len), "{session}");
        }
        self.engine = Engine::new(settings(), memory.epoch, 1);
        self.engine.remember(&memory);
        self.handled = 0;
    }

    /// So many steps, with restarts among them.
    fn live(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
            if self.chance(self.cuts) {
                self.restart();
            }
        }
    }

    fn step(&mut self) {
        self.now += self.cluster.random.random_range(1..30);
        self.cluster.now = self.now;
        self.cluster.wake_ghosts(self.now);
        if self.engine.phase() == Phase::Down {
            self.engine.connected(self.now);
        }
        while self.sends && self.chance(0.5) {
            self.submit();
        }
        if self.chance(self.others) {
            let session = sessions()[self.cluster.random.random_range(0..3)].clone();
            self.cluster.other_sends(&session);
        }
        if self.cluster.calm || self.chance(0.1) {
            self.cluster.end_lag();
        }
        if self.now >= self.engine.due() && self.engine.tick(self.now, self.handled).is_err() {
            self.cut();
        }
        self.engine.pump(self.now);
        let mut out: BytesMut = self.engine.out.split();
        while let Some(frame) = Decoder::new(1 << 20).next(&mut out).unwrap() {
            self.cluster.requests.push_back(frame);
        }
        while let Some(frame) = self.cluster.requests.pop_front() {
            self.cluster.serve(&frame);
            if self.chance(0.6) {
                break;
            }
        }
        self.deliver();
        if self.chance(self.cuts) {
            self.cut();
        }
    }

    fn deliver(&mut self) {
        while let Some(bytes) = self.cluster.answers.pop_front() {
            let frame = Decoder::new(1 << 20).next(&mut BytesMut::from(bytes.as_ref())).unwrap().unwrap();
            if let Err(broken) = self.engine.frame(self.now, &frame) {
                if matches!(broken.next, Next::Reconnect { .. }) && frame.kind == Kind::Error as u8 {
                    self.cut();
                    break;
                }
                panic!("a sound cluster was found at fault: {}", broken.reason);
            }
            if self.chance(0.1) {
                break;
            }
        }
        // A slow application: it does not always take what there is.
        while !self.engine.ready.is_empty() && !self.chance(0.3) {
            if let Some(Event::Message { session, record }) = self.engine.ready.pop_front() {
                self.given.entry(session).or_default().push(record);
            }
            self.handled += 1;
            self.engine.resume(self.now);
        }
    }

    /// No more faults: everything must come to rest, and be right.
    fn settle(mut self) {
        self.cluster.calm = true;
        for _ in 0..self.cluster.deadline / 2 {
            self.step();
        }
        let mut stored: HashMap<SessionId, Vec<String>> = HashMap::new();
        for (session, text, mut answer) in self.sent {
            match answer.try_recv().expect("every send has its answer") {
                Ok(ack) => {
                    let record = &self.cluster.logs[&session].records[ack.seq as usize - 1];
                    assert_eq!(record.content, Blob::from(text.as_str()));
                    stored.entry(session).or_default().push(text);
                }
                Err(error) => {
                    assert_eq!(error.code(), Some(ErrorCode::BadRequest));
                    assert!(text.starts_with("bad"), "{text}");
                }
            }
        }
        for (session, log) in &self.cluster.logs {
            let own = log.records.iter().filter(|record| record.device.as_str() == "laptop");
            let own: Vec<String> =
                own.map(|record| String::from_utf8(record.content.as_ref().to_vec()).unwrap()).collect();
            let acknowledged = stored.remove(session).unwrap_or_default();
            assert_eq!(own, acknowledged, "stored once, in order, in {session}");
            assert_eq!(self.given.get(session), Some(&log.records), "given once, in order, of {session}");
        }
    }
}

#[test]
fn every_send_once_and_every_message_once() {
    for seed in 0..80 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..1_500 {
            world.step();
        }
        world.settle();
    }
}

/// A send is written and its connection cut; elsewhere the repeat is refused, for the user is no member yet. Then it
/// becomes one, and the node of the lost connection has the first copy still.
#[test]
fn what_may_still_be_stored_is_not_said_to_be_refused() {
    let mut world = World::new(1);
    world.cluster.calm = true;
    (world.others, world.sends) = (0.0, false);
    (0..10).for_each(|_| world.step());
    world.submit();
    world.engine.pump(world.now);
    let mut out: BytesMut = world.engine.out.split();
    while let Some(frame) = Decoder::new(1 << 20).next(&mut out).unwrap() {
        if frame.kind == Kind::Send as u8 {
            world.cluster.ghosts.push((world.now + 5_000, decode(&frame.body).unwrap()));
        }
    }
    assert_eq!(world.cluster.ghosts.len(), 1);
    world.cut();
    world.cluster.stranger = true;
    (0..50).for_each(|_| world.step());
    assert!(world.sent[0].2.try_recv().is_err(), "nobody can say yet");
    world.cluster.stranger = false;
    world.submit();
    sessions().iter().for_each(|session| world.cluster.other_sends(session));
    world.settle();
}

/// A device that only listens, cut off and started again over its memory at any moment: it asks since its marks, is told
/// less than everything, and has every message once, in order.
#[test]
fn a_device_that_comes_back_with_its_mark_misses_nothing() {
    for seed in 0..80 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        world.sends = false;
        for day in 0..15 {
            (world.others, world.cuts) = (0.3, 0.02);
            world.live(40);
            // Nothing is written any more, so that no list names again what was named once; and nothing holds for long.
            (world.others, world.cuts) = (0.0, 0.2);
            world.live(40);
            world.cluster.calm = true;
            (0..200).for_each(|_| world.step());
            world.cluster.calm = false;
            for (session, log) in world.cluster.logs.iter().filter(|(_, log)| !log.records.is_empty()) {
                assert_eq!(world.given.get(session), Some(&log.records), "{session} on day {day}");
            }
        }
        let (told, passed_over) = world.cluster.merged;
        assert!(told > 0 && passed_over > 0, "{told} lines told since marks, {passed_over} not");
    }
}

#[test]
fn devices_that_came_back_together_do_not_go_on_reading_together() {
    let ages = |nonce: u64| {
        let mut engine = Engine::new(settings(), 0, nonce);
        let mut ages = Vec::new();
        for generation in 0..5 {
            engine.sync.generation = generation;
            ages.push(engine.apart(300_000));
        }
        ages
    };
    let mut all: Vec<Millis> = (1..=1000).flat_map(ages).collect();
    assert!(all.iter().all(|age| *age < 300_000));
    // In each of ten parts of the time there is about a tenth of them.
    all.sort_unstable();
    for part in 0..10 {
        let of_part = all.iter().filter(|age| **age / 30_000 == part).count();
        assert!((400..600).contains(&of_part), "{of_part} of {} in part {part}", all.len());
    }
}

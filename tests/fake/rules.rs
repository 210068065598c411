//! What the fake cluster promises, and which promise it breaks.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use rookery_wire::reply::{Ack, Joined, Left, Limits, Message, Page, ReadMark, Summary, SyncPage, Welcome};
use rookery_wire::request::{Consistency, Direction, Hello, Members, Pull, Read, Role, Send, Sync};
use rookery_wire::{
    Blob, DeviceId, ErrorBody, ErrorCode, Frame, Kind, Record, RecordKind, Retry, SessionId, Signal, UserId,
    decode, encode,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::since::Changes;
use super::{Connections, whole};

/// The promise that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// None.
    Nothing,
    /// A kill loses the last records of every session.
    AckBeforeFsync,
    /// A kill loses who has sent what.
    DedupLost,
    /// Followers push what is not stored.
    PushBeforeCommit,
    /// Now and then a push is made twice.
    PushTwice,
    /// Now and then a push is left out.
    PushSkipped,
    /// Now and then two pushes change places.
    PushesSwapped,
    /// One replica leaves out a record.
    ReplicaSkips,
    /// READ follows the number it is given, also backwards.
    CursorBack,
    /// Reads miss the newest record.
    StaleReads,
    /// Unread ignores what the user has sent himself.
    UnreadOff,
    /// Removed members can still send.
    NoMembership,
    /// A recall leaves the content where it is.
    RecallKept,
    /// What is recalled is still unread.
    UnreadRecalled,
    /// Blocks are answered and change nothing.
    BlockIgnored,
    /// Blocks are answered before they are in force.
    BlockEarly,
    /// The user's other devices are not told of a READ.
    MarkUnpushed,
    /// Who was removed has the session in his list.
    LeftListed,
    /// Now and then a list since a mark leaves out a session that has changed.
    SinceMisses,
    /// Now and then a send is carried out and not answered.
    AnswerLost,
    /// Whoever comes into a session is not told.
    JoinedUnpushed,
    /// Whoever is let go is not told.
    LeftUnpushed,
}

pub(super) struct Connection {
    node: u16,
    out: mpsc::Sender<Bytes>,
    user: Option<(UserId, DeviceId, u32, Role)>,
    live: HashMap<SessionId, u64>,
    held: Option<Bytes>,
}

#[derive(Default)]
pub(super) struct Session {
    pub(super) owner: Option<UserId>,
    pub(super) members: BTreeMap<UserId, u64>,
    /// Who was removed, when that is not to be forgotten.
    former: BTreeMap<UserId, u64>,
    pub(super) log: Vec<Record>,
    senders: HashMap<(UserId, DeviceId, u32), Vec<Result<usize, ErrorCode>>>,
}

impl Session {
    fn count(&self, seq: u64) -> u64 {
        seq.checked_sub(1).and_then(|at| self.log.get(at as usize)).map_or(0, |record| record.count)
    }
}

pub(super) struct State {
    pub(super) plant: Plant,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// Who takes nothing of whom, and from when on.
    pub(super) bars: HashMap<(UserId, UserId), Instant>,
    /// The last number of each device's acts on its user's own things.
    pub(super) acts: HashMap<(UserId, DeviceId, u32), u64>,
    marks: HashMap<(UserId, SessionId), u64>,
    pub(super) changes: Changes,
    epochs: HashMap<(UserId, DeviceId), u32>,
    pub(super) connections: Connections,
    pub(super) stalled_until: Instant,
    next: u64,
    chance: u64,
}

impl State {
    pub(super) fn new(plant: Plant) -> Self {
        Self {
            plant,
            sessions: BTreeMap::new(),
            bars: HashMap::new(),
            acts: HashMap::new(),
            marks: HashMap::new(),
            changes: Changes::default(),
            epochs: HashMap::new(),
            connections: HashMap::new(),
            stalled_until: Instant::now(),
            next: 0,
            chance: 0,
        }
    }

    pub(super) fn connect(&mut self, node: u16, out: mpsc::Sender<Bytes>) -> u64 {
        self.next += 1;
        self.connections
            .insert(self.next, Connection { node, out, user: None, live: HashMap::new(), held: None });
        self.next
    }

    pub(super) fn killed(&mut self, node: u16, election: Duration) {
        self.connections.retain(|_, connection| connection.node != node);
        self.stalled_until = Instant::now() + election;
        for session in self.sessions.values_mut() {
            match self.plant {
                Plant::AckBeforeFsync => {
                    session.log.truncate(session.log.len().saturating_sub(3).max(1));
                    let kept = session.log.len();
                    session.senders.values_mut().for_each(|numbers| {
                        numbers.retain(|number| number.is_err() || number.is_ok_and(|at| at < kept));
                    });
                }
                Plant::DedupLost => session.senders.clear(),
                _ => {}
            }
        }
    }

    /// True now and then, when this plant is the one.
    fn now_and_then(&mut self, plant: Plant) -> bool {
        // There are fewer reads than pushes.
        let every = if [Plant::StaleReads, Plant::SinceMisses].contains(&plant) { 5 } else { 97 };
        self.chance += u64::from(self.plant == plant);
        self.plant == plant && self.chance.is_multiple_of(every)
    }

    fn reply(&self, id: u64, bytes: Bytes) {
        if let Some(connection) = self.connections.get(&id) {
            let _ = connection.out.try_send(bytes);
        }
    }

    pub(super) fn take(&mut self, id: u64, frame: &Frame) {
        let request = frame.request_id;
        let bytes = match Kind::from_number(frame.kind) {
            Some(Kind::Hello) => self.hello(id, request, decode(&frame.body).unwrap()),
            Some(Kind::Ping) => whole(Kind::Pong, request, &()),
            Some(Kind::Send) => self.send(id, request, &frame.body),
            Some(kind @ (Kind::CreateGroup | Kind::AddMembers | Kind::RemoveMembers)) => {
                self.members(id, request, kind, decode(&frame.body).unwrap())
            }
            Some(Kind::Pull) => self.pull(id, request, &decode(&frame.body).unwrap()),
            Some(Kind::Sync) => self.sync(id, request, &decode(&frame.body).unwrap()),
            Some(Kind::Read) => self.read(id, request, &decode(&frame.body).unwrap()),
            Some(Kind::Recall) => self.recall(id, request, &frame.body),
            Some(Kind::Edit) => self.edit(id, request, &frame.body),
            Some(Kind::ManageSelf) => self.manage(id, request, &frame.body),
            Some(Kind::ListMembers) => self.list(request, &decode(&frame.body).unwrap()),
            Some(Kind::Delivered) if request == 0 => return,
            Some(Kind::Delivered) => whole(Kind::Ok, request, &()),
            other => panic!("unexpected {other:?}"),
        };
        if frame.kind == Kind::Send as u8 && self.now_and_then(Plant::AnswerLost) {
            return;
        }
        self.reply(id, bytes);
    }

    fn hello(&mut self, id: u64, request: u32, hello: Hello) -> Bytes {
        let fresh = self.epochs.len() as u32 + 1;
        let epoch = *self.epochs.entry((hello.user.clone(), hello.device.clone())).or_insert(fresh);
        let acts = self.acts.get(&(hello.user.clone(), hello.device.clone(), epoch)).copied();
        let connection = self.connections.get_mut(&id).unwrap();
        connection.user = Some((hello.user, hello.device, epoch, hello.role));
        let welcome = Welcome {
            version: 1,
            cluster: [7; 16],
            node: connection.node,
            epoch,
            time_ms: 1,
            idle_ms: 60_000,
            limits: Limits { frame: 1 << 20, content: 65_536, window: 256, page: 1_000 },
            last_number: acts.unwrap_or(0),
            deadline_ms: 500,
        };
        whole(Kind::Welcome, request, &welcome)
    }

    pub(super) fn who(&self, id: u64) -> (UserId, DeviceId, u32, Role) {
        self.connections[&id].user.clone().unwrap()
    }

    fn send(&mut self, id: u64, request: u32, body: &Bytes) -> Bytes {
        let send: Send = decode(body).unwrap();
        let (user, ..) = self.who(id);
        let pair = send.session.pair_has(&user) == Some(true);
        if pair && !self.sessions.contains_key(&send.session) {
            let SessionId::Direct { low, high } = &send.session else { unreachable!() };
            let members = [(low.clone(), 1), (high.clone(), 1)].into();
            self.sessions.insert(send.session.clone(), Session { members, ..Session::default() });
            for user in [low.clone(), high.clone()] {
                self.joined(&user, &send.session, 1);
            }
        }
        let Some(session) = self.sessions.get(&send.session) else {
            return no(request, ErrorCode::NoSuchSession);
        };
        let allowed = session.members.contains_key(&user) || self.plant == Plant::NoMembership;
        let verdict = match self.is_barred(&send.session, &user) {
            _ if !allowed => Err(ErrorCode::NotMember),
            true => Err(ErrorCode::RefusedByPeer),
            false => Ok(()),
        };
        let kind = (RecordKind::CONTENT, send.content_type, send.content);
        self.store(id, request, &send.session, send.client_seq, verdict, kind)
    }

    fn members(&mut self, id: u64, request: u32, kind: Kind, body: Members) -> Bytes {
        let (user, ..) = self.who(id);
        let session = self.sessions.entry(body.session.clone()).or_default();
        let seq = session.log.len() as u64 + 1;
        let first = is_next(session, &self.connections[&id], body.client_seq, self.plant);
        // Who is let out while it leaves by itself has nothing more to say.
        let verdict = match kind == Kind::CreateGroup || session.members.contains_key(&user) {
            true => Ok(()),
            false => Err(ErrorCode::NotMember),
        };
        let first = first && verdict.is_ok();
        let mut users = body.users.clone();
        let record = match kind {
            Kind::CreateGroup => RecordKind::CREATED,
            Kind::AddMembers => RecordKind::MEMBERS_ADDED,
            _ => RecordKind::MEMBERS_REMOVED,
        };
        if kind == Kind::CreateGroup {
            users.push(user.clone());
            session.owner = Some(user);
        }
        if first {
            users.retain(|user| session.members.contains_key(user) == (kind == Kind::RemoveMembers));
            for user in &users {
                match kind {
                    Kind::RemoveMembers => {
                        let joined = session.members.remove(user);
                        if self.plant == Plant::LeftListed {
                            session.former.extend(joined.map(|joined| (user.clone(), joined)));
                        }
                    }
                    _ => drop(session.members.insert(user.clone(), seq)),
                }
            }
            if kind != Kind::RemoveMembers {
                for user in &users {
                    self.joined(user, &body.session, seq);
                }
            }
        }
        let content = Blob(encode(&Signal { users: users.clone() }));
        let kind_of_record = (record, Blob::default(), content);
        let answer = self.store(id, request, &body.session, body.client_seq, verdict, kind_of_record);
        if first && kind == Kind::RemoveMembers {
            for user in &users {
                self.left(user, &body.session);
            }
        }
        answer
    }

    fn joined(&mut self, user: &UserId, session: &SessionId, live_from: u64) {
        let frame = whole(Kind::Joined, 0, &Joined { session: session.clone(), live_from });
        for connection in self.connections.values_mut().filter(|connection| connection.is(user)) {
            connection.live.insert(session.clone(), live_from);
            if self.plant != Plant::JoinedUnpushed {
                let _ = connection.out.try_send(frame.clone());
            }
        }
        self.changes.of_session(session);
    }

    fn left(&mut self, user: &UserId, session: &SessionId) {
        let frame = whole(Kind::Left, 0, &Left { session: session.clone() });
        for connection in self.connections.values_mut().filter(|connection| connection.is(user)) {
            connection.live.remove(session);
            if self.plant != Plant::LeftUnpushed {
                let _ = connection.out.try_send(frame.clone());
            }
        }
        self.changes.of_leaving(user, session);
    }

    pub(super) fn store(
        &mut self,
        id: u64,
        request: u32,
        name: &SessionId,
        client_seq: u64,
        verdict: Result<(), ErrorCode>,
        (kind, content_type, content): (RecordKind, Blob, Blob),
    ) -> Bytes {
        let (sender, device, epoch, _) = self.who(id);
        let session = self.sessions.get_mut(name).unwrap();
        let forgets = self.plant == Plant::DedupLost;
        let numbers = session.senders.entry((sender.clone(), device.clone(), epoch)).or_default();
        if forgets && numbers.is_empty() {
            numbers.resize(client_seq as usize - 1, Err(ErrorCode::AlreadyTrimmed));
        }
        let known = numbers.get(client_seq as usize - 1).copied();
        if known.is_none() && numbers.len() as u64 + 1 != client_seq {
            let expected = numbers.len() as u64 + 1;
            let error = ErrorBody::new(ErrorCode::ClientSeqGap, "gap").with_detail(expected);
            return whole(Kind::Error, request, &error);
        }
        let fate = match (known, verdict) {
            (Some(fate), _) => fate,
            (None, Err(code)) => Err(code),
            (None, Ok(())) => Ok(session.log.len()),
        };
        if known.is_none() {
            numbers.push(fate);
        }
        let at = match fate {
            Ok(at) => at,
            // It has taken the number, and says so.
            Err(code) => {
                let error =
                    ErrorBody::new(code, code.name()).with_retry(Retry::Never).with_detail(client_seq);
                return whole(Kind::Error, request, &error);
            }
        };
        if known.is_none() {
            let seq = at as u64 + 1;
            let count = session.count(at as u64) + u64::from(kind.is_countable());
            self.next += 1;
            session.log.push(Record {
                seq,
                message_id: self.next,
                time_ms: self.next,
                count,
                sender: sender.clone(),
                device: device.clone(),
                epoch,
                client_seq,
                kind,
                content_type,
                content,
                extensions: Vec::new(),
            });
            self.changes.of_session(name);
            self.publish(name, at, (&sender, &device));
        }
        let record = &self.sessions[name].log[at];
        let ack = Ack {
            session: name.clone(),
            client_seq,
            seq: record.seq,
            message_id: record.message_id,
            time_ms: record.time_ms,
            count: record.count,
        };
        whole(Kind::Ack, request, &ack)
    }

    fn publish(&mut self, name: &SessionId, at: usize, from: (&UserId, &DeviceId)) {
        let mut record = self.sessions[name].log[at].clone();
        if self.now_and_then(Plant::PushBeforeCommit) {
            record.content = Blob::from("never stored");
        }
        let (skip, twice) = (self.now_and_then(Plant::PushSkipped), self.now_and_then(Plant::PushTwice));
        let swap = self.now_and_then(Plant::PushesSwapped);
        let seq = record.seq;
        let frame = whole(Kind::Message, 0, &Message { session: name.clone(), record });
        for connection in self.connections.values_mut() {
            let Some((user, device, ..)) = &connection.user else { continue };
            let live = connection.live.get(name).is_some_and(|live| *live <= seq);
            if !live || (user, device) == from || skip {
                continue;
            }
            if swap && connection.held.is_none() {
                connection.held = Some(frame.clone());
                continue;
            }
            let _ = connection.out.try_send(frame.clone());
            if let Some(held) = connection.held.take() {
                let _ = connection.out.try_send(held);
            }
            if twice {
                let _ = connection.out.try_send(frame.clone());
            }
        }
    }

    fn pull(&mut self, id: u64, request: u32, pull: &Pull) -> Bytes {
        let node = self.connections[&id].node;
        let (user, _, _, role) = self.who(id);
        let Some(session) = self.sessions.get(&pull.session) else {
            return no(request, ErrorCode::NoSuchSession);
        };
        if role == Role::User && !session.members.contains_key(&user) {
            return no(request, ErrorCode::NotMember);
        }
        let mut records = session.log.clone();
        if self.plant == Plant::ReplicaSkips && node == 2 && role == Role::Service {
            records.truncate(records.len().saturating_sub(1));
        }
        if self.now_and_then(Plant::StaleReads) && pull.consistency == Consistency::Linearizable {
            records.truncate(records.len().saturating_sub(20));
        }
        let last_seq = records.len() as u64;
        let wanted: Vec<Record> = match pull.direction {
            Direction::Forward => {
                let from = records.into_iter().filter(|record| record.seq >= pull.from_seq);
                from.take(pull.max_count as usize).collect()
            }
            Direction::Backward => {
                let to = if pull.from_seq == 0 { last_seq } else { pull.from_seq.min(last_seq) };
                let first = (to + 1).saturating_sub(u64::from(pull.max_count));
                records.into_iter().filter(|record| (first..=to).contains(&record.seq)).collect()
            }
        };
        let page = Page { session: pull.session.clone(), first_seq: 1, last_seq, records: wanted };
        whole(Kind::Page, request, &page)
    }

    fn sync(&mut self, id: u64, request: u32, asked: &Sync) -> Bytes {
        let (user, device, epoch, _) = self.who(id);
        let off = self.plant == Plant::UnreadOff;
        let mut lines = Vec::new();
        let place =
            |session: &Session| session.members.get(&user).or_else(|| session.former.get(&user)).copied();
        let counts = |record: &Record| matches!(record.kind, RecordKind::CONTENT | RecordKind::RECALLED);
        for (name, session) in &self.sessions {
            let Some(joined_seq) = place(session) else { continue };
            let last_seq = session.log.len() as u64;
            let read_seq = self.marks.get(&(user.clone(), name.clone())).copied().unwrap_or(0);
            let own = session.log.iter().filter(|record| record.sender == user && counts(record));
            let own = own.map(|record| record.seq).max().filter(|_| !off).unwrap_or(0);
            let floor = read_seq.max(joined_seq - 1).max(own);
            let numbers = session.senders.get(&(user.clone(), device.clone(), epoch));
            let gone = |record: &&Record| record.seq > floor && record.kind == RecordKind::RECALLED;
            let gone = session.log.iter().filter(gone).count() as u64;
            let gone = if self.plant == Plant::UnreadRecalled { 0 } else { gone };
            lines.push(Summary {
                session: name.clone(),
                members: session.members.len() as u32,
                first_seq: 1,
                last_seq,
                count: session.count(last_seq),
                unread: session.count(last_seq) - session.count(floor) - gone,
                joined_seq,
                read_seq,
                delivered_seq: 0,
                last_client_seq: numbers.map_or(0, Vec::len) as u64,
                live_from: last_seq + 1,
                time_ms: 0,
                last: None,
                settings: rookery_wire::own::Settings::default(),
            });
        }
        let connection = self.connections.get_mut(&id).unwrap();
        for line in &lines {
            connection.live.entry(line.session.clone()).or_insert(line.live_from);
        }
        let total = lines.len() as u32;
        let left = self.changes.since(&asked.since, &user, &mut lines);
        if left.is_some() && self.now_and_then(Plant::SinceMisses) {
            lines.pop();
        }
        let page = SyncPage {
            sessions: lines,
            unresolved: Vec::new(),
            total,
            next: Blob::default(),
            badge: None,
            full: left.is_none(),
            left: left.unwrap_or_default(),
            mark: self.changes.mark(),
        };
        whole(Kind::SyncPage, request, &page)
    }

    fn read(&mut self, id: u64, request: u32, read: &Read) -> Bytes {
        let (user, ..) = self.who(id);
        let Some(session) = self.sessions.get(&read.session) else {
            return no(request, ErrorCode::NoSuchSession);
        };
        if read.seq > session.log.len() as u64 {
            return no(request, ErrorCode::BeyondEnd);
        }
        let back = self.plant == Plant::CursorBack;
        let mark = self.marks.entry((user.clone(), read.session.clone())).or_default();
        *mark = if back { read.seq } else { (*mark).max(read.seq) };
        self.changes.of_cursor(&user, &read.session);
        let mark = ReadMark { session: read.session.clone(), seq: *mark, count: session.count(*mark) };
        let push = whole(Kind::ReadMark, 0, &mark);
        let told = self.connections.values().filter(|connection| connection.is(&user));
        for connection in told.filter(|_| self.plant != Plant::MarkUnpushed) {
            let _ = connection.out.try_send(push.clone());
        }
        whole(Kind::ReadMark, request, &mark)
    }
}

impl Connection {
    fn is(&self, user: &UserId) -> bool {
        self.user.as_ref().is_some_and(|(of, ..)| of == user)
    }
}

/// Whether the number was seen before.
/// Neither a repeat nor one that skips numbers: it will be stored.
fn is_next(session: &Session, connection: &Connection, client_seq: u64, plant: Plant) -> bool {
    let Some((user, device, epoch, _)) = connection.user.clone() else { return false };
    let known = session.senders.get(&(user, device, epoch)).map_or(0, |numbers| numbers.len() as u64);
    client_seq == known + 1 || (known == 0 && plant == Plant::DedupLost)
}

pub(super) fn no(request: u32, code: ErrorCode) -> Bytes {
    whole(Kind::Error, request, &ErrorBody::new(code, code.name()).with_retry(Retry::Never))
}

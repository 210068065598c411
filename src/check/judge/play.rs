//! A run in which everything goes well, made by construction: what the judge's tests start from.

use rookery_wire::{DeviceId, GroupId, RecordKind, SessionId, UserId};

use super::book::kind_of;
use crate::check::history::{
    Act, DeviceIx, Dump, Entry, FaultKind, Fresh, Handed, History, Line, Mark, Micros, Outcome, Page, Retry,
    Round, Seen, Send, SessionIx, Setup, Stream, Sync, UserIx,
};

pub(super) const PAIR: SessionIx = SessionIx(0);
pub(super) const GROUP: SessionIx = SessionIx(1);
/// Two devices of ann, one of bob, one of cid; cid joins the group late.
pub(super) const ANN1: DeviceIx = DeviceIx(0);
pub(super) const ANN2: DeviceIx = DeviceIx(1);
pub(super) const BOB: DeviceIx = DeviceIx(2);
pub(super) const CID: DeviceIx = DeviceIx(3);
pub(super) const STEP: Micros = 1_000;

pub(super) fn print_of(session: SessionIx, seq: u64) -> u64 {
    u64::from(session.0) << 32 | seq
}

/// Plays a run in which everything goes well, one operation per step of time.
pub(super) struct Play {
    history: History,
    now: Micros,
    logs: [Vec<Entry>; 2],
    numbers: std::collections::BTreeMap<(DeviceIx, SessionIx), u64>,
}

impl Play {
    fn new() -> Self {
        let mut history = History {
            setup: Setup { seed: 7, nodes: vec![1, 2, 3], replication: 3, snapshots: false },
            ..History::default()
        };
        let users: Vec<UserId> =
            ["ann", "bob", "cid"].iter().map(|name| UserId::new(name).unwrap()).collect();
        history.names.sessions = vec![
            SessionId::direct(&users[0], &users[1]).unwrap(),
            SessionId::group(GroupId::new("rooks").unwrap()),
        ];
        history.names.users = users;
        let device = |user, name| (UserIx(user), DeviceId::new(name).unwrap());
        history.names.devices =
            vec![device(0, "phone"), device(0, "desk"), device(1, "phone"), device(2, "phone")];
        for device in [ANN1, ANN2, BOB, CID] {
            let node = device.0 as u16 % 3 + 1;
            history.streams.push(Stream { device, node, opened: 0, closed: None, events: Vec::new() });
        }
        Self { history, now: 0, logs: [Vec::new(), Vec::new()], numbers: Default::default() }
    }

    fn user(&self, device: DeviceIx) -> UserIx {
        self.history.user_of(device).unwrap()
    }

    fn send(&mut self, device: DeviceIx, session: SessionIx, act: Act) {
        self.now += STEP;
        let number = self.numbers.entry((device, session)).or_default();
        *number += 1;
        let client_seq = *number;
        let (user, kind) = (self.user(device), kind_of(&act));
        let log = &mut self.logs[session.0 as usize];
        let seq = log.len() as u64 + 1;
        let countable = u64::from(kind == RecordKind::CONTENT);
        let count = log.last().map_or(0, |entry| entry.count) + countable;
        let hash = countable * (print_of(session, seq) ^ 0xabcd);
        let message_id = print_of(session, seq) | 1 << 60;
        let users = match &act {
            Act::Content => Vec::new(),
            Act::Create(users) | Act::Add(users) | Act::Remove(users) => users.clone(),
        };
        log.push(Entry {
            seq,
            message_id,
            time_ms: self.now / 1000,
            count,
            sender: Some(user),
            device: Some(device),
            epoch: 1,
            client_seq,
            kind: kind.0,
            hash,
            users,
            print: print_of(session, seq),
        });
        let outcome = Outcome::Acked { seq, message_id, count };
        let (invoke, done) = (self.now, self.now + STEP / 2);
        let send = Send { device, epoch: 1, session, client_seq, hash, act, invoke, done, outcome };
        self.history.sends.push(send);
        self.push(device, session, seq);
    }

    fn push(&mut self, from: DeviceIx, session: SessionIx, seq: u64) {
        for at in 0..self.history.streams.len() {
            let device = self.history.streams[at].device;
            let user = self.user(device);
            let member = match session {
                PAIR => user.0 < 2,
                _ => user.0 < 2 || self.logs[1].iter().any(|entry| entry.users.contains(&user)),
            };
            if !member {
                continue;
            }
            let events = &mut self.history.streams[at].events;
            if !events.iter().any(|(_, on, _)| *on == session) {
                events.push((self.now, session, Seen::Live(seq)));
            }
            if device != from {
                events.push((self.now + 400, session, Seen::Push(seq, print_of(session, seq))));
            }
        }
    }

    fn read(&mut self, device: DeviceIx, session: SessionIx) {
        self.now += STEP;
        let log = &self.logs[session.0 as usize];
        let (seq, count) = (log.len() as u64, log.last().unwrap().count);
        let (invoke, done) = (self.now, self.now + STEP / 2);
        self.history.marks.push(Mark {
            device,
            session,
            seq,
            invoke,
            done,
            answer: Some((seq, count)),
            refused: false,
        });
    }

    fn pull(&mut self, device: DeviceIx, session: SessionIx) {
        self.now += STEP;
        let last_seq = self.logs[session.0 as usize].len() as u64;
        let from = last_seq.saturating_sub(9).max(1);
        self.history.pages.push(Page {
            device,
            session,
            from,
            backward: false,
            max: 100,
            fresh: Fresh::Linear,
            invoke: self.now,
            done: self.now + STEP / 2,
            first_seq: 1,
            last_seq,
            records: (from..=last_seq).map(|seq| (seq, print_of(session, seq))).collect(),
        });
    }

    /// Ann's list; she has read to where her last READ says and has sent until the last of her own messages.
    fn sync(&mut self) {
        self.now += STEP;
        let (invoke, done) = (self.now, self.now + STEP / 2);
        let line = |session: SessionIx| {
            let log = &self.logs[session.0 as usize];
            let last = log.last().unwrap();
            let marks =
                self.history.marks.iter().filter(|mark| mark.session == session && mark.device == ANN1);
            let read_seq = marks.map(|mark| mark.seq).max().unwrap_or(0);
            let own =
                log.iter().rev().find(|entry| entry.sender == Some(UserIx(0))).map_or(0, |entry| entry.seq);
            let floor = read_seq.max(own);
            Line {
                session,
                members: if session == PAIR { 2 } else { 3 },
                last_seq: last.seq,
                count: last.count,
                unread: last.count - log[floor as usize - 1].count,
                joined_seq: 1,
                read_seq,
                delivered_seq: 0,
                last_client_seq: self.numbers.get(&(ANN1, session)).copied().unwrap_or(0),
                invoke,
                done,
            }
        };
        let lines = vec![line(PAIR), line(GROUP)];
        self.history.syncs.push(Sync {
            device: ANN1,
            epoch: 1,
            invoke,
            done,
            lines,
            unresolved: vec![],
            total: 2,
        });
    }

    fn finish(mut self) -> History {
        let middle = &self.history.sends[self.history.sends.len() / 2];
        let fault_at = middle.invoke + 10;
        self.history.retries.push(Retry {
            device: middle.device,
            epoch: 1,
            session: middle.session,
            client_seq: middle.client_seq,
            node: 2,
            at: middle.done + 1,
            outcome: middle.outcome,
        });
        let ended = self.now + STEP;
        let (begun, healed) = (0, fault_at + 700);
        self.history.rounds.push(Round {
            number: 1,
            fault: FaultKind::Kill,
            nodes: vec![1],
            begun,
            fault_at,
            healed,
            ended,
            snapshots: 0,
        });
        for (at, log) in self.logs.iter().enumerate() {
            for node in 1..=3 {
                let session = SessionIx(at as u32);
                self.history.dumps.push(Dump { node, session, entries: log.clone() });
            }
        }
        let handed = self.logs.iter().enumerate().flat_map(|(at, log)| {
            let session = SessionIx(at as u32);
            (1..=log.len() as u64).map(move |seq| (session, seq, print_of(session, seq)))
        });
        self.history.handed.push(Handed { device: BOB, records: handed.collect() });
        self.history
    }
}

pub(super) fn good() -> History {
    let mut play = Play::new();
    play.send(ANN1, GROUP, Act::Create(vec![UserIx(1)]));
    for turn in 0..1_100u64 {
        let session = if turn % 3 == 0 { PAIR } else { GROUP };
        let device = [ANN1, BOB, ANN2][(turn % 5 % 3) as usize];
        play.send(device, session, Act::Content);
        match turn % 100 {
            20 => play.read(ANN1, session),
            40 => play.pull(BOB, session),
            60 if turn > 100 => play.sync(),
            70 if turn < 100 => play.send(ANN2, GROUP, Act::Add(vec![UserIx(2)])),
            _ => {}
        }
    }
    play.finish()
}

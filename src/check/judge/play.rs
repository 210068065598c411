//! A run in which everything goes well, made by construction: what the judge's tests start from.

use rookery_wire::{DeviceId, ErrorCode, GroupId, RecordKind, Rewritten, SessionId, UserId};

use super::book::{born_as, kind_of};
use crate::check::history::{
    Act, Asking, Bar, DeviceIx, Dump, Entry, FaultKind, Fresh, Handed, History, Keyed, Line, Mark, Micros,
    Outcome, Page, Retry, Roster, Round, Seen, Send, SessionIx, Setup, Stream, Sync, Told, UserIx,
};
use crate::check::print::{Parts, content_hash, mark_hash};

pub(super) const PAIR: SessionIx = SessionIx(0);
pub(super) const GROUP: SessionIx = SessionIx(1);
/// Two devices of ann, one of bob, one of cid; cid joins the group late.
pub(super) const ANN1: DeviceIx = DeviceIx(0);
pub(super) const ANN2: DeviceIx = DeviceIx(1);
pub(super) const BOB: DeviceIx = DeviceIx(2);
pub(super) const CID: DeviceIx = DeviceIx(3);
pub(super) const STEP: Micros = 1_000;

/// What never changes in a record, as a hash.
fn stem_of(session: SessionIx, seq: u64) -> u64 {
    u64::from(session.0) << 32 | seq
}

/// The hash of what a message says when it is sent.
fn said(session: SessionIx, seq: u64) -> u64 {
    stem_of(session, seq) ^ 0xabcd
}

/// The hash of a message as it was sent.
pub(super) fn print_of(session: SessionIx, seq: u64) -> u64 {
    Parts { stem: stem_of(session, seq), kind: 0, hash: said(session, seq), mark: 0 }.print()
}

fn whole(entry: &Entry) -> u64 {
    Parts { stem: entry.stem, kind: entry.kind, hash: entry.hash, mark: entry.mark }.print()
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
            setup: Setup { seed: 7, nodes: vec![1, 2, 3], replication: 3, ..Setup::default() },
            ..History::default()
        };
        let users: Vec<UserId> =
            ["ann", "bob", "cid", "backend"].iter().map(|name| UserId::new(name).unwrap()).collect();
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
            history.streams.push(Stream {
                device,
                node,
                opened: 0,
                closed: None,
                events: Vec::new(),
                deadline_ms: 10_000,
                owing: Vec::new(),
            });
        }
        Self { history, now: 0, logs: [Vec::new(), Vec::new()], numbers: Default::default() }
    }

    fn user(&self, device: DeviceIx) -> UserIx {
        self.history.user_of(device).unwrap()
    }

    pub(super) fn send(&mut self, device: DeviceIx, session: SessionIx, act: Act) -> u64 {
        self.now += STEP;
        let number = self.numbers.entry((device, session)).or_default();
        *number += 1;
        let client_seq = *number;
        let (user, kind) = (self.user(device), kind_of(&act));
        let log = &mut self.logs[session.0 as usize];
        let seq = log.len() as u64 + 1;
        let countable = u64::from(kind == RecordKind::CONTENT);
        let count = log.last().map_or(0, |entry| entry.count) + countable;
        let hash = if countable == 1 || matches!(act, Act::Edit(_)) { said(session, seq) } else { 0 };
        let message_id = stem_of(session, seq) | 1 << 60;
        let users = match &act {
            Act::Content | Act::Keep(_) | Act::Recall(_) | Act::Edit(_) => Vec::new(),
            Act::Create(users) | Act::Add(users) | Act::Remove(users) => users.clone(),
        };
        let target = match act {
            Act::Recall(target) | Act::Edit(target) => Some(target),
            _ => None,
        };
        let mut entry = Entry {
            seq,
            message_id,
            time_ms: self.now / 1000,
            count,
            sender: Some(user),
            device: Some(device),
            epoch: 1,
            client_seq,
            kind: kind.0,
            hash: countable * hash,
            users,
            target,
            lasts_ms: 0,
            stem: stem_of(session, seq),
            mark: 0,
            print: 0,
        };
        entry.print = whole(&entry);
        log.push(entry);
        if let Some(target) = target {
            self.rewrite(session, target, seq, hash);
        }
        let outcome = Outcome::Acked { seq, message_id, count };
        let (invoke, done) = (self.now, self.now + STEP / 2);
        let send =
            Send { device, epoch: 1, session, client_seq, hash, lasts_ms: 0, act, invoke, done, outcome };
        self.history.sends.push(send);
        self.push(device, session, seq);
        seq
    }

    /// What the signal at `seq` makes of the message it names, which says the content of this hash if it was edited.
    fn rewrite(&mut self, session: SessionIx, target: u64, seq: u64, hash: u64) {
        let log = &mut self.logs[session.0 as usize];
        let signal = log[seq as usize - 1].clone();
        let by = self.history.names.users[signal.sender.unwrap().0 as usize].clone();
        let entry = &mut log[target as usize - 1];
        entry.mark = mark_hash(&Rewritten { by, time_ms: signal.time_ms, seq });
        if signal.kind == RecordKind::RECALL.0 {
            (entry.kind, entry.hash) = (RecordKind::RECALLED.0, content_hash(b"", b"", &[]));
        } else {
            entry.hash = hash;
        }
        entry.print = whole(entry);
    }

    /// A message that is refused by the other user.
    fn refused(&mut self, device: DeviceIx, session: SessionIx) {
        self.now += STEP;
        let number = self.numbers.entry((device, session)).or_default();
        *number += 1;
        self.history.sends.push(Send {
            device,
            epoch: 1,
            session,
            client_seq: *number,
            hash: 1,
            lasts_ms: 0,
            act: Act::Content,
            invoke: self.now,
            done: self.now + STEP / 2,
            outcome: Outcome::Refused(ErrorCode::RefusedByPeer.number()),
        });
    }

    /// The backend says something as the system; asked for twice.
    fn keyed(&mut self, session: SessionIx) {
        self.now += STEP;
        let log = &mut self.logs[session.0 as usize];
        let (seq, count) = (log.len() as u64 + 1, log.last().map_or(0, |entry| entry.count) + 1);
        let (stem, hash, message_id) =
            (stem_of(session, seq), said(session, seq), stem_of(session, seq) | 1 << 60);
        let mut entry = Entry {
            seq,
            message_id,
            time_ms: self.now / 1000,
            count,
            sender: Some(UserIx(3)),
            device: None,
            epoch: 0,
            client_seq: 0,
            kind: RecordKind::CONTENT.0,
            hash,
            users: Vec::new(),
            target: None,
            lasts_ms: 0,
            stem,
            mark: 0,
            print: 0,
        };
        entry.print = whole(&entry);
        log.push(entry);
        let outcome = Outcome::Acked { seq, message_id, count };
        let asking = |node, invoke| Asking { node, invoke, done: invoke + STEP / 2, audit: 7, outcome };
        let asked = vec![asking(1, self.now), asking(2, self.now + STEP)];
        self.history.keyed.push(Keyed { key: 0, session, name: None, hash, asked });
        self.history.audit.push((7, 0));
        self.push(DeviceIx(u32::MAX), session, seq);
    }

    fn bar(&mut self, device: DeviceIx, other: UserIx, on: bool) {
        self.now += STEP;
        let (invoke, done) = (self.now, self.now + STEP / 2);
        let number = self.history.bars.len() as u64 + 1;
        self.history.bars.push(Bar { device, number, other, on, invoke, done, answer: Told::Acked });
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
                let print = self.logs[session.0 as usize][seq as usize - 1].print;
                events.push((self.now + 400, session, Seen::Push(seq, print)));
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
        let user = self.user(device);
        for at in 0..self.history.streams.len() {
            if self.user(self.history.streams[at].device) == user {
                self.history.streams[at].events.push((self.now + 400, session, Seen::Mark(seq)));
            }
        }
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
            records: self.logs[session.0 as usize][from as usize - 1..]
                .iter()
                .map(|entry| (entry.seq, entry.print))
                .collect(),
        });
    }

    /// Ann's list; she has read to where her last READ says and has sent until the last of her own messages.
    fn sync(&mut self, device: DeviceIx) {
        self.now += STEP;
        let (invoke, done) = (self.now, self.now + STEP / 2);
        let line = |session: SessionIx| {
            let log = &self.logs[session.0 as usize];
            let last = log.last().unwrap();
            let marks =
                self.history.marks.iter().filter(|mark| mark.session == session && mark.device == ANN1);
            let read_seq = marks.map(|mark| mark.seq).max().unwrap_or(0);
            let mine = |entry: &&Entry| entry.sender == Some(UserIx(0)) && born_as(entry.kind).is_countable();
            let own = log.iter().rev().find(mine).map_or(0, |entry| entry.seq);
            let floor = read_seq.max(own);
            let gone = |entry: &&Entry| entry.seq > floor && entry.kind == RecordKind::RECALLED.0;
            let gone = log.iter().filter(gone).count() as u64;
            Line {
                session,
                members: if session == PAIR { 2 } else { 3 },
                first_seq: 1,
                last_seq: last.seq,
                count: last.count,
                unread: last.count - log[floor as usize - 1].count - gone,
                joined_seq: 1,
                read_seq,
                delivered_seq: 0,
                last_client_seq: self.numbers.get(&(device, session)).copied().unwrap_or(0),
                last: Some((last.seq, last.kind)),
                carried: false,
                invoke,
                done,
            }
        };
        let lines = vec![line(PAIR), line(GROUP)];
        self.history.syncs.push(Sync {
            device,
            epoch: 1,
            invoke,
            done,
            lines,
            unresolved: vec![],
            total: 2,
            since: false,
        });
    }

    /// What is taken back, changed, blocked and read.
    fn changes(&mut self) {
        self.sync(ANN2);
        self.send(ANN1, GROUP, Act::Keep(10_000));
        self.keyed(GROUP);
        let hers = self.send(ANN1, PAIR, Act::Content);
        self.pull(BOB, PAIR);
        self.send(ANN1, PAIR, Act::Edit(hers));
        self.pull(BOB, PAIR);
        self.send(ANN2, PAIR, Act::Recall(hers));
        self.pull(BOB, PAIR);
        // The owner takes back what another has said.
        let his = self.send(BOB, GROUP, Act::Content);
        self.send(BOB, GROUP, Act::Content);
        self.send(ANN2, GROUP, Act::Recall(his));
        self.sync(ANN1);
        self.bar(ANN1, UserIx(1), true);
        self.refused(BOB, PAIR);
        // She may still write to him.
        self.send(ANN1, PAIR, Act::Content);
        self.bar(ANN2, UserIx(1), false);
        self.send(BOB, PAIR, Act::Content);
        self.read(ANN1, PAIR);
        self.sync(ANN2);
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
                self.history.dumps.push(Dump { node, session, at: 0, entries: log.clone() });
            }
        }
        let handed = self.logs.iter().enumerate().flat_map(|(at, log)| {
            let session = SessionIx(at as u32);
            log.iter().map(move |entry| (session, entry.seq, entry.print))
        });
        for node in 1..=3 {
            let users = (0..3).map(UserIx).collect();
            self.history.rosters.push(Roster { node, session: GROUP, users, total: 3 });
        }
        self.history.handed.push(Handed { device: BOB, records: handed.collect() });
        self.history
    }
}

pub(super) fn good() -> History {
    good_and(|_| {})
}

/// A good history that ends in a way of its own.
pub(super) fn good_and(last: impl FnOnce(&mut Play)) -> History {
    let mut play = Play::new();
    let _created = play.send(ANN1, GROUP, Act::Create(vec![UserIx(1)]));
    for turn in 0..1_100u64 {
        let session = if turn % 3 == 0 { PAIR } else { GROUP };
        let device = [ANN1, BOB, ANN2][(turn % 5 % 3) as usize];
        let _seq = play.send(device, session, Act::Content);
        match turn % 100 {
            20 => play.read(ANN1, session),
            40 => play.pull(BOB, session),
            60 if turn > 100 => play.sync(ANN1),
            70 if turn < 100 => {
                let _added = play.send(ANN2, GROUP, Act::Add(vec![UserIx(2)]));
            }
            _ => {}
        }
    }
    play.changes();
    last(&mut play);
    play.finish()
}

//! A server that is broken, or repeats what a broken device once told it: whatever it says, the client neither panics nor goes
//! deaf. Numbers overflow as panics here, for tests are built with checks.

use rookery_wire::reply::{Joined, ReadMark};

use super::*;

/// Seqs and numbers nobody has, and some that could be.
fn any_number(random: &mut StdRng) -> u64 {
    match random.random_range(0..4) {
        0 => u64::MAX - random.random_range(0..3),
        1 => 1 << random.random_range(0..64),
        2 => random.random(),
        _ => random.random_range(0..12),
    }
}

fn summary(session: SessionId, last_seq: u64, delivered_seq: u64) -> Summary {
    Summary {
        session,
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
        time_ms: 0,
        last: None,
        settings: rookery_wire::own::Settings::default(),
    }
}

fn any_summary(random: &mut StdRng) -> Summary {
    let session = sessions()[random.random_range(0..3)].clone();
    Summary {
        first_seq: any_number(random),
        last_seq: any_number(random),
        count: any_number(random),
        joined_seq: any_number(random),
        read_seq: any_number(random),
        last_client_seq: any_number(random),
        live_from: any_number(random),
        ..summary(session, 0, any_number(random))
    }
}

fn record(seq: u64) -> Record {
    Record {
        seq,
        message_id: seq,
        time_ms: seq,
        count: seq,
        sender: "bob".parse().unwrap(),
        device: "phone".parse().unwrap(),
        epoch: 1,
        client_seq: seq,
        kind: RecordKind::CONTENT,
        content_type: Blob::default(),
        content: Blob::default(),
        extensions: Vec::new(),
    }
}

fn list(sessions: Vec<Summary>) -> SyncPage {
    SyncPage {
        total: sessions.len() as u32,
        sessions,
        unresolved: vec![],
        next: Blob::default(),
        badge: None,
        left: vec![],
        mark: Blob::default(),
        full: true,
    }
}

/// A client and what it has asked.
struct Prey {
    engine: Engine,
    random: StdRng,
    asked: Vec<Frame>,
    now: Millis,
    handled: u64,
    window: Arc<Semaphore>,
    answers: Vec<Answer>,
}

impl Prey {
    fn new(seed: u64) -> Self {
        let (random, window) = (StdRng::seed_from_u64(seed), Arc::new(Semaphore::new(32)));
        let engine = Engine::new(settings(), 0, 1);
        Self { engine, random, asked: Vec::new(), now: 0, handled: 0, window, answers: Vec::new() }
    }

    /// Hears one frame; hangs up if that is what it makes of it.
    fn hear<T: bincode::Encode>(&mut self, kind: Kind, id: u32, body: &T) {
        let bytes = frame_bytes(kind, id, body);
        let frame = Decoder::new(1 << 20).next(&mut BytesMut::from(bytes.as_ref())).unwrap().unwrap();
        if self.engine.frame(self.now, &frame).is_err() {
            self.hang_up();
        }
        self.turn();
    }

    fn hang_up(&mut self) {
        self.engine.disconnected(self.now, "enough of that");
        self.asked.clear();
    }

    fn turn(&mut self) {
        self.now += 25;
        if self.engine.phase() == Phase::Down {
            self.engine.connected(self.now);
        }
        while self.engine.ready.pop_front().is_some() {
            self.handled += 1;
            self.engine.resume(self.now);
        }
        if self.engine.tick(self.now, self.handled).is_err() {
            self.hang_up();
        }
        self.engine.pump(self.now);
        let mut out: BytesMut = self.engine.out.split();
        while let Some(frame) = Decoder::new(1 << 20).next(&mut out).unwrap() {
            self.asked.push(frame);
        }
    }

    fn submit(&mut self) {
        let Ok(permit) = Arc::clone(&self.window).try_acquire_owned() else { return };
        let (reply, answer) = oneshot::channel();
        let content = Bytes::from_static(b"hello");
        let op = Op::Send { content_type: Bytes::new(), content, extensions: Vec::new(), on_behalf_of: None };
        let session = sessions()[self.random.random_range(0..3)].clone();
        self.engine.submit(self.now, &session, op, reply, permit);
        self.answers.push(answer);
    }

    /// Something to one of its questions, if there is any.
    fn answer(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.asked.len());
        let frame = self.asked.swap_remove(at);
        let (id, random) = (frame.request_id, &mut self.random);
        match Kind::from_number(frame.kind).unwrap() {
            Kind::Hello => {
                let deadline_ms = any_number(random) as u32;
                let last_number = any_number(random);
                self.hear(Kind::Welcome, id, &Welcome { deadline_ms, last_number, ..welcome(0) });
            }
            Kind::Sync => {
                let lines = (0..random.random_range(0..4)).map(|_| any_summary(random)).collect();
                self.hear(Kind::SyncPage, id, &list(lines));
            }
            Kind::Pull => {
                let pull: Pull = decode(&frame.body).unwrap();
                let from = if random.random_bool(0.5) { pull.from_seq } else { any_number(random) };
                let seqs = (0..random.random_range(0..4)).map(|n| from.wrapping_add(n));
                let records = seqs.map(record).collect();
                let (first_seq, last_seq) = (any_number(random), any_number(random));
                self.hear(Kind::Page, id, &Page { session: pull.session, first_seq, last_seq, records });
            }
            Kind::Send if random.random_bool(0.5) => {
                let send: Send = decode(&frame.body).unwrap();
                let (seq, client_seq) = (any_number(random), send.client_seq);
                let ack = Ack { session: send.session, client_seq, seq, message_id: 1, time_ms: 1, count: 1 };
                self.hear(Kind::Ack, id, &ack);
            }
            Kind::Ping => self.hear(Kind::Pong, id, &()),
            Kind::Delivered => {}
            _ => {
                let codes = [ErrorCode::ClientSeqGap, ErrorCode::Busy, ErrorCode::BadRequest];
                let code = codes[random.random_range(0..3)];
                let body = ErrorBody::new(code, "").with_detail(any_number(random));
                self.hear(Kind::Error, id, &body);
            }
        }
    }

    fn push(&mut self) {
        let random = &mut self.random;
        let (session, number) = (sessions()[random.random_range(0..3)].clone(), any_number(random));
        match random.random_range(0..4) {
            0 => self.hear(Kind::Message, 0, &Message { session, record: record(number) }),
            1 => self.hear(Kind::Joined, 0, &Joined { session, live_from: number }),
            2 => self.hear(Kind::Lagged, 0, &Lagged { sessions: vec![(session, number)] }),
            _ => self.hear(Kind::ReadMark, 0, &ReadMark { session, seq: number, count: number }),
        }
    }
}

#[test]
fn no_number_that_a_server_says_makes_it_panic() {
    for seed in 0..300 {
        println!("seed {seed}");
        let mut prey = Prey::new(seed);
        prey.turn();
        for _ in 0..200 {
            match prey.random.random_range(0..8) {
                0 => prey.submit(),
                1 | 2 => prey.push(),
                3 => prey.turn(),
                _ => prey.answer(),
            }
        }
        let snapshot = prey.engine.snapshot(true);
        assert!(snapshot.sessions.len() <= 3, "{snapshot:?}");
    }
}

/// A device of this name once said that it had everything there could ever be.
#[test]
fn a_delivered_cursor_beyond_the_end_is_the_end() {
    for (own_cursors, told, remembered) in
        [(false, u64::MAX, None), (false, 9, Some(u64::MAX)), (true, 0, Some(7))]
    {
        let session = sessions()[0].clone();
        let mut prey = Prey::new(1);
        prey.engine = Engine::new(Settings { own_cursors, ..settings() }, 0, 1);
        if let Some(cursor) = remembered {
            let memory = crate::memory::SessionMemory { cursor, last_client_seq: 0, listed: None };
            let sessions = BTreeMap::from([(session.clone(), memory)]);
            prey.engine.remember(&crate::memory::Remembered { sessions, ..Default::default() });
        }
        prey.turn();
        prey.hear(Kind::Welcome, prey.asked[0].request_id, &welcome(10_000));
        let sync = prey.asked.iter().find(|frame| frame.kind == Kind::Sync as u8).unwrap().request_id;
        prey.hear(Kind::SyncPage, sync, &list(vec![summary(session.clone(), 5, told)]));
        let frame = frame_bytes(Kind::Message, 0, &Message { session: session.clone(), record: record(6) });
        let frame = Decoder::new(1 << 20).next(&mut BytesMut::from(frame.as_ref())).unwrap().unwrap();
        prey.engine.frame(prey.now, &frame).unwrap();
        let event = prey.engine.ready.pop_front();
        assert!(matches!(event, Some(Event::Message { record, .. }) if record.seq == 6));
        // And it says no such thing itself.
        prey.handled += 1;
        (0..20).for_each(|_| prey.turn());
        let said = prey.asked.iter().filter(|frame| frame.kind == Kind::Delivered as u8);
        let said: Vec<rookery_wire::request::Delivered> =
            said.map(|frame| decode(&frame.body).unwrap()).collect();
        let cursors: Vec<_> = said.iter().flat_map(|delivered| &delivered.cursors).collect();
        assert_eq!(cursors, [&(session.clone(), 6)]);
    }
}

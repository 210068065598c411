//! The driver task: all the IO of one client, and the clock. It decides nothing: what to write, what to tell and
//! when to give a connection up, the engine says.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::{Decoder, SessionId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::command::Command;
use crate::connector::{BoxFuture, BoxedStream};
use crate::engine::{Broken, Engine, Millis, Next, Phase, Settings};
use crate::error::ClientError;
use crate::event::Event;
use crate::memory::{MemoryFile, Remembered, SessionMemory};
use crate::options::{Memory, Options};
use crate::saver::Saver;
use crate::shared::Shared;
use crate::stream::{Io, Wire};

/// Events that may wait in the engine beside those in the application's queue.
const ROOM: usize = 256;
/// Far away: when nothing is due.
const FAR: Duration = Duration::from_secs(3600);
/// A connection that lasted so long was a good one: the next is made at once.
const PROVEN: Duration = Duration::from_secs(1);
/// How long the last words (DELIVERED) may take when the client ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

type First = oneshot::Sender<Result<(), ClientError>>;

struct Driver {
    options: Options,
    shared: Arc<Shared>,
    engine: Engine,
    saver: Option<Saver>,
    commands: mpsc::Receiver<Command>,
    /// All handles are gone.
    orphaned: bool,
    events: mpsc::Sender<Event>,
    deaf: bool,
    began: Instant,
    random: StdRng,
    /// Attempts since a connection last proved itself.
    attempts: u32,
    /// The next seed.
    seed: usize,
    addr: String,
    /// Since when the connection has been of use.
    up_since: Option<Instant>,
    first: Option<First>,
    closing: Option<oneshot::Sender<()>>,
}

/// Where the connection is.
enum Line {
    Pause(Instant),
    Dial(BoxFuture<'static, io::Result<BoxedStream>>),
    Open(Wire),
}

/// What woke the driver.
enum Wake {
    Command(Option<Command>),
    Dialed(io::Result<BoxedStream>),
    Io(Io),
    Room,
    Deaf,
    Time,
    Saved(Result<(), ClientError>),
}

/// Starts the task and waits until the first connection has read the session list.
pub(crate) async fn start(
    options: Options,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
) -> Result<(), ClientError> {
    let mut random = match options.random_seed {
        Some(seed) => StdRng::seed_from_u64(seed),
        None => StdRng::from_os_rng(),
    };
    let (remembered, saver) = open_memory(&options, random.random()).await?;
    let mut engine = Engine::new(settings(&options), remembered.epoch, remembered.nonce);
    engine.remember(&remembered);
    shared.remember_proofs(&remembered.proofs);
    shared.set_trouble("no node was reached");
    let deadline = options.request_deadline;
    let (first, ready) = oneshot::channel();
    let driver = Driver {
        options,
        shared: Arc::clone(&shared),
        engine,
        saver,
        commands,
        orphaned: false,
        events,
        deaf: false,
        began: Instant::now(),
        random,
        attempts: 0,
        seed: 0,
        addr: String::new(),
        up_since: None,
        first: Some(first),
        closing: None,
    };
    // The task ends by itself when the handles are gone, which is also what happens if this wait is given up.
    tokio::spawn(driver.run());
    match timeout(deadline, ready).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(shared.ended()),
        Err(_) => Err(ClientError::Deadline { what: "HELLO", written: false, last: shared.trouble() }),
    }
}

fn settings(options: &Options) -> Settings {
    let millis = |duration: Duration| Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX / 4);
    Settings {
        user: options.user.clone(),
        device: options.device.clone(),
        role: options.role,
        token: options.token.clone().unwrap_or_default(),
        agent: options.agent.clone(),
        platform: options.platform.clone(),
        start: options.start,
        own_cursors: matches!(options.memory, Memory::Cursors(_)),
        echo_own: options.echo_own,
        request_deadline: millis(options.request_deadline),
        hello_deadline: millis(options.connect_timeout),
        silence: millis(options.silence),
        room: options.event_queue.clamp(1, ROOM),
    }
}

/// What the application says that it is done with, as a file would say it whose run did not close.
fn had(cursors: &BTreeMap<SessionId, u64>) -> BTreeMap<SessionId, SessionMemory> {
    let memory = |cursor| SessionMemory { cursor, last_client_seq: 0, listed: None };
    cursors.iter().map(|(session, cursor)| (session.clone(), memory(*cursor))).collect()
}

/// Reads the memory and marks it as open, before anything is sent.
async fn open_memory(options: &Options, nonce: u64) -> Result<(Remembered, Option<Saver>), ClientError> {
    let fresh = Remembered { nonce, ..Remembered::default() };
    let path = match &options.memory {
        Memory::Volatile => return Ok((fresh, None)),
        Memory::Cursors(cursors) => return Ok((Remembered { sessions: had(cursors), ..fresh }, None)),
        Memory::File(path) => path,
    };
    let file = MemoryFile::new(path.clone(), options.user.clone(), options.device.clone());
    let mut saver = Saver::new(file.clone());
    let mut remembered = tokio::task::spawn_blocking(move || file.load())
        .await
        .map_err(|fault| ClientError::Closed(fault.to_string()))??;
    if !remembered.clean {
        (remembered.epoch, remembered.nonce) = (0, nonce);
    }
    saver.save_now(Remembered { clean: false, ..remembered.clone() }).await?;
    Ok((remembered, Some(saver)))
}

impl Driver {
    async fn run(mut self) {
        let mut line = Line::Pause(self.began);
        let timer = sleep_until(self.began + FAR);
        tokio::pin!(timer);
        let end = loop {
            if let Err(broken) = self.settle(&mut line) {
                match self.lose(broken) {
                    Ok(next) => line = next,
                    Err(error) => break error,
                }
                continue;
            }
            if self.closing.is_some() || (self.orphaned && self.deaf) {
                break ClientError::Closed("it was closed".to_owned());
            }
            let due = self.due(&line);
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            let wake = self.wait(&mut line, timer.as_mut()).await;
            match self.woken(wake, &mut line) {
                Ok(()) => {}
                Err(broken) => match self.lose(broken) {
                    Ok(next) => line = next,
                    Err(error) => break error,
                },
            }
        };
        self.finish(line, end).await;
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.began.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Waits for whatever comes first. Every branch can be dropped and taken up again.
    async fn wait(&mut self, line: &mut Line, timer: std::pin::Pin<&mut tokio::time::Sleep>) -> Wake {
        let may_read = self.engine.may_read();
        let out = &mut self.engine.out;
        let full = !self.engine.ready.is_empty();
        let connection = async {
            match line {
                Line::Pause(_) => std::future::pending().await,
                Line::Dial(dial) => Wake::Dialed(dial.await),
                Line::Open(wire) => Wake::Io(poll_fn(|context| wire.poll(context, out, may_read)).await),
            }
        };
        let saved = async {
            match self.saver.as_mut().filter(|saver| saver.is_busy()) {
                Some(saver) => Wake::Saved(saver.done().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            wake = connection => wake,
            command = self.commands.recv(), if !self.orphaned => Wake::Command(command),
            _ = self.events.reserve(), if full && !self.deaf => Wake::Room,
            () = self.events.closed(), if !self.deaf => Wake::Deaf,
            saved = saved => saved,
            () = timer => Wake::Time,
        }
    }

    fn woken(&mut self, wake: Wake, line: &mut Line) -> Result<(), Broken> {
        match wake {
            Wake::Command(Some(command)) => self.command(command),
            Wake::Command(None) => self.orphaned = true,
            Wake::Dialed(Ok(stream)) => {
                self.engine.connected(self.now());
                *line = Line::Open(Wire::new(stream));
            }
            Wake::Dialed(Err(error)) => {
                return Err(Broken::reconnect(format!("{}: {error}", self.addr), 0));
            }
            Wake::Io(Io::Read | Io::Wrote) | Wake::Room => {}
            Wake::Io(Io::End(reason)) => return Err(Broken::reconnect(reason, 0)),
            Wake::Deaf => {
                self.deaf = true;
                self.engine.deafen();
            }
            Wake::Saved(result) => self.saved(result),
            Wake::Time => {
                if matches!(line, Line::Pause(until) if *until <= Instant::now()) {
                    *line = self.dial();
                }
            }
        }
        Ok(())
    }

    /// Everything that can be done without waiting.
    fn settle(&mut self, line: &mut Line) -> Result<(), Broken> {
        while let Ok(command) = self.commands.try_recv() {
            self.command(command);
        }
        let now = self.now();
        if now >= self.engine.due() {
            let handled = self.shared.handled.load(Ordering::Acquire);
            self.engine.tick(now, handled)?;
        }
        if let Line::Open(wire) = line {
            let result = self.take_frames(wire, now);
            self.engine.pump(now);
            // Before the events, so that whoever takes one sees counters that include it.
            self.publish();
            self.give_events(now);
            self.milestones();
            result?;
        } else {
            self.give_events(now);
        }
        self.save_if_due();
        Ok(())
    }

    fn take_frames(&mut self, wire: &mut Wire, now: Millis) -> Result<(), Broken> {
        loop {
            if !self.engine.may_read() {
                self.give_events(now);
                if !self.engine.may_read() {
                    self.engine.excuse_silence(now);
                    return Ok(());
                }
            }
            let decoder = Decoder::new(self.engine.max_frame());
            match decoder.next(&mut wire.input) {
                Ok(Some(frame)) => self.engine.frame(now, &frame)?,
                Ok(None) => return Ok(()),
                Err(fault) => return Err(Broken::protocol(fault)),
            }
        }
    }

    /// Moves events into the application's queue as far as it has room.
    fn give_events(&mut self, now: Millis) {
        loop {
            while let Some(mut event) = self.engine.ready.pop_front() {
                if let Event::Connected { addr, .. } = &mut event {
                    addr.clone_from(&self.addr);
                }
                match self.events.try_send(event) {
                    Ok(()) => {}
                    Err(mpsc::error::TrySendError::Full(event)) => {
                        self.engine.ready.push_front(event);
                        return;
                    }
                    // The queue is gone; the wait notices and says so to the engine.
                    Err(mpsc::error::TrySendError::Closed(_)) => {}
                }
            }
            self.engine.resume(now);
            if self.engine.ready.is_empty() {
                return;
            }
        }
    }

    fn command(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Numbered { session, op, reply, permit } => {
                self.engine.submit(now, &session, op, reply, permit);
            }
            Command::Ask { question, reply, permit } => self.engine.ask(now, question, reply, permit),
            Command::Close { done } => self.closing = Some(done),
        }
    }

    /// What others wait for or look at.
    fn milestones(&mut self) {
        if self.engine.phase() == Phase::Up && self.up_since.is_none() {
            self.up_since = Some(Instant::now());
        }
        if self.engine.synced()
            && let Some(first) = self.first.take()
        {
            let _ = first.send(Ok(()));
        }
    }

    fn publish(&self) {
        let node = self.engine.node().map_or(0, |node| u32::from(node) + 1);
        self.shared.node.store(node, Ordering::Relaxed);
        self.shared.epoch.store(self.engine.epoch(), Ordering::Relaxed);
        self.shared.content_limit.store(self.engine.content_limit(), Ordering::Relaxed);
        self.shared.publish(&self.engine.stats);
    }

    /// The connection (or the attempt) is over. What is next, or why the client ends.
    fn lose(&mut self, broken: Broken) -> Result<Line, ClientError> {
        let now = self.now();
        tracing::debug!(addr = self.addr, reason = broken.reason, "connection lost");
        self.engine.disconnected(now, &broken.reason);
        self.shared.set_trouble(&broken.reason);
        if let Some(since) = self.up_since.take() {
            self.engine.stats.reconnects += 1;
            if since.elapsed() >= PROVEN {
                self.attempts = 0;
            }
        }
        self.publish();
        let after = match broken.next {
            Next::Fatal(error) => return Err(error),
            Next::Register => {
                self.engine.register(self.random.random());
                0
            }
            Next::Reconnect { after } => after,
        };
        let pause = Duration::from_millis(after).max(self.pause());
        Ok(Line::Pause(Instant::now() + pause))
    }

    /// The first attempt after a good connection is made at once, on the next seed; then the pause doubles.
    fn pause(&mut self) -> Duration {
        let (least, most) = self.options.backoff;
        if self.attempts == 0 {
            return Duration::ZERO;
        }
        let doubled = least.saturating_mul(1 << (self.attempts - 1).min(16)).min(most);
        doubled.mul_f64(self.random.random_range(0.5..=1.0))
    }

    fn dial(&mut self) -> Line {
        let addr = self.options.seeds[self.seed % self.options.seeds.len()].clone();
        self.seed += 1;
        self.attempts = self.attempts.saturating_add(1);
        let dial = self.options.connector.connect(&addr);
        let limit = self.options.connect_timeout;
        self.addr = addr;
        Line::Dial(Box::pin(async move {
            match timeout(limit, dial).await {
                Ok(result) => result,
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time")),
            }
        }))
    }

    fn due(&self, line: &Line) -> Instant {
        let engine = self.began + Duration::from_millis(self.engine.due()).min(self.began.elapsed() + FAR);
        let saver = self.saver.as_ref().and_then(|saver| saver.due(self.changes()));
        let line = if let Line::Pause(until) = line { Some(*until) } else { None };
        [saver, line].into_iter().flatten().fold(engine, Instant::min)
    }

    /// Counts changes of what is saved.
    fn changes(&self) -> u64 {
        self.engine.changes + self.shared.proofs_made()
    }

    fn save_if_due(&mut self) {
        // Before the proofs are looked at: one that is made meanwhile is saved once more.
        let changes = self.changes();
        let Some(saver) = &mut self.saver else { return };
        if saver.due(changes).is_some_and(|due| due <= Instant::now()) {
            let proofs = self.shared.proofs();
            saver.begin(Remembered { proofs, ..self.engine.snapshot(false) }, changes);
        }
    }

    fn saved(&mut self, result: Result<(), ClientError>) {
        if let Err(error) = result {
            // The device goes on; after a restart it may be given some messages again.
            tracing::warn!(%error, "the client's memory could not be saved");
            self.engine.trouble = error.to_string();
        }
    }

    /// Tells everyone, says the last words, saves.
    async fn finish(mut self, line: Line, end: ClientError) {
        let _ = self.shared.end.set(match &end {
            ClientError::Closed(reason) => reason.clone(),
            other => other.to_string(),
        });
        let now = self.now();
        // What finds no room counts as not had: the next run is given it.
        self.give_events(now);
        self.engine.settle_handled(self.shared.handled.load(Ordering::Acquire));
        self.engine.report_delivered(now);
        if let Line::Open(mut wire) = line {
            let out = &mut self.engine.out;
            let _ = timeout(LAST_WORDS, wire.finish(out)).await;
        }
        if let Some(saver) = &mut self.saver {
            let proofs = self.shared.proofs();
            let snapshot = Remembered { proofs, ..self.engine.snapshot(true) };
            if let Err(error) = saver.save_now(snapshot).await {
                tracing::warn!(%error, "the client's memory could not be saved at its end");
            }
        }
        self.engine.end(&end);
        self.shared.node.store(0, Ordering::Relaxed);
        self.commands.close();
        if let Some(first) = self.first.take() {
            let _ = first.send(Err(end));
        }
        if let Some(done) = self.closing.take() {
            let _ = done.send(());
        }
    }
}

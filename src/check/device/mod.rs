//! One device under load: connects to any node, sends, reads, listens, changes nodes, repeats itself, and writes
//! down all of it.
//!
//! A device is one task that owns its connection and its records; nothing is shared but the [`Stage`]. It behaves
//! as a good client does (numbers in order, retries with the same number, gaps filled by pull), with two
//! exceptions made on purpose: it changes nodes without need, and then repeats sends that were answered long ago.

mod acts;
mod answers;
mod lane;
mod list;
mod owed;
mod own;
mod proof;
mod rewrite;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::request::{Hello, Role};
use rookery_wire::{Blob, Digest, ErrorCode, Kind};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use self::lane::Lane;
use self::list::{Asked, Kept};
use self::owed::Owed;
use self::own::Own;
use self::proof::Proofs;
use self::rewrite::Recent;
use self::view::View;
use super::history::{Bar, DeviceIx, Mark, Micros, Page, Retry, Seal, Seen, Send, SessionIx, Stream, Sync};
use super::link::{Link, LinkFault};
use super::stage::{Phase, Stage};

/// With answers outstanding, a node that says nothing for so long is asked PING …
const QUIET: Duration = Duration::from_millis(500);
/// … and left after this.
const SILENT: Duration = Duration::from_millis(1_000);
/// Shortest and longest pause between attempts to connect, milliseconds.
const PAUSE_MS: (u64, u64) = (10, 80);

/// What one device wrote down.
#[derive(Debug, Default)]
pub struct DeviceLog {
    /// Numbered requests.
    pub sends: Vec<Send>,
    /// Further attempts.
    pub retries: Vec<Retry>,
    /// Pages.
    pub pages: Vec<Page>,
    /// READs.
    pub marks: Vec<Mark>,
    /// Blocks and their ends.
    pub bars: Vec<Bar>,
    /// Session lists.
    pub syncs: Vec<Sync>,
    /// Digests.
    pub seals: Vec<Seal>,
    /// Pushes, by connection.
    pub streams: Vec<Stream>,
    /// Breaches of the protocol.
    pub faults: Vec<(Micros, DeviceIx, String)>,
}

/// What an answer will be the answer to.
enum Waiting {
    Send {
        session: SessionIx,
        client_seq: u64,
        retry: Option<usize>,
    },
    Pull {
        page: Page,
        why: Why,
    },
    /// With our own digest there, if we have everything up to it.
    Digest {
        session: SessionIx,
        seq: u64,
        mine: Option<Digest>,
    },
    Sync {
        page: Micros,
        list: Asked,
    },
    Read(usize),
    Bar {
        number: u64,
        again: Option<u64>,
    },
    Ping,
}

/// Why a page was pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// As anybody might.
    Look,
    /// Pushes skipped it.
    Fill,
    /// For the proof of a copy.
    Prove,
}

/// Why a connection ended.
enum End {
    Fault(LinkFault),
    /// We go elsewhere.
    Leave,
    /// The node says goodbye: elsewhere after so many milliseconds. What was under way there is repeated.
    Told(u32),
    /// The run is over for this device.
    Finished,
}

impl From<LinkFault> for End {
    fn from(fault: LinkFault) -> Self {
        End::Fault(fault)
    }
}

struct Connection {
    link: Link,
    node: u16,
    waiting: HashMap<u32, Owed>,
    /// For so long it was watched, and when that was reckoned last.
    watched: Duration,
    looked: Instant,
    heard: Instant,
    pinged: bool,
    syncing: bool,
    /// Sessions of which it is known here from where on pushes are whole.
    live: BTreeSet<SessionIx>,
    /// Sessions of which LEFT came, and no JOINED after it, while the list is being given.
    left: BTreeSet<SessionIx>,
    /// All is quiet: so often the list has been asked for once more.
    leaving: u8,
    stream: Stream,
}

/// One device of the load.
pub struct Device {
    stage: Arc<Stage>,
    me: DeviceIx,
    random: StdRng,
    epoch: u32,
    nonce: u64,
    lanes: BTreeMap<SessionIx, Lane>,
    views: BTreeMap<SessionIx, View>,
    joined: BTreeSet<SessionIx>,
    want_sync: bool,
    recent: Recent,
    own: Own,
    proofs: Proofs,
    list: Kept,
    log: DeviceLog,
}

impl Device {
    /// A device that has never connected.
    pub fn new(stage: Arc<Stage>, me: DeviceIx, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ (u64::from(me.0) << 40));
        Self {
            stage,
            me,
            epoch: 0,
            nonce: random.random(),
            random,
            lanes: BTreeMap::new(),
            views: BTreeMap::new(),
            joined: BTreeSet::new(),
            want_sync: false,
            recent: Recent::default(),
            own: Own::default(),
            proofs: Proofs::default(),
            list: Kept::default(),
            log: DeviceLog::default(),
        }
    }

    /// Takes part until the run ends, and returns what it wrote down.
    pub async fn run(mut self) -> DeviceLog {
        let mut phase = self.stage.phase();
        let mut last_node = 0;
        while !matches!(*phase.borrow(), Phase::End) {
            let fault = match self.connect(last_node).await {
                Ok(mut connection) => {
                    last_node = connection.node;
                    let end = self.converse(&mut connection, &mut phase).await;
                    let whole = matches!(end, End::Finished);
                    connection.stream.closed = (!whole).then(|| self.stage.now());
                    connection.stream.owing = self.owing(&connection);
                    self.log.streams.push(connection.stream);
                    self.lanes.values_mut().for_each(Lane::disconnected);
                    self.own.disconnected();
                    self.proofs.disconnected();
                    self.views.values_mut().for_each(|view| view.filling = false);
                    match end {
                        End::Finished => break,
                        End::Leave => continue,
                        End::Told(after_ms) => {
                            tokio::time::sleep(Duration::from_millis(after_ms.into())).await;
                            continue;
                        }
                        End::Fault(fault) => fault,
                    }
                }
                Err((node, fault)) => {
                    last_node = node;
                    fault
                }
            };
            self.breach(&fault);
            let pause = self.random.random_range(PAUSE_MS.0..=PAUSE_MS.1);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        self.log
    }

    /// Notes what no server may do.
    fn breach(&mut self, fault: &LinkFault) {
        let refused = match fault {
            LinkFault::Refused(body) => matches!(body.code, ErrorCode::BadEpoch | ErrorCode::BadFrame),
            other => other.is_protocol(),
        };
        if refused {
            self.log.faults.push((self.stage.now(), self.me, fault.to_string()));
        }
    }

    /// Connects to a node, another than the last if there is one.
    async fn connect(&mut self, last: u16) -> Result<Connection, (u16, LinkFault)> {
        let others: Vec<&(u16, String)> = self.stage.nodes.iter().filter(|(node, _)| *node != last).collect();
        let nodes = if others.is_empty() { self.stage.nodes.iter().collect() } else { others };
        let pick = self.random.random_range(0..nodes.len().max(1));
        let (Some((node, addr)), Some((user, device))) = (nodes.get(pick), self.stage.cast.hello_of(self.me))
        else {
            return Err((0, LinkFault::Closed));
        };
        let hello = Hello {
            min_version: rookery_wire::VERSION,
            max_version: rookery_wire::VERSION,
            user,
            device,
            epoch: self.epoch,
            nonce: self.nonce,
            role: Role::User,
            token: Blob::from(self.stage.token.as_str()),
            agent: Blob::from("rookery check"),
            platform: Blob::default(),
        };
        let (link, welcome) = Link::open(addr, &hello).await.map_err(|fault| (*node, fault))?;
        if self.epoch != 0 && welcome.epoch != self.epoch {
            let text = format!("WELCOME changed the epoch from {} to {}", self.epoch, welcome.epoch);
            self.log.faults.push((self.stage.now(), self.me, text));
        }
        if !self.own.can_be_last(welcome.last_number) {
            let text = format!(
                "WELCOME says {} is the last number of its own acts: {:?}",
                welcome.last_number, self.own
            );
            self.log.faults.push((self.stage.now(), self.me, text));
        }
        self.epoch = welcome.epoch;
        self.stage.heard_deadline(welcome.deadline_ms);
        let opened = self.stage.now();
        let stream = Stream {
            device: self.me,
            node: *node,
            opened,
            closed: Some(opened),
            events: Vec::new(),
            deadline_ms: welcome.deadline_ms,
            owing: Vec::new(),
        };
        Ok(Connection {
            link,
            node: *node,
            waiting: HashMap::new(),
            watched: Duration::ZERO,
            looked: Instant::now(),
            heard: Instant::now(),
            pinged: false,
            syncing: false,
            live: BTreeSet::new(),
            left: BTreeSet::new(),
            leaving: 0,
            stream,
        })
    }

    /// Everything that happens on one connection.
    async fn converse(&mut self, connection: &mut Connection, phase: &mut watch::Receiver<Phase>) -> End {
        self.ask_sync(connection);
        self.repeat_answered(connection);
        self.repeat_own(connection);
        self.ask_pending(connection);
        self.ask_own(connection);
        let mut tick = tokio::time::interval(self.stage.pace.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Err(fault) = connection.link.flush().await {
                return fault.into();
            }
            let step = tokio::select! {
                frame = connection.link.next() => match frame {
                    Ok(frame) => self.take_all(connection, frame),
                    Err(fault) => Err(fault.into()),
                },
                _ = tick.tick() => self.act(connection, phase),
                changed = phase.changed() => changed.map_err(|_| End::Finished),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Takes a frame and all that came with it.
    fn take_all(&mut self, connection: &mut Connection, first: rookery_wire::Frame) -> Result<(), End> {
        connection.heard = Instant::now();
        connection.pinged = false;
        let mut next = Some(first);
        while let Some(frame) = next {
            self.take(connection, &frame)?;
            next = connection.link.ready()?;
        }
        Ok(())
    }

    /// One tick: what the phase asks for.
    fn act(&mut self, connection: &mut Connection, phase: &watch::Receiver<Phase>) -> Result<(), End> {
        connection.watch(self.stage.pace.interval);
        self.watch_silence(connection)?;
        if self.want_sync && !connection.syncing {
            self.ask_sync(connection);
        }
        self.ask_pending(connection);
        self.ask_own(connection);
        self.fill(connection);
        self.prove(connection);
        let now = phase.borrow().clone();
        match now {
            Phase::Load => self.play(connection),
            Phase::Drain => Ok(()),
            Phase::Quiet(heads) if self.has_all(&heads) && self.is_answered(connection) => {
                self.leave_quietly(connection)
            }
            Phase::Quiet(_) => Ok(()),
            Phase::End => Err(End::Finished),
        }
    }

    /// Nothing moves any more: the list is asked for once more, which must then be just so, and that is all.
    fn leave_quietly(&mut self, connection: &mut Connection) -> Result<(), End> {
        if connection.syncing {
            return Ok(());
        }
        // Since the mark, since that one, by when nothing has changed, and the whole of it, which must say the same.
        match (connection.leaving, self.stage.parts.since) {
            (0 | 1, true) => self.ask_changes(connection),
            (0, false) | (2, true) => {
                self.list.remember();
                self.ask_whole(connection);
            }
            _ => return Err(End::Finished),
        }
        connection.leaving += 1;
        Ok(())
    }

    /// A node that owes answers and says nothing is asked whether it lives, and left if not.
    fn watch_silence(&mut self, connection: &mut Connection) -> Result<(), End> {
        let silent = connection.heard.elapsed();
        if connection.waiting.is_empty() || silent < QUIET {
            return Ok(());
        }
        if silent >= SILENT {
            return Err(LinkFault::Deadline("an answer").into());
        }
        if !connection.pinged {
            connection.pinged = true;
            let id = connection.link.ask_encoded(Kind::Ping, &bytes::Bytes::new());
            connection.expects(id, Waiting::Ping);
        }
        Ok(())
    }

    /// Whether this device has every message of every session it is in.
    fn has_all(&self, heads: &BTreeMap<SessionIx, u64>) -> bool {
        let complete = |session: &SessionIx| {
            let head = heads.get(session).copied().unwrap_or(0);
            self.views.get(session).is_some_and(|view| view.have >= head)
        };
        !self.want_sync && self.joined.iter().all(complete) && self.has_proved()
    }

    fn saw(&self, connection: &mut Connection, session: SessionIx, seen: Seen) {
        self.stage.note();
        connection.stream.events.push((self.stage.now(), session, seen));
    }
}

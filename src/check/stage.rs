//! What all parts of a run share: the clock, the cast, where the nodes are, and a few counters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::cast::Cast;
use super::history::{Micros, NEVER, Parts, SessionIx};

/// Things recorded in one run at most: beyond it no more is sent, so that memory stays bounded.
pub const MAX_EVENTS: u64 = 24_000_000;

/// Where a run stands.
#[derive(Clone, Debug)]
pub enum Phase {
    /// Devices send and read.
    Load,
    /// Devices send nothing new and bring in what is in flight.
    Drain,
    /// Nothing moves any more; devices wait until they have everything up to these seqs, then leave.
    Quiet(Arc<BTreeMap<SessionIx, u64>>),
    /// Devices leave at once.
    End,
}

/// How hard one device works.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Time between two acts.
    pub interval: Duration,
    /// Sends without an answer at most.
    pub window: usize,
    /// Smallest and largest content, bytes.
    pub content: (usize, usize),
}

/// What a run holds to.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Things recorded at most: once there are so many nothing new is sent.
    pub events: u64,
    /// How much later than promised something may come on a machine under load.
    pub grace: Duration,
    /// How long sends may stay without an answer once the cluster is whole; more where nodes go on trying for longer.
    pub drain: Duration,
}

/// Shared by everything in one run.
#[derive(Debug)]
pub struct Stage {
    /// Who takes part.
    pub cast: Arc<Cast>,
    /// Nodes with their client addresses.
    pub nodes: Vec<(u16, String)>,
    /// How hard devices work.
    pub pace: Pace,
    /// The token of every connection, where one is needed.
    pub token: String,
    /// What the load does beyond the plain acts.
    pub parts: Parts,
    /// How much may be recorded, and how late something may be.
    pub bounds: Bounds,
    proofs: AtomicU64,
    lasting: AtomicU64,
    began: Instant,
    acked: AtomicU64,
    begun: AtomicU64,
    ended: AtomicU64,
    own: AtomicU64,
    events: AtomicU64,
    full_at: AtomicU64,
    deadline_ms: AtomicU64,
    changed: AtomicU64,
    phase: watch::Sender<Phase>,
}

impl Stage {
    /// A stage whose clock starts now.
    pub fn new(
        cast: Arc<Cast>,
        nodes: Vec<(u16, String)>,
        pace: Pace,
        token: String,
        parts: Parts,
        bounds: Bounds,
    ) -> Self {
        Self {
            cast,
            nodes,
            pace,
            token,
            parts,
            bounds,
            proofs: AtomicU64::new(0),
            lasting: AtomicU64::new(0),
            began: Instant::now(),
            acked: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            own: AtomicU64::new(0),
            events: AtomicU64::new(0),
            full_at: AtomicU64::new(NEVER),
            deadline_ms: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            phase: watch::channel(Phase::Load).0,
        }
    }

    /// Microseconds since the run began.
    pub fn now(&self) -> Micros {
        self.began.elapsed().as_micros() as Micros
    }

    /// Where the run stands, and its changes.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Moves the run on.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Messages acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Sends and acts on users' own things without a final answer.
    pub fn waiting(&self) -> u64 {
        let ended = self.ended.load(Ordering::SeqCst);
        let own = self.own.load(Ordering::SeqCst);
        self.begun.load(Ordering::SeqCst).saturating_sub(ended) + own
    }

    /// How often devices were asked to prove their copies.
    pub fn proofs(&self) -> u64 {
        self.proofs.load(Ordering::SeqCst)
    }

    /// Asks them once more.
    pub fn ask_proofs(&self) {
        self.proofs.fetch_add(1, Ordering::SeqCst);
    }

    /// A message was answered that lasts until then at most.
    pub(super) fn lasts_until(&self, until: Micros) {
        self.lasting.fetch_max(until, Ordering::SeqCst);
    }

    /// When the last of the messages that last for a time only is to have gone.
    pub fn last_goes(&self) -> Micros {
        self.lasting.load(Ordering::SeqCst)
    }

    /// The time of now, if a send is in flight at it: one whose record says that it began before and ended after.
    pub fn loaded_now(&self) -> Option<Micros> {
        // A send is counted after its begin was written down, and counted out before its end is.
        let begun = self.begun.load(Ordering::SeqCst);
        let now = self.now();
        (begun > self.ended.load(Ordering::SeqCst)).then_some(now)
    }

    /// A node has told for how long it goes on trying a request, milliseconds.
    pub(super) fn heard_deadline(&self, deadline_ms: u32) {
        self.deadline_ms.fetch_max(deadline_ms.into(), Ordering::SeqCst);
    }

    /// The longest time for which any node goes on trying a request, as far as told.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.load(Ordering::SeqCst))
    }

    /// Whoever has waited so long for an answer, on a connection that is well, is owed it.
    pub fn patience(&self) -> Duration {
        self.deadline() + self.bounds.grace
    }

    /// A change of members was acknowledged at this time.
    pub(super) fn members_changed(&self, at: Micros) {
        self.changed.fetch_max(at, Ordering::SeqCst);
    }

    /// When the last change of members was acknowledged; 0 if none was.
    pub fn last_change(&self) -> Micros {
        self.changed.load(Ordering::SeqCst)
    }

    /// Counts one more recorded thing. What comes in is written down even if there are too many to go on sending: a history
    /// with holes would be judged as a cluster that has lost something.
    pub fn note(&self) {
        if self.events.fetch_add(1, Ordering::Relaxed) + 1 == self.bounds.events {
            self.full_at.store(self.now(), Ordering::SeqCst);
        }
    }

    /// Whether the run has recorded as much as it may, so that nothing new is to be sent.
    pub fn is_full(&self) -> bool {
        self.events.load(Ordering::Relaxed) >= self.bounds.events
    }

    /// When that was so first.
    pub fn full_at(&self) -> Option<Micros> {
        Some(self.full_at.load(Ordering::SeqCst)).filter(|at| *at != NEVER)
    }

    /// After its record has its begin.
    pub(super) fn begin_send(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    /// Before its record gets its end; `acked` says that it was a message, and acknowledged.
    pub(super) fn end_send(&self, acked: bool) {
        self.ended.fetch_add(1, Ordering::SeqCst);
        self.acked.fetch_add(u64::from(acked), Ordering::Relaxed);
    }

    /// One more act on a user's own things is under way.
    pub(super) fn begin_own(&self) {
        self.own.fetch_add(1, Ordering::SeqCst);
    }

    /// One of them was answered.
    pub(super) fn end_own(&self) {
        self.own.fetch_sub(1, Ordering::SeqCst);
    }
}

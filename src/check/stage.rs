//! What all parts of a run share: the clock, the cast, where the nodes are, and a few counters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::cast::Cast;
use super::history::{Micros, SessionIx};

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
    began: Instant,
    acked: AtomicU64,
    waiting: AtomicU64,
    events: AtomicU64,
    phase: watch::Sender<Phase>,
}

impl Stage {
    /// A stage whose clock starts now.
    pub fn new(cast: Arc<Cast>, nodes: Vec<(u16, String)>, pace: Pace, token: String) -> Self {
        Self {
            cast,
            nodes,
            pace,
            token,
            began: Instant::now(),
            acked: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            events: AtomicU64::new(0),
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

    /// Sends acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Sends without a final answer.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Counts one more recorded thing; false once there are too many to go on sending.
    pub fn note(&self) -> bool {
        self.events.fetch_add(1, Ordering::Relaxed) < MAX_EVENTS
    }

    /// Whether the run has recorded as much as it may.
    pub fn is_full(&self) -> bool {
        self.events.load(Ordering::Relaxed) >= MAX_EVENTS
    }

    pub(super) fn begin_send(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end_send(&self, acked: bool) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.acked.fetch_add(u64::from(acked), Ordering::Relaxed);
    }
}

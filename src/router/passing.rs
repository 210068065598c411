//! Things that pass: given to whoever is connected now, on every node, and kept by nobody.
//!
//! What is passed on this node goes to its own connections at once and to every other node in messages of whatever has
//! gathered. A link that is down or full costs the message and nothing else; that is what these things are worth.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::core::Core;
use super::peer::{self, Cast};
use crate::delivery::Passing;

/// Things that may wait for the links, and their bytes; beyond it the new ones are dropped.
const QUEUE: (usize, usize) = (16 << 10, 4 << 20);
/// Things in one message.
const MESSAGE: usize = 512;

/// What waits for the other nodes.
#[derive(Default)]
pub(super) struct Passings {
    queue: Mutex<(Vec<Passing>, usize)>,
    wake: Notify,
    dropped: AtomicU64,
}

impl Passings {
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn weight(passing: &Passing) -> usize {
    passing.frame.len() + 256
}

/// Passes something to all who are there.
pub(super) fn pass(core: &Core, passing: Passing) {
    core.delivery.pass(&passing);
    if core.peers.nodes().is_empty() {
        return;
    }
    {
        let mut queue = core.passings.queue.lock();
        let (waiting, bytes) = &mut *queue;
        if waiting.len() >= QUEUE.0 || *bytes + weight(&passing) > QUEUE.1 {
            core.passings.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        *bytes += weight(&passing);
        waiting.push(passing);
    }
    core.passings.wake.notify_one();
}

/// Sends what has gathered. Runs until the router stops.
pub(super) async fn run(core: std::sync::Arc<Core>) {
    loop {
        tokio::select! {
            () = core.cancel.cancelled() => return,
            () = core.passings.wake.notified() => {}
        }
        let (waiting, _) = std::mem::take(&mut *core.passings.queue.lock());
        for part in waiting.chunks(MESSAGE) {
            let size = part.iter().map(weight).sum();
            let message = peer::encode(&Cast::Passing { passing: part.to_vec() }, size);
            for node in core.peers.nodes() {
                if core.link(node).is_some() && core.peers.cast(node, message.clone()).is_err() {
                    core.passings.dropped.fetch_add(part.len() as u64, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Another node has passed something on.
pub(super) fn passed(core: &Core, passing: &[Passing]) {
    passing.iter().for_each(|passing| core.delivery.pass(passing));
}

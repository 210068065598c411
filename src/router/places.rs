//! Which device is connected where, between nodes: one that connects is announced to all, and whoever holds an older
//! connection of it lets that go.
//!
//! Nothing is remembered but up to which generation of each link all devices of this node were told: an announcement
//! that cannot be sent counts as a link that was not told, and a link that comes anew is told everything. So a node that
//! dies takes its places with it, and one that was cut off is put right when it is back.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::core::Core;
use super::peer::{self, Cast};
use super::seam::{Arrival, Places};

/// Devices in one message.
const MESSAGE: usize = 1000;
/// Pause between looks at the links, and before a full one is tried again.
const TICK: Duration = Duration::from_millis(100);

/// Who was told what.
#[derive(Default)]
pub(super) struct Greetings {
    places: OnceLock<Weak<dyn Places>>,
    /// By node, the generation of the link over which it knows all devices that are here.
    told: Mutex<HashMap<u16, u64>>,
}

impl Greetings {
    pub(super) fn set(&self, places: Weak<dyn Places>) {
        // A second gateway on one router would be a wiring error; the first stays.
        let _ = self.places.set(places);
    }

    pub(super) fn places(&self) -> Option<Arc<dyn Places>> {
        self.places.get()?.upgrade()
    }
}

fn cast(core: &Core, node: u16, arrivals: Vec<Arrival>) -> bool {
    let size = arrivals.len() * 96;
    core.peers.cast(node, peer::encode(&Cast::Arrivals { arrivals }, size)).is_ok()
}

/// A device has connected here.
pub(super) fn announce(core: &Core, arrival: Arrival) {
    for node in core.peers.nodes() {
        if core.link(node).is_some() && !cast(core, node, vec![arrival.clone()]) {
            core.greetings.told.lock().remove(&node);
        }
    }
}

/// Devices have connected to another node. Those that came here later are told to it.
pub(super) fn arrived(core: &Core, from: u16, arrivals: &[Arrival]) {
    let Some(places) = core.greetings.places() else { return };
    let later = places.taken(arrivals);
    if !later.is_empty() && !cast(core, from, later) {
        core.greetings.told.lock().remove(&from);
    }
}

/// Tells every link that is new all devices that are here. Runs until the router stops.
pub(super) async fn keep(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = core.cancel.cancelled() => return,
            () = tokio::time::sleep(TICK) => {}
        }
        for node in core.peers.nodes() {
            let Some(generation) = core.link(node) else { continue };
            let known = core.greetings.told.lock().get(&node) == Some(&generation);
            if !known && let Some(places) = core.greetings.places() {
                // Noted first: an announcement that fails meanwhile takes the note away again.
                core.greetings.told.lock().insert(node, generation);
                if !tell_all(&core, node, &places.here()).await {
                    core.greetings.told.lock().remove(&node);
                }
            }
        }
    }
}

/// Says everything, waiting while the link is full; gives up when it is down.
async fn tell_all(core: &Core, node: u16, here: &[Arrival]) -> bool {
    for part in here.chunks(MESSAGE) {
        while !cast(core, node, part.to_vec()) {
            if core.link(node).is_none() || core.cancel.is_cancelled() {
                return false;
            }
            tokio::time::sleep(TICK).await;
        }
    }
    true
}

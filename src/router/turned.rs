//! Who was turned away with BUSY, and with which number: what that device sends behind it would only be a gap.
//!
//! Without this a full lane does useless work: places that come free while a device's burst is still arriving go to
//! numbers that the session must refuse, each through the log, and under load little else gets through. Bounded and
//! short-lived, so that a device which has gone on elsewhere is not held up for long.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::seam::Order;

/// Devices remembered; beyond it all are forgotten, which costs gaps and nothing else.
const MOST: usize = 4096;
/// How long one is remembered: about as long as BUSY tells a device to wait at most.
const HOLD: Duration = Duration::from_millis(500);

/// The first number of each device that found no room.
#[derive(Default)]
pub(super) struct Turned(HashMap<u64, (u64, Instant)>);

impl Turned {
    /// Whether an earlier number of the same device was turned away a moment ago and has not come back since.
    pub(super) fn is_behind(&self, order: Order, now: Instant) -> bool {
        // Nearly always empty: a lane that is not full costs nothing here.
        let known = if self.0.is_empty() { None } else { self.0.get(&order.sender) };
        known.is_some_and(|(first, until)| order.number > *first && now < *until)
    }

    /// This number found no room.
    pub(super) fn note(&mut self, order: Order, now: Instant) {
        if self.0.len() >= MOST {
            self.0.clear();
        }
        let until = now + HOLD;
        let known = self.0.entry(order.sender).or_insert((order.number, until));
        if order.number <= known.0 || now >= known.1 {
            *known = (order.number, until);
        }
    }

    /// This number was admitted.
    pub(super) fn admitted(&mut self, order: Order) {
        if !self.0.is_empty() && self.0.get(&order.sender).is_some_and(|(first, _)| order.number >= *first) {
            self.0.remove(&order.sender);
        }
    }
}

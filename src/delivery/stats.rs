//! Figures of delivery for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// A reading of delivery's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryStats {
    /// Topics with at least one subscription.
    pub topics: u64,
    /// Pairs of topic and receiver.
    pub subscriptions: u64,
    /// Receivers connected.
    pub receivers: u64,
    /// Memory the three take, bytes, estimated.
    pub bytes: u64,
    /// Items pushed to receivers since the start.
    pub pushes: u64,
    /// Records of sessions given to subscriptions since the start …
    pub published: u64,
    /// … and subscriptions looked at for that, once for all records of a batch: of who is attached here, never of members.
    pub visits: u64,
    /// Times a subscription began to lag since the start.
    pub lags: u64,
    /// Subscriptions refused because a bound was reached, since the start.
    pub refused: u64,
    /// Ephemeral messages given to receivers since the start.
    pub passed: u64,
    /// Ephemeral messages dropped since the start, for their receiver had no room to spare.
    pub passed_over: u64,
}

/// The counters themselves.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) subscriptions: AtomicU64,
    pub(super) pushes: AtomicU64,
    pub(super) published: AtomicU64,
    pub(super) visits: AtomicU64,
    pub(super) lags: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) passed: AtomicU64,
    pub(super) passed_over: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, by: u64) {
        if by > 0 {
            counter.fetch_add(by, Ordering::Relaxed);
        }
    }

    pub(super) fn sub(counter: &AtomicU64, by: u64) {
        if by > 0 {
            counter.fetch_sub(by, Ordering::Relaxed);
        }
    }

    pub(super) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

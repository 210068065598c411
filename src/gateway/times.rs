//! How long requests take, by kind: from their bytes' arrival to their answer, or its beginning.
//!
//! A request carries when it came in its ticket, beside its id, so that nothing has to be remembered for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rookery_wire::Kind;

/// Upper bounds of the buckets, microseconds. The last bucket has what takes longer.
pub(super) const BOUNDS_US: [u64; 13] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000,
];
/// A ticket counts time in units of so many microseconds …
const UNIT_US: u64 = 64;
/// … in 24 bits: 17 minutes, longer than any deadline.
const TIME_BITS: u32 = 24;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// How long requests of one kind took.
#[derive(Clone, Debug)]
pub struct KindTimes {
    /// The kind.
    pub kind: Kind,
    /// Of all together, microseconds.
    pub sum_us: u64,
    /// Upper bound of each bucket in microseconds, [`u64::MAX`] for the last, and how many are in it.
    pub buckets: Vec<(u64, u64)>,
}

/// Time taken by requests since the gateway's start.
#[derive(Debug)]
pub(super) struct Times {
    began: Instant,
    kinds: Vec<OfKind>,
}

#[derive(Debug, Default)]
struct OfKind {
    sum_us: AtomicU64,
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
}

/// When requests came that were read together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    units: u64,
}

impl Times {
    pub(super) fn new() -> Self {
        let kinds = (0..=u8::MAX).map(|number| Kind::from_number(number).map_or(0, |_| usize::from(number)));
        let most = kinds.max().unwrap_or(0);
        Self { began: Instant::now(), kinds: (0..=most).map(|_| OfKind::default()).collect() }
    }

    /// Now.
    pub(super) fn arrival(&self) -> Arrival {
        Arrival { units: self.units() }
    }

    fn units(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX) / UNIT_US
    }

    /// Tickets that came back, each with its time, as of one look at the clock.
    pub(super) fn answered(&self, tickets: impl Iterator<Item = u64>) {
        let now = self.units();
        for ticket in tickets {
            let (kind, came) = ((ticket >> 56) as u8, (ticket >> 32) & TIME_MASK);
            if kind != 0 {
                self.count(kind, (now.wrapping_sub(came) & TIME_MASK) * UNIT_US);
            }
        }
    }

    fn count(&self, kind: u8, micros: u64) {
        let Some(of) = self.kinds.get(usize::from(kind)) else { return };
        let bucket = BOUNDS_US.partition_point(|bound| *bound < micros);
        of.sum_us.fetch_add(micros, Ordering::Relaxed);
        if let Some(bucket) = of.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Kinds of which anything was asked.
    pub(super) fn all(&self) -> Vec<KindTimes> {
        let of = |(number, of): (usize, &OfKind)| {
            let kind = u8::try_from(number).ok().and_then(Kind::from_number)?;
            let counts: Vec<u64> = of.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
            let bounds = BOUNDS_US.iter().copied().chain([u64::MAX]);
            let is_any = counts.iter().any(|count| *count > 0);
            is_any.then(|| KindTimes {
                kind,
                sum_us: of.sum_us.load(Ordering::Relaxed),
                buckets: bounds.zip(counts).collect(),
            })
        };
        self.kinds.iter().enumerate().filter_map(of).collect()
    }
}

impl Arrival {
    /// What comes back with the answer: the request's id in the low half.
    pub(super) fn ticket(self, kind: u8, request: u32) -> u64 {
        u64::from(kind) << 56 | (self.units & TIME_MASK) << 32 | u64::from(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_brings_its_request_and_its_time_back() {
        let times = Times::new();
        let arrival = times.arrival();
        // As one that came just before the 24 bits ran over.
        let before = Arrival { units: arrival.units.wrapping_sub(100) };
        for (of, id) in [(arrival, 0), (before, u32::MAX)] {
            assert_eq!(of.ticket(Kind::Send as u8, id) as u32, id);
        }
        times.answered([arrival.ticket(2, 7), before.ticket(2, 8), u64::from(u32::MAX)].into_iter());
        let all = times.all();
        let [send] = all.as_slice() else { panic!("{all:?}") };
        let count: u64 = send.buckets.iter().map(|(_, count)| count).sum();
        assert_eq!((send.kind, count), (Kind::Send, 2));
        assert!((100 * UNIT_US..60_000_000).contains(&send.sum_us), "{send:?}");
    }

    #[test]
    fn buckets_hold_what_is_at_most_their_bound() {
        let times = Times::new();
        for micros in [0, 500, 501, 5_000_000, 5_000_001] {
            times.count(Kind::Pull as u8, micros);
        }
        times.count(255, 1);
        let all = times.all();
        let counts: Vec<u64> = all[0].buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!((all.len(), counts[0], counts[1], counts[12], counts[13]), (1, 2, 1, 1, 1));
        assert_eq!(all[0].buckets.last().map(|(bound, _)| *bound), Some(u64::MAX));
    }
}

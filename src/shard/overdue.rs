//! What lasts for a time only is shown no longer, though the entry by which it goes is late.
//!
//! A message goes by an entry of the log, and a shard takes none while it has no majority or its disks are nearly full. So who
//! reads, previews or pushes looks at the time too, and shows what the entry will leave of the message. Counts stay as they are
//! until it comes. Owns by which time that is judged: the node's clock when it last agreed with those of a majority, and what has
//! passed since by a clock that nobody sets. A node whose clock has agreed with nobody's since it started knows no time.

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::shared::Shared;
use crate::state::{Session, as_expired};

/// When the node's clock was last known to be right, by itself and by one that nobody sets.
#[derive(Default)]
pub(super) struct SureTime(Mutex<Option<(u64, Instant)>>);

impl SureTime {
    /// The time, when the node's clock says this and is right or not.
    fn at(&self, unix_ms: u64, is_right: bool, now: Instant) -> Option<u64> {
        let mut known = self.0.lock();
        if is_right {
            *known = Some((unix_ms, now));
        }
        known.map(|(unix_ms, then)| {
            let passed = now.saturating_duration_since(then).as_millis();
            unix_ms.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
        })
    }
}

impl Shared {
    /// The time as far as this node can be sure of it, unix milliseconds.
    pub fn sure_ms(&self) -> Option<u64> {
        self.sure.at(self.clock.unix_ms(), (self.time_agrees)(), Instant::now())
    }
}

/// A record as it may be shown now.
pub(super) fn shown(shared: &Shared, session: &Session, seq: u64, record: Bytes) -> Bytes {
    if !session.may_expire(seq) || session.overdue(seq..=seq, shared.sure_ms()).is_empty() {
        return record;
    }
    as_expired(&record).unwrap_or(record)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_time_goes_on_from_where_the_clock_was_last_right_whatever_it_says_later() {
        let (sure, begin) = (SureTime::default(), Instant::now());
        assert_eq!(sure.at(5_000, false, begin), None, "not knowing hides nothing");
        assert_eq!(sure.at(1_000, true, begin), Some(1_000));
        let later = begin + Duration::from_millis(70);
        for wild in [0, 1_000, 9_000_000] {
            assert_eq!(sure.at(wild, false, later), Some(1_070), "{wild}");
        }
        assert_eq!(sure.at(1_100, true, later), Some(1_100));
    }
}

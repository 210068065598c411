//! Watching this node's wall clock against its peers' (R10): a leader that is far off hands over, for it stamps time.

use std::sync::Arc;
use std::time::Duration;

use rookery_raft::Clock;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::system::forming::{Forming, MOST_OFF_MS};

/// Between two comparisons.
const COMPARE_EVERY: Duration = Duration::from_secs(5);
/// The same while they do not agree.
const COMPARE_SOON: Duration = Duration::from_secs(1);

/// When this node's clock was last found to agree with those of a majority: what it said then, and what does not jump.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    unix_ms: u64,
    at: Instant,
}

impl Sight {
    /// As the clock says it now.
    pub(super) fn of(clock: &dyn Clock) -> Self {
        Self { unix_ms: clock.unix_ms(), at: Instant::now() }
    }

    /// Whether the clock has gone on from there and was not set, as that of a machine that was asleep is.
    fn holds(&self, clock: &dyn Clock) -> bool {
        let passed = self.at.elapsed().as_millis() as i64;
        (clock.unix_ms() as i64 - self.unix_ms as i64 - passed).abs() <= MOST_OFF_MS
    }
}

/// Compares this node's clock with the others', again and again: how far it is ahead of the median of all nodes, in
/// milliseconds (0 until it is known), and since when a majority of the nodes, this one among them, agree (not before the
/// first comparison).
pub(super) async fn compare(
    forming: Arc<Forming>,
    clock: Arc<dyn Clock>,
    ahead_is: watch::Sender<i64>,
    agreed_is: watch::Sender<Option<Sight>>,
) {
    loop {
        let mut offsets = vec![0];
        for node in forming.configured.iter().filter(|node| **node != forming.node) {
            let asked = Instant::now();
            let before = clock.unix_ms() as i64;
            let Some(theirs) = forming.ask_clock(*node).await else { continue };
            // The answer was made about half-way between question and arrival.
            let middle = before + asked.elapsed().as_millis() as i64 / 2;
            offsets.push(theirs as i64 - middle);
        }
        let agreed = agree(&offsets, forming.configured.len());
        let ahead = -median(&mut offsets);
        if ahead.abs() > MOST_OFF_MS {
            tracing::warn!(
                ahead_ms = ahead,
                "this node's clock is off; it gives its leads away until that is mended"
            );
        }
        ahead_is.send_replace(ahead);
        agreed_is.send_replace(agreed.then(|| Sight::of(&*clock)));
        tokio::time::sleep(if agreed { COMPARE_EVERY } else { COMPARE_SOON }).await;
    }
}

/// Whether the clock is near enough to those of a majority to judge by it when something is to go: what is trimmed or has
/// expired does not come back, so not knowing is a no. A clock that was set meanwhile is to be compared again first.
pub(super) fn agrees(
    agreed: watch::Receiver<Option<Sight>>,
    clock: Arc<dyn Clock>,
) -> Arc<dyn Fn() -> bool + Send + Sync> {
    Arc::new(move || agreed.borrow().is_some_and(|sight| sight.holds(&*clock)))
}

/// Whether so many of `nodes` as are a majority stand near 0, where this node's own clock stands.
fn agree(offsets: &[i64], nodes: usize) -> bool {
    let near = offsets.iter().filter(|offset| offset.abs() <= MOST_OFF_MS).count();
    near > nodes / 2
}

/// With two values the one nearer to 0: of two clocks nobody can say which is wrong.
fn median(offsets: &mut [i64]) -> i64 {
    offsets.sort_unstable();
    match offsets.len() % 2 {
        1 => offsets[offsets.len() / 2],
        _ => {
            let pair = [offsets[offsets.len() / 2 - 1], offsets[offsets.len() / 2]];
            if pair[0].abs() < pair[1].abs() { pair[0] } else { pair[1] }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rookery_raft::Clock;
    use tokio::sync::watch;

    use super::{Sight, agree, agrees, median};

    /// A clock that stands until it is set.
    struct Set(AtomicU64);

    impl Clock for Set {
        fn unix_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_clock_that_jumps_is_not_believed_until_it_was_compared_again() {
        const NOON: u64 = 1_790_000_000_000;
        let clock = Arc::new(Set(AtomicU64::new(NOON)));
        let (agreed_is, agreed) = watch::channel(None);
        let agrees = agrees(agreed, clock.clone());
        assert!(!agrees(), "not knowing is a no");
        agreed_is.send_replace(Some(Sight::of(&*clock)));
        assert!(agrees());
        for wrong in [NOON + 25 * 3_600_000, NOON - 2_000] {
            clock.0.store(wrong, Ordering::Relaxed);
            assert!(!agrees(), "{wrong}");
        }
        agreed_is.send_replace(Some(Sight::of(&*clock)));
        assert!(agrees());
    }

    #[test]
    fn what_goes_goes_by_the_clock_of_a_majority() {
        assert!(agree(&[0, 2, 90_000], 3));
        assert!(!agree(&[0, 90_000, 90_010], 3), "two against one");
        assert!(!agree(&[0, 90_000], 3), "of two clocks nobody can say which is wrong");
        assert!(!agree(&[0], 3), "nobody answers");
        assert!(agree(&[0, -3], 3));
        assert!(agree(&[0], 1));
    }

    #[test]
    fn the_median_ignores_one_wild_clock() {
        assert_eq!(median(&mut [0, 2, 90_000]), 2);
        assert_eq!(median(&mut [0, 90_000, 90_010]), 90_000, "two against one: this node is the wild one");
        assert_eq!(median(&mut [0, 90_000]), 0);
    }
}

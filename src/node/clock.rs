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

/// Compares this node's clock with the others', again and again: how far it is ahead of the median of all nodes, in
/// milliseconds (0 until it is known), and whether a majority of the nodes, this one among them, agree (not before the
/// first comparison).
pub(super) async fn compare(
    forming: Arc<Forming>,
    clock: Arc<dyn Clock>,
    ahead_is: watch::Sender<i64>,
    agreed_is: watch::Sender<bool>,
) {
    loop {
        let mut offsets = vec![0];
        let round = clock.unix_ms() as i64;
        let began = Instant::now();
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
        agreed_is.send_replace(agreed);
        tokio::time::sleep(if agreed { COMPARE_EVERY } else { COMPARE_SOON }).await;
        // A clock that was set meanwhile is to be compared again before anything goes by it.
        let passed = began.elapsed().as_millis() as i64;
        if (clock.unix_ms() as i64 - round - passed).abs() > MOST_OFF_MS {
            agreed_is.send_replace(false);
        }
    }
}

/// Whether the clock is near enough to those of a majority to judge by it when something is to go: what is trimmed or has
/// expired does not come back, so not knowing is a no.
pub(super) fn agrees(agreed: watch::Receiver<bool>) -> Arc<dyn Fn() -> bool + Send + Sync> {
    Arc::new(move || *agreed.borrow())
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
    use super::{agree, median};

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

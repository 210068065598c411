//! Watching this node's wall clock against its peers' (R10): a leader that is far off hands over, for it stamps time.

use std::sync::Arc;
use std::time::Duration;

use rookery_raft::Clock;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::system::forming::{Forming, MOST_OFF_MS};

/// Between two comparisons.
const COMPARE_EVERY: Duration = Duration::from_secs(5);

/// How far this node's clock is ahead of the median of all nodes, in milliseconds; 0 until it is known.
pub(super) async fn compare(forming: Arc<Forming>, clock: Arc<dyn Clock>, ahead_is: watch::Sender<i64>) {
    loop {
        tokio::time::sleep(COMPARE_EVERY).await;
        let mut offsets = vec![0];
        for node in forming.configured.iter().filter(|node| **node != forming.node) {
            let asked = Instant::now();
            let before = clock.unix_ms() as i64;
            let Some(theirs) = forming.ask_clock(*node).await else { continue };
            // The answer was made about half-way between question and arrival.
            let middle = before + asked.elapsed().as_millis() as i64 / 2;
            offsets.push(theirs as i64 - middle);
        }
        let ahead = -median(&mut offsets);
        if ahead.abs() > MOST_OFF_MS {
            tracing::warn!(
                ahead_ms = ahead,
                "this node's clock is off; it gives its leads away until that is mended"
            );
        }
        ahead_is.send_replace(ahead);
    }
}

/// Whether the clock is near enough to the others' to judge by it when something is to go.
pub(super) fn agrees(ahead: watch::Receiver<i64>) -> Arc<dyn Fn() -> bool + Send + Sync> {
    Arc::new(move || ahead.borrow().abs() <= MOST_OFF_MS)
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
    use super::median;

    #[test]
    fn the_median_ignores_one_wild_clock() {
        assert_eq!(median(&mut [0, 2, 90_000]), 2);
        assert_eq!(median(&mut [0, 90_000, 90_010]), 90_000, "two against one: this node is the wild one");
        assert_eq!(median(&mut [0, 90_000]), 0);
    }
}

//! A planted bug of the gateway: compiled in only with the feature `planted-bugs`.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::plant::planted;

/// How often an answer is forgotten.
const EVERY: u64 = 200;

/// Whether an answer is forgotten, now and then, if that is the chosen bug: what was asked counts as answered.
pub(super) fn forgets_answer() -> bool {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    planted("answer-lost") && COUNT.fetch_add(1, Ordering::Relaxed).is_multiple_of(EVERY)
}

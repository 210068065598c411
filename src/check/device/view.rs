//! How much of a session one device has, and what it must still pull.

use std::collections::BTreeSet;

/// One session in the eyes of one device.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Has everything up to here: by push, by the answer to its own send, or pulled because pushes skipped it.
    pub(super) have: u64,
    /// What it has beyond.
    beyond: BTreeSet<u64>,
    /// Pushes promise to be whole from here on; what is before must be pulled.
    pub(super) live: u64,
    /// A pull is under way.
    pub(super) filling: bool,
    /// The server said we may not: not a member (any more).
    pub(super) barred: bool,
    /// When we were last told that we are in it, µs.
    pub(super) told: u64,
}

impl View {
    /// Has one more.
    pub(super) fn got(&mut self, seq: u64) {
        if seq <= self.have {
            return;
        }
        self.beyond.insert(seq);
        while self.beyond.remove(&(self.have + 1)) {
            self.have += 1;
        }
    }

    /// Nothing before this is ours to have: we joined after it.
    pub(super) fn start_at(&mut self, joined_seq: u64) {
        let before = joined_seq.saturating_sub(1);
        if before > self.have {
            self.have = before;
            self.beyond.retain(|seq| *seq > before);
            while self.beyond.remove(&(self.have + 1)) {
                self.have += 1;
            }
        }
    }

    /// Pushes are whole from here on.
    pub(super) fn live_from(&mut self, seq: u64) {
        self.live = self.live.max(seq);
    }

    /// The first seq that no push will bring, if a pull for it may start now.
    pub(super) fn wants(&self) -> Option<u64> {
        (!self.filling && !self.barred && self.have + 1 < self.live).then_some(self.have + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::View;

    #[test]
    fn a_gap_before_the_live_point_is_pulled_and_no_other() {
        let mut view = View::default();
        view.start_at(5);
        view.live_from(8);
        assert_eq!(view.wants(), Some(5));
        view.got(8);
        view.got(5);
        assert_eq!((view.have, view.wants()), (5, Some(6)));
        view.got(7);
        view.got(6);
        assert_eq!((view.have, view.wants()), (8, None));
        view.got(10);
        assert_eq!((view.have, view.wants()), (8, None), "a silent gap is the judge's business");
    }
}

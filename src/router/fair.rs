//! How much one session may have under way on this node, so that sessions with little to say need not wait for one with a lot.
//!
//! Plain data: no task, no lock, time comes as an argument. Looks at nothing but answers: while those to quiet sessions come
//! soon, nobody is held back, whatever runs beside them; while they come late, every session's share of what is under way
//! shrinks, by halves, and grows again when they do not. A share never refuses anything: what is beyond it waits in its lane
//! (see [`super::held`]). Must never hold back a quiet session.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Shares are judged this often.
const WINDOW: Duration = Duration::from_millis(100);
/// A session with no more requests than this in the last two windows is quiet: up to eighty a second.
const QUIET: u32 = 16;
/// Sessions counted in one window; those beyond it are not known to be quiet.
const COUNTED: usize = 16 * 1024;
/// The answers that come late, of so many, because of which shares shrink.
const LATE_OF: u32 = 10;
/// The smallest share, and the one with which shrinking begins. No quiet session reaches it.
const SHARE: (usize, usize) = (QUIET as usize, 512);
/// A share grows by one of so many in every window in which few answers are late.
const GROW: usize = 8;
/// Without a quiet session's answer for so long there is nobody to hold others back for.
const NOBODY: Duration = Duration::from_secs(1);
/// The smallest share has so many windows to show that it helps: that answers come in three quarters of the time.
const TRIAL: u32 = 20;
/// When it does not, something else is slow, a disk say, and for so long nobody is held back in vain.
const IN_VAIN: Duration = Duration::from_secs(10);

/// The share of each session on one node.
pub(super) struct Fair {
    /// An answer to a quiet session that takes longer than this is late; zero turns all of it off.
    late_after: Duration,
    window_from: Instant,
    counts: HashMap<u64, u32>,
    counts_before: HashMap<u64, u32>,
    answered: u32,
    late: u32,
    took: Duration,
    /// Requests one session may have under way; none for as many as come.
    share: Option<usize>,
    heard_at: Instant,
    /// How long answers took on average in the worst window since shares began to shrink.
    at_worst: Duration,
    /// Windows since the smallest share was reached.
    tried: u32,
    lifted_until: Option<Instant>,
}

impl Fair {
    pub(super) fn new(late_after: Duration, now: Instant) -> Self {
        Self {
            late_after,
            window_from: now,
            counts: HashMap::new(),
            counts_before: HashMap::new(),
            answered: 0,
            late: 0,
            took: Duration::ZERO,
            share: None,
            heard_at: now,
            at_worst: Duration::ZERO,
            tried: 0,
            lifted_until: None,
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.late_after.is_zero()
    }

    /// `count` requests of a session came: whether it is quiet.
    pub(super) fn asked(&mut self, session: u64, count: u32, now: Instant) -> bool {
        self.turn(now);
        let before = self.counts_before.get(&session).copied().unwrap_or(0);
        if self.counts.len() >= COUNTED && !self.counts.contains_key(&session) {
            return false;
        }
        let here = self.counts.entry(session).or_insert(0);
        *here = here.saturating_add(count);
        before.saturating_add(*here) <= QUIET
    }

    /// A request of a session that was quiet has been answered after so long.
    pub(super) fn answered(&mut self, took: Duration, now: Instant) {
        self.turn(now);
        self.heard_at = now;
        self.answered += 1;
        self.late += u32::from(took > self.late_after);
        self.took += took;
    }

    /// Requests one session may have under way now.
    pub(super) fn share(&mut self, now: Instant) -> usize {
        self.turn(now);
        self.share.unwrap_or(usize::MAX)
    }

    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.window_from);
        if age < WINDOW {
            return;
        }
        std::mem::swap(&mut self.counts_before, &mut self.counts);
        self.counts.clear();
        if age >= WINDOW * 2 {
            self.counts_before.clear();
        }
        self.window_from = now;
        self.judge(now);
        (self.answered, self.late, self.took) = (0, 0, Duration::ZERO);
    }

    fn judge(&mut self, now: Instant) {
        if now.saturating_duration_since(self.heard_at) >= NOBODY {
            self.share = None;
        }
        if self.answered == 0 || self.lifted_until.is_some_and(|until| now < until) {
            return;
        }
        let mean = self.took / self.answered;
        if self.late * LATE_OF > self.answered {
            self.shrink(mean, now);
        } else if let Some(share) = self.share {
            self.tried = 0;
            let grown = share + share.div_ceil(GROW);
            self.share = (grown <= SHARE.1).then_some(grown);
        }
    }

    fn shrink(&mut self, mean: Duration, now: Instant) {
        match self.share {
            None => {
                self.share = Some(SHARE.1);
                (self.at_worst, self.tried) = (mean, 0);
            }
            Some(share) if share > SHARE.0 => {
                self.share = Some((share / 2).max(SHARE.0));
                self.at_worst = self.at_worst.max(mean);
            }
            Some(_) => {
                self.tried += 1;
                if self.tried >= TRIAL && mean * 4 > self.at_worst * 3 {
                    self.share = None;
                    self.lifted_until = Some(now + IN_VAIN);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_millis(10);
    const SOON: Duration = Duration::from_millis(2);

    struct Clock(Fair, Instant);

    impl Clock {
        fn new() -> Self {
            let now = Instant::now();
            Self(Fair::new(Duration::from_millis(8), now), now)
        }
        /// One window in which ten quiet requests were answered, so many of them late.
        fn window(&mut self, late: u32) -> usize {
            for at in 0..10 {
                self.0.answered(if at < late { LATE } else { SOON }, self.1);
            }
            self.1 += WINDOW;
            self.0.share(self.1)
        }
    }

    #[test]
    fn nobody_is_held_back_while_quiet_sessions_hear_soon_or_say_nothing() {
        let mut clock = Clock::new();
        assert_eq!(clock.window(0), usize::MAX);
        assert_eq!(clock.window(1), usize::MAX, "one of ten may be late");
        for _ in 0..20 {
            clock.1 += WINDOW;
            assert_eq!(clock.0.share(clock.1), usize::MAX, "no answers, no judgement");
        }
    }

    #[test]
    fn late_answers_halve_the_share_and_timely_ones_give_it_back() {
        let mut clock = Clock::new();
        assert_eq!([clock.window(2), clock.window(2), clock.window(10)], [512, 256, 128]);
        assert_eq!([clock.window(0), clock.window(0)], [144, 162]);
        for _ in 0..12 {
            clock.window(0);
        }
        assert_eq!(clock.window(0), usize::MAX);
    }

    #[test]
    fn the_share_is_given_back_when_the_quiet_have_gone() {
        let mut clock = Clock::new();
        assert_eq!(clock.window(10), 512);
        clock.1 += NOBODY;
        assert_eq!(clock.0.share(clock.1), usize::MAX);
    }

    #[test]
    fn holding_back_that_does_not_help_ends() {
        let mut clock = Clock::new();
        let shares: Vec<usize> = (0..60).map(|_| clock.window(10)).collect();
        assert_eq!(shares[..6], [512, 256, 128, 64, 32, 16]);
        let lifted = shares.iter().filter(|share| **share == usize::MAX).count();
        assert!(lifted >= 30, "answers took as long with the smallest share: {shares:?}");
    }

    #[test]
    fn a_session_with_much_to_say_is_not_quiet_until_it_has_been() {
        let mut clock = Clock::new();
        assert!(clock.0.asked(1, QUIET, clock.1));
        assert!(!clock.0.asked(1, 1, clock.1));
        assert!(clock.0.asked(2, 1, clock.1), "another is");
        clock.1 += WINDOW;
        assert!(!clock.0.asked(1, 1, clock.1), "the window before counts too");
        clock.1 += WINDOW * 2;
        assert!(clock.0.asked(1, 1, clock.1));
    }
}

//! Unread counts by subtraction against counting one message after the other.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rookery_wire::{GroupId, SessionId};

use crate::shard::Asked;
use crate::state::exceptions::{Deleted, Extras};

/// A session as a list: whether each message counts, and whether it was recalled.
struct Log(Vec<(bool, bool)>);

impl Log {
    fn count_at(&self, seq: u64) -> u64 {
        self.0[..seq as usize].iter().filter(|(counts, _)| *counts).count() as u64
    }

    /// Recalled messages with a count above this one.
    fn recalled_after(&self, count: u64) -> u64 {
        let mut at = 0;
        let mut recalled = 0;
        for (counts, gone) in &self.0 {
            at += u64::from(*counts);
            recalled += u64::from(*counts && *gone && at > count);
        }
        recalled
    }

    fn unread(&self, seen_seq: u64, hidden: &BTreeSet<u64>) -> u64 {
        let line = |(at, (counts, gone)): (usize, &(bool, bool))| {
            let seq = at as u64 + 1;
            *counts && !*gone && seq > seen_seq && !hidden.contains(&seq)
        };
        self.0.iter().enumerate().filter(|(at, line_of)| line((*at, *line_of))).count() as u64
    }
}

#[test]
fn unread_is_what_counting_says() {
    for seed in 0..500u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let length = rng.random_range(1..60u64);
        let log = Log((0..length).map(|_| (rng.random_bool(0.7), rng.random_bool(0.2))).collect());
        let read = rng.random_range(0..=length);
        let (mut extras, mut hidden) = (Extras::default(), BTreeSet::new());
        for _ in 0..rng.random_range(0..6) {
            let from_seq = rng.random_range(1..=length);
            let to_seq = rng.random_range(from_seq..=length);
            if rng.random_bool(0.2) {
                extras.clear(from_seq, log.count_at(from_seq));
                hidden.extend(1..=from_seq);
            } else {
                let (before, count) = (log.count_at(from_seq - 1), log.count_at(to_seq));
                extras.delete(Deleted { from_seq, to_seq, before, count });
                hidden.extend(from_seq..=to_seq);
            }
        }
        let seen_count = log.count_at(read).max(extras.cleared_count);
        let deleted = extras.deleted_after(seen_count);
        let session = SessionId::group(GroupId::new("g").expect("a name"));
        let asked = Asked { session, seen_count, deleted, burns: false };
        // What the session knows besides: where the user wrote last, or joined.
        let own = rng.random_range(0..=length);
        let seen = seen_count.max(log.count_at(own));
        let recalled: Vec<u64> = asked.counts(seen).map(|count| log.recalled_after(count)).collect();
        let unread = asked.unread(log.count_at(length), seen, &recalled);
        assert_eq!(unread, log.unread(read.max(own), &hidden), "seed {seed}");
    }
}

//! Order: what arrives of one session, however it comes, becomes 1, 2, 3, … once each.
//!
//! Three streams meet here: pushes, pages that were pulled, and own messages built from their ACKs. All of them say
//! "seq n is this"; LAGGED, SYNC and JOINED only say "n exists". So the whole state is a cursor (had up to here), a
//! head (known to exist) and what is held in between; a missing part of (cursor, head] is a gap, to be pulled.

use std::collections::BTreeMap;

use rookery_wire::Record;

use crate::engine::Millis;

/// Records held above a gap, per session; what comes beyond is let go and pulled later.
const HELD_RECORDS: usize = 1024;
/// Bytes held above gaps in all sessions together.
pub(crate) const HELD_BYTES: usize = 16 << 20;
/// What a held record costs beside its content, roughly.
const RECORD_COST: usize = 320;

/// What stands at a seq.
#[derive(Debug, PartialEq)]
pub(crate) enum Item {
    /// A message for the application.
    Record(Box<Record>),
    /// Something the application does not want (an own message, with `echo_own` off).
    Silent,
}

impl Item {
    fn cost(&self) -> usize {
        match self {
            Self::Record(record) => RECORD_COST + record.content.len(),
            Self::Silent => 64,
        }
    }
}

/// What became of an offer.
#[derive(Debug, PartialEq)]
pub(crate) enum Offer {
    /// It is the next: the cursor has moved, give it out.
    Next(Item),
    /// It waits for those before it.
    Held,
    /// The application has had it, or it is held already.
    Repeat,
    /// No room to hold it; it will be pulled.
    Dropped,
}

/// The arrivals of one session.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// Whether the user is known to be in the session and the cursor means something.
    pub(crate) tracked: bool,
    pub(crate) cursor: u64,
    pub(crate) head: u64,
    held: BTreeMap<u64, Item>,
    /// Since when the hole that begins at this seq waits for an own ACK to fill it.
    pub(crate) hole: Option<(Millis, u64)>,
    /// A page is on its way.
    pub(crate) pulling: bool,
    /// Ask for the next page as if nothing were known: the last one fell short.
    pub(crate) distrust: bool,
    /// Not to be pulled before.
    pub(crate) pull_at: Millis,
}

impl Inbox {
    /// Begins (or goes on) after `cursor`.
    pub(crate) fn track(&mut self, cursor: u64, budget: &mut usize) {
        self.tracked = true;
        self.cursor = self.cursor.max(cursor);
        self.head = self.head.max(self.cursor);
        self.forget_had(budget);
    }

    /// The user is no longer in the session.
    pub(crate) fn untrack(&mut self, budget: &mut usize) {
        self.tracked = false;
        self.hole = None;
        for (_, item) in std::mem::take(&mut self.held) {
            *budget -= item.cost();
        }
        self.head = self.cursor;
    }

    /// Seqs up to `head` exist.
    pub(crate) fn exists(&mut self, head: u64) {
        self.head = self.head.max(head);
    }

    /// `item` stands at `seq`. `room`: whether the application's queue takes more. `budget`: bytes held by all.
    pub(crate) fn offer(&mut self, seq: u64, item: Item, room: bool, budget: &mut usize) -> Offer {
        if self.tracked && seq <= self.cursor {
            return Offer::Repeat;
        }
        self.head = self.head.max(seq);
        if self.tracked && room && self.is_next(seq) {
            self.cursor = seq;
            if let Some(twin) = self.held.remove(&seq) {
                *budget -= twin.cost();
            }
            return Offer::Next(item);
        }
        if self.held.contains_key(&seq) {
            return Offer::Repeat;
        }
        if self.held.len() >= HELD_RECORDS || *budget + item.cost() > HELD_BYTES {
            return Offer::Dropped;
        }
        *budget += item.cost();
        self.held.insert(seq, item);
        Offer::Held
    }

    /// The next of those held, if it is there.
    pub(crate) fn pop_next(&mut self, budget: &mut usize) -> Option<(u64, Item)> {
        if !self.tracked {
            return None;
        }
        let next = self.cursor.checked_add(1)?;
        let item = self.held.remove(&next)?;
        *budget -= item.cost();
        self.cursor = next;
        Some((next, item))
    }

    /// Whether the next one is here already.
    pub(crate) fn has_next(&self) -> bool {
        self.tracked && self.held.first_key_value().is_some_and(|(seq, _)| self.is_next(*seq))
    }

    /// Whether anything is held.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// The first missing stretch: seqs that exist, were not given out and are not held.
    pub(crate) fn missing(&self) -> Option<(u64, u64)> {
        if !self.tracked || self.cursor >= self.head {
            return None;
        }
        let from = self.cursor + 1;
        match self.held.first_key_value() {
            Some((&seq, _)) if seq == from => None,
            Some((&seq, _)) => Some((from, seq - 1)),
            None => Some((from, self.head)),
        }
    }

    /// What lies before `first` is no longer kept. Returns the stretch the application never gets.
    pub(crate) fn skip_to(&mut self, first: u64, budget: &mut usize) -> Option<(u64, u64)> {
        if first <= self.cursor.saturating_add(1) {
            return None;
        }
        let from = self.cursor + 1;
        self.cursor = first - 1;
        self.head = self.head.max(self.cursor);
        self.forget_had(budget);
        Some((from, self.cursor))
    }

    /// Whatever a server says: behind the greatest seq there is none.
    fn is_next(&self, seq: u64) -> bool {
        self.cursor.checked_add(1) == Some(seq)
    }

    fn forget_had(&mut self, budget: &mut usize) {
        while let Some(entry) = self.held.first_entry().filter(|entry| *entry.key() <= self.cursor) {
            *budget -= entry.remove().cost();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HELD_RECORDS, Inbox, Item, Offer};

    fn at(cursor: u64) -> (Inbox, usize) {
        let (mut inbox, mut budget) = (Inbox::default(), 0);
        inbox.track(cursor, &mut budget);
        (inbox, budget)
    }

    #[test]
    fn in_order_goes_straight_through() {
        let (mut inbox, mut budget) = at(0);
        for seq in 1..=3 {
            assert_eq!(inbox.offer(seq, Item::Silent, true, &mut budget), Offer::Next(Item::Silent));
        }
        assert_eq!(inbox.missing(), None);
    }

    #[test]
    fn a_gap_holds_what_is_above_it_and_repeats_are_dropped() {
        let (mut inbox, mut budget) = at(5);
        assert_eq!(inbox.offer(8, Item::Silent, true, &mut budget), Offer::Held);
        assert_eq!(inbox.offer(8, Item::Silent, true, &mut budget), Offer::Repeat);
        assert_eq!(inbox.offer(5, Item::Silent, true, &mut budget), Offer::Repeat);
        assert_eq!(inbox.missing(), Some((6, 7)));
        inbox.offer(6, Item::Silent, true, &mut budget);
        assert_eq!(inbox.missing(), Some((7, 7)));
        inbox.offer(7, Item::Silent, true, &mut budget);
        assert_eq!(inbox.pop_next(&mut budget).map(|(seq, _)| seq), Some(8));
        assert_eq!((inbox.missing(), budget), (None, 0));
    }

    #[test]
    fn a_full_application_makes_it_hold_then_drop_and_pull() {
        let (mut inbox, mut budget) = at(0);
        for seq in 1..=HELD_RECORDS as u64 {
            assert_eq!(inbox.offer(seq, Item::Silent, false, &mut budget), Offer::Held);
        }
        let next = HELD_RECORDS as u64 + 1;
        assert_eq!(inbox.offer(next, Item::Silent, false, &mut budget), Offer::Dropped);
        while inbox.pop_next(&mut budget).is_some() {}
        assert_eq!((inbox.missing(), budget), (Some((next, next)), 0));
    }

    #[test]
    fn what_comes_before_tracking_waits_for_it() {
        let (mut inbox, mut budget) = (Inbox::default(), 0);
        assert_eq!(inbox.offer(4, Item::Silent, true, &mut budget), Offer::Held);
        assert_eq!(inbox.offer(2, Item::Silent, true, &mut budget), Offer::Held);
        inbox.track(3, &mut budget);
        assert_eq!(inbox.pop_next(&mut budget).map(|(seq, _)| seq), Some(4));
        assert_eq!(budget, 0);
    }

    #[test]
    fn trimmed_history_is_stepped_over_once() {
        let (mut inbox, mut budget) = at(2);
        inbox.exists(9);
        assert_eq!(inbox.skip_to(6, &mut budget), Some((3, 5)));
        assert_eq!(inbox.skip_to(6, &mut budget), None);
        assert_eq!(inbox.missing(), Some((6, 9)));
    }
}

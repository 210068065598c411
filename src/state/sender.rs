//! The numbers one device has used in one session, and what came of each: exactly-once sends (G3).
//!
//! In memory stand the numbers not yet written and a window of recent ones; older ones that stored something are rows
//! ("runs") that are looked up when a late retry asks for them. `last` is kept as long as the session, and with it the
//! refusals among the last [`REFUSED`] numbers. Older ones are let go: nothing stands for them, so nobody who may not write
//! makes a session grow by trying.

use std::collections::VecDeque;

use bincode::{Decode, Encode};
use rookery_wire::ErrorCode;
use rookery_wire::reply::Ack;

use super::fingerprint::Fingerprint;

/// Numbers kept in memory behind the written ones, per sender.
pub const WINDOW: usize = 64;

/// Most numbers in a row.
pub const RUN_NUMBERS: usize = 1024;

/// Refused numbers in a row that do not end a run.
const GAP: u64 = 16;

/// Numbers, counted back from the last one, among which refusals are remembered. Part of what apply decides.
pub const REFUSED: u64 = 1024;

/// What came of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Stored, with everything its ACK says but the session's name.
    Stored(Stored),
    /// Refused at apply; the number is consumed.
    Refused(ErrorCode),
}

/// Where a number's message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Stored {
    /// Its seq.
    pub seq: u64,
    /// Its id.
    pub message_id: u64,
    /// Its time.
    pub time_ms: u64,
    /// The running count.
    pub count: u64,
}

impl Stored {
    /// The ACK it stands for.
    pub fn ack(&self, session: rookery_wire::SessionId, client_seq: u64) -> Ack {
        let Stored { seq, message_id, time_ms, count } = *self;
        Ack { session, client_seq, seq, message_id, time_ms, count }
    }
}

/// One used number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// Of the act, to tell a retry from a reuse.
    pub fingerprint: Fingerprint,
    /// What came of it.
    pub fate: Fate,
}

/// A number as it is written: the seq leads to the record, which holds the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct RunItem {
    /// [`Fingerprint::row`] of the act.
    pub fingerprint: u64,
    /// Seq; 0 if it stored nothing.
    pub seq: u64,
}

/// A number that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Refusal {
    /// Which.
    pub number: u64,
    /// Of the act.
    pub fingerprint: u64,
    /// Why.
    pub code: ErrorCode,
}

/// What a sender's own row says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct SenderRow {
    /// The last number used; 0 for none.
    pub last: u64,
    /// Refusals among the last [`REFUSED`] numbers, ascending.
    pub refused: Vec<Refusal>,
}

/// A row of consecutive numbers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Run {
    /// One item per number, from the number in the row's key on.
    pub items: Vec<RunItem>,
}

/// One sender's numbers.
#[derive(Clone, Debug, Default)]
pub struct Sender {
    /// The last number used.
    pub last: u64,
    /// Numbers `last - recent.len() + 1 ..= last`.
    recent: VecDeque<Number>,
    /// As in [`SenderRow`].
    refused: VecDeque<Refusal>,
    /// Numbers up to this one are rows.
    written: u64,
    /// Numbers up to this one are in a batch on its way to become rows.
    collected: u64,
    /// Not used since [`Sender::rest`] was last called.
    rested: bool,
}

/// What is known of a number.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// The next one.
    Next,
    /// Beyond the next.
    Gap,
    /// Used, and remembered here.
    Used(Number),
    /// Used and refused, so long ago that it is not remembered.
    Forgotten,
    /// Used so long ago that its row must be read.
    Old,
}

impl Sender {
    /// A sender as its row says: all its numbers up to the last are rows.
    pub fn loaded(row: SenderRow) -> Self {
        let SenderRow { last, refused } = row;
        let (recent, refused) = (VecDeque::new(), refused.into());
        Self { last, recent, refused, written: last, collected: last, rested: false }
    }

    /// What is known of `client_seq`.
    pub fn known(&self, client_seq: u64) -> Known {
        if client_seq > self.last {
            return if client_seq == self.last + 1 { Known::Next } else { Known::Gap };
        }
        if let Ok(at) = self.refused.binary_search_by_key(&client_seq, |refusal| refusal.number) {
            let Refusal { fingerprint, code, .. } = self.refused[at];
            let fingerprint = Fingerprint::Plain(fingerprint);
            return Known::Used(Number { fingerprint, fate: Fate::Refused(code) });
        }
        let back = usize::try_from(self.last - client_seq).ok();
        let at = back.and_then(|back| self.recent.len().checked_sub(back.checked_add(1)?));
        match at.and_then(|at| self.recent.get(at)) {
            // Also where memory has it still: other replicas may not.
            Some(Number { fate: Fate::Refused(_), .. }) => Known::Forgotten,
            Some(number) => Known::Used(number.clone()),
            None => Known::Old,
        }
    }

    /// No number was used since they were last collected.
    pub fn is_collected(&self) -> bool {
        self.collected == self.last
    }

    /// Uses the next number.
    pub fn consume(&mut self, number: Number) {
        self.last += 1;
        if let Fate::Refused(code) = number.fate {
            let fingerprint = number.fingerprint.row();
            self.refused.push_back(Refusal { number: self.last, fingerprint, code });
        }
        while self.refused.front().is_some_and(|refusal| refusal.number + REFUSED <= self.last) {
            self.refused.pop_front();
        }
        self.recent.push_back(number);
        self.rested = false;
    }

    /// As its own row says it.
    pub fn row(&self) -> SenderRow {
        SenderRow { last: self.last, refused: self.refused.iter().copied().collect() }
    }

    /// The content that this number stored at `seq` is no more. Says whether it is a number of this sender's that is here.
    pub fn forget(&mut self, client_seq: u64, seq: u64) -> bool {
        let back = self.last.checked_sub(client_seq).and_then(|back| usize::try_from(back).ok());
        let at = back.and_then(|back| self.recent.len().checked_sub(back.checked_add(1)?));
        let Some(number) = at.and_then(|at| self.recent.get_mut(at)) else { return false };
        let found = matches!(&number.fate, Fate::Stored(stored) if stored.seq == seq);
        if found {
            number.fingerprint = Fingerprint::Gone(number.fingerprint.row());
        }
        found
    }

    /// Rows say all of it, and nobody used it for a while.
    pub fn is_idle(&self) -> bool {
        self.rested && self.written == self.last
    }

    /// Called now and then: who is not used until the next time is idle.
    pub fn rest(&mut self) {
        self.rested = true;
    }

    /// The numbers that stored something and that no row holds yet, in runs with the first of each; they count as collected
    /// from now on. Refused ones are in runs only where they stand among the others.
    pub fn collect(&mut self) -> Vec<(u64, Run)> {
        let fresh = (self.last - self.collected) as usize;
        let fresh = self.recent.iter().skip(self.recent.len() - fresh);
        let mut runs: Vec<(u64, Run)> = Vec::new();
        for (number, used) in (self.collected + 1..).zip(fresh) {
            let Fate::Stored(stored) = &used.fate else { continue };
            let item = RunItem { fingerprint: used.fingerprint.row(), seq: stored.seq };
            match runs.last_mut() {
                Some((first, run))
                    if number - *first < RUN_NUMBERS as u64
                        && number - *first - run.items.len() as u64 <= GAP =>
                {
                    run.items.resize((number - *first) as usize, RunItem::default());
                    run.items.push(item);
                }
                _ => runs.push((number, Run { items: vec![item] })),
            }
        }
        self.collected = self.last;
        runs
    }

    /// What was collected can be read from rows now; forgets what is beyond the window.
    pub fn written(&mut self) {
        self.written = self.collected;
        let unwritten = (self.last - self.written) as usize;
        let keep = unwritten.max(WINDOW);
        while self.recent.len() > keep {
            self.recent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(seq: u64) -> Number {
        let stored = Stored { seq, message_id: seq, time_ms: 0, count: seq };
        Number { fingerprint: Fingerprint::Plain(seq * 7), fate: Fate::Stored(stored) }
    }

    #[test]
    fn numbers_are_next_used_old_or_a_gap() {
        let mut sender = Sender::loaded(SenderRow { last: 5, refused: Vec::new() });
        assert_eq!(sender.known(5), Known::Old);
        assert_eq!(sender.known(6), Known::Next);
        assert_eq!(sender.known(7), Known::Gap);
        sender.consume(number(60));
        assert_eq!(sender.known(6), Known::Used(number(60)));
        assert_eq!(sender.known(5), Known::Old);
    }

    #[test]
    fn collects_each_number_once_and_keeps_what_is_not_written() {
        let mut sender = Sender::default();
        let last = RUN_NUMBERS as u64 + 200;
        for seq in 1..=last {
            sender.consume(number(seq));
        }
        let runs = sender.collect();
        let sizes: Vec<_> = runs.iter().map(|(first, run)| (*first, run.items.len())).collect();
        assert_eq!(sizes, [(1, RUN_NUMBERS), (1 + RUN_NUMBERS as u64, 200)]);
        assert!(sender.collect().is_empty());
        sender.consume(number(last + 1));
        sender.written();
        assert_eq!(sender.known(last + 1), Known::Used(number(last + 1)));
        assert_eq!(sender.known(last + 1 - WINDOW as u64), Known::Old);
        let runs = sender.collect();
        assert_eq!((runs.len(), runs[0].0, runs[0].1.items.len()), (1, last + 1, 1));
    }

    #[test]
    fn refusals_are_remembered_for_so_many_numbers_and_are_no_rows_of_their_own() {
        let refused = |at: u64| Number {
            fingerprint: Fingerprint::Plain(at),
            fate: Fate::Refused(ErrorCode::RefusedByPeer),
        };
        let mut sender = Sender::default();
        for at in 1..=3 * REFUSED {
            sender.consume(refused(at));
            if at == 2 * REFUSED {
                assert!(sender.collect().is_empty());
                sender.written();
            }
        }
        let last = sender.last;
        for sender in [Sender::loaded(sender.row()), sender.clone()] {
            assert_eq!(sender.row().refused.len() as u64, REFUSED);
            assert_eq!(sender.known(last - REFUSED + 1), Known::Used(refused(last - REFUSED + 1)));
            assert_eq!(sender.known(last), Known::Used(refused(last)));
        }
        assert_eq!(sender.known(last - REFUSED), Known::Forgotten, "memory has it still");
        assert_eq!(Sender::loaded(sender.row()).known(last - REFUSED), Known::Old, "a row that is not there");
        // A few among those that store something do not end a run; many do.
        let mut sender = Sender::default();
        let fates = [(1, 1), (GAP, 0), (1, 2), (GAP + 1, 0), (1, 3), (5, 0)];
        for (times, seq) in fates {
            (0..times).for_each(|_| sender.consume(if seq == 0 { refused(9) } else { number(seq) }));
        }
        let runs: Vec<_> =
            sender.collect().into_iter().map(|(first, run)| (first, run.items.len())).collect();
        assert_eq!(runs, [(1, GAP as usize + 2), (2 * GAP + 4, 1)]);
    }
}

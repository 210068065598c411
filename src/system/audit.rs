//! The audit as plain state: which lines there are, which asking each stands for, and which go.
//!
//! A line is written before what it says is carried out. Whoever asks again writes no second line while the first is kept and
//! the key of the request is remembered: each line has a *mark*, a hash of what names the request, and of no content. In
//! memory stand times and marks; lines are rows. Owns numbers, and who goes when there are too many; must never look at a
//! clock, for time comes with the command.

use std::collections::{HashMap, VecDeque};

use bincode::{Decode, Encode};
use rookery_wire::AuditLine;

use crate::plant::planted;

/// Lines in one command.
pub const MOST_LINES: usize = 256;
/// A line stands for what has its mark for so long, milliseconds. That is less than a request key is remembered, and by more
/// than clocks and deadlines differ: what is carried out again, for its key was forgotten, has a line of its own. Part of what
/// apply decides.
pub const REPEAT_MS: u64 = 23 * 60 * 60 * 1000;
/// Lines that go with one command, beside twice as many as it brings.
const FORGOTTEN_AT_ONCE: usize = 64;

/// A line that is wanted: its number and time are not known yet.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Wanted {
    /// What it will say.
    pub line: AuditLine,
    /// Hash of who asks for what under which key, without content.
    pub mark: u128,
}

/// Adds lines. Time and bounds are those of the leader that proposes, so that all replicas decide alike.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AuditCommand {
    /// The leader's clock, unix milliseconds.
    pub time_ms: u64,
    /// How many lines are kept.
    pub keep: u32,
    /// For how long, milliseconds.
    pub age_ms: u64,
    /// What is wanted, at most [`MOST_LINES`].
    pub lines: Vec<Wanted>,
}

/// What memory has of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// Its time.
    pub time_ms: u64,
    /// Its mark.
    pub mark: u128,
}

/// What a command did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The number of each line that was wanted, in that order.
    pub numbers: Vec<u64>,
    /// Those that are new.
    pub fresh: Vec<(AuditLine, u128)>,
    /// Numbers that went: from the first, up to but without the second.
    pub gone: (u64, u64),
    /// How many of them were not too old, and made room for others.
    pub young: u64,
}

/// The lines there are.
#[derive(Clone, Debug)]
pub struct Book {
    /// Log index it reflects.
    index: u64,
    /// The oldest number kept, or the next one.
    first: u64,
    entries: VecDeque<Entry>,
    numbers: HashMap<u128, u64>,
}

impl Default for Book {
    fn default() -> Self {
        Self::of(0, 1, VecDeque::new())
    }
}

impl Book {
    /// The lines from `first` on.
    pub fn of(index: u64, first: u64, entries: VecDeque<Entry>) -> Self {
        let numbers = (first..).zip(&entries).map(|(number, entry)| (entry.mark, number)).collect();
        Self { index, first, entries, numbers }
    }

    /// Log index it reflects: commands up to it are passed over.
    pub fn index(&self) -> u64 {
        self.index
    }
    /// The oldest number kept, or the next one if none is.
    pub fn first(&self) -> u64 {
        self.first
    }
    /// The oldest number whose line is of that time or later, or the next one if there is none.
    pub fn first_since(&self, time_ms: u64) -> u64 {
        self.first + self.entries.partition_point(|line| line.time_ms < time_ms) as u64
    }
    /// The number that the next line gets.
    pub fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
    /// What is kept, from [`Book::first`] on.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.entries.iter().copied()
    }

    /// The line that stands for what has this mark at that time.
    fn known(&self, mark: u128, time_ms: u64) -> Option<u64> {
        let number = *self.numbers.get(&mark)?;
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let entry = self.entries.get(at)?;
        (time_ms <= entry.time_ms.saturating_add(REPEAT_MS)).then_some(number)
    }

    /// Adds what is new of the lines, and lets go of what is too old or too much.
    pub fn apply(&mut self, index: u64, command: AuditCommand) -> Written {
        if index <= self.index {
            return Written { gone: (self.first, self.first), ..Written::default() };
        }
        self.index = index;
        let AuditCommand { time_ms, keep, age_ms, lines } = command;
        let time_ms = self.entries.back().map_or(time_ms, |last| time_ms.max(last.time_ms));
        let mut written = Written::default();
        let room = 2 * lines.len() + FORGOTTEN_AT_ONCE;
        for Wanted { line, mark } in lines {
            let known = self.known(mark, time_ms).filter(|_| !planted("audit-twice"));
            let number = match known {
                Some(known) => known,
                None => {
                    let number = self.next();
                    self.entries.push_back(Entry { time_ms, mark });
                    self.numbers.insert(mark, number);
                    written.fresh.push((AuditLine { number, time_ms, ..line }, mark));
                    number
                }
            };
            written.numbers.push(number);
        }
        let before = self.first;
        for _ in 0..room {
            let over = self.entries.len() > keep.max(MOST_LINES as u32) as usize;
            let old = self.entries.front().is_some_and(|line| line.time_ms.saturating_add(age_ms) < time_ms);
            if !(over || old) {
                break;
            }
            written.young += u64::from(!old);
            if let Some(gone) = self.entries.pop_front() {
                // A later line may have the same mark.
                if self.numbers.get(&gone.mark) == Some(&self.first) {
                    self.numbers.remove(&gone.mark);
                }
                self.first += 1;
            }
        }
        written.gone = (before, self.first);
        written
    }
}

#[cfg(test)]
mod tests {
    use rookery_wire::{AuditEntity, RequestKey, UserId};

    use super::*;

    const DAY: u64 = 86_400_000;

    fn wanted(mark: u128) -> Wanted {
        let user: UserId = "ann".parse().unwrap();
        let key: RequestKey = format!("key-{mark}").parse().unwrap();
        let line = AuditLine {
            number: 0,
            time_ms: 0,
            service: "shop".parse().unwrap(),
            device: "backend".parse().unwrap(),
            on_behalf_of: None,
            action: 8,
            part: 0,
            entity: AuditEntity::User(user),
            key,
        };
        Wanted { line, mark }
    }

    fn add(book: &mut Book, index: u64, time_ms: u64, marks: impl IntoIterator<Item = u128>) -> Written {
        let lines = marks.into_iter().map(wanted).collect();
        book.apply(index, AuditCommand { time_ms, keep: 300, age_ms: DAY, lines })
    }

    #[test]
    fn who_asks_again_has_the_line_that_is_there() {
        let mut book = Book::default();
        assert_eq!(add(&mut book, 1, 100, [7, 8, 7]).numbers, [1, 2, 1]);
        let again = add(&mut book, 2, 90, [8, 9]);
        assert_eq!((again.numbers.as_slice(), again.fresh.len()), ([2, 3].as_slice(), 1));
        assert_eq!(again.fresh[0].0.time_ms, 100, "time does not go back");
        let replayed = add(&mut book, 2, 90, [8, 10]);
        assert_eq!((replayed.numbers.len(), replayed.fresh.len()), (0, 0), "it reflects that entry");
    }

    #[test]
    fn a_key_that_may_be_forgotten_is_carried_out_with_a_line_of_its_own() {
        let mut book = Book::default();
        let add = |book: &mut Book, index, time_ms, keep| {
            let lines = vec![wanted(7)];
            book.apply(index, AuditCommand { time_ms, keep, age_ms: 3 * DAY, lines })
        };
        assert_eq!(add(&mut book, 1, 100, 300).numbers, [1]);
        assert_eq!(add(&mut book, 2, 100 + REPEAT_MS, 300).numbers, [1]);
        assert_eq!(add(&mut book, 3, 101 + REPEAT_MS, 300).numbers, [2]);
        let gone = add(&mut book, 4, 101 + 3 * DAY, 300);
        assert_eq!((gone.numbers.as_slice(), gone.gone), ([3].as_slice(), (1, 2)), "the first is too old");
        assert_eq!(add(&mut book, 5, 102 + 3 * DAY, 300).numbers, [3], "with it its mark did not go");
        let copy = Book::of(book.index(), book.first(), book.entries().collect());
        assert_eq!(copy.numbers, book.numbers);
    }

    #[test]
    fn lines_go_by_number_and_by_age_and_numbers_never_come_again() {
        let mut book = Book::default();
        for index in 1..=10u64 {
            add(&mut book, index, index, (0..100).map(|mark| u128::from(index * 1000 + mark)));
        }
        assert_eq!((book.first(), book.next(), book.entries().count()), (701, 1001, 300));
        assert_eq!((book.first_since(0), book.first_since(9), book.first_since(11)), (701, 801, 1001));
        let pushed = add(&mut book, 11, 10, [999_999]);
        assert_eq!((pushed.gone, pushed.young), ((701, 702), 1), "pushed out, and not too old");
        let late = add(&mut book, 12, DAY + 100, [1]);
        assert_eq!((late.numbers.as_slice(), late.gone), ([1002].as_slice(), (702, 768)), "some at a time");
        for index in 13..=21 {
            assert_eq!(add(&mut book, index, DAY + 100, [1]).young, 0, "they are too old");
        }
        assert_eq!((book.first(), book.next()), (1002, 1003), "all that were old are gone");
        let forgotten = add(&mut book, 22, DAY + 101, [1000]);
        assert_eq!(forgotten.numbers, [1003], "what is forgotten is written anew");
        let copy = Book::of(book.index(), book.first(), book.entries().collect());
        assert_eq!((copy.next(), &copy.numbers), (book.next(), &book.numbers));
    }
}

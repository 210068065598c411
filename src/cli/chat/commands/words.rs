//! The arguments of a command, word by word.

use std::str::FromStr;
use std::time::Duration;

use rookery_client::wire::{GroupId, UserId};

/// Why a command cannot be done as it was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Its arguments are others.
    Usage,
    /// One of them is not what it should be.
    Said(String),
}

/// What stands behind a command's name.
#[derive(Debug)]
pub(super) struct Words<'a>(&'a str);

/// Shortest and longest time of a message that goes, seconds.
const TIMES: (u64, u64) = (1, 315_360_000);

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self(text.trim())
    }

    /// The next word, if there is one.
    pub(super) fn next(&mut self) -> Option<&'a str> {
        let end = self.0.find(char::is_whitespace).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest.trim_start();
        (!word.is_empty()).then_some(word)
    }

    /// All that is left, as it was written.
    pub(super) fn rest(self) -> &'a str {
        self.0
    }

    /// The same, where something must be said.
    pub(super) fn text(self) -> Result<String, Wrong> {
        if self.0.is_empty() { Err(Wrong::Usage) } else { Ok(self.0.to_owned()) }
    }

    /// Nothing is left.
    pub(super) fn end(&self) -> Result<(), Wrong> {
        if self.0.is_empty() { Ok(()) } else { Err(Wrong::Usage) }
    }

    /// The next word as what it must be.
    pub(super) fn named<T: FromStr<Err: std::fmt::Display>>(&mut self) -> Result<T, Wrong> {
        parsed(self.next().ok_or(Wrong::Usage)?)
    }

    pub(super) fn user(&mut self) -> Result<UserId, Wrong> {
        user(self.next().ok_or(Wrong::Usage)?)
    }

    /// One user and nothing else.
    pub(super) fn only_user(mut self) -> Result<UserId, Wrong> {
        let user = self.user()?;
        self.end()?;
        Ok(user)
    }

    /// Users, however many.
    pub(super) fn users(self) -> Result<Vec<UserId>, Wrong> {
        self.0.split_whitespace().map(user).collect()
    }

    /// One at least.
    pub(super) fn some_users(self) -> Result<Vec<UserId>, Wrong> {
        let users = self.users()?;
        if users.is_empty() { Err(Wrong::Usage) } else { Ok(users) }
    }

    pub(super) fn group(&mut self) -> Result<GroupId, Wrong> {
        let word = self.next().ok_or(Wrong::Usage)?;
        parsed(word.strip_prefix('#').unwrap_or(word))
    }

    /// A number, if there is one.
    pub(super) fn number(&mut self) -> Result<Option<u64>, Wrong> {
        self.next().map(|word| word.parse().map_err(|_| Wrong::Usage)).transpose()
    }

    /// A number or nothing, and nothing else.
    pub(super) fn only_number(mut self) -> Result<Option<u64>, Wrong> {
        let number = self.number()?;
        self.end()?;
        Ok(number)
    }

    /// One of these words.
    pub(super) fn one_of<T: Copy>(&mut self, words: &[(&str, T)]) -> Result<T, Wrong> {
        let word = self.next().ok_or(Wrong::Usage)?;
        words.iter().find(|(known, _)| *known == word).map(|(_, what)| *what).ok_or(Wrong::Usage)
    }

    /// One of these words and nothing else.
    pub(super) fn only_one_of<T: Copy>(mut self, words: &[(&str, T)]) -> Result<T, Wrong> {
        let what = self.one_of(words)?;
        self.end()?;
        Ok(what)
    }

    /// A time with its unit: `30s`, `5m`, `2h`, `1d`.
    pub(super) fn time(&mut self) -> Result<Duration, Wrong> {
        let word = self.next().ok_or(Wrong::Usage)?;
        let wrong = || Wrong::Said(format!("{word} is no time; write 30s, 5m, 2h or 1d, up to 10 years"));
        let unit = word.chars().next_back().and_then(|unit| match unit {
            's' => Some(1),
            'm' => Some(60),
            'h' => Some(3_600),
            'd' => Some(86_400),
            _ => None,
        });
        let unit: u64 = unit.ok_or_else(wrong)?;
        let count: u64 = word[..word.len() - 1].parse().map_err(|_| wrong())?;
        let seconds = count.checked_mul(unit).filter(|time| (TIMES.0..=TIMES.1).contains(time));
        seconds.map(Duration::from_secs).ok_or_else(wrong)
    }
}

/// A user as people write it: with an `@` and a comma, or without.
fn user(word: &str) -> Result<UserId, Wrong> {
    parsed(word.strip_prefix('@').unwrap_or(word).trim_end_matches(','))
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(word: &str) -> Result<T, Wrong> {
    word.parse().map_err(|fault| Wrong::Said(format!("{word}: {fault}")))
}

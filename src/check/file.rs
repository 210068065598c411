//! A history as a file of JSON lines, so that a run can be judged again, elsewhere or by a newer judge.
//!
//! One line per thing, tagged with what it is; the order of lines of one kind is kept. Reading refuses a line it
//! does not understand with its number: half a history must not be judged as if it were whole, and for the same
//! reason the last line says how many there were.

use std::io::{BufRead, Write};

use rookery_wire::{DeviceId, SessionId, UserId};
use serde::{Deserialize, Serialize};

use super::history::{
    Bar, DeviceIx, Dump, Entry, Handed, History, Keyed, Mark, Micros, Page, Retry, Roster, Round, Seal, Send,
    SessionIx, Setup, Stream, Sync, UserIx,
};

/// Why a file is no history.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// It could not be read or written.
    #[error("history file: {0}")]
    Io(#[from] std::io::Error),
    /// A line is not what this version writes.
    #[error("line {line} of the history: {fault}; record it again with this version")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong.
        fault: String,
    },
    /// The closing line is missing or counts other lines than there are.
    #[error("the history is cut short: {0} lines and no closing line that says so")]
    Cut(u64),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Item {
    Setup(Setup),
    User(UserId),
    Device(UserIx, DeviceId),
    Session(SessionId),
    Send(Send),
    Retry(Retry),
    Page(Page),
    Mark(Mark),
    Bar(Bar),
    Sync(Sync),
    Stream(Stream),
    Handed(Handed),
    Seal(Seal),
    Trimmed(SessionIx, Vec<Entry>),
    Keyed(Keyed),
    Audit(u64, u64),
    Dump(Dump),
    Roster(Roster),
    Unread(u16, SessionIx, String),
    Fault(Micros, DeviceIx, String),
    Round(Round),
    End(u64),
}

/// Writes a history.
///
/// # Errors
/// What the writer reports.
pub fn write(history: &History, out: impl Write) -> Result<(), FileFault> {
    let mut lines = Lines { out: std::io::BufWriter::new(out), count: 0 };
    lines.put(&Item::Setup(history.setup.clone()))?;
    let names = &history.names;
    lines.all(&names.users, Item::User)?;
    lines.all(&names.devices, |(user, device)| Item::Device(user, device))?;
    lines.all(&names.sessions, Item::Session)?;
    lines.all(&history.rounds, Item::Round)?;
    lines.all(&history.sends, Item::Send)?;
    lines.all(&history.retries, Item::Retry)?;
    lines.all(&history.pages, Item::Page)?;
    lines.all(&history.marks, Item::Mark)?;
    lines.all(&history.bars, Item::Bar)?;
    lines.all(&history.syncs, Item::Sync)?;
    lines.all(&history.streams, Item::Stream)?;
    lines.all(&history.handed, Item::Handed)?;
    lines.all(&history.seals, Item::Seal)?;
    lines.all(&history.trimmed, |(session, entries)| Item::Trimmed(session, entries))?;
    lines.all(&history.keyed, Item::Keyed)?;
    lines.all(&history.audit, |(number, key)| Item::Audit(number, key))?;
    lines.all(&history.dumps, Item::Dump)?;
    lines.all(&history.rosters, Item::Roster)?;
    lines.all(&history.unread, |(node, session, why)| Item::Unread(node, session, why))?;
    lines.all(&history.faults, |(at, device, what)| Item::Fault(at, device, what))?;
    let count = lines.count;
    lines.put(&Item::End(count))?;
    lines.out.flush()?;
    Ok(())
}

struct Lines<W: Write> {
    out: std::io::BufWriter<W>,
    count: u64,
}

impl<W: Write> Lines<W> {
    fn put(&mut self, item: &Item) -> Result<(), FileFault> {
        serde_json::to_writer(&mut self.out, item).map_err(std::io::Error::from)?;
        self.out.write_all(b"\n")?;
        self.count += 1;
        Ok(())
    }

    fn all<T: Clone>(&mut self, things: &[T], item: impl Fn(T) -> Item) -> Result<(), FileFault> {
        things.iter().try_for_each(|thing| self.put(&item(thing.clone())))
    }
}

/// Reads what [`write()`] wrote.
///
/// # Errors
/// [`FileFault`] names the first line that is wrong.
pub fn read(input: impl BufRead) -> Result<History, FileFault> {
    let mut history = History::default();
    let mut count = 0u64;
    let mut ended = false;
    for line in input.lines() {
        let line = line?;
        let item = serde_json::from_str(&line)
            .map_err(|fault| FileFault::Line { line: count + 1, fault: fault.to_string() })?;
        if let Item::End(said) = item {
            ended = said == count;
            break;
        }
        count += 1;
        history.take(item);
    }
    if ended { Ok(history) } else { Err(FileFault::Cut(count)) }
}

impl History {
    fn take(&mut self, item: Item) {
        match item {
            Item::Setup(setup) => self.setup = setup,
            Item::User(user) => self.names.users.push(user),
            Item::Device(user, device) => self.names.devices.push((user, device)),
            Item::Session(session) => self.names.sessions.push(session),
            Item::Send(send) => self.sends.push(send),
            Item::Retry(retry) => self.retries.push(retry),
            Item::Page(page) => self.pages.push(page),
            Item::Mark(mark) => self.marks.push(mark),
            Item::Bar(bar) => self.bars.push(bar),
            Item::Sync(sync) => self.syncs.push(sync),
            Item::Stream(stream) => self.streams.push(stream),
            Item::Handed(handed) => self.handed.push(handed),
            Item::Seal(seal) => self.seals.push(seal),
            Item::Trimmed(session, entries) => self.trimmed.push((session, entries)),
            Item::Keyed(keyed) => self.keyed.push(keyed),
            Item::Audit(number, key) => self.audit.push((number, key)),
            Item::Dump(dump) => self.dumps.push(dump),
            Item::Roster(roster) => self.rosters.push(roster),
            Item::Unread(node, session, why) => self.unread.push((node, session, why)),
            Item::Fault(at, device, what) => self.faults.push((at, device, what)),
            Item::Round(round) => self.rounds.push(round),
            Item::End(_) => {}
        }
    }
}

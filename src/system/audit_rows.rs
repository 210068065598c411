//! The audit in the node's store: one row a line, written together with the system group's mark.
//!
//! Rows stand under a *generation*: a snapshot is written under the next one, and the head row that names it flips to it in
//! the batch that also holds facts and mark. What another generation left is taken out when the store is opened.

use std::collections::VecDeque;

use bincode::{Decode, Encode};
use bytes::Bytes;
use rookery_raft::{Batch, Fault, Map, MapView, SnapshotReader, SnapshotWriter, StoreError};
use rookery_wire::AuditLine;
use rookery_wire::codec::decode;

use super::audit::{Book, Entry, Written};
use crate::shard::checkpoint::store_fault;

const HEAD_KEY: &[u8] = b"audit";
const LINE: &[u8] = b"line";
/// Rows read at a time, and bytes of them.
const PAGE: (usize, usize) = (512, 96 << 10);
/// Entries in one chunk of a snapshot.
const CHUNK_ENTRIES: usize = 4096;

/// The one row beside the lines.
#[derive(Debug, Clone, Copy, Encode, Decode)]
struct Head {
    index: u64,
    generation: u64,
    next: u64,
}

/// A line's row. One that a snapshot did not bring, for it went meanwhile, is known by its mark alone.
#[derive(Debug, Clone, Encode, Decode)]
struct Row {
    entry: Entry,
    line: Option<AuditLine>,
}

/// A part of a snapshot, behind the facts.
#[derive(Debug, Encode, Decode)]
enum Part {
    /// First of all: log index and the oldest number.
    Begin { index: u64, first: u64 },
    /// Times and marks, ascending.
    Entries(Vec<Entry>),
    /// Lines, by number, ascending.
    Lines(Vec<AuditLine>),
}

fn key(generation: u64, number: u64) -> Bytes {
    [LINE, &generation.to_be_bytes(), &number.to_be_bytes()].concat().into()
}

fn damaged(what: &'static str) -> impl Fn(rookery_wire::DecodeFault) -> Fault {
    move |fault| Fault::with_source(format!("{what} of the audit cannot be read"), fault)
}

fn put_line(batch: &mut Batch, generation: u64, number: u64, row: &Row) {
    batch.put(key(generation, number), rookery_wire::encode(row));
}

/// Puts what a command did into the batch.
pub(super) fn put(batch: &mut Batch, generation: u64, written: Written) {
    for (line, mark) in written.fresh {
        let entry = Entry { time_ms: line.time_ms, mark };
        put_line(batch, generation, line.number, &Row { entry, line: Some(line) });
    }
    (written.gone.0..written.gone.1).for_each(|number| batch.delete(key(generation, number)));
}

/// Puts where the book stands into the batch.
pub(super) fn put_head(batch: &mut Batch, generation: u64, book: &Book) {
    let head = Head { index: book.index(), generation, next: book.next() };
    batch.put(Bytes::from_static(HEAD_KEY), rookery_wire::encode(&head));
}

/// The book and its generation as the store holds them.
///
/// # Errors
/// [`Fault`] when the store failed or rows are damaged.
pub(super) async fn open(map: &Map) -> Result<(u64, Book), Fault> {
    let head = map.read(|view| view.get(HEAD_KEY)).await.map_err(store_fault)?;
    let head: Option<Head> = head.map(|bytes| decode(&bytes)).transpose().map_err(damaged("the head"))?;
    let Head { index, generation, next } = head.unwrap_or(Head { index: 0, generation: 0, next: 1 });
    let (mut first, mut entries) = (next, VecDeque::new());
    let mut from = key(generation, 0);
    loop {
        let rows = range(map, from, key(generation, u64::MAX)).await?;
        let Some((last, _)) = rows.last() else { break };
        from = successor(last);
        for (at, value) in rows {
            let row: Row = decode(&value).map_err(damaged("a line"))?;
            let number = at.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            if entries.is_empty() {
                first = number;
            }
            entries.push_back(row.entry);
        }
    }
    if first + entries.len() as u64 != next {
        return Err(Fault::new(format!("the audit has {} lines from {first} on, and {next} as next", entries.len())));
    }
    clear(map, Some(generation)).await?;
    Ok((generation, Book::of(index, first, entries)))
}

async fn range(map: &Map, from: Bytes, to: Bytes) -> Result<Vec<(Bytes, Bytes)>, Fault> {
    let read = move |view: &MapView<'_>| -> Result<_, StoreError> { view.range(&from, &to, PAGE.0, PAGE.1, false) };
    map.read(read).await.map_err(store_fault)
}

fn successor(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

/// Takes out all lines but those of one generation.
pub(super) async fn clear(map: &Map, but: Option<u64>) -> Result<(), Fault> {
    let mut from = Bytes::from_static(LINE);
    let end = Bytes::from_static(b"linf");
    loop {
        let rows = range(map, from.clone(), end.clone()).await?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        from = successor(last);
        let kept = but.map(|generation| [LINE, &generation.to_be_bytes()].concat());
        let mut batch = Batch::default();
        for (key, _) in rows {
            match &kept {
                // Past all that is kept at once: there may be many.
                Some(kept) if key.starts_with(kept) => {
                    from = but.map_or(end.clone(), |generation| self::key(generation.saturating_add(1), 0));
                    break;
                }
                _ => batch.delete(key),
            }
        }
        if !batch.is_empty() {
            map.apply(batch).await.map_err(store_fault)?;
        }
    }
}

/// At most `limit` lines after a number, ascending.
///
/// # Errors
/// What the store says, also that it is busy, or that a line is damaged.
pub(super) async fn lines(map: &Map, generation: u64, after: u64, limit: usize) -> Result<Vec<AuditLine>, String> {
    let (from, to) = (key(generation, after.saturating_add(1)), key(generation, u64::MAX));
    let rows = map.query(move |view| view.range(&from, &to, limit, PAGE.1, false)).await;
    let rows: Result<Vec<Row>, _> =
        rows.map_err(|fault| fault.to_string())?.into_iter().map(|(_, value)| decode(&value)).collect();
    let rows = rows.map_err(|fault| format!("a line of the audit cannot be read: {fault}"))?;
    Ok(rows.into_iter().filter_map(|row| row.line).collect())
}

/// Streams a book and its lines. Lines that go meanwhile are passed over: the replay lets them go too.
pub(super) async fn write(map: &Map, generation: u64, book: &Book, out: &SnapshotWriter) -> Result<(), Fault> {
    let send = |part: Part| out.chunk(rookery_wire::encode(&part));
    send(Part::Begin { index: book.index(), first: book.first() }).await?;
    let entries: Vec<Entry> = book.entries().collect();
    for part in entries.chunks(CHUNK_ENTRIES) {
        send(Part::Entries(part.to_vec())).await?;
    }
    let mut from = key(generation, book.first());
    loop {
        let rows = range(map, from, key(generation, book.next())).await?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        from = successor(last);
        let rows: Result<Vec<Row>, _> = rows.into_iter().map(|(_, value)| decode(&value)).collect();
        let lines = rows.map_err(damaged("a line"))?.into_iter().filter_map(|row| row.line);
        send(Part::Lines(lines.collect())).await?;
    }
}

/// Writes what a snapshot brings under a generation, and gives the book.
pub(super) async fn install(map: &Map, generation: u64, input: &mut SnapshotReader) -> Result<Book, Fault> {
    let (mut index, mut first, mut entries) = (0, 1, VecDeque::new());
    let mut next_line = None;
    while let Some(chunk) = input.next().await? {
        let mut batch = Batch::default();
        match decode(&chunk).map_err(damaged("a snapshot"))? {
            Part::Begin { index: at, first: from } => (index, first) = (at, from),
            Part::Entries(part) => {
                for (number, entry) in (first + entries.len() as u64..).zip(&part) {
                    put_line(&mut batch, generation, number, &Row { entry: *entry, line: None });
                }
                entries.extend(part);
            }
            Part::Lines(lines) => {
                for line in lines {
                    let at = line.number.checked_sub(first).and_then(|at| usize::try_from(at).ok());
                    let entry = at.and_then(|at| entries.get(at)).copied();
                    let entry = entry.ok_or_else(|| Fault::new("a line of the audit has no place in it"))?;
                    next_line = Some(line.number);
                    put_line(&mut batch, generation, line.number, &Row { entry, line: Some(line) });
                }
            }
        }
        if !batch.is_empty() {
            map.apply(batch).await.map_err(store_fault)?;
        }
    }
    tracing::debug!(first, entries = entries.len(), last_line = next_line, "the audit came with a snapshot");
    Ok(Book::of(index, first, entries))
}

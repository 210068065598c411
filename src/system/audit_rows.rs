//! The audit in the node's store: one row a line, written together with the system group's mark.
//!
//! Rows stand under a *generation*: a snapshot is written under the next one, and the head row that names it flips to it in
//! the batch that also holds facts and mark. What another generation left is taken out when the store is opened.

use std::collections::VecDeque;

use bincode::{Decode, Encode};
use bytes::Bytes;
use rookery_raft::{Batch, Fault, Map, MapView, StoreError};
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
        return Err(Fault::new(format!(
            "the audit has {} lines from {first} on, and {next} as next",
            entries.len()
        )));
    }
    clear(map, Some(generation)).await?;
    Ok((generation, Book::of(index, first, entries)))
}

async fn range(map: &Map, from: Bytes, to: Bytes) -> Result<Vec<(Bytes, Bytes)>, Fault> {
    let read =
        move |view: &MapView<'_>| -> Result<_, StoreError> { view.range(&from, &to, PAGE.0, PAGE.1, false) };
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
pub(super) async fn lines(
    map: &Map,
    generation: u64,
    after: u64,
    limit: usize,
) -> Result<Vec<AuditLine>, String> {
    let (from, to) = (key(generation, after.saturating_add(1)), key(generation, u64::MAX));
    let rows = map.query(move |view| view.range(&from, &to, limit, PAGE.1, false)).await;
    let rows: Result<Vec<Row>, _> =
        rows.map_err(|fault| fault.to_string())?.into_iter().map(|(_, value)| decode(&value)).collect();
    let rows = rows.map_err(|fault| format!("a line of the audit cannot be read: {fault}"))?;
    Ok(rows.into_iter().filter_map(|row| row.line).collect())
}

/// A book and its lines, part by part, for a snapshot. Lines that go meanwhile are passed over: the replay lets them go
/// too.
pub(super) struct Parts<'a> {
    map: &'a Map,
    begin: Option<Part>,
    entries: VecDeque<Entry>,
    from: Bytes,
    end: Bytes,
}

impl<'a> Parts<'a> {
    /// Of a book whose lines stand under this generation.
    pub(super) fn of(map: &'a Map, generation: u64, book: &Book) -> Self {
        Self {
            map,
            begin: Some(Part::Begin { index: book.index(), first: book.first() }),
            entries: book.entries().collect(),
            from: key(generation, book.first()),
            end: key(generation, book.next()),
        }
    }

    /// The next part, at most a chunk; none at the end.
    ///
    /// # Errors
    /// [`Fault`] when the store failed or rows are damaged.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        if let Some(begin) = self.begin.take() {
            return Ok(Some(rookery_wire::encode(&begin)));
        }
        if !self.entries.is_empty() {
            let some = self.entries.len().min(CHUNK_ENTRIES);
            let part = Part::Entries(self.entries.drain(..some).collect());
            return Ok(Some(rookery_wire::encode(&part)));
        }
        let rows = range(self.map, self.from.clone(), self.end.clone()).await?;
        let Some((last, _)) = rows.last() else { return Ok(None) };
        self.from = successor(last);
        let rows: Result<Vec<Row>, _> = rows.into_iter().map(|(_, value)| decode(&value)).collect();
        let lines = rows.map_err(damaged("a line"))?.into_iter().filter_map(|row| row.line);
        Ok(Some(rookery_wire::encode(&Part::Lines(lines.collect()))))
    }
}

/// Takes the parts of a snapshot and writes them under a generation that is not in use.
pub(super) struct Arriving<'a> {
    map: &'a Map,
    generation: u64,
    index: u64,
    first: u64,
    entries: VecDeque<Entry>,
}

impl<'a> Arriving<'a> {
    /// Nothing has come yet.
    pub(super) fn under(map: &'a Map, generation: u64) -> Self {
        Self { map, generation, index: 0, first: 1, entries: VecDeque::new() }
    }

    /// The next part.
    ///
    /// # Errors
    /// [`Fault`] when the store failed, or this is no part.
    pub(super) async fn take(&mut self, part: Bytes) -> Result<(), Fault> {
        let mut batch = Batch::default();
        match decode(&part).map_err(damaged("a snapshot"))? {
            Part::Begin { index, first } => (self.index, self.first) = (index, first),
            Part::Entries(part) => {
                let from = self.first + self.entries.len() as u64;
                for (number, entry) in (from..).zip(&part) {
                    put_line(&mut batch, self.generation, number, &Row { entry: *entry, line: None });
                }
                self.entries.extend(part);
            }
            Part::Lines(lines) => {
                for line in lines {
                    let at = line.number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
                    let entry = at.and_then(|at| self.entries.get(at)).copied();
                    let entry = entry.ok_or_else(|| Fault::new("a line of the audit has no place in it"))?;
                    put_line(&mut batch, self.generation, line.number, &Row { entry, line: Some(line) });
                }
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.map.apply(batch).await.map_err(store_fault)
    }

    /// Everything has come.
    pub(super) fn book(self) -> Book {
        Book::of(self.index, self.first, self.entries)
    }
}

#[cfg(test)]
mod tests {
    use rookery_raft::{MemoryDisk, Store};

    use super::*;
    use crate::system::audit::AuditCommand;
    use crate::system::machine_tests::wanted;

    fn map(disk: u64) -> Map {
        Store::in_memory(MemoryDisk::new(disk)).map("system").unwrap()
    }

    /// Adds so many lines as entry `index`, and writes what follows.
    async fn add(map: &Map, generation: u64, book: &mut Book, index: u64, count: u128) {
        let lines = (0..count).map(|n| wanted((u128::from(index) << 64) | n)).collect();
        let written = book.apply(index, AuditCommand { time_ms: index, keep: 1000, age_ms: 1 << 40, lines });
        let mut batch = Batch::default();
        put(&mut batch, generation, written);
        put_head(&mut batch, generation, book);
        map.apply(batch).await.unwrap();
    }

    fn same(one: &Book, other: &Book) {
        let of = |book: &Book| (book.index(), book.first(), book.entries().collect::<Vec<_>>());
        assert_eq!(of(one), of(other));
    }

    #[tokio::test]
    async fn the_audit_comes_back_from_its_rows() {
        let map = map(1);
        let (generation, mut book) = open(&map).await.unwrap();
        assert_eq!((generation, book.next()), (0, 1));
        for index in 1..=6 {
            add(&map, 0, &mut book, index, 200).await;
        }
        assert_eq!((book.first(), book.next()), (201, 1201));
        let (_, back) = open(&map).await.unwrap();
        same(&back, &book);
        let page = lines(&map, 0, 300, 50).await.unwrap();
        assert_eq!(page.iter().map(|line| line.number).collect::<Vec<_>>(), (301..351).collect::<Vec<_>>());
        let first = lines(&map, 0, 0, 1).await.unwrap();
        assert_eq!(first[0].number, 201, "what went is gone");
    }

    #[tokio::test]
    async fn a_snapshot_brings_the_audit_and_an_interrupted_one_leaves_the_old() {
        let (from, to) = (map(1), map(2));
        let (mut book, mut old) = (Book::default(), Book::default());
        for index in 1..=5 {
            add(&from, 0, &mut book, index, 200).await;
        }
        add(&to, 0, &mut old, 1, 7).await;
        let mut parts = Parts::of(&from, 0, &book);
        let mut chunks = vec![parts.next().await.unwrap().unwrap()];
        // Lines come and go while it is streamed; it is of the moment at which it was cut.
        let cut = book.clone();
        add(&from, 0, &mut book, 6, 200).await;
        while let Some(chunk) = parts.next().await.unwrap() {
            assert!(chunk.len() <= rookery_raft::MAX_CHUNK);
            chunks.push(chunk);
        }
        let mut broken = Arriving::under(&to, 1);
        for chunk in &chunks[..chunks.len() - 1] {
            broken.take(chunk.clone()).await.unwrap();
        }
        let (generation, still) = open(&to).await.unwrap();
        assert_eq!(generation, 0);
        same(&still, &old);

        let mut arriving = Arriving::under(&to, 1);
        for chunk in chunks {
            arriving.take(chunk).await.unwrap();
        }
        let came = arriving.book();
        same(&came, &cut);
        let mut batch = Batch::default();
        put_head(&mut batch, 1, &came);
        to.apply(batch).await.unwrap();
        let (generation, mut back) = open(&to).await.unwrap();
        assert_eq!(generation, 1);
        same(&back, &cut);
        assert!(lines(&to, 0, 0, 9).await.unwrap().is_empty(), "the old generation is taken out");
        // The entry that came meanwhile ends as it did there.
        add(&to, 1, &mut back, 6, 200).await;
        same(&back, &book);
        assert_eq!(lines(&to, 1, 700, 9).await.unwrap(), lines(&from, 0, 700, 9).await.unwrap());
    }
}

//! Reading the journal at open (R1): which batches sled misses, and whether anything disagrees.
//!
//! Walks the segments by generation from the one that holds the batch after sled's position, derives every group's
//! meta as it goes, and compares: at each segment header with the header, at sled's position with sled. A bad batch is
//! cut as a torn tail only at the very end of the newest segment, above sled's position, with no later batch anywhere;
//! everything else is damage. Must never repair by guessing; it reads, and writes nothing.

use std::sync::Arc;

use crate::store::meta::{GroupMeta, Metas};
use crate::store::record::Record;

use super::Place;
use super::format::{BLOCK, BatchHead, HEADER_AREA, SIDE, Sealed, SegmentHead};
use super::segments::Segment;

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Batches behind sled's position, in order.
    pub(crate) missed: Vec<Arc<Sealed>>,
    /// Every group as of the last batch.
    pub(crate) metas: Metas,
    /// Where writing goes on (generation: of the newest segment).
    pub(crate) place: Place,
    /// All segments, in the order in which they may be overwritten.
    pub(crate) segments: Vec<Arc<Segment>>,
}

/// Reads `segments`; `position` and `settled` are what sled says. The error names what disagrees.
pub(crate) fn recover(
    segments: Vec<Segment>,
    store: u64,
    position: u64,
    settled: &Metas,
    beat: &dyn Fn(),
) -> Result<Found, String> {
    for (at, segment) in segments.iter().enumerate() {
        if segment.id as usize != at + 1 {
            return Err(format!("journal segment {} is missing", at + 1));
        }
    }
    let mut headed = Vec::new();
    let mut free = Vec::new();
    for segment in segments {
        beat();
        let segment = Arc::new(segment);
        match read_head(&segment, store)? {
            Some(head) => headed.push((head, segment)),
            None => {
                refuse_later_batches(&segment, store, position, beat)?;
                free.push(segment);
            }
        }
    }
    let files = headed.iter().map(|(head, _)| head.files).max().unwrap_or(0);
    if files as usize > headed.len() + free.len() {
        return Err(format!("journal segment {files} is missing"));
    }
    headed.sort_by_key(|(head, _)| head.generation);
    let mut walk = Walk::new(store, position, settled, &headed)?;
    for (head, segment) in headed.iter().skip(walk.first) {
        walk.segment(head, segment, beat)?;
    }
    walk.finish()?;
    // The newest comes last: it is overwritten only when another carries the next header.
    let order = free.into_iter().chain(headed.into_iter().map(|(_, segment)| segment)).collect();
    let place = Place { store, generation: walk.generation, next: walk.next, link: walk.link };
    Ok(Found { missed: walk.missed, metas: walk.metas, place, segments: order })
}

/// None for a segment that was never used, or whose header is unreadable.
fn read_head(segment: &Segment, store: u64) -> Result<Option<SegmentHead>, String> {
    let bytes = read(segment, 0, HEADER_AREA)?;
    match SegmentHead::decode(&bytes) {
        Some(head) if head.store == store => Ok(Some(head)),
        Some(_) => Err(format!("{} belongs to another store", segment.path.display())),
        None => Ok(None),
    }
}

/// A header is durable before the first batch behind it is written, so batches that sled misses behind an unreadable
/// header mean damage. Of what is torn there only its headers may stand: nobody was ever told that it is there, another
/// batch has its number by now, and the segment may be about to be used again.
fn refuse_later_batches(segment: &Segment, store: u64, position: u64, beat: &dyn Fn()) -> Result<(), String> {
    let bytes = read_all(segment)?;
    let later = scan(&bytes, HEADER_AREA, beat).find(|(head, back, at)| {
        head.store == store && head.number > position && is_whole(&bytes, *head, *back, *at)
    });
    match later {
        Some((head, ..)) => Err(format!(
            "{}: the header is unreadable but batch {} follows it",
            segment.path.display(),
            head.number
        )),
        None => Ok(()),
    }
}

/// Whether the body is whole of the batch with this header, front or back, at `at`.
fn is_whole(bytes: &[u8], head: BatchHead, back: bool, at: usize) -> bool {
    let starts = if back { (at + SIDE).checked_sub(head.length as usize) } else { Some(at) };
    starts.and_then(|starts| bytes.get(starts..)).is_some_and(|from| Sealed::check(head, from).is_some())
}

/// Every header of a batch, front or back, from `from` on: header, whether back, where it stands.
fn scan<'a>(
    bytes: &'a [u8],
    from: usize,
    beat: &'a dyn Fn(),
) -> impl Iterator<Item = (BatchHead, bool, usize)> + 'a {
    (from..bytes.len()).step_by(BLOCK).flat_map(move |at| {
        beat();
        let back = at + BLOCK - SIDE;
        let pick = |at: usize, side: bool| {
            let (head, is_back) = bytes.get(at..).and_then(BatchHead::decode)?;
            (is_back == side).then_some((head, side, at))
        };
        [pick(at, false), pick(back, true)].into_iter().flatten()
    })
}

struct Walk<'a> {
    position: u64,
    settled: &'a Metas,
    /// Index into the headed segments.
    first: usize,
    next: u64,
    link: u32,
    store: u64,
    generation: u64,
    metas: Metas,
    missed: Vec<Arc<Sealed>>,
}

impl<'a> Walk<'a> {
    fn new(
        store: u64,
        position: u64,
        settled: &'a Metas,
        headed: &[(SegmentHead, Arc<Segment>)],
    ) -> Result<Self, String> {
        let Some((newest, _)) = headed.last() else {
            // The first segment's header is durable before sled holds anything.
            return Err(format!("no journal segment is readable, but sled stands at batch {position}"));
        };
        let (first, (head, _)) =
            headed.iter().enumerate().rev().find(|(_, (head, _))| head.first <= position + 1).ok_or_else(
                || format!("sled stands at batch {position}, the journal begins later: sled lost batches"),
            )?;
        Ok(Self {
            position,
            settled,
            first,
            next: head.first,
            link: head.link,
            store,
            generation: newest.generation,
            metas: head.metas.clone(),
            missed: Vec::new(),
        })
    }

    /// Takes every batch of one segment in. A bad one ends it; if that was not the end of all, the next segment does
    /// not begin where it should.
    fn segment(&mut self, head: &SegmentHead, segment: &Segment, beat: &dyn Fn()) -> Result<(), String> {
        let name = segment.path.display();
        if head.first != self.next || head.link != self.link {
            return Err(format!("{name} begins at batch {}, expected {}", head.first, self.next));
        }
        if let Some(group) = disagreement(&head.metas, &self.metas) {
            return Err(format!("{name}: its header and the batches before it disagree about group {group}"));
        }
        self.compare_with_sled()?;
        // What was written but not synced before a kill is taken in: it must not be able to vanish behind sled's back.
        segment.sync().map_err(|e| format!("cannot sync {name}: {e}"))?;
        let bytes = read_all(segment)?;
        let mut at = HEADER_AREA;
        while let Some(sealed) = self.batch_at(&bytes, at, head.generation) {
            beat();
            at += sealed.head.length as usize;
            self.take(sealed).map_err(|why| format!("{name}: batch {}: {why}", self.next))?;
        }
        let later = scan(&bytes, at, beat).find(|(other, ..)| {
            other.store == self.store && other.generation == head.generation && other.number > self.next
        });
        if let Some((other, ..)) = later {
            return Err(format!("{name}: batch {} is damaged, batch {} follows it", self.next, other.number));
        }
        Ok(())
    }

    /// The batch with the expected number at `at`, by its front header or, if that is bad, by the back one.
    fn batch_at(&self, bytes: &[u8], at: usize, generation: u64) -> Option<Sealed> {
        let fits = |head: &BatchHead| {
            (head.store, head.generation, head.number, head.link)
                == (self.store, generation, self.next, self.link)
        };
        if let Some((head, false)) = BatchHead::decode(bytes.get(at..)?)
            && fits(&head)
        {
            return Sealed::check(head, &bytes[at..]);
        }
        let (head, _, back) = scan(bytes, at, &|| {}).find(|(head, back, _)| *back && fits(head))?;
        let starts = (back + SIDE).checked_sub(head.length as usize)?;
        if starts != at {
            return None;
        }
        tracing::warn!(
            batch = head.number,
            "the front header of a journal batch is damaged, its back header serves"
        );
        Sealed::check(head, &bytes[at..])
    }

    fn take(&mut self, sealed: Sealed) -> Result<(), String> {
        let mut rest = sealed.body();
        for _ in 0..sealed.head.records {
            let (record, behind) = Record::parse(rest)?;
            self.metas.entry(record.group).or_default().fold(&record)?;
            rest = behind;
        }
        if !rest.is_empty() {
            return Err("bytes behind its last record".into());
        }
        self.link = sealed.head.body_crc;
        self.next += 1;
        if sealed.head.number > self.position {
            self.missed.push(Arc::new(sealed));
        }
        self.compare_with_sled()
    }

    /// At sled's position both must say the same.
    fn compare_with_sled(&self) -> Result<(), String> {
        if self.next != self.position + 1 {
            return Ok(());
        }
        match disagreement(&self.metas, self.settled) {
            None => Ok(()),
            Some(group) => Err(format!(
                "sled and the journal disagree about group {group} as of batch {}: sled {:?}, journal {:?}",
                self.position,
                self.settled.get(&group),
                self.metas.get(&group)
            )),
        }
    }

    fn finish(&self) -> Result<(), String> {
        if self.next <= self.position {
            return Err(format!(
                "sled stands at batch {}, the journal ends at {}: the journal is damaged",
                self.position,
                self.next - 1
            ));
        }
        Ok(())
    }
}

fn disagreement(one: &Metas, other: &Metas) -> Option<crate::types::GroupId> {
    let blank = GroupMeta::default();
    one.keys().chain(other.keys()).copied().find(|group| {
        let (a, b) = (one.get(group).unwrap_or(&blank), other.get(group).unwrap_or(&blank));
        !a.agrees(b)
    })
}

fn read(segment: &Segment, at: u64, bytes: usize) -> Result<Vec<u8>, String> {
    segment.read(at, bytes).map_err(|e| format!("cannot read {}: {e}", segment.path.display()))
}

fn read_all(segment: &Segment) -> Result<Vec<u8>, String> {
    let length = segment.length().map_err(|e| format!("cannot read {}: {e}", segment.path.display()))?;
    read(segment, 0, usize::try_from(length).unwrap_or(usize::MAX))
}

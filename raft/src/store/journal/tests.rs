//! Torn tails at every byte, flipped bits at every kind of place, and whole segments gone wrong.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::format::{Draft, HEADER_AREA, SIDE};
use super::recover::{Found, recover};
use super::segments::{Segment, Segments, list};
use super::{Journal, Place};
use crate::store::fault::StepHook;
use crate::store::meta::{GroupMeta, Metas, chain};
use crate::store::record::{self, Kind, Record};
use crate::types::{Entry, EntryPayload, LeaderId, LogId, Payload, RaftId, Vote};

const STORE: u64 = 77;
const SEGMENT: u64 = 256 * 1024;

fn id(index: u64) -> LogId {
    LogId { leader_id: LeaderId { term: 3, node_id: RaftId::new(1, 5) }, index }
}

/// A journal of `batches` batches of group 1, each an entry of `size` bytes and a vote; and where each one stands.
struct Written {
    temp: tempfile::TempDir,
    metas: Vec<Metas>,
    /// (segment file, offset, length) of batch n at n - 1.
    places: Vec<(u32, u64, u64)>,
}

fn write(batches: u64, size: usize) -> Written {
    let temp = tempfile::tempdir().unwrap();
    let files = (1..=3).map(|id| Arc::new(Segment::create(temp.path(), id, SEGMENT).unwrap())).collect();
    let segments = Arc::new(Segments::new(temp.path().to_owned(), SEGMENT, 3, files));
    let place = Place { store: STORE, generation: 0, next: 1, link: 0 };
    let mut metas = vec![Metas::new()];
    let mut journal = Journal::start(segments, place, &metas[0], StepHook::default()).unwrap();
    let mut places = Vec::new();
    for n in 1..=batches {
        let mut now = metas.last().unwrap().clone();
        let meta = now.entry(1).or_default();
        let mut draft = Draft::new(0);
        let payload = EntryPayload::Normal(Payload(Bytes::from(vec![n as u8; size])));
        let entry = Entry { log_id: id(n), payload };
        record::push_entry(&mut draft.bytes, 1, &entry, |crc| chain(meta.chain, crc)).unwrap();
        let vote =
            Vote { leader_id: LeaderId { term: n, node_id: RaftId::new(2, 9) }, committed: n % 2 == 0 };
        record::push_vote(&mut draft.bytes, 1, &vote).unwrap();
        record::push_point(&mut draft.bytes, Kind::Committed, 1, Some(id(n))).unwrap();
        draft.records = 3;
        Record::iter_trusted(&draft.bytes[SIDE..]).for_each(|r| meta.fold(&r).unwrap());
        let sealed = journal.commit(draft, metas.last().unwrap()).unwrap();
        let length = sealed.bytes.len() as u64;
        places.push((journal.active.id, journal.at - length, length));
        metas.push(now);
    }
    Written { temp, metas, places }
}

impl Written {
    fn file(&self, id: u32) -> std::path::PathBuf {
        self.temp.path().join(format!("{id:08}.seg"))
    }

    /// Recovers as if sled stood at `position`.
    fn recover(&self, position: u64) -> Result<Found, String> {
        recover_dir(self.temp.path(), position, &self.metas[position as usize])
    }

    /// Recovers with `bytes` written at `at` of file `id`, then puts back what was there.
    fn with(&self, id: u32, at: u64, bytes: &[u8], position: u64) -> Result<Found, String> {
        let file = fs::OpenOptions::new().read(true).write(true).open(self.file(id)).unwrap();
        let mut before = vec![0; bytes.len()];
        file.read_exact_at(&mut before, at).unwrap();
        file.write_all_at(bytes, at).unwrap();
        let found = self.recover(position);
        file.write_all_at(&before, at).unwrap();
        found
    }

    fn flip(&self, id: u32, at: u64, bit: u8, position: u64) -> Result<Found, String> {
        let mut byte = [0];
        fs::File::open(self.file(id)).unwrap().read_exact_at(&mut byte, at).unwrap();
        self.with(id, at, &[byte[0] ^ 1 << bit], position)
    }

    fn is_whole(&self, found: &Found) -> bool {
        let batches = self.places.len();
        found.place.next == batches as u64 + 1 && found.metas == self.metas[batches]
    }
}

fn recover_dir(dir: &Path, position: u64, settled: &Metas) -> Result<Found, String> {
    recover(list(dir).unwrap(), STORE, position, settled, &|| {})
}

#[test]
fn what_was_written_is_found_from_every_position() {
    let written = write(40, 9000);
    assert!(written.places.last().unwrap().0 > 1, "the journal did not rotate");
    for position in 0..=40 {
        let found = written.recover(position).unwrap();
        assert!(written.is_whole(&found));
        assert_eq!(found.missed.len() as u64, 40 - position);
        assert!(found.missed.iter().zip(position + 1..).all(|(b, n)| b.head.number == n));
    }
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_nothing_before_it() {
    for size in [10, 5000] {
        let written = write(4, size);
        let (file, at, length) = written.places[3];
        let mut good = vec![0; length as usize];
        fs::File::open(written.file(file)).unwrap().read_exact_at(&mut good, at).unwrap();
        for kept in 0..length {
            // What was not written is either zeros or what an older generation left there.
            for filler in [0, 0xa5] {
                let rest = vec![filler; (length - kept) as usize];
                let found = written.with(file, at + kept, &rest, 2).unwrap();
                // The back header alone may be missing: the front one vouches for the body (and its padding is zeros).
                let body = &good[kept as usize..(length as usize - SIDE).max(kept as usize)];
                let whole = kept >= SIDE as u64 && body.iter().all(|byte| *byte == filler);
                assert_eq!(found.place.next, if whole { 5 } else { 4 }, "torn at {kept} of {length}");
                assert_eq!(found.metas, written.metas[if whole { 4 } else { 3 }]);
            }
        }
    }
}

#[test]
fn sectors_of_the_last_batch_may_be_missing_in_any_combination() {
    let written = write(3, 9000);
    let (file, at, length) = written.places[2];
    let sectors = length / 512;
    for mask in 1_u64..1 << 10 {
        // Spread the mask's bits over the sectors.
        let lost = (0..sectors).filter(|s| mask >> (s % 10) & 1 == 1);
        let mut bytes = vec![0; length as usize];
        fs::File::open(written.file(file)).unwrap().read_exact_at(&mut bytes, at).unwrap();
        lost.for_each(|s| bytes[s as usize * 512..(s as usize + 1) * 512].fill(0));
        let found = written.with(file, at, &bytes, 0).unwrap();
        assert!(found.place.next == 3 || found.metas == written.metas[3]);
    }
}

#[test]
fn a_flipped_bit_before_the_tail_is_damage_and_is_never_served() {
    let written = write(6, 700);
    for (n, (file, at, length)) in written.places.iter().copied().enumerate().take(5) {
        let back = length - SIDE as u64;
        for offset in 0..length {
            let found = written.flip(file, at + offset, (offset % 8) as u8, 0);
            if offset < SIDE as u64 || offset >= back {
                // One header is damaged, the other serves.
                assert!(written.is_whole(&found.unwrap()), "batch {}, header byte {offset}", n + 1);
            } else {
                let why = found.map(|f| f.place).unwrap_err();
                assert!(why.contains("is damaged"), "batch {}, body byte {offset}: {why}", n + 1);
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_the_tail_is_cut_above_sled_and_damage_below() {
    let written = write(3, 300);
    let (file, at, length) = written.places[2];
    for offset in SIDE as u64..length - SIDE as u64 {
        let cut = written.flip(file, at + offset, 3, 1).unwrap();
        assert_eq!((cut.place.next, &cut.metas), (3, &written.metas[2]));
        let why = written.flip(file, at + offset, 3, 3).map(|f| f.place).unwrap_err();
        assert!(why.contains("the journal ends at 2"), "{why}");
    }
}

#[test]
fn a_flipped_bit_in_a_segment_header_is_noticed() {
    let written = write(6, 700);
    let head = super::format::SegmentHead {
        store: STORE,
        generation: 1,
        first: 1,
        link: 0,
        files: 3,
        metas: Metas::from([(1, GroupMeta::default())]),
    };
    let length = head.encode().len().min(256) as u64;
    for bit in 0..length * 8 {
        let found = written.flip(1, bit / 8, (bit % 8) as u8, 0);
        // Bytes behind the header's end belong to nobody.
        match found {
            Err(_) => {}
            Ok(found) => assert!(bit / 8 >= 64 && written.is_whole(&found), "bit {bit} went unnoticed"),
        }
    }
}

#[test]
fn segments_that_vanish_or_disagree_are_noticed() {
    let written = write(44, 9000);
    let used: Vec<u32> =
        [1, 2, 3].into_iter().filter(|id| written.places.iter().any(|p| p.0 == *id)).collect();
    assert_eq!(used.len(), 3);
    for id in used {
        let path = written.file(id);
        let away = path.with_extension("away");
        fs::rename(&path, &away).unwrap();
        let found = written.recover(0);
        assert!(found.is_err(), "segment {id} was not missed");
        // Zeros in place of the whole segment.
        fs::write(&path, vec![0; SEGMENT as usize]).unwrap();
        let newest = id == written.places.last().unwrap().0;
        let found = written.recover(if newest { 44 } else { 0 });
        assert!(found.is_err(), "segment {id} of zeros was not noticed");
        fs::rename(&away, &path).unwrap();
    }
    assert!(written.is_whole(&written.recover(0).unwrap()));
}

#[test]
fn sled_that_forgot_or_disagrees_is_noticed() {
    let written = write(10, 300);
    // Another vote than the journal's at the same batch.
    let mut other = written.metas[5].clone();
    other.get_mut(&1).unwrap().vote = None;
    let why = recover_dir(written.temp.path(), 5, &other).map(|f| f.place).unwrap_err();
    assert!(why.contains("disagree about group 1"), "{why}");
    // Ahead of everything the journal has (R2).
    let why = recover_dir(written.temp.path(), 11, &written.metas[10]).map(|f| f.place).unwrap_err();
    assert!(why.contains("journal ends at 10"), "{why}");
    // Back at the beginning, when the beginning is long overwritten.
    let file = fs::OpenOptions::new().write(true).open(written.file(1)).unwrap();
    let head = super::format::SegmentHead {
        store: STORE,
        generation: 9,
        first: 11,
        link: 0,
        files: 3,
        metas: Metas::new(),
    };
    file.write_all_at(&head.encode(), 0).unwrap();
    file.write_all_at(&vec![0; SEGMENT as usize - HEADER_AREA], HEADER_AREA as u64).unwrap();
    let why = written.recover(0).map(|f| f.place).unwrap_err();
    assert!(why.contains("sled lost batches"), "{why}");
}

#[test]
fn what_an_older_generation_left_behind_is_no_successor() {
    let written = write(40, 9000);
    // The third segment goes round: a new head, one new batch, the rest is old.
    let files: Vec<_> = list(written.temp.path()).unwrap().into_iter().map(Arc::new).collect();
    let found = written.recover(40).unwrap();
    let segments =
        Arc::new(Segments::new(written.temp.path().to_owned(), SEGMENT, 3, vec![files[0].clone()]));
    let mut journal = Journal::start(segments, found.place, &found.metas, StepHook::default()).unwrap();
    let mut metas = found.metas.clone();
    let mut draft = Draft::new(0);
    let vote = Vote { leader_id: LeaderId { term: 99, node_id: RaftId::new(1, 1) }, committed: true };
    record::push_vote(&mut draft.bytes, 1, &vote).unwrap();
    draft.records = 1;
    journal.commit(draft, &metas).unwrap();
    metas.get_mut(&1).unwrap().vote = Some(vote);
    let found = written.recover(40).unwrap();
    assert_eq!((found.place.next, found.metas), (42, metas));
}

#[test]
fn a_torn_tail_is_no_damage_when_its_segment_is_about_to_be_used_again() {
    let written = write(4, 700);
    let (file, at, _) = written.places[3];
    assert_eq!(file, 1);
    // Torn: its headers are there, its body is not.
    let torn = fs::OpenOptions::new().write(true).open(written.file(1)).unwrap();
    torn.write_all_at(&[0xa5; 100], at + SIDE as u64).unwrap();
    let found = written.recover(3).unwrap();
    assert_eq!(found.place.next, 4);
    // Another batch has its number now, in the next segment, and is not in sled yet.
    let second = list(written.temp.path()).unwrap().into_iter().map(Arc::new).nth(1);
    let segments =
        Arc::new(Segments::new(written.temp.path().to_owned(), SEGMENT, 3, second.into_iter().collect()));
    let mut journal = Journal::start(segments, found.place, &found.metas, StepHook::default()).unwrap();
    let mut draft = Draft::new(0);
    let vote = Vote { leader_id: LeaderId { term: 99, node_id: RaftId::new(1, 1) }, committed: true };
    record::push_vote(&mut draft.bytes, 1, &vote).unwrap();
    draft.records = 1;
    journal.commit(draft, &found.metas).unwrap();
    // The first one was to be used next, and its new header came to the disk in part.
    torn.write_all_at(&[0; 100], 0).unwrap();
    let found = written.recover(3).unwrap();
    assert_eq!((found.place.next, found.missed.len()), (5, 1));
    // Had the body been whole, somebody might have been told that it is there.
    let whole = write(4, 700);
    let file = fs::OpenOptions::new().write(true).open(whole.file(1)).unwrap();
    file.write_all_at(&[0; 100], 0).unwrap();
    let why = whole.recover(3).map(|f| f.place).unwrap_err();
    assert!(why.contains("batch 4 follows it"), "{why}");
}

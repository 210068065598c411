//! Sealing: what a checkpoint collected of a session becomes rows, each run of records with the running digest before it.
//!
//! Hashing is a good part of what a record costs, and nobody waits for it: so it is not done where commands are applied but
//! here, once, by whoever writes the rows, off the arbiter. A digest is a function of the records alone, so it is the same
//! on every replica, wherever each has cut its runs. The session knows the digest up to what was sealed last, which are
//! the records that rows hold; memory holds those behind it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rookery_wire::{Digest, SessionId};

use super::key::{self, letter};
use super::records::{self, Run};
use super::rows::{RowFault, RowWrites};
use super::session::Session;
use super::session_rows::{HeadRow, row_value};

/// The digest of a session at a seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Up to and including this record.
    pub seq: u64,
    /// The digest there.
    pub digest: Digest,
}

impl Tip {
    /// The digest `seq`, reached over records that begin right after this one; none if they do not reach so far.
    ///
    /// # Errors
    /// [`RowFault`] when one of them is no record.
    pub fn over<'a>(
        self,
        records: impl IntoIterator<Item = &'a Bytes>,
        seq: u64,
    ) -> Result<Option<Digest>, RowFault> {
        let Some(count) = seq.checked_sub(self.seq) else { return Ok(None) };
        let mut tip = self;
        for record in records.into_iter().take(usize::try_from(count).unwrap_or(usize::MAX)) {
            tip = tip.then(record)?;
        }
        Ok((tip.seq == seq).then_some(tip.digest))
    }

    fn then(self, record: &Bytes) -> Result<Self, RowFault> {
        let digest = self.digest.then(record).map_err(|fault| RowFault::damaged(b"a record", fault))?;
        Ok(Self { seq: self.seq + 1, digest })
    }
}

/// How far the digest of a session is known, and what is being sealed.
#[derive(Debug)]
pub(super) struct Chain {
    tip: Tip,
    sealing: Option<Arc<Sealing>>,
}

impl Chain {
    /// Known up to here.
    pub(super) fn at(seq: u64, digest: Digest) -> Self {
        Self { tip: Tip { seq, digest }, sealing: None }
    }
}

/// Records on their way into rows, for the first time.
#[derive(Debug)]
struct Sealing {
    from: Tip,
    records: Vec<Bytes>,
    /// Made once, by whoever needs it first.
    sealed: OnceLock<Result<Sealed, RowFault>>,
}

#[derive(Debug)]
struct Sealed {
    tip: Tip,
    runs: Vec<(u64, Bytes)>,
    /// The digest before each of the runs.
    before: Vec<(u64, Digest)>,
}

impl Sealing {
    fn sealed(&self) -> Result<&Sealed, RowFault> {
        let sealed = self
            .sealed
            .get_or_init(|| seal(self.from, &self.records, records::cut(self.from.seq + 1, &self.records)));
        sealed.as_ref().map_err(|fault| RowFault::Store(fault.to_string()))
    }
}

/// Makes runs of records, of which first seq and length are given, and says what the digest is before each and at the end.
fn seal(from: Tip, records: &[Bytes], cut: Vec<(u64, usize)>) -> Result<Sealed, RowFault> {
    let (mut tip, mut left) = (from, records);
    let (mut runs, mut before) = (Vec::new(), Vec::new());
    for (first, len) in cut {
        let (run, rest) = left.split_at(len);
        runs.push((first, records::pack(tip.digest, run)));
        before.push((first, tip.digest));
        left = rest;
        for record in run {
            tip = tip.then(record)?;
        }
    }
    Ok(Sealed { tip, runs, before })
}

/// What of a session has to be sealed before it can be written.
#[derive(Debug)]
pub struct Unsealed {
    id: SessionId,
    fresh: Arc<Sealing>,
    /// Its digest is not known before the records are sealed.
    head: Option<HeadRow>,
    /// Runs to be written anew.
    rewritten: Vec<Recut>,
}

/// A run that is written anew.
#[derive(Debug)]
pub(super) struct Recut {
    /// The seq of its first record.
    pub(super) first: u64,
    /// As it is now.
    pub(super) run: Run,
    /// First seq and length of its pieces.
    pub(super) pieces: Vec<(u64, usize)>,
}

impl Unsealed {
    /// Records to be hashed.
    fn len(&self) -> usize {
        self.fresh.records.len() + self.rewritten.iter().map(|recut| recut.run.records.len()).sum::<usize>()
    }

    fn rows(self, writes: &mut RowWrites) -> Result<(), RowFault> {
        let sealed = self.fresh.sealed()?;
        for (first, run) in &sealed.runs {
            writes.put(key::record(&self.id, *first), run.clone());
        }
        // Cut anew: edits may have made them larger. They may be there before the head is, for a replay knows by their mark
        // what it has not got to yet.
        let mut ahead = RowWrites::default();
        for Recut { first, run, pieces } in self.rewritten {
            let from = Tip { seq: first.saturating_sub(1), digest: run.before };
            // The one that begins where the old run does goes last: it takes the place of that, which until then has what
            // the later pieces will. So whatever part of these rows a crash leaves, every record is in one of them.
            for (first, run) in seal(from, &run.records, pieces)?.runs.into_iter().rev() {
                ahead.put(key::record(&self.id, first), run);
            }
        }
        writes.ahead.append(&mut ahead.rows);
        if let Some(head) = self.head {
            let head = HeadRow { digest: sealed.tip.digest, ..head };
            writes.put(key::session(letter::HEAD, &self.id), row_value(&head));
        }
        Ok(())
    }
}

impl RowWrites {
    /// How many records [`RowWrites::seal`] will hash.
    pub fn unsealed(&self) -> usize {
        self.unsealed.as_ref().map_or(0, Unsealed::len)
    }

    /// Makes rows of the records that were collected. To be called before the rows are written, and off the arbiter.
    ///
    /// # Errors
    /// [`RowFault`] when memory holds something that is no record.
    pub fn seal(&mut self) -> Result<(), RowFault> {
        match self.unsealed.take() {
            Some(unsealed) => unsealed.rows(self),
            None => Ok(()),
        }
    }
}

impl Session {
    /// How far the digest is known: memory has every record behind it.
    pub fn tip(&self) -> Tip {
        self.chain.tip
    }

    /// Has these records sealed, those before them being sealed already.
    pub(super) fn begin_sealing(
        &mut self,
        records: Vec<Bytes>,
        head: Option<HeadRow>,
        rewritten: Vec<Recut>,
    ) -> Option<Unsealed> {
        if records.is_empty() && head.is_none() && rewritten.is_empty() {
            return None;
        }
        let fresh = Arc::new(Sealing { from: self.chain.tip, records, sealed: OnceLock::new() });
        self.chain.sealing = Some(fresh.clone());
        Some(Unsealed { id: self.id.clone(), fresh, head, rewritten })
    }

    /// Takes over what was sealed of the records that were collected last; seals it if nobody has.
    pub(super) fn end_sealing(&mut self) {
        let Some(sealing) = self.chain.sealing.take() else { return };
        // What cannot be sealed could not be written either, and has stopped the node.
        let Ok(sealed) = sealing.sealed() else { return };
        self.chain.tip = sealed.tip;
        self.rewrites.set_before(&sealed.before);
    }
}

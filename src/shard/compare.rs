//! Replicas prove to each other that they hold the same history: the leader of a shard goes through its sessions, slowly,
//! and asks each other replica for its digest at a seq that both have.
//!
//! Replicas that apply the same log cannot differ, so a difference is a fault: of memory, of a disk behind its checksums,
//! or of this program. It is found by halving where the histories part, told in the log, counted, and shown by `cluster
//! status` until the replica is made anew. Nothing is repaired and nobody is stopped: which of the two is right the digest
//! does not say, and a node that stops itself by a fault of another would take the majority with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rookery_wire::SessionId;
use rookery_wire::digest::DigestReply;
use tokio::time::sleep;

use super::api::{Freshness, Read, ReadRefusal, ReadReply};
use super::reads::Reads;
use super::shared::Outbound;
use crate::state::session_rows::HeadRow;

/// Deadline of one question to another replica.
const DEADLINE: Duration = Duration::from_secs(2);
/// A replica that is behind is asked so often, with this pause; then it is left for the next time.
const BEHIND: (u32, Duration) = (5, Duration::from_millis(200));
/// Differences that are remembered. Beyond it they are neither counted nor told, but for the fact that there are more: what is
/// not remembered would be found anew each time it is looked at.
const KEPT: usize = 256;

/// A session of which another replica holds another history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Between {
    /// Which.
    pub session: SessionId,
    /// The node that holds the other replica.
    pub node: u16,
    /// The first record that may be another; 0 when that was before what both keep.
    pub from_seq: u64,
    /// From here on the digests are known to differ.
    pub to_seq: u64,
}

/// Where replicas were found to differ, by session and the other node.
#[derive(Debug, Default)]
pub struct Divergences {
    found: Mutex<Found>,
    total: AtomicU64,
    compared: AtomicU64,
}

#[derive(Debug, Default)]
struct Found {
    known: BTreeMap<(SessionId, u16), Between>,
    /// There are more than are remembered.
    more: bool,
}

/// What noting a difference came to.
#[derive(Debug, PartialEq, Eq)]
enum Noted {
    /// It was not known.
    New,
    /// It was.
    Known,
    /// It is the first for which there is no room.
    TooMany,
}

impl Divergences {
    /// Differences found since the shard was opened; each once while this node leads, however often it was looked at. At most
    /// 256 at a time are told apart: with that many there may be more.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Sessions compared with another replica since the shard was opened.
    pub fn compared(&self) -> u64 {
        self.compared.load(Ordering::Relaxed)
    }

    /// Those that were there when they were last looked at.
    pub fn list(&self) -> Vec<Between> {
        self.found.lock().known.values().cloned().collect()
    }

    fn forget(&self) {
        *self.found.lock() = Found::default();
    }

    fn alike(&self, session: &SessionId, node: u16) {
        let mut found = self.found.lock();
        let known = found.known.remove(&(session.clone(), node)).is_some();
        drop(found);
        if known {
            tracing::warn!(%session, node, "the replicas agree again");
        }
    }

    /// Notes a difference.
    fn differ(&self, between: Between) -> Noted {
        let mut found = self.found.lock();
        let key = (between.session.clone(), between.node);
        if found.known.contains_key(&key) {
            return Noted::Known;
        }
        if found.known.len() >= KEPT {
            return if std::mem::replace(&mut found.more, true) { Noted::Known } else { Noted::TooMany };
        }
        found.known.insert(key, between);
        self.total.fetch_add(1, Ordering::Relaxed);
        Noted::New
    }
}

/// Where the round through the sessions is.
#[derive(Debug, Default)]
struct Round {
    /// Behind this one; none at the beginning.
    after: Option<SessionId>,
}

impl Round {
    /// The session to compare next and its last seq, by what was read behind the last one; none when that could not be read, and
    /// the same is asked for the next time, or when there are no more, and it begins anew.
    fn next(&mut self, read: Option<Option<(SessionId, u64)>>) -> Option<(SessionId, u64)> {
        // A round takes hours: it must not end with one read that failed.
        let next = read?;
        self.after = next.as_ref().map(|(session, _)| session.clone());
        next
    }
}

/// Compares one session after the other while this node leads. Runs for ever; aborted by its owner.
///
/// At the seq that rows had one period ago: by now those of the other replicas have got so far too, and the digest is there
/// to be read. At the end of a busy session each replica would have to hash what no row holds yet, once more.
pub async fn run(reads: Reads) {
    let every = reads.shared.options.compare_every;
    if every.is_zero() {
        return;
    }
    let (mut round, mut chosen) = (Round::default(), None);
    loop {
        sleep(every).await;
        let Some(outbound) = reads.shared.outbound.get().filter(|_| reads.shared.is_leading()) else {
            // Whoever leads finds it again, and sees when it is over.
            reads.shared.divergences.forget();
            chosen = None;
            continue;
        };
        if let Some((session, seq)) = chosen.take() {
            for node in outbound.holders(reads.shared.shard) {
                Pair { reads: &reads, outbound, session: &session, node }.compare(seq).await;
            }
        }
        let from = round.after.clone();
        let next = super::rows::query_in_use(&reads.shared, move |rows| {
            let Some(name) = HeadRow::names_after(rows, from.as_ref(), 1)?.pop() else { return Ok(None) };
            let head = HeadRow::read(rows, &name)?;
            Ok(Some((name, head.map_or(0, |head| head.last_seq))))
        });
        // One that opens has no records yet, and 0 would ask for the last.
        chosen = round.next(next.await.ok().flatten()).filter(|(_, seq)| *seq > 0);
    }
}

/// A session here and on another node.
pub(super) struct Pair<'a> {
    pub(super) reads: &'a Reads,
    pub(super) outbound: &'a Arc<dyn Outbound>,
    pub(super) session: &'a SessionId,
    pub(super) node: u16,
}

impl Pair<'_> {
    /// Compares them at a seq, and tells if they differ. Who cannot be asked is left out, and so is what was trimmed since.
    pub(super) async fn compare(&self, seq: u64) {
        let divergences = &self.reads.shared.divergences;
        let Some(here) = self.here(seq).await else { return };
        let Some(there) = self.there(here.seq).await else { return };
        divergences.compared.fetch_add(1, Ordering::Relaxed);
        if here.digest == there.digest {
            return divergences.alike(self.session, self.node);
        }
        let Some((from_seq, to_seq)) = self.part(&here, &there).await else { return };
        let between = Between { session: self.session.clone(), node: self.node, from_seq, to_seq };
        match divergences.differ(between) {
            Noted::Known => {}
            Noted::New => self.tell(from_seq, to_seq, &here, &there),
            Noted::TooMany => tracing::error!(
                shard = self.reads.shared.shard,
                node = self.reads.shared.node,
                kept = KEPT,
                "DIVERGENCE: more sessions differ between replicas than are remembered; the others are neither told \
                 nor counted"
            ),
        }
    }

    fn tell(&self, from_seq: u64, to_seq: u64, here: &DigestReply, there: &DigestReply) {
        let (session, node) = (self.session, self.reads.shared.node);
        tracing::error!(
            shard = self.reads.shared.shard, %session, from_seq, to_seq, node, other = self.node,
            here = %here.digest, there = %there.digest,
            "DIVERGENCE: two replicas hold different histories; compare them with `rookery check`, and make the \
             one that is wrong anew with `rookery serve --replace` (docs/operations.md)"
        );
    }

    /// Between which seqs the histories part, both inclusive. From 0 when that was before what both keep.
    async fn part(&self, here: &DigestReply, there: &DigestReply) -> Option<(u64, u64)> {
        let mut alike = here.first_seq.max(there.first_seq).saturating_sub(1);
        let mut differ = here.seq;
        if alike >= differ || !self.agree_at(alike).await? {
            return Some((0, differ.min(alike)));
        }
        while differ - alike > 1 {
            let middle = alike + (differ - alike) / 2;
            if self.agree_at(middle).await? {
                alike = middle;
            } else {
                differ = middle;
            }
        }
        Some((alike + 1, differ))
    }

    async fn agree_at(&self, seq: u64) -> Option<bool> {
        if seq == 0 {
            // Before the first record there is nothing to differ in; and 0 asks for the last.
            return Some(true);
        }
        let (here, there) = (self.here(seq).await?, self.there(seq).await?);
        Some(here.digest == there.digest)
    }

    async fn here(&self, seq: u64) -> Option<DigestReply> {
        digest_of(self.reads.digest(None, self.session.clone(), seq).await)
    }

    async fn there(&self, seq: u64) -> Option<DigestReply> {
        for _ in 0..BEHIND.0 {
            let read = Read::Digest { user: None, session: self.session.clone(), seq };
            let (shard, fresh) = (self.reads.shared.shard, Freshness::AtLeast(seq));
            match self.outbound.ask(self.node, shard, read, fresh, DEADLINE).await {
                Err(ReadRefusal::NotFresh) => sleep(BEHIND.1).await,
                answer => return digest_of(answer).filter(|reply| reply.seq == seq),
            }
        }
        None
    }
}

fn digest_of(answer: Result<ReadReply, ReadRefusal>) -> Option<DigestReply> {
    match answer {
        Ok(ReadReply::Digest(reply)) => Some(reply),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rookery_wire::GroupId;

    use super::*;

    fn session(number: usize) -> SessionId {
        SessionId::group(GroupId::new(&format!("g{number:04}")).expect("a name"))
    }

    #[test]
    fn a_round_goes_on_where_a_read_failed_and_begins_anew_at_its_end() {
        let mut round = Round::default();
        for number in [1, 2] {
            let found = Some((session(number), 7));
            assert_eq!(round.next(Some(found.clone())), found);
        }
        // The readers were busy, or a snapshot was installed.
        assert_eq!(round.next(None), None);
        assert_eq!(round.after, Some(session(2)));
        assert_eq!(round.next(Some(None)), None);
        assert_eq!(round.after, None);
    }

    #[test]
    fn more_differences_than_are_remembered_are_told_once() {
        let divergences = Divergences::default();
        let noted = |number| {
            divergences.differ(Between { session: session(number), node: 2, from_seq: 1, to_seq: 2 })
        };
        let mut first: Vec<Noted> = (0..KEPT + 10).map(noted).collect();
        assert!(first[..KEPT].iter().all(|noted| *noted == Noted::New));
        assert_eq!(first.drain(KEPT..).filter(|noted| *noted == Noted::TooMany).count(), 1);
        for _ in 0..3 {
            assert!((0..KEPT + 10).map(noted).all(|noted| noted == Noted::Known), "each once");
        }
        assert_eq!((divergences.total(), divergences.list().len()), (KEPT as u64, KEPT));
        // One is mended: there is room for one of the others.
        divergences.alike(&session(3), 2);
        assert_eq!((noted(KEPT), divergences.total()), (Noted::New, KEPT as u64 + 1));
        divergences.forget();
        assert_eq!(noted(0), Noted::New);
    }
}

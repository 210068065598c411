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
/// Differences that are remembered; beyond it they are counted and told in the log alone.
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
    found: Mutex<BTreeMap<(SessionId, u16), Between>>,
    total: AtomicU64,
    compared: AtomicU64,
}

impl Divergences {
    /// Differences found since the shard was opened; each once, however often it was looked at.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Sessions compared with another replica since the shard was opened.
    pub fn compared(&self) -> u64 {
        self.compared.load(Ordering::Relaxed)
    }

    /// Those that were there when they were last looked at.
    pub fn list(&self) -> Vec<Between> {
        self.found.lock().values().cloned().collect()
    }

    fn forget(&self) {
        self.found.lock().clear();
    }

    fn alike(&self, session: &SessionId, node: u16) {
        if self.found.lock().remove(&(session.clone(), node)).is_some() {
            tracing::warn!(%session, node, "the replicas agree again");
        }
    }

    /// Notes a difference; says whether it was not known.
    fn differ(&self, between: Between) -> bool {
        let mut found = self.found.lock();
        let key = (between.session.clone(), between.node);
        if found.contains_key(&key) {
            return false;
        }
        self.total.fetch_add(1, Ordering::Relaxed);
        if found.len() < KEPT {
            found.insert(key, between);
        }
        true
    }
}

/// Compares one session after the other while this node leads. Runs for ever; aborted by its owner.
pub async fn run(reads: Reads) {
    let every = reads.shared.options.compare_every;
    if every.is_zero() {
        return;
    }
    let mut after: Option<SessionId> = None;
    loop {
        sleep(every).await;
        let Some(outbound) = reads.shared.outbound.get().filter(|_| reads.shared.is_leading()) else {
            // Whoever leads finds it again, and sees when it is over.
            reads.shared.divergences.forget();
            continue;
        };
        let from = after.take();
        let next = super::rows::query_in_use(&reads.shared, move |rows| {
            HeadRow::names_after(rows, from.as_ref(), 1)
        });
        // What cannot be read now, or is at its end, begins anew.
        let Ok(Some(names)) = next.await else { continue };
        let Some(session) = names.into_iter().next() else { continue };
        for node in outbound.holders(reads.shared.shard) {
            Pair { reads: &reads, outbound, session: &session, node }.compare().await;
        }
        after = Some(session);
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
    /// Compares them at the end of what is here, and tells if they differ. Who cannot be asked is left out.
    pub(super) async fn compare(&self) {
        let divergences = &self.reads.shared.divergences;
        // One that opens has no records yet, and 0 would ask the other one for its last.
        let Some(here) = self.here(0).await.filter(|here| here.seq > 0) else { return };
        let Some(there) = self.there(here.seq).await else { return };
        divergences.compared.fetch_add(1, Ordering::Relaxed);
        if here.digest == there.digest {
            return divergences.alike(self.session, self.node);
        }
        let Some((from_seq, to_seq)) = self.part(&here, &there).await else { return };
        let between = Between { session: self.session.clone(), node: self.node, from_seq, to_seq };
        if divergences.differ(between) {
            let (session, node) = (self.session, self.reads.shared.node);
            tracing::error!(
                shard = self.reads.shared.shard, %session, from_seq, to_seq, node, other = self.node,
                here = %here.digest, there = %there.digest,
                "DIVERGENCE: two replicas hold different histories; compare them with `rookery check`, and make the \
                 one that is wrong anew with `rookery serve --replace` (docs/operations.md)"
            );
        }
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

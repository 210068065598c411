//! What the handle, the event queue and the driver see of each other without asking: a few atomics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use rookery_wire::SessionId;

use crate::error::ClientError;
use crate::verify::Proof;

/// Counters of one client since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests written again: after a cut, BUSY, or a gap in the numbers.
    pub retries: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Pulls made because something was missing.
    pub pulls_for_gaps: u64,
    /// Messages pushed by the server.
    pub pushes: u64,
    /// Messages that came again and were dropped.
    pub repeats_dropped: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Events the application is done with.
    pub(crate) handled: AtomicU64,
    /// Node number + 1 while connected, else 0.
    pub(crate) node: AtomicU32,
    pub(crate) epoch: AtomicU32,
    /// `limits.content` of the last WELCOME; 0 = not known yet.
    pub(crate) content_limit: AtomicU32,
    /// `limits.frame` of it.
    pub(crate) frame_limit: AtomicU32,
    stats: [AtomicU64; 5],
    /// How far histories were verified, by session.
    proofs: Mutex<BTreeMap<SessionId, Proof>>,
    /// Counts proofs made: each is something to be saved.
    proved: AtomicU64,
    /// Why the client ended.
    pub(crate) end: OnceLock<String>,
    /// The last thing that went wrong while connecting for the first time.
    pub(crate) trouble: Mutex<String>,
}

impl Shared {
    /// How far a history was verified.
    pub(crate) fn proof(&self, session: &SessionId) -> Option<Proof> {
        self.proofs.lock().ok()?.get(session).copied()
    }

    /// It was verified up to here.
    pub(crate) fn proved(&self, session: &SessionId, proof: Proof) {
        if let Ok(mut proofs) = self.proofs.lock() {
            proofs.insert(session.clone(), proof);
        }
        // After it is there: who sees the count sees the proof.
        self.proved.fetch_add(1, Ordering::Release);
    }

    /// What was proved before this client was made.
    pub(crate) fn remember_proofs(&self, known: &BTreeMap<SessionId, Proof>) {
        if let Ok(mut proofs) = self.proofs.lock() {
            proofs.clone_from(known);
        }
    }

    /// How many proofs were made since this client was.
    pub(crate) fn proofs_made(&self) -> u64 {
        self.proved.load(Ordering::Acquire)
    }

    /// All of them, for the memory.
    pub(crate) fn proofs(&self) -> BTreeMap<SessionId, Proof> {
        self.proofs.lock().map(|proofs| proofs.clone()).unwrap_or_default()
    }

    /// What went wrong last, for people.
    pub(crate) fn trouble(&self) -> String {
        self.trouble.lock().map(|text| text.clone()).unwrap_or_default()
    }

    pub(crate) fn set_trouble(&self, text: &str) {
        if let Ok(mut trouble) = self.trouble.lock() {
            text.clone_into(&mut trouble);
        }
    }

    /// The error of a request that meets an ended client.
    pub(crate) fn ended(&self) -> ClientError {
        ClientError::Closed(self.end.get().cloned().unwrap_or_else(|| "its driver is gone".to_owned()))
    }

    pub(crate) fn publish(&self, stats: &Stats) {
        let values =
            [stats.retries, stats.reconnects, stats.pulls_for_gaps, stats.pushes, stats.repeats_dropped];
        for (slot, value) in self.stats.iter().zip(values) {
            slot.store(value, Ordering::Relaxed);
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let [retries, reconnects, pulls_for_gaps, pushes, repeats_dropped] =
            self.stats.each_ref().map(|slot| slot.load(Ordering::Relaxed));
        Stats { retries, reconnects, pulls_for_gaps, pushes, repeats_dropped }
    }
}

#[cfg(test)]
mod tests {
    use rookery_wire::digest::Digest;

    use super::*;

    #[test]
    fn a_proof_is_something_to_save_and_one_that_is_remembered_is_not() {
        let shared = Shared::default();
        let session = SessionId::group("room".parse().unwrap());
        let proof = |seq| Proof { seq, digest: Digest([7; 32]) };
        shared.remember_proofs(&BTreeMap::from([(session.clone(), proof(5))]));
        assert_eq!((shared.proof(&session), shared.proofs_made()), (Some(proof(5)), 0));
        shared.proved(&session, proof(9));
        assert_eq!((shared.proof(&session), shared.proofs_made()), (Some(proof(9)), 1));
    }
}

//! The way of a waiter: from `propose` into openraft's reply hook and out again, into apply or into `dropped`.
//!
//! Owns: the guard that makes it exactly once. Whatever openraft does with a proposal, it either calls the reply (and the
//! guard is emptied there) or drops it (and the guard answers by its own drop).

use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use tokio::sync::OwnedSemaphorePermit;

use super::erased::AnyWaiter;
use super::shell::Hand;
use crate::machine::ProposeError;
use crate::types::{Reply, TypeConfig};

/// Room that a proposal takes until it ends.
pub(super) struct Room {
    pub(super) _entry: OwnedSemaphorePermit,
    pub(super) _bytes: OwnedSemaphorePermit,
}

struct Guard {
    waiter: Option<AnyWaiter>,
    _room: Room,
}

impl Guard {
    fn end(mut self, result: ClientWriteResult<TypeConfig>, hand: &Hand) {
        let Some(waiter) = self.waiter.take() else { return };
        match result {
            // Called inside `ApplyResponder::send`: the shell takes it from the hand at once.
            Ok(_) => *hand.lock() = Some(waiter),
            // Said before the entry was appended, and only then (openraft's contract of this variant).
            Err(ClientWriteError::ForwardToLeader(to)) => {
                waiter.dropped(ProposeError::NotLeader { leader: to.leader_id });
            }
            // The entry was cut off or skipped by another leader's log; other replicas may still have it.
            Err(_) => waiter.dropped(ProposeError::Unknown),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            waiter.dropped(ProposeError::Stopped);
        }
    }
}

/// The reply hook for one proposal.
pub(super) fn reply(waiter: AnyWaiter, room: Room, hand: Hand) -> Reply<ClientWriteResult<TypeConfig>> {
    let guard = Guard { waiter: Some(waiter), _room: room };
    Reply::new(move |result| guard.end(result, &hand))
}

//! What the list is read since: the mark of the last reading, kept over connections and in the device's memory.
//!
//! A mark vouches for what that reading said and for all before it. So what is not named again is as it was said to be, or as
//! this client has learned since: its cursor goes on, and what is known to exist of it and was not had is pulled. For that the
//! end of each session that a list has named is remembered with the mark ([`super::slots::Session::listed`]): pushes that
//! were to bring it may have been lost with the connection, and no list will name it for that again.
//!
//! Nothing is built on a mark that does not fit: if the cluster refuses it, or the sessions known by then are not as many as
//! the user is in, everything is read anew.

use rookery_wire::reply::SyncPage;
use rookery_wire::{Blob, SessionId};

use crate::engine::{Engine, Millis};

/// How old the mark of a connection becomes at least on which something is pushed; up to half as much again. What is told since it grows with its age; in tests
/// it ages faster.
const REFRESH: Millis = if cfg!(test) { 2_000 } else { 600_000 };

impl Engine {
    /// A reading begins: the mark to give with it. From here on the list only says what is newer than the mark, so all that
    /// the lists before have said to exist counts.
    pub(crate) fn begin_since(&mut self) -> Blob {
        // Who takes no events keeps no sessions to which something could be added.
        if self.deaf {
            self.forget_mark();
        }
        self.sync.merges = false;
        self.sync.asked_since = !self.sync.mark.is_empty();
        if self.sync.asked_since {
            for (_, session) in self.sessions.iter_mut().filter(|(_, session)| session.inbox.tracked) {
                session.inbox.exists(session.listed.unwrap_or(0));
            }
        }
        self.sync.mark.clone()
    }

    /// Has a newer mark made in good time, so that whoever is cut off after days of being connected is told of minutes.
    pub(crate) fn refresh_mark(&mut self, now: Millis) {
        let (at, pushes) = self.sync.marked;
        let age = REFRESH + self.apart(REFRESH / 2);
        let aged = !self.sync.mark.is_empty() && now >= at + age && self.stats.pushes != pushes;
        if aged && self.sync.done_here && !self.sync.is_due() {
            self.start_sync(now);
        }
    }

    /// Below `most`, another for every device and every reading: devices that came back together after an outage do not go on
    /// reading together.
    pub(crate) fn apart(&self, most: Millis) -> Millis {
        let mixed = (self.nonce ^ u64::from(self.sync.generation)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) % most.max(1)
    }

    /// The next reading is of everything.
    pub(crate) fn forget_mark(&mut self) {
        if !self.sync.mark.is_empty() {
            self.sync.mark = Blob::default();
            self.changes += 1;
        }
    }

    /// Sessions that the user is not in any more. One of which a JOINED came since the reading began is the user's again.
    pub(crate) fn leave_named(&mut self, left: &[SessionId]) {
        for id in left {
            let slot = self.sessions.slot(id);
            if self.sessions[slot].seen != self.sync.generation {
                self.left(id);
            }
        }
    }

    /// All that changed since the mark is learned: the others are as they were.
    pub(crate) fn finish_merge(&mut self, now: Millis, page: &SyncPage) {
        let generation = self.sync.generation;
        let rest: Vec<_> = self
            .sessions
            .iter_mut()
            .filter(|(_, session)| session.seen != generation && session.listed.is_some())
            .map(|(slot, _)| slot)
            .collect();
        for slot in rest {
            let session = &self.sessions[slot];
            if session.inbox.tracked {
                self.check_gap(now, slot, true);
            } else if let Some(cursor) = session.remembered {
                // From the memory of an earlier run.
                let live_from = session.listed.unwrap_or(cursor).max(cursor).saturating_add(1);
                self.track(now, slot, cursor, live_from);
            }
        }
        let known =
            self.sessions.iter().filter(|session| session.inbox.tracked || session.seen == generation);
        if known.count() as u64 != u64::from(page.total) {
            self.forget_mark();
            self.sync_fully_soon(now);
        }
    }

    /// The last page of a reading brings the next mark. A reading that leaves something open, or did not fit, brings none.
    pub(crate) fn keep_mark(&mut self, now: Millis, page: &SyncPage) {
        self.sync.marked = (now, self.stats.pushes);
        let fits = !self.sync.merges || !self.sync.mark.is_empty();
        if fits && !self.deaf && !page.mark.is_empty() && self.sync.mark != page.mark {
            // A slice of the page would keep the page.
            self.sync.mark = Blob(bytes::Bytes::copy_from_slice(page.mark.as_ref()));
            self.changes += 1;
        }
    }
}

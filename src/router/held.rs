//! What a session sent beyond its share: waits here, in order, until the lane takes it.
//!
//! Sessions take turns, a request each. Must never let a request of a session pass another of the same session (G2).

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use super::seam::Request;

/// A request and when it is given up.
pub(super) type Waiting = (Request, Instant);

/// The requests that wait, by session.
#[derive(Default)]
pub(super) struct Held {
    of: HashMap<u64, VecDeque<Waiting>>,
    turns: VecDeque<u64>,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.of.values().map(VecDeque::len).sum()
    }

    pub(super) fn holds(&self, session: u64) -> bool {
        !self.turns.is_empty() && self.of.contains_key(&session)
    }

    pub(super) fn put(&mut self, session: u64, waiting: Waiting) {
        let line = self.of.entry(session).or_insert_with(|| {
            self.turns.push_back(session);
            VecDeque::new()
        });
        line.push_back(waiting);
    }

    /// The next request of a session that `may` have another under way.
    pub(super) fn next(&mut self, may: impl Fn(u64) -> bool) -> Option<(u64, Waiting)> {
        for _ in 0..self.turns.len() {
            let session = self.turns.pop_front()?;
            if may(session)
                && let Some(waiting) = self.pop(session)
            {
                if self.of.contains_key(&session) {
                    self.turns.push_back(session);
                }
                return Some((session, waiting));
            }
            self.turns.push_back(session);
        }
        None
    }

    fn pop(&mut self, session: u64) -> Option<Waiting> {
        let line = self.of.get_mut(&session)?;
        let first = line.pop_front();
        if line.is_empty() {
            self.of.remove(&session);
        }
        first
    }

    /// What has waited for its whole deadline.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<Request> {
        let mut out = Vec::new();
        self.of.retain(|_, line| {
            while line.front().is_some_and(|(_, deadline)| *deadline <= now) {
                out.extend(line.pop_front().map(|(request, _)| request));
            }
            !line.is_empty()
        });
        let of = &self.of;
        self.turns.retain(|session| of.contains_key(session));
        out
    }

    /// Everything, each session's in order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Request> + use<> {
        self.turns.clear();
        std::mem::take(&mut self.of).into_values().flatten().map(|(request, _)| request)
    }
}

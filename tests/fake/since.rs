//! The fake cluster on session lists since a mark: when what changed, counted in one number, which is the mark.

use std::collections::{BTreeMap, HashMap};

use rookery_wire::reply::Summary;
use rookery_wire::{Blob, SessionId, UserId};

/// When each session, each user's cursor in one, and each user's leaving of one last changed.
#[derive(Default)]
pub(super) struct Changes {
    now: u64,
    sessions: HashMap<SessionId, u64>,
    cursors: HashMap<(UserId, SessionId), u64>,
    left: HashMap<UserId, BTreeMap<SessionId, u64>>,
}

impl Changes {
    pub(super) fn of_session(&mut self, session: &SessionId) {
        self.now += 1;
        self.sessions.insert(session.clone(), self.now);
    }

    pub(super) fn of_cursor(&mut self, user: &UserId, session: &SessionId) {
        self.now += 1;
        self.cursors.insert((user.clone(), session.clone()), self.now);
    }

    pub(super) fn of_leaving(&mut self, user: &UserId, session: &SessionId) {
        self.now += 1;
        self.left.entry(user.clone()).or_default().insert(session.clone(), self.now);
    }

    /// As of now.
    pub(super) fn mark(&self) -> Blob {
        Blob(self.now.to_be_bytes().to_vec().into())
    }

    /// What a list since this mark leaves out goes; what the user has left since is given. None without a mark, which
    /// changes nothing.
    pub(super) fn since(
        &self,
        mark: &Blob,
        user: &UserId,
        lines: &mut Vec<Summary>,
    ) -> Option<Vec<SessionId>> {
        let since = u64::from_be_bytes(<[u8; 8]>::try_from(&mark.0[..]).ok()?);
        let left = self.left.get(user).into_iter().flatten();
        let gone = |session: &SessionId| lines.iter().all(|line| line.session != *session);
        let left = left.filter(|(session, at)| **at > since && gone(session));
        let left = left.map(|(session, _)| session.clone()).collect();
        lines.retain(|line| {
            let cursor = (user.clone(), line.session.clone());
            self.sessions.get(&line.session).is_some_and(|at| *at > since)
                || self.cursors.get(&cursor).is_some_and(|at| *at > since)
        });
        Some(left)
    }
}

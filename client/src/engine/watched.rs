//! Whom the application watches: asked for again on every connection, for a node knows only what it was asked on this one.

use std::collections::BTreeSet;

use rookery_wire::live::{PresencePage, Watch, WatchMode, WatchSession, watched_at_once};
use rookery_wire::{ErrorCode, Kind, SessionId, UserId, encode_frame};

use crate::engine::answers::PAUSE;
use crate::engine::link::{Purpose, Verdict};
use crate::engine::{Engine, Millis};

/// Before those are asked for again who could not be asked.
const AGAIN: Millis = 500;

/// See the module's words.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    users: BTreeSet<UserId>,
    /// Groups of which the members are watched.
    sessions: BTreeSet<SessionId>,
    /// When to ask again, after a refusal that passes.
    due: Option<Millis>,
}

impl Watched {
    /// The application asks for this.
    pub(crate) fn asked(&mut self, watch: &Watch) {
        if watch.mode == WatchMode::Replace {
            self.users.clear();
        }
        for user in &watch.users {
            match watch.mode {
                WatchMode::Remove => drop(self.users.remove(user)),
                WatchMode::Replace | WatchMode::Add => drop(self.users.insert(user.clone())),
            }
        }
    }

    /// The same for a group.
    pub(crate) fn asked_session(&mut self, watch: &WatchSession) {
        match watch.on {
            true => drop(self.sessions.insert(watch.session.clone())),
            false => drop(self.sessions.remove(&watch.session)),
        }
    }

    /// It is not asked for again: this is no member of it.
    pub(crate) fn may_not(&mut self, session: u64) {
        self.sessions.retain(|watched| watched.hash64() != session);
    }

    /// Those it may not watch are not asked for again; those who could not be asked are, soon.
    pub(crate) fn answered(&mut self, now: Millis, page: &PresencePage) {
        for (user, code) in &page.refused {
            if *code == ErrorCode::NotAllowed {
                self.users.remove(user);
            } else if self.users.contains(user) {
                self.due = Some(now + AGAIN);
            }
        }
    }

    pub(crate) fn is_due(&self) -> bool {
        self.due.is_some()
    }
}

impl Engine {
    /// On a new connection.
    pub(crate) fn watch_again(&mut self, now: Millis) {
        self.watched.due = None;
        let sessions: Vec<SessionId> = self.watched.sessions.iter().cloned().collect();
        for session in sessions {
            let id = self.link.request(Purpose::WatchSession(session.hash64()), now);
            encode_frame(Kind::WatchSession, id, &WatchSession { session, on: true }, &mut self.out);
        }
        if self.watched.users.is_empty() {
            return;
        }
        let users: Vec<UserId> = self.watched.users.iter().cloned().collect();
        for watch in parts(users, self.link.limits.frame) {
            let id = self.link.request(Purpose::Watch, now);
            encode_frame(Kind::Watch, id, &watch, &mut self.out);
        }
    }

    pub(crate) fn watch_refused(&mut self, now: Millis, verdict: Verdict) {
        if let Verdict::Again { after } = verdict {
            self.watched.due = Some(now + after.max(PAUSE));
        }
    }

    pub(crate) fn watch_session_refused(&mut self, now: Millis, session: u64, verdict: Verdict) {
        match verdict {
            Verdict::Final => self.watched.may_not(session),
            verdict => self.watch_refused(now, verdict),
        }
    }

    pub(crate) fn watch_if_due(&mut self, now: Millis) {
        if self.watched.due.is_some_and(|due| due <= now) {
            self.watch_again(now);
        }
    }
}

/// All of them in as many requests as answers that fit a frame need. Several are answered in any order, so none of those
/// takes the place of the others.
fn parts(users: Vec<UserId>, frame: u32) -> Vec<Watch> {
    let mut rest = users.as_slice();
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (part, after) = rest.split_at(watched_at_once(rest, frame).clamp(1, rest.len()));
        parts.push(Watch { mode: WatchMode::Add, users: part.to_vec() });
        rest = after;
    }
    if let [only] = parts.as_mut_slice() {
        only.mode = WatchMode::Replace;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_asked_for_in_parts_whose_answers_fit_a_frame() {
        let users = |count: usize| -> Vec<UserId> {
            (0..count).map(|at| UserId::new(&format!("{at:0>64}")).expect("a name")).collect()
        };
        let few = parts(users(200), 16_384);
        assert_eq!((few.len(), few[0].mode, few[0].users.len()), (1, WatchMode::Replace, 200));
        let many = parts(users(5_000), 16_384);
        assert!(many.iter().all(|part| part.mode == WatchMode::Add && part.users.len() <= 204));
        assert_eq!(many.into_iter().flat_map(|part| part.users).collect::<Vec<_>>(), users(5_000));
        assert_eq!(parts(users(5_000), 1 << 20).len(), 1, "one, with the default");
        assert!(parts(Vec::new(), 16_384).is_empty());
    }
}

//! Whom the application watches, and in which groups who is there: asked for again on every connection, for a node knows only
//! what it was asked on this one.
//!
//! Of users what is wished is what was granted: an answer changes it, a refusal does not, as it changes nothing at the node. One
//! request is under way at a time, the application's or one of those that ask again, so that the node carries them out in the
//! order in which they change what is wished. Where a request may or may not have been carried out, all is asked for anew. What
//! a node does not take when asked again, having less room, is wished no more, and the application is told.
//!
//! A group is wished from when the application asks for it until it asks for the end, or a node refuses it for good.

use std::collections::{BTreeSet, VecDeque};

use rookery_wire::live::{PresencePage, Watch, WatchMode, WatchSession, watched_at_once};
use rookery_wire::{ErrorBody, ErrorCode, Kind, SessionId, UserId, encode_frame};

use crate::engine::answers::PAUSE;
use crate::engine::link::{Phase, Purpose, Verdict};
use crate::engine::{Engine, Millis};
use crate::event::Event;

/// Before those are asked for again who could not be asked.
const AGAIN: Millis = 500;

/// See the module's words.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    users: BTreeSet<UserId>,
    /// When to ask for all users again.
    due: Option<Millis>,
    /// Groups of which the members are watched.
    sessions: BTreeSet<SessionId>,
    /// When to ask for all of those again, after a refusal that passes.
    sessions_due: Option<Millis>,
    /// The application's request that is under way.
    busy: Option<u64>,
    /// The part of all that is under way, those behind it, and how many users the parts before it have named.
    part: Option<Watch>,
    rest: VecDeque<Watch>,
    named: usize,
}

impl Watched {
    /// Whether the application's request may be written now; then it is under way until [`Watched::end`].
    pub(crate) fn begin(&mut self, ask: u64) -> bool {
        self.part.is_none() && *self.busy.get_or_insert(ask) == ask
    }

    /// The application's request is answered, or nobody waits for it.
    pub(crate) fn end(&mut self, ask: u64) {
        self.busy = self.busy.filter(|busy| *busy != ask);
    }

    /// What the application asked for is so, but for those who are refused. Those it may not watch are not asked for again;
    /// those who could not be asked are, soon.
    pub(crate) fn granted(&mut self, now: Millis, watch: &Watch, page: &PresencePage) {
        if watch.mode == WatchMode::Replace {
            self.users.clear();
        }
        for user in &watch.users {
            match watch.mode {
                WatchMode::Remove => drop(self.users.remove(user)),
                WatchMode::Replace | WatchMode::Add => drop(self.users.insert(user.clone())),
            }
        }
        self.take_refused(now, page);
    }

    /// The application asks for this of a group: it is wished until it is refused for good.
    pub(crate) fn asked_session(&mut self, watch: &WatchSession) {
        match watch.on {
            true => drop(self.sessions.insert(watch.session.clone())),
            false => drop(self.sessions.remove(&watch.session)),
        }
    }

    /// It is not asked for again: this is no member of it, or the node has no room for it.
    pub(crate) fn may_not(&mut self, session: u64) {
        self.sessions.retain(|watched| watched.hash64() != session);
    }

    fn take_refused(&mut self, now: Millis, page: &PresencePage) {
        for (user, code) in &page.refused {
            if *code == ErrorCode::NotAllowed {
                self.users.remove(user);
            } else if self.users.contains(user) {
                self.assert_at(now + AGAIN);
            }
        }
    }

    /// All users are asked for again then.
    pub(crate) fn assert_at(&mut self, at: Millis) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Whether something is to be asked for again, now or soon.
    pub(crate) fn is_due(&self) -> bool {
        self.sessions_due.is_some() || self.users_due().is_some()
    }

    /// When all users are to be asked for again; none while a request is under way.
    fn users_due(&self) -> Option<Millis> {
        self.due.filter(|_| self.part.is_none() && self.busy.is_none())
    }

    /// The connection is gone, and with it all that was watched.
    pub(crate) fn cut(&mut self) {
        (self.due, self.busy, self.part) = (None, None, None);
        self.sessions_due = None;
    }

    /// A node takes no more than `room` of the part that is under way. Gives those who are wished no more.
    fn give_up_beyond(&mut self, room: usize) -> Vec<UserId> {
        let Some(mut part) = self.part.take() else { return Vec::new() };
        // One that says that there is room and has none would be asked for ever.
        let room = if room < part.users.len() { room } else { 0 };
        let mut lost = part.users.split_off(room);
        lost.extend(self.rest.drain(..).flat_map(|part| part.users));
        lost.retain(|user| self.users.remove(user));
        if !part.users.is_empty() {
            self.rest.push_front(part);
        }
        lost
    }
}

impl Engine {
    /// On a new connection.
    pub(crate) fn watch_again(&mut self, now: Millis) {
        self.watch_sessions(now);
        if !self.watched.users.is_empty() {
            self.watch_all(now);
        }
    }

    /// Each is a request of its own, and changes nothing for the others.
    fn watch_sessions(&mut self, now: Millis) {
        self.watched.sessions_due = None;
        let sessions: Vec<SessionId> = self.watched.sessions.iter().cloned().collect();
        for session in sessions {
            let id = self.link.request(Purpose::WatchSession(session.hash64()), now);
            encode_frame(Kind::WatchSession, id, &WatchSession { session, on: true }, &mut self.out);
        }
    }

    fn watch_all(&mut self, now: Millis) {
        let users: Vec<UserId> = self.watched.users.iter().cloned().collect();
        self.watched.due = None;
        self.watched.named = 0;
        self.watched.rest = parts(users, self.link.limits.frame);
        self.watch_next(now);
    }

    fn watch_next(&mut self, now: Millis) {
        let part = self.watched.rest.pop_front();
        if let Some(watch) = &part {
            let id = self.link.request(Purpose::Watch, now);
            encode_frame(Kind::Watch, id, watch, &mut self.out);
        }
        self.watched.part = part;
    }

    /// PRESENCE_PAGE for a part of all.
    pub(crate) fn watch_answered(&mut self, now: Millis, page: &PresencePage) {
        self.watched.take_refused(now, page);
        let named = self.watched.part.take().map_or(0, |part| part.users.len());
        self.watched.named += named.saturating_sub(page.refused.len());
        self.watch_next(now);
    }

    /// ERROR for a part of all.
    pub(crate) fn watch_refused(&mut self, now: Millis, verdict: Verdict, body: &ErrorBody) {
        match verdict {
            Verdict::Again { after } => {
                self.watched.part = None;
                self.watched.assert_at(now + after.max(PAUSE));
            }
            // All is asked for on the next connection.
            Verdict::Elsewhere => self.watched.part = None,
            Verdict::Final => {
                let most = usize::try_from(body.detail).unwrap_or(usize::MAX);
                let room = match body.code {
                    ErrorCode::TooMany => most.saturating_sub(self.watched.named),
                    // Of one request, whatever is watched already.
                    ErrorCode::WatchTooLarge => most,
                    _ => 0,
                };
                let users = self.watched.give_up_beyond(room);
                if !users.is_empty() {
                    self.give(Event::Unwatched { users, error: body.clone() });
                }
                self.watch_next(now);
            }
        }
    }

    pub(crate) fn watch_session_refused(&mut self, now: Millis, session: u64, verdict: Verdict) {
        match verdict {
            Verdict::Again { after } => {
                let at = now + after.max(PAUSE);
                self.watched.sessions_due = Some(self.watched.sessions_due.map_or(at, |due| due.min(at)));
            }
            // All are asked for on the next connection.
            Verdict::Elsewhere => {}
            Verdict::Final => self.watched.may_not(session),
        }
    }

    pub(crate) fn watch_if_due(&mut self, now: Millis) {
        if self.link.phase != Phase::Up {
            return;
        }
        if self.watched.sessions_due.is_some_and(|due| due <= now) {
            self.watch_sessions(now);
        }
        if self.watched.users_due().is_some_and(|due| due <= now) {
            self.watch_all(now);
        }
    }
}

/// All of them in as many requests as answers that fit a frame need: the first takes the place of what was watched, the others
/// come once it is answered. None is one that ends everything.
fn parts(users: Vec<UserId>, frame: u32) -> VecDeque<Watch> {
    let mut rest = users.as_slice();
    let mut parts = VecDeque::new();
    let mut mode = WatchMode::Replace;
    while !rest.is_empty() || parts.is_empty() {
        let (part, after) = rest.split_at(watched_at_once(rest, frame).max(1).min(rest.len()));
        parts.push_back(Watch { mode, users: part.to_vec() });
        (rest, mode) = (after, WatchMode::Add);
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
        let first = |at: usize| if at == 0 { WatchMode::Replace } else { WatchMode::Add };
        assert!(many.iter().enumerate().all(|(at, part)| part.mode == first(at) && part.users.len() <= 204));
        assert_eq!(many.into_iter().flat_map(|part| part.users).collect::<Vec<_>>(), users(5_000));
        assert_eq!(parts(users(5_000), 1 << 20).len(), 1, "one, with the default");
        assert_eq!(parts(Vec::new(), 16_384), [Watch { mode: WatchMode::Replace, users: Vec::new() }]);
    }
}

//! Whom the application watches: asked for again on every connection, for a node knows only what it was asked on this one.

use std::collections::BTreeSet;

use rookery_wire::live::{PresencePage, Watch, WatchMode};
use rookery_wire::{ErrorCode, Kind, UserId, encode_frame};

use crate::engine::answers::PAUSE;
use crate::engine::link::{Purpose, Verdict};
use crate::engine::{Engine, Millis};

/// Before those are asked for again who could not be asked.
const AGAIN: Millis = 500;

/// See the module's words.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    users: BTreeSet<UserId>,
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
        if self.watched.users.is_empty() {
            return;
        }
        let watch = Watch { mode: WatchMode::Replace, users: self.watched.users.iter().cloned().collect() };
        let id = self.link.request(Purpose::Watch, now);
        encode_frame(Kind::Watch, id, &watch, &mut self.out);
    }

    pub(crate) fn watch_refused(&mut self, now: Millis, verdict: Verdict) {
        if let Verdict::Again { after } = verdict {
            self.watched.due = Some(now + after.max(PAUSE));
        }
    }

    pub(crate) fn watch_if_due(&mut self, now: Millis) {
        if self.watched.due.is_some_and(|due| due <= now) {
            self.watch_again(now);
        }
    }
}

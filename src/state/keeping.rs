//! How long a session keeps its messages, as those who are in it want it.
//!
//! A group keeps them as its owner has set. In a direct session each user has a wish of its own, and the strictest of
//! both holds: who wants a message gone is not overruled by the one it is kept for, and nobody can undo what the other
//! has set. What the cluster does where nothing is set is no part of the state (`shard::retention`).

use std::collections::BTreeMap;

use rookery_wire::{ErrorBody, Retention, SessionId, UserId};

use super::command::{Act, Actor};
use super::manage::not_allowed;
use super::session::Session;

/// By user of a direct session: what it wishes.
pub(super) type Wishes = BTreeMap<UserId, Retention>;

impl Session {
    /// Whether somebody may say how long this direct session is kept: either user, unless the other takes nothing of it.
    pub(super) fn may_wish(&self, actor: &Actor, act: &Act) -> Result<(), ErrorBody> {
        if self.id.pair_has(actor.name()) != Some(true) {
            return Err(not_allowed("only its two users say how long a direct session is kept"));
        }
        self.let_through(actor, act)
    }

    /// Carries out what was set.
    pub(super) fn keep(&mut self, name: &UserId, retention: Retention) {
        if matches!(self.id, SessionId::Group(_)) {
            self.settings.retention = retention;
            return;
        }
        if retention.is_none() {
            self.wishes.remove(name);
        } else {
            self.wishes.insert(name.clone(), retention);
        }
        self.settings.retention =
            self.wishes.values().fold(Retention::default(), |both, wish| both.stricter(*wish));
    }
}

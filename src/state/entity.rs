//! Which entity a command reads and writes, and which shard owns that.

use rookery_wire::{SessionId, UserId};

use super::command::Command;

/// An entity by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntityKey {
    /// A session.
    Session(SessionId),
    /// A user.
    User(UserId),
}

impl EntityKey {
    /// The shard (1-based group id) that owns it, of `shards` in all.
    pub fn shard(&self, shards: u32) -> u32 {
        match self {
            EntityKey::Session(session) => EntityRef::Session(session),
            EntityKey::User(user) => EntityRef::User(user),
        }
        .shard(shards)
    }
}

/// An entity by a name that somebody else holds: to look it up, or to compare it, costs no copy of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntityRef<'a> {
    /// A session.
    Session(&'a SessionId),
    /// A user.
    User(&'a UserId),
}

impl EntityRef<'_> {
    /// The same by a name of its own.
    pub fn key(self) -> EntityKey {
        match self {
            EntityRef::Session(session) => EntityKey::Session(session.clone()),
            EntityRef::User(user) => EntityKey::User(user.clone()),
        }
    }

    /// The shard (1-based group id) that owns it, of `shards` in all.
    pub fn shard(self, shards: u32) -> u32 {
        let hash = match self {
            EntityRef::Session(session) => session.hash64(),
            EntityRef::User(user) => user.hash64(),
        };
        (hash % u64::from(shards.max(1))) as u32 + 1
    }
}

impl Command {
    /// The one entity it touches.
    pub fn entity(&self) -> EntityRef<'_> {
        match self {
            Command::Act { session, .. }
            | Command::KeyedAct { session, .. }
            | Command::Linked { session, .. }
            | Command::Unlinked { session, .. }
            | Command::StillIntended { session, .. }
            | Command::Bar { session, .. }
            | Command::Trim { session, .. }
            | Command::Burn { session, .. }
            | Command::Expire { session, .. } => EntityRef::Session(session),
            Command::UserAct { actor, .. } | Command::KeyedOwn { actor, .. } => EntityRef::User(actor.name()),
            Command::Register { user, .. }
            | Command::Read { user, .. }
            | Command::Delivered { user, .. }
            | Command::Link { user, .. }
            | Command::ReadMany { user, .. }
            | Command::Hear { user, .. }
            | Command::Carried { user, .. } => EntityRef::User(user),
        }
    }
}

//! Whether a user lets others see what it has read, and whether it is there. One question, asked in one place, for users in
//! memory and for those that only rows know; everything that tells of a user asks here first.
//!
//! Nothing is shown to one whom the user blocks; what is shown to the others, the user says.

use bincode::{Decode, Encode};
use rookery_wire::own::ShowTo;
use rookery_wire::{RelationState, UserId};

use super::key;
use super::relations::RelationEntry;
use super::rows::{RowFault, RowReader};
use super::session_rows::row;
use super::user::User;
use super::user_rows::{has_direct_session, read_privacy};

/// What others may be told of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// How far it has read.
    Receipts,
    /// Whether it is online, and when it was: to those whom it knows by a direct session or a friendship, as its own list and
    /// relations have it. Theirs are not asked: a list takes a session before the other one has refused it.
    Presence,
    /// The same to members of a group that it is in, who need not know it.
    PresenceInGroup,
}

/// To whom a user shows what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Privacy {
    /// How far it has read.
    pub receipts: ShowTo,
    /// Whether it is online, and when it was.
    pub presence: ShowTo,
}

impl Privacy {
    fn shows(&self, what: Shown, entry: Option<&RelationEntry>) -> bool {
        if entry.is_some_and(|entry| entry.blocked) {
            return false;
        }
        let to = match what {
            Shown::Receipts => self.receipts,
            Shown::Presence | Shown::PresenceInGroup => self.presence,
        };
        match to {
            ShowTo::All => true,
            ShowTo::Friends => entry.is_some_and(|entry| entry.state() == RelationState::Friends),
            ShowTo::Nobody => false,
        }
    }
}

impl User {
    /// To whom this user shows what.
    pub fn privacy(&self) -> Privacy {
        self.privacy
    }

    /// Whether `to` may be told; a service (none) always.
    pub fn shows(&self, what: Shown, to: Option<&UserId>) -> bool {
        to.is_none_or(|to| {
            self.privacy.shows(what, self.relations.get(to))
                && (what != Shown::Presence || self.is_acquainted_with(to))
        })
    }
}

/// The same of a user that is not in memory.
///
/// # Errors
/// [`RowFault`].
pub fn row_shows(
    rows: &dyn RowReader,
    user: &UserId,
    what: Shown,
    to: Option<&UserId>,
) -> Result<bool, RowFault> {
    let Some(to) = to else { return Ok(true) };
    let key = key::relation(user, to);
    let entry: Option<(UserId, RelationEntry)> = rows.get(&key)?.map(|value| row(&key, value)).transpose()?;
    let entry = entry.as_ref().map(|(_, entry)| entry);
    if !read_privacy(rows, user)?.shows(what, entry) {
        return Ok(false);
    }
    let is_friend = entry.is_some_and(|entry| entry.state() == RelationState::Friends);
    Ok(what != Shown::Presence || is_friend || has_direct_session(rows, user, to)?)
}

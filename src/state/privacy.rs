//! Whether a user lets others see what it has read, and whether it is there. One question, asked in one place, for users in
//! memory and for those that only rows know; everything that tells of a user asks here first.
//!
//! Nothing is shown to one whom the user blocks. There is no setting yet with which a user says no to everybody.

use rookery_wire::UserId;

use super::key;
use super::relations::RelationEntry;
use super::rows::{RowFault, RowReader};
use super::session_rows::row;
use super::user::User;

/// What others may be told of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// How far it has read.
    Receipts,
    /// Whether it is online, and when it was.
    Presence,
}

impl User {
    /// Whether `to` may be told; without it, whether others may in general.
    pub fn shows(&self, _: Shown, to: Option<&UserId>) -> bool {
        !to.and_then(|to| self.relations.get(to)).is_some_and(|entry| entry.blocked)
    }
}

/// The same of a user that is not in memory.
///
/// # Errors
/// [`RowFault`].
pub fn row_shows(
    rows: &dyn RowReader,
    user: &UserId,
    _: Shown,
    to: Option<&UserId>,
) -> Result<bool, RowFault> {
    let Some(to) = to else { return Ok(true) };
    let key = key::relation(user, to);
    let entry: Option<(UserId, RelationEntry)> = rows.get(&key)?.map(|value| row(&key, value)).transpose()?;
    Ok(!entry.is_some_and(|(_, entry)| entry.blocked))
}

//! Whether a user lets others see what it has read, and whether it is there. One question, asked in one place, for users in
//! memory and for those that only rows know; everything that tells of a user asks here first.

use rookery_wire::UserId;

use super::rows::{RowFault, RowReader};
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
    /// Whether others may be told. There is no setting yet with which a user says no.
    pub fn shows(&self, _: Shown) -> bool {
        true
    }
}

/// The same of a user that is not in memory.
///
/// # Errors
/// [`RowFault`].
pub fn row_shows(_: &dyn RowReader, _: &UserId, _: Shown) -> Result<bool, RowFault> {
    Ok(true)
}

//! What Rookery knows, as plain structs: sessions and users, the commands that change them, the rows that keep them.
//!
//! Everything here is a function of its input alone. Nothing imports a clock, randomness, IO, an actor runtime, the
//! log or a database; no iteration depends on a hash. So every replica that applies the same entries holds the same
//! state, and a replay from any checkpoint ends in the same place (R6, R7).
//!
//! A command reads and writes exactly one entity. What must happen in a second one is left behind as an *intent*,
//! which the shard's leader carries over.

mod at;
mod bars;
pub mod command;
pub mod devices;
pub mod doors;
mod entity;
pub mod exceptions;
pub mod fingerprint;
mod front;
pub mod joining;
mod judging;
mod keeping;
pub mod key;
pub mod keyed;
mod left;
pub mod lookups;
pub mod manage;
mod members;
pub mod naming;
mod numbers;
pub mod outcome;
pub mod own;
pub mod parts;
mod placing;
pub mod privacy;
mod recalled;
pub mod records;
pub mod relations;
mod rewrite;
pub mod rows;
pub mod seal;
pub mod sender;
pub mod series;
pub mod session;
pub mod session_rows;
pub mod since;
pub mod tables;
mod trim;
pub mod user;
pub mod user_rows;
pub mod versions;

pub use command::{Act, Actor, ChangeKind, Command, Entry, Link, ReadTo, Unwanted};
pub use devices::{DeviceBounds, Introduction};
pub use entity::{EntityKey, EntityRef};
pub use keyed::{KEY_LIVES_MS, KeyedOwn};
pub use left::Listing;
pub use outcome::{About, Answer, Gate, GivenUp, Intent, Outcome, Publication};
pub use own::{Given, OwnBounds, UserAct};
pub use parts::PartOf;
pub use relations::{Errand, ErrandKey, ErrandKind, Room, Says, Stance};
pub use rows::{Freed, RowFault, RowReader, RowWrites};
pub use session::{At, Session, SessionLimits};
pub use trim::{as_expired, is_overdue};
pub use user::User;
pub use versions::VersionBounds;

#[cfg(test)]
mod blocks_tests;
#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod codes_tests;
#[cfg(test)]
mod digest_tests;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod full_lists_tests;
#[cfg(test)]
mod gates_tests;
#[cfg(test)]
mod joining_model_tests;
#[cfg(test)]
mod joining_tests;
#[cfg(test)]
mod keyed_tests;
#[cfg(test)]
mod large_tests;
#[cfg(test)]
mod left_tests;
#[cfg(test)]
mod lookups_tests;
#[cfg(test)]
mod manage_model_tests;
#[cfg(test)]
mod manage_tests;
#[cfg(test)]
mod naming_tests;
#[cfg(test)]
mod own_model_tests;
#[cfg(test)]
mod own_tests;
#[cfg(test)]
mod privacy_tests;
#[cfg(test)]
mod refusals_tests;
#[cfg(test)]
mod rewrite_tests;
#[cfg(test)]
mod since_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trim_tests;
#[cfg(test)]
mod versions_model_tests;
#[cfg(test)]
mod versions_tests;

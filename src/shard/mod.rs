//! A shard: one Raft group and the actors of the sessions and users whose names hash to it.
//!
//! In the order in which a command meets them: [`handle`] takes it, [`proposer`] puts it into an entry with whatever
//! else waits, [`machine`] gets the entry back when a majority has it, [`actor`] hands its commands to their
//! entities, [`entity`] applies them and [`effects`] carries out what that led to. Beside that path, [`checkpoint`]
//! writes what changed, [`carrier`] brings intents of sessions and [`errands`] those of users to other shards, each in its turn
//! ([`rounds`]), [`reads`] answers
//! (groups in [`group_reads`], what is a user's own in [`own_reads`], receipts and presence in [`live_reads`]),
//! [`digests`] proves a history to clients and [`compare`] to the other replicas,
//! [`retention`] lets go of what is not to be kept, [`over`] of sessions that never began, [`snapshot`] moves the whole, and
//! [`tables`] is what memory has of it, of every session a line ([`directory`]).

pub mod actor;
pub mod api;
pub mod carrier;
pub mod checkpoint;
pub mod compare;
mod digests;
mod directory;
pub mod effects;
pub mod entity;
pub mod errands;
mod group_reads;
pub mod handle;
mod live_reads;
pub mod machine;
mod over;
mod overdue;
mod own_reads;
pub mod pages;
#[cfg(feature = "planted-bugs")]
mod plant;
pub mod proposer;
mod queue;
pub mod reads;
pub mod retention;
mod rounds;
pub mod rows;
pub mod shared;
pub mod snapshot;
mod tables;
#[cfg(test)]
mod tests;
pub mod traffic;
mod version_reads;

pub use api::{
    Answer, Answers, Asked, Audience, Freshness, LeftSince, MAX_HEADS, MAX_LEFT, Origin, Read, ReadRefusal,
    ReadReply, SessionActivity, SessionHead, Submission, Turn, UserSession,
};
pub use handle::{ShardHandle, Stage, Surroundings};
pub use shared::{Outbound, ShardOptions};

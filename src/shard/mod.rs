//! A shard: one Raft group and the actors of the sessions and users whose names hash to it.

pub mod api;

pub use api::{
    Answer, Answers, Freshness, MAX_HEADS, Origin, Read, ReadRefusal, ReadReply, SessionHead, Submission, UserSession,
};

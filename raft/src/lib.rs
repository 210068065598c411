//! Raft groups over TCP and the store under them: knows openraft and sled and nothing of chat.

mod types;

pub use types::{GroupId, RaftId};

//! Raft groups over TCP and the store under them: knows openraft and sled and nothing of chat.
//!
//! In the order in which an entry meets them: a [`Group`] takes a proposal, the store journals it, the
//! [`PeerNet`] carries it to the other replicas, a [`StateMachine`] executes it, and a [`Host`] holds it all together.

mod codec;
mod error;
mod group;
mod host;
mod machine;
mod peer;
mod seam;
mod snapshot;
/// Stands in until the store is there.
mod store {
    /// The node's databases.
    #[derive(Debug, Clone)]
    pub struct Store;
}
mod types;

pub use error::{PeerError, RaftError, ReadError};
pub use group::{Group, GroupStatus};
pub use host::{Fatal, Host, HostOptions};
pub use machine::{Committed, Fault, Mark, ProposeError, StateMachine, Waiter};
pub use peer::{Admit, AppHandler, LinkState, PeerNet, PeerOptions};
pub use seam::{
    BoxStream, Clock, Duplex, Entropy, Listener, Network, OsEntropy, SeededEntropy, SystemClock, TcpNetwork,
};
pub use snapshot::{MAX_CHUNK, SnapshotReader, SnapshotWriter};
pub use store::Store;
pub use types::{GroupId, RaftId};

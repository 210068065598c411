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
mod plant;
mod runtime;
mod seam;
mod snapshot;
mod store;
mod types;

pub use error::{PeerError, RaftError, ReadError};
pub use group::{Envelope, Group, GroupStatus, ReadPoint};
pub use host::{Fatal, Host, HostOptions};
pub use machine::{Committed, Fault, Mark, ProposeError, StateMachine, Waiter};
pub use peer::{Admit, AppHandler, LinkState, PeerNet, PeerOptions, Speaks};
#[doc(hidden)]
pub use plant::planted;
#[cfg(feature = "planted-bugs")]
#[doc(hidden)]
pub use plant::{Watcher, watch_appends};
pub use seam::{
    BoxStream, Clock, Duplex, Entropy, Listener, Network, OsEntropy, ReadHalf, SeededEntropy, SystemClock,
    TcpNetwork, WriteHalf,
};
pub use snapshot::{MAX_CHUNK, SnapshotReader, SnapshotWriter};
#[doc(hidden)]
pub use store::probe;
pub use store::{
    BATCH_MAX, Batch, Each, FaultPolicy, KEY_MAX, Map, MapView, MemoryDisk, Step, StepHook, Store,
    StoreError, StoreHealth, StoreOptions, VALUE_MAX,
};
pub use types::{GroupId, RaftId};

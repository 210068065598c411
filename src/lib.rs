//! Rookery: a store-and-deliver cluster for instant messages in one binary.
//!
//! The modules stand in the order in which a message meets them. A frame comes in through the gateway of any node;
//! the router carries it to the leader of its shard; the shard puts many such commands into one log entry; when a
//! majority has it on disk every replica applies it to the state; and delivery hands it to the connections that
//! are there. `node` is the only file that wires everything.

pub mod config;
pub mod gateway;
pub mod identity;
pub mod router;

pub mod delivery;
pub mod shard;
pub mod state;

pub mod node;
pub mod stage;
pub mod system;

pub mod bench;
pub mod check;
pub mod cli;
pub mod demo;

pub mod fleet;
pub mod http;
mod plant;
pub mod status;
pub(crate) mod terminal;

//! The Rookery client: a connection that mends itself, sends that are stored once, messages that arrive once and
//! in order.
//!
//! For: programs that talk to a cluster — the terminal client, the load generator, the checker, bots. Owns the
//! protocol's client half: epochs and numbering, what is in flight, the order of what arrives, gaps, lag,
//! reconnection and the file in which a device remembers them, unless the application keeps its own cursors ([`Memory`]). It knows frames ([`wire`]) and nothing of the
//! server's inside, and it must never tell the application a message twice or out of order within one run.
//!
//! Read in the order in which a send meets the modules: [`Client`] (the handle) puts a command into a bounded
//! queue, the driver task (all the IO) hands it to the engine (all the decisions, neither socket nor clock), which
//! numbers it, writes it, and keeps it until its answer is there.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use rookery_client::{Client, Options, Outgoing, wire::{SessionId, UserId}};
//! let options = Options::new(["127.0.0.1:7401"], "ann".parse()?, "laptop".parse()?);
//! let (client, mut events) = Client::connect(options).await?;
//! let session = SessionId::direct(&"ann".parse::<UserId>()?, &"bob".parse::<UserId>()?)?;
//! let ack = client.send(&session, Outgoing::text("hi")).await?;
//! println!("stored as {}", ack.seq);
//! let first = events.recv().await;
//! # let _ = first; Ok(()) }
//! ```

pub use rookery_wire as wire;

mod admin;
mod client;
mod command;
mod connector;
mod driver;
mod engine;
mod error;
mod event;
mod goes;
mod groups;
mod joining;
mod live;
mod memory;
mod options;
mod outgoing;
mod own;
mod saver;
mod shared;
mod since;
mod stream;
mod verify;
mod versions;

pub use client::{Client, PendingAck, SyncList};
pub use connector::{BoxFuture, BoxedStream, Connector, Stream, TcpConnector};
pub use error::ClientError;
pub use event::{Event, Events};
pub use goes::Goes;
pub use joining::InviteCode;
pub use options::{Memory, Options, StartAt};
pub use outgoing::Outgoing;
pub use shared::Stats;
pub use since::{Mark, SyncChanges};
pub use verify::{Proof, Verified};

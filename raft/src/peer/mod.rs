//! The links between nodes: one multiplexed, pipelined TCP connection per pair.
//!
//! Owns: connections, handshakes, frames, queues. Must never look into a body, must never hold more than its bounds.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::timeout;

mod frame;
mod handshake;
mod link;
mod net;
mod outbox;
mod run;

pub(crate) use frame::{Body, BodyWriter, read_bodies, whole};
pub(crate) use link::{Duct, Link};
pub(crate) use net::Service;
pub(crate) use outbox::Lane;

pub(crate) use crate::error::PeerError;
use crate::seam::{Entropy, Network};
use crate::types::RaftId;

/// The shortest cluster secret, in bytes.
const MIN_SECRET: usize = 16;

/// Decides whether a peer with this node number and store id may link; the text of a no goes to the peer.
pub type Admit = Arc<dyn Fn(u16, u64) -> Result<(), String> + Send + Sync>;

/// Versions of what the application has carried to its peers as opaque bytes. A build that has another one of any of them
/// would drop messages, or stop at an entry that it cannot read, so the two refuse each other when they meet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Speaks {
    /// Of calls and casts.
    pub messages: u16,
    /// Of the payloads of log entries.
    pub entries: u16,
    /// Of the records in snapshots.
    pub records: u16,
}

impl fmt::Display for Speaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "messages {}, entries {}, records {}", self.messages, self.entries, self.records)
    }
}

/// How this node meets its peers.
#[derive(Clone)]
pub struct PeerOptions {
    /// This node's number.
    pub node: u16,
    /// The id of this node's folder.
    pub store: u64,
    /// Where to listen, `host:port`.
    pub listen: String,
    /// The other nodes: number and `host:port`. (An entry for this node is ignored.)
    pub peers: BTreeMap<u16, String>,
    /// What proves that a peer is of this cluster. At least 16 bytes.
    pub secret: Vec<u8>,
    /// The cluster's id once it is formed.
    pub cluster: Option<[u8; 16]>,
    /// The format version this node writes; a peer with a newer one is refused by this node, and this node by older ones.
    pub format: u32,
    /// What the application speaks; a peer that speaks anything else is refused.
    pub speaks: Speaks,
    /// Asked for each peer after the secret was proven. `None` admits every store.
    pub admit: Option<Admit>,
    /// Sent to a client that comes to this port by mistake, before it is hung up on: an error frame of its protocol.
    pub client_refusal: Bytes,
    /// Application frames that may wait for one link. Default 16,384.
    pub queue_frames: usize,
    /// Their bytes. Default 16 MiB.
    pub queue_bytes: usize,
    /// Application calls of one peer that run here at once. Default 1,024.
    pub calls: usize,
    /// Largest frame in bytes. Default 8 MiB.
    pub max_frame: usize,
    /// Dialling, handshake: each must end within this. Default 2 s.
    pub handshake: Duration,
    /// A link that was silent for this long is closed; a quarter of it is the interval of pings. Default 2 s.
    pub silence: Duration,
    /// First and largest pause between attempts to connect (doubling, with jitter). Default 20 ms to 500 ms.
    pub retry: (Duration, Duration),
}

impl PeerOptions {
    /// The defaults.
    pub fn new(
        node: u16,
        store: u64,
        listen: impl Into<String>,
        peers: BTreeMap<u16, String>,
        secret: Vec<u8>,
    ) -> Self {
        Self {
            node,
            store,
            listen: listen.into(),
            peers,
            secret,
            cluster: None,
            format: 1,
            speaks: Speaks::default(),
            admit: None,
            client_refusal: Bytes::from_static(
                b"this is the peer port of a rookery node; clients connect to its `client` address\n",
            ),
            queue_frames: 16 * 1024,
            queue_bytes: 16 << 20,
            calls: 1024,
            max_frame: 8 << 20,
            handshake: Duration::from_secs(2),
            silence: Duration::from_secs(2),
            retry: (Duration::from_millis(20), Duration::from_millis(100)),
        }
    }
}

/// Never prints the secret.
impl fmt::Debug for PeerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerOptions")
            .field("node", &self.node)
            .field("listen", &self.listen)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

/// Whether a link is up, and which of its lives this is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Frames pass.
    pub up: bool,
    /// Moves each time the link is made anew. Casts sent in an earlier generation may have been lost.
    pub generation: u64,
    /// The store id of the peer, as of this generation.
    pub store: u64,
}

/// What the application does with what peers send.
pub trait AppHandler: Send + Sync + 'static {
    /// Answers a call. Runs as a task of its own; the number of them is bounded per link.
    fn call(&self, from: u16, body: Bytes) -> BoxFuture<'static, Bytes>;
    /// Takes a one-way message. Runs on the link's reader: must not block.
    fn cast(&self, from: u16, body: Bytes);
}

/// The links of one node. Cheap to clone.
#[derive(Clone)]
pub struct PeerNet(Arc<net::Inner>);

impl fmt::Debug for PeerNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerNet({})", self.0.options.node)
    }
}

impl PeerNet {
    /// Listens, and starts to keep up a link to every peer.
    pub async fn start(
        options: PeerOptions,
        network: Arc<dyn Network>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, PeerError> {
        if options.secret.len() < MIN_SECRET {
            return Err(PeerError::Config(format!(
                "`secret` in cluster.toml needs at least {MIN_SECRET} bytes"
            )));
        }
        let inner = net::Inner::new(options, network, entropy);
        inner.start().await?;
        Ok(Self(inner))
    }

    /// Where it listens (the port that was really taken).
    pub fn local_addr(&self) -> Option<SocketAddr> {
        *self.0.listens.lock()
    }

    /// Sets who takes calls and casts. Until then calls are answered with an error and casts are dropped.
    pub fn on_app(&self, handler: Arc<dyn AppHandler>) {
        self.0.set_app(handler);
    }

    /// Asks a node and waits for its answer, at most `deadline`. FIFO with casts up to the handler's start. `Down`, `Full`
    /// and `TooLong` mean that nothing was sent.
    pub async fn call(&self, node: u16, body: Bytes, deadline: Duration) -> Result<Bytes, PeerError> {
        let asked = self.0.link(node)?.ask(Lane::App, frame::APP, body.into())?;
        match timeout(deadline, asked.answer()).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(PeerError::Timeout { node, ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX) })
            }
        }
    }

    /// Sends one way. FIFO per link and generation; an error means that it was not taken.
    pub fn cast(&self, node: u16, body: Bytes) -> Result<(), PeerError> {
        self.0.link(node)?.push(Lane::App, frame::Kind::Cast, frame::APP, 0, body.into())
    }

    /// The state of the link to a node. A node that is not configured is down for ever.
    pub fn link(&self, node: u16) -> watch::Receiver<LinkState> {
        self.0.state(node)
    }

    /// The other nodes it knows an address of.
    pub fn nodes(&self) -> Vec<u16> {
        self.0.nodes()
    }

    /// What is between this node and each configured peer (secret, cluster, number, format, versions, a folder that was
    /// replaced),
    /// in words; gone once their link is up. A stranger who can reach the peer port can put words here for a node
    /// that has no link, so one voice alone must not decide anything.
    pub fn refusals(&self) -> BTreeMap<u16, String> {
        self.0.refusals()
    }

    /// Frames that were not delivered because they were damaged; each of them closed its link.
    pub fn bad_frames(&self) -> u64 {
        self.0.bad_frames()
    }

    /// The cluster is formed: from now on only peers of this cluster (or of none) are taken.
    pub fn set_cluster(&self, id: [u8; 16]) {
        self.0.set_cluster(id);
    }

    /// Adds a node, or changes the address of one.
    pub fn set_peer(&self, node: u16, addr: impl Into<String>) {
        self.0.set_peer(node, addr.into());
    }

    /// Closes everything. What waits is answered with `Stopped` or `Lost`.
    pub async fn stop(&self) {
        self.0.stop().await;
    }

    /// The link to a node with a certain folder, if it is up.
    pub(crate) fn link_to(&self, peer: RaftId) -> Result<Arc<Link>, PeerError> {
        let link = self.0.link(peer.node)?;
        // Another folder is another voter: what is meant for the old one must not reach the new one (R4).
        if link.peer == peer { Ok(link) } else { Err(PeerError::Down { node: peer.node }) }
    }

    /// Sets who takes what peers send for a group; `None` for nobody.
    pub(crate) fn serve(&self, channel: u32, service: Option<Arc<dyn Service>>) {
        self.0.serve(channel, service);
    }
}

//! The gateway: the part of every node that holds connections. It keeps no durable state.
//!
//! Owns the client port, every connection and what waits to be written to it. In the order in which a connection
//! meets the parts: [`accept`] (the port), [`hello`] (who is it), [`places`] (is it the only one of its device), [`standing`] (is that still registered), [`connection`] (what it is), [`reader`] and
//! [`dispatch`] (from frames to requests), [`check`] (refusals before the log; of too much, [`bounds`]), [`reads`] and [`sync`] (what is
//! answered from state; [`since`], what of it to whom has had some before), [`digests`] (proofs of a history), [`groups`]
//! (both, for the management of groups), [`own`] (both, for what is the user's own, with [`badge`] and [`mask`]), [`cursors`] (with
//! [`delivered`]) and [`news`] (delivered cursors, sessions joined and left),
//! [`receipts`], [`passing`], [`watch`] and [`company`] (who has read, what is kept nowhere, who is online, and who of a group), [`outbox`] and
//! [`writer`] (the way out).
//!
//! It must never wait for a slow client: what does not fit makes the client lag, and too many requests stop the
//! reading of that one connection. It must never judge what only replicated state can judge.

mod accept;
mod admin;
mod badge;
mod bounds;
pub mod check;
mod company;
mod connection;
mod core;
mod cursors;
mod delivered;
mod digests;
mod dispatch;
mod groups;
mod hello;
mod join;
mod mask;
mod naming;
mod news;
pub mod outbox;
mod own;
mod pace;
mod passing;
mod places;
mod plant;
mod reader;
mod reads;
mod receipts;
mod since;
mod standing;
mod stats;
mod sync;
mod times;
mod versions;
mod watch;
mod writer;

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rookery_raft::{Clock, Network};
use rookery_wire::ErrorCode;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::core::Core;
pub use self::stats::GatewayStats;
pub use self::times::KindTimes;
use crate::config::{Limits, Timing};
use crate::delivery::Delivery;
use crate::identity::Authenticator;
use crate::router::Router;
use crate::system::AuditTrail;

/// How long connections have to be answered, and to take what was written to them, when the node stops.
const FAREWELL: Duration = Duration::from_secs(1);
/// After a refusal the other side may still be sending: its bytes are read and dropped for at most this long, so that
/// the refusal is not lost to a reset.
const LINGER: Duration = Duration::from_millis(500);
/// And at most so many of them.
const LINGER_BYTES: usize = 256 << 10;

/// What a gateway is made with.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// This node.
    pub node: u16,
    /// The cluster's id, as WELCOME says it.
    pub cluster: [u8; 16],
    /// Where clients connect, `host:port`.
    pub listen: String,
    /// Bounds.
    pub limits: Limits,
    /// Deadlines.
    pub timing: Timing,
    /// Where its tasks run.
    pub runtime: tokio::runtime::Handle,
    /// Where connections are written to.
    pub writers: tokio::runtime::Handle,
}

/// What a gateway works with.
pub struct Neighbours {
    /// Carries requests.
    pub router: Router,
    /// Pushes.
    pub delivery: Arc<Delivery>,
    /// Takes lines for the audit.
    pub audit: Arc<dyn AuditTrail>,
    /// Judges HELLO.
    pub authenticator: Arc<Authenticator>,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
}

/// The gateway of one node.
pub struct Gateway {
    core: Arc<Core>,
    address: SocketAddr,
}

impl Gateway {
    /// Listens and takes connections.
    ///
    /// # Errors
    /// A text that names the address and the key in cluster.toml, when the port cannot be listened on.
    pub async fn start(
        options: GatewayOptions,
        neighbours: Neighbours,
        network: &dyn Network,
    ) -> Result<Self, String> {
        let address = options.listen.clone();
        let refused = |fault: std::io::Error| {
            format!(
                "cannot listen for clients on {address}: {fault}; change this node's `client` address in \
                 cluster.toml, or stop what uses it"
            )
        };
        let listener = network.listen(&options.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let Neighbours { router, delivery, audit, authenticator, clock } = neighbours;
        let core = Arc::new(Core {
            options,
            router,
            delivery,
            audit,
            authenticator,
            clock,
            stats: Arc::new(GatewayStats::new()),
            times: times::Times::new(),
            devices: dashmap::DashMap::new(),
            flusher: cursors::Flusher::default(),
            marks: receipts::Marks::default(),
            typists: passing::Typists::default(),
            joins: pace::Paces::default(),
            adds: pace::Paces::default(),
            watches: watch::Watches::default(),
            groups: company::Groups::default(),
            leaving: CancellationToken::new(),
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let places: Weak<Core> = Arc::downgrade(&core);
        core.router.set_places(places);
        core.spawn(accept::run(Arc::clone(&core), listener));
        core.spawn(cursors::run(Arc::clone(&core)));
        core.spawn(receipts::run(Arc::clone(&core)));
        core.spawn(watch::run(Arc::clone(&core)));
        core.spawn(company::run(Arc::clone(&core)));
        Ok(Self { core, address })
    }

    /// Where it listens, with the port that was really taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that were welcomed and are there.
    pub fn connections(&self) -> usize {
        self.core.devices.len()
    }

    /// The counters.
    pub fn stats(&self) -> &Arc<GatewayStats> {
        &self.core.stats
    }

    /// How long requests took, by kind.
    pub fn times(&self) -> Vec<KindTimes> {
        self.core.times.all()
    }

    /// Takes no more connections, tells those that are there to go, answers what they have asked, waits a moment for
    /// that, and ends everything.
    pub async fn stop(&self) {
        self.core.leaving.cancel();
        let connections: Vec<_> = self.core.devices.iter().map(|entry| Arc::clone(entry.value())).collect();
        for connection in connections {
            cursors::last_flush(&connection);
            connection.go_away(ErrorCode::ShuttingDown, "this node is going down; connect to another", 0);
        }
        let emptied = async {
            while !self.core.devices.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Whoever does not go in time is hung up on.
        let _ = timeout(FAREWELL, emptied).await;
        self.core.cancel.cancel();
        self.core.tasks.close();
        self.core.tasks.wait().await;
    }
}

/// Reads and drops what the other side still sends.
async fn linger(socket: &mut (impl tokio::io::AsyncRead + Unpin + ?Sized)) {
    let drain = async {
        let mut scratch = [0; 1024];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match socket.read(&mut scratch).await {
                Ok(0) | Err(_) => return,
                Ok(count) => left = left.saturating_sub(count),
            }
        }
    };
    let _ = timeout(LINGER, drain).await;
}

#[cfg(test)]
mod tests;

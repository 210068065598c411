//! The table of peers: who is configured, who is linked, who takes what they send.
//!
//! Owns: the peers, the listening socket's task, one keeper task per peer that this node dials. Must never keep two links
//! to one peer: a newer one closes the older.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::frame::Body;
use super::handshake::{self, Failure};
use super::link::{Duct, Link};
use super::{AppHandler, LinkState, PeerError, PeerOptions, run};
use crate::seam::{BoxStream, Entropy, Listener, Network};
use crate::types::RaftId;

/// Handshakes with callers that run at once; more callers wait in the kernel.
const HANDSHAKES: usize = 64;
/// Pause after an accept that failed (out of file descriptors, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Takes what peers send to one channel.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers a request. Runs as a task of its own.
    fn ask(&self, from: RaftId, body: Bytes) -> BoxFuture<'static, Result<Body, String>>;
    /// Serves a stream until it ends. Runs as a task of its own.
    fn stream(&self, from: RaftId, open: Bytes, duct: Duct) -> BoxFuture<'static, ()>;
}

/// One configured peer.
struct Peer {
    node: u16,
    addr: Mutex<String>,
    link: Mutex<Option<Arc<Link>>>,
    state: watch::Sender<LinkState>,
}

/// Everything behind a `PeerNet`.
pub(crate) struct Inner {
    pub(super) options: PeerOptions,
    network: Arc<dyn Network>,
    entropy: Arc<dyn Entropy>,
    cluster: Mutex<Option<[u8; 16]>>,
    peers: RwLock<BTreeMap<u16, Arc<Peer>>>,
    services: RwLock<HashMap<u32, Arc<dyn Service>>>,
    app: RwLock<Option<Arc<dyn AppHandler>>>,
    /// What each configured peer said when it refused this node; gone once its link is up.
    refused: Mutex<BTreeMap<u16, String>>,
    /// What was last said about a refusal, by either side.
    said: Mutex<Option<String>>,
    bad_frames: AtomicU64,
    pub(super) listens: Mutex<Option<SocketAddr>>,
    stopped: CancellationToken,
    tasks: TaskTracker,
    /// Link states of nodes that are not configured: down for ever.
    nobody: watch::Sender<LinkState>,
}

impl Inner {
    pub(super) fn new(
        options: PeerOptions,
        network: Arc<dyn Network>,
        entropy: Arc<dyn Entropy>,
    ) -> Arc<Self> {
        Arc::new(Self {
            cluster: Mutex::new(options.cluster),
            options,
            network,
            entropy,
            peers: RwLock::default(),
            services: RwLock::default(),
            app: RwLock::default(),
            refused: Mutex::default(),
            said: Mutex::default(),
            bad_frames: AtomicU64::new(0),
            listens: Mutex::default(),
            stopped: CancellationToken::new(),
            tasks: TaskTracker::new(),
            nobody: watch::Sender::new(LinkState::default()),
        })
    }

    pub(super) async fn start(self: &Arc<Self>) -> Result<(), PeerError> {
        let addr = self.options.listen.clone();
        let refused = |e: std::io::Error| PeerError::Listen { addr: addr.clone(), why: e.to_string() };
        let listener = self.network.listen(&self.options.listen).await.map_err(refused)?;
        *self.listens.lock() = listener.local_addr().ok();
        self.spawn(listen(self.clone(), listener));
        for (node, addr) in &self.options.peers {
            self.set_peer(*node, addr.clone());
        }
        Ok(())
    }

    /// Runs until done or until the net stops.
    pub(super) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stopped.cancelled() => {}
                () = task => {}
            }
        });
    }

    pub(super) fn set_peer(self: &Arc<Self>, node: u16, addr: String) {
        if node == self.options.node {
            return;
        }
        let mut peers = self.peers.write();
        if let Some(peer) = peers.get(&node) {
            *peer.addr.lock() = addr;
            return;
        }
        let peer = Arc::new(Peer {
            node,
            addr: Mutex::new(addr),
            link: Mutex::default(),
            state: watch::Sender::new(LinkState::default()),
        });
        peers.insert(node, peer.clone());
        // One connection per pair: the lower number dials.
        if self.options.node < node {
            self.spawn(keep(self.clone(), peer));
        }
    }

    pub(super) fn set_cluster(&self, id: [u8; 16]) {
        *self.cluster.lock() = Some(id);
    }

    pub(super) fn set_app(&self, app: Arc<dyn AppHandler>) {
        *self.app.write() = Some(app);
    }

    pub(super) fn app(&self) -> Option<Arc<dyn AppHandler>> {
        self.app.read().clone()
    }

    pub(super) fn service(&self, channel: u32) -> Option<Arc<dyn Service>> {
        self.services.read().get(&channel).cloned()
    }

    pub(super) fn serve(&self, channel: u32, service: Option<Arc<dyn Service>>) {
        let mut services = self.services.write();
        match service {
            Some(service) => services.insert(channel, service),
            None => services.remove(&channel),
        };
    }

    pub(super) fn link(&self, node: u16) -> Result<Arc<Link>, PeerError> {
        if self.stopped.is_cancelled() {
            return Err(PeerError::Stopped);
        }
        let peers = self.peers.read();
        let peer = peers.get(&node).ok_or(PeerError::Unknown { node })?;
        peer.link.lock().clone().ok_or(PeerError::Down { node })
    }

    pub(super) fn nodes(&self) -> Vec<u16> {
        self.peers.read().keys().copied().collect()
    }

    pub(super) fn state(&self, node: u16) -> watch::Receiver<LinkState> {
        match self.peers.read().get(&node) {
            Some(peer) => peer.state.subscribe(),
            None => self.nobody.subscribe(),
        }
    }

    pub(super) fn refusals(&self) -> BTreeMap<u16, String> {
        self.refused.lock().clone()
    }

    pub(super) fn count_bad_frame(&self) {
        self.bad_frames.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn bad_frames(&self) -> u64 {
        self.bad_frames.load(Ordering::Relaxed)
    }

    pub(super) async fn stop(&self) {
        self.stopped.cancel();
        let links: Vec<_> = self.peers.read().values().filter_map(|peer| peer.link.lock().take()).collect();
        for link in links {
            link.close();
        }
        self.services.write().clear();
        *self.app.write() = None;
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Logs why there is no link; what is repeated with each attempt is said aloud once.
    fn note(&self, node: Option<u16>, failure: &Failure) {
        let said = failure.to_string();
        match failure {
            Failure::Io(_) => tracing::debug!(node, "no link: {said}"),
            Failure::Refused(_) | Failure::RefusedByPeer(_)
                if self.said.lock().replace(said.clone()).as_ref() == Some(&said) =>
            {
                tracing::debug!(node, "no link: {said}");
            }
            Failure::Refused(_) => tracing::warn!(node, "no link: {said}"),
            Failure::RefusedByPeer(_) => tracing::warn!(node, "no link: {said}"),
        }
        if let (Some(node), Some(text)) = (node, failure.between_us()) {
            self.refused.lock().insert(node, text.to_owned());
        }
    }

    /// A connection passed its handshake: it is the link from now on, until it ends.
    async fn live(self: &Arc<Self>, peer: &Arc<Peer>, store: u64, stream: BoxStream) {
        let link = Link::new(RaftId { node: peer.node, store }, &self.options, self.stopped.child_token());
        if let Some(older) = peer.link.lock().replace(link.clone()) {
            older.close();
        }
        self.refused.lock().remove(&peer.node);
        peer.state.send_modify(|s| *s = LinkState { up: true, generation: s.generation + 1, store });
        tracing::info!(peer = %link.peer, "link up");
        run::run(self.clone(), link.clone(), stream).await;
        let mut current = peer.link.lock();
        if current.as_ref().is_some_and(|c| Arc::ptr_eq(c, &link)) {
            *current = None;
            peer.state.send_modify(|s| s.up = false);
        }
    }
}

/// Keeps up the link to a peer that this node dials.
async fn keep(net: Arc<Inner>, peer: Arc<Peer>) {
    let (first, largest) = net.options.retry;
    let mut pause = first;
    loop {
        match timeout(net.options.handshake, dial(&net, &peer)).await {
            Ok(Ok((store, stream))) => {
                pause = first;
                net.live(&peer, store, stream).await;
            }
            Ok(Err(failure)) => net.note(Some(peer.node), &failure),
            Err(_) => tracing::debug!(node = peer.node, "no link: dialling took too long"),
        }
        // Half to all of the pause, so that nodes that were cut off together do not come back in step.
        let jitter = net.entropy.u64() % 512;
        let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_millis(millis / 2 + millis * jitter / 1024)).await;
        pause = (pause * 2).min(largest);
    }
}

async fn dial(net: &Arc<Inner>, peer: &Peer) -> Result<(u64, BoxStream), Failure> {
    let addr = peer.addr.lock().clone();
    let mut stream = net.network.dial(&addr).await?;
    let cluster = *net.cluster.lock();
    let hello = handshake::dial(&mut stream, &net.options, cluster, peer.node, &*net.entropy).await?;
    Ok((hello.store, stream))
}

/// Takes the connections of peers that dial this node.
async fn listen(net: Arc<Inner>, mut listener: Box<dyn Listener>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a peer's connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let inner = net.clone();
        net.spawn(async move {
            let mut claims = None;
            let met = timeout(inner.options.handshake, accept(&inner, stream, &mut claims)).await;
            drop(permit);
            match met {
                Ok(Ok((peer, store, stream))) => inner.live(&peer, store, stream).await,
                Ok(Err(failure)) => inner.note(claims, &failure),
                Err(_) => tracing::debug!("a caller on the peer port did not finish its handshake"),
            }
        });
    }
}

/// `claims` becomes the node that the caller says it is, once it has said one that is configured.
async fn accept(
    net: &Arc<Inner>,
    mut stream: BoxStream,
    claims: &mut Option<u16>,
) -> Result<(Arc<Peer>, u64, BoxStream), Failure> {
    let cluster = *net.cluster.lock();
    let mut known = |node| {
        let known = net.peers.read().contains_key(&node);
        *claims = known.then_some(node);
        known
    };
    let hello = handshake::accept(&mut stream, &net.options, cluster, &mut known, &*net.entropy).await?;
    match net.peers.read().get(&hello.node) {
        Some(peer) => Ok((peer.clone(), hello.store, stream)),
        None => Err(Failure::Refused(format!("node {} is not configured", hello.node))),
    }
}

//! Loopback TCP that can be cut between pairs of nodes: a cut connection passes nothing and says nothing.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rookery_raft::{BoxStream, Listener, Network, TcpNetwork};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Default)]
struct State {
    nodes: HashMap<String, u16>,
    cut: BTreeSet<(u16, u16)>,
}

/// Which pairs are cut.
#[derive(Clone, Default)]
pub(crate) struct Cuts {
    state: Arc<Mutex<State>>,
    /// Connections dialled.
    pub(crate) dialled: Arc<AtomicUsize>,
}

fn pair(a: u16, b: u16) -> (u16, u16) {
    (a.min(b), a.max(b))
}

impl Cuts {
    pub(crate) fn network(&self, node: u16) -> CutNetwork {
        CutNetwork { node, cuts: self.clone() }
    }

    pub(crate) fn knows(&self, node: u16, addr: SocketAddr) {
        self.state.lock().nodes.insert(addr.to_string(), node);
    }

    /// Cuts a node off from all the others.
    pub(crate) fn isolate(&self, node: u16, others: &[u16]) {
        let mut state = self.state.lock();
        state.cut.extend(others.iter().filter(|o| **o != node).map(|o| pair(node, *o)));
    }

    pub(crate) fn heal(&self) {
        self.state.lock().cut.clear();
    }

    fn is_cut(&self, pair: (u16, u16)) -> bool {
        self.state.lock().cut.contains(&pair)
    }
}

/// The network of one node.
pub(crate) struct CutNetwork {
    node: u16,
    cuts: Cuts,
}

impl Network for CutNetwork {
    fn dial(&self, addr: &str) -> BoxFuture<'_, io::Result<BoxStream>> {
        let addr = addr.to_owned();
        Box::pin(async move {
            let node = self.cuts.state.lock().nodes.get(&addr).copied().unwrap_or(0);
            let pair = pair(self.node, node);
            if self.cuts.is_cut(pair) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.cuts.dialled.fetch_add(1, Ordering::Relaxed);
            let inner = TcpNetwork.dial(&addr).await?;
            Ok(Box::new(CutStream { inner, pair, cuts: self.cuts.clone() }) as BoxStream)
        })
    }

    fn listen(&self, addr: &str) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        let addr = addr.to_owned();
        Box::pin(async move { TcpNetwork.listen(&addr).await })
    }
}

struct CutStream {
    inner: BoxStream,
    pair: (u16, u16),
    cuts: Cuts,
}

impl CutStream {
    /// While cut nothing happens; the link's own deadline wakes and closes it.
    fn cut(&self) -> bool {
        self.cuts.is_cut(self.pair)
    }
}

impl AsyncRead for CutStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut() {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.cut() {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

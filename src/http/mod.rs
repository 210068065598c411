//! The node's HTTP address: is it alive, is it ready, figures, and the two orders an operator gives.
//!
//! `GET /livez`, `/readyz`, `/metrics` (Prometheus), `/status` (JSON); `POST /transfer?shard=S&to=N` and `/shutdown`
//! from loopback only. Owns the listener and its connections, which are bounded in number and time. Must never answer
//! with message content, nor hold anything that the node needs: a broken scrape costs nothing but itself.

pub mod fetch;
mod metrics;
mod routes;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rookery_raft::{BoxStream, Network};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::status::NodeStatus;

/// One connection lives at most this long; a scraper connects again.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// A request's head must be there within this time.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// After a failed accept (no file descriptors), wait this long before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a request's head, at most.
const HEAD_BYTES: usize = 16 << 10;

/// What the pages show and the orders go to. `node` implements it.
pub trait Subject: Send + Sync + 'static {
    /// The node as it is now. Cheap; called for each scrape.
    fn status(&self) -> NodeStatus;
    /// Whether clients can be served, else why not.
    fn ready(&self) -> Result<(), String>;
    /// Moves a shard's leadership to another node.
    fn transfer(&self, shard: u32, to: u16) -> BoxFuture<'_, Result<(), String>>;
    /// Begins an orderly stop and returns.
    fn shutdown(&self);
}

/// The running server. Dropping it ends every connection.
#[derive(Debug)]
pub struct HttpServer {
    addr: SocketAddr,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl HttpServer {
    /// Listens on `addr` and serves `subject`, at most `connections` at once.
    ///
    /// # Errors
    /// When the address cannot be listened on; the caller knows which key it came from.
    pub async fn start(
        network: &dyn Network,
        addr: &str,
        connections: u32,
        subject: Arc<dyn Subject>,
    ) -> io::Result<Self> {
        let mut listener = network.listen(addr).await?;
        let bound = listener.local_addr()?;
        let cancel = CancellationToken::new();
        let ended = cancel.clone();
        let slots = Arc::new(Semaphore::new(usize::try_from(connections).unwrap_or(64)));
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    () = ended.cancelled() => break,
                    Some(_) = open.join_next() => continue,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    // Beyond the bound a connection is closed at once: waiting would only hide it.
                    Ok((stream, from)) => {
                        if let Ok(slot) = slots.clone().try_acquire_owned() {
                            let subject = subject.clone();
                            open.spawn(async move {
                                serve(stream, from, subject).await;
                                drop(slot);
                            });
                        }
                    }
                    Err(fault) => {
                        tracing::warn!(%fault, "http: cannot accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
            open.shutdown().await;
        });
        Ok(Self { addr: bound, cancel, task })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends every connection and closes the listener.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        // The task ends by itself; a panic in it has been printed and changes nothing here.
        let _ = (&mut self.task).await;
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

async fn serve(stream: BoxStream, from: SocketAddr, subject: Arc<dyn Subject>) {
    let service = service_fn(move |request| {
        let subject = subject.clone();
        async move { Ok::<_, std::convert::Infallible>(routes::answer(request, from, &*subject).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // A peer that sends nonsense or goes away concerns only itself.
    let _ = tokio::time::timeout(CONNECTION_LIFE, connection).await;
}

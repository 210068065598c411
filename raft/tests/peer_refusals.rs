//! Who is not a peer, or not one of ours, is told so and gets nothing; damage is counted and never delivered.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panic"
)]

mod kit;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use kit::{eventually, id, peer_options};
use rookery_raft::{
    AppHandler, BoxStream, Listener, Network, OsEntropy, PeerNet, PeerOptions, RaftId, SeededEntropy, Speaks,
    TcpNetwork,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

async fn start(options: PeerOptions) -> PeerNet {
    PeerNet::start(options, Arc::new(TcpNetwork), Arc::new(OsEntropy)).await.unwrap()
}

/// Lets two nodes meet that should not, and returns what the first one was told or said.
async fn refusal(one: PeerOptions, two: PeerOptions, meant: u16) -> String {
    let (dialled, two_node) = (start(two).await, meant);
    let dialler = start(one.clone()).await;
    dialled.set_peer(one.node, "127.0.0.1:1");
    dialler.set_peer(two_node, dialled.local_addr().unwrap().to_string());
    // Either side may be the one that noticed; both know who it is about.
    let said = || dialler.refusals().into_values().chain(dialled.refusals().into_values()).next();
    let text = eventually("a refusal", said).await;
    assert!(!dialler.link(two_node).borrow().up && !dialled.link(one.node).borrow().up);
    dialler.stop().await;
    dialled.stop().await;
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_is_named_with_the_remedy() {
    let plain = |node| peer_options(id(node));
    let secret = PeerOptions { secret: b"a secret of somebody else".to_vec(), ..plain(1) };
    assert!(refusal(secret, plain(2), 2).await.contains("secret"));
    let other = |node, cluster| PeerOptions { cluster: Some([cluster; 16]), ..plain(node) };
    assert!(refusal(other(1, 1), other(2, 2), 2).await.contains("another cluster"));
    let newer = PeerOptions { format: 7, ..plain(1) };
    assert!(refusal(newer, plain(2), 2).await.contains("upgrade"));
    let speaks = Speaks { messages: 7, entries: 9, records: 8 };
    let here = PeerOptions { speaks, ..plain(2) };
    let other = PeerOptions { speaks: Speaks { messages: 8, ..speaks }, ..plain(1) };
    let text = refusal(other, here, 2).await;
    for said in ["messages 7, entries 9, records 8", "messages 8, entries 9, records 8", "stop them all"] {
        assert!(text.contains(said), "{text} lacks {said}");
    }
    assert!(refusal(plain(1), plain(3), 2).await.contains("mixed up"), "dialled 2, met 3");
    let retired = PeerOptions {
        admit: Some(Arc::new(|node, store| Err(format!("folder {store:x} of node {node} was replaced")))),
        ..plain(2)
    };
    assert!(refusal(plain(1), retired, 2).await.contains("folder 1001 of node 1 was replaced"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_formed_cluster_takes_its_own_and_the_unformed() {
    let one = start(peer_options(id(1))).await;
    let two = start(peer_options(id(2))).await;
    one.set_cluster([9; 16]);
    one.set_peer(2, two.local_addr().unwrap().to_string());
    two.set_peer(1, one.local_addr().unwrap().to_string());
    let link = one.link(2);
    eventually("a link", || link.borrow().up.then_some(())).await;
    one.stop().await;
    two.stop().await;
}

async fn talk(net: &PeerNet, say: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(net.local_addr().unwrap()).await.unwrap();
    stream.write_all(say).await.unwrap();
    let mut heard = Vec::new();
    // A reset after the answer is an end like another.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("hung up on in time");
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_and_strangers_are_answered_once_and_hung_up_on() {
    let options = PeerOptions {
        client_refusal: Bytes::from_static(b"an error frame of the client protocol"),
        handshake: Duration::from_millis(500),
        ..peer_options(id(1))
    };
    let net = start(options).await;
    // length 40, version 1, kind 1: a client's first frame, whole or in part.
    let mut client = vec![40, 0, 0, 0, 1, 1];
    assert_eq!(talk(&net, &client).await, b"an error frame of the client protocol");
    client.extend([0; 38]);
    assert_eq!(talk(&net, &client).await, b"an error frame of the client protocol");
    let heard = talk(&net, b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(String::from_utf8_lossy(&heard).contains("peer port of a rookery node"), "{heard:?}");
    assert_eq!(talk(&net, b"\x89RK").await, b"", "a hello that does not go on ends with the deadline");

    let seed = 0x5eed;
    println!("seed {seed}");
    let noise = SeededEntropy::new(seed);
    for _ in 0..200 {
        use rookery_raft::Entropy;
        let bytes: Vec<u8> = (0..noise.u64() % 40).flat_map(|_| noise.u64().to_le_bytes()).collect();
        let mut stream = TcpStream::connect(net.local_addr().unwrap()).await.unwrap();
        let _ = stream.write_all(&bytes).await;
    }
    // And it still takes peers.
    let two = start(peer_options(id(2))).await;
    two.set_peer(1, net.local_addr().unwrap().to_string());
    net.set_peer(2, two.local_addr().unwrap().to_string());
    let link = net.link(2);
    eventually("a link", || link.borrow().up.then_some(())).await;
    net.stop().await;
    two.stop().await;
}

/// Flips one bit once so many bytes have been read, counted down over all connections.
struct Flipping(Arc<AtomicI64>);

struct FlippingStream {
    inner: BoxStream,
    left: Arc<AtomicI64>,
}

impl Network for Flipping {
    fn dial(&self, addr: &str) -> BoxFuture<'_, io::Result<BoxStream>> {
        let addr = addr.to_owned();
        Box::pin(async move {
            let inner = TcpNetwork.dial(&addr).await?;
            Ok(Box::new(FlippingStream { inner, left: self.0.clone() }) as BoxStream)
        })
    }

    fn listen(&self, addr: &str) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        let addr = addr.to_owned();
        Box::pin(async move { TcpNetwork.listen(&addr).await })
    }
}

impl AsyncRead for FlippingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        let left = self.left.fetch_sub(read as i64, Ordering::Relaxed);
        if (0..read as i64).contains(&left) {
            buf.filled_mut()[before + left as usize] ^= 0x10;
        }
        polled
    }
}

impl AsyncWrite for FlippingStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Takes casts that are all one byte, repeated, and counts those that are not.
#[derive(Default)]
struct Checker {
    good: AtomicU64,
    bad: AtomicU64,
}

impl AppHandler for Checker {
    fn call(&self, _from: u16, _body: Bytes) -> BoxFuture<'static, Bytes> {
        Box::pin(async { Bytes::new() })
    }

    fn cast(&self, _from: u16, body: Bytes) {
        let right = body.len() == 3000 && body.iter().all(|b| *b == body[0]);
        let count = if right { &self.good } else { &self.bad };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_closes_the_link_and_delivers_nothing_wrong() {
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let network = Arc::new(Flipping(left.clone()));
    let one = PeerNet::start(peer_options(id(1)), network, Arc::new(OsEntropy)).await.unwrap();
    let checker = Arc::new(Checker::default());
    one.on_app(checker.clone());
    let two = start(peer_options(RaftId::new(2, 2))).await;
    one.set_peer(2, two.local_addr().unwrap().to_string());
    two.set_peer(1, one.local_addr().unwrap().to_string());
    let link = two.link(1);
    for flips in 1..=5 {
        let generation = eventually("a link", || {
            let state = *link.borrow();
            state.up.then_some(state.generation)
        })
        .await;
        left.store(200_000, Ordering::Relaxed);
        eventually("another generation", || {
            let _ = two.cast(1, vec![flips as u8; 3000].into());
            (link.borrow().generation > generation).then_some(())
        })
        .await;
        assert_eq!(one.bad_frames(), flips, "each flip was counted");
    }
    assert_eq!(checker.bad.load(Ordering::Relaxed), 0);
    assert!(checker.good.load(Ordering::Relaxed) > 100);
    one.stop().await;
    two.stop().await;
}

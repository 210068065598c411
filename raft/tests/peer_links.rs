//! The links between nodes: calls, casts, generations, bounds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panic"
)]

mod kit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use kit::{Cuts, SECRET, eventually, id, peer_options};
use parking_lot::Mutex;
use rookery_raft::{AppHandler, Network, OsEntropy, PeerError, PeerNet, PeerOptions, TcpNetwork};

const DEADLINE: Duration = Duration::from_secs(5);

/// Echoes calls, in reverse; remembers casts. A call of `slow` waits a second.
#[derive(Default)]
struct Echo {
    casts: Mutex<Vec<(u16, Bytes)>>,
    calls: AtomicU64,
}

impl AppHandler for Echo {
    fn call(&self, _from: u16, body: Bytes) -> BoxFuture<'static, Bytes> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            if body == "slow" {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            body.iter().rev().copied().collect()
        })
    }

    fn cast(&self, from: u16, body: Bytes) {
        self.casts.lock().push((from, body));
    }
}

async fn start(options: PeerOptions, network: impl Network) -> (PeerNet, Arc<Echo>) {
    let net = PeerNet::start(options, Arc::new(network), Arc::new(OsEntropy)).await.unwrap();
    let echo = Arc::new(Echo::default());
    net.on_app(echo.clone());
    (net, echo)
}

fn introduce(a: (u16, &PeerNet), b: (u16, &PeerNet)) {
    a.1.set_peer(b.0, b.1.local_addr().unwrap().to_string());
    b.1.set_peer(a.0, a.1.local_addr().unwrap().to_string());
}

async fn up(net: &PeerNet, node: u16) -> u64 {
    let link = net.link(node);
    eventually("a link", || {
        let state = *link.borrow();
        state.up.then_some(state.generation)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_and_casts_pass_in_both_directions() {
    let (one, echo_one) = start(peer_options(id(1)), TcpNetwork).await;
    let (two, echo_two) = start(peer_options(id(2)), TcpNetwork).await;
    assert!(matches!(one.call(2, Bytes::new(), DEADLINE).await, Err(PeerError::Unknown { node: 2 })));
    introduce((1, &one), (2, &two));
    up(&one, 2).await;
    up(&two, 1).await;
    assert_eq!(one.link(2).borrow().store, id(2).store);

    let sizes = [0usize, 1, 5000, 100_000, 3 << 20];
    for size in sizes {
        let body: Bytes = (0..size).map(|n| n as u8).collect();
        let back: Bytes = body.iter().rev().copied().collect();
        assert_eq!(one.call(2, body.clone(), DEADLINE).await.unwrap(), back);
        assert_eq!(two.call(1, body, DEADLINE).await.unwrap(), back);
    }
    for n in 0..1000u32 {
        one.cast(2, Bytes::copy_from_slice(&n.to_le_bytes())).unwrap();
        two.cast(1, Bytes::copy_from_slice(&n.to_le_bytes())).unwrap();
    }
    for (echo, from) in [(&echo_one, 2), (&echo_two, 1)] {
        eventually("all casts", || (echo.casts.lock().len() == 1000).then_some(())).await;
        let casts = echo.casts.lock();
        assert!(
            casts.iter().zip(0u32..).all(|((f, b), n)| *f == from && b[..] == n.to_le_bytes()),
            "in order"
        );
    }
    let slow = one.call(2, Bytes::from_static(b"slow"), Duration::from_millis(50)).await;
    assert!(matches!(slow, Err(PeerError::Timeout { node: 2, ms: 50 })));
    let long = one.call(2, vec![0; 9 << 20].into(), DEADLINE).await;
    assert!(matches!(long, Err(PeerError::TooLong { .. })), "{long:?}");
    one.stop().await;
    assert!(matches!(one.cast(2, Bytes::new()), Err(PeerError::Stopped)));
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_cut_is_noticed_and_made_again() {
    let cuts = Cuts::default();
    let (one, _) = start(peer_options(id(1)), cuts.network(1)).await;
    let (two, _) = start(peer_options(id(2)), cuts.network(2)).await;
    cuts.knows(1, one.local_addr().unwrap());
    cuts.knows(2, two.local_addr().unwrap());
    introduce((1, &one), (2, &two));
    let (first, _) = (up(&one, 2).await, up(&two, 1).await);
    let caller = two.clone();
    let lost =
        tokio::spawn(
            async move { caller.call(1, Bytes::from_static(b"slow"), Duration::from_secs(20)).await },
        );
    cuts.isolate(1, &[2]);
    // Nothing tells them: they notice by silence.
    for (net, node) in [(&one, 2), (&two, 1)] {
        let link = net.link(node);
        eventually("the end of the link", || (!link.borrow().up).then_some(())).await;
        assert!(matches!(net.cast(node, Bytes::new()), Err(PeerError::Down { .. })));
    }
    assert!(matches!(lost.await.unwrap(), Err(PeerError::Lost { node: 1 })), "what was awaited ends at once");
    cuts.heal();
    assert!(up(&one, 2).await > first, "another generation");
    up(&two, 1).await;
    assert_eq!(one.call(2, Bytes::from_static(b"ab"), DEADLINE).await.unwrap(), "ba");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_says_so_and_memory_stays_bounded() {
    let cuts = Cuts::default();
    let small = PeerOptions { queue_frames: 100, queue_bytes: 1 << 20, ..peer_options(id(1)) };
    let (one, _) = start(PeerOptions { silence: Duration::from_secs(30), ..small }, cuts.network(1)).await;
    let (two, _) =
        start(PeerOptions { silence: Duration::from_secs(30), ..peer_options(id(2)) }, TcpNetwork).await;
    cuts.knows(2, two.local_addr().unwrap());
    introduce((1, &one), (2, &two));
    up(&one, 2).await;
    cuts.isolate(1, &[2]);
    // What the writer took already is on top of the bound.
    let taken = (0..1000).take_while(|_| one.cast(2, vec![0; 2000].into()).is_ok()).count();
    assert!((100..=600).contains(&taken), "{taken} casts were taken");
    assert!(matches!(one.cast(2, Bytes::new()), Err(PeerError::Full { node: 2 })));
    assert!(matches!(one.call(2, Bytes::new(), DEADLINE).await, Err(PeerError::Full { node: 2 })));
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_calls_at_once_are_refused_not_queued() {
    let (one, _) = start(peer_options(id(1)), TcpNetwork).await;
    let (two, echo) = start(PeerOptions { calls: 3, ..peer_options(id(2)) }, TcpNetwork).await;
    introduce((1, &one), (2, &two));
    up(&one, 2).await;
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let one = one.clone();
            tokio::spawn(async move { one.call(2, Bytes::from_static(b"slow"), DEADLINE).await })
        })
        .collect();
    let mut taken = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => taken += 1,
            Err(error) => assert!(matches!(error, PeerError::NotTaken { .. }), "{error}"),
        }
    }
    assert_eq!((taken, echo.calls.load(Ordering::Relaxed)), (3, 3));
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_port_in_use_and_a_short_secret_are_named() {
    let (one, _) = start(peer_options(id(1)), TcpNetwork).await;
    let addr = one.local_addr().unwrap().to_string();
    let options = PeerOptions::new(2, 2, addr.clone(), BTreeMap::new(), SECRET.to_vec());
    let error =
        PeerNet::start(options, Arc::new(TcpNetwork), Arc::new(OsEntropy)).await.unwrap_err().to_string();
    assert!(error.contains(&addr) && error.contains("cluster.toml"), "{error}");
    let options = PeerOptions::new(2, 2, "127.0.0.1:0", BTreeMap::new(), b"short".to_vec());
    let error =
        PeerNet::start(options, Arc::new(TcpNetwork), Arc::new(OsEntropy)).await.unwrap_err().to_string();
    assert!(error.contains("secret"), "{error}");
    one.stop().await;
}

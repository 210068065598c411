//! The pages over a real socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rookery_raft::TcpNetwork;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fetch::{self, FetchError};
use super::{HttpServer, Subject};
use crate::status::{KindTimes, NodeStatus, ShardStatus};

const SOON: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Fake {
    ready: AtomicBool,
    stopped: AtomicBool,
}

impl Subject for Fake {
    fn status(&self) -> NodeStatus {
        let shard = ShardStatus {
            id: 7,
            leader: Some(2),
            committed: 41,
            purged: 29,
            divergence_total: 3,
            versions_lost: 2,
            paced: 8,
            ..ShardStatus::default()
        };
        NodeStatus {
            node: 3,
            connections: 5,
            shards: vec![shard],
            audit_pushed_out: 12,
            times: vec![KindTimes {
                kind: "PULL".to_owned(),
                sum_us: 1_500_000,
                buckets: vec![(500, 2), (1000, 0), (u64::MAX, 3)],
            }],
            ..NodeStatus::default()
        }
    }
    fn ready(&self) -> Result<(), String> {
        if self.ready.load(Ordering::Relaxed) { Ok(()) } else { Err("shard 7 has no leader".to_owned()) }
    }
    fn transfer(&self, shard: u32, to: u16) -> BoxFuture<'_, Result<(), String>> {
        async move { if shard == 7 { Ok(()) } else { Err(format!("no shard {shard} for {to}")) } }.boxed()
    }
    fn shutdown(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

async fn start() -> (Arc<Fake>, HttpServer, String) {
    let fake = Arc::new(Fake::default());
    let server = HttpServer::start(&TcpNetwork, "127.0.0.1:0", 2, fake.clone()).await.expect("listen");
    let addr = server.local_addr().to_string();
    (fake, server, addr)
}

/// One raw request; the whole answer as text.
async fn raw(addr: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("connect");
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("an answer in time");
    read.expect("read");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn readiness_and_status_are_told() {
    let (fake, server, addr) = start().await;
    let refused = fetch::ready(&addr, SOON).await.expect_err("not yet");
    assert!(matches!(&refused, FetchError::Refused { status: 503, .. }), "{refused}");
    assert!(refused.to_string().contains("shard 7 has no leader"), "{refused}");
    fake.ready.store(true, Ordering::Relaxed);
    fetch::ready(&addr, SOON).await.expect("ready");
    assert_eq!(fetch::status(&addr, SOON).await.expect("status"), fake.status());
    server.stop().await;
    assert!(matches!(fetch::ready(&addr, SOON).await, Err(FetchError::Unreachable { .. })));
}

#[tokio::test]
async fn orders_come_from_this_machine_and_not_from_browsers() {
    let (fake, _server, addr) = start().await;
    assert!(
        fetch::post(&addr, "/transfer?shard=7&to=2", SOON).await.expect("moved").contains("led by node 2")
    );
    let refused = fetch::post(&addr, "/transfer?shard=8&to=2", SOON).await.expect_err("no such shard");
    assert!(refused.to_string().contains("no shard 8"), "{refused}");
    assert!(fetch::post(&addr, "/transfer?shard=x", SOON).await.is_err());
    let answer =
        raw(&addr, "POST /shutdown HTTP/1.1\r\nhost: x\r\norigin: http://evil\r\nconnection: close\r\n\r\n")
            .await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(!fake.stopped.load(Ordering::Relaxed));
    let answer = raw(&addr, "GET /shutdown HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    fetch::post(&addr, "/shutdown", SOON).await.expect("stopping");
    assert!(fake.stopped.load(Ordering::Relaxed));
}

#[tokio::test]
async fn figures_are_prometheus_text() {
    let (_fake, _server, addr) = start().await;
    let page = raw(&addr, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    for line in [
        "rookery_connections 5",
        "rookery_shard_committed_index{shard=\"7\"} 41",
        "rookery_shard_purged_index{shard=\"7\"} 29",
        "rookery_divergence_total{shard=\"7\"} 3",
        "rookery_versions_lost_total{shard=\"7\"} 2",
        "rookery_shard_commands_paced_total{shard=\"7\"} 8",
        "rookery_requests_total 0",
        "rookery_request_seconds_bucket{le=\"0.0005\",kind=\"PULL\"} 2",
        "rookery_request_seconds_bucket{le=\"+Inf\",kind=\"PULL\"} 5",
        "rookery_request_seconds_count{kind=\"PULL\"} 5",
        "rookery_request_seconds_sum{kind=\"PULL\"} 1.5",
        "rookery_audit_pushed_out_total 12",
        "# EOF",
    ] {
        assert!(page.contains(line), "{line} in\n{page}");
    }
}

#[tokio::test]
async fn too_many_connections_are_closed_at_once() {
    let (_fake, _server, addr) = start().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(&addr).await.expect("connect");
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("write");
        let mut byte = [0u8; 1];
        stream.read_exact(&mut byte).await.expect("an answer: the slot is taken");
        held.push(stream);
    }
    let mut third = TcpStream::connect(&addr).await.expect("connect");
    let mut byte = [0u8; 1];
    let read = tokio::time::timeout(SOON, third.read(&mut byte)).await.expect("closed in time");
    assert!(matches!(read, Ok(0) | Err(_)), "the third is closed");
    drop(held);
}

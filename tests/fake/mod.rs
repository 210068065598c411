//! A cluster in a test's own process: speaks the protocol, keeps everything in one mutex, and can be told to break
//! one promise. It is there to show that the checker finds nothing where nothing is wrong, and the planted fault
//! where one is.

mod changes;
mod rules;
mod since;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rookery::check::cluster::Cluster;
use rookery::check::drive::Power;
use rookery_wire::{Decoder, Frame, Kind, SessionId, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use rules::Plant;
use rules::State;

/// How long nobody is answered after a node was killed: the fake's election.
const ELECTION: Duration = Duration::from_millis(150);
const QUEUE: usize = 20_000;

struct Node {
    addr: SocketAddr,
    /// Bound and never listening: the address stays this node's while it is down.
    _held: TcpSocket,
    tasks: Option<JoinSet<()>>,
    paused: Arc<AtomicBool>,
}

/// Three nodes in this process.
pub struct FakeCluster {
    state: Arc<Mutex<State>>,
    nodes: Vec<Node>,
}

impl FakeCluster {
    pub async fn start(plant: Plant) -> Self {
        let mut cluster = Self { state: Arc::new(Mutex::new(State::new(plant))), nodes: Vec::new() };
        for _ in 0..3 {
            let held = shared(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            let addr = held.local_addr().unwrap();
            cluster.nodes.push(Node { addr, _held: held, tasks: None, paused: Arc::default() });
        }
        for node in 1..=3 {
            cluster.start(node).await.unwrap();
        }
        cluster
    }

    fn node(&mut self, node: u16) -> &mut Node {
        &mut self.nodes[usize::from(node) - 1]
    }
}

impl Cluster for FakeCluster {
    fn nodes(&self) -> Vec<(u16, String)> {
        self.nodes.iter().enumerate().map(|(at, node)| (at as u16 + 1, node.addr.to_string())).collect()
    }
    async fn leader_of(&self, session: &SessionId) -> Option<u16> {
        Some((session.hash64() % 3) as u16 + 1)
    }
    async fn whole(&self) -> bool {
        self.nodes.iter().all(|node| node.tasks.is_some() && !node.paused.load(Ordering::Relaxed))
    }
    async fn kill(&mut self, node: u16) -> anyhow::Result<()> {
        self.node(node).tasks = None;
        let mut state = self.state.lock();
        state.killed(node, ELECTION);
        Ok(())
    }
    async fn stop(&mut self, node: u16) -> anyhow::Result<()> {
        self.kill(node).await
    }
    async fn start(&mut self, node: u16) -> anyhow::Result<()> {
        let state = self.state.clone();
        let slot = self.node(node);
        let listener = shared(slot.addr)?.listen(1024)?;
        let paused = slot.paused.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, node, state, paused));
        slot.tasks = Some(tasks);
        Ok(())
    }
    fn pause(&mut self, node: u16, on: bool) -> anyhow::Result<()> {
        self.node(node).paused.store(on, Ordering::Relaxed);
        Ok(())
    }
}

impl Power for FakeCluster {
    async fn cut(&mut self, nodes: &[u16]) -> anyhow::Result<()> {
        for node in nodes {
            self.kill(*node).await?;
        }
        Ok(())
    }
}

/// A socket beside others that are bound to the same address.
fn shared(addr: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

async fn accept(listener: TcpListener, node: u16, state: Arc<Mutex<State>>, paused: Arc<AtomicBool>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        connections.spawn(serve(socket, node, state.clone(), paused.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Unsubscribes however the connection ends.
struct Guard(u64, Arc<Mutex<State>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.1.lock().connections.remove(&self.0);
    }
}

async fn serve(socket: TcpStream, node: u16, state: Arc<Mutex<State>>, paused: Arc<AtomicBool>) {
    socket.set_nodelay(true).unwrap();
    let (mut read, mut write) = socket.into_split();
    let (out, mut outbox) = mpsc::channel::<Bytes>(QUEUE);
    let id = state.lock().connect(node, out);
    let _guard = Guard(id, state.clone());
    let still = paused.clone();
    let writer = async move {
        while let Some(bytes) = outbox.recv().await {
            stand_still(&still).await;
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let reader = async move {
        let (decoder, mut buffer) = (Decoder::new(1 << 20), BytesMut::new());
        while read.read_buf(&mut buffer).await.unwrap_or(0) > 0 {
            while let Ok(Some(frame)) = decoder.next(&mut buffer) {
                stand_still(&paused).await;
                answer(&state, id, &frame).await;
            }
        }
    };
    tokio::select! { () = writer => {}, () = reader => {} }
}

async fn stand_still(paused: &AtomicBool) {
    while paused.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn answer(state: &Mutex<State>, id: u64, frame: &Frame) {
    loop {
        let until = state.lock().stalled_until;
        if tokio::time::Instant::now() >= until {
            break;
        }
        tokio::time::sleep_until(until).await;
    }
    state.lock().take(id, frame);
}

/// A frame for a connection's queue.
fn whole<T: bincode::Encode>(kind: Kind, request: u32, body: &T) -> Bytes {
    frame::frame_bytes(kind, request, body)
}

type Connections = HashMap<u64, rules::Connection>;

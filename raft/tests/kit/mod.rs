//! Three nodes in one process, for the tests of groups: a machine that keeps a list, a network that can be cut, loopback
//! TCP on free ports.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rookery_raft::{
    Fault, Group, Host, HostOptions, MemoryDisk, OsEntropy, PeerNet, PeerOptions, ProposeError, RaftError,
    RaftId, Store, Waiter,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

pub(crate) mod list;
pub(crate) mod net;

pub(crate) use list::ListMachine;
pub(crate) use net::Cuts;

/// The secret of all test clusters.
pub(crate) const SECRET: &[u8] = b"a secret for tests, long enough";

/// What a test that waits for a condition allows at most.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The outcome of a proposal: the index at which it was applied, or why not.
pub(crate) type Outcome = Result<u64, ProposeError>;

/// A waiter that reports how it ended; ending twice is impossible by type, not ending shows as a closed channel.
pub(crate) struct Answer(pub(crate) oneshot::Sender<Outcome>);

impl Waiter for Answer {
    fn dropped(self, why: ProposeError) {
        let _ = self.0.send(Err(why));
    }
}

/// One node.
pub(crate) struct Node {
    pub(crate) id: RaftId,
    pub(crate) disk: MemoryDisk,
    pub(crate) peers: PeerNet,
    pub(crate) host: Host,
    pub(crate) machine: Arc<ListMachine>,
    pub(crate) group: Group<Answer>,
    pub(crate) faults: Arc<Mutex<Vec<Fault>>>,
}

/// The id of a node's first folder.
pub(crate) fn id(node: u16) -> RaftId {
    RaftId::new(node, 0x1000 + u64::from(node))
}

/// Peer options for a node on a free port, quick to notice silence.
pub(crate) fn peer_options(id: RaftId) -> PeerOptions {
    PeerOptions {
        silence: Duration::from_millis(1000),
        ..PeerOptions::new(id.node, id.store, "127.0.0.1:0", Default::default(), SECRET.to_vec())
    }
}

impl Node {
    /// Starts a node with one group (id 1) over this disk.
    pub(crate) async fn start(
        id: RaftId,
        disk: MemoryDisk,
        cuts: &Cuts,
        options: HostOptions,
        machine: ListMachine,
    ) -> Self {
        Self::try_start(id, disk, cuts, options, machine).await.unwrap()
    }

    /// The same, where opening the group may be refused.
    pub(crate) async fn try_start(
        id: RaftId,
        disk: MemoryDisk,
        cuts: &Cuts,
        options: HostOptions,
        machine: ListMachine,
    ) -> Result<Self, RaftError> {
        let network = Arc::new(cuts.network(id.node));
        let peers = PeerNet::start(peer_options(id), network, Arc::new(OsEntropy)).await.unwrap();
        let faults = Arc::new(Mutex::new(Vec::new()));
        let told = faults.clone();
        let store = Store::in_memory(disk.clone());
        let host = Host::start(options, store, peers.clone(), Arc::new(move |fault| told.lock().push(fault)));
        let machine = Arc::new(machine);
        let group = match host.open_group(1, machine.clone()).await {
            Ok(group) => group,
            Err(refusal) => {
                peers.stop().await;
                return Err(refusal);
            }
        };
        Ok(Self { id, disk, peers, host, machine, group, faults })
    }

    /// Orderly.
    pub(crate) async fn stop(&self) {
        self.host.stop().await;
        self.peers.stop().await;
    }
}

/// Tells all nodes where the others are.
pub(crate) fn introduce(nodes: &[Node], cuts: &Cuts) {
    for node in nodes {
        cuts.knows(node.id.node, node.peers.local_addr().unwrap());
    }
    for node in nodes {
        for other in nodes {
            node.peers.set_peer(other.id.node, other.peers.local_addr().unwrap().to_string());
        }
    }
}

/// A cluster of nodes 1..=n with group 1 formed.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) cuts: Cuts,
}

impl Cluster {
    pub(crate) async fn start(n: u16) -> Self {
        Self::with(n, |options| options).await
    }

    pub(crate) async fn with(n: u16, adjust: impl Fn(HostOptions) -> HostOptions) -> Self {
        let cuts = Cuts::default();
        let mut nodes = Vec::new();
        for id in (1..=n).map(id) {
            let disk = MemoryDisk::new(id.store);
            nodes.push(
                Node::start(id, disk, &cuts, adjust(HostOptions::new(id)), ListMachine::default()).await,
            );
        }
        introduce(&nodes, &cuts);
        let voters: Vec<_> = nodes.iter().map(|n| n.id).collect();
        nodes[0].group.initialize(&voters).await.unwrap();
        Self { nodes, cuts }
    }

    /// The node that leads, once one of these does and the others know it.
    pub(crate) async fn leader_of(&self, among: &[u16]) -> &Node {
        let among: Vec<&Node> = self.nodes.iter().filter(|n| among.contains(&n.id.node)).collect();
        eventually("a leader everybody knows", || {
            let leader = among.iter().find(|n| n.group.status().leading)?;
            let known = among.iter().all(|n| n.group.status().leader == Some(leader.id));
            known.then_some(*leader)
        })
        .await
    }

    pub(crate) async fn leader(&self) -> &Node {
        let all: Vec<u16> = self.nodes.iter().map(|n| n.id.node).collect();
        self.leader_of(&all).await
    }

    pub(crate) async fn stop(&self) {
        for node in &self.nodes {
            node.stop().await;
        }
    }
}

/// Polls until there is something; fails the test when it takes too long.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "still no {what} after {PATIENCE:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Proposes and waits for the outcome. A refusal without a name (an election runs, or a new leader has not heard of a
/// majority yet) is tried again.
pub(crate) async fn propose(group: &Group<Answer>, payload: impl Into<Bytes>) -> Outcome {
    let payload = payload.into();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (tx, rx) = oneshot::channel();
        group.propose(payload.clone(), Answer(tx)).await;
        let outcome =
            timeout(PATIENCE, rx).await.expect("answered in time").expect("the waiter was answered");
        if outcome != Err(ProposeError::NotLeader { leader: None }) || Instant::now() > deadline {
            return outcome;
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// Proposes to whoever leads until somebody takes it. Definite refusals are tried again; an unknown outcome is returned.
pub(crate) async fn propose_somewhere(groups: &[Group<Answer>], payload: &Bytes) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    let mut at = 0;
    loop {
        let outcome = propose(&groups[at % groups.len()], payload.clone()).await;
        match outcome {
            Err(ProposeError::NotLeader { .. } | ProposeError::Busy { .. } | ProposeError::Stopped) => {
                assert!(Instant::now() < deadline, "nobody took a proposal for {PATIENCE:?}");
                at += 1;
                sleep(Duration::from_millis(2)).await;
            }
            other => return other,
        }
    }
}

/// All these machines hold the same list, of at least this length.
pub(crate) async fn same_lists(nodes: &[&Node], least: usize) -> Vec<Bytes> {
    eventually("equal lists", || {
        let lists: Vec<_> = nodes.iter().map(|n| n.machine.payloads()).collect();
        let equal = lists[0].len() >= least && lists.iter().all(|l| *l == lists[0]);
        equal.then(|| lists[0].clone())
    })
    .await
}

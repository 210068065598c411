//! The simulated world: hosts, links, disks, clocks, and the stage on which the devices play.

mod cast;
mod net;
pub mod plan;
mod verdict;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rand::Rng;
use rand::rngs::StdRng;
use rookery::config::{Config, NodeConfig};
use rookery::node::{Node, Seams};
use rookery_client::wire::{GroupId, SessionId, UserId};
use rookery_raft::{Clock, MemoryDisk, SeededEntropy, Store};

use net::SimNetwork;
use plan::Act;

pub const NODES: u16 = 3;
/// Shards, so many that each node is the first choice for one.
pub const SHARDS: u32 = 3;
/// Who takes part; each is a user with one device on a host of its own.
pub const CAST: [&str; 3] = ["ann", "bob", "cyd"];
/// Where the simulation's wall clock begins, seconds since 1970.
const EPOCH_S: u64 = 1_800_000_000;
/// How far a node's clock may be off, either way: below what makes a leader hand over.
const SKEW_MS: u64 = 100;

/// Prints what the nodes say where `ROOKERY_LOG` asks for it.
pub fn logs() {
    if let Ok(filter) = std::env::var("ROOKERY_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(filter);
        // Another run in this process has set it already.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
}

pub fn node_name(node: u16) -> String {
    format!("node-{node}")
}

fn client_addr(node: u16) -> String {
    format!("{}:7400", node_name(node))
}

/// Simulated wall clock of one node.
struct SimClock {
    skew_ms: u64,
}

impl Clock for SimClock {
    fn unix_ms(&self) -> u64 {
        let now = turmoil::since_epoch().unwrap_or(Duration::from_secs(EPOCH_S));
        now.as_millis() as u64 + self.skew_ms
    }
}

/// Nodes that can be killed, disks that can lose power, links that can go silent.
pub struct World<'a> {
    pub sim: turmoil::Sim<'a>,
    disks: BTreeMap<u16, MemoryDisk>,
    leads: Leads,
}

/// The shards that each node says it leads.
type Leads = Rc<RefCell<BTreeMap<u16, BTreeSet<u32>>>>;

/// How often a node is asked what it leads.
const ASK_LEADS: Duration = Duration::from_millis(50);

impl<'a> World<'a> {
    /// Clocks are off by less than what matters, or as `ahead` says of one node, in milliseconds.
    pub fn new(random: &mut StdRng, stage: &Rc<Stage>, ahead: Option<(u16, u64)>) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(random.random())
            .epoch(UNIX_EPOCH + Duration::from_secs(EPOCH_S))
            .simulation_duration(Duration::from_secs(3600))
            .min_message_latency(Duration::ZERO)
            .max_message_latency(Duration::from_millis(random.random_range(1..=8)))
            .tcp_capacity(4096)
            .enable_random_order()
            .build();
        let config = Arc::new(config());
        // One generator for all lives of all nodes: a second life must not draw what the first drew.
        let entropy = Arc::new(SeededEntropy::new(random.random()));
        let mut disks = BTreeMap::new();
        let leads = Leads::default();
        for node in 1..=NODES {
            let latency = Duration::from_millis(random.random_range(0..=3));
            let disk = MemoryDisk::new(random.random_range(1..u64::MAX)).with_latency(latency);
            disks.insert(node, disk.clone());
            let (config, entropy) = (config.clone(), entropy.clone());
            let drawn = random.random_range(0..=2 * SKEW_MS);
            let skew_ms = ahead.filter(|(off, _)| *off == node).map_or(drawn, |(_, skew_ms)| skew_ms);
            let clock = Arc::new(SimClock { skew_ms });
            let leads = leads.clone();
            sim.host(node_name(node), move || {
                let seams = Seams {
                    network: Arc::new(SimNetwork),
                    clock: clock.clone(),
                    entropy: entropy.clone(),
                    store: Some(Store::in_memory(disk.clone())),
                    one_thread: true,
                    replace: false,
                };
                let (config, leads) = (config.clone(), leads.clone());
                async move {
                    let running = Node::start(config, node, seams).await?;
                    tokio::select! {
                        biased;
                        why = running.fatal() => Err(format!("a node stopped by itself: {why}").into()),
                        never = tell_leads(&running, node, &leads) => match never {},
                    }
                }
            });
        }
        for name in CAST {
            sim.client(name, cast::play(name, stage.clone(), random.random()));
        }
        sim.client("judge", verdict::judge(stage.clone()));
        Self { sim, disks, leads }
    }

    /// The shards that a node said it leads when it was last asked.
    pub fn leads(&self, node: u16) -> BTreeSet<u32> {
        self.leads.borrow().get(&node).cloned().unwrap_or_default()
    }

    /// One tick of everything; whether all who play have ended.
    pub fn step(&mut self, seed: u64) -> bool {
        self.sim.step().unwrap_or_else(|fault| panic!("seed {seed}, {:?}: {fault}", self.sim.elapsed()))
    }

    pub fn perform(&mut self, act: &Act) {
        match act {
            Act::Kill(node) => self.stop(*node, None),
            Act::PowerCut(nodes, kept) => nodes.iter().for_each(|node| self.stop(*node, Some(*kept))),
            Act::Start(node) => {
                if !self.sim.is_host_running(node_name(*node)) {
                    self.sim.bounce(node_name(*node));
                }
            }
            Act::Silence(a, b) => self.sim.partition(a.as_str(), b.as_str()),
            Act::Mute(from, to) => self.sim.partition_oneway(from.as_str(), to.as_str()),
            Act::Mend(a, b) => self.sim.repair(a.as_str(), b.as_str()),
        }
    }

    /// Every link carries again.
    pub fn mend_all(&mut self) {
        for (a, b) in plan::links() {
            self.sim.repair(a.as_str(), b.as_str());
        }
    }

    /// Ends a node at once; with `kept` its disk loses power too and keeps that many of the writes that were not synced.
    fn stop(&mut self, node: u16, kept: Option<usize>) {
        if !self.sim.is_host_running(node_name(node)) {
            return;
        }
        if let Some(kept) = kept {
            // First the disk: whatever the dying process still wants to write must not reach it.
            self.disks[&node].crash_keeping(kept);
        }
        self.sim.crash(node_name(node));
    }
}

async fn tell_leads(running: &Node, node: u16, leads: &Leads) -> std::convert::Infallible {
    loop {
        let shards = running.status().shards;
        // 0 is the system group, which stamps no time.
        let led = shards.iter().filter(|shard| shard.leading && shard.id > 0).map(|shard| shard.id).collect();
        leads.borrow_mut().insert(node, led);
        tokio::time::sleep(ASK_LEADS).await;
    }
}

fn config() -> Config {
    let node = |id| NodeConfig {
        id,
        client: client_addr(id),
        peer: format!("{}:7500", node_name(id)),
        http: format!("{}:7600", node_name(id)),
        data: "nowhere".into(),
    };
    let mut config = Config::local((1..=NODES).map(node).collect());
    config.cluster.shards = SHARDS;
    // Short memories, so that checkpoints, purges, cold pages and snapshots all happen within the run.
    config.storage.checkpoint_ms = 300;
    config.storage.log_keep = 40;
    config.limits.ring_records = 16;
    config
}

/// What the players and the director know of each other. All of it lives on one thread.
pub struct Stage {
    calm: Cell<bool>,
    connected: Cell<usize>,
    group_stands: Cell<bool>,
    done_sending: Cell<usize>,
    done_hearing: Cell<usize>,
    acks: RefCell<BTreeMap<SessionId, BTreeMap<u64, String>>>,
    heard: RefCell<BTreeMap<(&'static str, SessionId), Vec<(u64, String)>>>,
}

impl Stage {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            calm: Cell::new(false),
            connected: Cell::new(0),
            group_stands: Cell::new(false),
            done_sending: Cell::new(0),
            done_hearing: Cell::new(0),
            acks: RefCell::default(),
            heard: RefCell::default(),
        })
    }

    /// Everybody is connected and the group exists.
    pub fn ready(&self) -> bool {
        self.group_stands.get() && self.connected.get() == CAST.len()
    }

    /// No more faults; whoever sends may end.
    pub fn calm(&self) {
        self.calm.set(true);
    }

    pub fn acked(&self) -> usize {
        self.acks.borrow().values().map(BTreeMap::len).sum()
    }

    pub fn describe(&self) -> String {
        format!(
            "{} of {} connected, group {}, {} acknowledged, {} have sent all, {} have heard all",
            self.connected.get(),
            CAST.len(),
            if self.group_stands.get() { "stands" } else { "missing" },
            self.acked(),
            self.done_sending.get(),
            self.done_hearing.get()
        )
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a name")
}

fn group() -> SessionId {
    SessionId::group(GroupId::new("team").expect("a name"))
}

fn direct(a: &str, b: &str) -> SessionId {
    SessionId::direct(&user(a), &user(b)).expect("a pair")
}

/// Every session there is, with its members.
fn sessions() -> Vec<(SessionId, Vec<&'static str>)> {
    vec![
        (group(), CAST.to_vec()),
        (direct("ann", "bob"), vec!["ann", "bob"]),
        (direct("bob", "cyd"), vec!["bob", "cyd"]),
    ]
}

/// Waits, in simulated time, until a condition holds; the director bounds it.
async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

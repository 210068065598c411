//! A node: the one place where everything is wired together, started in order and stopped in reverse.

mod audit;
mod balance;
mod clock;
mod folder;
mod options;
mod peers;
mod replicas;
mod status;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rookery_raft::{
    Clock, Entropy, Fault, Group, Host, HostOptions, Network, PeerNet, PeerOptions, RaftId, Speaks, Store,
    StoreOptions,
};
use rookery_wire::live::named_at_once;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::{Config, NodeConfig};
use crate::delivery::{Delivery, DeliveryLimits};
use crate::gateway::{Gateway, GatewayOptions, Neighbours};
use crate::identity::Authenticator;
use crate::router::{LaneLimits, PEER_VERSION, Router, RouterOptions};
use crate::shard::{ShardHandle, Surroundings};
use crate::stage::{Stages, Writers};
use crate::state::command::ENTRY_VERSION;
use crate::state::session_rows::ROW_VERSION;
use crate::system::facts::cluster_text;
use crate::system::forming::{FolderIdentity, Forming};
use crate::system::{FORMAT, Facts, Placement, SYSTEM_GROUP, SystemMachine, SystemWaiter, Times};

/// How long a shard waits for its preferred leader to initialise it before another replica does.
const INITIALISE_AFTER: Duration = Duration::from_secs(2);
/// How long a transfer waits for what the system group has noted to be known here too.
const NOTED: Duration = Duration::from_secs(1);
/// Reads of this node's clients under way; beyond it BUSY.
const READS: usize = 4096;

/// The world as the node sees it: a simulation brings another.
#[derive(Clone)]
pub struct Seams {
    /// Dials and listens.
    pub network: Arc<dyn Network>,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// A store to use instead of the folder in the configuration.
    pub store: Option<Store>,
    /// Actors live on the current thread instead of on arbiters of their own.
    pub one_thread: bool,
    /// This node takes the place of one whose folder was lost.
    pub replace: bool,
}

impl Seams {
    /// TCP, the machine's clock and randomness, the folder in the configuration.
    pub fn real() -> Self {
        Self {
            network: Arc::new(rookery_raft::TcpNetwork),
            clock: Arc::new(rookery_raft::SystemClock),
            entropy: Arc::new(rookery_raft::OsEntropy),
            store: None,
            one_thread: false,
            replace: false,
        }
    }
}

/// Why a node did not start. Each text names the thing and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration lacks this node.
    #[error("{0}")]
    Config(String),
    /// The folder, or what is in it.
    #[error("{0}")]
    Store(String),
    /// A port.
    #[error("{0}")]
    Listen(String),
    /// The cluster does not take this node.
    #[error("{0}")]
    Refused(String),
    /// Something broke on the way.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What this program says to other nodes, in which versions: two that differ in any of them refuse each other.
pub fn speaks() -> Speaks {
    Speaks {
        messages: u16::from(PEER_VERSION),
        entries: u16::from(ENTRY_VERSION),
        records: u16::from(ROW_VERSION),
    }
}

/// A running node.
pub struct Node {
    number: u16,
    config: Arc<Config>,
    started: Instant,
    store: Store,
    peers: PeerNet,
    host: Host,
    system: Group<SystemWaiter>,
    facts: watch::Receiver<Arc<Facts>>,
    forming: Arc<Forming>,
    /// Held for those who ask whether they may go away.
    _groups: Arc<balance::Groups>,
    shards: Vec<ShardHandle>,
    delivery: Arc<Delivery>,
    router: Router,
    gateway: Gateway,
    stages: Option<Stages>,
    /// Ends when the node is gone.
    _writers: Writers,
    tasks: Mutex<JoinSet<()>>,
    fatal: watch::Receiver<Option<String>>,
    folder: folder::FolderSize,
    audit_pushed_out: Arc<AtomicU64>,
}

impl Node {
    /// Opens the folder, meets the peers, joins or forms the cluster, opens the shards, then lets clients in.
    /// Returns when clients can connect; waits as long as the cluster takes to form.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(config: Arc<Config>, number: u16, seams: Seams) -> Result<Self, StartError> {
        let started = Instant::now();
        let mine = config.node(number).cloned();
        let mine = mine
            .ok_or_else(|| StartError::Config(format!("cluster.toml has no [[node]] with id = {number}")))?;
        let (fatal_is, fatal) = watch::channel(None);
        let stop: Arc<dyn Fn(Fault) + Send + Sync> = Arc::new(move |fault: Fault| {
            tracing::error!(%fault, "the node must stop");
            fatal_is.send_if_modified(|known| known.is_none() && known.replace(fault.to_string()).is_none());
        });
        let store = open_store(&config, &mine, &seams).await?;
        let identity = claim(&store, &mine, seams.replace).await?;
        let app = Arc::new(peers::PeerApp::default());
        let machine = Arc::new(SystemMachine::open(&store).await?);
        let (facts, audit_pushed_out) = (machine.facts(), machine.audit_pushed_out());
        let peers = meet(&config, &mine, &store, &identity, &facts, &seams).await?;
        peers.on_app(app.clone());
        let me = RaftId { node: number, store: store.store_id() };
        let host =
            Host::start(host_options(&config, &mine, me, &seams), store.clone(), peers.clone(), stop.clone());
        let system = host
            .open_group(SYSTEM_GROUP, machine.clone())
            .await
            .map_err(|fault| Fault::with_source("the system group cannot be opened", fault))?;
        machine.set_group(system.clone());
        let (ahead_is, clock_ahead) = watch::channel(0);
        let (agreed_is, clock_agreed) = watch::channel(None);
        let forming = Arc::new(Forming {
            node: number,
            store: store.store_id(),
            configured: config.nodes.iter().map(|node| node.id).collect(),
            shards: config.cluster.shards,
            replication: usize::from(config.cluster.replication),
            peers: peers.clone(),
            store_health: store.clone(),
            group: Mutex::new(Some(system.clone())),
            facts: facts.clone(),
            entropy: seams.entropy.clone(),
            clock: seams.clock.clone(),
            clock_ahead: clock_ahead.clone(),
            leaving: AtomicBool::new(false),
            stands_without: OnceLock::new(),
        });
        app.set_forming(forming.clone());
        let joined = tokio::select! {
            joined = forming.join(&identity, seams.replace) => joined,
            why = forming.shut_out() => Err(why),
        };
        let known = joined.map_err(StartError::Refused)?;
        let identity = settle(&store, &peers, identity, &known).await?;

        let (stages, writers) =
            if seams.one_thread { (Stages::here(), Writers::here()) } else { start_stages()? };
        let delivery = Arc::new(Delivery::new(DeliveryLimits {
            subscriptions: u64::from(config.limits.subscriptions),
            ..DeliveryLimits::default()
        }));
        let mut tasks = JoinSet::new();
        let links = (peers.clone(), &*app);
        let to_system = (system.clone(), machine);
        let time_agrees = clock::agrees(clock_agreed, seams.clock.clone());
        let times = Times { clock: seams.clock.clone(), agrees: time_agrees.clone() };
        let audit = audit::start((&config, number), to_system, links, times, &mut tasks);
        let placement = follow_placement(facts.clone(), &mut tasks);
        let router = Router::start(
            router_options(&config, number, known.placement.count()),
            Arc::new(peers.clone()),
            placement,
            delivery.clone(),
            &*seams.entropy,
        );
        app.set_router(router.handler());
        let around = Surroundings {
            node: number,
            shards: known.placement.count(),
            store: store.clone(),
            delivery: delivery.clone(),
            answers: router.answers(),
            traffic: Arc::default(),
            clock: seams.clock.clone(),
            entropy: seams.entropy.clone(),
            time_agrees,
            scattered: Arc::new(Semaphore::new(1)),
            stop: stop.clone(),
        };
        tasks.spawn(end_when_shut_out(forming.clone(), stop));
        let options = options::shard_options(&config, known.placement.of_node(number).count());
        tasks.spawn(clock::compare(forming.clone(), seams.clock.clone(), ahead_is, agreed_is));
        let view = balance::View { facts: facts.clone(), peers: peers.clone(), forming: forming.clone() };
        let mut shards = Vec::new();
        for shard in known.placement.of_node(number).collect::<Vec<_>>() {
            let handle = ShardHandle::open(shard, options, &around, &host, &stages.of(shard)).await?;
            handle.connect(router.outbound());
            router.add_replica(shard, Arc::new(handle.clone()));
            // A folder that took another's place holds nothing that a group could begin with.
            if !identity.joined && known.is_founder(number) {
                tasks.spawn(initialise(handle.clone(), known.clone(), number));
            }
            tasks.spawn(balance::keep(handle.clone(), view.clone()));
            shards.push(handle);
        }
        tasks.spawn(balance::keep_system(system.clone(), view));
        let groups = shards.iter().map(|shard| shard.group().clone()).collect();
        let groups = Arc::new(balance::Groups { system: system.clone(), shards: groups });
        // Set once: this is the only place.
        let _ = forming.stands_without.set(balance::stands_without(&groups));
        let authenticator = Arc::new(Authenticator::from_config(&config).map_err(StartError::Config)?);
        let options = gateway_options(&config, &mine, &known, &writers);
        let neighbours = Neighbours {
            router: router.clone(),
            delivery: delivery.clone(),
            authenticator,
            audit,
            clock: seams.clock.clone(),
        };
        let gateway =
            Gateway::start(options, neighbours, &*seams.network).await.map_err(StartError::Listen)?;
        let folder = folder::FolderSize::of(data_dir(&config, &mine));
        if seams.store.is_none() {
            // So that the first who asks is told something.
            folder.bytes();
        }
        tracing::info!(
            node = number,
            cluster = cluster_text(&known.cluster.unwrap_or_default()),
            clients = mine.client,
            shards = shards.len(),
            "serving"
        );
        Ok(Self {
            number,
            config,
            started,
            store,
            peers,
            host,
            system,
            facts,
            forming,
            _groups: groups,
            shards,
            delivery,
            router,
            gateway,
            stages: Some(stages),
            _writers: writers,
            tasks: Mutex::new(tasks),
            fatal,
            folder,
            audit_pushed_out,
        })
    }

    /// Resolves with the reason when the node must stop.
    pub async fn fatal(&self) -> String {
        let mut fatal = self.fatal.clone();
        let reason = fatal.wait_for(Option::is_some).await.map(|reason| reason.clone());
        match reason {
            Ok(reason) => reason.unwrap_or_default(),
            // The sender lives as long as the node's groups: nothing more can come.
            Err(_) => std::future::pending().await,
        }
    }

    /// Whether requests can be answered: the cluster is formed and every shard here knows a leader.
    ///
    /// # Errors
    /// What is missing.
    pub fn ready(&self) -> Result<(), String> {
        let orphans: Vec<u32> =
            self.shards.iter().filter(|shard| shard.leader().is_none()).map(ShardHandle::id).collect();
        if orphans.is_empty() { Ok(()) } else { Err(format!("shard(s) {orphans:?} have no leader")) }
    }

    /// Hands the leadership of a shard, which this node leads, to another node, or keeps it here: for good, for the system
    /// group notes that node as the one that is to lead it.
    ///
    /// # Errors
    /// Why it cannot be done here.
    pub async fn transfer(&self, shard: u32, to: u16) -> Result<(), String> {
        let handle = self.shards.iter().find(|handle| handle.id() == shard);
        let handle = handle.ok_or_else(|| format!("node {} has no replica of shard {shard}", self.number))?;
        let facts = self.facts.borrow().clone();
        let target = facts.raft_id(to).ok_or_else(|| format!("the cluster has no node {to}"))?;
        if !facts.placement.nodes(shard).contains(&to) {
            return Err(format!("node {to} has no replica of shard {shard}"));
        }
        if !handle.status().leading {
            return Err(format!("node {} does not lead shard {shard}", self.number));
        }
        if to != self.number && !self.forming.ask_room(to).await {
            return Err(format!(
                "node {to} cannot take leads now: it does not answer, is stopping, has a clock that is off or a disk \
                 that is nearly full"
            ));
        }
        // First what lasts: a lead that moves before that would be given back.
        self.forming.prefer(shard, to).await?;
        let mut facts = self.facts.clone();
        // Who led the system group knows it first; here it is on its way.
        let here = facts.wait_for(|facts| facts.placement.preferred(shard) == Some(to));
        let _ = tokio::time::timeout(NOTED, here).await;
        if to == self.number {
            return Ok(());
        }
        handle.group().transfer_leader(target).await.map_err(|fault| {
            format!(
                "{fault}; shard {shard} is node {to}'s from now on, and goes to it as soon as that can be"
            )
        })
    }

    /// Stops in order: leads handed over while clients are still served, then clients answered and sent away, shards ended,
    /// groups, links, store.
    pub async fn stop(mut self) {
        // Whoever is told to go finds the new leaders in place, and what is on its way is forwarded to them.
        balance::leave(&self.shards, &self.system, &self.forming).await;
        self.gateway.stop().await;
        // A lead may have been on its way here when the first were given away.
        balance::hand_over(&self.shards, &self.forming).await;
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
        self.router.stop().await;
        for shard in &self.shards {
            shard.stop().await;
            // Router and shard know each other; this lets go of both.
            self.router.remove_replica(shard.id());
        }
        self.system.stop().await;
        self.host.stop().await;
        self.peers.stop().await;
        if let Some(stages) = self.stages.take() {
            // Joining threads blocks; the runtime's own must not.
            let _ = tokio::task::spawn_blocking(move || stages.stop()).await;
        }
        self.store.close().await;
    }
}

/// The node's folder; relative paths were resolved when the configuration was read.
fn data_dir(config: &Config, mine: &NodeConfig) -> PathBuf {
    config.data_dir(mine.id).unwrap_or_else(|| mine.data.clone())
}

async fn open_store(config: &Config, mine: &NodeConfig, seams: &Seams) -> Result<Store, StartError> {
    if let Some(store) = &seams.store {
        return Ok(store.clone());
    }
    let dir = data_dir(config, mine);
    let storage = &config.storage;
    let mut options = StoreOptions::new(&dir);
    options.journal_segment_bytes = u64::from(storage.journal_segment_mib) << 20;
    options.journal_segments = storage.journal_segments as usize;
    options.settle_lag_bytes = (storage.settle_lag_mib as usize) << 20;
    options.entry_cache_bytes = (storage.entry_cache_mib as usize) << 20;
    options.sled_cache_bytes = (storage.sled_cache_mib as usize) << 20;
    options.free_disk_low_water = storage.low_water_mib << 20;
    options.read_threads = storage.read_threads as usize;
    let opened = tokio::task::spawn_blocking(move || Store::open(options)).await;
    match opened {
        Ok(Ok(store)) => Ok(store),
        Ok(Err(fault)) => Err(StartError::Store(fault.to_string())),
        Err(_) => {
            Err(StartError::Store(format!("opening {} panicked; its files are damaged", dir.display())))
        }
    }
}

/// Makes sure the folder belongs to this node, and writes that it does before anything else happens.
async fn claim(store: &Store, mine: &NodeConfig, replace: bool) -> Result<FolderIdentity, StartError> {
    let (node, folder) = (mine.id, mine.data.display());
    let wrong = |why: String| StartError::Store(format!("the data folder {folder} cannot be used: {why}"));
    if let Some(identity) = FolderIdentity::of(store).map_err(wrong)? {
        if identity.node != node {
            return Err(wrong(format!(
                "it belongs to node {}, not to node {node}; correct node.data in cluster.toml",
                identity.node
            )));
        }
        return Ok(identity);
    }
    let identity = FolderIdentity { format: FORMAT, node, cluster: None, joined: replace };
    store.set_identity(identity.bytes()).await.map_err(|fault| StartError::Store(fault.to_string()))?;
    Ok(identity)
}

/// Notes the cluster in the folder and on the links, once it is known.
async fn settle(
    store: &Store,
    peers: &PeerNet,
    mut identity: FolderIdentity,
    facts: &Facts,
) -> Result<FolderIdentity, StartError> {
    if let (Some(cluster), None) = (facts.cluster, identity.cluster) {
        identity.cluster = Some(cluster);
        store.set_identity(identity.bytes()).await.map_err(|fault| StartError::Store(fault.to_string()))?;
    }
    if let Some(cluster) = identity.cluster {
        peers.set_cluster(cluster);
    }
    Ok(identity)
}

async fn meet(
    config: &Config,
    mine: &NodeConfig,
    store: &Store,
    identity: &FolderIdentity,
    facts: &watch::Receiver<Arc<Facts>>,
    seams: &Seams,
) -> Result<PeerNet, StartError> {
    let addrs = config.nodes.iter().map(|node| (node.id, node.peer.clone())).collect();
    let secret = config.cluster.secret.expose().as_bytes().to_vec();
    let mut options = PeerOptions::new(mine.id, store.store_id(), &mine.peer, addrs, secret);
    options.cluster = identity.cluster;
    options.format = FORMAT;
    options.speaks = speaks();
    options.client_refusal = peers::client_refusal();
    let facts = facts.clone();
    options.admit = Some(Arc::new(move |node, store| facts.borrow().admit(node, store)));
    PeerNet::start(options, seams.network.clone(), seams.entropy.clone())
        .await
        .map_err(|fault| StartError::Listen(fault.to_string()))
}

/// A node that most others will not have can serve nobody; it says why and ends, at its start or later.
async fn end_when_shut_out(forming: Arc<Forming>, stop: Arc<dyn Fn(Fault) + Send + Sync>) {
    stop(Fault::new(forming.shut_out().await));
}

fn host_options(config: &Config, mine: &NodeConfig, me: RaftId, seams: &Seams) -> HostOptions {
    let mut options = HostOptions::new(me);
    if seams.store.is_none() {
        options.incoming = Some(data_dir(config, mine).join("incoming"));
    }
    options.heartbeat = Duration::from_millis(config.timing.heartbeat_ms);
    options.election = (
        Duration::from_millis(config.timing.election_ms.0),
        Duration::from_millis(config.timing.election_ms.1),
    );
    options.log_keep = config.storage.log_keep;
    options.log_keep_bytes = config.storage.log_keep_mib << 20;
    options
}

fn router_options(config: &Config, node: u16, shards: u32) -> RouterOptions {
    RouterOptions {
        node,
        shards,
        lane: LaneLimits {
            requests: config.limits.lane_requests as usize,
            bytes: config.limits.lane_bytes as usize,
            deadline: Duration::from_millis(config.timing.request_deadline_ms),
        },
        reads: READS,
        named: named_at_once(config.limits.watched_members, config.limits.frame),
        runtime: tokio::runtime::Handle::current(),
    }
}

fn gateway_options(config: &Config, mine: &NodeConfig, facts: &Facts, writers: &Writers) -> GatewayOptions {
    GatewayOptions {
        node: mine.id,
        cluster: facts.cluster.unwrap_or_default(),
        listen: mine.client.clone(),
        limits: config.limits.clone(),
        timing: config.timing.clone(),
        runtime: tokio::runtime::Handle::current(),
        writers: writers.handle(),
    }
}

fn start_stages() -> Result<(Stages, Writers), StartError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let failed = |of, fault| StartError::Store(format!("no threads for {of}: {fault}"));
    let stages = Stages::start(cores).map_err(|fault| failed("the actors", fault))?;
    // As many as the runtime has.
    let writers = Writers::start(cores.div_ceil(2)).map_err(|fault| failed("the writers", fault))?;
    Ok((stages, writers))
}

fn follow_placement(
    mut facts: watch::Receiver<Arc<Facts>>,
    tasks: &mut JoinSet<()>,
) -> watch::Receiver<Arc<Placement>> {
    let (placement_is, placement) = watch::channel(Arc::new(facts.borrow_and_update().placement.clone()));
    tasks.spawn(async move {
        while facts.changed().await.is_ok() {
            let now = Arc::new(facts.borrow_and_update().placement.clone());
            placement_is.send_if_modified(|known| {
                let changed = *known != now;
                *known = now;
                changed
            });
        }
    });
    placement
}

/// On the first start: the preferred leader initialises its shard, another replica does if nobody leads in time.
async fn initialise(shard: ShardHandle, facts: Arc<Facts>, me: u16) {
    if shard.status().last_log > 0 {
        return;
    }
    let nodes = facts.placement.nodes(shard.id());
    let turn = nodes.iter().position(|node| *node == me).unwrap_or(nodes.len());
    let mut leader = shard.watch_leader();
    let wait = INITIALISE_AFTER * turn as u32;
    if turn > 0 && tokio::time::timeout(wait, leader.wait_for(Option::is_some)).await.is_ok() {
        return;
    }
    if let Err(fault) = shard.initialize(&facts.voters(shard.id())).await {
        tracing::warn!(shard = shard.id(), %fault, "the shard is not initialised");
    }
}

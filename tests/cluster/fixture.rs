//! A cluster of processes in a folder of its own: written down, started, signalled, waited for, and ended on drop.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rookery::config::NodeConfig;
use rookery::fleet::{self, Board, Fleet};
use rookery::http::fetch;
use rookery::status::{NodeStatus, ShardStatus};
use rookery_wire::{SessionId, UserId};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rookery");
/// No wait for a condition may take longer: a debug build on a busy machine has a lot of room in it.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a page of a node may take.
const ASK: Duration = Duration::from_secs(2);

/// One cluster at a time: two of them on two cores say more about the machine than about the program.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What to write into `cluster.toml`.
#[derive(Clone)]
pub struct Plan {
    nodes: u16,
    shards: u32,
    sections: BTreeMap<&'static str, Vec<String>>,
    elsewhere: BTreeMap<u16, PathBuf>,
}

impl Plan {
    /// So many nodes and shards, three replicas where there are three nodes.
    pub fn new(nodes: u16, shards: u32) -> Self {
        let plan = Self { nodes, shards, sections: BTreeMap::new(), elsewhere: BTreeMap::new() };
        plan.with("cluster", &format!("shards = {shards}"))
            .with("cluster", &format!("replication = {}", nodes.min(3)))
            .with("cluster", "secret = \"a secret of these tests\"")
            // Small journals are made faster; the disk of the machine is not what is tested.
            .with("storage", "journal_segment_mib = 4")
    }

    /// One more line in a section.
    pub fn with(mut self, section: &'static str, line: &str) -> Self {
        self.sections.entry(section).or_default().push(line.to_owned());
        self
    }

    /// A node's data in a folder of this one.
    pub fn data_in(mut self, id: u16, folder: &Path) -> Self {
        self.elsewhere.insert(id, folder.join(format!("node-{id}")));
        self
    }

    fn text(&self, ports: &[String]) -> String {
        let mut text = String::new();
        for (section, lines) in &self.sections {
            text += &format!("[{section}]\n{}\n\n", lines.join("\n"));
        }
        for (id, ports) in (1..=self.nodes).zip(ports.chunks(3)) {
            let data = self.elsewhere.get(&id).cloned().unwrap_or_else(|| format!("node-{id}").into());
            text += &format!(
                "[[node]]\nid = {id}\nclient = \"{}\"\npeer = \"{}\"\nhttp = \"{}\"\ndata = \"{}\"\n\n",
                ports[0],
                ports[1],
                ports[2],
                data.display()
            );
        }
        text
    }
}

/// Addresses that nothing else of this run listens on.
pub fn free_addresses(count: usize) -> Vec<String> {
    rookery::fleet::free_addresses(count).expect("free ports")
}

/// The processes of one `cluster.toml`.
pub struct Cluster {
    pub fleet: Fleet,
    pub shards: u32,
    running: BTreeMap<u16, Child>,
    // Dropped after the processes have ended.
    folder: TempDir,
}

impl Cluster {
    /// Writes the configuration; starts nothing.
    pub async fn planned(plan: Plan) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cluster.toml");
        fs::write(&path, plan.text(&free_addresses(usize::from(plan.nodes) * 3))).expect("written");
        let fleet = Fleet::load(&path).expect("a good configuration");
        Self { fleet, shards: plan.shards, running: BTreeMap::new(), folder }
    }

    /// All nodes started, serving, and every shard led.
    pub async fn up(plan: Plan) -> Self {
        let mut cluster = Self::planned(plan).await;
        cluster.start_all();
        cluster.serving().await;
        cluster
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn ids(&self) -> Vec<u16> {
        self.fleet.config.nodes.iter().map(|node| node.id).collect()
    }

    pub fn node(&self, id: u16) -> &NodeConfig {
        self.fleet.node(id).expect("a node of the configuration")
    }

    pub fn data(&self, id: u16) -> PathBuf {
        self.node(id).data.clone()
    }

    /// Where clients of a node connect.
    pub fn client(&self, id: u16) -> String {
        self.node(id).client.clone()
    }

    /// The same cluster under another configuration file beside the first, with texts replaced.
    pub fn variant(&self, name: &str, changes: &[(&str, &str)]) -> Fleet {
        let mut text = fs::read_to_string(&self.fleet.path).expect("the configuration");
        for (from, to) in changes {
            assert!(text.contains(from), "the configuration has no {from}");
            text = text.replace(from, to);
        }
        let path = self.folder().join(name);
        fs::write(&path, text).expect("written");
        Fleet::load(&path).expect("a good configuration")
    }

    pub fn start(&mut self, id: u16) {
        self.start_as(&self.fleet.clone(), id, &[]);
    }

    /// Starts a node under a configuration of its own, with more arguments.
    pub fn start_as(&mut self, fleet: &Fleet, id: u16, more: &[&str]) {
        assert!(!self.running.contains_key(&id), "node {id} runs already");
        let node = fleet.node(id).expect("a node of the configuration");
        // Should this process be killed, its nodes end by themselves.
        let me = std::process::id().to_string();
        let arguments = [&["--with-parent", &me], more].concat();
        let child = fleet.spawn(node, Path::new(PROGRAM), &arguments).expect("the program starts");
        self.running.insert(id, child);
    }

    pub fn start_all(&mut self) {
        self.ids().into_iter().for_each(|id| self.start(id));
    }

    /// Waits until every running node serves and every shard is led.
    pub async fn serving(&mut self) -> Board {
        let ids: Vec<u16> = self.running.keys().copied().collect();
        let mut started: Vec<(u16, Child)> = std::mem::take(&mut self.running).into_iter().collect();
        let led = fleet::wait_until_led(&self.fleet, &ids, &mut started, PATIENCE, |_| {}).await;
        self.running = started.into_iter().collect();
        led.unwrap_or_else(|why| panic!("{why:#}"))
    }

    /// SIGKILL.
    pub fn kill(&mut self, id: u16) {
        let mut child = self.running.remove(&id).expect("a running node");
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }

    pub fn signal(&self, id: u16, signal: Signal) {
        Fleet::signal(self.node(id), signal).expect("signalled");
    }

    pub fn runs(&mut self, id: u16) -> bool {
        self.running.get_mut(&id).is_some_and(|child| child.try_wait().expect("waited").is_none())
    }

    /// Waits for a node's end, which must come within `patience`.
    pub async fn ended(&mut self, id: u16, patience: Duration) -> ExitStatus {
        let end = Instant::now() + patience;
        let mut child = self.running.remove(&id).expect("a started node");
        loop {
            if let Some(status) = child.try_wait().expect("waited") {
                return status;
            }
            if Instant::now() >= end {
                self.running.insert(id, child);
                panic!("node {id} has not ended within {patience:?}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// SIGTERM, and an orderly end in time.
    pub async fn stop(&mut self, id: u16) {
        self.signal(id, Signal::TERM);
        let status = self.ended(id, Duration::from_secs(10)).await;
        assert_eq!(status.code(), Some(0), "node {id} after SIGTERM: {}", self.log(id));
    }

    /// Starts a node that must not serve, under this or another configuration; gives the error it ends with.
    pub async fn refused(&self, fleet: &Fleet, id: u16) -> String {
        let node = fleet.node(id).expect("a node of the configuration");
        let child = fleet
            .spawn(node, Path::new(PROGRAM), &["--with-parent", &std::process::id().to_string()])
            .expect("the program starts");
        let mut child = Ends(child);
        let mut status = None;
        until(&format!("node {id} is refused"), async || {
            status = child.0.try_wait().expect("waited");
            status.is_some()
        })
        .await;
        let words = fs::read_to_string(Fleet::log_path(node)).unwrap_or_default();
        assert_eq!(status.and_then(|status| status.code()), Some(1), "node {id}: {words}");
        let error = words.rfind("error: ").unwrap_or_else(|| panic!("node {id} told no error: {words}"));
        words[error..].trim_end().to_owned()
    }

    /// Everything a node has written to its log.
    pub fn log(&self, id: u16) -> String {
        fs::read_to_string(Fleet::log_path(self.node(id))).unwrap_or_default()
    }

    pub async fn status(&self, id: u16) -> Option<NodeStatus> {
        fetch::status(&self.node(id).http, ASK).await.ok()
    }

    /// Why a node is not ready, if it is not.
    pub async fn not_ready(&self, id: u16) -> Option<String> {
        fetch::ready(&self.node(id).http, ASK).await.err().map(|why| why.to_string())
    }

    pub async fn board(&self) -> Board {
        fleet::ask_all(&self.fleet, ASK).await
    }

    pub fn shard_of(&self, session: &SessionId) -> u32 {
        (session.hash64() % u64::from(self.shards)) as u32 + 1
    }

    /// The node that leads a session's shard.
    pub async fn leader_of(&self, session: &SessionId) -> u16 {
        self.leads(self.shard_of(session)).await
    }

    /// The node that leads a user's shard.
    pub async fn leader_of_user(&self, user: &UserId) -> u16 {
        self.leads((user.hash64() % u64::from(self.shards)) as u32 + 1).await
    }

    async fn leads(&self, shard: u32) -> u16 {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(leader) = self.board().await.leader(shard) {
                return leader;
            }
            assert!(Instant::now() < end, "nobody leads shard {shard}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A replica's own words about its shard.
    pub async fn replica(&self, id: u16, shard: u32) -> Option<ShardStatus> {
        self.status(id).await?.shards.into_iter().find(|replica| replica.id == shard)
    }

    /// Waits until all running nodes have applied what is committed anywhere.
    pub async fn level(&self) {
        until("all replicas are level", async || {
            let board = self.board().await;
            self.running.keys().all(|id| board.lag(*id) == Some(0))
        })
        .await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // Ended already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for node in &self.fleet.config.nodes {
                let lines = Fleet::last_lines(node, 25).join("\n");
                eprintln!("---- the end of node {}'s log:\n{lines}", node.id);
            }
        }
    }
}

/// A process that ends with this value.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What `serve` says that must fail at once; not through the fleet, which would look at the pid file first.
pub fn serve_fails(config: &Path, id: u16) -> String {
    let mut serve = Command::new(PROGRAM);
    serve.arg("serve").arg("--config").arg(config).args(["--node", &id.to_string()]);
    serve.args(["--with-parent", &std::process::id().to_string()]);
    let mut child = Ends(serve.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts"));
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.0.try_wait().expect("waited") {
            break status;
        }
        assert!(Instant::now() < end, "it serves under {}", config.display());
        std::thread::sleep(LOOK);
    };
    let mut words = String::new();
    child.0.stderr.take().expect("piped").read_to_string(&mut words).expect("text");
    assert_eq!(status.code(), Some(1), "{words}");
    words
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Runs a test on two threads, alone, in bounded time.
pub fn play(test: impl Future<Output = ()>) {
    const BOUND: Duration = Duration::from_secs(180);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        // The wait for the tests before this one is not this one's time.
        let _alone = ALONE.lock().await;
        tokio::time::timeout(BOUND, test).await.expect("the test ends in time");
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
}

/// The first of these names that makes a session the condition likes.
pub fn find<T>(mut make: impl FnMut(u32) -> T, like: impl Fn(&T) -> bool) -> T {
    (0..1000).map(&mut make).find(|made| like(made)).expect("one of a thousand")
}

//! The cluster under test, as far as the checker needs it: where its nodes are, who leads, and how to hurt them.
//!
//! [`OwnCluster`] starts node processes of this very program on free ports and ends every one of them when it is
//! dropped. It drives them by signals and by their public HTTP page, never through their files.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rookery_wire::SessionId;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::fault;
use crate::fleet::free_addresses;
use crate::http::fetch;
use crate::system::SYSTEM_GROUP;

/// How long one question about a node's state may take.
const ASK: Duration = Duration::from_millis(500);
/// How long an orderly stop may take before it is made disorderly.
const STOP: Duration = Duration::from_secs(10);

/// How long a hook may take.
const HOOK: Duration = Duration::from_secs(10);

/// Something that can be loaded and hurt.
pub trait Cluster: Send {
    /// Numbers and client addresses of the nodes.
    fn nodes(&self) -> Vec<(u16, String)>;
    /// The node that leads the shard of a session, as far as anyone says.
    fn leader_of(&self, session: &SessionId) -> impl Future<Output = Option<u16>> + Send;
    /// Whether every node serves and every shard has a leader.
    fn whole(&self) -> impl Future<Output = bool> + Send;
    /// That no process ended which was not told to.
    ///
    /// # Errors
    /// Which one did, with its last words.
    fn alive(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
    /// Snapshots that each node which answers has installed since its process began.
    fn installed(&self) -> impl Future<Output = BTreeMap<u16, u64>> + Send {
        std::future::ready(BTreeMap::new())
    }
    /// SIGKILL.
    fn kill(&mut self, node: u16) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// SIGTERM, and wait for the end.
    fn stop(&mut self, node: u16) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Start it again.
    fn start(&mut self, node: u16) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Hands every lead of a node to another, one after another.
    fn transfer(&mut self, _from: u16, _to: u16) -> impl Future<Output = anyhow::Result<()>> + Send {
        std::future::ready(Err(anyhow::anyhow!("leads cannot be handed over here")))
    }
    /// SIGSTOP (`true`) or SIGCONT.
    fn pause(&mut self, node: u16, on: bool) -> anyhow::Result<()>;
}

/// How to make an own cluster.
#[derive(Clone, Debug)]
pub struct OwnOptions {
    /// The program to run, with `serve`.
    pub program: PathBuf,
    /// Folder for configuration, data and logs; must exist.
    pub folder: PathBuf,
    /// Nodes, 3 or 5.
    pub nodes: u16,
    /// Shards.
    pub shards: u32,
    /// Lines put into the configuration as they are, e.g. `[timing]` keys.
    pub extra: String,
    /// Variables for the nodes' environment.
    pub env: Vec<(String, String)>,
    /// Called with `cut N`, `restore N`: takes a node's disk away and brings it back (`power cut` only).
    pub power_hook: Option<PathBuf>,
}

struct Node {
    id: u16,
    client: String,
    http: String,
    child: Option<Child>,
}

/// A cluster of child processes.
pub struct OwnCluster {
    options: OwnOptions,
    config: PathBuf,
    nodes: Vec<Node>,
}

impl OwnCluster {
    /// Writes the configuration on free ports and starts every node; returns when all serve.
    ///
    /// # Errors
    /// What could not be written or started, or the deadline with the place of the logs.
    pub async fn start(options: OwnOptions, deadline: Duration) -> anyhow::Result<Self> {
        let config = options.folder.join("cluster.toml");
        let mut text = format!(
            "[cluster]\nname = \"check\"\nshards = {}\nreplication = 3\nsecret = \"a secret of this run alone, 0123456789\"\n\n",
            options.shards
        );
        let mut nodes = Vec::new();
        for (at, addrs) in free_addresses(usize::from(options.nodes) * 3)?.chunks(3).enumerate() {
            let [client, peer, http] = addrs else { bail!("no free ports") };
            let id = at as u16 + 1;
            text += &format!(
                "[[node]]\nid = {id}\nclient = \"{client}\"\npeer = \"{peer}\"\nhttp = \"{http}\"\ndata = \"node-{id}/data\"\n\n"
            );
            std::fs::create_dir_all(options.folder.join(format!("node-{id}")))?;
            let (client, http) = (client.clone(), http.clone());
            nodes.push(Node { id, client, http, child: None });
        }
        text += &options.extra;
        std::fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
        let mut cluster = Self { options, config, nodes };
        for id in cluster.ids() {
            cluster.spawn(id)?;
        }
        let until = Instant::now() + deadline;
        while !cluster.whole().await {
            cluster.assert_alive()?;
            if Instant::now() > until {
                let log = cluster.log(1).display().to_string();
                return Err(fault::cluster(format!(
                    "the cluster did not form within {deadline:?}; see {log}"
                )));
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(cluster)
    }

    /// Where a node writes its log.
    pub fn log(&self, node: u16) -> PathBuf {
        self.options.folder.join(format!("node-{node}.log"))
    }

    /// Process id and HTTP address of each running node.
    pub fn processes(&self) -> Vec<(u16, Option<u32>, String)> {
        self.nodes.iter().map(|n| (n.id, n.child.as_ref().and_then(Child::id), n.http.clone())).collect()
    }

    /// The folder of this cluster.
    pub fn folder(&self) -> &Path {
        &self.options.folder
    }

    fn ids(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    fn node(&mut self, id: u16) -> anyhow::Result<&mut Node> {
        self.nodes.iter_mut().find(|node| node.id == id).with_context(|| format!("there is no node {id}"))
    }

    fn spawn(&mut self, id: u16) -> anyhow::Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(self.log(id))?;
        let mut command = Command::new(&self.options.program);
        command.arg("serve").arg("--config").arg(&self.config).arg("--node").arg(id.to_string());
        // kill_on_drop ends them with us; this ends them when we are killed ourselves.
        command.arg("--with-parent").arg(std::process::id().to_string());
        command.envs(self.options.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let child =
            command.spawn().with_context(|| format!("starting {}", self.options.program.display()))?;
        self.node(id)?.child = Some(child);
        Ok(())
    }

    /// A node that ended by itself is an error at once, with the end of its log.
    fn assert_alive(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            let Some(child) = &mut node.child else { continue };
            if let Some(status) = child.try_wait()? {
                let log = self.options.folder.join(format!("node-{}.log", node.id));
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(5).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                let log = log.display();
                return Err(fault::cluster(format!(
                    "node {} ended with {status}; the end of {log}:\n{tail}",
                    node.id
                )));
            }
        }
        Ok(())
    }

    fn signal(&mut self, id: u16, signal: Signal) -> anyhow::Result<()> {
        let child = self.node(id)?.child.as_ref().and_then(Child::id);
        let pid = child.and_then(|pid| Pid::from_raw(pid as i32));
        let pid = pid.with_context(|| format!("node {id} is not running"))?;
        kill_process(pid, signal).with_context(|| format!("signalling node {id}"))
    }

    /// Takes a node's disk away at this instant, unsynced bytes and all; then kills it.
    ///
    /// # Errors
    /// The hook's.
    pub async fn cut(&mut self, ids: &[u16]) -> anyhow::Result<()> {
        // All at the same moment: the hard case.
        futures::future::try_join_all(ids.iter().map(|id| self.hook("cut", *id))).await?;
        for id in ids {
            self.kill(*id).await?;
        }
        for id in ids {
            self.hook("restore", *id).await?;
        }
        Ok(())
    }

    async fn hook(&self, what: &str, id: u16) -> anyhow::Result<()> {
        let hook = self.options.power_hook.as_ref().context("no --power-hook was given")?;
        let mut command = Command::new(hook);
        command.arg(what).arg(id.to_string()).stdin(Stdio::null()).kill_on_drop(true);
        let status = timeout(HOOK, command.status()).await;
        let status =
            status.with_context(|| format!("{} {what} {id} took over {HOOK:?}", hook.display()))??;
        if !status.success() {
            bail!("{} {what} {id} ended with {status}", hook.display());
        }
        Ok(())
    }

    async fn statuses(&self) -> Vec<crate::status::NodeStatus> {
        let asked = self.nodes.iter().map(|node| fetch::status(&node.http, ASK));
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }
}

impl Cluster for OwnCluster {
    fn nodes(&self) -> Vec<(u16, String)> {
        self.nodes.iter().map(|node| (node.id, node.client.clone())).collect()
    }

    async fn leader_of(&self, session: &SessionId) -> Option<u16> {
        let shard = (session.hash64() % u64::from(self.options.shards)) as u32 + 1;
        let statuses = self.statuses().await;
        let leads = |status: &&crate::status::NodeStatus| {
            status.shards.iter().any(|replica| replica.id == shard && replica.leading)
        };
        statuses.iter().find(leads).map(|status| status.node)
    }

    async fn whole(&self) -> bool {
        let ready = self.nodes.iter().map(|node| fetch::ready(&node.http, ASK));
        if futures::future::join_all(ready).await.iter().any(Result::is_err) {
            return false;
        }
        let mut leaders = BTreeMap::new();
        for status in self.statuses().await {
            for replica in status.shards.iter().filter(|replica| replica.leading) {
                leaders.insert(replica.id, status.node);
            }
        }
        (1..=self.options.shards).all(|shard| leaders.contains_key(&shard))
    }

    fn alive(&mut self) -> anyhow::Result<()> {
        self.assert_alive()
    }

    async fn installed(&self) -> BTreeMap<u16, u64> {
        let sum = |status: &crate::status::NodeStatus| {
            status.shards.iter().map(|replica| replica.snapshots_installed).sum()
        };
        self.statuses().await.iter().map(|status| (status.node, sum(status))).collect()
    }

    async fn kill(&mut self, id: u16) -> anyhow::Result<()> {
        let Some(mut child) = self.node(id)?.child.take() else { return Ok(()) };
        child.kill().await.with_context(|| format!("killing node {id}"))
    }

    async fn stop(&mut self, id: u16) -> anyhow::Result<()> {
        self.signal(id, Signal::TERM)?;
        let Some(mut child) = self.node(id)?.child.take() else { return Ok(()) };
        match timeout(STOP, child.wait()).await {
            Ok(status) => {
                let status = status?;
                if !status.success() {
                    let log = self.log(id).display().to_string();
                    return Err(fault::cluster(format!(
                        "node {id} ended with {status} after SIGTERM; see {log}"
                    )));
                }
                Ok(())
            }
            Err(_) => Err(fault::cluster(format!("node {id} did not stop within {STOP:?} of SIGTERM"))),
        }
    }

    async fn start(&mut self, id: u16) -> anyhow::Result<()> {
        self.spawn(id)
    }

    async fn transfer(&mut self, from: u16, to: u16) -> anyhow::Result<()> {
        let http = self.node(from)?.http.clone();
        let status = fetch::status(&http, ASK).await?;
        let led = status.shards.iter().filter(|replica| replica.leading && replica.id != SYSTEM_GROUP);
        for shard in led.map(|replica| replica.id) {
            let order = format!("/transfer?shard={shard}&to={to}");
            let begun = Instant::now();
            while let Err(why) = fetch::post(&http, &order, STOP).await {
                // It may have been given away meanwhile, or the heir may have to catch up first.
                let leads = fetch::status(&http, ASK).await?;
                if !leads.shards.iter().any(|replica| replica.id == shard && replica.leading) {
                    break;
                }
                if begun.elapsed() > STOP {
                    return Err(why)
                        .with_context(|| format!("shard {shard} does not go from node {from} to {to}"));
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    fn pause(&mut self, id: u16, on: bool) -> anyhow::Result<()> {
        self.signal(id, if on { Signal::STOP } else { Signal::CONT })
    }
}

//! `rookery serve`: one node in the foreground, from the first line of log to the exit code.
//!
//! Owns the process: signals, pid file, log, HTTP address. The node itself is `node.rs`. An orderly end exits 0; a
//! fault or a refused start exits non-zero with the reason as the last line on stderr.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::fleet::{PidFile, allow_most};
use crate::http::{HttpServer, Subject};
use crate::node::{Node, Seams};
use crate::status::NodeStatus;
use crate::terminal as out;

/// How often a node that was started `--with-parent` looks for it.
const PARENT_CHECK: Duration = Duration::from_millis(200);
/// Files of a node beside connections, at most: databases, journal, links to the other nodes, the log.
const OTHER_FILES: u64 = 512;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery serve --node 1                   node 1 of ./cluster.toml, until Ctrl-C
  rookery serve --config /etc/rookery/cluster.toml --node 2
  rookery serve --node 2 --replace         node 2 has lost its data folder: come back with an empty one

`rookery cluster up` starts all nodes of a configuration in the background.")]
pub(super) struct ServeArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "cluster.toml", env = "ROOKERY_CONFIG")]
    config: PathBuf,
    /// Which node of it to be
    #[arg(long, value_name = "N", env = "ROOKERY_NODE")]
    node: u16,
    /// Take the place of this node after its data folder was lost; only with an empty folder
    #[arg(long)]
    replace: bool,
    /// End when the process of this number, which started this one, ends
    #[arg(long, hide = true, value_name = "PID")]
    with_parent: Option<i32>,
}

pub(super) fn run(args: ServeArgs) -> Result<ExitCode> {
    let config = Arc::new(Config::load(&args.config)?);
    let mine = config.require_node(args.node, &args.config)?;
    out::init_log(&config.log.level, config.log.format);
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    // A node that cannot have so many serves those it can: the system may have its reasons.
    if let Err(few) = allow_most(open_files(&config)) {
        tracing::warn!("limits.connections = {} cannot be reached: {few}", config.limits.connections);
    }
    let pid_file = PidFile::of(&mine.data);
    pid_file.take().with_context(|| {
        format!("node {} cannot take its data folder (node.data = {})", args.node, mine.data.display())
    })?;
    // Half the cores: the other half is the arbiters' and the writers'. One message at a time passes a dozen tasks, and a
    // task woken on another core costs more than the work it does: on two cores p50 was 1.06 ms with two threads and
    // 0.95 ms with one, at the same throughput.
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .thread_name("rookery")
        .build();
    let outcome = runtime.context("cannot start the runtime").and_then(|runtime| {
        let outcome = runtime.block_on(Box::pin(serve(config, &args)));
        // What still runs on a blocking thread has had its time.
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    });
    pid_file.release();
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Files that a node has open when all connections that it may take are there.
fn open_files(config: &Config) -> u64 {
    u64::from(config.limits.connections) + u64::from(config.limits.http_connections) + OTHER_FILES
}

/// What HTTP shows before, while and after the node is there.
struct Door {
    config: Arc<Config>,
    number: u16,
    node: RwLock<Option<Arc<Node>>>,
    stop: CancellationToken,
}

impl Door {
    fn node(&self) -> Option<Arc<Node>> {
        self.node.read().clone()
    }
}

impl Subject for Door {
    fn status(&self) -> NodeStatus {
        self.node().map_or_else(
            || NodeStatus {
                node: self.number,
                cluster: self.config.cluster.name.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..NodeStatus::default()
            },
            |node| node.status(),
        )
    }

    fn ready(&self) -> Result<(), String> {
        match self.node() {
            Some(node) if !self.stop.is_cancelled() => node.ready(),
            Some(_) => Err("the node is stopping".to_owned()),
            None => Err("the node is starting: it opens its folder and waits for the others".to_owned()),
        }
    }

    fn transfer(&self, shard: u32, to: u16) -> BoxFuture<'_, Result<(), String>> {
        let node = self.node();
        async move {
            match node {
                Some(node) => node.transfer(shard, to).await,
                None => Err("the node is starting".to_owned()),
            }
        }
        .boxed()
    }

    fn shutdown(&self) {
        self.stop.cancel();
    }
}

/// Why the node ends.
enum End {
    Asked(&'static str),
    Fatal(String),
}

async fn serve(config: Arc<Config>, args: &ServeArgs) -> Result<()> {
    let mine = config.require_node(args.node, &args.config)?;
    let stop = CancellationToken::new();
    let watcher = tokio::spawn(watch_signals(stop.clone(), args.with_parent));
    let door = Arc::new(Door {
        config: config.clone(),
        number: args.node,
        node: RwLock::new(None),
        stop: stop.clone(),
    });
    let mut seams = Seams::real();
    seams.replace = args.replace;
    let http =
        HttpServer::start(&*seams.network, &mine.http, config.limits.http_connections, door.clone()).await;
    let http = http.map_err(|fault| anyhow!("{}", cannot_listen("http", &mine.http, &fault)))?;

    let end = tokio::select! {
        started = Node::start(config.clone(), args.node, seams) => {
            let node = Arc::new(started?);
            *door.node.write() = Some(node.clone());
            tokio::select! {
                reason = node.fatal() => End::Fatal(reason),
                () = stop.cancelled() => End::Asked("while serving"),
            }
        }
        () = stop.cancelled() => End::Asked("while starting"),
    };
    // From here on readiness says no, and a second signal ends the process at once.
    stop.cancel();
    if let End::Asked(when) = end {
        tracing::info!(when, "stopping");
    }
    let patience = Duration::from_millis(config.timing.stop_ms);
    let ended = tokio::time::timeout(patience, put_away(&door)).await;
    http.stop().await;
    watcher.abort();
    match (end, ended) {
        (End::Fatal(reason), _) => bail!("the node had to stop: {reason}"),
        (End::Asked(_), Err(_)) => {
            bail!(
                "the orderly stop took longer than timing.stop_ms = {} and was cut off",
                config.timing.stop_ms
            )
        }
        (End::Asked(_), Ok(())) => {
            tracing::info!("stopped");
            Ok(())
        }
    }
}

/// Takes the node out of the door and stops it, once no page is being made of it any more.
async fn put_away(door: &Door) {
    let Some(mut node) = door.node.write().take() else { return };
    loop {
        match Arc::try_unwrap(node) {
            Ok(node) => return node.stop().await,
            Err(shared) => {
                node = shared;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// `EADDRINUSE` and its like, with the key of `cluster.toml` it came from.
fn cannot_listen(key: &str, addr: &str, fault: &std::io::Error) -> String {
    if fault.kind() == std::io::ErrorKind::AddrInUse {
        format!("{addr} is in use (node.{key} in cluster.toml): stop the other program or change the key")
    } else {
        format!("cannot listen on {addr} (node.{key} in cluster.toml): {fault}")
    }
}

/// SIGTERM and SIGINT begin an orderly stop, the second of them ends the process; SIGHUP is for nobody.
///
/// The parent is named by who is it: asked for here, it may have ended already, and whoever adopts orphans is no parent.
async fn watch_signals(stop: CancellationToken, parent: Option<i32>) {
    let (Ok(mut term), Ok(mut int), Ok(mut hup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
    else {
        tracing::error!("cannot listen for signals; stop this node with POST /shutdown");
        return;
    };
    if parent.is_some() {
        follow_into_the_end();
    }
    let mut look = tokio::time::interval(PARENT_CHECK);
    loop {
        let name = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
            _ = hup.recv() => continue,
            _ = look.tick(), if parent.is_some() && !stop.is_cancelled() => {
                if rustix::process::getppid().map(|pid| pid.as_raw_pid()) == parent {
                    continue;
                }
                "the parent's end"
            }
        };
        if stop.is_cancelled() {
            tracing::warn!(signal = name, "told to stop twice: ending at once");
            // Nothing is lost by this: what was acknowledged is in the journal.
            std::process::exit(130);
        }
        tracing::info!(signal = name, "told to stop");
        stop.cancel();
    }
}

/// Frozen as it may be by then, a process looks at nothing: its parent's end lets it go on, and find that it has none.
fn follow_into_the_end() {
    #[cfg(target_os = "linux")]
    if let Err(why) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::CONT)) {
        tracing::warn!(%why, "a frozen node would outlive its parent");
    }
}

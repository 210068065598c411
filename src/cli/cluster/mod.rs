//! `rookery cluster …`: the nodes of a configuration as processes of this machine.

mod board;
mod logs;
mod up;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use rustix::process::Signal;

use super::ConfigPath;
use crate::fleet::{self, Fleet};
use crate::http::fetch;
use crate::terminal as out;

/// How long a node is asked for its status.
const ASK: Duration = Duration::from_secs(2);
/// What a node refuses is asked again for so long, as its peers may just be coming up.
const SETTLING: Duration = Duration::from_secs(2);
/// A transfer waits this long, somewhat more than the node itself gives it.
const TRANSFER: Duration = Duration::from_secs(12);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery cluster up                       start what is not running; returns when every shard has a leader
  rookery cluster status
  rookery cluster kill 2                   kill -9, to see that nobody minds; `up` starts it again
  rookery cluster transfer 5 3             let node 3 lead shard 5 from now on
  rookery cluster logs 1 --follow
  rookery cluster down

Only processes of this machine are driven, found by the pid file in each data folder.")]
pub(super) struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
    /// Configuration file
    #[command(flatten)]
    at: ConfigPath,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Start the nodes that do not run, and wait until every shard has a leader
    Up(up::UpArgs),
    /// Stop the nodes in order; kill what does not stop in time
    Down {
        /// Only this node
        node: Option<u16>,
        /// Seconds until a node that does not stop is killed
        #[arg(long, default_value_t = 15)]
        patience: u64,
    },
    /// Show nodes, leaders, lag, connections and disk
    Status {
        /// Every shard too
        #[arg(long)]
        shards: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Kill a node at once (SIGKILL)
    Kill {
        /// Which
        node: u16,
    },
    /// Freeze a node (SIGSTOP)
    Pause {
        /// Which
        node: u16,
    },
    /// Let a frozen node go on (SIGCONT)
    Resume {
        /// Which
        node: u16,
    },
    /// Move the leadership of a shard, for good
    ///
    /// The node leads the shard from now on whenever it can, also after restarts, until another transfer says otherwise;
    /// `status --shards` shows for which node each lead is kept.
    Transfer {
        /// Shard, from 1
        shard: u32,
        /// Node that is to lead it
        node: u16,
    },
    /// Print the nodes' logs
    Logs(logs::LogsArgs),
}

pub(super) async fn run(args: ClusterArgs) -> Result<ExitCode> {
    let fleet = Fleet::load(&args.at.config)?;
    match args.command {
        ClusterCommand::Up(up) => up::run(&fleet, &up).await?,
        ClusterCommand::Down { node, patience } => down(&fleet, node, Duration::from_secs(patience)).await?,
        ClusterCommand::Status { shards, json } => return status(&fleet, shards, json).await,
        ClusterCommand::Kill { node } => kill(&fleet, node).await?,
        ClusterCommand::Pause { node } => freeze(&fleet, node, Signal::STOP, "paused")?,
        ClusterCommand::Resume { node } => freeze(&fleet, node, Signal::CONT, "goes on")?,
        ClusterCommand::Transfer { shard, node } => transfer(&fleet, shard, node).await?,
        ClusterCommand::Logs(logs) => logs::run(&fleet, &logs).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn down(fleet: &Fleet, only: Option<u16>, patience: Duration) -> Result<()> {
    if let Some(id) = only {
        fleet.node(id)?;
    }
    let nodes = fleet.config.nodes.iter().filter(|node| only.is_none_or(|id| id == node.id));
    let stops = nodes.map(|node| async move {
        let Some(process) = Fleet::process(node) else {
            return (node.id, Ok(format!("node {} was not running", node.id)));
        };
        let said = fleet::stop(&process, patience).await.map(|killed| match killed {
            false => format!("node {} stopped", node.id),
            true => format!("node {} did not stop in {} s and was killed", node.id, patience.as_secs()),
        });
        (node.id, said)
    });
    let mut failed = 0;
    for (id, said) in futures::future::join_all(stops).await {
        match said {
            Ok(text) => out::line(text)?,
            Err(why) => {
                out::tell(format_args!("node {id}: {why:#}"));
                failed += 1;
            }
        }
    }
    if failed > 0 {
        bail!("{failed} nodes could not be stopped");
    }
    Ok(())
}

async fn status(fleet: &Fleet, shards: bool, json: bool) -> Result<ExitCode> {
    let board = fleet::ask_all(fleet, ASK).await;
    if json {
        out::line(serde_json::to_string_pretty(&board)?)?;
    } else {
        out::line(board::nodes(fleet, &board))?;
        if shards {
            out::line(board::shards(fleet, &board))?;
        }
        for text in board::remarks(fleet, &board) {
            out::tell(text);
        }
    }
    let serving = board.nodes.iter().any(|seen| seen.status.is_some());
    Ok(if serving { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn kill(fleet: &Fleet, id: u16) -> Result<()> {
    let process = Fleet::signal(fleet.node(id)?, Signal::KILL)?;
    if !fleet::gone(&process, Duration::from_secs(5)).await {
        bail!("process {} is still there 5 s after SIGKILL", process.pid);
    }
    out::line(format_args!("node {id} killed; `rookery cluster up` starts it again"))?;
    Ok(())
}

fn freeze(fleet: &Fleet, id: u16, signal: Signal, what: &str) -> Result<()> {
    let process = Fleet::signal(fleet.node(id)?, signal)?;
    out::line(format_args!("node {id} {what} (process {})", process.pid))?;
    Ok(())
}

async fn transfer(fleet: &Fleet, shard: u32, to: u16) -> Result<()> {
    fleet.node(to)?;
    let shards = fleet.config.cluster.shards;
    if !(1..=shards).contains(&shard) {
        bail!("there is no shard {shard}: there are 1 to {shards}");
    }
    let begun = std::time::Instant::now();
    // Soon after a start, or a freeze, there may be no leader yet, or it may have no link to the heir.
    let leader = loop {
        match order_transfer(fleet, shard, to).await {
            Ok(leader) => break leader,
            Err(why) if begun.elapsed() > SETTLING => return Err(why),
            Err(_) => tokio::time::sleep(fleet::POLL).await,
        }
    };
    if leader == to {
        out::line(format_args!("node {to} leads shard {shard} already, and keeps it"))?;
        return Ok(());
    }
    let end = std::time::Instant::now() + TRANSFER;
    while fleet::ask_all(fleet, ASK).await.leader(shard) != Some(to) {
        if std::time::Instant::now() > end {
            bail!("node {to} does not lead shard {shard} yet; see `cluster status --shards`");
        }
        tokio::time::sleep(fleet::POLL).await;
    }
    out::line(format_args!("shard {shard}: node {leader} → node {to}, which keeps it"))?;
    Ok(())
}

/// Tells the leader of a shard who is to lead it; gives that leader.
async fn order_transfer(fleet: &Fleet, shard: u32, to: u16) -> Result<u16> {
    let leader = fleet::ask_all(fleet, ASK).await.leader(shard);
    let leader =
        leader.with_context(|| format!("shard {shard} has no leader that answers; see `cluster status`"))?;
    let order = format!("/transfer?shard={shard}&to={to}");
    fetch::post(&fleet.node(leader)?.http, &order, TRANSFER).await?;
    Ok(leader)
}

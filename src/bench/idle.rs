//! What a cluster costs in which nothing happens: the share of a core that each node takes, without connections and with
//! them, and the memory of these: resident bytes of each node before and after, divided by connections. They are at all nodes
//! alike or at one alone, and the nodes say themselves that they have them.
//!
//! The users are made known first, by short connections, a few at a time: what a user costs is another figure, and most
//! of it stands in caches that are bounded however many users there are.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use rookery_wire::request::Role;
use rookery_wire::{Kind, UserId};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::args::{BenchArgs, IdleArgs};
use super::connect::{Registration, ask, reconnect, register, sync};
use super::crowd::caches;
use super::progress::{Bar, Progress};
use super::report::print;
use super::usage::{PerNode, resident, share_of_a_core};
use super::{Ground, many_files};
use crate::check::link::Link;
use crate::config::Limits;
use crate::http::fetch;

/// How long memory is left to settle, once idle actors have left it, before it is read: what they changed is written some seconds
/// later, the database `state` is opened anew half a minute after that, and the allocator keeps pages for ten seconds more.
const SETTLE: Duration = Duration::from_secs(45);
/// How long a cluster that has formed is left alone before it is watched, and for how long it is.
const FORMED: Duration = Duration::from_secs(3);
const WATCHED: Duration = Duration::from_secs(10);
/// Pause between the PINGs of one connection, well within the time after which a silent one is closed.
const PING: Duration = Duration::from_secs(20);
/// How much longer than it should a session may stay in memory, and the pause between two looks at that.
const OVERDUE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(250);
/// Deadline of one question about a node's status.
const STATUS: Duration = Duration::from_secs(5);
/// Connections made at once, so that a node's backlog is never full.
const AT_ONCE: usize = 100;

#[derive(Serialize)]
struct IdleReport {
    shards: u32,
    /// Percent of one core that each node takes; nobody is connected.
    core_percent: PerNode<f64>,
    #[serde(flatten)]
    connected: Option<Connected>,
}

/// With connections that do nothing.
#[derive(Serialize)]
struct Connected {
    connections_per_node: u32,
    /// The one node that has them; none when all do.
    at: Option<u16>,
    /// Of each node that has any.
    bytes_per_connection: PerNode<f64>,
    /// Of each user of the cluster, whichever node it connects to: caches that are not full yet, mostly.
    bytes_per_user: PerNode<f64>,
    resident_bytes_at_start: PerNode<u64>,
    resident_bytes_before: PerNode<u64>,
    resident_bytes_after: PerNode<u64>,
    /// Percent of one core that each node takes with all of them.
    core_percent_connected: PerNode<f64>,
    #[serde(skip)]
    users: usize,
}

/// Runs `rookery bench idle`.
pub(super) async fn run(args: &BenchArgs, idle: &IdleArgs) -> anyhow::Result<ExitCode> {
    // Before the nodes start, which have the same limit from us.
    let nodes = if idle.at.is_some() { 1 } else { u64::from(args.nodes) };
    many_files(u64::from(idle.connections) * nodes)?;
    let mut ground = Ground::prepare(args).await?;
    if let Some(at) = idle.at {
        ensure!(ground.nodes.iter().any(|(node, _)| *node == at), "there is no node {at}");
    }
    let watching = ground.progress.timed("nodes do nothing", FORMED + WATCHED);
    sleep(FORMED).await;
    let core_percent = share_of_a_core(ground.own()?, WATCHED).await?;
    drop(watching);
    let connected = match idle.connections {
        0 => None,
        _ => Some(connected(&mut ground, idle).await?),
    };
    let report = IdleReport { shards: args.shards, core_percent, connected };
    print(args.json, &report, &words(&report))?;
    Ok(ExitCode::SUCCESS)
}

async fn connected(ground: &mut Ground, idle: &IdleArgs) -> anyhow::Result<Connected> {
    let tag = format!("i{:x}", rand::random::<u32>());
    // The first ones pay for what is made once.
    let at: PerNode<String> =
        ground.nodes.iter().filter(|(node, _)| idle.at.is_none_or(|at| at == *node)).cloned().collect();
    let few: Vec<Known> = make_known(ground, &at, &format!("{tag}-first"), AT_ONCE as u32).await?;
    let mut links = open(&ground.progress, few).await?;
    settle(&ground.progress, &mut links).await?;
    let start = resident(ground.own()?)?;
    let known = make_known(ground, &at, &tag, idle.connections).await?;
    let users = known.len();
    settle(&ground.progress, &mut links).await?;
    let before = resident(ground.own()?)?;
    links.extend(open(&ground.progress, known).await?);
    settle(&ground.progress, &mut links).await?;
    let after = resident(ground.own()?)?;
    let watching = ground.progress.timed("nobody says anything", WATCHED);
    let core_percent_connected = share_of_a_core(ground.own()?, WATCHED).await?;
    let connections = connections(ground).await?;
    let due = at.iter().map(|(node, _)| (*node, u64::from(idle.connections) + AT_ONCE as u64));
    ensure!(
        connections == due.collect::<Vec<_>>(),
        "the nodes say that they have these connections: {connections:?}"
    );
    let here = |of: &PerNode<u64>| -> PerNode<u64> {
        of.iter().copied().filter(|(node, _)| at.iter().any(|(at, _)| at == node)).collect()
    };
    drop((watching, links));
    Ok(Connected {
        connections_per_node: idle.connections,
        at: idle.at,
        bytes_per_connection: growth(&here(&before), &here(&after), idle.connections as usize),
        bytes_per_user: growth(&start, &before, users),
        resident_bytes_at_start: start,
        resident_bytes_before: before,
        resident_bytes_after: after,
        core_percent_connected,
        users,
    })
}

/// Connections of each node that has any, as it says itself.
async fn connections(ground: &mut Ground) -> anyhow::Result<PerNode<u64>> {
    let mut each = Vec::new();
    for (node, _, http) in ground.own()?.processes() {
        let status =
            fetch::status(&http, STATUS).await.with_context(|| format!("the status of node {node}"))?;
        each.push((node, status.connections));
    }
    each.retain(|(_, connections)| *connections > 0);
    Ok(each)
}

fn words(report: &IdleReport) -> String {
    let each = |of: &PerNode<f64>, unit: f64, name: &str| {
        let each = of.iter().map(|(node, figure)| format!("node {node} {:.1} {name}", figure / unit));
        each.collect::<Vec<_>>().join(", ")
    };
    let mut line = format!(
        "bench idle: {} shards, nobody connected, {} s: {} of a core",
        report.shards,
        WATCHED.as_secs(),
        each(&report.core_percent, 1.0, "%"),
    );
    if let Some(connected) = &report.connected {
        line += &format!(
            "\nbench idle: {} connections {}: {:.1} KB each at most ({}); {:.1} KB before that for each of {} users; \
             {} of a core",
            connected.connections_per_node,
            connected.at.map_or_else(|| "per node".to_owned(), |node| format!("at node {node}")),
            most(&connected.bytes_per_connection),
            each(&connected.bytes_per_connection, 1024.0, "KB"),
            most(&connected.bytes_per_user),
            connected.users,
            each(&connected.core_percent_connected, 1.0, "%"),
        );
    }
    line
}

pub(super) fn growth(from: &PerNode<u64>, to: &PerNode<u64>, by: usize) -> PerNode<f64> {
    let each = from.iter().zip(to).map(|((node, from), (_, to))| {
        // A node that shrank meanwhile shows as nothing, and not as a debt.
        (*node, to.saturating_sub(*from) as f64 / by.max(1) as f64)
    });
    each.collect()
}

/// The largest figure of all nodes, in KB.
pub(super) fn most(bytes: &PerNode<f64>) -> f64 {
    bytes.iter().map(|(_, bytes)| *bytes).fold(0.0, f64::max) / 1024.0
}

/// Nothing but PINGs until the actors of the users have left memory.
pub(super) async fn settle(progress: &Progress, links: &mut [Link]) -> anyhow::Result<()> {
    let idle = Duration::from_millis(Limits::default().resident_idle_ms);
    let until = Instant::now() + idle + SETTLE;
    let _waiting = progress.timed("memory settles", idle + SETTLE);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        sleep(left.min(PING)).await;
        if left <= PING {
            return Ok(());
        }
        for link in &mut *links {
            ask(link, Kind::Ping, &()).await?;
        }
    }
}

/// Nothing but PINGs until no session is in memory on any node: then the next use of one wakes it. Takes a cluster of our own,
/// in which nobody else uses any.
///
/// # Errors
/// When sessions stay in memory a minute longer than they should, or a node does not tell.
pub(super) async fn asleep(ground: &mut Ground, links: &mut [Link]) -> anyhow::Result<()> {
    let most = Duration::from_millis(Limits::default().resident_idle_ms) + OVERDUE;
    let (until, mut said) = (Instant::now() + most, Instant::now());
    let _waiting = ground.progress.open("waiting until no session is in memory");
    loop {
        let resident = caches(ground).await?.sessions_resident;
        if resident == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{resident} sessions are still in memory after {most:?} without use");
        if said.elapsed() >= PING {
            said = Instant::now();
            for link in &mut *links {
                ask(link, Kind::Ping, &()).await?;
            }
        }
        sleep(LOOK).await;
    }
}

/// A device that the cluster knows, and the node it connects to.
struct Known {
    addr: String,
    device: Registration,
}

/// Registers so many users for each of these nodes.
async fn make_known(
    ground: &Ground,
    at: &PerNode<String>,
    tag: &str,
    each: u32,
) -> anyhow::Result<Vec<Known>> {
    let mut users = Vec::new();
    for (node, addr) in at {
        for at in 0..each {
            users.push((addr.clone(), UserId::new(&format!("{tag}-{node}-{at}"))?));
        }
    }
    let token = &ground.token;
    in_parts(ground.progress.counted("making users known", users.len() as u64), users, |(addr, user)| {
        let token = token.clone();
        async move {
            let (_, device) = register(&addr, &user, Role::User, &token).await?;
            Ok(Known { addr, device })
        }
    })
    .await
}

/// Connects these devices, welcomed and synced.
async fn open(progress: &Progress, known: Vec<Known>) -> anyhow::Result<Vec<Link>> {
    in_parts(
        progress.counted("opening connections", known.len() as u64),
        known,
        |Known { addr, device }| async move {
            let mut link = reconnect(&addr, &device).await?;
            sync(&mut link).await?;
            Ok(link)
        },
    )
    .await
}

/// Does `work` for all, a few at a time; the bar says how many are done.
pub(super) async fn in_parts<T, R, F>(bar: Bar, all: Vec<T>, work: impl Fn(T) -> F) -> anyhow::Result<Vec<R>>
where
    R: Send + 'static,
    F: Future<Output = anyhow::Result<R>> + Send + 'static,
{
    let mut done = Vec::with_capacity(all.len());
    let mut waiting = all.into_iter();
    loop {
        let mut working: JoinSet<_> = waiting.by_ref().take(AT_ONCE).map(&work).collect();
        if working.is_empty() {
            return Ok(done);
        }
        while let Some(result) = working.join_next().await {
            done.push(result??);
            bar.inc(1);
        }
    }
}

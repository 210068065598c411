//! Memory of connections that do nothing: resident bytes of each node before and after, divided by connections.
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

use super::Ground;
use super::args::{BenchArgs, IdleArgs};
use super::connect::{Registration, ask, reconnect, register, sync};
use super::crowd::caches;
use super::progress::{Bar, Progress};
use super::report::print;
use crate::check::link::Link;
use crate::config::Limits;

/// How long memory is left to settle, once idle actors have left it, before it is read.
const SETTLE: Duration = Duration::from_secs(15);
/// Pause between the PINGs of one connection, well within the time after which a silent one is closed.
const PING: Duration = Duration::from_secs(20);
/// How much longer than it should a session may stay in memory, and the pause between two looks at that.
const OVERDUE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(250);
/// Connections made at once, so that a node's backlog is never full.
const AT_ONCE: usize = 100;

/// Figures per node, by its id.
pub(super) type PerNode<T> = Vec<(u16, T)>;

#[derive(Serialize)]
struct IdleReport {
    connections_per_node: u32,
    bytes_per_connection: PerNode<f64>,
    /// Of each user of the cluster, whichever node it connects to: caches that are not full yet, mostly.
    bytes_per_user: PerNode<f64>,
    resident_bytes_at_start: PerNode<u64>,
    resident_bytes_before: PerNode<u64>,
    resident_bytes_after: PerNode<u64>,
}

/// Runs `rookery bench idle`.
pub(super) async fn run(args: &BenchArgs, idle: &IdleArgs) -> anyhow::Result<ExitCode> {
    let mut ground = Ground::prepare(args).await?;
    let tag = format!("i{:x}", rand::random::<u32>());
    // The first ones pay for what is made once.
    let few: Vec<Known> = make_known(&ground, &format!("{tag}-first"), AT_ONCE as u32).await?;
    let mut links = open(&ground.progress, few).await?;
    settle(&ground.progress, &mut links).await?;
    let start = resident(&mut ground)?;
    let known = make_known(&ground, &tag, idle.connections).await?;
    let users = known.len();
    settle(&ground.progress, &mut links).await?;
    let before = resident(&mut ground)?;
    links.extend(open(&ground.progress, known).await?);
    settle(&ground.progress, &mut links).await?;
    let after = resident(&mut ground)?;
    let report = IdleReport {
        connections_per_node: idle.connections,
        bytes_per_connection: growth(&before, &after, idle.connections as usize),
        bytes_per_user: growth(&start, &before, users),
        resident_bytes_at_start: start,
        resident_bytes_before: before,
        resident_bytes_after: after,
    };
    let line = format!(
        "bench idle: {} connections per node: {:.1} KB each at most ({}); {:.1} KB before that for each of {users} users",
        idle.connections,
        most(&report.bytes_per_connection),
        report
            .bytes_per_connection
            .iter()
            .map(|(node, bytes)| format!("node {node} {:.1} KB", bytes / 1024.0))
            .collect::<Vec<_>>()
            .join(", "),
        most(&report.bytes_per_user),
    );
    print(args.json, &report, &line)?;
    drop(links);
    Ok(ExitCode::SUCCESS)
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

/// Registers so many users for every node.
async fn make_known(ground: &Ground, tag: &str, each: u32) -> anyhow::Result<Vec<Known>> {
    let mut users = Vec::new();
    for (node, addr) in &ground.nodes {
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

/// Resident bytes of every node's process.
pub(super) fn resident(ground: &mut Ground) -> anyhow::Result<PerNode<u64>> {
    let processes = ground.own()?.processes();
    processes
        .into_iter()
        .map(|(node, pid, _)| Ok((node, resident_of(pid.context("a running node")?)?)))
        .collect()
}

fn resident_of(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS in /proc")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

//! Memory of connections that do nothing: resident bytes of each node before and after, divided by connections.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use rookery_wire::UserId;
use rookery_wire::request::Role;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Ground;
use super::args::{BenchArgs, IdleArgs};
use super::connect::{connect, sync};
use super::report::print;

/// How long memory is left to settle before it is read.
const SETTLE: Duration = Duration::from_secs(5);
/// Connections made at once, so that a node's backlog is never full.
const AT_ONCE: u32 = 100;

#[derive(Serialize)]
struct IdleReport {
    connections_per_node: u32,
    bytes_per_connection: Vec<(u16, f64)>,
    resident_bytes_before: Vec<(u16, u64)>,
    resident_bytes_after: Vec<(u16, u64)>,
}

/// Runs `rookery bench idle`.
pub(super) async fn run(args: &BenchArgs, idle: &IdleArgs) -> anyhow::Result<ExitCode> {
    let mut ground = Ground::prepare(args).await?;
    let tag = format!("i{:x}", rand::random::<u32>());
    // The first connections pay for what is made once.
    let mut links = open(&ground, &format!("{tag}-first"), AT_ONCE).await?;
    sleep(SETTLE).await;
    let before = resident(&mut ground)?;
    links.extend(open(&ground, &tag, idle.connections).await?);
    sleep(SETTLE).await;
    let after = resident(&mut ground)?;
    let each = before.iter().zip(&after).map(|((node, before), (_, after))| {
        (*node, after.saturating_sub(*before) as f64 / f64::from(idle.connections.max(1)))
    });
    let bytes_per_connection: Vec<(u16, f64)> = each.collect();
    let most = bytes_per_connection.iter().map(|(_, bytes)| *bytes).fold(0.0, f64::max);
    let line = format!(
        "bench idle: {} connections per node: {:.1} KB each at most ({})",
        idle.connections,
        most / 1024.0,
        bytes_per_connection
            .iter()
            .map(|(node, bytes)| format!("node {node} {:.1} KB", bytes / 1024.0))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let report = IdleReport {
        connections_per_node: idle.connections,
        bytes_per_connection,
        resident_bytes_before: before,
        resident_bytes_after: after,
    };
    print(args.json, &report, &line)?;
    drop(links);
    Ok(ExitCode::SUCCESS)
}

/// So many connections to every node, each of a user of its own, welcomed and synced.
async fn open(ground: &Ground, tag: &str, each: u32) -> anyhow::Result<Vec<crate::check::link::Link>> {
    let mut links = Vec::new();
    for from in (0..each).step_by(AT_ONCE as usize) {
        let mut opening = JoinSet::new();
        for (node, addr) in &ground.nodes {
            for at in from..(from + AT_ONCE).min(each) {
                let user = UserId::new(&format!("{tag}-{node}-{at}"))?;
                let (addr, token) = (addr.clone(), ground.token.clone());
                opening.spawn(async move {
                    let mut link = connect(&addr, &user, Role::User, &token).await?;
                    sync(&mut link).await?;
                    anyhow::Ok(link)
                });
            }
        }
        while let Some(link) = opening.join_next().await {
            links.push(link??);
        }
    }
    Ok(links)
}

/// Resident bytes of every node's process.
fn resident(ground: &mut Ground) -> anyhow::Result<Vec<(u16, u64)>> {
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

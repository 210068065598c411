//! Time until a cluster with many stored messages serves again, after kill -9 and after an orderly stop.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::Ground;
use super::args::{BenchArgs, LoadArgs, RestartArgs};
use super::load::measure;
use super::report::print;
use crate::check::cluster::{Cluster, OwnCluster};

/// A restart that takes longer is not waited for.
const DEADLINE: Duration = Duration::from_secs(120);
/// Storing them may take this long.
const STORING: Duration = Duration::from_secs(300);

#[derive(Serialize)]
struct RestartReport {
    messages: u64,
    after_kill_all_ms: u64,
    after_stop_all_ms: u64,
    after_kill_one_ms: u64,
}

/// Runs `rookery bench restart`.
pub(super) async fn run(args: &BenchArgs, restart: &RestartArgs) -> anyhow::Result<ExitCode> {
    let mut ground = Ground::prepare(args).await?;
    let senders = restart.sessions.max(1);
    let load = LoadArgs {
        senders,
        window: 64,
        sessions: senders,
        size: restart.size,
        receivers: 0,
        seconds: 0.0,
        warmup: 0.0,
        at_leader: false,
        library: false,
    };
    let each = restart.messages.div_ceil(u64::from(senders));
    let stored = measure(&ground, &load, Duration::ZERO, STORING, each).await?;
    if stored.acked_in_all < restart.messages {
        bail!("only {} of {} messages were stored within {STORING:?}", stored.acked_in_all, restart.messages);
    }
    let own = ground.own()?;
    let ids: Vec<u16> = own.nodes().iter().map(|(node, _)| *node).collect();
    for node in &ids {
        own.kill(*node).await?;
    }
    let after_kill_all_ms = back(own, &ids).await?;
    for node in &ids {
        own.stop(*node).await?;
    }
    let after_stop_all_ms = back(own, &ids).await?;
    let one = ids.first().copied().context("a cluster has nodes")?;
    own.kill(one).await?;
    let after_kill_one_ms = back(own, &[one]).await?;
    let messages = stored.acked_in_all;
    let line = format!(
        "bench restart: {messages} messages stored: serves again {after_kill_all_ms} ms after kill -9 of all nodes, {after_stop_all_ms} ms after an orderly stop of all, {after_kill_one_ms} ms after kill -9 of one"
    );
    print(
        args.json,
        &RestartReport { messages, after_kill_all_ms, after_stop_all_ms, after_kill_one_ms },
        &line,
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Starts these nodes and waits until every node serves and every shard has a leader, milliseconds.
async fn back(own: &mut OwnCluster, nodes: &[u16]) -> anyhow::Result<u64> {
    let began = Instant::now();
    for node in nodes {
        own.start(*node).await?;
    }
    while !own.whole().await {
        if began.elapsed() > DEADLINE {
            bail!(
                "the nodes {nodes:?} did not serve again within {DEADLINE:?}; see {}",
                own.log(1).display()
            );
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(began.elapsed().as_millis() as u64)
}

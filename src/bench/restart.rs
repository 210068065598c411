//! Time until a cluster with many stored messages serves again, after kill -9 and after an orderly stop.
//!
//! It serves again when every node is ready, every shard has a leader, and a client has sent a message into one of the
//! stored conversations, had it acknowledged, and pulled a page of what stood there before. While all nodes are stopped in
//! order, and nothing changes any more, it is counted what their folders take of the disk.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rookery_wire::reply::{Ack, Page};
use rookery_wire::request::{Consistency, Direction, Pull, Role, Send};
use rookery_wire::{Blob, Kind, SessionId};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::Ground;
use super::args::{BenchArgs, RestartArgs};
use super::connect::{Registration, ask, reconnect, register};
use super::content::Contents;
use super::fill::fill;
use super::mix::Plan;
use super::report::print;
use super::usage::{OnDisk, PerNode, on_disk};
use crate::check::cluster::{Cluster, OwnCluster};
use crate::check::link::body;

/// A restart that takes longer is not waited for.
const DEADLINE: Duration = Duration::from_secs(120);
/// Records pulled from the beginning of a conversation after the restart.
const PAGE: (u32, u32) = (100, 64 << 10);

#[derive(Serialize)]
struct RestartReport {
    messages: u64,
    after_kill_all_ms: u64,
    after_stop_all_ms: u64,
    after_kill_one_ms: u64,
    /// What was stored, without anything around it.
    content_bytes: u64,
    /// Each node's folder, all nodes stopped.
    disk: PerNode<OnDisk>,
    /// Of the largest of them without its journal, by the content.
    disk_ratio: f64,
}

/// Runs `rookery bench restart`.
pub(super) async fn run(args: &BenchArgs, restart: &RestartArgs) -> anyhow::Result<ExitCode> {
    let mut ground = Ground::prepare(args).await?;
    let (plan, messages) = fill(&ground, restart.sessions, restart.messages, restart.size).await?;
    let mut probe = Probe::prepare(&ground, &plan, restart.size).await?;
    let progress = ground.progress.clone();
    let own = ground.own()?;
    let ids: Vec<u16> = own.nodes().iter().map(|(node, _)| *node).collect();
    for node in &ids {
        own.kill(*node).await?;
    }
    let starting = progress.open("all nodes come back after kill -9");
    let after_kill_all_ms = back(own, &ids, &mut probe).await?;
    drop(starting);
    let stopping = progress.open("all nodes stop, and come back");
    for node in &ids {
        own.stop(*node).await?;
    }
    let disk = on_disk(own)?;
    let after_stop_all_ms = back(own, &ids, &mut probe).await?;
    drop(stopping);
    let _starting = progress.open("one node comes back after kill -9");
    let one = ids.first().copied().context("a cluster has nodes")?;
    own.kill(one).await?;
    let after_kill_one_ms = back(own, &[one], &mut probe).await?;
    let content_bytes = messages * restart.size as u64;
    let largest = disk.iter().map(|(_, of)| of.growing()).max().unwrap_or_default();
    let disk_ratio = largest as f64 / content_bytes.max(1) as f64;
    let report = RestartReport {
        messages,
        after_kill_all_ms,
        after_stop_all_ms,
        after_kill_one_ms,
        content_bytes,
        disk,
        disk_ratio,
    };
    print(args.json, &report, &words(&report))?;
    Ok(ExitCode::SUCCESS)
}

fn words(report: &RestartReport) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let each = report.disk.iter().map(|(node, of)| {
        format!(
            "node {node} {:.1} MiB (state {:.1}, log {:.1}, rest {:.1}) and a journal of {:.1}",
            mib(of.growing()),
            mib(of.state),
            mib(of.log),
            mib(of.rest),
            mib(of.journal)
        )
    });
    format!(
        "bench restart: {} messages stored: serves again {} ms after kill -9 of all nodes, {} ms after an orderly stop of all, \
         {} ms after kill -9 of one\n\
         bench restart: blocks on disk, all stopped: {}; {:.2} times the content of {:.1} MiB at most, the journal apart",
        report.messages,
        report.after_kill_all_ms,
        report.after_stop_all_ms,
        report.after_kill_one_ms,
        each.collect::<Vec<_>>().join("; "),
        report.disk_ratio,
        mib(report.content_bytes),
    )
}

/// Waits until every node serves and every shard has a leader, at most [`DEADLINE`] from when it began.
///
/// # Errors
/// When that has not come, with the place of a log.
pub(super) async fn until_whole(own: &OwnCluster, began: Instant) -> anyhow::Result<()> {
    while !own.whole().await {
        ensure!(
            began.elapsed() < DEADLINE,
            "the cluster did not serve again within {DEADLINE:?}; see {}",
            own.log(1).display()
        );
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Stops all nodes and starts them again: what they had in memory alone is gone.
///
/// # Errors
/// As [`until_whole`], and when one cannot be stopped or started.
pub(super) async fn all_again(own: &mut OwnCluster) -> anyhow::Result<()> {
    let ids: Vec<u16> = own.nodes().iter().map(|(node, _)| *node).collect();
    for node in &ids {
        own.stop(*node).await?;
    }
    for node in &ids {
        own.start(*node).await?;
    }
    until_whole(own, Instant::now()).await
}

/// Starts these nodes and waits until the cluster serves again, milliseconds.
async fn back(own: &mut OwnCluster, nodes: &[u16], probe: &mut Probe) -> anyhow::Result<u64> {
    let began = Instant::now();
    for node in nodes {
        own.start(*node).await?;
    }
    until_whole(own, began).await?;
    let first = own.nodes().into_iter().find(|(node, _)| nodes.contains(node));
    let (_, addr) = first.context("a node that was started")?;
    let left = DEADLINE.saturating_sub(began.elapsed());
    timeout(left, probe.use_it(&addr)).await.context("no message was sent and pulled in time")??;
    Ok(began.elapsed().as_millis() as u64)
}

/// One who speaks in a stored conversation and was known before the restart.
struct Probe {
    device: Registration,
    session: SessionId,
    contents: Contents,
    client_seq: u64,
    stored: u64,
}

impl Probe {
    async fn prepare(ground: &Ground, plan: &Plan, size: usize) -> anyhow::Result<Self> {
        let session = plan.sessions.first().context("a session")?.clone();
        let (_, addr) = ground.nodes.first().context("a cluster has nodes")?;
        let (_, device) = register(addr, &plan.sender(0)?, Role::User, &ground.token).await?;
        let contents = Contents::new(ground.seed, u64::MAX, size);
        let mut probe = Self { device, session, contents, client_seq: 0, stored: 0 };
        // Once beforehand: what it needs besides is there, and it is known how much is stored.
        probe.use_it(addr).await?;
        Ok(probe)
    }

    /// One message sent and acknowledged behind all that stood there, and the conversation's beginning pulled.
    async fn use_it(&mut self, addr: &str) -> anyhow::Result<()> {
        let mut link = reconnect(addr, &self.device).await?;
        self.client_seq += 1;
        let send = Send {
            session: self.session.clone(),
            client_seq: self.client_seq,
            on_behalf_of: None,
            content_type: Blob::default(),
            content: Blob(self.contents.message(self.client_seq)),
            extensions: Vec::new(),
        };
        let ack: Ack = body(&ask(&mut link, Kind::Send, &send).await?)?;
        let pull = Pull {
            session: self.session.clone(),
            from_seq: 1,
            direction: Direction::Forward,
            max_count: PAGE.0,
            max_bytes: PAGE.1,
            consistency: Consistency::Linearizable,
        };
        let page: Page = body(&ask(&mut link, Kind::Pull, &pull).await?)?;
        if ack.seq <= self.stored || page.last_seq < ack.seq || page.records.is_empty() {
            bail!(
                "{}: seq {} was given behind {}, the page holds {} records of {}",
                self.session,
                ack.seq,
                self.stored,
                page.records.len(),
                page.last_seq
            );
        }
        self.stored = ack.seq;
        Ok(())
    }
}

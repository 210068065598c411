//! One node is killed under a steady load, stays away, and comes back: how soon it has again all that the others have, and
//! what all of that costs those who send to the others.
//!
//! The load is an open loop through the nodes that stay. The node has caught up when every one of its shards has applied what
//! its peers knew as committed shortly before; since they go on committing, what was committed at that very instant nobody
//! could tell. Afterwards all that was acknowledged is read back, and then counted once more in the replicas of the node
//! that was away.

use std::collections::{BTreeMap, VecDeque};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::join_all;
use rookery_wire::request::{Consistency, Role};
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use super::Ground;
use super::args::{AwayArgs, BenchArgs, LoadArgs};
use super::connect::connect;
use super::load::{Run, make_sessions, measure};
use super::mix::Plan;
use super::phases::{Phase, Phases};
use super::readback;
use super::report::print;
use crate::check::cluster::{Cluster, OwnCluster};
use crate::http::fetch;

/// Messages of one sender in flight, at most.
const WINDOW: usize = 256;
/// Connecting may take this long.
const BEGIN: Duration = Duration::from_secs(60);
/// Before anything is counted.
const WARMUP: Duration = Duration::from_secs(2);
/// Coming back may take as long as the node was away, or this where that is less.
const CATCH_UP: Duration = Duration::from_secs(60);
/// So old may be what the peers have said that they had committed.
const FRESH: Duration = Duration::from_millis(200);
/// Between two looks, and the deadline of one.
const LOOK: Duration = Duration::from_millis(20);
const STATUS: Duration = Duration::from_millis(500);
/// After the load, its replicas may need so long for the last messages.
const REST: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct AwayReport {
    away_seconds: f64,
    rate: f64,
    senders: u32,
    size: usize,
    acked: u64,
    /// Whether all that was due was sent and acknowledged.
    kept_rate: bool,
    /// How late 99 of 100 messages went out at most, milliseconds.
    late_p99_ms: f64,
    /// From the start of the process until it had everything, seconds …
    caught_up_seconds: f64,
    /// … and that as percent of the time that it was away.
    caught_up_percent: f64,
    /// Shards of which it took a snapshot, and not the log.
    snapshots_installed: u64,
    /// Latencies of those who send to the other nodes: while all nodes were there …
    before: Phase,
    /// … while one was away, its end and the elections after it included …
    away: Phase,
    /// … and while it came back.
    back: Phase,
    /// The two p99s by that of before.
    p99_ratio_away: f64,
    p99_ratio_back: f64,
    /// Acknowledged messages that the cluster has …
    read_back: u64,
    /// … and that the replicas of the node have which was away.
    read_back_there: u64,
    seed: u64,
}

/// Runs `rookery bench away`.
pub(super) async fn run(args: &BenchArgs, away: &AwayArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.nodes == 3, "this mode takes three nodes: each has a replica of every shard then");
    let mut ground = Ground::prepare(args).await?;
    let mut own = ground.own.take().context("this mode needs a cluster of its own; leave --config out")?;
    // Nobody connects to the one that goes.
    let (gone, addr) = ground.nodes.pop().context("a cluster has nodes")?;
    let load = shape(away);
    let plan = Plan::of(&load)?;
    make_sessions(&ground, &plan, &load).await?;
    let phases = Phases::new(4)?;
    let times = Times { before: seconds(away.before), away: seconds(away.away) };
    let run = Run {
        warmup: Duration::ZERO,
        length: WARMUP + times.before + times.away + times.catch_up(),
        most: u64::MAX,
        phases: Some(phases.clone()),
    };
    let (report, (caught_up, snapshots_installed)) = Box::pin(async {
        tokio::try_join!(measure(&ground, &plan, &load, &run), absence(&mut own, gone, &phases, &times))
    })
    .await?;
    ensure!(
        report.read_back >= report.acked_in_all,
        "{} messages were acknowledged, {} are there",
        report.acked_in_all,
        report.read_back
    );
    let read_back_there = read_there(&ground, &plan, &addr, report.read_back).await?;
    let [_, before, while_away, back] =
        phases.report().try_into().map_err(|_| anyhow::anyhow!("a phase is missing"))?;
    let ratio = |phase: &Phase| phase.p99_ms / before.p99_ms.max(0.001);
    let report = AwayReport {
        away_seconds: away.away,
        rate: away.rate,
        senders: load.senders,
        size: load.size,
        acked: report.acked_in_all,
        kept_rate: report.unsent == 0,
        late_p99_ms: report.late_p99_ms.unwrap_or_default(),
        caught_up_seconds: caught_up.as_secs_f64(),
        caught_up_percent: caught_up.as_secs_f64() * 100.0 / away.away,
        snapshots_installed,
        p99_ratio_away: ratio(&while_away),
        p99_ratio_back: ratio(&back),
        before,
        away: while_away,
        back,
        read_back: report.read_back,
        read_back_there,
        seed: ground.seed,
    };
    print(args.json, &report, &words(&report))?;
    Ok(ExitCode::SUCCESS)
}

fn seconds(of: f64) -> Duration {
    Duration::from_secs_f64(of)
}

fn shape(away: &AwayArgs) -> LoadArgs {
    LoadArgs {
        senders: away.senders,
        window: WINDOW,
        rate: Some(away.rate),
        direct: 0,
        // One for each sender: what waits for an election holds up nothing else.
        sessions: Some(away.senders),
        size: away.size,
        receivers: 0,
        seconds: away.away,
        warmup: 0.0,
        at_leader: false,
        library: false,
        markdown: false,
        plot: None,
    }
}

struct Times {
    before: Duration,
    away: Duration,
}

impl Times {
    fn catch_up(&self) -> Duration {
        self.away.max(CATCH_UP)
    }
}

/// Kills the node and brings it back, and says so to the senders: how long it needed, and snapshots it took.
async fn absence(
    own: &mut OwnCluster,
    gone: u16,
    phases: &Phases,
    times: &Times,
) -> anyhow::Result<(Duration, u64)> {
    let begun = phases.begun(BEGIN).await?;
    sleep_until(begun + WARMUP).await;
    phases.turn(Instant::now());
    sleep(times.before).await;
    let left = Instant::now();
    phases.turn(left);
    own.kill(gone).await?;
    sleep_until(left + times.away).await;
    own.alive()?;
    let started = Instant::now();
    phases.turn(started);
    own.start(gone).await?;
    let caught_up = catch_up(own, gone, started + times.catch_up()).await?;
    phases.turn(caught_up);
    let snapshots = own.installed().await.get(&gone).copied().unwrap_or_default();
    Ok((caught_up - started, snapshots))
}

/// By shard.
type Indexes = BTreeMap<u32, u64>;

/// Waits until the node has all that its peers have committed; since when it has.
async fn catch_up(own: &mut OwnCluster, gone: u16, until: Instant) -> anyhow::Result<Instant> {
    let http = |own: &OwnCluster, is: bool| -> Vec<String> {
        let those = own.processes().into_iter().filter(|(node, _, _)| (*node == gone) == is);
        those.map(|(_, _, http)| http).collect()
    };
    let (there, peers) = (http(own, true), http(own, false));
    let there = there.first().context("the node that was away")?;
    let mut said: VecDeque<(Instant, Indexes)> = VecDeque::new();
    loop {
        let asked = Instant::now();
        let mut committed = Indexes::new();
        for status in join_all(peers.iter().map(|http| fetch::status(http, STATUS))).await {
            // One that does not answer in time would leave the others' word; a follower may know less than there is.
            for shard in status.context("the status of a peer")?.shards {
                let known = committed.entry(shard.id).or_default();
                *known = shard.committed.max(*known);
            }
        }
        said.push_back((asked, committed));
        said.retain(|(asked, _)| asked.elapsed() <= FRESH);
        if let Ok(status) = fetch::status(there, STATUS).await {
            let now = Instant::now();
            let applied: Indexes = status.shards.iter().map(|shard| (shard.id, shard.applied)).collect();
            if said.iter().any(|(asked, committed)| now - *asked <= FRESH && has(&applied, committed)) {
                return Ok(now);
            }
        }
        own.alive()?;
        ensure!(
            Instant::now() < until,
            "node {gone} had not caught up in time; see {}",
            own.log(gone).display()
        );
        sleep(LOOK).await;
    }
}

fn has(applied: &Indexes, committed: &Indexes) -> bool {
    committed.iter().all(|(shard, index)| applied.get(shard).is_some_and(|applied| applied >= index))
}

/// Counts what the node's own replicas hold, until that is all.
async fn read_there(ground: &Ground, plan: &Plan, addr: &str, all: u64) -> anyhow::Result<u64> {
    let mut link = connect(addr, &plan.backend()?, Role::Service, &ground.token).await?;
    let _reading = ground.progress.open("reading back where it was away");
    let until = Instant::now() + REST;
    loop {
        let mut found = 0;
        for session in &plan.sessions {
            found += readback::count(&mut link, session, Consistency::Replica).await?.countable;
        }
        if found == all {
            return Ok(found);
        }
        ensure!(
            Instant::now() < until,
            "{found} of {all} messages are in the replicas of the node that was away"
        );
        sleep(LOOK).await;
    }
}

fn words(report: &AwayReport) -> String {
    let phase = |phase: &Phase| {
        format!("p50 {:.2}, p99 {:.2}, max {:.0} ms", phase.p50_ms, phase.p99_ms, phase.max_ms)
    };
    let kept = if report.kept_rate { "" } else { ", which was NOT kept" };
    format!(
        "bench away: a node was away for {:.0} s under {:.0} messages/s of {} B{kept}: it had everything {:.2} s after its start, \
         {:.1} % of that ({} shards by snapshot)\n\
         bench away: those who send to the others: {} before, {} while it was away ({:.2} times), {} while it came back \
         ({:.2} times); sent at most {:.2} ms late (p99)\n\
         bench away: read back {} of {} acked, {} of them where it was away; seed {}",
        report.away_seconds,
        report.rate,
        report.size,
        report.caught_up_seconds,
        report.caught_up_percent,
        report.snapshots_installed,
        phase(&report.before),
        phase(&report.away),
        report.p99_ratio_away,
        phase(&report.back),
        report.p99_ratio_back,
        report.late_p99_ms,
        report.read_back,
        report.acked,
        report.read_back_there,
        report.seed,
    )
}

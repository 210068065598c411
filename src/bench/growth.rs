//! What a message costs when there is ten and a hundred times as much of something: sessions, members who are not online,
//! messages stored before.
//!
//! Cost is the time that the nodes' processes were on a core for each message acknowledged, at a rate that is the same
//! throughout: what else the machine does changes that less than it changes how fast a message can be. Every figure is of a
//! cluster of its own, and every load is read back.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use super::Ground;
use super::args::{BenchArgs, Dimension, GrowthArgs, LoadArgs};
use super::fill::fill;
use super::load::{Run, make_sessions, measure};
use super::mix::Plan;
use super::phases::Phases;
use super::report::print;
use super::usage::on_cores;
use crate::check::cluster::OwnCluster;

/// Senders, at most one for each session, and what each has in flight at most.
const SENDERS: u32 = 64;
const WINDOW: usize = 256;
/// Groups in which the members grow, members online in each, and sessions in which the history grows.
const GROUPS: u32 = 8;
const ONLINE: u32 = 2;
const SESSIONS: u32 = 64;
/// Connecting may take this long.
const BEGIN: Duration = Duration::from_secs(60);
/// Between what is made or stored before and the load: checkpoints of what changed little come up to eight of their periods later.
const SETTLED: Duration = Duration::from_secs(10);
/// Before anything is counted.
const WARMUP: Duration = Duration::from_secs(2);
/// The rate was kept if this part of what was due in some seconds was answered in them, whenever it was due.
const KEPT: f64 = 0.98;
/// Between the end of what is measured and that of the load, at most.
const BREATH: Duration = Duration::from_secs(5);

/// One size of one thing.
#[derive(Serialize)]
struct Point {
    grows: Dimension,
    /// How many there are.
    count: u64,
    /// Messages answered in the seconds that are measured.
    messages: u64,
    /// Time of all nodes on a core for each of them, microseconds …
    cpu_us: f64,
    /// … by that of the first size of this thing.
    cpu_ratio: f64,
    /// From the time at which a message was due.
    p50_ms: f64,
    p99_ms: f64,
    /// Whether all that was due was sent, and as much answered in the same seconds.
    kept_rate: bool,
    acked: u64,
    read_back: u64,
}

#[derive(Serialize)]
struct GrowthReport {
    rate: f64,
    seconds: f64,
    size: usize,
    points: Vec<Point>,
    seed: u64,
}

/// Runs `rookery bench growth`.
pub(super) async fn run(args: &BenchArgs, growth: &GrowthArgs) -> anyhow::Result<ExitCode> {
    // Then each session has messages of every load, and what is read back of it is its whole history.
    ensure!(growth.rate >= f64::from(SESSIONS), "the rate has to be {SESSIONS} messages/s at least");
    // One seed for all of them.
    let seed = args.seed.unwrap_or_else(rand::random);
    let args = BenchArgs { seed: Some(seed), ..args.clone() };
    let mut points: Vec<Point> = Vec::new();
    for grows in &growth.of {
        let mut first = None;
        for count in growth.steps.clone().unwrap_or_else(|| steps(*grows)) {
            let mut point = Box::pin(measured(&args, growth, *grows, count)).await?;
            point.cpu_ratio = point.cpu_us / *first.get_or_insert(point.cpu_us);
            points.push(point);
        }
    }
    let report = GrowthReport { rate: growth.rate, seconds: growth.seconds, size: growth.size, points, seed };
    let head = format!(
        "bench growth: {:.0} messages/s of {} B for {:.1} s; seed {}",
        report.rate, report.size, report.seconds, report.seed
    );
    let text =
        if growth.markdown { table(&report.points) } else { format!("{head}\n\n{}", table(&report.points)) };
    print(args.json, &report, &text)?;
    Ok(ExitCode::SUCCESS)
}

/// Once, ten times, a hundred times.
fn steps(grows: Dimension) -> Vec<u64> {
    match grows {
        Dimension::Sessions | Dimension::Members => vec![100, 1_000, 10_000],
        Dimension::History => vec![10_000, 100_000, 1_000_000],
    }
}

async fn measured(
    args: &BenchArgs,
    growth: &GrowthArgs,
    grows: Dimension,
    count: u64,
) -> anyhow::Result<Point> {
    let mut ground = Ground::prepare(args).await?;
    let own = ground.own.take().context("this mode needs clusters of its own; leave --config out")?;
    let most = u32::try_from(count).ok().filter(|count| (1..=100_000).contains(count));
    let few = || most.context("at most 100000 sessions or members");
    let (load, plan, before) = match grows {
        Dimension::Sessions => {
            let load = shape(growth, few()?, 0);
            let plan = Plan::of(&load)?;
            make_sessions(&ground, &plan, &load).await?;
            (load, plan, 0)
        }
        Dimension::Members => {
            let load = shape(growth, GROUPS, ONLINE);
            let plan = Plan::of(&load)?.with_absent(few()?);
            make_sessions(&ground, &plan, &load).await?;
            (load, plan, 0)
        }
        Dimension::History => {
            let (plan, stored) = fill(&ground, SESSIONS, count, growth.size).await?;
            (shape(growth, SESSIONS, 0), plan, stored)
        }
    };
    let settling = ground.progress.timed("what was made settles", SETTLED);
    sleep(SETTLED).await;
    drop(settling);
    let phases = Phases::new(2)?;
    let length = Duration::from_secs_f64(growth.seconds);
    let run = Run {
        warmup: Duration::ZERO,
        length: WARMUP + length + BREATH,
        most: u64::MAX,
        phases: Some(phases.clone()),
    };
    let (report, seconds) =
        tokio::try_join!(measure(&ground, &plan, &load, &run), watch(&own, &phases, length))?;
    let read_back = report.read_back.saturating_sub(before);
    ensure!(
        read_back >= report.acked_in_all,
        "{} messages were acknowledged, {read_back} are there",
        report.acked_in_all,
    );
    let phase = phases.report().pop().context("a phase that was measured")?;
    Ok(Point {
        grows,
        count,
        messages: phase.answered,
        cpu_us: seconds * 1e6 / phase.answered.max(1) as f64,
        cpu_ratio: 1.0,
        p50_ms: phase.p50_ms,
        p99_ms: phase.p99_ms,
        kept_rate: report.unsent == 0 && phase.answered as f64 >= KEPT * phase.messages as f64,
        acked: report.acked_in_all,
        read_back,
    })
}

fn shape(growth: &GrowthArgs, sessions: u32, receivers: u32) -> LoadArgs {
    LoadArgs {
        senders: sessions.min(SENDERS),
        window: WINDOW,
        rate: Some(growth.rate),
        direct: 0,
        sessions: Some(sessions),
        size: growth.size,
        receivers,
        seconds: growth.seconds,
        warmup: 0.0,
        at_leader: false,
        library: false,
        markdown: false,
        plot: None,
    }
}

/// Ends the load after so long a time; how many seconds the nodes were on a core within it.
async fn watch(own: &OwnCluster, phases: &Phases, length: Duration) -> anyhow::Result<f64> {
    let all = || anyhow::Ok(on_cores(own)?.into_iter().map(|(_, seconds)| seconds).sum::<f64>());
    let begun = phases.begun(BEGIN).await?;
    sleep_until(begun + WARMUP).await;
    let before = all()?;
    phases.turn(Instant::now());
    sleep(length).await;
    let after = all()?;
    phases.turn(Instant::now());
    Ok(after - before)
}

fn table(points: &[Point]) -> String {
    let mut table = "| what grows | to | CPU µs a message, all nodes | times the first | p50 ms | p99 ms | messages | read back |\n\
                     |---|---|---|---|---|---|---|---|"
        .to_owned();
    for point in points {
        let kept = if point.kept_rate { "" } else { ", rate not kept" };
        table += &format!(
            "\n| {} | {} | {:.1} | {:.2} | {:.2} | {:.2} | {}{kept} | {} of {} |",
            point.grows.name(),
            point.count,
            point.cpu_us,
            point.cpu_ratio,
            point.p50_ms,
            point.p99_ms,
            point.messages,
            point.read_back,
            point.acked,
        );
    }
    table
}

//! A group at full speed beside others: how long a message of a quiet session takes, alone, next to it, and next to threads
//! that compute and send nothing: on a machine whose cores nodes and driver share, what these cost is no cost of the group.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use rookery_wire::request::{Role, Send};
use rookery_wire::{Blob, GroupId, Kind, SessionId, UserId};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use super::Ground;
use super::args::{BenchArgs, HotArgs};
use super::connect::{ask, connect, create_group};
use super::content::Contents;
use super::report::print;
use super::send::{Sender, Span};
use crate::check::link::Link;

/// Messages in flight of each sender of the hot group.
const WINDOW: usize = 256;
/// Content of every message, bytes.
const SIZE: usize = 256;
/// Before anything is counted.
const WARMUP: Duration = Duration::from_secs(2);

/// Latencies of the quiet sessions, milliseconds.
#[derive(Serialize)]
struct Quiet {
    acked: u64,
    p50_ms: f64,
    p99_ms: f64,
    /// How late the driver's own timers were, p99: what it waits for a core itself, at either end of a message.
    timer_p99_ms: f64,
}

#[derive(Serialize)]
struct HotReport {
    quiet_sessions: u32,
    alone: Quiet,
    beside: Quiet,
    /// Beside threads that only compute, one for each core: what is left of the difference when the cluster does nothing else.
    beside_busy_cores: Quiet,
    /// How much longer the slowest of a hundred takes beside the hot group.
    p99_ratio: f64,
    /// The same beside busy cores.
    p99_ratio_busy_cores: f64,
    hot_senders: u32,
    hot_acked_per_second: f64,
    seed: u64,
}

/// Runs `rookery bench hot`.
pub(super) async fn run(args: &BenchArgs, hot: &HotArgs) -> anyhow::Result<ExitCode> {
    let ground = Ground::prepare(args).await?;
    let tag = format!("h{:x}", rand::random::<u32>());
    let length = Duration::from_secs_f64(hot.seconds);
    let mut quiet = Vec::new();
    for at in 0..hot.quiet {
        quiet.push(Talker::new(&ground, &tag, at).await?);
    }
    let talking = ground.progress.timed("quiet sessions alone", WARMUP + length);
    let (quiet, alone) = talk(quiet, length).await?;
    drop(talking);
    let heard = hot_senders(&ground, &tag, hot.senders).await?;
    let from = Instant::now() + WARMUP;
    let span = Span { from, to: from + length + WARMUP, most: u64::MAX };
    let mut sending: JoinSet<_> = heard.into_iter().map(|sender| sender.run(span)).collect();
    let talking = ground.progress.timed("quiet sessions beside a hot one", WARMUP + length);
    let (quiet, beside) = talk(quiet, length).await?;
    drop(talking);
    let mut acked = 0;
    while let Some(sent) = sending.join_next().await {
        acked += sent??.latency.len();
    }
    let talking = ground.progress.timed("quiet sessions beside busy cores", WARMUP + length);
    let busy = BusyCores::start();
    let (_, beside_busy_cores) = talk(quiet, length).await?;
    drop((busy, talking));
    let ratio = |quiet: &Quiet| quiet.p99_ms / alone.p99_ms.max(0.001);
    let report = HotReport {
        quiet_sessions: hot.quiet,
        p99_ratio: ratio(&beside),
        p99_ratio_busy_cores: ratio(&beside_busy_cores),
        alone,
        beside,
        beside_busy_cores,
        hot_senders: hot.senders,
        hot_acked_per_second: acked as f64 / (length + WARMUP).as_secs_f64(),
        seed: ground.seed,
    };
    let line = format!(
        "bench hot: {} quiet sessions: p50 {:.2}, p99 {:.2} ms alone; p50 {:.2}, p99 {:.2} ms beside a group that takes {:.0} \
         messages/s ({:.1} times); p50 {:.2}, p99 {:.2} ms beside threads that only compute ({:.1} times); the driver's own \
         timers fire {:.2}, {:.2} and {:.2} ms late (p99)",
        report.quiet_sessions,
        report.alone.p50_ms,
        report.alone.p99_ms,
        report.beside.p50_ms,
        report.beside.p99_ms,
        report.hot_acked_per_second,
        report.p99_ratio,
        report.beside_busy_cores.p50_ms,
        report.beside_busy_cores.p99_ms,
        report.p99_ratio_busy_cores,
        report.alone.timer_p99_ms,
        report.beside.timer_p99_ms,
        report.beside_busy_cores.timer_p99_ms,
    );
    print(args.json, &report, &line)?;
    Ok(ExitCode::SUCCESS)
}

/// Threads that compute until this is dropped, one for each core.
struct BusyCores {
    over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl BusyCores {
    fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let spin = |over: Arc<AtomicBool>| {
            move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        };
        let threads = (0..cores).map(|_| std::thread::spawn(spin(over.clone()))).collect();
        Self { over, threads }
    }
}

impl Drop for BusyCores {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It does nothing that could panic.
            let _ = thread.join();
        }
    }
}

async fn hot_senders(ground: &Ground, tag: &str, count: u32) -> anyhow::Result<Vec<Sender>> {
    let session = SessionId::group(GroupId::new(&format!("{tag}-hot"))?);
    let users: Vec<UserId> =
        (0..count).map(|at| UserId::new(&format!("{tag}-hot-{at}"))).collect::<Result<_, _>>()?;
    let (_, addr) = ground.nodes.first().context("a cluster has nodes")?;
    let backend = UserId::new(&format!("{tag}-backend"))?;
    let mut backend = connect(addr, &backend, Role::Service, &ground.token).await?;
    create_group(&mut backend, &session, &users).await?;
    let mut senders = Vec::new();
    for (at, user) in users.iter().enumerate() {
        let (_, addr) = &ground.nodes[at % ground.nodes.len()];
        let link = connect(addr, user, Role::User, &ground.token).await?;
        let contents = Contents::new(ground.seed, at as u64, SIZE);
        senders.push(Sender::new(link, vec![session.clone()], WINDOW, contents, 1)?);
    }
    Ok(senders)
}

/// One user who writes to itself and a friend, a message every [`Talker::PACE`].
struct Talker {
    link: Link,
    session: SessionId,
    contents: Contents,
    next: u64,
}

impl Talker {
    const PACE: Duration = Duration::from_millis(20);

    async fn new(ground: &Ground, tag: &str, at: u32) -> anyhow::Result<Self> {
        let (user, friend) =
            (UserId::new(&format!("{tag}-quiet-{at}"))?, UserId::new(&format!("{tag}-friend-{at}"))?);
        let session = SessionId::direct(&user, &friend)?;
        let (_, addr) = &ground.nodes[at as usize % ground.nodes.len()];
        let link = connect(addr, &user, Role::User, &ground.token).await?;
        let contents = Contents::new(ground.seed, u64::from(at) << 32, SIZE);
        Ok(Self { link, session, contents, next: 1 })
    }

    /// Latencies in µs of what was sent after the warm-up, and how late it went out.
    async fn talk(mut self, span: Span) -> anyhow::Result<(Self, Histogram<u64>, Histogram<u64>)> {
        let mut latency = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        let mut timer = latency.clone();
        let mut pace = interval(Self::PACE);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut free = Instant::now();
        while free < span.to {
            let due = pace.tick().await;
            // One that waited for its answer beyond its time goes on from there, and is not late.
            let late = due.max(free).elapsed();
            let send = Send {
                session: self.session.clone(),
                client_seq: self.next,
                on_behalf_of: None,
                content_type: Blob::default(),
                content: Blob(self.contents.message(self.next)),
                extensions: Vec::new(),
            };
            let began = Instant::now();
            ask(&mut self.link, Kind::Send, &send).await?;
            self.next += 1;
            free = Instant::now();
            if began >= span.from {
                latency.saturating_record(began.elapsed().as_micros() as u64);
                timer.saturating_record(late.as_micros() as u64);
            }
        }
        Ok((self, latency, timer))
    }
}

async fn talk(talkers: Vec<Talker>, length: Duration) -> anyhow::Result<(Vec<Talker>, Quiet)> {
    let from = Instant::now() + WARMUP;
    let span = Span { from, to: from + length, most: u64::MAX };
    let mut talking: JoinSet<_> = talkers.into_iter().map(|talker| talker.talk(span)).collect();
    let (mut back, mut latency) = (Vec::new(), Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?);
    let mut timer = latency.clone();
    while let Some(talked) = talking.join_next().await {
        let (talker, of_one, late) = talked??;
        latency.add(&of_one)?;
        timer.add(&late)?;
        back.push(talker);
    }
    let ms = |of: &Histogram<u64>, quantile| of.value_at_quantile(quantile) as f64 / 1000.0;
    let quiet = Quiet {
        acked: latency.len(),
        p50_ms: ms(&latency, 0.5),
        p99_ms: ms(&latency, 0.99),
        timer_p99_ms: ms(&timer, 0.99),
    };
    Ok((back, quiet))
}

//! A group at full speed beside others: how long a message of a quiet session takes, alone and next to it.

use std::process::ExitCode;
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
    /// How much longer the slowest of a hundred takes.
    p99_ratio: f64,
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
    let (_, beside) = talk(quiet, length).await?;
    drop(talking);
    let mut acked = 0;
    while let Some(sent) = sending.join_next().await {
        acked += sent??.latency.len();
    }
    let report = HotReport {
        quiet_sessions: hot.quiet,
        p99_ratio: beside.p99_ms / alone.p99_ms.max(0.001),
        alone,
        beside,
        hot_senders: hot.senders,
        hot_acked_per_second: acked as f64 / (length + WARMUP).as_secs_f64(),
        seed: ground.seed,
    };
    let line = format!(
        "bench hot: {} quiet sessions: p50 {:.2}, p99 {:.2} ms alone; p50 {:.2}, p99 {:.2} ms beside a group that takes {:.0} \
         messages/s ({:.1} times); the driver's own timers fire {:.2} and {:.2} ms late (p99)",
        report.quiet_sessions,
        report.alone.p50_ms,
        report.alone.p99_ms,
        report.beside.p50_ms,
        report.beside.p99_ms,
        report.hot_acked_per_second,
        report.p99_ratio,
        report.alone.timer_p99_ms,
        report.beside.timer_p99_ms,
    );
    print(args.json, &report, &line)?;
    Ok(ExitCode::SUCCESS)
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
        senders.push(Sender::new(link, session.clone(), WINDOW, contents, 1)?);
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
        // One that waited for its answer beyond its time goes on from there, and is not late.
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while Instant::now() < span.to {
            let due = pace.tick().await;
            let late = due.elapsed();
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

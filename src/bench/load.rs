//! The load: prepare sessions and connections, send, gather, read back.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use rookery_wire::request::{Consistency, Role};
use rookery_wire::{SessionId, UserId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::args::{BenchArgs, LoadArgs};
use super::connect::{connect, create_group, sync};
use super::content::Contents;
use super::library::LibrarySender;
use super::mix::Plan;
use super::pace::Schedule;
use super::phases::{Phases, Recorder};
use super::progress::Bar;
use super::report::{LoadReport, markdown, print};
use super::send::{Sender, Sent, Span};
use super::slices::Slices;
use super::{Ground, plot, readback, receive};
use crate::check::cluster::Cluster;

/// A rate counts as kept when so much of it was acknowledged within the span.
const KEPT: f64 = 0.99;
/// Between the last connection and the first message.
const BREATH: Duration = Duration::from_millis(300);

/// Runs `rookery bench load`.
pub(super) async fn run(args: &BenchArgs, load: &LoadArgs) -> anyhow::Result<ExitCode> {
    let ground = Ground::prepare(args).await?;
    let report = once(&ground, load).await?;
    if load.markdown {
        markdown(std::slice::from_ref(&report))?;
    } else {
        print(args.json, &report, &report.line())?;
    }
    if let Some(path) = &load.plot {
        plot::over_time(path, &report)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One run with sessions of its own.
pub(super) async fn once(ground: &Ground, load: &LoadArgs) -> anyhow::Result<LoadReport> {
    let span = Duration::from_secs_f64(load.seconds);
    let warmup = Duration::from_secs_f64(load.warmup);
    let plan = Plan::of(load)?;
    make_sessions(ground, &plan, load).await?;
    let report =
        measure(ground, &plan, load, &Run { warmup, length: span, most: u64::MAX, phases: None }).await?;
    if report.read_back < report.acked_in_all {
        bail!("{} messages were acknowledged, {} are there", report.acked_in_all, report.read_back);
    }
    Ok(report)
}

/// How long a load lasts.
pub(super) struct Run {
    /// Before anything is counted.
    pub(super) warmup: Duration,
    /// Measured.
    pub(super) length: Duration,
    /// Messages per sender, at most.
    pub(super) most: u64,
    /// Told when the load begins, and may end it before its time; of a load over the client library nothing is noted in them.
    pub(super) phases: Option<Arc<Phases>>,
}

/// Makes the groups of a plan, with all who speak or listen in them.
///
/// # Errors
/// A request that was refused.
pub(super) async fn make_sessions(ground: &Ground, plan: &Plan, load: &LoadArgs) -> anyhow::Result<()> {
    let (_, first) = ground.nodes.first().context("a cluster has nodes")?;
    let mut backend = connect(first, &plan.backend()?, Role::Service, &ground.token).await?;
    let making = ground.progress.counted("making sessions", plan.sessions.len() as u64);
    let mut speakers: HashMap<&SessionId, Vec<UserId>> = HashMap::new();
    for sender in 0..load.senders.max(1) {
        for session in plan.sessions_of(sender, load.senders.max(1)) {
            speakers.entry(session).or_default().push(plan.sender(sender)?);
        }
    }
    for (at, session) in plan.sessions.iter().enumerate() {
        let mut users = speakers.remove(session).unwrap_or_default();
        for receiver in 0..load.receivers {
            users.push(plan.receiver(at, receiver)?);
        }
        for absent in plan.absent() {
            users.push(absent?);
        }
        create_group(&mut backend, session, &users).await?;
        making.inc(1);
    }
    Ok(())
}

/// One measured run in sessions that are there, read back in the end: acknowledged messages of which the sessions know less
/// than was told of them are an error.
///
/// # Errors
/// What kept it from measuring, and what is missing.
pub(super) async fn measure(
    ground: &Ground,
    plan: &Plan,
    load: &LoadArgs,
    run: &Run,
) -> anyhow::Result<LoadReport> {
    let &Run { warmup, length, most, ref phases } = run;
    let from = Instant::now() + warmup + BREATH;
    let mut span = Span { from, to: from + length, most };
    let many = u64::from(load.senders.max(1)) + (plan.sessions.len() * load.receivers as usize) as u64;
    let connecting = ground.progress.counted("connecting", many + plan.direct.len() as u64);
    let receivers = receivers(ground, load, plan, &connecting).await?;
    let (mut senders, mut clients) = (Vec::new(), Vec::new());
    for at in 0..load.senders.max(1) {
        let (mut sessions, addr) = place(ground, load, plan, at).await?;
        let user = plan.sender(at)?;
        let contents = Contents::new(ground.seed, u64::from(at), load.size);
        connecting.inc(1);
        if load.library {
            let everyone = ground.nodes.iter().map(|(_, addr)| addr.clone());
            let seeds = std::iter::once(addr).chain(everyone).collect();
            let session = sessions.pop().filter(|_| sessions.is_empty());
            let session = session.context(
                "--library has one session for each sender: give no more --sessions than --senders",
            )?;
            let client = LibrarySender::connect(seeds, user, &ground.token, session, load.window, contents);
            clients.push(client.await?);
        } else {
            let link = connect(&addr, &user, Role::User, &ground.token).await?;
            senders.push((at, Sender::new(link, sessions, load.window.max(1), contents, 1)?));
        }
    }
    drop(connecting);
    // Connecting takes its time: the clock starts when everybody is there.
    let begin = Instant::now();
    span.from = begin + warmup;
    span.to = span.from + length;
    if let Some(phases) = phases {
        phases.turn(begin);
    }
    let (pushed, lagged) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut listening = JoinSet::new();
    for link in receivers {
        listening.spawn(receive::count(link, span, pushed.clone(), lagged.clone()));
    }
    let waited = match most {
        u64::MAX => ground.progress.timed("sending", warmup + length),
        most => ground.progress.counted("sending", most.saturating_mul(senders.len() as u64)),
    };
    let mut sending = JoinSet::new();
    for (at, sender) in senders {
        let sender = if most == u64::MAX { sender } else { sender.telling(waited.counter()) };
        let sender = match phases {
            Some(phases) => sender.in_phases(Recorder::new(phases.clone())?),
            None => sender,
        };
        let sender = match load.rate {
            Some(rate) => sender.paced(Schedule::new(begin, rate, load.senders.max(1), at))?,
            None => sender,
        };
        sending.spawn(sender.run(span));
    }
    for client in clients {
        sending.spawn(client.run(span));
    }
    let mut all = Vec::new();
    while let Some(sent) = sending.join_next().await {
        all.push(sent??);
    }
    drop((listening, waited));
    let read_back = read_back(ground, plan, &all).await?;
    let pushed = pushed.load(Ordering::Relaxed);
    let pushes = (pushed, lagged.load(Ordering::Relaxed));
    report(load, plan, &all, length, pushes, read_back, ground.seed)
}

async fn receivers(
    ground: &Ground,
    load: &LoadArgs,
    plan: &Plan,
    connected: &Bar,
) -> anyhow::Result<Vec<crate::check::link::Link>> {
    let mut links = Vec::new();
    for at in 0..plan.sessions.len() {
        for receiver in 0..load.receivers {
            let node = ground.nodes.get(links.len() % ground.nodes.len().max(1));
            let (_, addr) = node.context("a cluster has nodes")?;
            let user = plan.receiver(at, receiver)?;
            let mut link = connect(addr, &user, Role::User, &ground.token).await?;
            sync(&mut link).await?;
            links.push(link);
            connected.inc(1);
        }
    }
    // Whoever is written to directly is there too: at another node than the one who writes, where there are several.
    for at in 0..plan.direct.len() {
        let node = ground.nodes.get((at + 1) % ground.nodes.len().max(1));
        let (_, addr) = node.context("a cluster has nodes")?;
        let mut link = connect(addr, &plan.peer(at as u32)?, Role::User, &ground.token).await?;
        sync(&mut link).await?;
        links.push(link);
        connected.inc(1);
    }
    Ok(links)
}

/// The sessions of a sender and the node it connects to.
async fn place(
    ground: &Ground,
    load: &LoadArgs,
    plan: &Plan,
    at: u32,
) -> anyhow::Result<(Vec<SessionId>, String)> {
    let sessions = plan.sessions_of(at, load.senders.max(1));
    let leader = match (&ground.own, load.at_leader, sessions.as_slice()) {
        (Some(own), true, [session]) => own.leader_of(session).await,
        (Some(_), true, _) => {
            bail!("--at-leader needs one session for each sender: give no more --sessions than --senders")
        }
        (None, true, _) => bail!("--at-leader needs a cluster of its own; leave --config out"),
        _ => None,
    };
    let named = ground.nodes.iter().find(|(node, _)| Some(*node) == leader);
    let node = named.or_else(|| ground.nodes.get(at as usize % ground.nodes.len().max(1)));
    let (_, addr) = node.context("a cluster has nodes")?;
    Ok((sessions.into_iter().cloned().collect(), addr.clone()))
}

/// Counts every session, and holds what its senders were told against it.
async fn read_back(ground: &Ground, plan: &Plan, all: &[Sent]) -> anyhow::Result<u64> {
    let mut told: HashMap<&SessionId, (u64, u64)> = HashMap::new();
    for spoken in all.iter().flat_map(|sent| &sent.spoken) {
        let (acked, last) = told.entry(&spoken.session).or_default();
        *acked += spoken.acked;
        *last = spoken.last_seq.max(*last);
    }
    let mut found = 0;
    let read = ground.progress.counted("reading back sessions", plan.all().count() as u64);
    // One node after the other, for a device has one connection; and each reads its share.
    for (turn, (_, addr)) in ground.nodes.iter().enumerate() {
        let mut link = connect(addr, &plan.backend()?, Role::Service, &ground.token).await?;
        for session in plan.all().skip(turn).step_by(ground.nodes.len()) {
            read.inc(1);
            // A run that ended before a direct session's first message has nothing to read there.
            let Some((acked, last)) = told.get(session).copied().filter(|(acked, _)| *acked > 0) else {
                continue;
            };
            let held = readback::count(&mut link, session, Consistency::Linearizable).await?;
            if held.countable < acked || held.records < last {
                bail!(
                    "{session}: {acked} messages were acknowledged up to seq {last}, {} and {} records in all are there",
                    held.countable,
                    held.records
                );
            }
            found += held.countable;
        }
    }
    Ok(found)
}

fn report(
    load: &LoadArgs,
    plan: &Plan,
    all: &[Sent],
    length: Duration,
    (pushed, lagged): (u64, u64),
    read_back: u64,
    seed: u64,
) -> anyhow::Result<LoadReport> {
    let mut latency: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let (mut late, mut slices) = (latency.clone(), Slices::new()?);
    for sent in all {
        latency.add(&sent.latency)?;
        late.add(&sent.late)?;
        slices.add(&sent.slices)?;
    }
    let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
    let seconds = length.as_secs_f64();
    let acked: u64 = all.iter().map(|sent| sent.acked_in_span).sum();
    let unsent: u64 = all.iter().map(|sent| sent.unsent).sum();
    let acked_per_second = acked as f64 / seconds;
    Ok(LoadReport {
        senders: load.senders,
        window: load.window,
        sessions: plan.sessions.len() as u32,
        direct: load.direct,
        size: load.size,
        receivers: load.receivers,
        rate: load.rate,
        kept_rate: load.rate.map(|rate| unsent == 0 && acked_per_second >= rate * KEPT),
        late_p99_ms: load.rate.map(|_| late.value_at_quantile(0.99) as f64 / 1000.0),
        unsent,
        warmup: load.warmup,
        seconds,
        acked,
        acked_per_second,
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        p999_ms: ms(0.999),
        max_ms: latency.max() as f64 / 1000.0,
        over_time: slices.report(seconds),
        pushed_per_second: pushed as f64 / seconds,
        lagged,
        busy: all.iter().map(|sent| sent.busy).sum(),
        acked_in_all: all.iter().map(|sent| sent.acked).sum(),
        read_back,
        seed,
    })
}

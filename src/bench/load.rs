//! The closed loop: prepare sessions and connections, send, gather, read back.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use rookery_wire::request::Role;
use rookery_wire::{GroupId, SessionId, UserId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::args::{BenchArgs, LoadArgs};
use super::connect::{connect, create_group, sync};
use super::content::Contents;
use super::library::LibrarySender;
use super::report::{LoadReport, print};
use super::send::{Sender, Sent, Span};
use super::{Ground, readback, receive};
use crate::check::cluster::Cluster;

/// Between the last connection and the first message.
const BREATH: Duration = Duration::from_millis(300);

/// Runs `rookery bench load`.
pub(super) async fn run(args: &BenchArgs, load: &LoadArgs) -> anyhow::Result<ExitCode> {
    let ground = Ground::prepare(args).await?;
    let span = Duration::from_secs_f64(load.seconds);
    let warmup = Duration::from_secs_f64(load.warmup);
    let plan = Plan::of(load)?;
    let report = measure(&ground, &plan, load, warmup, span, u64::MAX).await?;
    print(args.json, &report, &report.line())?;
    if report.read_back < report.acked_in_all {
        bail!("{} messages were acknowledged, {} are there", report.acked_in_all, report.read_back);
    }
    Ok(ExitCode::SUCCESS)
}

/// Sessions and users of one run.
pub(super) struct Plan {
    tag: String,
    pub(super) sessions: Vec<SessionId>,
}

impl Plan {
    pub(super) fn of(load: &LoadArgs) -> anyhow::Result<Self> {
        let sessions = load.sessions.min(load.senders.max(1));
        let tag = format!("b{:x}", rand::random::<u32>());
        let name = |at| Ok(SessionId::group(GroupId::new(&format!("{tag}-session{at}"))?));
        let sessions = (0..sessions.max(1)).map(name).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { tag, sessions })
    }

    pub(super) fn sender(&self, at: u32) -> anyhow::Result<UserId> {
        Ok(UserId::new(&format!("{}-sender{at}", self.tag))?)
    }

    fn receiver(&self, session: usize, at: u32) -> anyhow::Result<UserId> {
        Ok(UserId::new(&format!("{}-receiver{session}-{at}", self.tag))?)
    }

    pub(super) fn backend(&self) -> anyhow::Result<UserId> {
        Ok(UserId::new(&format!("{}-backend", self.tag))?)
    }
}

/// One measured run; at most `most` messages per sender.
pub(super) async fn measure(
    ground: &Ground,
    plan: &Plan,
    load: &LoadArgs,
    warmup: Duration,
    length: Duration,
    most: u64,
) -> anyhow::Result<LoadReport> {
    let (_, first) = ground.nodes.first().context("a cluster has nodes")?;
    let mut backend = connect(first, &plan.backend()?, Role::Service, &ground.token).await?;
    for (at, session) in plan.sessions.iter().enumerate() {
        let senders = (0..load.senders).filter(|sender| *sender as usize % plan.sessions.len() == at);
        let mut users = senders.map(|sender| plan.sender(sender)).collect::<anyhow::Result<Vec<_>>>()?;
        for receiver in 0..load.receivers {
            users.push(plan.receiver(at, receiver)?);
        }
        create_group(&mut backend, session, &users).await?;
    }
    let from = Instant::now() + warmup + BREATH;
    let mut span = Span { from, to: from + length, most };
    let receivers = receivers(ground, load, plan).await?;
    let (mut senders, mut clients) = (Vec::new(), Vec::new());
    for at in 0..load.senders.max(1) {
        let (session, addr) = place(ground, load, plan, at).await?;
        let user = plan.sender(at)?;
        let contents = Contents::new(ground.seed, u64::from(at), load.size);
        if load.library {
            let everyone = ground.nodes.iter().map(|(_, addr)| addr.clone());
            let seeds = std::iter::once(addr).chain(everyone).collect();
            let client = LibrarySender::connect(seeds, user, &ground.token, session, load.window, contents);
            clients.push(client.await?);
        } else {
            let link = connect(&addr, &user, Role::User, &ground.token).await?;
            senders.push(Sender::new(link, session, load.window.max(1), contents, 1)?);
        }
    }
    // Connecting takes its time: the clock starts when everybody is there.
    span.from = Instant::now() + warmup;
    span.to = span.from + length;
    let (pushed, lagged) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut listening = JoinSet::new();
    for link in receivers {
        listening.spawn(receive::count(link, span, pushed.clone(), lagged.clone()));
    }
    let mut sending = JoinSet::new();
    for sender in senders {
        sending.spawn(sender.run(span));
    }
    for client in clients {
        sending.spawn(client.run(span));
    }
    let mut all = Vec::new();
    while let Some(sent) = sending.join_next().await {
        all.push(sent??);
    }
    drop(listening);
    let read_back = read_back(ground, plan, &all).await?;
    let pushed = pushed.load(Ordering::Relaxed);
    report(load, &all, length, pushed, lagged.load(Ordering::Relaxed), read_back, ground.seed)
}

async fn receivers(
    ground: &Ground,
    load: &LoadArgs,
    plan: &Plan,
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
        }
    }
    Ok(links)
}

/// The session of a sender and the node it connects to.
async fn place(
    ground: &Ground,
    load: &LoadArgs,
    plan: &Plan,
    at: u32,
) -> anyhow::Result<(SessionId, String)> {
    let session = plan.sessions.get(at as usize % plan.sessions.len()).context("a session")?;
    let leader = match (&ground.own, load.at_leader) {
        (Some(own), true) => own.leader_of(session).await,
        (None, true) => bail!("--at-leader needs a cluster of its own; leave --config out"),
        _ => None,
    };
    let named = ground.nodes.iter().find(|(node, _)| Some(*node) == leader);
    let node = named.or_else(|| ground.nodes.get(at as usize % ground.nodes.len().max(1)));
    let (_, addr) = node.context("a cluster has nodes")?;
    Ok((session.clone(), addr.clone()))
}

/// Counts every session, and holds each sender's last seq against it.
async fn read_back(ground: &Ground, plan: &Plan, all: &[Sent]) -> anyhow::Result<u64> {
    let reader = plan.backend()?;
    let mut found = 0;
    for (at, session) in plan.sessions.iter().enumerate() {
        let (_, addr) = ground.nodes.get(at % ground.nodes.len().max(1)).context("a cluster has nodes")?;
        let count = readback::count(addr, &reader, &ground.token, session).await?;
        let here = all.iter().filter(|sent| sent.session == *session);
        let (acked, last) =
            here.fold((0, 0), |(acked, last), sent| (acked + sent.acked, sent.last_seq.max(last)));
        // Seq 1 is the group's creation.
        if count < acked || count + 1 < last {
            bail!("{session}: {acked} messages were acknowledged up to seq {last}, {count} are there");
        }
        found += count;
    }
    Ok(found)
}

fn report(
    load: &LoadArgs,
    all: &[Sent],
    length: Duration,
    pushed: u64,
    lagged: u64,
    read_back: u64,
    seed: u64,
) -> anyhow::Result<LoadReport> {
    let mut latency: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    for sent in all {
        latency.add(&sent.latency)?;
    }
    let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
    let seconds = length.as_secs_f64();
    Ok(LoadReport {
        senders: load.senders,
        window: load.window,
        sessions: load.sessions,
        size: load.size,
        receivers: load.receivers,
        seconds,
        acked: latency.len(),
        acked_per_second: latency.len() as f64 / seconds,
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        p999_ms: ms(0.999),
        max_ms: latency.max() as f64 / 1000.0,
        pushed_per_second: pushed as f64 / seconds,
        lagged,
        busy: all.iter().map(|sent| sent.busy).sum(),
        acked_in_all: all.iter().map(|sent| sent.acked).sum(),
        read_back,
        seed,
    })
}

//! Many at the same instant: clients that ask for the same old page, members who read the same message.
//!
//! Everybody is connected first and waits at a gate; when it opens all ask at once, each its own connection, and every
//! answer is timed from the opening of the gate, so what waits in the queue of another counts.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bincode::Encode;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use rookery_wire::reply::{Page, ReadMark};
use rookery_wire::request::{Consistency, Direction, Pull, Read, Role};
use rookery_wire::{Frame, GroupId, Kind, SessionId, UserId};
use serde::Serialize;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::Ground;
use super::args::{BenchArgs, CrowdArgs};
use super::connect::{ask, connect, create_group};
use super::content::Contents;
use super::idle::in_parts;
use super::report::print;
use super::send::{Sender, Span};
use crate::check::link::{Link, body};
use crate::http::fetch;
use crate::status::CacheStatus;

/// Messages written first: the old ones are then neither in the ring nor in a page that was read.
const WRITTEN: u64 = 20_000;
/// Records of the page that everybody asks for, and its first seq: it is a whole page of the cache.
const PAGE: (u32, u64) = (64, 129);
/// How long the nodes may take to write all that down.
const WRITE: Duration = Duration::from_secs(30);
/// Deadline of one question about a node's status.
const STATUS: Duration = Duration::from_secs(2);

/// Times from the opening of the gate, milliseconds.
#[derive(Serialize)]
struct Times {
    asked: u64,
    p50_ms: f64,
    p99_ms: f64,
    last_ms: f64,
}

#[derive(Serialize)]
struct CrowdReport {
    clients: usize,
    /// All pull the same cold page, at its leader.
    cold_page: Times,
    /// Pages that the nodes read from disk for that.
    pages_loaded: u64,
    /// All pull the newest message.
    newest: Times,
    /// All say that they have read it.
    read: Times,
    seed: u64,
}

/// Runs `rookery bench crowd`.
pub(super) async fn run(args: &BenchArgs, crowd: &CrowdArgs) -> anyhow::Result<ExitCode> {
    let mut ground = Ground::prepare(args).await?;
    let tag = format!("w{:x}", rand::random::<u32>());
    let session = SessionId::group(GroupId::new(&tag)?);
    let users: Vec<UserId> =
        (0..crowd.clients).map(|at| UserId::new(&format!("{tag}-{at:06}"))).collect::<Result<_, _>>()?;
    let writing = ground.progress.counted("writing messages", WRITTEN);
    let last = write(&ground, &session, &tag, &users, writing.counter()).await?;
    drop(writing);
    let nodes = ground.nodes.clone();
    let placed = users.into_iter().enumerate().map(|(at, user)| (nodes[at % nodes.len()].1.clone(), user));
    let token = ground.token.clone();
    let connecting = ground.progress.counted("connecting", crowd.clients.into());
    let mut links = in_parts(connecting, placed.collect(), |(addr, user)| {
        let token = token.clone();
        async move { connect(&addr, &user, Role::User, &token).await }
    })
    .await?;

    let pull = |from_seq, max_count| Pull {
        session: session.clone(),
        from_seq,
        direction: Direction::Forward,
        max_count,
        max_bytes: 1 << 20,
        consistency: Consistency::Linearizable,
    };
    let waiting = ground.progress.open("waiting until old messages are out of memory");
    wait_until_cold(&mut ground, &mut links, &pull(1, 1)).await?;
    drop(waiting);
    let before = caches(&mut ground).await?;
    let records = |seq: u64, count: usize| {
        move |frame: &Frame| {
            let page: Page = body(frame)?;
            let (first, found) = (page.records.first().map(|record| record.seq), page.records.len());
            ensure!(first == Some(seq) && found == count, "a page of {found} records from {first:?}");
            Ok(())
        }
    };
    let cold = records(PAGE.1, PAGE.0 as usize);
    let (links, cold_page) = at_once(links, Kind::Pull, &pull(PAGE.1, PAGE.0), cold).await?;
    let after = caches(&mut ground).await?;
    let (links, newest) = at_once(links, Kind::Pull, &pull(last, 1), records(last, 1)).await?;
    let is_read = move |frame: &Frame| {
        let mark: ReadMark = body(frame)?;
        ensure!(mark.seq == last, "read up to {} and not {last}", mark.seq);
        Ok(())
    };
    let (links, read) = at_once(links, Kind::Read, &Read { session, seq: last }, is_read).await?;
    let report = CrowdReport {
        clients: links.len(),
        cold_page,
        pages_loaded: after.pages_loaded - before.pages_loaded,
        newest,
        read,
        seed: ground.seed,
    };
    let words = |times: &Times| {
        format!("p50 {:.0}, p99 {:.0}, last {:.0} ms", times.p50_ms, times.p99_ms, times.last_ms)
    };
    let line = format!(
        "bench crowd: {} clients at the same instant: a cold page {} ({} read from disk); the newest message {}; READ {}",
        report.clients,
        words(&report.cold_page),
        report.pages_loaded,
        words(&report.newest),
        words(&report.read),
    );
    print(args.json, &report, &line)?;
    Ok(ExitCode::SUCCESS)
}

/// A group of all these users with many messages; gives its last seq.
async fn write(
    ground: &Ground,
    session: &SessionId,
    tag: &str,
    users: &[UserId],
    written: ProgressBar,
) -> anyhow::Result<u64> {
    let (_, addr) = ground.nodes.first().context("a cluster has nodes")?;
    let backend = UserId::new(&format!("{tag}-backend"))?;
    let mut link = connect(addr, &backend, Role::Service, &ground.token).await?;
    create_group(&mut link, session, users).await?;
    let first = users.chunks(1_000).len() as u64 + 1;
    let sender = Sender::new(link, vec![session.clone()], 256, Contents::new(ground.seed, 0, 256), first)?
        .telling(written);
    let now = Instant::now();
    let sent = sender.run(Span { from: now, to: now + Duration::from_secs(120), most: WRITTEN }).await?;
    ensure!(sent.acked >= WRITTEN, "{} of {WRITTEN} messages were written in time", sent.acked);
    Ok(sent.spoken.iter().map(|spoken| spoken.last_seq).max().unwrap_or(0))
}

/// Until the oldest record is read from disk, which another page's is then as well.
async fn wait_until_cold(ground: &mut Ground, links: &mut [Link], oldest: &Pull) -> anyhow::Result<()> {
    let link = links.first_mut().context("a crowd has somebody")?;
    let (until, before) = (Instant::now() + WRITE, caches(ground).await?.pages_loaded);
    loop {
        ask(link, Kind::Pull, oldest).await?;
        if caches(ground).await?.pages_loaded > before {
            return Ok(());
        }
        ensure!(Instant::now() < until, "old messages are still in memory after {WRITE:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Of all nodes together.
pub(super) async fn caches(ground: &mut Ground) -> anyhow::Result<CacheStatus> {
    let mut sum = CacheStatus::default();
    for (_, _, http) in ground.own()?.processes() {
        let CacheStatus { sessions, sessions_resident, users_resident, pages_asked, pages_loaded } =
            fetch::status(&http, STATUS).await?.caches;
        sum.sessions += sessions;
        sum.sessions_resident += sessions_resident;
        sum.users_resident += users_resident;
        sum.pages_asked += pages_asked;
        sum.pages_loaded += pages_loaded;
    }
    Ok(sum)
}

/// All ask the same at the same instant, and every answer must be right.
async fn at_once<T>(
    links: Vec<Link>,
    kind: Kind,
    request: &T,
    right: impl Fn(&Frame) -> anyhow::Result<()> + Clone + Send + 'static,
) -> anyhow::Result<(Vec<Link>, Times)>
where
    T: Encode + Clone + Send + Sync + 'static,
{
    let gate = Arc::new(Barrier::new(links.len() + 1));
    let mut asking = JoinSet::new();
    for mut link in links {
        let (gate, request, right) = (gate.clone(), request.clone(), right.clone());
        asking.spawn(async move {
            gate.wait().await;
            let frame = ask(&mut link, kind, &request).await?;
            let answered = Instant::now();
            right(&frame)?;
            anyhow::Ok((link, answered))
        });
    }
    gate.wait().await;
    let opened = Instant::now();
    let mut times: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let mut links = Vec::with_capacity(asking.len());
    while let Some(asked) = asking.join_next().await {
        let (link, answered) = asked??;
        times.saturating_record(answered.saturating_duration_since(opened).as_micros() as u64);
        links.push(link);
    }
    let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
    let times = Times { asked: times.len(), p50_ms: ms(0.5), p99_ms: ms(0.99), last_ms: ms(1.0) };
    Ok((links, times))
}

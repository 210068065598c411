//! Memory of sessions that are there and idle: resident bytes of each node with few and with many, and how soon one of
//! them answers when it is used again.

use std::collections::HashMap;
use std::process::ExitCode;

use anyhow::{bail, ensure};
use indicatif::ProgressBar;
use rookery_wire::request::{Role, Send};
use rookery_wire::{Blob, ErrorBody, Kind, Retry, SessionId, UserId};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::Ground;
use super::args::{BenchArgs, SessionsArgs};
use super::connect::{ask, connect};
use super::content::Contents;
use super::crowd::caches;
use super::idle::{asleep, growth, most, settle};
use super::report::print;
use super::usage::{PerNode, resident};
use crate::check::link::{Link, body};

/// Users who begin sessions, each over a connection of its own; all others only are members.
const WRITERS: u64 = 128;
/// First messages of one writer under way.
const WINDOW: usize = 32;
/// Content of the one message of each session, bytes.
const SIZE: usize = 64;
/// How long a writer waits for an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Sessions that are used again.
const WOKEN: u64 = 200;

#[derive(Serialize)]
struct SessionsReport {
    sessions: u64,
    sessions_resident: u64,
    users_resident: u64,
    bytes_per_session: PerNode<f64>,
    resident_bytes_before: PerNode<u64>,
    resident_bytes_after: PerNode<u64>,
    /// From the SEND to a session that is not in memory to its ACK, milliseconds: median, 99th percentile, slowest.
    woken_ms: (f64, f64, f64),
    seed: u64,
}

/// Runs `rookery bench sessions`.
pub(super) async fn run(args: &BenchArgs, sessions: &SessionsArgs) -> anyhow::Result<ExitCode> {
    let mut ground = Ground::prepare(args).await?;
    let tag = format!("s{:x}", rand::random::<u32>());
    // The first ones pay for what is made once.
    let few = sessions.sessions / 100;
    begin(&ground, &tag, 0..few).await?;
    settle(&ground.progress, &mut []).await?;
    let before = resident(ground.own()?)?;
    begin(&ground, &tag, few..sessions.sessions).await?;
    settle(&ground.progress, &mut []).await?;
    let after = resident(ground.own()?)?;
    let caches = caches(&mut ground).await?;
    asleep(&mut ground, &mut []).await?;
    let mut links = Vec::new();
    for at in 0..WRITERS {
        links.push(join(&ground, &tag, at).await?);
    }
    let woken_ms = wake(&mut links, &tag, ground.seed, sessions.sessions).await?;
    let nodes = ground.nodes.len() as u64;
    let report = SessionsReport {
        // Every node has a replica of all of them, as long as there are no more than three.
        sessions: caches.sessions / nodes,
        sessions_resident: caches.sessions_resident / nodes,
        users_resident: caches.users_resident / nodes,
        bytes_per_session: growth(&before, &after, (sessions.sessions - few) as usize),
        resident_bytes_before: before,
        resident_bytes_after: after,
        woken_ms,
        seed: ground.seed,
    };
    let line = format!(
        "bench sessions: {} sessions, {} of them and {} users in memory: {:.0} B each at most, {:.0} MB a node; one that is \
         used again answers in {:.1} ms (p99 {:.1}, slowest {:.1})",
        report.sessions,
        report.sessions_resident,
        report.users_resident,
        most(&report.bytes_per_session) * 1024.0,
        report.resident_bytes_after.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0) as f64 / 1e6,
        report.woken_ms.0,
        report.woken_ms.1,
        report.woken_ms.2,
    );
    print(args.json, &report, &line)?;
    Ok(ExitCode::SUCCESS)
}

fn writer(tag: &str, at: u64) -> anyhow::Result<UserId> {
    Ok(UserId::new(&format!("{tag}-{}", at % WRITERS))?)
}

/// The session of that number: of a writer and somebody of whom nothing else is known.
fn session(tag: &str, number: u64) -> anyhow::Result<SessionId> {
    Ok(SessionId::direct(&writer(tag, number)?, &UserId::new(&format!("{tag}-to-{number:07}"))?)?)
}

fn message(tag: &str, seed: u64, number: u64, client_seq: u64) -> anyhow::Result<Send> {
    Ok(Send {
        session: session(tag, number)?,
        client_seq,
        on_behalf_of: None,
        content_type: Blob::default(),
        content: Blob(Contents::new(seed, number, SIZE).message(client_seq)),
        extensions: Vec::new(),
    })
}

/// A writer's connection.
async fn join(ground: &Ground, tag: &str, at: u64) -> anyhow::Result<Link> {
    let (_, addr) = &ground.nodes[at as usize % ground.nodes.len()];
    connect(addr, &writer(tag, at)?, Role::User, &ground.token).await
}

/// The first message of each of these sessions. Who is done hangs up: a connection that waits for the others would be ended as
/// idle.
async fn begin(ground: &Ground, tag: &str, numbers: std::ops::Range<u64>) -> anyhow::Result<()> {
    let begun = ground.progress.counted("beginning sessions", numbers.end - numbers.start);
    let mut writing = JoinSet::new();
    for at in 0..WRITERS {
        let own: Vec<u64> = numbers.clone().filter(|number| number % WRITERS == at).collect();
        let (link, tag, seed) = (join(ground, tag, at).await?, tag.to_owned(), ground.seed);
        let bar = begun.counter();
        writing.spawn(async move { write(link, &tag, seed, own, bar).await });
    }
    while let Some(written) = writing.join_next().await {
        written??;
    }
    Ok(())
}

async fn write(
    mut link: Link,
    tag: &str,
    seed: u64,
    mut numbers: Vec<u64>,
    begun: ProgressBar,
) -> anyhow::Result<()> {
    let mut flights: HashMap<u32, u64> = HashMap::new();
    while !(numbers.is_empty() && flights.is_empty()) {
        while flights.len() < WINDOW
            && let Some(number) = numbers.pop()
        {
            let request = link.ask(Kind::Send, &message(tag, seed, number, 1)?);
            flights.insert(request, number);
        }
        link.flush().await?;
        let frame = timeout(ANSWER, link.next()).await??;
        let Some(number) = flights.remove(&frame.request_id) else { continue };
        if frame.kind == Kind::Error as u8 {
            let error: ErrorBody = body(&frame)?;
            let Retry::After(ms) = error.retry else { bail!("session {number}: {error}") };
            numbers.push(number);
            sleep(Duration::from_millis(ms.into())).await;
        } else {
            begun.inc(1);
        }
    }
    Ok(())
}

/// The second message of some of them, one after the other.
async fn wake(links: &mut [Link], tag: &str, seed: u64, sessions: u64) -> anyhow::Result<(f64, f64, f64)> {
    let mut times = Vec::new();
    for turn in 0..WOKEN.min(sessions) {
        let number = turn * (sessions / WOKEN.min(sessions)).max(1);
        let link = &mut links[(number % WRITERS) as usize];
        let began = Instant::now();
        // The first number of this connection, whose device is registered anew.
        let frame = ask(link, Kind::Send, &message(tag, seed, number, 1)?).await?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        let ack: rookery_wire::reply::Ack = body(&frame)?;
        ensure!(ack.seq == 2, "the second message of session {number} is its message {}", ack.seq);
    }
    times.sort_by(f64::total_cmp);
    let at = |place: usize| times.get(place.min(times.len().saturating_sub(1))).copied().unwrap_or(0.0);
    Ok((at(times.len() / 2), at(times.len() * 99 / 100), at(times.len())))
}

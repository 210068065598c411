//! A large group: how long joining takes, what a send costs beside one in a small group, what a member's login costs, and
//! what the first send costs when the group has left memory.

use std::process::ExitCode;

use anyhow::ensure;
use rookery_wire::reply::{Ack, SyncPage};
use rookery_wire::request::{Members, Role, Send, Sync};
use rookery_wire::{Blob, GroupId, Kind, SessionId, UserId};
use serde::Serialize;
use tokio::time::Instant;

use super::Ground;
use super::args::{BenchArgs, GroupArgs};
use super::connect::{ask, connect, create_group, sync};
use super::idle::asleep;
use super::progress::{Bar, Progress};
use super::report::print;
use crate::check::link::{Link, body};

/// Users added by one request.
const BATCH: usize = 1_000;
/// Logins measured, each of a member that was never there.
const LOGINS: usize = 50;

#[derive(Serialize)]
struct GroupReport {
    members: usize,
    online: u32,
    sends: u32,
    /// From the first request to the last answer, seconds; an answer comes when all lists have the group.
    joined_in_s: f64,
    /// Milliseconds of a batch of 1,000: the first, the slowest, the last.
    batch_ms: (f64, f64, f64),
    /// Milliseconds of a send, one after the other: median and 99th percentile, in a group of those who are online …
    small_ms: (f64, f64),
    /// … and in the large one with as many online.
    large_ms: (f64, f64),
    /// Milliseconds of a session list: of a user in no session, and of a member; medians.
    login_ms: (f64, f64),
    /// Milliseconds of the first send to the small group, and to the large one, after every node had let go of both; null
    /// for a running cluster, where that cannot be told.
    woken_ms: Option<(f64, f64)>,
}

/// Runs `rookery bench group`.
pub(super) async fn run(args: &BenchArgs, group: &GroupArgs) -> anyhow::Result<ExitCode> {
    let mut ground = Ground::prepare(args).await?;
    let tag = format!("g{:x}", rand::random::<u32>());
    let user = |name: String| UserId::new(&format!("{tag}-{name}"));
    let online =
        (0..group.online.max(1)).map(|at| user(format!("on-{at}"))).collect::<Result<Vec<_>, _>>()?;
    let members =
        (0..group.members).map(|at| user(format!("{at:06}"))).collect::<Result<Vec<UserId>, _>>()?;
    let session =
        |name: &str| Ok::<_, anyhow::Error>(SessionId::group(GroupId::new(&format!("{tag}-{name}"))?));
    let (small, large) = (session("small")?, session("large")?);
    let nodes = ground.nodes.clone();
    let node = |at: usize| nodes[at % nodes.len()].1.as_str();

    let mut owner = connect(node(0), &user("owner".to_owned())?, Role::User, &ground.token).await?;
    for session in [&small, &large] {
        create_group(&mut owner, session, &online).await?;
    }
    let begin = Instant::now();
    let batches = join(&ground.progress, &mut owner, &large, &members).await?;
    let joined_in_s = begin.elapsed().as_secs_f64();
    let mut receivers = Vec::new();
    for (at, user) in online.iter().enumerate() {
        let mut link = connect(node(at), user, Role::User, &ground.token).await?;
        sync(&mut link).await?;
        receivers.push(tokio::spawn(async move { while link.next().await.is_ok() {} }));
    }
    let (mut of_large, mut of_small) = (members.chunks(BATCH).count() as u64 + 1, 1);
    let sends = ground.progress.counted("sends", 2 * u64::from(group.sends.max(1)));
    let in_large = send(&mut owner, &large, &mut of_large, group.sends, &sends).await?;
    let in_small = send(&mut owner, &small, &mut of_small, group.sends, &sends).await?;
    drop(sends);
    receivers.iter().for_each(tokio::task::JoinHandle::abort);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let logins = ground.progress.counted("logins", LOGINS as u64);
    for at in 0..LOGINS {
        logins.inc(1);
        let nobody = user(format!("nobody-{at}"))?;
        without.push(login(node(at), &nobody, 0, &ground.token).await?);
        let member = &members[at * members.len() / LOGINS];
        with.push(login(node(at), member, 1, &ground.token).await?);
    }
    drop(logins);
    // Whether a session is in memory only nodes tell that nobody else uses.
    let woken_ms = if ground.own.is_some() {
        asleep(&mut ground, std::slice::from_mut(&mut owner)).await?;
        let woken = ground.progress.counted("first sends after that", 2);
        let woken_small = send(&mut owner, &small, &mut of_small, 1, &woken).await?;
        let woken_large = send(&mut owner, &large, &mut of_large, 1, &woken).await?;
        Some((quantile(&woken_small, 0.5), quantile(&woken_large, 0.5)))
    } else {
        None
    };
    let report = GroupReport {
        members: members.len() + online.len() + 1,
        online: group.online.max(1),
        sends: group.sends,
        joined_in_s,
        batch_ms: (
            batches.first().copied().unwrap_or(0.0),
            batches.iter().copied().fold(0.0, f64::max),
            batches.last().copied().unwrap_or(0.0),
        ),
        small_ms: (quantile(&in_small, 0.5), quantile(&in_small, 0.99)),
        large_ms: (quantile(&in_large, 0.5), quantile(&in_large, 0.99)),
        login_ms: (quantile(&without, 0.5), quantile(&with, 0.5)),
        woken_ms,
    };
    let woken = report.woken_ms.map_or_else(
        || "not measured on a running cluster".to_owned(),
        |(small, large)| format!("{small:.2} ms and {large:.2} ms"),
    );
    let line = format!(
        "bench group: {} members joined in {:.1} s (a batch of 1000 in {:.0}, {:.0} at most, the last in {:.0} ms); \
         a send with {} online {:.2} ms (p99 {:.2}) in a small group, {:.2} ms (p99 {:.2}) in this one; \
         a login {:.2} ms without and {:.2} ms with it; the first send once it has left memory {woken}",
        report.members,
        report.joined_in_s,
        report.batch_ms.0,
        report.batch_ms.1,
        report.batch_ms.2,
        report.online,
        report.small_ms.0,
        report.small_ms.1,
        report.large_ms.0,
        report.large_ms.1,
        report.login_ms.0,
        report.login_ms.1,
    );
    print(args.json, &report, &line)?;
    Ok(ExitCode::SUCCESS)
}

/// Adds all, a batch at a time; milliseconds of each.
async fn join(
    progress: &Progress,
    owner: &mut Link,
    session: &SessionId,
    members: &[UserId],
) -> anyhow::Result<Vec<f64>> {
    let joined = progress.counted("members join", members.len() as u64);
    let mut times = Vec::new();
    for (at, users) in members.chunks(BATCH).enumerate() {
        let (session, client_seq) = (session.clone(), at as u64 + 2);
        let add = Members { session, client_seq, on_behalf_of: None, users: users.to_vec() };
        let begin = Instant::now();
        ask(owner, Kind::AddMembers, &add).await?;
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
        joined.inc(users.len() as u64);
    }
    Ok(times)
}

/// Sends one after the other; milliseconds of each.
async fn send(
    owner: &mut Link,
    session: &SessionId,
    number: &mut u64,
    count: u32,
    sent: &Bar,
) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..count.max(1) {
        *number += 1;
        let send = Send {
            session: session.clone(),
            client_seq: *number,
            on_behalf_of: None,
            content_type: Blob::from("text/plain"),
            content: Blob::from("to whom it may concern"),
            extensions: Vec::new(),
        };
        let begin = Instant::now();
        let ack: Ack = body(&ask(owner, Kind::Send, &send).await?)?;
        ensure!(ack.client_seq == *number, "another's answer");
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
        sent.inc(1);
    }
    Ok(times)
}

/// Milliseconds until the session list is there, which must have so many lines.
async fn login(addr: &str, user: &UserId, sessions: usize, token: &str) -> anyhow::Result<f64> {
    let mut link = connect(addr, user, Role::User, token).await?;
    let begin = Instant::now();
    let page: SyncPage = body(
        &ask(&mut link, Kind::Sync, &Sync { after: Blob::default(), limit: 200, since: Blob::default() })
            .await?,
    )?;
    let time = begin.elapsed().as_secs_f64() * 1000.0;
    ensure!(page.sessions.len() == sessions, "{user} has {} sessions, not {sessions}", page.sessions.len());
    Ok(time)
}

fn quantile(times: &[f64], at: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() as f64 * at) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

//! Receipts of a large group: who has not read a message, while the members' cursors are in memory and when only rows
//! know them.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use rookery_wire::live::{ReceiptPage, Receipts, Which};
use rookery_wire::request::{Read, Role};
use rookery_wire::{Blob, GroupId, Kind, SessionId, UserId};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::Ground;
use super::args::{BenchArgs, ReceiptsArgs};
use super::connect::{ask, connect, create_group};
use super::idle::in_parts;
use super::report::print;
use crate::check::link::{Link, body};
use crate::config::Limits;

/// Lines of a page.
const LIMIT: u32 = 1_000;
/// One in so many members has read the message.
const READERS: usize = 4;

#[derive(Serialize)]
struct ReceiptsReport {
    members: usize,
    readers: usize,
    /// Of the first page, which looks at all members and counts them, milliseconds: median and slowest.
    in_memory_ms: (f64, f64),
    /// The same when no member has been in memory for a while: the first time, and the median of later ones.
    from_rows_ms: (f64, f64),
}

/// Runs `rookery bench receipts`.
pub(super) async fn run(args: &BenchArgs, receipts: &ReceiptsArgs) -> anyhow::Result<ExitCode> {
    let ground = Ground::prepare(args).await?;
    let tag = format!("r{:x}", rand::random::<u32>());
    let session = SessionId::group(GroupId::new(&tag)?);
    let asker = UserId::new(&format!("{tag}-asker"))?;
    let (_, addr) = &ground.nodes[0];
    let mut link = connect(addr, &asker, Role::User, &ground.token).await?;
    let members: Vec<UserId> = (0..receipts.members)
        .map(|number| UserId::new(&format!("{tag}-{number:06}")))
        .collect::<Result<_, _>>()?;
    create_group(&mut link, &session, &members).await?;
    let number = members.chunks(1_000).len() as u64 + 1;
    let send = rookery_wire::request::Send {
        session: session.clone(),
        client_seq: number,
        on_behalf_of: None,
        content_type: Blob::from("text/plain"),
        content: Blob::from("read this"),
        extensions: Vec::new(),
    };
    let ack: rookery_wire::reply::Ack = body(&ask(&mut link, Kind::Send, &send).await?)?;
    let readers: Vec<UserId> = members.iter().step_by(READERS).cloned().collect();
    let count = readers.len();
    let (nodes, token) = (ground.nodes.clone(), ground.token.clone());
    let reading: Vec<(String, UserId)> =
        readers.into_iter().enumerate().map(|(at, user)| (nodes[at % nodes.len()].1.clone(), user)).collect();
    let read = Read { session: session.clone(), seq: ack.seq };
    let bar = ground.progress.counted("members read", count as u64);
    in_parts(bar, reading, |(addr, user)| {
        let (read, token) = (read.clone(), token.clone());
        async move {
            let mut link = connect(&addr, &user, Role::User, &token).await?;
            ask(&mut link, Kind::Read, &read).await.map(drop)
        }
    })
    .await?;
    let request = Receipts { session, seq: ack.seq, which: Which::Unread, after: None, limit: LIMIT };
    let expected = (count, members.len() - count);
    let _measuring =
        ground.progress.open("asking who has read; in between all are idle until they leave memory");
    let warm = measure(&mut link, &request, receipts.rounds, expected).await?;
    rest(&mut link).await?;
    let cold = measure(&mut link, &request, receipts.rounds, expected).await?;
    let slowest = warm.iter().copied().fold(0.0, f64::max);
    let report = ReceiptsReport {
        members: members.len(),
        readers: count,
        in_memory_ms: (median(&warm), slowest),
        from_rows_ms: (cold.first().copied().unwrap_or(0.0), median(&cold)),
    };
    let line = format!(
        "bench receipts: {} members, {} have read: counted in {:.1} ms (slowest {:.1}) with their cursors in memory; \
         from rows in {:.1} ms the first time, {:.1} ms after that",
        report.members,
        report.readers,
        report.in_memory_ms.0,
        report.in_memory_ms.1,
        report.from_rows_ms.0,
        report.from_rows_ms.1,
    );
    print(args.json, &report, &line)?;
    Ok(ExitCode::SUCCESS)
}

/// Milliseconds of each answer, which must be right.
async fn measure(
    link: &mut Link,
    request: &Receipts,
    rounds: u32,
    (read, unread): (usize, usize),
) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..rounds.max(1) {
        let begin = Instant::now();
        let page: ReceiptPage = body(&ask(link, Kind::Receipts, request).await?)?;
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
        let counts = page.counts.map(|counts| (counts.read as usize, counts.unread as usize));
        ensure!(
            counts == Some((read, unread)),
            "{counts:?} have and have not read it, not {read} and {unread}"
        );
    }
    Ok(times)
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Nothing but PINGs until nobody has been in memory for a while.
async fn rest(link: &mut Link) -> anyhow::Result<()> {
    let until =
        Instant::now() + Duration::from_millis(Limits::default().resident_idle_ms) + Duration::from_secs(5);
    while Instant::now() < until {
        sleep(Duration::from_secs(5)).await;
        ask(link, Kind::Ping, &()).await?;
    }
    Ok(())
}

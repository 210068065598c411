//! Logins: how soon a user with many sessions has the first page of the list, whole and since a mark, alone and while others
//! send; and how long ten thousand logins take that come at the same moment after an outage.
//!
//! The first part measures on a connection that stands (SYNC and its first page) and with all that goes before (connecting,
//! HELLO). The second kills every node, starts them again, waits until the cluster is whole, so that nobody is in memory
//! any more, and then has all devices connect at once, from this one process; what is refused comes again after a pause, as
//! devices do. On a running cluster (`--config`) nothing is killed, and the report says so.

mod loaded;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use rand::Rng;
use rookery_wire::own::ManageSelf;
use rookery_wire::reply::{Ack, SyncPage};
use rookery_wire::request::{Role, Send, Sync};
use rookery_wire::{Blob, Kind, SessionId, UserAction, UserId};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::loaded::UnderLoad;
use super::args::{BenchArgs, LoginArgs};
use super::connect::{Registration, ask, reconnect, register};
use super::idle::in_parts;
use super::report::print;
use super::restart::until_whole;
use super::{Ground, many_files};
use crate::check::cluster::Cluster;
use crate::check::link::{Link, body};

/// Sessions in a page.
const PAGE: u32 = 200;
/// Sessions that change before each SYNC since a mark.
const CHANGED: usize = 10;
/// A login that takes longer has failed, and the run with it.
const LOGIN: Duration = Duration::from_secs(120);
/// First and longest pause before a device that was refused comes again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Median, 99 of 100 and the slowest, milliseconds.
#[derive(Clone, Copy, Serialize)]
struct Times {
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

#[derive(Serialize)]
struct Storm {
    logins: usize,
    /// Every node was killed and started again before.
    after_outage: bool,
    /// From the first connection to the last page.
    all_ms: f64,
    /// Of each device, its attempts and pauses included.
    each: Times,
    /// Attempts that were refused or cut, and made again.
    repeated: u64,
}

/// One user's logins, one after the other.
#[derive(Serialize)]
struct Logins {
    /// SYNC to its first page of 200, on a connection that stands.
    first_page: Times,
    /// Connecting and HELLO in addition.
    with_connecting: Times,
    /// All pages, on a connection that stands.
    whole_list: Times,
    /// SYNC since a mark after which ten sessions changed: all there is.
    since: Times,
    /// The same with connecting and HELLO.
    since_with_connecting: Times,
    bytes_whole: usize,
    bytes_since: usize,
}

#[derive(Serialize)]
struct LoginReport {
    sessions: usize,
    /// The user has read nothing, so that the badge takes the heads of 500 sessions.
    unread: bool,
    /// Logins of each kind.
    rounds: u32,
    /// While nobody else does anything.
    #[serde(flatten)]
    alone: Logins,
    under_load: Option<UnderLoad>,
    storm: Option<Storm>,
}

/// Runs `rookery bench login`.
pub(super) async fn run(args: &BenchArgs, login: &LoginArgs) -> anyhow::Result<ExitCode> {
    let mut ground = Ground::prepare(args).await?;
    let tag = format!("l{:x}", rand::random::<u32>());
    let (_, addr) = ground.nodes.first().context("a cluster has nodes")?.clone();
    let user = UserId::new(&format!("{tag}-asker"))?;
    let (mut link, device) = register(&addr, &user, Role::User, &ground.token).await?;
    let mut peers = write_to(&ground, &tag, &user, login.sessions).await?;
    if !login.unread {
        let read_all = ManageSelf { number: 1, on_behalf_of: None, action: UserAction::ReadAll };
        ask(&mut link, Kind::ManageSelf, &read_all).await?;
    }
    drop(link);
    let measuring = ground.progress.open("logins, one after the other");
    let alone = measure(&addr, &device, &mut peers, login).await?;
    drop(measuring);
    let under_load = match login.rate {
        Some(rate) => Some(loaded::run(&ground, rate, measure(&addr, &device, &mut peers, login)).await?),
        None => None,
    };
    drop(peers);
    let storm = match login.logins {
        0 => None,
        logins => Some(storm(&mut ground, &tag, logins).await?),
    };
    let report = LoginReport {
        sessions: sessions_of(login),
        unread: login.unread,
        rounds: login.rounds.max(1),
        alone,
        under_load,
        storm,
    };
    print(args.json, &report, &words(&report))?;
    Ok(ExitCode::SUCCESS)
}

/// One who has a session with the user, and speaks in it.
struct Peer {
    link: Link,
    session: SessionId,
    number: u64,
}

impl Peer {
    async fn speak(&mut self) -> anyhow::Result<()> {
        self.number += 1;
        let send = Send {
            session: self.session.clone(),
            client_seq: self.number,
            on_behalf_of: None,
            content_type: Blob::from("text/plain"),
            content: Blob::from("are you there?"),
            extensions: Vec::new(),
        };
        body::<Ack>(&ask(&mut self.link, Kind::Send, &send).await?)?;
        Ok(())
    }
}

/// So many users write to this one; the first few stay to write again.
async fn write_to(ground: &Ground, tag: &str, user: &UserId, sessions: u32) -> anyhow::Result<Vec<Peer>> {
    let nodes = ground.nodes.clone();
    let each: Vec<u32> = (0..sessions.max(CHANGED as u32)).collect();
    let bar = ground.progress.counted("users write to one", each.len() as u64);
    let peers = in_parts(bar, each, |at| {
        let (addr, token) = (nodes[at as usize % nodes.len()].1.clone(), ground.token.clone());
        let (user, name) = (user.clone(), format!("{tag}-{at:06}"));
        async move {
            let peer = UserId::new(&name)?;
            let (link, _) = register(&addr, &peer, Role::User, &token).await?;
            let mut peer = Peer { link, session: SessionId::direct(&peer, &user)?, number: 0 };
            peer.speak().await?;
            Ok((at, ((at as usize) < CHANGED).then_some(peer)))
        }
    });
    Ok(peers.await?.into_iter().filter_map(|(_, peer)| peer).collect())
}

/// All pages of one SYNC.
struct List {
    /// Until the first page was there.
    first: Duration,
    sessions: usize,
    total: u32,
    full: bool,
    bytes: usize,
    mark: Blob,
}

async fn list(link: &mut Link, since: &Blob) -> anyhow::Result<List> {
    let begin = Instant::now();
    let (mut first, mut sessions, mut bytes) = (None, 0, 0);
    let (mut after, mut since) = (Blob::default(), since.clone());
    loop {
        let sync = Sync { after, limit: PAGE, since: std::mem::take(&mut since) };
        let frame = ask(link, Kind::Sync, &sync).await?;
        let page: SyncPage = body(&frame)?;
        let first = *first.get_or_insert_with(|| begin.elapsed());
        ensure!(page.unresolved.is_empty(), "{:?} could not be asked", page.unresolved);
        sessions += page.sessions.len();
        bytes += frame.body.len();
        if page.next.is_empty() {
            let (total, full, mark) = (page.total, page.full, page.mark);
            return Ok(List { first, sessions, total, full, bytes, mark });
        }
        after = page.next;
    }
}

/// The user's.
fn sessions_of(login: &LoginArgs) -> usize {
    login.sessions.max(CHANGED as u32) as usize
}

async fn measure(
    addr: &str,
    device: &Registration,
    peers: &mut [Peer],
    login: &LoginArgs,
) -> anyhow::Result<Logins> {
    let sessions = sessions_of(login);
    let (mut first, mut connecting, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    let (mut since, mut since_connecting) = (Vec::new(), Vec::new());
    let (mut bytes_whole, mut bytes_since) = (0, 0);
    for _ in 0..login.rounds.max(1) {
        let begin = Instant::now();
        let mut link = reconnect(addr, device).await?;
        let welcomed = begin.elapsed();
        let asked = Instant::now();
        let all = list(&mut link, &Blob::default()).await?;
        whole.push(asked.elapsed());
        first.push(all.first);
        connecting.push(welcomed + all.first);
        ensure!(
            all.full && (all.sessions, all.total as usize) == (sessions, sessions),
            "a list of {} of {} sessions, not {sessions}",
            all.sessions,
            all.total
        );
        bytes_whole = all.bytes;
        drop(link);
        for peer in &mut *peers {
            peer.speak().await?;
        }
        let begin = Instant::now();
        let mut link = reconnect(addr, device).await?;
        let welcomed = begin.elapsed();
        let changes = list(&mut link, &all.mark).await?;
        since.push(changes.first);
        since_connecting.push(welcomed + changes.first);
        ensure!(
            !changes.full && (changes.sessions, changes.total as usize) == (peers.len(), sessions),
            "{} of {} sessions changed, not {} (full: {})",
            changes.sessions,
            changes.total,
            peers.len(),
            changes.full
        );
        bytes_since = changes.bytes;
    }
    Ok(Logins {
        first_page: times(first),
        with_connecting: times(connecting),
        whole_list: times(whole),
        since: times(since),
        since_with_connecting: times(since_connecting),
        bytes_whole,
        bytes_since,
    })
}

/// All these devices log in at once.
async fn storm(ground: &mut Ground, tag: &str, logins: u32) -> anyhow::Result<Storm> {
    many_files(logins.into())?;
    let nodes = ground.nodes.clone();
    let each: Vec<u32> = (0..logins).collect();
    let bar = ground.progress.counted("making devices known", each.len() as u64);
    let known = in_parts(bar, each, |at| {
        let (addr, token) = (nodes[at as usize % nodes.len()].1.clone(), ground.token.clone());
        // Every one has a session with a neighbour.
        let names = (format!("{tag}-s{:06}", at ^ 1), format!("{tag}-s{at:06}"));
        async move {
            let user = UserId::new(&names.1)?;
            let (link, device) = register(&addr, &user, Role::User, &token).await?;
            if at % 2 == 0 {
                let session = SessionId::direct(&user, &UserId::new(&names.0)?)?;
                Peer { link, session, number: 0 }.speak().await?;
            }
            Ok((addr, device))
        }
    })
    .await?;
    let after_outage = ground.own.is_some();
    let coming_back = ground.progress.open("all nodes come back after kill -9");
    if let Some(own) = &mut ground.own {
        for (node, _) in &nodes {
            own.kill(*node).await?;
        }
        for (node, _) in &nodes {
            own.start(*node).await?;
        }
        until_whole(own, Instant::now()).await?;
    }
    drop(coming_back);
    let bar = ground.progress.counted("logins at once", known.len() as u64);
    let begin = Instant::now();
    let mut all: JoinSet<anyhow::Result<(Duration, u64, Link)>> = JoinSet::new();
    for (addr, device) in known {
        all.spawn(async move { log_in(&addr, &device).await });
    }
    let (mut each, mut repeated, mut open) = (Vec::new(), 0, Vec::new());
    while let Some(done) = all.join_next().await {
        let (took, again, link) = done??;
        each.push(took);
        repeated += again;
        bar.inc(1);
        // It stays connected while the others come.
        open.push(link);
    }
    let all_ms = millis(begin.elapsed());
    Ok(Storm { logins: open.len(), after_outage, all_ms, each: times(each), repeated })
}

/// Connects, says HELLO and has the list, again and again until that is done; how long it took, and how often it failed.
async fn log_in(addr: &str, device: &Registration) -> anyhow::Result<(Duration, u64, Link)> {
    let (begin, mut pause, mut failed) = (Instant::now(), PAUSE.0, 0);
    loop {
        let attempt = async {
            let mut link = device.open(addr).await?;
            let list = list(&mut link, &Blob::default()).await?;
            anyhow::Ok((link, list))
        };
        match attempt.await {
            Ok((link, list)) => {
                ensure!(list.sessions as u32 == list.total, "a list that is short");
                return Ok((begin.elapsed(), failed, link));
            }
            Err(fault) if begin.elapsed() > LOGIN => {
                return Err(fault).context("a login that never came through");
            }
            Err(_) => failed += 1,
        }
        let jitter = rand::rng().random_range(0.5..=1.0);
        sleep(pause.mul_f64(jitter)).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn times(mut all: Vec<Duration>) -> Times {
    all.sort_unstable();
    let at =
        |part: f64| all.get((all.len() as f64 * part) as usize).or(all.last()).copied().map_or(0.0, millis);
    Times { p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0) }
}

fn one(times: &Times) -> String {
    format!("{:.1} ms (p99 {:.1}, max {:.1})", times.p50_ms, times.p99_ms, times.max_ms)
}

impl Logins {
    fn words(&self) -> String {
        format!(
            "first page in {}, with connecting {}; whole list in {}, {} bytes\n\
             since a mark, {CHANGED} sessions changed: {}, with connecting {}; {} bytes",
            one(&self.first_page),
            one(&self.with_connecting),
            one(&self.whole_list),
            self.bytes_whole,
            one(&self.since),
            one(&self.since_with_connecting),
            self.bytes_since,
        )
    }
}

fn words(report: &LoginReport) -> String {
    let mut text = format!(
        "bench login: {} sessions, {}, {} logins: {}",
        report.sessions,
        if report.unread { "none of them read" } else { "read" },
        report.rounds,
        report.alone.words(),
    );
    if let Some(loaded) = &report.under_load {
        text += &format!("\n{}", loaded.words());
    }
    if let Some(storm) = &report.storm {
        let when = if storm.after_outage { "after kill -9 of all nodes" } else { "on a running cluster" };
        text += &format!(
            "\n{} logins at once {when}, from one process: all in {:.0} ms, each {}; {} attempts repeated",
            storm.logins,
            storm.all_ms,
            one(&storm.each),
            storm.repeated,
        );
    }
    text
}

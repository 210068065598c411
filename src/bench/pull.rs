//! Pulls of 100 messages, one at a time, where many messages are stored: the newest of a session in use, and old ones of
//! sessions that nobody uses.
//!
//! Messages are stored, all nodes are stopped and started again, and no session is in memory any more when the old ones are
//! pulled: each pull wakes its session and finds its pages in no cache of the server's. What the kernel keeps of the files is
//! another matter: half of the sessions are pulled with that as it is, the other half after the kernel was asked to let go of
//! them; how much the nodes then read from the disk is counted and told. Every page must be the one that was asked for.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rookery_wire::reply::{Ack, Page};
use rookery_wire::request::{Consistency, Direction, Members, Pull, Role};
use rookery_wire::{Kind, SessionId, UserId};
use rustix::fs::{Advice, fadvise};
use serde::Serialize;
use tokio::time::Instant;

use super::Ground;
use super::args::{BenchArgs, PullArgs};
use super::connect::{ask, connect};
use super::content::Contents;
use super::crowd::caches;
use super::fill::fill;
use super::idle::asleep;
use super::report::print;
use super::restart::all_again;
use super::send::{Sender, Span};
use super::usage::from_disk;
use crate::check::cluster::Cluster;
use crate::check::link::{Link, body};

/// Records of a pull, and bytes of them at most.
const RECORDS: u64 = 100;
const BYTES: u32 = 512 << 10;
/// Sessions in use, and messages that each has had since it is.
const IN_USE: usize = 20;
const FRESH: u64 = 128;
/// Those may take so long.
const FRESHENING: Duration = Duration::from_secs(30);
/// Old places are drawn from the older half of a session, which has to be longer than what is in memory of it.
const LEAST: u64 = 400;

/// One kind of pull.
#[derive(Serialize)]
struct Pulls {
    pulls: u64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// Pages of old records that the nodes needed for it …
    pages: u64,
    /// … those of them that no cache had …
    pages_loaded: u64,
    /// … and bytes that came from the disk, and not from the kernel's memory. Null where the kernel does not count.
    disk_bytes: Option<u64>,
}

#[derive(Serialize)]
struct PullReport {
    messages: u64,
    sessions: u32,
    size: usize,
    records: u64,
    /// The newest of a session in use, each at a node's own replica …
    newest: Pulls,
    /// … and linearizable, at the node that leads.
    newest_linearizable: Pulls,
    /// Old ones of sleeping sessions, at a node's own replica; the kernel may have what it likes of the files.
    cold: Pulls,
    /// The same after the kernel was asked to keep nothing of them.
    cold_disk: Pulls,
    seed: u64,
}

/// Runs `rookery bench pull`.
pub(super) async fn run(args: &BenchArgs, pull: &PullArgs) -> anyhow::Result<ExitCode> {
    let each = pull.messages / u64::from(pull.sessions);
    ensure!(
        each >= LEAST,
        "{each} messages for each session are too few, {LEAST} are needed: give fewer --sessions"
    );
    let mut ground = Ground::prepare(args).await?;
    let folder = ground.own()?.folder().to_owned();
    let (plan, messages) = fill(&ground, pull.sessions, pull.messages, pull.size.into()).await?;
    let mut rng = StdRng::seed_from_u64(ground.seed);
    let mut stored = Vec::new();
    let tag = format!("r{:x}", rand::random::<u32>());
    let readers: Vec<UserId> = ground
        .nodes
        .iter()
        .map(|(node, _)| UserId::new(&format!("{tag}-{node}")))
        .collect::<Result<_, _>>()?;
    let joining = ground.progress.counted("a reader joins", plan.sessions.len() as u64);
    let (_, addr) = ground.nodes.first().context("a cluster has nodes")?;
    let mut backend = connect(addr, &plan.backend()?, Role::Service, &ground.token).await?;
    for session in &plan.sessions {
        let (session, users) = (session.clone(), readers.clone());
        let add = Members { session: session.clone(), client_seq: 1, on_behalf_of: None, users };
        let ack: Ack = body(&ask(&mut backend, Kind::AddMembers, &add).await?)?;
        stored.push(Stored { session, last: ack.seq });
        joining.inc(1);
    }
    drop((backend, joining));
    stored.shuffle(&mut rng);
    let restarting = ground.progress.open("all nodes stop, and come back");
    all_again(ground.own()?).await?;
    drop(restarting);
    asleep(&mut ground, &mut []).await?;

    let mut links = Vec::new();
    for ((_, addr), reader) in ground.nodes.iter().zip(&readers) {
        links.push(connect(addr, reader, Role::User, &ground.token).await?);
    }
    let (some, others) = stored.split_at(stored.len() / 2);
    let mut client = Client { links, pulls: u64::from(pull.pulls) };
    let cold = client.measure(&mut ground, "old messages", old(some, &mut rng)).await?;
    let asked = tokio::task::spawn_blocking(move || let_go(&folder));
    asked.await?.context("asking the kernel to let go of the nodes' files")?;
    let cold_disk = client.measure(&mut ground, "old messages from disk", old(others, &mut rng)).await?;
    let in_use: Vec<&SessionId> = stored.iter().take(IN_USE).map(|it| &it.session).collect();
    write(&mut ground, &mut client, &readers, &in_use).await?;
    let (here, leading) = client.newest(&ground, &in_use).await?;
    let newest = client.measure(&mut ground, "newest messages", here).await?;
    let newest_linearizable = client.measure(&mut ground, "the same, linearizable", leading).await?;
    let report = PullReport {
        messages,
        sessions: pull.sessions,
        size: pull.size.into(),
        records: RECORDS,
        newest,
        newest_linearizable,
        cold,
        cold_disk,
        seed: ground.seed,
    };
    print(args.json, &report, &words(&report))?;
    Ok(ExitCode::SUCCESS)
}

/// A session, and its last seq before the restart.
struct Stored {
    session: SessionId,
    last: u64,
}

/// What to ask which node, and the seq of the first record that must come.
struct Question {
    node: usize,
    pull: Pull,
    first: u64,
}

fn question(session: &SessionId, first: u64, consistency: Consistency) -> Question {
    let pull = Pull {
        session: session.clone(),
        from_seq: first,
        direction: Direction::Forward,
        max_count: RECORDS as u32,
        max_bytes: BYTES,
        consistency,
    };
    Question { node: 0, pull, first }
}

/// Old places, one in each of these sessions.
fn old(sessions: &[Stored], rng: &mut StdRng) -> Vec<Question> {
    let one = |it: &Stored| {
        let first = rng.random_range(1..=(it.last / 2).saturating_sub(RECORDS).max(1));
        question(&it.session, first, Consistency::AtLeast(first + RECORDS - 1))
    };
    let all = sessions.iter().map(one).enumerate();
    all.map(|(at, question)| Question { node: at, ..question }).collect()
}

/// One who asks, one question after the other, with a connection to each node.
struct Client {
    links: Vec<Link>,
    /// Questions of a kind, at most where each is asked once, and else so many.
    pulls: u64,
}

impl Client {
    fn link(&mut self, node: usize) -> anyhow::Result<&mut Link> {
        let nodes = self.links.len().max(1);
        self.links.get_mut(node % nodes).context("a cluster has nodes")
    }

    /// The page to a question, which must be the one that was asked for.
    async fn ask(&mut self, question: &Question) -> anyhow::Result<Page> {
        let page: Page = body(&ask(self.link(question.node)?, Kind::Pull, &question.pull).await?)?;
        right(&page, &question.pull.session, question.first)?;
        Ok(page)
    }

    async fn measure(
        &mut self,
        ground: &mut Ground,
        what: &str,
        questions: Vec<Question>,
    ) -> anyhow::Result<Pulls> {
        let asking = ground.progress.counted(what, questions.len() as u64);
        let (before, disk_before) = (caches(ground).await?, from_disk(ground.own()?)?);
        let mut times: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        for question in questions.iter().take(self.pulls as usize) {
            let begin = Instant::now();
            self.ask(question).await?;
            times.saturating_record(begin.elapsed().as_micros() as u64);
            asking.inc(1);
        }
        let (after, disk_after) = (caches(ground).await?, from_disk(ground.own()?)?);
        let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
        Ok(Pulls {
            pulls: times.len(),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            max_ms: ms(1.0),
            pages: after.pages_asked - before.pages_asked,
            pages_loaded: after.pages_loaded - before.pages_loaded,
            disk_bytes: disk_before.zip(disk_after).map(|(before, after)| after.saturating_sub(before)),
        })
    }

    /// The newest of these sessions, in turn: at every node's replica, and linearizable where the session is led.
    async fn newest(
        &mut self,
        ground: &Ground,
        sessions: &[&SessionId],
    ) -> anyhow::Result<(Vec<Question>, Vec<Question>)> {
        let own = ground.own.as_ref().context("a cluster of our own")?;
        let mut each = Vec::new();
        for session in sessions {
            let leader = own.leader_of(session).await.context("a session that somebody leads")?;
            let leader = ground.nodes.iter().position(|(node, _)| *node == leader).unwrap_or_default();
            // What it ends with, and every replica there: none is asked below for what it has yet to hear of.
            let mut last = 0;
            for node in 0..self.links.len() {
                let newest = Pull {
                    from_seq: 0,
                    direction: Direction::Backward,
                    ..question(session, 0, Consistency::Linearizable).pull
                };
                let page: Page = body(&ask(self.link(node)?, Kind::Pull, &newest).await?)?;
                last = page.last_seq;
                right(&page, session, last + 1 - RECORDS.min(last))?;
            }
            each.push((*session, leader, last + 1 - RECORDS.min(last)));
        }
        let turns = || (0..self.pulls as usize).zip(each.iter().cycle());
        let here = turns().map(|(at, (session, _, first))| Question {
            node: at / each.len(),
            ..question(session, *first, Consistency::AtLeast(first + RECORDS - 1))
        });
        let leading = turns().map(|(_, (session, leader, first))| Question {
            node: *leader,
            ..question(session, *first, Consistency::Linearizable)
        });
        Ok((here.collect(), leading.collect()))
    }
}

/// That a page is of this session and has what was asked for, whole and in order.
fn right(page: &Page, session: &SessionId, first: u64) -> anyhow::Result<()> {
    let seqs = page.records.iter().map(|record| record.seq);
    ensure!(
        page.session == *session && seqs.eq(first..first + RECORDS),
        "{RECORDS} records of {session} from {first} were asked for; {} of {} came, from {:?}",
        page.records.len(),
        page.session,
        page.records.first().map(|record| record.seq),
    );
    Ok(())
}

/// Puts these sessions to use: each gets messages, from the first reader, who comes back afterwards.
async fn write(
    ground: &mut Ground,
    client: &mut Client,
    readers: &[UserId],
    sessions: &[&SessionId],
) -> anyhow::Result<()> {
    let bar = ground.progress.open("sessions are put to use");
    let (_, addr) = ground.nodes.first().context("a cluster has nodes")?;
    let reader = readers.first().context("a cluster has readers")?;
    let link = connect(addr, reader, Role::User, &ground.token).await?;
    let sessions: Vec<SessionId> = sessions.iter().map(|session| (*session).clone()).collect();
    let most = FRESH * sessions.len() as u64;
    let sender = Sender::new(link, sessions, 64, Contents::new(ground.seed, u64::MAX, 256), 1)?;
    let now = Instant::now();
    let sent = sender.run(Span { from: now, to: now + FRESHENING, most }).await?;
    ensure!(sent.acked >= most, "{} of {most} messages were written in {FRESHENING:?}", sent.acked);
    *client.link(0)? = connect(addr, reader, Role::User, &ground.token).await?;
    drop(bar);
    Ok(())
}

/// Asks the kernel to keep nothing of the files in a folder. Whether it does, what is read from the disk afterwards shows.
fn let_go(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let_go(&entry.path())?;
        } else if kind.is_file() {
            let file = match std::fs::File::open(entry.path()) {
                Ok(file) => file,
                // The nodes are at work in there.
                Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => continue,
                Err(fault) => return Err(fault),
            };
            // It keeps what is not written yet.
            file.sync_data()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

fn words(report: &PullReport) -> String {
    let one = |what: &str, pulls: &Pulls| {
        let disk = pulls.disk_bytes.map_or_else(
            || "not counted by this kernel".to_owned(),
            |bytes| format!("{:.1} KB", bytes as f64 / 1024.0 / pulls.pulls.max(1) as f64),
        );
        format!(
            "\nbench pull: {what}: p50 {:.2} ms  p99 {:.2} ms  max {:.1} ms  of {}; {} pages, {} of them in no cache; \
             {disk} from disk for each pull",
            pulls.p50_ms, pulls.p99_ms, pulls.max_ms, pulls.pulls, pulls.pages, pulls.pages_loaded,
        )
    };
    let mut text = format!(
        "bench pull: {} messages of {} B in {} sessions, {} pulled at a time, one pull after the other; seed {}",
        report.messages, report.size, report.sessions, report.records, report.seed,
    );
    text += &one("newest, at a node's replica", &report.newest);
    text += &one("newest, linearizable, at the leader's node", &report.newest_linearizable);
    text += &one("old ones of sleeping sessions", &report.cold);
    text += &one("the same when the kernel was asked to keep nothing", &report.cold_disk);
    text
}

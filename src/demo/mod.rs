//! `rookery demo`: three nodes, a conversation, a leader killed in the middle of it, and the proof that nothing was
//! lost, doubled or reordered.
//!
//! Read in this order: [`transcript`] is the conversation, `arena` the nodes, `cast` the devices, `play` the playing,
//! `audit` reads every replica, `verdict` judges, `screen` shows. Everything goes over TCP to real processes of this
//! very program. Must never leave a process behind, nor call a run good that proved nothing.

mod arena;
mod audit;
mod cast;
mod play;
mod screen;
pub mod transcript;
mod verdict;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::arena::Arena;
use self::cast::Cast;
use self::play::Player;
use self::screen::Screen;
use self::transcript::{SAMPLE, Transcript};
use self::verdict::{Evidence, judge};
use crate::terminal;

/// The conversation and the delivery of all of it must be over within this time.
const LIMIT: Duration = Duration::from_secs(55);
/// How long open sends and deliveries may take after the last line.
const DRAIN: Duration = Duration::from_secs(25);
const POLL: Duration = Duration::from_millis(20);

/// Arguments of `rookery demo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery demo
  rookery demo --transcript mine.txt       a conversation of your own; demo/transcript.txt tells how to write one
  rookery demo --nodes 5

Exit code: 0 when nothing was lost, doubled or reordered and everything was delivered.")]
pub struct DemoArgs {
    /// Play this conversation
    #[arg(long, value_name = "FILE")]
    transcript: Option<PathBuf>,
    /// Nodes to start
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=7))]
    nodes: u16,
    /// Folder for configuration, data and logs; emptied first, if a demo made it
    #[arg(long, value_name = "DIR", default_value = "rookery-demo")]
    folder: PathBuf,
    /// Leave out the conversation
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the demo on a runtime of its own.
///
/// # Errors
/// What kept it from being played to the end. A bad verdict is an exit code.
pub fn main(args: &DemoArgs) -> Result<ExitCode> {
    terminal::init_log("error", crate::config::LogFormat::Text);
    let transcript = read(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let (mut term, mut int) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    runtime.block_on(async {
        // Whichever way this ends, the arena is dropped and with it every process.
        tokio::select! {
            done = Box::pin(run(args, &transcript)) => done,
            _ = int.recv() => bail!("interrupted; every node has been stopped"),
            _ = term.recv() => bail!("told to stop; every node has been stopped"),
        }
    })
}

fn read(args: &DemoArgs) -> Result<Transcript> {
    let Some(path) = &args.transcript else {
        return Transcript::parse(SAMPLE).context("demo/transcript.txt");
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Transcript::parse(&text).with_context(|| path.display().to_string())
}

async fn run(args: &DemoArgs, transcript: &Transcript) -> Result<ExitCode> {
    let screen = Screen::new(args.quiet);
    let mut arena = Arena::prepare(&args.folder, args.nodes)?;
    if arena.moved {
        screen.phase("The usual ports are in use, so this cluster takes free ones.")?;
    }
    arena.spawn_missing()?;
    let spinner = terminal::spinner("the nodes form a cluster");
    let formed = arena.wait_until_led(|missing| spinner.set_message(missing.to_owned())).await;
    spinner.finish_and_clear();
    formed?;
    announce(&screen, &arena)?;

    let outcome = tokio::time::timeout(LIMIT, Box::pin(converse(transcript, &mut arena, &screen))).await;
    let outcome = outcome.unwrap_or_else(|_| {
        Err(anyhow::anyhow!(
            "not over after {} s; the nodes' logs are in {}",
            LIMIT.as_secs(),
            args.folder.display()
        ))
    });
    let evidence = outcome?;
    let killed = evidence.kills.len();
    let path = arena.fleet.path.clone();
    let mut verdict = judge(&evidence);
    for trouble in arena.stop().await {
        verdict.reasons.push(trouble);
    }
    screen.verdict(&verdict, killed)?;
    if !verdict.is_good() {
        terminal::tell(format_args!("the nodes' logs are in {}/node-*/rookery.log", args.folder.display()));
        return Ok(ExitCode::FAILURE);
    }
    let mut users: Vec<&str> = transcript.devices.iter().map(|device| device.user.as_str()).collect();
    users.dedup();
    let path = std::env::current_dir()
        .ok()
        .and_then(|here| path.strip_prefix(here).ok())
        .unwrap_or(&path)
        .to_owned();
    screen.invite(&path, [users.first().unwrap_or(&"ann"), users.get(1).unwrap_or(&"bob")])?;
    Ok(ExitCode::SUCCESS)
}

fn announce(screen: &Screen, arena: &Arena) -> Result<()> {
    let pids: BTreeMap<u16, u32> = arena.pids().into_iter().collect();
    let shards = arena.fleet.config.cluster.shards;
    screen.phase(&format!("{} nodes serve, each of {shards} shards has a leader.", pids.len()))?;
    for node in &arena.fleet.config.nodes {
        let pid = pids.get(&node.id).copied().unwrap_or(0);
        terminal::line(format_args!(
            "       node {}  process {pid}  clients {}  http {}",
            node.id, node.client, node.http
        ))?;
    }
    Ok(())
}

/// Connects everybody, plays, waits until everything has arrived, and gathers the evidence.
async fn converse(transcript: &Transcript, arena: &mut Arena, screen: &Screen) -> Result<Evidence> {
    let addrs = arena.fleet.config.client_addrs();
    let cast = Cast::enter(transcript, &addrs).await?;
    screen.phase(&format!(
        "{} users with {} devices are connected, {} groups are made.",
        transcript.users(),
        transcript.devices.len(),
        transcript.groups.len()
    ))?;
    let mut player = Player { transcript, cast: &cast, arena, screen, kills: Vec::new() };
    player.play().await?;
    let kills = std::mem::take(&mut player.kills);
    // What the transcript left dead is needed for the comparison.
    arena.spawn_missing()?;
    screen.phase("The last line is said. Waiting for every ack, every delivery and every replica …")?;
    let end = Instant::now() + DRAIN;
    while cast.ledger.waiting() > 0 && Instant::now() < end {
        tokio::time::sleep(POLL).await;
    }
    arena.wait_until_led(|_| {}).await?;
    let logs = audit::read(&arena.fleet.config.nodes, &transcript.sessions()).await?;
    let audience: BTreeMap<_, Vec<usize>> = logs
        .keys()
        .map(|session| {
            let devices = transcript.devices.iter().enumerate();
            let members = devices.filter(|(_, device)| transcript.is_member(&device.user, session));
            (session.clone(), members.map(|(at, _)| at).collect())
        })
        .collect();
    let has_all = || {
        audience.iter().all(|(session, devices)| {
            let last = logs[session].values().map(Vec::len).max().unwrap_or(0) as u64;
            devices.iter().all(|device| cast.ledger.has(*device, session, last))
        })
    };
    while !has_all() && Instant::now() < end {
        tokio::time::sleep(POLL).await;
    }
    // What comes twice may come late: nothing more may arrive while we look away for a moment.
    let given = cast.ledger.given();
    tokio::time::sleep(Duration::from_millis(300)).await;
    if cast.ledger.given() != given && has_all() {
        cast.ledger.trouble("messages arrived after every device had everything".to_owned());
    }
    let (sends, streams, troubles) = cast.ledger.evidence();
    cast.leave().await;
    let replicas = usize::from(arena.fleet.config.cluster.replication);
    Ok(Evidence { sends, streams, audience, logs, replicas, kills, troubles })
}

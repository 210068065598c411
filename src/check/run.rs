//! The command: arguments, an own cluster or a running one, the verdict printed, the exit code.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use rookery_wire::SessionId;

use super::campaign::{self, Campaign};
use super::cast::CastSize;
use super::cluster::{Cluster, OwnCluster, OwnOptions};
use super::drive::{self, Plan, Power};
use super::history::{FaultKind, History, Parts};
use super::judge::{Standing, judge};
use super::settings::{self, Setting};
use super::stage::{Bounds, MAX_EVENTS};
use super::{fault, file, report};
use crate::config::Config;

/// Records that every third group keeps.
const KEEP: u64 = 150;
/// The nodes of an own cluster have one clock, which is read in milliseconds.
const SAME_CLOCK: Duration = Duration::from_millis(20);
/// A leader whose clock is 500 ms off the others hands over, so two that follow each other may be twice as far apart.
const CLOCKS_APART: Duration = Duration::from_millis(1_100);
/// How much later than promised answers and news may come on a machine under load: a LEFT waits for a second by itself.
const GRACE: Duration = Duration::from_secs(5);
/// How long sends may stay without an answer once the cluster is whole.
const DRAIN: Duration = Duration::from_secs(30);
/// How long an own cluster may take to form.
const FORM: Duration = Duration::from_secs(60);

/// What befalls the cluster in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FaultArg {
    /// Nothing: load and judgement only.
    None,
    /// kill -9 of the leader of a loaded shard, then a restart.
    Kill,
    /// kill -9 of that leader and of others at the same moment, in half of the rounds of all nodes; then a restart.
    Crash,
    /// SIGSTOP of that leader for some seconds, then SIGCONT.
    Pause,
    /// SIGTERM and a restart of one node after another.
    Rolling,
    /// The leads of that leader handed to another node, one after another.
    Transfer,
    /// The disks of one, several or all nodes lose what was not synced (needs --power-hook).
    Powercut,
    /// The disks of all nodes lose it at the same moment, in every round (needs --power-hook).
    Blackout,
}

/// Load a cluster, hurt it, and prove from the clients' and the replicas' records that no message was lost,
/// doubled or reordered.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  rookery check                                  three nodes of its own, 3 rounds with kill -9 of a leader
  rookery check --fault pause --rounds 5
  rookery check --snapshots                      and nodes that come back are filled by snapshots
  rookery check --rounds 20 --max-gap-ms 1000    and bad if a client waited longer for an ack in 2 of the 20 rounds
  rookery check --config cluster.toml --fault none
  rookery check --replay history.jsonl           judge a recorded run again
The last line says GOOD, BAD or INCONCLUSIVE, and why if it is not good, however the run ended.
Exit code: 0 good, 1 bad, 2 inconclusive (a run that proves nothing).")]
pub struct CheckArgs {
    /// What befalls the cluster in each round.
    #[arg(long, value_enum, default_value = "kill", overrides_with = "fault")]
    pub fault: FaultArg,
    /// Rounds, each at most 30 s.
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// Nodes of the own cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=5))]
    pub nodes: u16,
    /// Shards of the own cluster.
    #[arg(long, default_value_t = 8)]
    pub shards: u32,
    /// Users, each with two devices.
    #[arg(long, default_value_t = 24)]
    pub users: u32,
    /// Acts of all devices together, a second.
    #[arg(long, default_value_t = 600.0)]
    pub rate: f64,
    /// Sends without an answer per device.
    #[arg(long, default_value_t = 4)]
    pub window: usize,
    /// Seed of every random choice; printed, so that a run can be repeated.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Judge this running cluster, without faults, and not one of our own.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Token for every connection, where the cluster asks for one.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub token: String,
    /// The own cluster keeps so little log that a node which was away comes back by snapshots, and actors leave memory
    /// after a second; a run in which no snapshot was installed is INCONCLUSIVE.
    #[arg(long, conflicts_with_all = ["config", "replay"])]
    pub snapshots: bool,
    /// A key of the own cluster's configuration, e.g. `storage.log_keep=50`; again for more of them.
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = settings::parse)]
    #[arg(conflicts_with_all = ["config", "replay"])]
    pub set: Vec<Setting>,
    /// Longest ack gap, milliseconds, that 19 of 20 rounds may have: the p95 of the rounds' ack gaps by nearest rank (of
    /// 20 rounds the 19th shortest, of fewer the longest) above it makes the run BAD.
    #[arg(long, value_name = "N", overrides_with = "max_gap_ms")]
    pub max_gap_ms: Option<u64>,
    /// Write the history to this file (it is always kept when the verdict is bad).
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Judge the history in this file and start nothing.
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// Folder for the own cluster (default: a fresh temporary one, removed after a good run).
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Program called with `cut N` and `restore N` to take a node's disk away and bring it back.
    #[arg(long, value_name = "PROGRAM")]
    pub power_hook: Option<PathBuf>,
    /// The verdict as JSON on stdout, before the last line.
    #[arg(long)]
    pub json: bool,
    /// The word the last line begins with.
    #[arg(long, default_value = "check", hide = true)]
    pub name: String,
}

/// Runs the command on a runtime of its own, with as many threads as the machine has cores. However the run ends, its
/// last line is a verdict.
///
/// # Errors
/// Stdout takes nothing.
pub fn main(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(Box::pin(run(args)))
}

/// Runs the command.
///
/// # Errors
/// Stdout takes nothing. Whatever else goes wrong is a verdict.
pub async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(rand::random);
    let outcome = tokio::select! {
        outcome = attempt(&args, seed) => outcome,
        signal = interrupted() => Err(anyhow::anyhow!("the run was ended by {signal}")),
    };
    match outcome {
        Ok(code) => Ok(code),
        Err(why) => {
            note(format_args!("{why:#}"));
            let standing = fault::standing(&why);
            writeln!(std::io::stdout(), "{}", report::unfinished(&args.name, seed, standing, &why))?;
            Ok(ExitCode::from(report::exit_code(standing)))
        }
    }
}

/// Resolves when somebody ends this process in a way that leaves it time for a last word.
async fn interrupted() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Then they end it without.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}

async fn attempt(args: &CheckArgs, seed: u64) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.replay {
        let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let history = file::read(std::io::BufReader::new(file))?;
        return conclude(args, history.setup.seed, &history, None);
    }
    note(format_args!("seed {seed} (repeat with --seed {seed})"));
    match &args.config {
        Some(config) => running(args, seed, config).await,
        None => own(args, seed).await,
    }
}

async fn own(args: &CheckArgs, seed: u64) -> anyhow::Result<ExitCode> {
    if matches!(args.fault, FaultArg::Powercut | FaultArg::Blackout) && args.power_hook.is_none() {
        bail!("a power cut needs disks that can be taken away; run scripts/powercut.sh, which brings them");
    }
    let folder = match &args.folder {
        Some(folder) => folder.clone(),
        None => std::env::temp_dir().join(format!("rookery-check-{}-{seed:x}", std::process::id())),
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let options = OwnOptions {
        program: std::env::current_exe().context("finding this program")?,
        folder: folder.clone(),
        nodes: args.nodes,
        shards: args.shards,
        extra: settings::text(args.snapshots, &args.set),
        env: Vec::new(),
        power_hook: args.power_hook.clone(),
    };
    let mut cluster = OwnCluster::start(options, FORM).await?;
    let history = campaign::play(&mut cluster, &campaign_of(args, seed, 3), tell(args)).await;
    drop(cluster);
    let history = history.with_context(|| format!("the nodes' logs are in {}", folder.display()))?;
    conclude(args, seed, &history, Some(&folder))
}

/// A cluster that runs already: no faults, for its processes are not ours.
async fn running(args: &CheckArgs, seed: u64, path: &Path) -> anyhow::Result<ExitCode> {
    if args.fault != FaultArg::None {
        bail!(
            "with --config only --fault none: faults need a cluster of the checker's own (leave --config out)"
        );
    }
    let config = Config::load(path)?;
    let nodes = config.nodes.iter().map(|node| (node.id, node.client.clone())).collect();
    let mut cluster = Running { nodes };
    let replication = u32::from(config.cluster.replication);
    let history = campaign::play(&mut cluster, &campaign_of(args, seed, replication), tell(args)).await?;
    conclude(args, seed, &history, None)
}

struct Running {
    nodes: Vec<(u16, String)>,
}

impl Cluster for Running {
    fn nodes(&self) -> Vec<(u16, String)> {
        self.nodes.clone()
    }
    async fn leader_of(&self, _: &SessionId) -> Option<u16> {
        None
    }
    async fn whole(&self) -> bool {
        true
    }
    async fn kill(&mut self, _: u16) -> anyhow::Result<()> {
        bail!("not our process")
    }
    async fn stop(&mut self, _: u16) -> anyhow::Result<()> {
        bail!("not our process")
    }
    async fn start(&mut self, _: u16) -> anyhow::Result<()> {
        bail!("not our process")
    }
    fn pause(&mut self, _: u16, _: bool) -> anyhow::Result<()> {
        bail!("not our process")
    }
}

impl Power for Running {
    async fn cut(&mut self, _: &[u16]) -> anyhow::Result<()> {
        bail!("not our disk")
    }
}

fn campaign_of(args: &CheckArgs, seed: u64, replication: u32) -> Campaign {
    let fault = match args.fault {
        FaultArg::None => FaultKind::None,
        FaultArg::Kill => FaultKind::Kill,
        FaultArg::Crash => FaultKind::Crash,
        FaultArg::Pause => FaultKind::Pause,
        FaultArg::Rolling => FaultKind::Rolling,
        FaultArg::Transfer => FaultKind::Transfer,
        FaultArg::Powercut => FaultKind::Powercut,
        FaultArg::Blackout => FaultKind::Blackout,
    };
    let users = args.users.max(6);
    let own = args.config.is_none();
    let keep = if own { KEEP } else { 0 };
    Campaign {
        plan: Plan { rounds: args.rounds, fault, seed },
        size: CastSize {
            users,
            devices: 2,
            pairs: users / 2,
            groups: (users / 4).max(2),
            group_members: 6,
            listeners: users / 4,
            keep,
        },
        // How often a cluster of somebody else sweeps, and how much its audit holds, is for its owner to say.
        parts: Parts { digests: true, lasting: true, keep, since: true, keys: own },
        clock: if args.config.is_some() { CLOCKS_APART } else { SAME_CLOCK },
        tag: format!("c{:x}", seed & 0xffff_ffff),
        rate: args.rate,
        window: args.window,
        bounds: Bounds { events: MAX_EVENTS, grace: GRACE, drain: DRAIN },
        content: (32, 400),
        replication,
        snapshots: args.snapshots,
        token: args.token.clone(),
    }
}

/// A line for each round; and, where somebody looks, a bar below that says how many there are to come.
fn tell(args: &CheckArgs) -> impl FnMut(&super::history::Round) {
    let all = args.rounds;
    let bar = if args.json { ProgressBar::hidden() } else { crate::terminal::spinner("") };
    let now = move |round: u32| match round < all {
        true => format!("check: round {} of {all}, at most {} s", round + 1, drive::ROUND.as_secs()),
        false => "check: the last answers and copies are gathered, and judged".to_owned(),
    };
    bar.set_message(now(0));
    move |round| {
        let ms = (round.healed - round.fault_at) / 1000;
        bar.suspend(|| {
            note(format_args!(
                "round {} of {all}: nodes {:?}, whole again after {ms} ms",
                round.number, round.nodes
            ));
        });
        bar.set_message(now(round.number));
    }
}

fn note(what: std::fmt::Arguments<'_>) {
    // Progress is for people; a closed stderr is no reason to stop.
    let _ = writeln!(std::io::stderr(), "check: {what}");
}

/// Judges, prints, keeps what is worth keeping.
fn conclude(
    args: &CheckArgs,
    seed: u64,
    history: &History,
    folder: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let mut verdict = judge(history);
    if let Some(most_ms) = args.max_gap_ms {
        verdict.hold_gap(most_ms);
    }
    let good = verdict.standing() == Standing::Good;
    let kept = match (&args.history, folder) {
        (Some(path), _) => Some(path.clone()),
        (None, Some(folder)) if !good => Some(folder.join("history.jsonl")),
        _ => None,
    };
    if let Some(path) = kept {
        let out = std::fs::File::create(&path).with_context(|| format!("making {}", path.display()))?;
        file::write(history, out)?;
        note(format_args!("history kept: rookery check --replay {}", path.display()));
    }
    match folder {
        Some(folder) if good && args.folder.is_none() => std::fs::remove_dir_all(folder)?,
        Some(folder) => note(format_args!("folder kept: {}", folder.display())),
        None => {}
    }
    let mut err = std::io::stderr().lock();
    for round in &verdict.rounds {
        writeln!(err, "{}", report::round(round))?;
    }
    write!(err, "{}", report::details(&verdict))?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &verdict)?;
        writeln!(out)?;
    }
    writeln!(out, "{}", report::line(&args.name, seed, &verdict))?;
    Ok(ExitCode::from(report::exit_code(verdict.standing())))
}

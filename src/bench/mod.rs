//! `rookery bench`: how fast, how soon, how small.
//!
//! A closed or an open loop of senders against a cluster of its own (or a running one), read back and counted afterwards; the
//! many groups whose members are all online; the
//! memory of idle connections and sessions; a large group and its receipts; logins, one and all at once; what a crowd and a
//! hot group do; pulls of new messages and of old ones; the time of a restart, and of a node's return; what a message costs
//! where there is much of everything. Owns its load and its figures; what it prints is what it
//! measured, in words and as JSON. It must never count what was not acknowledged, nor report a run that lost some.

mod args;
mod away;
mod connect;
mod content;
mod crowd;
mod dealt;
mod fill;
mod group;
mod growth;
mod hear;
mod hot;
mod idle;
mod library;
mod load;
mod login;
mod mix;
mod pace;
mod phases;
mod plot;
mod progress;
mod pull;
mod readback;
mod receipts;
mod receive;
mod report;
mod restart;
mod send;
mod sessions;
mod slices;
mod spread;
mod sweep;
mod usage;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

pub use args::{
    AwayArgs, BenchArgs, CrowdArgs, Dimension, GroupArgs, GrowthArgs, HotArgs, IdleArgs, LoadArgs, LoginArgs,
    LoginRate, Mode, PullArgs, ReceiptsArgs, RestartArgs, SessionsArgs, SpreadArgs, SweepArgs,
};

use self::progress::Progress;
use crate::check::cluster::{Cluster, OwnCluster, OwnOptions};
use crate::config::Config;
use crate::fleet::allow;

/// Files open in a process beside connections of the load, at most.
const OTHER_FILES: u64 = 1_000;
/// How long an own cluster may take to form.
const FORM: Duration = Duration::from_secs(60);

/// Runs the command on a runtime of its own, with as many threads as the machine has cores.
///
/// # Errors
/// As [`run`].
pub fn main(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(Box::pin(run(args)))
}

/// Runs the command.
///
/// # Errors
/// What kept it from measuring, and acknowledged messages that were not read back.
pub async fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    match &args.mode {
        None => load::run(&args, &args.load).await,
        Some(Mode::Load(load)) => load::run(&args, load).await,
        Some(Mode::Sweep(swept)) => sweep::run(&args, swept).await,
        Some(Mode::Spread(spread)) => spread::run(&args, spread).await,
        Some(Mode::Idle(idle)) => idle::run(&args, idle).await,
        Some(Mode::Group(group)) => group::run(&args, group).await,
        Some(Mode::Login(login)) => login::run(&args, login).await,
        Some(Mode::Receipts(receipts)) => receipts::run(&args, receipts).await,
        Some(Mode::Crowd(crowd)) => crowd::run(&args, crowd).await,
        Some(Mode::Hot(hot)) => hot::run(&args, hot).await,
        Some(Mode::Sessions(sessions)) => sessions::run(&args, sessions).await,
        Some(Mode::Pull(pull)) => pull::run(&args, pull).await,
        Some(Mode::Away(away)) => away::run(&args, away).await,
        Some(Mode::Growth(growth)) => growth::run(&args, growth).await,
        Some(Mode::Restart(restart)) => restart::run(&args, restart).await,
    }
}

/// The cluster under load, and its folder if we made it.
struct Ground {
    nodes: Vec<(u16, String)>,
    own: Option<OwnCluster>,
    /// Removed with everything in it when the bench ends.
    _folder: Option<tempfile::TempDir>,
    token: String,
    /// What messages say is drawn from it.
    seed: u64,
    progress: Progress,
}

impl Ground {
    async fn prepare(args: &BenchArgs) -> anyhow::Result<Self> {
        let (token, seed) = (args.token.clone(), args.seed.unwrap_or_else(rand::random));
        let progress = Progress::new(args.json);
        if let Some(path) = &args.config {
            let config = Config::load(path)?;
            let nodes = config.nodes.iter().map(|node| (node.id, node.client.clone())).collect();
            return Ok(Self { nodes, own: None, _folder: None, token, seed, progress });
        }
        let folder = match &args.folder {
            Some(parent) => tempfile::TempDir::with_prefix_in("rookery-bench-", parent),
            None => tempfile::TempDir::with_prefix("rookery-bench-"),
        };
        let folder = folder.context("making a folder for the cluster")?;
        let forming = progress.open("the nodes form a cluster");
        let own = own_cluster(args, folder.path()).await?;
        drop(forming);
        Ok(Self { nodes: own.nodes(), own: Some(own), _folder: Some(folder), token, seed, progress })
    }

    /// The cluster we started.
    fn own(&mut self) -> anyhow::Result<&mut OwnCluster> {
        self.own.as_mut().context("this mode needs a cluster of its own; leave --config out")
    }
}

/// Makes sure that this process may have so many connections, and so may the nodes that it starts from now on.
///
/// # Errors
/// When the system does not allow it.
fn many_files(connections: u64) -> anyhow::Result<()> {
    allow(connections + OTHER_FILES).context("ask for fewer connections, or allow more open files")
}

async fn own_cluster(args: &BenchArgs, folder: &Path) -> anyhow::Result<OwnCluster> {
    let options = OwnOptions {
        program: std::env::current_exe().context("finding this program")?,
        folder: folder.to_owned(),
        nodes: args.nodes,
        shards: args.shards,
        extra: "[log]\nlevel = \"warn\"\n[limits]\ngroup_members = 100000\nconnections = 100000\n".to_owned(),
        env: Vec::new(),
        power_hook: None,
    };
    OwnCluster::start(options, FORM).await
}

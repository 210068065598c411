//! One whole run over any cluster: cast, load, rounds, drain, dump, leave; the result is a history.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rookery_wire::UserId;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::archive::Archive;
use super::backend::{self, Backend};
use super::cast::{Cast, CastSize};
use super::device::{Device, DeviceLog};
use super::drive::{self, Plan, Power};
use super::dump::{self, Dumps};
use super::fault;
use super::history::{Drain, Handed, History, Keyed, Micros, Parts, Round, Setup};
use super::judge::GONE_WITHIN;
use super::listener;
use super::stage::{Bounds, Pace, Phase, Stage};

/// How long the first sends may take to be acknowledged.
const WARM_UP: Duration = Duration::from_secs(30);
/// Sends acknowledged before the first round begins.
const WARM: u64 = 200;
/// How often a drain looks whether it is over, and whether the cluster is whole.
const LOOK: Duration = Duration::from_millis(10);
const LOOK_AT_CLUSTER: Duration = Duration::from_millis(500);
/// What waits for answers goes on for so much longer than any of them may take.
const BEYOND: Duration = Duration::from_secs(1);
/// How long devices may take to have everything once nothing moves any more.
const QUIET: Duration = Duration::from_secs(20);
/// How long devices may take to leave.
const LEAVE: Duration = Duration::from_secs(10);

/// What to play.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Rounds.
    pub plan: Plan,
    /// Cast.
    pub size: CastSize,
    /// Keeps names apart from those of other runs on the same cluster.
    pub tag: String,
    /// All devices together act so often a second.
    pub rate: f64,
    /// Sends without an answer per device.
    pub window: usize,
    /// How much is recorded, and how late something may be.
    pub bounds: Bounds,
    /// Content, bytes.
    pub content: (usize, usize),
    /// Replicas every session has.
    pub replication: u32,
    /// The nodes' configuration is such that those that were away come back by snapshots.
    pub snapshots: bool,
    /// What is done beyond the plain acts.
    pub parts: Parts,
    /// How far the clocks of two nodes may be apart.
    pub clock: Duration,
    /// Token for every connection, where the cluster asks for one.
    pub token: String,
}

/// Plays it. The history is whole whatever it holds; only a cluster that cannot be used at all is an error.
///
/// # Errors
/// No ack in the beginning, a fault that could not be made, a cluster that did not heal.
pub async fn play<C: Power>(
    cluster: &mut C,
    campaign: &Campaign,
    told: impl FnMut(&Round),
) -> anyhow::Result<History> {
    let size = CastSize { keep: campaign.parts.keep, ..campaign.size };
    let cast = Arc::new(Cast::draw(size, &campaign.tag, campaign.plan.seed)?);
    let devices = cast.speakers.len().max(1) as f64;
    let pace = Pace {
        interval: Duration::from_secs_f64(devices / campaign.rate.max(1.0)),
        window: campaign.window,
        content: campaign.content,
    };
    let (nodes, parts) = (cluster.nodes(), campaign.parts);
    let (token, bounds) = (campaign.token.clone(), campaign.bounds);
    let stage = Arc::new(Stage::new(cast.clone(), nodes, pace, token, parts, bounds));
    let judge = UserId::new(&format!("{}-judge", campaign.tag)).context("the run's tag")?;
    let archive = Archive::begin(&stage, &judge);
    let mut speakers = JoinSet::new();
    for device in &cast.speakers {
        speakers.spawn(Device::new(stage.clone(), *device, campaign.plan.seed).run());
    }
    let mut listeners = JoinSet::new();
    for device in &cast.listeners {
        listeners.spawn(listener::run(stage.clone(), *device));
    }
    if !drive::wait(Instant::now() + WARM_UP, || stage.acked() >= WARM).await {
        let acked = stage.acked();
        let text = format!("{acked} sends were acknowledged within {WARM_UP:?}, {WARM} are needed to begin");
        return Err(fault::cluster(text));
    }
    let backend = Backend::begin(&stage, campaign.plan.seed);
    let (rounds, seals) = drive::play(cluster, &stage, campaign.plan, &judge, told).await?;
    outgrow(&stage, &archive).await;
    let (keyed, mut drain) = bring_in(cluster, &stage, backend).await?;
    let audit = backend::audit(&stage, &judge).await?;
    let healed = rounds.iter().map(|round| round.healed).max().unwrap_or(0);
    let mut dumps = settle(&stage, &judge, healed).await;
    dumps.seals.extend(seals);
    drain.quiet = stage.now();
    let quiet = Instant::now() + QUIET.max(stage.patience() + BEYOND);
    stage.ask_proofs();
    stage.enter(Phase::Quiet(Arc::new(dumps.heads())));
    let (mut logs, mut handed) = (Vec::new(), Vec::new());
    collect(&mut speakers, &mut logs, quiet).await;
    collect(&mut listeners, &mut handed, quiet).await;
    stage.enter(Phase::End);
    let leave = Instant::now() + LEAVE;
    collect(&mut speakers, &mut logs, leave).await;
    collect(&mut listeners, &mut handed, leave).await;
    if logs.len() != cast.speakers.len() || handed.len() != cast.listeners.len() {
        bail!("{} of {} devices came back with their records", logs.len(), cast.speakers.len());
    }
    let mut history = assemble(campaign, &stage, rounds, dumps, logs, handed);
    history.setup.drain = Some(drain);
    (history.keyed, history.audit) = (keyed, audit);
    history.trimmed = archive.before(&history.dumps);
    Ok(history)
}

/// Goes on under load until a group has outgrown what it keeps: a short run would say nothing of trimming otherwise.
async fn outgrow(stage: &Stage, archive: &Archive) {
    let keep = stage.parts.keep;
    let until = Instant::now() + drive::ROUND;
    let outgrown = || keep == 0 || archive.furthest() > keep + keep / 4 || stage.is_full();
    drive::wait(until, outgrown).await;
}

/// Brings in what is in flight, and looks now and then whether the cluster is whole: what is never answered must have been.
async fn bring_in<C: Power>(
    cluster: &mut C,
    stage: &Stage,
    backend: Backend,
) -> anyhow::Result<(Vec<Keyed>, Drain)> {
    let mut drain = Drain { begun: stage.now(), ..Drain::default() };
    stage.enter(Phase::Drain);
    let limit = drain_limit(stage);
    let until = Instant::now() + limit;
    let finish = backend.finish(limit);
    tokio::pin!(finish);
    let (mut keyed, mut look) = (None, Instant::now() + LOOK_AT_CLUSTER);
    while Instant::now() < until && (keyed.is_none() || stage.waiting() > 0) {
        tokio::select! {
            acts = &mut finish, if keyed.is_none() => keyed = Some(acts),
            () = sleep(LOOK) => {}
        }
        if Instant::now() >= look {
            drain.whole_since = match cluster.whole().await {
                true => drain.whole_since.or_else(|| Some(stage.now())),
                false => None,
            };
            cluster.alive()?;
            look = Instant::now() + LOOK_AT_CLUSTER;
        }
    }
    let keyed = match keyed {
        Some(acts) => acts,
        // Its time is over, too.
        None => finish.await,
    };
    drain.ended = stage.now();
    Ok((keyed, drain))
}

/// How long a drain may last: long enough to say of what is not answered then that it never will be.
fn drain_limit(stage: &Stage) -> Duration {
    stage.bounds.drain.max(stage.patience() + BEYOND)
}

/// Waits until nothing moves any more, then reads every replica. The cluster was whole again at `healed`.
async fn settle(stage: &Stage, judge: &UserId, healed: Micros) -> Dumps {
    if stage.waiting() > 0 {
        // What is still under way may yet be applied; the history says that it is unknown.
        sleep(Duration::from_secs(2)).await;
    }
    // What lasts for a time only has gone when the replicas are read, so that they must be alike.
    let gone = if stage.last_goes() > 0 { stage.last_goes() + GONE_WITHIN } else { 0 };
    // And everybody has heard of the last change of members.
    let heard = stage.last_change().max(healed) + stage.bounds.grace.as_micros() as Micros;
    sleep(Duration::from_micros(gone.max(heard).saturating_sub(stage.now()))).await;
    dump::read(stage, judge).await
}

/// Gathers what comes back in time.
async fn collect<T: 'static>(tasks: &mut JoinSet<T>, into: &mut Vec<T>, until: Instant) {
    while let Ok(Some(done)) = tokio::time::timeout_at(until, tasks.join_next()).await {
        into.extend(done);
    }
}

/// What a listener was given, and why it ended by itself, if it did.
type Listened = (Handed, Option<(Micros, String)>);

fn assemble(
    campaign: &Campaign,
    stage: &Stage,
    rounds: Vec<Round>,
    dumps: Dumps,
    logs: Vec<DeviceLog>,
    listened: Vec<Listened>,
) -> History {
    let mut history = History {
        setup: Setup {
            seed: campaign.plan.seed,
            nodes: stage.nodes.iter().map(|(node, _)| *node).collect(),
            replication: campaign.replication,
            snapshots: campaign.snapshots,
            parts: campaign.parts,
            clock: campaign.clock.as_micros() as Micros,
            grace: campaign.bounds.grace.as_micros() as Micros,
            drain: None,
            full_at: stage.full_at(),
        },
        names: stage.cast.names.clone(),
        seals: dumps.seals,
        dumps: dumps.dumps,
        rosters: dumps.rosters,
        unread: dumps.unread,
        rounds,
        ..History::default()
    };
    for (handed, ended) in listened {
        history.faults.extend(ended.map(|(at, why)| (at, handed.device, why)));
        history.handed.push(handed);
    }
    for log in logs {
        history.sends.extend(log.sends);
        history.retries.extend(log.retries);
        history.pages.extend(log.pages);
        history.marks.extend(log.marks);
        history.bars.extend(log.bars);
        history.seals.extend(log.seals);
        history.syncs.extend(log.syncs);
        history.streams.extend(log.streams);
        history.faults.extend(log.faults);
    }
    history
}

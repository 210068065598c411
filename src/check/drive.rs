//! The rounds: load, a fault at the leader of a loaded shard, acks again, healing, and on.
//!
//! Every round ends within its bound, whatever the cluster does; what a wait did not see come shows in the
//! history, where the judge finds it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rookery_wire::UserId;
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, OwnCluster};
use super::dump;
use super::fault;
use super::history::{FaultKind, Round, Seal};
use super::judge::MIN_ACKED;
use super::stage::Stage;

/// A round takes no longer.
pub const ROUND: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// Acks that say that the load is under way, or again.
const FLOWING: u64 = 150;
/// A paused node stays so at least this long: longer than any election.
const PAUSED: Duration = Duration::from_secs(3);

/// Which rounds to play.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many.
    pub rounds: u32,
    /// What befalls the cluster in each.
    pub fault: FaultKind,
    /// Whom it befalls is drawn from this.
    pub seed: u64,
}

/// Something besides the waits that can go on in a round: cutting power needs more than a signal.
pub trait Power: Cluster {
    /// Cuts the power of these nodes at once; their processes are dead afterwards, their disks back.
    fn cut(&mut self, nodes: &[u16]) -> impl Future<Output = anyhow::Result<()>> + Send;
}

impl Power for OwnCluster {
    async fn cut(&mut self, nodes: &[u16]) -> anyhow::Result<()> {
        OwnCluster::cut(self, nodes).await
    }
}

/// Plays all rounds; with them come the digests of the replicas after each, which are read in the name of `judge`.
///
/// # Errors
/// A cluster that could not be hurt, or did not heal within a round.
pub async fn play<C: Power>(
    cluster: &mut C,
    stage: &Stage,
    plan: Plan,
    judge: &UserId,
    mut told: impl FnMut(&Round),
) -> anyhow::Result<(Vec<Round>, Vec<Seal>)> {
    let mut random = StdRng::seed_from_u64(plan.seed ^ 0x0fa0_17fa_0170);
    let (mut rounds, mut seals) = (Vec::new(), Vec::new());
    let mut installed = Installed::default();
    installed.gained(cluster.installed().await);
    for number in 1..=plan.rounds {
        // There is nothing to hurt any more: the history says why.
        if stage.is_full() {
            break;
        }
        let round = one(cluster, stage, plan.fault, number, &mut random, &mut installed).await?;
        told(&round);
        rounds.push(round);
        // Every copy there is is held against the others, while the load goes on.
        stage.ask_proofs();
        seals.extend(dump::seals(stage, judge).await);
    }
    Ok((rounds, seals))
}

async fn one<C: Power>(
    cluster: &mut C,
    stage: &Stage,
    fault: FaultKind,
    number: u32,
    random: &mut StdRng,
    installed: &mut Installed,
) -> anyhow::Result<Round> {
    let until = Instant::now() + ROUND;
    let (begun, acked) = (stage.now(), stage.acked());
    wait_acks(stage, acked + FLOWING, until).await;
    // Somewhere within a second of load, not always at the same point of it.
    sleep(Duration::from_millis(random.random_range(50..600))).await;
    let nodes = victims(cluster, stage, fault, random).await;
    // What the end of the round before was too early for.
    let late = installed.gained(cluster.installed().await);
    let mut loaded = None;
    wait(until, || {
        loaded = stage.loaded_now();
        loaded.is_some() || stage.is_full()
    })
    .await;
    let fault_at = loaded.unwrap_or_else(|| stage.now());
    match tokio::time::timeout_at(until, hurt(cluster, stage, fault, &nodes, until)).await {
        Ok(done) => done?,
        Err(_) => {
            let text =
                format!("round {number}: {fault:?} was not over within {ROUND:?} of the round's begin");
            // What cuts the power is none of the cluster's parts.
            let hooked = matches!(fault, FaultKind::Powercut | FaultKind::Blackout);
            return Err(if hooked { anyhow::anyhow!(text) } else { fault::cluster(text) });
        }
    }
    while !cluster.whole().await {
        cluster.alive()?;
        if Instant::now() >= until {
            let text =
                format!("round {number}: the cluster was not whole again within {ROUND:?} of its begin");
            return Err(fault::cluster(text));
        }
        sleep(Duration::from_millis(20)).await;
    }
    let healed = stage.now();
    wait_acks(stage, acked + MIN_ACKED + FLOWING, until).await;
    if !matches!(fault, FaultKind::Pause | FaultKind::Transfer) {
        installed.restarted(&nodes);
    }
    let snapshots = late + installed.gained(cluster.installed().await);
    Ok(Round { number, fault, nodes, begun, fault_at, healed, ended: stage.now(), snapshots })
}

/// Counts installed snapshots over the lives of the nodes' processes.
#[derive(Debug, Default)]
struct Installed(BTreeMap<u16, u64>);

impl Installed {
    /// Those since the last call, of the nodes that say what they count now.
    fn gained(&mut self, counts: BTreeMap<u16, u64>) -> u64 {
        let gain = |(node, now): (u16, u64)| now.saturating_sub(self.0.insert(node, now).unwrap_or(0));
        counts.into_iter().map(gain).sum()
    }

    /// These processes began anew, and count from 0.
    fn restarted(&mut self, nodes: &[u16]) {
        self.0.extend(nodes.iter().map(|node| (*node, 0)));
    }
}

async fn hurt<C: Power>(
    cluster: &mut C,
    stage: &Stage,
    fault: FaultKind,
    nodes: &[u16],
    until: Instant,
) -> anyhow::Result<()> {
    let acked = stage.acked();
    match fault {
        FaultKind::None => {}
        FaultKind::Kill => {
            for node in nodes {
                cluster.kill(*node).await?;
            }
            wait_acks(stage, acked + FLOWING, until).await;
            for node in nodes {
                cluster.start(*node).await?;
            }
        }
        FaultKind::Pause => {
            for node in nodes {
                cluster.pause(*node, true)?;
            }
            sleep(PAUSED).await;
            wait_acks(stage, acked + FLOWING, until).await;
            for node in nodes {
                cluster.pause(*node, false)?;
            }
        }
        FaultKind::Rolling => {
            for node in nodes {
                let acked = stage.acked();
                cluster.stop(*node).await?;
                wait_acks(stage, acked + FLOWING, until).await;
                cluster.start(*node).await?;
                while !cluster.whole().await && Instant::now() < until {
                    cluster.alive()?;
                    sleep(Duration::from_millis(20)).await;
                }
            }
        }
        FaultKind::Transfer => {
            if let [from, to] = nodes {
                cluster.transfer(*from, *to).await?;
            }
            wait_acks(stage, acked + FLOWING, until).await;
        }
        FaultKind::Crash => {
            for node in nodes {
                cluster.kill(*node).await?;
            }
            for node in nodes {
                cluster.start(*node).await?;
            }
        }
        FaultKind::Powercut | FaultKind::Blackout => {
            cluster.cut(nodes).await?;
            for node in nodes {
                cluster.start(*node).await?;
            }
        }
    }
    Ok(())
}

/// The leader of a loaded shard; for a rolling restart every node, for a hand-over the heir too, for a power cut others
/// in most rounds.
async fn victims<C: Cluster>(cluster: &C, stage: &Stage, fault: FaultKind, random: &mut StdRng) -> Vec<u16> {
    let mut all: Vec<u16> = cluster.nodes().iter().map(|(node, _)| *node).collect();
    let loaded: Vec<_> =
        stage.cast.groups.iter().filter_map(|group| stage.cast.session(group.session)).collect();
    let leader = match loaded.choose(random) {
        Some(session) => cluster.leader_of(session).await,
        None => None,
    };
    let Some(leader) = leader.or_else(|| all.choose(random).copied()) else { return Vec::new() };
    match fault {
        FaultKind::None => Vec::new(),
        FaultKind::Kill | FaultKind::Pause => vec![leader],
        FaultKind::Rolling | FaultKind::Blackout => all,
        // From, to.
        FaultKind::Transfer => {
            all.retain(|node| *node != leader);
            [leader].into_iter().chain(all.choose(random).copied()).collect()
        }
        FaultKind::Crash if random.random_bool(0.5) => all,
        FaultKind::Crash => {
            all.retain(|node| *node != leader);
            all.shuffle(random);
            // With the leader a majority, so that nobody is left who knows more.
            let others = all.len().div_ceil(2);
            all.into_iter().take(others).chain([leader]).collect()
        }
        FaultKind::Powercut => {
            // One in a third of the rounds, in a third some with it, in a third all: what was acknowledged survives all.
            let more = match random.random_range(0..3) {
                0 => 0,
                1 => random.random_range(1..all.len().max(2)),
                _ => all.len(),
            };
            all.shuffle(random);
            let chosen: BTreeSet<u16> = all.into_iter().take(more).chain([leader]).collect();
            chosen.into_iter().collect()
        }
    }
}

/// Waits until so many sends have been acknowledged in all, or the round is over, or the load is.
async fn wait_acks(stage: &Stage, acked: u64, until: Instant) {
    wait(until, || stage.acked() >= acked || stage.is_full()).await;
}

/// Waits for a condition, looking at it every [`LOOK`]; false when the time was up first.
pub(super) async fn wait(until: Instant, mut condition: impl FnMut() -> bool) -> bool {
    while !condition() {
        if Instant::now() >= until {
            return false;
        }
        sleep(LOOK).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::Installed;

    #[test]
    fn snapshots_are_counted_over_the_lives_of_processes() {
        let mut installed = Installed::default();
        assert_eq!(installed.gained([(1, 2), (2, 0), (3, 1)].into()), 3);
        assert_eq!(installed.gained([(1, 2), (3, 4)].into()), 3, "node 2 does not answer");
        installed.restarted(&[1]);
        assert_eq!(installed.gained([(1, 2), (2, 1), (3, 4)].into()), 3, "node 1 counts anew");
        assert_eq!(installed.gained([(1, 2), (2, 1), (3, 4)].into()), 0);
    }
}

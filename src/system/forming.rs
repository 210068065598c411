//! How a cluster comes into being, and how a node finds its place in one (R4).
//!
//! A cluster forms only when every configured node answers that its folder is empty; the lowest one initialises the
//! system group, and whoever leads it then writes the facts. A node whose folder is empty although the cluster knows it
//! is refused with the command that replaces it: its old votes and log are gone, and a vote cast twice loses messages.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bincode::{Decode, Encode};
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use rookery_raft::{Clock, Entropy, Group, PeerNet, RaftId, Store};
use rookery_wire::codec::{decode, decode_prefix};
use tokio::sync::watch;

use super::FORMAT;
use super::facts::{Facts, FactsCommand, Placement, cluster_text};
use super::machine::SystemWaiter;

/// First byte of questions on the peer link; the router's messages begin with its version, which is far below.
pub const TAG: u8 = 0xf0;

/// A question behind its first byte.
fn framed(question: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + question.len());
    out.put_u8(TAG);
    out.put_slice(question);
    out.freeze()
}

/// Between two rounds of questions.
pub(super) const ROUND: Duration = Duration::from_millis(200);
/// A node that most of the others will not have for so long ends.
const SHUT_OUT: Duration = Duration::from_secs(3);
/// Deadline of one question.
const ASK: Duration = Duration::from_secs(1);
/// How far from the median of all nodes a clock may be before its node gives every lead away and takes none, in
/// milliseconds.
pub const MOST_OFF_MS: i64 = 500;

/// What the folder says of itself; written before the node takes part in anything.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FolderIdentity {
    /// Format of what is in it.
    pub format: u32,
    /// The node it belongs to.
    pub node: u16,
    /// The cluster, once formed.
    pub cluster: Option<[u8; 16]>,
    /// It replaces a lost one: this node never initialises a group, it is brought up to date by its peers.
    pub joined: bool,
}

impl FolderIdentity {
    /// Reads the record of a store. The format stands first and is judged first: of a record that a newer program
    /// wrote nothing else need be readable.
    ///
    /// # Errors
    /// Says what is wrong with it, and the remedy.
    pub fn of(store: &Store) -> Result<Option<Self>, String> {
        let Some(bytes) = store.identity() else { return Ok(None) };
        let unreadable =
            |fault| format!("its identity cannot be read: {fault}; start the program that wrote it");
        let (format, _) = decode_prefix::<u32>(&bytes).map_err(unreadable)?;
        if format > FORMAT {
            return Err(newer(format));
        }
        decode(&bytes).map(Some).map_err(unreadable)
    }
    /// As it is stored.
    pub fn bytes(&self) -> Bytes {
        rookery_wire::encode(self)
    }
}

/// What nodes ask each other before there is a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Question {
    /// Who are you, and what do you know of me?
    Who {
        /// The asker.
        node: u16,
        /// Its folder.
        store: u64,
    },
    /// What does your wall clock say?
    Clock,
    /// Can you lead: is there room on the disk, is your clock right, and do you stay?
    Room,
    /// To the leader of the system group: this folder takes the place of the node's lost one.
    Replace {
        /// The node.
        node: u16,
        /// Its new folder.
        store: u64,
    },
    /// May this node go away: can every group that you lead go on without it?
    Leave {
        /// The node that is about to stop.
        node: u16,
    },
    /// To the leader of the system group: this node is to lead the shard from now on.
    Prefer {
        /// The shard.
        shard: u32,
        /// The node.
        node: u16,
    },
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// My folder, the cluster I am in, and the folder I know of the asker.
    Me {
        /// The answerer's folder.
        store: u64,
        /// Its cluster, if it is in one.
        cluster: Option<[u8; 16]>,
        /// The asker's folder as the cluster knows it.
        yours: Option<u64>,
    },
    /// Unix milliseconds.
    Clock(u64),
    /// Done.
    Done,
    /// Refused, or not the leader.
    No(String),
}

/// Takes part in forming: asks, answers, decides.
pub struct Forming {
    /// This node.
    pub node: u16,
    /// Its folder.
    pub store: u64,
    /// Every configured node.
    pub configured: Vec<u16>,
    /// Shards to create.
    pub shards: u32,
    /// Replicas of each.
    pub replication: usize,
    /// Links.
    pub peers: PeerNet,
    /// For how much room there is.
    pub store_health: Store,
    /// The system group, once open.
    pub group: Mutex<Option<Group<SystemWaiter>>>,
    /// The facts.
    pub facts: watch::Receiver<Arc<Facts>>,
    /// For the cluster id.
    pub entropy: Arc<dyn Entropy>,
    /// For those who compare theirs.
    pub clock: Arc<dyn Clock>,
    /// How far this node's clock is ahead of the median of all nodes, milliseconds; 0 until it is known.
    pub clock_ahead: watch::Receiver<i64>,
    /// This node is stopping and takes no leads.
    pub leaving: AtomicBool,
    /// Whether all groups led here can go on without a node; set once they are open. Must not keep them alive.
    pub stands_without: OnceLock<StandsWithout>,
}

/// Says of a node whether it may go.
pub type StandsWithout = Box<dyn Fn(u16) -> bool + Send + Sync>;

impl Forming {
    /// Answers a peer's question.
    pub async fn answer(&self, question: Question) -> Reply {
        let facts = self.facts.borrow().clone();
        match question {
            Question::Who { node, .. } => Reply::Me {
                store: self.store,
                cluster: facts.cluster,
                yours: facts.nodes.get(&node).map(|known| known.store),
            },
            Question::Clock => Reply::Clock(self.clock.unix_ms()),
            Question::Room if self.leaving.load(Ordering::Acquire) => {
                Reply::No("the node is stopping".to_owned())
            }
            Question::Room => can_lead(self.is_low(), *self.clock_ahead.borrow()),
            // Who goes himself keeps nobody.
            Question::Leave { .. } if self.leaving.load(Ordering::Acquire) => Reply::Done,
            Question::Leave { node } => match self.stands_without.get() {
                Some(stands) if !stands(node) => {
                    Reply::No("a group led here would lose its majority".to_owned())
                }
                _ => Reply::Done,
            },
            Question::Replace { node, store } => {
                said(self.propose(FactsCommand::Replace { node, store }).await)
            }
            Question::Prefer { shard, node } => {
                said(self.propose(FactsCommand::Prefer { shard, node }).await)
            }
        }
    }

    pub(super) async fn propose(&self, command: FactsCommand) -> Result<(), String> {
        let group = self.group.lock().clone();
        let Some(group) = group else { return Err("the node is starting".to_owned()) };
        let (waiter, answered) = SystemWaiter::new();
        group.propose(rookery_wire::encode(&command), waiter).await;
        match tokio::time::timeout(Duration::from_secs(5), answered).await {
            Ok(Ok(outcome)) => outcome.map(drop).map_err(|why| why.to_string()),
            _ => Err("no answer from the system group".to_owned()),
        }
    }

    /// Goes on until this node is in a formed cluster that knows its folder.
    ///
    /// # Errors
    /// The reason why this node must not take part, with the remedy.
    pub async fn join(&self, identity: &FolderIdentity, replace: bool) -> Result<Arc<Facts>, String> {
        let mut facts = self.facts.clone();
        let mut said = String::new();
        loop {
            let known = facts.borrow_and_update().clone();
            if let Some(cluster) = known.cluster {
                match known.nodes.get(&self.node) {
                    Some(mine) if mine.store == self.store => return self.agree(known),
                    _ => return Err(self.refused(&cluster)),
                }
            }
            if let Err(why) = self.step(identity, replace).await {
                match why {
                    Step::Refuse(why) => return Err(why),
                    Step::Wait(why) if why != said => {
                        tracing::info!("{why}");
                        said = why;
                    }
                    Step::Wait(_) => {}
                }
            }
            // Either the facts arrive or the next round asks again.
            let _ = tokio::time::timeout(ROUND, facts.changed()).await;
        }
    }

    /// Whether this program and its configuration can serve the cluster as it is.
    fn agree(&self, known: Arc<Facts>) -> Result<Arc<Facts>, String> {
        if known.format > FORMAT {
            return Err(format!("node {} cannot serve this cluster: {}", self.node, newer(known.format)));
        }
        let shards = known.placement.count();
        if shards != self.shards {
            return Err(format!(
                "cluster.shards in cluster.toml is {}, and the cluster was formed with {shards}, which is for ever: \
                 set cluster.shards = {shards}",
                self.shards
            ));
        }
        Ok(known)
    }

    async fn step(&self, identity: &FolderIdentity, replace: bool) -> Result<(), Step> {
        let answers = self.ask_everyone().await;
        let formed = answers.iter().find_map(|(_, reply)| match reply {
            Reply::Me { cluster: Some(cluster), yours, .. } => Some((*cluster, *yours)),
            _ => None,
        });
        match formed {
            Some((cluster, Some(known))) if known != self.store && identity.cluster.is_none() => {
                if !replace {
                    return Err(Step::Refuse(self.refused(&cluster)));
                }
                self.ask_replacement(&answers).await
            }
            Some((cluster, None)) => Err(Step::Refuse(format!(
                "cluster {} does not know node {}; a node is added by an operator, not by starting it",
                cluster_text(&cluster),
                self.node
            ))),
            // The log with the facts is on its way.
            Some(_) => Ok(()),
            None if replace => {
                Err(Step::Wait("waiting for a node of the cluster this folder is to join".to_owned()))
            }
            None => self.form(&answers).await,
        }
    }

    async fn form(&self, answers: &BTreeMap<u16, Reply>) -> Result<(), Step> {
        let stores = match founders((self.node, self.store), &self.configured, answers) {
            Ok(stores) => stores,
            Err(missing) => {
                let between = self.peers.refusals().into_iter().find(|(node, _)| missing.contains(node));
                let between = between.map_or(String::new(), |(node, why)| format!("; node {node}: {why}"));
                let text = format!("waiting for node(s) {missing:?} to form the cluster{between}");
                return Err(Step::Wait(text));
            }
        };
        let group = self.group.lock().clone();
        let Some(group) = group else { return Ok(()) };
        if self.configured.first() == Some(&self.node) {
            let voters: Vec<RaftId> =
                stores.iter().map(|(node, store)| RaftId { node: *node, store: *store }).collect();
            // Said on every round until somebody leads; refused when an earlier round has done it.
            if group.status().leader.is_none()
                && let Err(fault) = group.initialize(&voters).await
            {
                tracing::debug!(%fault, "the system group is not initialised again");
            }
        }
        if group.status().leading {
            let mut cluster = [0; 16];
            cluster[..8].copy_from_slice(&self.entropy.u64().to_be_bytes());
            cluster[8..].copy_from_slice(&self.entropy.u64().to_be_bytes());
            let placement = Placement::spread(self.shards, &self.configured, self.replication);
            let form = FactsCommand::Form { cluster, format: FORMAT, nodes: stores, placement };
            self.propose(form).await.map_err(|why| Step::Wait(format!("forming: {why}")))?;
        }
        Ok(())
    }

    /// Every node that answers in time, by number; this one left out.
    async fn ask_everyone(&self) -> BTreeMap<u16, Reply> {
        let question = rookery_wire::encode(&Question::Who { node: self.node, store: self.store });
        let ask = |node: u16| {
            let question = question.clone();
            async move { Some((node, self.ask(node, question).await?)) }
        };
        let others = self.configured.iter().copied().filter(|node| *node != self.node);
        futures::future::join_all(others.map(ask)).await.into_iter().flatten().collect()
    }

    async fn ask_replacement(&self, answers: &BTreeMap<u16, Reply>) -> Result<(), Step> {
        let question = rookery_wire::encode(&Question::Replace { node: self.node, store: self.store });
        let mut said = "no node of the cluster answers".to_owned();
        for node in answers.keys() {
            match self.ask(*node, question.clone()).await {
                Some(Reply::Done) => return Ok(()),
                Some(Reply::No(why)) => said = why,
                _ => {}
            }
        }
        Err(Step::Wait(format!("asking to take the place of node {}: {said}", self.node)))
    }

    /// Resolves with the reason when this node is shut out: more than half of the others and it will not have each other,
    /// for so long that it is no passing thing. One of them alone may be the wrong one itself.
    pub async fn shut_out(&self) -> String {
        let others: Vec<u16> = self.configured.iter().copied().filter(|node| *node != self.node).collect();
        let mut since: Option<tokio::time::Instant> = None;
        loop {
            tokio::time::sleep(ROUND).await;
            let mut between = self.peers.refusals();
            between.retain(|node, _| others.contains(node));
            if between.len() * 2 <= others.len() {
                since = None;
                continue;
            }
            let since = *since.get_or_insert_with(tokio::time::Instant::now);
            if since.elapsed() >= SHUT_OUT
                && let Some((node, why)) = between.first_key_value()
            {
                return format!(
                    "{} of {} other nodes and this one will not have each other; node {node}: {why}",
                    between.len(),
                    others.len()
                );
            }
        }
    }

    /// A peer's wall clock, unix milliseconds.
    pub async fn ask_clock(&self, node: u16) -> Option<u64> {
        match self.ask(node, rookery_wire::encode(&Question::Clock)).await {
            Some(Reply::Clock(unix_ms)) => Some(unix_ms),
            _ => None,
        }
    }

    /// Whether little disk is free here: then this node should not lead, for a leader without room refuses writes.
    pub fn is_low(&self) -> bool {
        self.store_health.health().low_disk
    }

    /// Whether this node's clock is off: then it must not lead, for a leader stamps time (R10).
    pub fn clock_is_off(&self) -> bool {
        is_off(*self.clock_ahead.borrow())
    }

    /// From here on this node answers that it cannot lead: it is about to stop.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Whether a peer answers that it can lead: its disk has room, its clock is right and it is not stopping.
    pub async fn ask_room(&self, node: u16) -> bool {
        matches!(self.ask(node, rookery_wire::encode(&Question::Room)).await, Some(Reply::Done))
    }

    /// Whether a peer has nothing against this node's going away; one that says nothing has nothing against it.
    pub async fn ask_leave(&self, node: u16) -> bool {
        let question = Question::Leave { node: self.node };
        !matches!(self.ask(node, rookery_wire::encode(&question)).await, Some(Reply::No(_)))
    }

    pub(super) async fn ask(&self, node: u16, question: Bytes) -> Option<Reply> {
        let body = framed(&question);
        let answer = self.peers.call(node, body, ASK).await.ok()?;
        decode(&answer).ok()
    }

    fn refused(&self, cluster: &[u8; 16]) -> String {
        format!(
            "node {} is known to cluster {} with another data folder than this empty one. If the folder was moved, give \
             its path in cluster.toml. If it is lost, start this node once with --replace: it then comes back under a \
             new identity and is filled by its peers",
            self.node,
            cluster_text(cluster)
        )
    }
}

/// Every configured node with its folder, or the nodes that have not said which theirs is: one that is linked and not ready
/// answers too, and a cluster that formed without it would never have it.
fn founders(
    me: (u16, u64),
    configured: &[u16],
    answers: &BTreeMap<u16, Reply>,
) -> Result<Vec<(u16, u64)>, Vec<u16>> {
    let (mut stores, mut missing) = (vec![me], Vec::new());
    for node in configured.iter().copied().filter(|node| *node != me.0) {
        match answers.get(&node) {
            Some(Reply::Me { store, .. }) => stores.push((node, *store)),
            _ => missing.push(node),
        }
    }
    stores.sort_unstable();
    if missing.is_empty() { Ok(stores) } else { Err(missing) }
}

fn said(outcome: Result<(), String>) -> Reply {
    outcome.map_or_else(Reply::No, |()| Reply::Done)
}

fn is_off(clock_ahead: i64) -> bool {
    clock_ahead.unsigned_abs() > MOST_OFF_MS.unsigned_abs()
}

/// The answer to whether a node can lead. One that gives its leads away must not be given them back.
fn can_lead(low_disk: bool, clock_ahead: i64) -> Reply {
    if low_disk {
        return Reply::No("little disk space is free".to_owned());
    }
    if is_off(clock_ahead) {
        return Reply::No(format!("the clock is {clock_ahead} ms ahead of the other nodes'"));
    }
    Reply::Done
}

/// What to say of something written in a later format than this program knows.
fn newer(format: u32) -> String {
    format!(
        "it is in format {format}, this program knows formats up to {FORMAT}: start a newer version of rookery"
    )
}

enum Step {
    Refuse(String),
    Wait(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_waits_for_a_node_that_is_linked_and_not_ready() {
        let me = |store| Reply::Me { store, cluster: None, yours: None };
        let mut answers = BTreeMap::from([(1, me(10)), (3, me(30))]);
        assert_eq!(founders((2, 20), &[1, 2, 3], &answers), Ok(vec![(1, 10), (2, 20), (3, 30)]));
        answers.insert(3, Reply::No("the node is starting".to_owned()));
        assert_eq!(
            founders((2, 20), &[1, 2, 3], &answers),
            Err(vec![3]),
            "it has said nothing of its folder"
        );
        answers.remove(&1);
        assert_eq!(founders((2, 20), &[1, 2, 3], &answers), Err(vec![1, 3]));
    }

    #[test]
    fn a_node_whose_clock_is_off_or_whose_disk_is_full_takes_no_lead() {
        for right in [0, MOST_OFF_MS, -MOST_OFF_MS] {
            assert_eq!(can_lead(false, right), Reply::Done, "{right} ms");
            assert!(matches!(can_lead(true, right), Reply::No(why) if why.contains("disk")));
        }
        for off in [MOST_OFF_MS + 1, -MOST_OFF_MS - 1, i64::MIN] {
            assert!(matches!(can_lead(false, off), Reply::No(why) if why.contains("clock")), "{off} ms");
        }
    }
}

//! The way of a line into the audit, and of a page out of it: to whoever leads the system group, again and again until the
//! deadline.
//!
//! Whatever waits on a node goes in one proposal, so that many actions cost the group few entries. Asking again is safe: a
//! line that is there is not written twice. Owns the queue of this node and the questions between nodes; must never let
//! an action go on whose line is not there.

use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use rookery_raft::{Clock, Group, PeerNet};
use rookery_wire::admin::AuditPage;
use rookery_wire::codec::decode;
use rookery_wire::{ErrorBody, ErrorCode};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::audit::{AuditCommand, MOST_LINES, Wanted};
use super::facts::FactsCommand;
use super::machine::{SystemMachine, SystemWaiter};

/// First byte of questions about the audit on the peer link.
pub const AUDIT_TAG: u8 = 0xf1;

/// Lines that wait on one node; beyond it BUSY.
const QUEUE: usize = 4096;
/// Deadline of one attempt.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Between two attempts, growing from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// Takes lines for the audit and gives pages of it.
pub trait AuditTrail: Send + Sync + 'static {
    /// Writes a line, unless one with its mark is there; gives its number once a majority has it.
    fn append(&self, wanted: Wanted) -> BoxFuture<'static, Result<u64, ErrorBody>>;
    /// Lines after a number, as of an instant after this was asked.
    fn page(&self, after: u64, limit: u32) -> BoxFuture<'static, Result<AuditPage, ErrorBody>>;
}

/// What a trail is made with.
#[derive(Clone, Copy, Debug)]
pub struct TrailOptions {
    /// This node.
    pub node: u16,
    /// Lines that are kept.
    pub keep: u32,
    /// For how long, milliseconds.
    pub age_ms: u64,
    /// How long an action waits for its line.
    pub deadline: Duration,
}

/// A question to the leader of the system group.
#[derive(Debug, Encode, Decode)]
enum Question {
    /// Write these.
    Append(Vec<Wanted>),
    /// What is there?
    Page { after: u64, limit: u32 },
}

/// Its answer.
#[derive(Debug, Encode, Decode)]
enum Reply {
    Numbers(Vec<u64>),
    Page(AuditPage),
    /// Not done, or unknown: ask again.
    No(String),
}

/// A line that waits for its number.
struct Waiting {
    wanted: Wanted,
    answer: oneshot::Sender<u64>,
}

/// The trail of one node. Cheap to clone.
#[derive(Clone)]
pub struct Trail(Arc<Inner>);

struct Inner {
    options: TrailOptions,
    group: Group<SystemWaiter>,
    machine: Arc<SystemMachine>,
    peers: PeerNet,
    clock: Arc<dyn Clock>,
    queue: mpsc::Sender<Waiting>,
}

impl Trail {
    /// A trail, and the task that takes lines to the leader; whoever spawns it ends it.
    pub fn new(
        options: TrailOptions,
        group: Group<SystemWaiter>,
        machine: Arc<SystemMachine>,
        peers: PeerNet,
        clock: Arc<dyn Clock>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, lines) = mpsc::channel(QUEUE);
        let trail = Self(Arc::new(Inner { options, group, machine, peers, clock, queue }));
        (trail.clone(), trail.0.run(lines))
    }

    /// Answers a question of another node.
    pub async fn answer(&self, question: Bytes) -> Bytes {
        let reply = match decode::<Question>(&question) {
            Ok(question) => self.0.answer(question).await.unwrap_or_else(Reply::No),
            Err(fault) => Reply::No(fault.to_string()),
        };
        rookery_wire::encode(&reply)
    }
}

impl Inner {
    async fn run(self: Arc<Self>, mut lines: mpsc::Receiver<Waiting>) {
        while let Some(first) = lines.recv().await {
            let mut batch = vec![first];
            while batch.len() < MOST_LINES
                && let Ok(more) = lines.try_recv()
            {
                batch.push(more);
            }
            self.write(batch).await;
        }
    }

    /// Until all have their number, or nobody waits for one any more.
    async fn write(&self, mut batch: Vec<Waiting>) {
        let mut pause = PAUSE.0;
        loop {
            batch.retain(|waiting| !waiting.answer.is_closed());
            if batch.is_empty() {
                return;
            }
            let lines = batch.iter().map(|waiting| waiting.wanted.clone()).collect();
            match self.ask(Question::Append(lines)).await {
                Ok(Reply::Numbers(numbers)) if numbers.len() == batch.len() => {
                    for (waiting, number) in batch.into_iter().zip(numbers) {
                        // Nobody may be waiting any more.
                        let _ = waiting.answer.send(number);
                    }
                    return;
                }
                Ok(other) => tracing::debug!(?other, "lines of the audit are asked for again"),
                Err(why) => tracing::debug!(why, "lines of the audit are asked for again"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Asks the leader, who may be this node.
    async fn ask(&self, question: Question) -> Result<Reply, String> {
        let leader = self.group.status().leader.ok_or("nobody leads the system group")?;
        if leader.node == self.options.node {
            return self.answer(question).await;
        }
        let mut body = BytesMut::with_capacity(64);
        body.put_u8(AUDIT_TAG);
        rookery_wire::encode_into(&question, &mut body);
        let answer = self.peers.call(leader.node, body.freeze(), ATTEMPT).await;
        let answer = answer.map_err(|fault| fault.to_string())?;
        decode(&answer).map_err(|fault| format!("node {} answers something else: {fault}", leader.node))
    }

    /// What the leader does.
    async fn answer(&self, question: Question) -> Result<Reply, String> {
        match question {
            Question::Append(lines) if lines.len() > MOST_LINES => {
                Err(format!("{} lines at once", lines.len()))
            }
            Question::Append(lines) => {
                let TrailOptions { keep, age_ms, .. } = self.options;
                let command = AuditCommand { time_ms: self.clock.unix_ms(), keep, age_ms, lines };
                let (waiter, answered) = SystemWaiter::new();
                self.group.propose(rookery_wire::encode(&FactsCommand::Audit(command)), waiter).await;
                match timeout(ATTEMPT, answered).await {
                    Ok(Ok(numbers)) => numbers.map(Reply::Numbers),
                    _ => Err("no answer from the system group".to_owned()),
                }
            }
            Question::Page { after, limit } => {
                self.group.read_index(ATTEMPT).await.map_err(|fault| fault.to_string())?;
                self.machine.audit_page(after, limit).await.map(Reply::Page)
            }
        }
    }
}

impl AuditTrail for Trail {
    fn append(&self, wanted: Wanted) -> BoxFuture<'static, Result<u64, ErrorBody>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            if inner.queue.try_send(Waiting { wanted, answer }).is_err() {
                let text = "as many actions wait for the audit on this node as may";
                return Err(ErrorBody::new(ErrorCode::Busy, text));
            }
            match timeout(inner.options.deadline, answered).await {
                Ok(Ok(number)) => Ok(number),
                _ => Err(late(
                    "the action was not carried out: no majority wrote its line of the audit in time",
                )),
            }
        })
    }

    fn page(&self, after: u64, limit: u32) -> BoxFuture<'static, Result<AuditPage, ErrorBody>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let deadline = Instant::now() + inner.options.deadline;
            let mut pause = PAUSE.0;
            let asked = async {
                loop {
                    match inner.ask(Question::Page { after, limit }).await {
                        Ok(Reply::Page(page)) => return page,
                        other => tracing::debug!(?other, "a page of the audit is asked for again"),
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            };
            timeout_at(deadline, asked)
                .await
                .map_err(|_| late("the leader of the system group gave no answer in time"))
        })
    }
}

fn late(text: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::Unavailable, text)
}

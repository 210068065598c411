//! The way of a line into the audit, and of a page out of it: to whoever leads the system group, again and again until the
//! deadline.
//!
//! Whatever waits on a node goes in one proposal, so that many actions cost the group few entries. Asking again is safe: a
//! line that is there is not written twice. A leader whose clock does not agree with those of a majority writes none (R10): a
//! time that is far ahead would make all others old. Owns the queue of this node and the questions between nodes; must never let
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
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::audit::{AuditCommand, MOST_LINES, Wanted};
use super::facts::FactsCommand;
use super::machine::{NotDone, SystemMachine, SystemWaiter};

/// First byte of questions about the audit on the peer link.
pub const AUDIT_TAG: u8 = 0xf1;

/// Lines that wait on one node; beyond it BUSY.
const QUEUE: usize = 4096;
/// Deadline of one attempt.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long a leader without room may take to make some or to give the lead away, before DISK_LOW or BUSY is the answer.
const FULL_PATIENCE: Duration = Duration::from_secs(4);
/// Between two attempts, growing from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// Takes lines for the audit and gives pages of it.
pub trait AuditTrail: Send + Sync + 'static {
    /// Writes a line, unless one with its mark is there; gives its number once a majority has it, if that is before the
    /// deadline. So many bytes of the asker's wait with it, and count.
    fn append(
        &self,
        wanted: Wanted,
        bytes: usize,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<u64, ErrorBody>>;
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
    /// How long a page is asked for.
    pub deadline: Duration,
    /// Bytes of actions that wait for their lines on this node; beyond it BUSY.
    pub bytes: usize,
}

/// By what lines get their times.
#[derive(Clone)]
pub struct Times {
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// Whether it agrees with the clocks of a majority of the nodes.
    pub agrees: Arc<dyn Fn() -> bool + Send + Sync>,
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
    /// Not done, for want of disk space.
    LowDisk,
    /// Not done, for the journal is full.
    Busy,
}

/// A line that waits for its number.
struct Waiting {
    wanted: Wanted,
    answer: oneshot::Sender<Result<u64, ErrorBody>>,
}

/// The trail of one node. Cheap to clone.
#[derive(Clone)]
pub struct Trail(Arc<Inner>);

struct Inner {
    options: TrailOptions,
    group: Group<SystemWaiter>,
    machine: Arc<SystemMachine>,
    peers: PeerNet,
    times: Times,
    room: Arc<Semaphore>,
    queue: mpsc::Sender<Waiting>,
}

impl Trail {
    /// A trail, and the task that takes lines to the leader; whoever spawns it ends it.
    pub fn new(
        options: TrailOptions,
        group: Group<SystemWaiter>,
        machine: Arc<SystemMachine>,
        peers: PeerNet,
        times: Times,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, lines) = mpsc::channel(QUEUE);
        let room = Arc::new(Semaphore::new(options.bytes));
        let trail = Self(Arc::new(Inner { options, group, machine, peers, times, room, queue }));
        (trail.clone(), trail.0.run(lines))
    }

    /// Whether an action of so many bytes could wait here now.
    #[cfg(test)]
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.0.room.available_permits() >= bytes
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
        let mut full_since = None;
        while let Some(first) = lines.recv().await {
            let mut batch = vec![first];
            while batch.len() < MOST_LINES
                && let Ok(more) = lines.try_recv()
            {
                batch.push(more);
            }
            self.write(batch, &mut full_since).await;
        }
    }

    /// Until all have their number or a refusal, or nobody waits for one any more. Since when the leader has no room is
    /// remembered from one batch to the next, so that not each of them waits for some.
    async fn write(&self, mut batch: Vec<Waiting>, full_since: &mut Option<Instant>) {
        let mut pause = PAUSE.0;
        loop {
            batch.retain(|waiting| !waiting.answer.is_closed());
            if batch.is_empty() {
                return;
            }
            let lines = batch.iter().map(|waiting| waiting.wanted.clone()).collect();
            let reply = self.ask(Question::Append(lines)).await;
            if let Ok(Reply::Numbers(numbers)) = &reply
                && numbers.len() == batch.len()
            {
                *full_since = None;
                for (waiting, number) in batch.into_iter().zip(numbers) {
                    // Nobody may be waiting any more.
                    let _ = waiting.answer.send(Ok(*number));
                }
                return;
            }
            tracing::debug!(?reply, "lines of the audit are asked for again");
            match refusal(&reply) {
                Some(refusal) if full_since.get_or_insert_with(Instant::now).elapsed() >= FULL_PATIENCE => {
                    for waiting in batch {
                        let _ = waiting.answer.send(Err(refusal.clone()));
                    }
                    return;
                }
                Some(_) => {}
                None => *full_since = None,
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
                let command = self.command(lines)?;
                let (waiter, answered) = SystemWaiter::new();
                self.group.propose(rookery_wire::encode(&FactsCommand::Audit(command)), waiter).await;
                match timeout(ATTEMPT, answered).await {
                    Ok(Ok(Ok(numbers))) => Ok(Reply::Numbers(numbers)),
                    Ok(Ok(Err(NotDone::LowDisk))) => Ok(Reply::LowDisk),
                    Ok(Ok(Err(NotDone::Busy))) => Ok(Reply::Busy),
                    Ok(Ok(Err(NotDone::Other(why)))) => Err(why),
                    _ => Err("no answer from the system group".to_owned()),
                }
            }
            Question::Page { after, limit } => {
                self.group.read_index(ATTEMPT).await.map_err(|fault| fault.to_string())?;
                // By a clock of which nobody knows, nothing is too old.
                let now_ms = (self.times.agrees)().then(|| self.times.clock.unix_ms());
                let oldest_ms = now_ms.map_or(0, |now_ms| now_ms.saturating_sub(self.options.age_ms));
                self.machine.audit_page(after, limit, oldest_ms).await.map(Reply::Page)
            }
        }
    }

    /// The lines with the time that this leader gives them.
    fn command(&self, lines: Vec<Wanted>) -> Result<AuditCommand, String> {
        let TrailOptions { node, keep, age_ms, .. } = self.options;
        let time_ms = self.times.clock.unix_ms();
        if (self.times.agrees)() {
            return Ok(AuditCommand { time_ms, keep, age_ms, lines });
        }
        Err(format!(
            "the clock of node {node}, which leads, does not agree with those of a majority of the nodes"
        ))
    }
}

/// What an answer says that is no, and will be for a while; none otherwise.
fn refusal(reply: &Result<Reply, String>) -> Option<ErrorBody> {
    match reply {
        Ok(Reply::LowDisk) => Some(ErrorBody::new(ErrorCode::DiskLow, NotDone::LowDisk.to_string())),
        Ok(Reply::Busy) => Some(ErrorBody::new(ErrorCode::Busy, NotDone::Busy.to_string())),
        _ => None,
    }
}

impl AuditTrail for Trail {
    fn append(
        &self,
        wanted: Wanted,
        bytes: usize,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<u64, ErrorBody>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let many = || {
                let text = "as many actions wait for the audit on this node as may";
                ErrorBody::new(ErrorCode::Busy, text)
            };
            // One alone has room, however large.
            let bytes = u32::try_from(bytes.min(inner.options.bytes)).map_err(|_| many())?;
            let _room = inner.room.clone().try_acquire_many_owned(bytes).map_err(|_| many())?;
            let (answer, answered) = oneshot::channel();
            inner.queue.try_send(Waiting { wanted, answer }).map_err(|_| many())?;
            match timeout_at(deadline, answered).await {
                Ok(Ok(outcome)) => outcome,
                _ => Err(late(
                    "no majority wrote the action's line of the audit in time; whether it was carried out before is \
                     not known: repeat it with the same key",
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

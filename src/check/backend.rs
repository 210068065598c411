//! The business's backend under load: messages under request keys, each asked for several times, at several nodes, at the
//! same moment and long after it was answered.
//!
//! Whoever asks writes down when, where and what came of it; that there is one effect, one answer and one line of the audit
//! is the judge's business.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rookery_wire::admin::{Admin, AdminAction, AdminOutcome, AdminReply, Audit, AuditPage};
use rookery_wire::{Blob, ErrorBody, Frame, Kind, RequestKey, Retry as Advice, UserId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::dump::{self, Fault};
use super::history::{Asking, Keyed, NEVER, Outcome};
use super::link::{Link, LinkFault, body};
use super::print::content_hash;
use super::stage::{Phase, Stage};

/// Connections, each of which asks for one thing after another.
const HANDS: u64 = 4;
/// Pause of a hand between two askings, milliseconds.
const PAUSE_MS: (u64, u64) = (40, 160);
/// An asking that is not answered by then has an unknown end.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often, of a hundred, something is asked for that was asked for before; half of these times it is one of the newest.
const AGAIN: u32 = 60;
const NEWEST: usize = 4;
/// How often, of a hundred, a hand goes to another node without need.
const ELSEWHERE: u32 = 15;
/// Acts in one run at most: a session remembers 10,000 keys.
const MOST: usize = 5_000;
/// Lines of the audit asked for at a time.
const LINES: u32 = 1_000;
/// How long reading the audit may take.
const AUDIT: Duration = Duration::from_secs(20);
/// The media type of what it says.
const TEXT: &str = "text/plain";

/// Everything it did.
type Acts = Arc<Mutex<Vec<Keyed>>>;

/// A backend at work; it ends with this.
#[derive(Debug)]
pub struct Backend {
    acts: Acts,
    hands: JoinSet<()>,
}

impl Backend {
    /// Begins, if the run has one.
    pub fn begin(stage: &Arc<Stage>, seed: u64) -> Self {
        let (acts, mut hands) = (Acts::default(), JoinSet::new());
        for number in 0..if stage.parts.keys { HANDS } else { 0 } {
            let random = StdRng::seed_from_u64(seed ^ 0x0bac_ce4d ^ (number << 32));
            let hand = Hand { stage: stage.clone(), acts: acts.clone(), random, number, link: None };
            hands.spawn(hand.work());
        }
        Self { acts, hands }
    }

    /// Waits until everything was answered, or there is no more time.
    pub async fn finish(mut self, patience: Duration) -> Vec<Keyed> {
        let all = async { while self.hands.join_next().await.is_some() {} };
        // What is still unanswered then has an unknown end.
        let _ = timeout(patience, all).await;
        self.hands.shutdown().await;
        std::mem::take(&mut *self.acts.lock())
    }
}

/// One connection and what it does.
struct Hand {
    stage: Arc<Stage>,
    acts: Acts,
    random: StdRng,
    number: u64,
    link: Option<(u16, Link)>,
}

impl Hand {
    async fn work(mut self) {
        let phase = self.stage.phase();
        loop {
            let now = phase.borrow().clone();
            let next = match now {
                Phase::Load => self.something(),
                Phase::Drain => match self.unanswered() {
                    Some(act) => Some(act),
                    None => return,
                },
                Phase::Quiet(_) | Phase::End => return,
            };
            if let Some(act) = next {
                self.ask(act).await;
            }
            let pause = self.random.random_range(PAUSE_MS.0..=PAUSE_MS.1);
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Something new, or something that was asked for before.
    fn something(&mut self) -> Option<usize> {
        let mut acts = self.acts.lock();
        if !acts.is_empty() && (self.random.random_range(0..100) < AGAIN || acts.len() >= MOST) {
            let first = if self.random.random_bool(0.5) { acts.len().saturating_sub(NEWEST) } else { 0 };
            return Some(self.random.random_range(first..acts.len()));
        }
        if self.stage.is_full() {
            return None;
        }
        let cast = &self.stage.cast;
        let group = cast.groups.choose(&mut self.random)?;
        let key = acts.len() as u64;
        let name = self.random.random_bool(0.5).then(|| cast.user_of(group.owner));
        let hash = content_hash(TEXT.as_bytes(), content(key).as_bytes(), &[]);
        acts.push(Keyed { key, session: group.session, name, hash, asked: Vec::new() });
        self.stage.note();
        Some(acts.len() - 1)
    }

    /// Something of which nobody knows the end.
    fn unanswered(&mut self) -> Option<usize> {
        let known = |act: &Keyed| act.asked.iter().any(|asking| asking.outcome != Outcome::Unknown);
        let acts = self.acts.lock();
        let open: Vec<usize> =
            acts.iter().enumerate().filter(|(_, act)| !known(act)).map(|(at, _)| at).collect();
        open.choose(&mut self.random).copied()
    }

    /// Asks once, and writes down what came of it.
    async fn ask(&mut self, at: usize) {
        let Some(request) = self.request(at) else { return };
        let Some((node, mut link)) = self.connected().await else { return };
        let (invoke, done, audit) = (self.stage.now(), NEVER, 0);
        let place = {
            let mut acts = self.acts.lock();
            let Some(act) = acts.get_mut(at) else { return };
            act.asked.push(Asking { node, invoke, done, audit, outcome: Outcome::Unknown });
            act.asked.len() - 1
        };
        let Ok(Ok(frame)) = timeout(PATIENCE, answered(&mut link, &request)).await else { return };
        let Some((audit, outcome)) = read(&frame) else { return };
        if let Some(asking) = self.acts.lock().get_mut(at).and_then(|act| act.asked.get_mut(place)) {
            (asking.audit, asking.outcome) = (audit, outcome);
            if outcome != Outcome::Unknown {
                asking.done = self.stage.now();
            }
        }
        self.link = Some((node, link));
    }

    fn request(&self, at: usize) -> Option<Admin> {
        let cast = &self.stage.cast;
        let user = |at: super::history::UserIx| cast.names.users.get(at.0 as usize).cloned();
        let acts = self.acts.lock();
        let act = acts.get(at)?;
        Some(Admin {
            key: RequestKey::new(&key_of(&user(cast.backend)?, act.key)).ok()?,
            on_behalf_of: act.name.and_then(user),
            action: AdminAction::Send {
                session: cast.session(act.session)?.clone(),
                content_type: Blob::from(TEXT),
                content: Blob(content(act.key).into()),
                extensions: Vec::new(),
            },
        })
    }

    /// The connection there is, or one to any node.
    async fn connected(&mut self) -> Option<(u16, Link)> {
        if self.random.random_range(0..100) >= ELSEWHERE
            && let Some(link) = self.link.take()
        {
            return Some(link);
        }
        let (node, addr) = self.stage.nodes.choose(&mut self.random)?.clone();
        let cast = &self.stage.cast;
        let user = cast.names.users.get(cast.backend.0 as usize)?;
        let device = format!("hand-{}", self.number);
        let link = dump::connect_as(&self.stage, user, &device, &addr).await.ok()?;
        Some((node, link))
    }
}

/// What the act with this number says: made once and never again.
fn content(key: u64) -> String {
    format!("the backend's message {key}")
}

fn key_of(backend: &UserId, number: u64) -> String {
    format!("{backend}-{number}")
}

async fn answered(link: &mut Link, request: &Admin) -> Result<Frame, LinkFault> {
    let id = link.ask(Kind::Admin, request);
    link.flush().await?;
    loop {
        let frame = link.next().await?;
        if frame.request_id == id {
            return Ok(frame);
        }
    }
}

/// The line of the audit and the end that an answer says.
fn read(frame: &Frame) -> Option<(u64, Outcome)> {
    match Kind::from_number(frame.kind) {
        Some(Kind::AdminReply) => {
            let reply: AdminReply = body(frame).ok()?;
            let AdminOutcome::Stored(ack) = reply.outcome else { return None };
            let outcome = Outcome::Acked { seq: ack.seq, message_id: ack.message_id, count: ack.count };
            Some((reply.audit, outcome))
        }
        Some(Kind::Error) => {
            let error: ErrorBody = body(frame).ok()?;
            let is_final = matches!(error.retry, Advice::Never);
            Some((0, if is_final { Outcome::Refused(error.code.number()) } else { Outcome::Unknown }))
        }
        _ => None,
    }
}

/// The lines of the audit about a backend's acts: number and key.
///
/// # Errors
/// No node gives them.
pub async fn audit(stage: &Stage, judge: &UserId) -> anyhow::Result<Vec<(u64, u64)>> {
    let cast = &stage.cast;
    let Some(backend) = cast.names.users.get(cast.backend.0 as usize).filter(|_| stage.parts.keys) else {
        return Ok(Vec::new());
    };
    let until = Instant::now() + AUDIT;
    while Instant::now() < until {
        for (_, addr) in &stage.nodes {
            let read = async {
                let mut link = dump::connect_as(stage, judge, "audit", addr).await?;
                lines(&mut link, backend).await
            };
            if let Ok(Ok(lines)) = timeout(AUDIT, read).await {
                return Ok(lines);
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
    bail!("no node gives the audit")
}

async fn lines(link: &mut Link, backend: &UserId) -> Result<Vec<(u64, u64)>, Fault> {
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let ask = Audit { after, limit: LINES };
        let page: AuditPage = body(&dump::ask(link, Kind::Audit, &ask, Kind::AuditPage).await?)?;
        for line in page.lines.iter().filter(|line| line.service == *backend) {
            let number = line.key.as_str().rsplit_once('-').and_then(|(_, number)| number.parse().ok());
            found.extend(number.map(|key| (line.number, key)));
        }
        let last = page.lines.last().map_or(page.last, |line| line.number);
        if page.lines.is_empty() || last >= page.last {
            return Ok(found);
        }
        after = last;
    }
}

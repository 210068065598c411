//! The devices of the conversation: real clients over TCP, each with a speaker and a listener.
//!
//! Owns what they record: every send with its outcome, everything each device was given. Must never tidy up what it
//! saw: the judgement rests on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use rand::seq::IndexedRandom;
use rookery_client::{Client, ClientError, Event, Events, Options, Outgoing, StartAt};
use rookery_wire::reply::Ack;
use rookery_wire::{SessionId, UserId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::transcript::Transcript;
use super::verdict::{Outcome, Sent, Stream};

/// Orders that may wait for one device.
const ORDERS: usize = 64;
/// How long a send may take, elections included.
const REQUEST: Duration = Duration::from_secs(20);
/// Sends one device has in flight at most.
const WINDOW: usize = 64;
/// With so many in flight a device adds no small talk: on a slow machine there is less of it, not a longer wait.
const CHATTY_BELOW: usize = 2;

/// What people say while others sail.
const SMALL_TALK: &[&str] = &[
    "Aye.",
    "On my way.",
    "Who has the tape?",
    "Look at the sky.",
    "Coffee?",
    "Two minutes.",
    "Over here!",
    "Where is the horn?",
    "Nice tack.",
    "Is that ours?",
    "Wind is up.",
    "All well here.",
];

/// Something for a device to say.
struct Order {
    session: SessionId,
    text: String,
    done: oneshot::Sender<bool>,
}

/// A send that has its answer: its place in the ledger, who wants to know, the answer.
type Landed = (usize, Option<oneshot::Sender<bool>>, Result<Ack, ClientError>);

/// What all devices write into.
pub(super) struct Ledger {
    sends: Vec<Mutex<Vec<Sent>>>,
    streams: Vec<Mutex<Stream>>,
    /// Acknowledged messages by session, for finding the busiest shard.
    acked: Mutex<BTreeMap<SessionId, usize>>,
    waiting: AtomicUsize,
    given: AtomicUsize,
    troubles: Mutex<Vec<String>>,
}

impl Ledger {
    fn new(devices: usize) -> Self {
        Self {
            sends: (0..devices).map(|_| Mutex::default()).collect(),
            streams: (0..devices).map(|_| Mutex::default()).collect(),
            acked: Mutex::default(),
            waiting: AtomicUsize::new(0),
            given: AtomicUsize::new(0),
            troubles: Mutex::default(),
        }
    }

    /// Sends without an answer now.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Messages given to devices so far.
    pub(super) fn given(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }

    /// Acknowledged messages so far, by session.
    pub(super) fn acked(&self) -> BTreeMap<SessionId, usize> {
        self.acked.lock().clone()
    }

    /// Notes something that ought not to be.
    pub(super) fn trouble(&self, text: String) {
        self.troubles.lock().push(text);
    }

    /// Everything that was noted, a device's sends in its own order.
    pub(super) fn evidence(&self) -> (Vec<Sent>, Vec<Stream>, Vec<String>) {
        let sends = self.sends.iter().flat_map(|sends| sends.lock().clone()).collect();
        let streams = self.streams.iter().map(|stream| stream.lock().clone()).collect();
        (sends, streams, self.troubles.lock().clone())
    }

    /// Whether a device was given everything of a session up to `last`, by count of different seqs.
    pub(super) fn has(&self, device: usize, session: &SessionId, last: u64) -> bool {
        let stream = self.streams[device].lock();
        let seqs: std::collections::BTreeSet<u64> =
            stream.iter().filter(|(at, ..)| at == session).map(|(_, seq, _)| *seq).collect();
        seqs.len() as u64 >= last
    }

    fn began(&self, device: usize, session: &SessionId, text: &str) -> usize {
        let now = Instant::now();
        let mut sends = self.sends[device].lock();
        sends.push(Sent {
            device,
            session: session.clone(),
            text: text.to_owned(),
            outcome: Outcome::Unknown("the demo ended first".to_owned()),
            began: now,
            ended: now,
        });
        self.waiting.fetch_add(1, Ordering::Relaxed);
        sends.len() - 1
    }

    fn ended(&self, device: usize, at: usize, answer: Result<Ack, ClientError>) -> bool {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let mut sends = self.sends[device].lock();
        let sent = &mut sends[at];
        sent.ended = Instant::now();
        sent.outcome = match answer {
            Ok(ack) => Outcome::Acked { client_seq: ack.client_seq, seq: ack.seq },
            Err(fault) if fault.outcome_unknown() => Outcome::Unknown(fault.to_string()),
            Err(fault) => Outcome::Refused(fault.to_string()),
        };
        let acked = matches!(sent.outcome, Outcome::Acked { .. });
        if acked {
            *self.acked.lock().entry(sent.session.clone()).or_default() += 1;
        }
        acked
    }
}

/// All devices, connected.
pub(super) struct Cast {
    /// What they record.
    pub(super) ledger: Arc<Ledger>,
    clients: Vec<Client>,
    orders: Vec<mpsc::Sender<Order>>,
    background: watch::Sender<u32>,
    tasks: JoinSet<()>,
}

impl Cast {
    /// Connects every device of the transcript, each to another node first, and makes the groups.
    pub(super) async fn enter(transcript: &Transcript, addrs: &[String]) -> Result<Self> {
        let connecting = transcript.devices.iter().enumerate().map(|(at, device)| async move {
            let seeds = (0..addrs.len()).map(|next| addrs[(at + next) % addrs.len()].clone());
            let mut options = Options::new(seeds, device.user.clone(), device.name.clone());
            options.start = StartAt::Beginning;
            options.request_deadline = REQUEST;
            options.window = WINDOW;
            let connected = Client::connect(options).await;
            connected.with_context(|| format!("{} cannot connect from {}", device.user, device.name))
        });
        let connected = futures::future::try_join_all(connecting).await?;
        let ledger = Arc::new(Ledger::new(transcript.devices.len()));
        let (background, rate) = watch::channel(0);
        let mut cast =
            Self { ledger, clients: Vec::new(), orders: Vec::new(), background, tasks: JoinSet::new() };
        for (at, (client, events)) in connected.into_iter().enumerate() {
            let user = &transcript.devices[at].user;
            let (orders, receiver) = mpsc::channel(ORDERS);
            let speaker = Speaker {
                device: at,
                share: transcript.devices.len(),
                haunts: haunts(transcript, user),
                client: client.clone(),
                ledger: cast.ledger.clone(),
            };
            cast.tasks.spawn(speaker.run(receiver, rate.clone()));
            cast.tasks.spawn(listen(at, events, cast.ledger.clone()));
            cast.clients.push(client);
            cast.orders.push(orders);
        }
        cast.make_groups(transcript).await?;
        Ok(cast)
    }

    async fn make_groups(&self, transcript: &Transcript) -> Result<()> {
        for (group, members) in &transcript.groups {
            let first = members.first().context("a group without members")?;
            let device = transcript.devices.iter().position(|device| device.user == *first);
            let client = device.and_then(|at| self.clients.get(at)).context("a member without a device")?;
            let others: Vec<UserId> = members.iter().filter(|user| *user != first).cloned().collect();
            let made = client.create_group(group.clone(), &others).await;
            made.with_context(|| format!("{first} cannot create the group {group}"))?;
        }
        Ok(())
    }

    /// Lets a device say something; the receiver tells whether it was acknowledged.
    pub(super) async fn say(
        &self,
        device: usize,
        session: &SessionId,
        text: &str,
    ) -> oneshot::Receiver<bool> {
        let (done, answer) = oneshot::channel();
        let order = Order { session: session.clone(), text: text.to_owned(), done };
        if self.orders[device].send(order).await.is_err() {
            self.ledger.trouble(format!("device {device} has ended before the conversation did"));
        }
        answer
    }

    /// So many messages a second from all devices together, beside what they are told to say.
    pub(super) fn background(&self, rate: u32) {
        self.background.send_replace(rate);
    }

    /// Closes every connection.
    pub(super) async fn leave(mut self) {
        self.orders.clear();
        let closing = self.clients.drain(..).map(Client::close);
        futures::future::join_all(closing).await;
        self.tasks.shutdown().await;
    }
}

/// The sessions of a user.
fn haunts(transcript: &Transcript, user: &UserId) -> Vec<SessionId> {
    transcript.sessions().into_iter().filter(|session| transcript.is_member(user, session)).collect()
}

struct Speaker {
    device: usize,
    /// Devices there are: each does its share of the background.
    share: usize,
    haunts: Vec<SessionId>,
    client: Client,
    ledger: Arc<Ledger>,
}

impl Speaker {
    async fn run(self, mut orders: mpsc::Receiver<Order>, mut rate: watch::Receiver<u32>) {
        let mut flying: FuturesUnordered<BoxFuture<'static, Landed>> = FuturesUnordered::new();
        let mut next = tokio::time::Instant::now();
        let mut told = true;
        loop {
            let per_second = *rate.borrow_and_update();
            let chatty = per_second > 0 && flying.len() < CHATTY_BELOW && !self.haunts.is_empty();
            let (session, text, done) = tokio::select! {
                biased;
                order = orders.recv(), if told => match order {
                    Some(order) => (order.session, order.text, Some(order.done)),
                    None => { told = false; continue }
                },
                Some((at, done, answer)) = flying.next() => {
                    let acked = self.ledger.ended(self.device, at, answer);
                    // Whoever wanted to know may have stopped waiting.
                    let _ = done.map(|done| done.send(acked));
                    continue;
                }
                () = tokio::time::sleep_until(next), if chatty => {
                    next = tokio::time::Instant::now() + self.pause(per_second);
                    let (session, text) = self.small_talk();
                    (session, text, None)
                }
                changed = rate.changed() => match changed {
                    Ok(()) => { next = tokio::time::Instant::now() + self.pause((*rate.borrow()).max(1)); continue }
                    Err(_) => return,
                },
            };
            let at = self.ledger.began(self.device, &session, &text);
            match self.client.send_pipelined(&session, Outgoing::text(&text)).await {
                Ok(pending) => flying.push(Box::pin(async move { (at, done, pending.await) })),
                Err(fault) => {
                    let acked = self.ledger.ended(self.device, at, Err(fault));
                    let _ = done.map(|done| done.send(acked));
                }
            }
        }
    }

    /// Around the even share, so that devices do not speak in step.
    fn pause(&self, per_second: u32) -> Duration {
        let even = self.share as f64 / f64::from(per_second);
        Duration::from_secs_f64(even * rand::random_range(0.5..1.5))
    }

    fn small_talk(&self) -> (SessionId, String) {
        let mut dice = rand::rng();
        let session = self.haunts.choose(&mut dice).cloned();
        let text = SMALL_TALK.choose(&mut dice).copied().unwrap_or("Aye.");
        // `haunts` is not empty here: `run` has looked.
        (session.unwrap_or_else(|| self.haunts[0].clone()), text.to_owned())
    }
}

async fn listen(device: usize, mut events: Events, ledger: Arc<Ledger>) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Message { session, record } => {
                ledger.given.fetch_add(1, Ordering::Relaxed);
                ledger.streams[device].lock().push((session, record.seq, record.message_id));
            }
            Event::Skipped { session, from, to } => {
                ledger.trouble(format!(
                    "device {device} was told that {session} no longer keeps {from} to {to}"
                ));
            }
            _ => {}
        }
    }
}

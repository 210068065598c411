//! The same closed loop as `rookery bench`, against another system: S senders × W in flight, one acknowledgement per message,
//! latencies in a histogram, one line of JSON at the end.
//!
//! Each system is used as its own documentation says for durable messages, and asked afterwards how many it holds: a run in
//! which an acknowledged one is missing fails. What the servers are told is in scripts/peers-lib.sh. Every wait has a bound:
//! for a server that does not serve ([`READY`]), and for answers that do not come ([`OVERDUE`]).

#[path = "../../../src/bench/content.rs"]
mod content;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hdrhistogram::Histogram;

use content::Contents;

/// How long a cluster that was just started may take until it does what is asked of it.
const READY: Duration = Duration::from_secs(30);
/// How long after the measured span its last answers may come. What is slower has failed.
const OVERDUE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum System {
    /// JetStream, streams with three replicas.
    #[cfg(feature = "nats")]
    Nats,
    /// A key for each message.
    #[cfg(feature = "etcd")]
    Etcd,
    /// Quorum queues.
    #[cfg(feature = "rabbitmq")]
    Rabbitmq,
}

#[derive(Parser, Clone)]
struct Args {
    /// Which one.
    #[arg(long, value_enum)]
    system: System,
    /// Addresses of the servers; senders take turns among them.
    #[arg(long, value_delimiter = ',', required = true)]
    servers: Vec<String>,
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    senders: u32,
    /// Messages that a sender has in flight.
    #[arg(long, default_value_t = 256)]
    window: usize,
    /// Streams, prefixes or queues; senders take turns among them.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    sessions: u32,
    #[arg(long, default_value_t = 256)]
    size: usize,
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// Seed of what messages say; printed with the figures.
    #[arg(long)]
    seed: Option<u64>,
}

impl Args {
    fn server(&self, at: u32) -> &str {
        &self.servers[at as usize % self.servers.len()]
    }
}

/// A message on its way: done when the system has acknowledged it.
type Sending = BoxFuture<'static, anyhow::Result<()>>;

/// One connection that sends.
trait Sender: Send {
    /// Hands a message over; what it returns is the acknowledgement.
    fn send(&mut self, number: u64, content: Bytes) -> BoxFuture<'_, anyhow::Result<Sending>>;
}

/// A system that is ready for a run.
trait Peer: Send {
    /// The connection of a sender.
    fn sender(&mut self, at: u32) -> BoxFuture<'_, anyhow::Result<Box<dyn Sender>>>;
    /// How many messages it holds now. At least `acked` are awaited where a count may come late.
    fn count(&mut self, acked: u64) -> BoxFuture<'_, anyhow::Result<u64>>;
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(drawn);
    let mut peer = prepared(&args).await?;
    let mut senders = Vec::new();
    for at in 0..args.senders {
        senders.push(peer.sender(at).await?);
    }
    let from = Instant::now() + Duration::from_secs_f64(args.warmup);
    let to = from + Duration::from_secs_f64(args.seconds);
    let running: Vec<_> = senders
        .into_iter()
        .enumerate()
        .map(|(at, sender)| {
            let contents = Contents::new(seed, at as u64, args.size);
            let sending = send(sender, args.window, contents, from, to);
            tokio::spawn(tokio::time::timeout_at((to + OVERDUE).into(), sending))
        })
        .collect();
    let mut latency: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let mut acked_in_all = 0;
    for sender in running {
        let (acked, measured) = sender
            .await?
            .with_context(|| format!("messages are not answered {OVERDUE:?} after the last was sent"))??;
        acked_in_all += acked;
        latency.add(&measured)?;
    }
    let stored = peer.count(acked_in_all).await.context("counting what is stored")?;
    if stored < acked_in_all {
        bail!("{acked_in_all} messages were acknowledged, {stored} are there");
    }
    let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
    let report = serde_json::json!({
        "senders": args.senders, "window": args.window, "sessions": args.sessions, "size": args.size,
        "seconds": args.seconds, "acked": latency.len(), "acked_per_second": latency.len() as f64 / args.seconds,
        "p50_ms": ms(0.5), "p99_ms": ms(0.99), "p999_ms": ms(0.999), "max_ms": latency.max() as f64 / 1000.0,
        "acked_in_all": acked_in_all, "read_back": stored, "seed": seed,
    });
    println!("{report}");
    Ok(())
}

async fn prepared(args: &Args) -> anyhow::Result<Box<dyn Peer>> {
    Ok(match args.system {
        #[cfg(feature = "nats")]
        System::Nats => Box::new(nats::Nats::prepare(args).await?),
        #[cfg(feature = "etcd")]
        System::Etcd => Box::new(etcd::Etcd::prepare(args).await?),
        #[cfg(feature = "rabbitmq")]
        System::Rabbitmq => Box::new(rabbitmq::RabbitMq::prepare(args).await?),
    })
}

/// Serving is not yet being a cluster: asks again until it does what is asked, or [`READY`] is over.
async fn eventually<T, F>(what: &str, mut asked: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let until = tokio::time::Instant::now() + READY;
    let mut last = anyhow::anyhow!("no answer");
    loop {
        match tokio::time::timeout_at(until, asked()).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(fault)) => last = fault,
            Err(_) => return Err(last).with_context(|| format!("{what}: not within {READY:?}")),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A seed without a crate for it: the standard library keys its hashers from the system's randomness.
fn drawn() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

async fn send(
    mut sender: Box<dyn Sender>,
    window: usize,
    contents: Contents,
    from: Instant,
    to: Instant,
) -> anyhow::Result<(u64, Histogram<u64>)> {
    let mut latency = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let (mut acked, mut next, mut flights) = (0, 1, FuturesUnordered::new());
    loop {
        let over = Instant::now() >= to;
        while !over && flights.len() < window {
            let began = Instant::now();
            let sending = sender.send(next, contents.message(next)).await?;
            next += 1;
            flights.push(async move { (began, sending.await) });
        }
        let Some((began, ack)) = flights.next().await else { break };
        ack.context("a message was not acknowledged")?;
        acked += 1;
        let now = Instant::now();
        if now >= from && now < to {
            latency.saturating_record(now.duration_since(began).as_micros() as u64);
        }
    }
    Ok((acked, latency))
}

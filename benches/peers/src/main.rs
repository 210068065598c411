//! The same closed loop as `rookery bench`, against another system: S senders × W in flight, one acknowledgement per message,
//! latencies in a histogram, one line of JSON at the end.
//!
//! Each system is used as its own documentation says for durable messages, and asked afterwards how many it holds: a run in
//! which an acknowledged one is missing fails. What the systems are told is in scripts/bench-peers.sh.

#[path = "../../../src/bench/content.rs"]
mod content;
mod etcd;
mod nats;
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum System {
    /// JetStream, streams with three replicas.
    Nats,
    /// A key for each message.
    Etcd,
    /// Quorum queues.
    Rabbitmq,
}

#[derive(Parser, Clone)]
struct Args {
    /// Which one.
    #[arg(long, value_enum, default_value_t = System::Nats)]
    system: System,
    /// Addresses of the servers.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:4222")]
    servers: Vec<String>,
    #[arg(long, default_value_t = 8)]
    senders: u32,
    #[arg(long, default_value_t = 256)]
    window: usize,
    #[arg(long, default_value_t = 8)]
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
    fn server(&self, at: usize) -> &str {
        &self.servers[at % self.servers.len()]
    }
}

/// A message on its way: done when it is durable on a majority.
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
    /// Messages that are there after the run; it takes them away.
    fn count(&mut self) -> BoxFuture<'_, anyhow::Result<u64>>;
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(drawn);
    let mut peer: Box<dyn Peer> = match args.system {
        System::Nats => Box::new(nats::Nats::prepare(&args).await?),
        System::Etcd => Box::new(etcd::Etcd::prepare(&args).await?),
        System::Rabbitmq => Box::new(rabbitmq::RabbitMq::prepare(&args).await?),
    };
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
            tokio::spawn(send(sender, args.window, contents, from, to))
        })
        .collect();
    let mut latency: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let mut acked_in_all = 0;
    for sender in running {
        let (acked, measured) = sender.await??;
        acked_in_all += acked;
        latency.add(&measured)?;
    }
    let stored = peer.count().await?;
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

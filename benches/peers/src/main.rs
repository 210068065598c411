//! The same closed loop as `rookery bench`, against NATS JetStream: S senders × W in flight over N streams with three
//! replicas each, one acknowledgement per message, latencies in a histogram, one line of JSON at the end.
//!
//! It reads back how many messages each stream holds and fails when an acknowledged one is missing.

#[path = "../../../src/bench/content.rs"]
mod content;

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use async_nats::jetstream::{self, stream};
use clap::Parser;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hdrhistogram::Histogram;

use content::Contents;

#[derive(Parser, Clone)]
struct Args {
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

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(drawn);
    let tag = format!("B{}", std::process::id());
    let first = connect(&args, 0).await?;
    let context = jetstream::new(first);
    for at in 0..args.sessions {
        let config = stream::Config {
            name: format!("{tag}x{at}"),
            subjects: vec![format!("{tag}.{at}")],
            num_replicas: 3,
            storage: stream::StorageType::File,
            ..stream::Config::default()
        };
        create(&context, config).await?;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut senders = Vec::new();
    for at in 0..args.senders {
        senders.push(jetstream::new(connect(&args, at as usize).await?));
    }
    let from = Instant::now() + Duration::from_secs_f64(args.warmup);
    let to = from + Duration::from_secs_f64(args.seconds);
    let running: Vec<_> = senders
        .into_iter()
        .enumerate()
        .map(|(at, sender)| {
            let subject = format!("{tag}.{}", at as u32 % args.sessions);
            let contents = Contents::new(seed, at as u64, args.size);
            tokio::spawn(send(sender, subject, args.window, contents, from, to))
        })
        .collect();
    let mut latency: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let mut acked_in_all = 0;
    for sender in running {
        let (acked, measured) = sender.await??;
        acked_in_all += acked;
        latency.add(&measured)?;
    }
    let mut stored = 0;
    for at in 0..args.sessions {
        let name = format!("{tag}x{at}");
        stored += context.get_stream(&name).await?.info().await?.state.messages;
        context.delete_stream(&name).await?;
    }
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

async fn connect(args: &Args, at: usize) -> anyhow::Result<async_nats::Client> {
    let server = &args.servers[at % args.servers.len()];
    async_nats::ConnectOptions::new()
        .client_capacity(8192)
        .connect(server)
        .await
        .with_context(|| format!("connecting to {server}"))
}

/// Streams can be made only once the servers have found each other.
async fn create(context: &jetstream::Context, config: stream::Config) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match context.create_stream(config.clone()).await {
            Ok(_) => return Ok(()),
            Err(fault) if Instant::now() > until => return Err(fault).context(format!("creating {}", config.name)),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn send(
    context: jetstream::Context,
    subject: String,
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
            let pending = context.publish(subject.clone(), contents.message(next)).await?;
            next += 1;
            flights.push(async move { (began, pending.await) });
        }
        let Some((began, ack)) = flights.next().await else { break };
        ack.context("a publish was not acknowledged")?;
        acked += 1;
        let now = Instant::now();
        if now >= from && now < to {
            latency.saturating_record(now.duration_since(began).as_micros() as u64);
        }
    }
    Ok((acked, latency))
}

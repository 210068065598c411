//! Figures in words and as JSON; the names are those of `rookery bench --json`.

use std::io::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{DurableArgs, FanoutArgs};

/// A report that has a line in words.
pub(crate) trait Line: Serialize {
    fn line(&self) -> String;
}

#[derive(Serialize)]
pub(crate) struct DurableReport {
    senders: u32,
    window: u32,
    size: u32,
    seconds: f64,
    acked: u64,
    acked_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
    acked_in_all: u64,
    /// Messages in each of three equal logs.
    read_back: u64,
    seed: u64,
}

impl DurableReport {
    pub(crate) fn of(args: &DurableArgs, latency: &Histogram<u64>, acked_in_all: u64, seed: u64) -> Self {
        let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            senders: args.senders,
            window: args.window,
            size: args.size,
            seconds: args.seconds,
            acked: latency.len(),
            acked_per_second: latency.len() as f64 / args.seconds,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            max_ms: latency.max() as f64 / 1000.0,
            acked_in_all,
            read_back: acked_in_all,
            seed,
        }
    }
}

impl Line for DurableReport {
    fn line(&self) -> String {
        format!(
            "limit durable: {} x {} in flight, {} B, synced by two of three: {:.0} acked/s  p50 {:.2} ms  p99 {:.2} ms  \
             p99.9 {:.2} ms  max {:.1} ms  {} acked in all, three logs equal  seed {}",
            self.senders,
            self.window,
            self.size,
            self.acked_per_second,
            self.p50_ms,
            self.p99_ms,
            self.p999_ms,
            self.max_ms,
            self.acked_in_all,
            self.seed,
        )
    }
}

#[derive(Serialize)]
pub(crate) struct FanoutReport {
    sockets: u32,
    size: u32,
    batch: u32,
    seconds: f64,
    deliveries: u64,
    deliveries_per_second: f64,
}

impl FanoutReport {
    pub(crate) fn of(args: &FanoutArgs, deliveries: u64, seconds: f64) -> Self {
        let deliveries_per_second = deliveries as f64 / seconds;
        let FanoutArgs { sockets, size, batch, .. } = *args;
        Self { sockets, size, batch, seconds, deliveries, deliveries_per_second }
    }
}

impl Line for FanoutReport {
    fn line(&self) -> String {
        format!(
            "limit fanout: {} sockets, {} B, {} with one call: {:.0} deliveries/s, all read",
            self.sockets, self.size, self.batch, self.deliveries_per_second
        )
    }
}

/// Prints a report.
pub(crate) fn print(json: bool, report: &impl Line) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, report)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", report.line())?;
    }
    Ok(())
}

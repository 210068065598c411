//! Figures of a spread in words, as JSON, as a table; and what makes a run none.

use anyhow::ensure;
use hdrhistogram::Histogram;
use serde::Serialize;

/// Median, 99 of 100, 999 of 1,000 and the slowest, milliseconds.
#[derive(Serialize)]
pub(super) struct Times {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    pub(super) max_ms: f64,
}

/// CPU seconds within the span.
#[derive(Serialize)]
pub(super) struct Cpu {
    pub(super) nodes: f64,
    pub(super) driver: f64,
    /// Of the nodes for each message pushed, microseconds.
    pub(super) nodes_us_per_delivery: f64,
}

/// What the devices were due, and had.
#[derive(Default, Serialize)]
pub(super) struct Received {
    /// Pushes due to all devices, warm-up included …
    pub(super) expected: u64,
    /// … and had.
    pub(super) received: u64,
    /// Not had by a device that was never told that it lags in that group.
    pub(super) missing: u64,
    /// Not had by one that was.
    pub(super) skipped: u64,
    /// Pairs of device and group that lagged.
    pub(super) lagged: u64,
    /// Pushes of a seq that was not above the one before.
    pub(super) doubled: u64,
    /// More than was acknowledged.
    pub(super) surplus: u64,
    /// Connections that ended, and why the first of them did.
    pub(super) ended: u64,
    pub(super) first_end: Option<String>,
}

#[derive(Serialize)]
pub(super) struct SpreadReport {
    pub(super) online: u32,
    pub(super) devices: u32,
    pub(super) connections: usize,
    pub(super) groups: u32,
    pub(super) members: u32,
    pub(super) senders: usize,
    pub(super) window: u32,
    pub(super) rate: Option<f64>,
    /// Whether that was acknowledged within the span, to a hundredth, and nothing due remained unsent.
    pub(super) kept_rate: Option<bool>,
    pub(super) unsent: u64,
    pub(super) size: u32,
    pub(super) warmup: f64,
    pub(super) seconds: f64,
    pub(super) acked: u64,
    pub(super) sends_per_second: f64,
    /// From the first byte out, or the time it was due, to the ACK.
    pub(super) send: Times,
    pub(super) delivered: u64,
    pub(super) deliveries_per_second: f64,
    /// From the same time until a device had it, of every device and every message of the span.
    pub(super) delivery: Times,
    /// From the last ACK until no device lacked anything, or nothing more came.
    pub(super) settled_ms: f64,
    #[serde(flatten)]
    pub(super) all: Received,
    pub(super) busy: u64,
    /// Acknowledged in all, warm-up included …
    pub(super) acked_in_all: u64,
    /// … and found when read back.
    pub(super) read_back: u64,
    /// Of a frame that is pushed, on average.
    pub(super) bytes_per_delivery: f64,
    /// Frames pushed by each write of a node to a connection within the span, answers' writes among them; null for a running
    /// cluster.
    pub(super) deliveries_per_write: Option<f64>,
    /// Null for a running cluster.
    pub(super) cpu_seconds: Option<Cpu>,
    pub(super) seed: u64,
}

pub(super) fn times(latency: &Histogram<u64>) -> Times {
    let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
    Times { p50_ms: ms(0.5), p99_ms: ms(0.99), p999_ms: ms(0.999), max_ms: latency.max() as f64 / 1000.0 }
}

impl SpreadReport {
    /// A run in which something was lost or came twice is none.
    pub(super) fn judge(&self) -> anyhow::Result<()> {
        let all = &self.all;
        ensure!(
            self.read_back == self.acked_in_all,
            "{} messages were acknowledged, {} are there",
            self.acked_in_all,
            self.read_back
        );
        ensure!(
            (all.missing, all.doubled, all.surplus, all.ended) == (0, 0, 0, 0),
            "of {} pushes due {} never came though nobody was told so, {} came twice, {} were of nothing acknowledged; \
             {} connections ended{}",
            all.expected,
            all.missing,
            all.doubled,
            all.surplus,
            all.ended,
            all.first_end.as_ref().map_or_else(String::new, |fault| format!(" (the first: {fault})")),
        );
        Ok(())
    }

    fn shape(&self) -> String {
        let rate = self.rate.map_or_else(String::new, |rate| format!(" at {rate:.0}/s"));
        format!(
            "{} groups of {}, {} users online with {} devices each, {} B, {} senders x {} in flight{rate}",
            self.groups, self.members, self.online, self.devices, self.size, self.senders, self.window
        )
    }

    fn cpu(&self) -> String {
        self.cpu_seconds.as_ref().map_or_else(
            || "not measured".to_owned(),
            |cpu| {
                format!(
                    "nodes {:.1} s, driver {:.1} s ({:.2} us of the nodes a delivery)",
                    cpu.nodes, cpu.driver, cpu.nodes_us_per_delivery
                )
            },
        )
    }

    fn writes(&self) -> String {
        let each = self.deliveries_per_write;
        let each = each.map_or_else(|| "not measured".to_owned(), |each| format!("{each:.1}"));
        format!("{each} with one write, {:.0} B each", self.bytes_per_delivery)
    }

    pub(super) fn line(&self) -> String {
        let all = &self.all;
        let mut line = format!(
            "bench spread: {}: {:.0} sends/s  p50 {:.2} ms  p99 {:.2} ms; {:.0} deliveries/s  p50 {:.2} ms  p99 {:.2} ms  \
             max {:.1} ms, {}; received {} of {} due, the last {:.0} ms after the last ACK; missing {}  doubled {}  lagged {} \
             (skipped {})  busy {}  read back {} of {} acked; CPU: {}  seed {}",
            self.shape(),
            self.sends_per_second,
            self.send.p50_ms,
            self.send.p99_ms,
            self.deliveries_per_second,
            self.delivery.p50_ms,
            self.delivery.p99_ms,
            self.delivery.max_ms,
            self.writes(),
            all.received,
            all.expected,
            self.settled_ms,
            all.missing,
            all.doubled,
            all.lagged,
            all.skipped,
            self.busy,
            self.read_back,
            self.acked_in_all,
            self.cpu(),
            self.seed,
        );
        if let (Some(rate), Some(false)) = (self.rate, self.kept_rate) {
            line += &format!(
                "\nbench spread: the rate of {rate:.0}/s was NOT kept: {:.0} acked/s, {} messages that were due were never sent",
                self.sends_per_second, self.unsent
            );
        }
        line
    }

    pub(super) fn table(&self) -> String {
        let all = &self.all;
        let kept = if self.kept_rate == Some(false) { ", not kept" } else { "" };
        format!(
            "| load | sends/s | p50 ms | p99 ms | deliveries/s | p50 ms | p99 ms | max ms | deliveries a write | received | missing | doubled | lagged | CPU |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n\
             | {}{kept} | {:.0} | {:.2} | {:.2} | {:.0} | {:.2} | {:.2} | {:.1} | {} | {} of {} | {} | {} | {} | {} |",
            self.shape(),
            self.sends_per_second,
            self.send.p50_ms,
            self.send.p99_ms,
            self.deliveries_per_second,
            self.delivery.p50_ms,
            self.delivery.p99_ms,
            self.delivery.max_ms,
            self.writes(),
            all.received,
            all.expected,
            all.missing,
            all.doubled,
            all.lagged,
            self.cpu(),
        )
    }
}

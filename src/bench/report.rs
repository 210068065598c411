//! Figures in words and as JSON.

use std::io::Write;

use serde::Serialize;

/// One run of the load.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LoadReport {
    /// Senders.
    pub senders: u32,
    /// In flight per sender.
    pub window: usize,
    /// Sessions.
    pub sessions: u32,
    /// Content, bytes.
    pub size: usize,
    /// Receivers per session.
    pub receivers: u32,
    /// Seconds measured.
    pub seconds: f64,
    /// Acknowledged in the time measured.
    pub acked: u64,
    /// The same per second.
    pub acked_per_second: f64,
    /// Latency percentiles, milliseconds.
    pub p50_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// 999 of 1,000.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// Pushes received per second by all receivers.
    pub pushed_per_second: f64,
    /// LAGGED frames receivers got.
    pub lagged: u64,
    /// Refusals that a retry mended.
    pub busy: u64,
    /// Acknowledged in all, warm-up included …
    pub acked_in_all: u64,
    /// … and found when read back.
    pub read_back: u64,
    /// Seed of what the messages said.
    pub seed: u64,
}

/// Prints a report.
pub(super) fn print(json: bool, report: &impl Serialize, text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, report)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{text}")?;
    }
    Ok(())
}

impl LoadReport {
    /// The run in one line.
    pub(super) fn line(&self) -> String {
        format!(
            "bench: {} x {} in flight, {} sessions, {} B, {} receivers each: {:.0} acked/s  p50 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms  max {:.1} ms  pushed {:.0}/s  lagged {}  busy {}  read back {} of {} acked  seed {}",
            self.senders,
            self.window,
            self.sessions,
            self.size,
            self.receivers,
            self.acked_per_second,
            self.p50_ms,
            self.p99_ms,
            self.p999_ms,
            self.max_ms,
            self.pushed_per_second,
            self.lagged,
            self.busy,
            self.read_back,
            self.acked_in_all,
            self.seed,
        )
    }
}

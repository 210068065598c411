//! Figures in words, as JSON, as a table.

use std::io::Write;

use serde::Serialize;

use super::slices::Slice;

/// One run of the load.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LoadReport {
    /// Senders.
    pub senders: u32,
    /// In flight per sender.
    pub window: usize,
    /// Groups.
    pub sessions: u32,
    /// Percent of the senders in direct sessions.
    pub direct: u32,
    /// Content, bytes.
    pub size: usize,
    /// Receivers per session.
    pub receivers: u32,
    /// Messages due per second, in an open loop.
    pub rate: Option<f64>,
    /// Whether that was acknowledged within the span, to a hundredth, and nothing due remained unsent.
    pub kept_rate: Option<bool>,
    /// How late 99 of 100 messages went out at most, milliseconds: a full window, or a busy machine.
    pub late_p99_ms: Option<f64>,
    /// Messages due before its end that were never sent. Latencies have what they had waited when they were given up.
    pub unsent: u64,
    /// Seconds before the measuring.
    pub warmup: f64,
    /// Seconds measured.
    pub seconds: f64,
    /// Acknowledged in the time measured.
    pub acked: u64,
    /// The same per second.
    pub acked_per_second: f64,
    /// Latency percentiles, milliseconds; in an open loop from the time at which a message was due.
    pub p50_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// 999 of 1,000.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// The same over time.
    pub over_time: Vec<Slice>,
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

/// Prints reports of loads as a table in Markdown.
pub(super) fn markdown(reports: &[LoadReport]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", table(reports))?;
    Ok(())
}

fn table(reports: &[LoadReport]) -> String {
    let mut table = "| load | rate | acked/s | p50 ms | p99 ms | p99.9 ms | max ms | pushed/s | lagged | busy | read back |\n\
                     |---|---|---|---|---|---|---|---|---|---|---|"
        .to_owned();
    for report in reports {
        let rate = match (report.rate, report.kept_rate) {
            (Some(rate), Some(true)) => format!("{rate:.0}"),
            (Some(rate), _) => format!("{rate:.0}, not kept"),
            (None, _) => "closed loop".to_owned(),
        };
        table += &format!(
            "\n| {} | {rate} | {:.0} | {:.2} | {:.2} | {:.2} | {:.1} | {:.0} | {} | {} | {} of {} |",
            report.shape(),
            report.acked_per_second,
            report.p50_ms,
            report.p99_ms,
            report.p999_ms,
            report.max_ms,
            report.pushed_per_second,
            report.lagged,
            report.busy,
            report.read_back,
            report.acked_in_all,
        );
    }
    table
}

impl LoadReport {
    /// The load in a few words.
    pub(super) fn shape(&self) -> String {
        let direct = if self.direct == 0 { String::new() } else { format!("{} % direct, ", self.direct) };
        format!(
            "{} x {}, {direct}{} groups, {} B, {} receivers each",
            self.senders, self.window, self.sessions, self.size, self.receivers
        )
    }

    /// The run in one line, and in another what must not be overlooked.
    pub(super) fn line(&self) -> String {
        let direct = if self.direct == 0 { String::new() } else { format!("{} % direct, ", self.direct) };
        let rate = self.rate.map_or_else(String::new, |rate| format!(" at {rate:.0}/s"));
        let mut line = format!(
            "bench: {} x {} in flight{rate}, {direct}{} sessions, {} B, {} receivers each: {:.0} acked/s  p50 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms  max {:.1} ms  pushed {:.0}/s  lagged {}  busy {}  read back {} of {} acked  seed {}",
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
        );
        if let (Some(rate), Some(late)) = (self.rate, self.late_p99_ms) {
            line += &format!("  sent at most {late:.2} ms late (p99)");
            if self.kept_rate == Some(false) {
                line += &format!(
                    "\nbench: the rate of {rate:.0}/s was NOT kept: {:.0} acked/s, {} messages that were due were never sent",
                    self.acked_per_second, self.unsent
                );
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rate: Option<f64>, kept_rate: Option<bool>) -> LoadReport {
        LoadReport {
            senders: 8,
            window: 256,
            sessions: 8,
            direct: 50,
            size: 256,
            receivers: 3,
            rate,
            kept_rate,
            late_p99_ms: rate.map(|_| 0.25),
            unsent: 11,
            warmup: 2.0,
            seconds: 10.0,
            acked: 900_000,
            acked_per_second: 90_000.0,
            p50_ms: 18.5,
            p99_ms: 48.0,
            p999_ms: 70.0,
            max_ms: 91.0,
            over_time: Vec::new(),
            pushed_per_second: 270_000.0,
            lagged: 0,
            busy: 0,
            acked_in_all: 1_080_000,
            read_back: 1_080_000,
            seed: 7,
        }
    }

    #[test]
    fn a_rate_that_was_not_kept_is_said_wherever_the_figures_are() {
        let kept = report(Some(90_000.0), Some(true));
        assert!(!kept.line().contains("NOT") && kept.line().contains("0.25 ms late"));
        let lost = report(Some(120_000.0), Some(false));
        assert!(lost.line().contains("120000/s was NOT kept: 90000 acked/s, 11 messages"), "{}", lost.line());
        let table = table(&[kept, lost, report(None, None)]);
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(rows.len(), 5);
        assert!(rows.iter().all(|row| row.matches('|').count() == rows[0].matches('|').count()), "{table}");
        assert!(
            !rows[2].contains("not kept")
                && rows[3].contains("120000, not kept")
                && rows[4].contains("closed loop")
        );
        assert!(!report(None, None).line().contains("late"));
    }
}

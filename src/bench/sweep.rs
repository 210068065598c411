//! Latency against throughput: the same load in an open loop, at one rate after another, each with sessions of its own.

use std::process::ExitCode;

use anyhow::ensure;

use super::Ground;
use super::args::{BenchArgs, LoadArgs, SweepArgs};
use super::load::once;
use super::plot;
use super::report::{LoadReport, markdown, print};

/// Parts of what a closed loop reaches, where no rates are named.
const PARTS: [f64; 8] = [0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0];

/// Runs `rookery bench sweep`.
pub(super) async fn run(args: &BenchArgs, swept: &SweepArgs) -> anyhow::Result<ExitCode> {
    ensure!(!swept.load.library, "the client library sends in a closed loop only; leave --library out");
    let mut ground = Ground::prepare(args).await?;
    let progress = ground.progress.clone();
    let mut closed = None;
    let mut rates = swept.rates.clone();
    if rates.is_empty() {
        ground.progress = progress.of("closed loop");
        let report = once(&ground, &LoadArgs { rate: None, ..swept.load.clone() }).await?;
        rates = PARTS.iter().map(|part| (part * report.acked_per_second).max(1.0)).collect();
        closed = Some(report);
    }
    let mut reports: Vec<LoadReport> = Vec::new();
    let all = rates.len();
    for (at, rate) in rates.into_iter().enumerate() {
        ground.progress = progress.of(format!("rate {} of {all}, {rate:.0}/s", at + 1));
        reports.push(once(&ground, &LoadArgs { rate: Some(rate), ..swept.load.clone() }).await?);
    }
    if let Some(path) = &swept.load.plot {
        plot::sweep(path, &reports)?;
    }
    // The closed loop's latencies are of another kind: it stands before the table and not in the picture.
    reports.splice(0..0, closed);
    if swept.load.markdown {
        markdown(&reports)?;
    } else {
        let lines: Vec<String> = reports.iter().map(LoadReport::line).collect();
        print(args.json, &reports, &lines.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

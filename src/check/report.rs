//! The verdict in words: violations, bounds that were not kept and rounds for people on stderr, one last line for people and scripts.

use std::fmt::Write as _;

use super::judge::{RoundReport, Standing, Verdict};

/// Everything before the last line: what is wrong, what is slow, what is weak, how long clients waited.
pub(super) fn details(verdict: &Verdict) -> String {
    let mut text = String::new();
    for violation in &verdict.violations {
        let _ = writeln!(text, "violation: {violation}");
    }
    let untold = verdict.broken().saturating_sub(verdict.violations.len() as u64);
    if untold > 0 {
        let _ = writeln!(text, "violations: {untold} more of the same kinds");
    }
    for why in &verdict.too_slow {
        let _ = writeln!(text, "too slow: {why}");
    }
    for why in &verdict.inconclusive {
        let _ = writeln!(text, "inconclusive: {why}");
    }
    text
}

/// One round in a line.
pub(super) fn round(round: &RoundReport) -> String {
    let nodes = round.nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join("+");
    let who = round.waited.as_deref().unwrap_or("nobody");
    format!(
        "round {:>3}  node {nodes:<5}  acked {:>6}  in flight {:>4}  retried {:>5}  ack gap {:>6.0} ms ({who})  snapshots {:>2}  whole after {:>5.0} ms",
        round.number,
        round.acked,
        round.in_flight,
        round.retried,
        round.ack_gap as f64 / 1000.0,
        round.snapshots,
        round.healed as f64 / 1000.0,
    )
}

/// The last line: verdict first, then figures by name.
pub(super) fn line(what: &str, seed: u64, verdict: &Verdict) -> String {
    let word = match verdict.standing() {
        Standing::Good => "GOOD",
        Standing::Bad => "BAD",
        Standing::Inconclusive => "INCONCLUSIVE",
    };
    let totals = &verdict.totals;
    let gap = |percentile| verdict.gap_ms(percentile).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}"));
    format!(
        "{what}: {word}  rounds {}  sent {}  acked {}  refused {}  unknown {}  retried {}  delivered {}  snapshots {}  lost {}  doubled {}  reordered {}  wrong {}  ack gap ms p50 {} p90 {} p95 {} max {}  seed {seed}",
        verdict.rounds.len(),
        totals.sent,
        totals.acked,
        totals.refused,
        totals.unknown,
        totals.retried,
        totals.delivered,
        totals.snapshots,
        verdict.lost,
        verdict.doubled,
        verdict.reordered,
        verdict.wrong,
        gap(50.0),
        gap(90.0),
        gap(95.0),
        gap(100.0),
    )
}

/// 0 good, 1 bad, 2 inconclusive.
pub(super) fn exit_code(verdict: &Verdict) -> u8 {
    match verdict.standing() {
        Standing::Good => 0,
        Standing::Bad => 1,
        Standing::Inconclusive => 2,
    }
}
